"""Imports point one way, and what is heavy is imported only where it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "mmmrs_demo"

FLOORS = (
    {"errors"},
    {"settings", "modality", "tiff", "metrics", "together"},
    {"prompt", "files"},
    {"request", "bands", "worldfile", "archive"},
    {"catalog", "provenance", "radiometry"},
    {"loaded", "precision", "shortcuts", "georaster"},
    {"raster", "geotiff", "window_model"},
    {"scene", "outputs", "engine"},
    {"maker", "inputs"},
    {"scene_file"},
    {"make"},
    {"batch", "compare", "grid", "ndvi"},
    {"cluster"},
    {"ui", "dataset", "training", "evaluation"},
    {"cli"},
    {"__main__"},
)
"""Rooms, lowest first: each may use the floors below its own, and nothing else of the package but its version."""

ALONE = {
    "training": {"cli", "evaluation"},
    "evaluation": {"cli"},
    "dataset": {"cli", "training", "evaluation"},
    "ui": {"cli"},
}
"""Who may use these rooms."""

MODELS = {"torch", "torchvision", "diffusers", "transformers", "peft", "accelerate", "safetensors", "controlnet_aux"}
PAGES = {"gradio", "gradio_client"}
MODEL_ROOMS = {"loaded", "precision", "shortcuts", "window_model", "engine", "dataset", "training", "evaluation"}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor_of(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def imported(file: Path) -> Iterator[tuple[str, ...]]:
    """Every module that a file imports anywhere in it, as its dotted parts."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            module = tuple((node.module or "").split("."))
            yield from ((*module, alias.name) for alias in node.names)


FILES = sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_downwards(file: Path) -> None:
    room = room_of(file)
    for module in imported(file):
        if module[0] == "mmmrs_demo" and module[1] not in ("__version__", room):
            used = module[1]
            assert room in ALONE.get(used, {room}), f"{room} imports {used}"
            same_floor_guest = used in ALONE and room in ALONE[used]
            assert floor_of(used) < floor_of(room) or same_floor_guest, f"{room} imports {used}"
        if room not in MODEL_ROOMS:
            assert module[0] not in MODELS, f"{room} imports {module[0]}"
        if room != "cluster":
            assert module[0] != "ray", f"{room} imports ray"
        if room != "ui":
            assert module[0] not in PAGES, f"{room} imports {module[0]}"


def test_the_package_itself_imports_nothing() -> None:
    assert not list(imported(PACKAGE / "__init__.py"))


def test_every_room_has_its_floor() -> None:
    assert {room_of(file) for file in FILES} <= set().union(*FLOORS)


@pytest.mark.parametrize(
    ("rooms", "forbidden"),
    [
        (("prompt", "modality", "request", "catalog", "raster", "provenance", "cli", "engine"), MODELS | PAGES),
        (("ui",), MODELS - {"safetensors"}),
    ],
)
def test_importing_loads_nothing_heavy(rooms: tuple[str, ...], forbidden: set[str]) -> None:
    script = f"""
import sys
for room in {rooms}:
    __import__(f"mmmrs_demo.{{room}}")
    loaded = {forbidden} & set(sys.modules)
    assert not loaded, f"importing {{room}} loads {{loaded}}"
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
