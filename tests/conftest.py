"""What several kinds of tests share: small bundles of random weights, and an engine that runs them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from mmmrs_demo.catalog import Catalog
from mmmrs_demo.settings import Settings

if TYPE_CHECKING:
    from mmmrs_demo.engine import Engine

# A busy machine is no fault of what is tested, and every run should try the same examples.
hypothesis_settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("steady")


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of weights with the bundles of `tests.tiny`; copy it before changing it."""
    from tests.tiny import write_bundles

    return write_bundles(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def tiny_engine(tiny_weights: Path) -> Engine:
    """Return an engine on these bundles, with ``tiny`` in use."""
    from mmmrs_demo.engine import Engine

    return Engine(Catalog.load(tiny_weights), Settings(weights=tiny_weights, bundle="tiny"))
