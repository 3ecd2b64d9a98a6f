"""One scene in all modalities: from words, from a picture and from a raster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from mmmrs_demo import provenance
from mmmrs_demo.request import TranslationRequest
from tests.rasters import UTM
from tests.ui.fake import FREE
from tests.ui.test_history import history, pick
from tests.ui.test_page import download, generate, press, refused, tab, tile, unfold, upload
from tests.ui.test_rasters import drop, optical

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ui.conftest import Server

pytestmark = pytest.mark.ui

ALL = "Make SAR, NIR and NDVI"
LABELS = ("SAR", "NIR", "NDVI")


def fold(panel: Locator) -> None:
    panel.get_by_role("button", name="All modalities").click()
    expect(panel.get_by_role("button", name=ALL)).to_be_visible()


def shown(panel: Locator) -> None:
    for label in LABELS:
        expect(panel.get_by_alt_text(f"{label} of the scene (synthetic)")).to_be_visible()
    expect(panel.get_by_role("button", name=ALL)).to_be_visible()


def asked(server: Server) -> list[tuple[str, int | None]]:
    requests = [request for request in server.engine.requests if isinstance(request, TranslationRequest)]
    return [(request.translation, request.seed) for request in requests]


def test_a_picture_from_words_in_all_modalities(returning: Page, server: Server, tmp_path: Path) -> None:
    panel = tab(returning, "Generate")
    expect(panel.get_by_role("button", name="All modalities")).to_be_hidden()
    generate(panel, server)
    seed = server.engine.requests[0].seed
    fold(panel)
    server.engine.hold_after = 3
    press(panel, ALL)
    expect(panel.get_by_text("Picture 1 of 2: SAR, step 3 of 8")).to_be_visible()
    server.engine.hold_after = FREE
    shown(panel)
    assert asked(server) == [("rgb2sar", seed), ("rgb2nir", seed)]
    files = {label: download(returning, panel, tmp_path, label) for label in LABELS}
    for label, key in (("SAR", "rgb2sar"), ("NIR", "rgb2nir")):
        request = provenance.read(files[label]).request
        assert isinstance(request, TranslationRequest)
        assert request.translation == key
        with Image.open(files[label]) as picture:
            assert (picture.size, picture.mode) == ((64, 64), "L")
    truth = provenance.read(files["NDVI"])
    assert truth.synthetic
    assert "synthetic near infrared" in truth.details["ndvi"]
    with Image.open(files["NDVI"]) as picture:
        assert (picture.width, picture.mode) == (64, "RGB")

    returning.reload()
    earlier = history(returning, 2)
    pick(earlier, 1)
    press(earlier, "Open")
    shown(panel)
    expect(panel.get_by_role("button", name="Send to RGB → SAR")).to_be_hidden()


def test_a_tile_in_all_modalities_goes_on_after_stop(page: Page, server: Server, tmp_path: Path) -> None:
    panel = tab(page, "RGB → SAR")
    fold(panel)
    press(panel, ALL)
    refused(page, "Choose the RGB tile first")
    upload(panel, tile())
    unfold(panel)
    panel.get_by_label("Seed", exact=True).fill("5")
    server.engine.hold_after = 3
    press(panel, ALL)
    expect(panel.get_by_text("Picture 1 of 2: SAR, step 3 of 8")).to_be_visible()
    press(panel, "Stop")
    expect(panel.get_by_text("Stopped.")).to_be_visible()
    server.engine.hold_after = FREE
    press(panel, ALL)
    shown(panel)
    assert asked(server) == [("rgb2sar", 5), ("rgb2sar", 5), ("rgb2nir", 5)]
    with Image.open(download(page, panel, tmp_path, "NDVI")) as picture:
        assert picture.width == 96
    history(page, 1)


def test_a_raster_has_its_index_on_its_grid(page: Page, server: Server, tmp_path: Path) -> None:
    file = optical(tmp_path)
    panel = tab(page, "RGB → NIR")
    drop(panel, file)
    fold(panel)
    press(panel, ALL)
    shown(panel)
    made = {label: download(page, panel, tmp_path / "down", label) for label in LABELS}
    with rasterio.open(made["NDVI"]) as index, rasterio.open(made["NIR"]) as nir:
        assert (index.crs, index.transform, index.shape, index.dtypes) == (nir.crs, UTM, (64, 96), ("float32",))
        values = index.read(1)
    assert np.isnan(values[:8, :8]).all()
    assert np.abs(values[20:, 20:]).max() <= 1
    assert provenance.read(made["NDVI"]).details["bands"] == [3, 2, 1]
    assert len(server.engine.requests) == 2
