"""``python -m mmmrs_demo`` is the command ``mmmrs-demo``."""

import sys

from mmmrs_demo.cli import main

if __name__ == "__main__":
    sys.exit(main())
