"""World files are found by every usual name, say where the first pixel's centre lies, and are written the same way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmmrs_demo import worldfile
from mmmrs_demo.errors import UserError
from tests.rasters import UTM


@pytest.mark.parametrize(
    ("picture", "name"),
    [
        ("a.png", "a.pgw"),
        ("a.PNG", "a.pgw"),
        ("a.jpg", "a.jgw"),
        ("a.jpeg", "a.jgw"),
        ("a.tif", "a.tfw"),
        ("b.c.png", "b.c.pgw"),
        ("a", "a.wld"),
    ],
)
def test_names(picture: str, name: str, tmp_path: Path) -> None:
    assert worldfile.write(tmp_path / picture, UTM) == tmp_path / name
    assert worldfile.read(tmp_path / picture) == UTM


@pytest.mark.parametrize("name", ["a.pgw", "a.PGW", "a.pngw", "a.PNGW", "a.wld", "a.WLD"])
def test_every_usual_name_is_found(name: str, tmp_path: Path) -> None:
    assert worldfile.read(tmp_path / "a.png") is None
    (tmp_path / name).write_text("10.0\n0.0\n0.0\n-10.0\n500005.0\n3999995.0\n")
    assert worldfile.read(tmp_path / "a.png") == UTM


@pytest.mark.parametrize(
    "transform", [UTM, UTM @ Affine.rotation(30) @ Affine.shear(5, 20), Affine(1e-4, 0, 9, 0, -1e-4, 50)]
)
def test_gdal_reads_the_same(transform: Affine, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "a.png")
    worldfile.write(tmp_path / "a.png", transform)
    with rasterio.open(tmp_path / "a.png") as file:
        assert file.transform.almost_equals(transform, 1e-9)
    found = worldfile.read(tmp_path / "a.png")
    assert found is not None
    assert found.almost_equals(transform, 1e-9)


@given(size=st.floats(1e-6, 1e4), angle=st.floats(-80, 80), x=st.floats(-1e7, 1e7), y=st.floats(-1e7, 1e7))
def test_reading_gives_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, size: float, angle: float, x: float, y: float
) -> None:
    transform = Affine.translation(x, y) @ Affine.rotation(angle) @ Affine.scale(size, -2 * size)
    picture = tmp_path_factory.mktemp("world") / "a.png"
    worldfile.write(picture, transform)
    found = worldfile.read(picture)
    assert found is not None
    assert found.almost_equals(transform, 1e-6)


@pytest.mark.parametrize(
    "text", ["", "1\n2\n3", "1\n2\n3\n4\n5\nsix", "0\n0\n0\n0\n5\n6", "nan\n0\n0\n1\n5\n6", "1 " * 9000, "\xff\xfe"]
)
def test_broken_ones_are_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.pgw").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"“a.pgw” is no world file, which holds six numbers"):
        worldfile.read(tmp_path / "a.png")


def test_commas_of_other_countries(tmp_path: Path) -> None:
    (tmp_path / "a.pgw").write_text("0,5\r\n0\r\n0\r\n-0,5\r\n100,25\r\n199,75\r\n")
    assert worldfile.read(tmp_path / "a.png") == Affine(0.5, 0, 100, 0, -0.5, 200)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"“a.pgw” cannot be written"):
        worldfile.write(tmp_path / "missing" / "a.png", UTM)
