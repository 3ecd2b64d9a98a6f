"""What other backends would make of a step: ``python -m benchmarks.backends``; OpenVINO where it is installed.

Each looks with the bundle's UNet at the same two latents, as a step with guidance does. None but the first is built in:
a compiled network is one for a single strength of the LoRA, and has no blocks of which some steps could be spared.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.speed import machine, medians
from mmmrs_demo.catalog import BASE, Catalog
from mmmrs_demo.engine import load_base
from mmmrs_demo.precision import ready
from mmmrs_demo.settings import Settings

Look = Callable[..., torch.Tensor]


class Backend(NamedTuple):
    """A way to look.

    Attributes:
        name: What it is called.
        build: Returns a function of latents, noise level and words.
    """

    name: str
    build: Callable[[], Look]


@torch.inference_mode()
def main() -> None:
    """Measure, print a table, and write everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default=Settings().bundle)
    parser.add_argument("--repeats", type=int, default=5, help="looks of which the median is taken")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("backends.json"))
    arguments = parser.parse_args()
    settings = Settings(bundle=arguments.bundle)
    catalog = Catalog.load(settings.weights)
    location = catalog.locate(catalog.bundle(settings.bundle), BASE)

    half, full = (load_base(location, "cpu", half=half).unet for half in (True, False))
    torch.manual_seed(0)
    side, channels = full.config.sample_size, full.config.in_channels
    shown = (
        torch.randn(2, channels, side, side),
        torch.tensor(500.0),
        torch.randn(2, 77, full.config.cross_attention_dim),
    )
    backends = [
        Backend("this project", lambda: partial(_look, ready(half))),
        Backend("PyTorch in 32 bits", lambda: partial(_look, full)),
        Backend("torch.compile", lambda: torch.compile(partial(_look, half))),
    ]
    if importlib.util.find_spec("openvino"):
        backends += [Backend(f"OpenVINO, {kind}", partial(openvino, full, shown, kind)) for kind in ("bf16", "f32")]
    truth = _look(full, *shown)
    looks, rows = [], {}
    for backend in backends:
        began = time.perf_counter()
        look = backend.build()
        said = look(*shown)
        error = float((said - truth).square().mean().sqrt() / truth.std())
        rows[backend.name] = {"seconds until the first": time.perf_counter() - began, "error": error}
        looks.append(partial(look, *shown))
    for row, seconds in zip(rows.values(), medians(looks, arguments.repeats), strict=True):
        row["seconds"] = seconds

    print(f"A step with guidance of {arguments.bundle}; medians of {arguments.repeats}\n")
    print("| | seconds | until the first | error beside 32 bits |\n|---|---:|---:|---:|")
    for name, row in rows.items():
        print(f"| {name} | {row['seconds']:.4f} | {row['seconds until the first']:.1f} | {row['error']:.2%} |")
    report = {"bundle": arguments.bundle, "machine": machine(), "backends": rows}
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\nAll of it: {arguments.out}")


def _look(unet: Any, latents: torch.Tensor, level: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    said: torch.Tensor = unet(latents, level, words, return_dict=False)[0]
    return said


def openvino(unet: Any, shown: tuple[torch.Tensor, ...], kind: str) -> Look:
    """Return what OpenVINO makes of a UNet for inputs of these shapes, computing in a type of its own names."""
    import openvino as ov  # type: ignore[import-not-found,import-untyped,unused-ignore] # whoever wants it installs it

    class Looking(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unet = unet

        def forward(self, *said: torch.Tensor) -> torch.Tensor:
            return _look(self.unet, *said)

    options = {"INFERENCE_PRECISION_HINT": kind, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    asked = ov.compile_model(ov.convert_model(Looking(), example_input=shown), "CPU", options).create_infer_request()
    return lambda *said: torch.from_numpy(next(iter(asked.infer([part.numpy() for part in said]).values())).copy())


if __name__ == "__main__":
    main()
