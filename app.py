"""The app, put together and served: what `make run` starts, and a Space."""

import sys

from mmmrs_demo.catalog import Catalog
from mmmrs_demo.engine import Engine
from mmmrs_demo.errors import UserError
from mmmrs_demo.settings import Settings
from mmmrs_demo.ui import serve

if __name__ == "__main__":
    try:
        settings = Settings()
        catalog = Catalog.load(settings.weights)
        serve(Engine(catalog, settings), catalog, settings)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
