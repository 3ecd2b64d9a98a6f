"""How long things take, beside plain diffusers on the same weights in the same run: ``python -m benchmarks.speed``."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from PIL import Image

from mmmrs_demo.catalog import LORA, Bundle, Catalog
from mmmrs_demo.engine import Engine
from mmmrs_demo.modality import TRANSLATIONS, Modality, Translation
from mmmrs_demo.prompt import PAPER_PROMPTS, Prompt
from mmmrs_demo.request import Step, TextRequest, TranslationRequest
from mmmrs_demo.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
STEPS = 20
SEED = 7
PAGE_LIMIT = 120  # seconds
PARTS = {
    "CLIPTextModel": "text encoder",
    "UNet2DConditionModel": "UNet",
    "ControlNetModel": "ControlNet",
    "Encoder": "VAE",
    "Decoder": "VAE",
    "EncoderTiny": "VAE",
    "DecoderTiny": "VAE",
}
"""Part of the model by the class of its outermost module."""


def main() -> None:
    """Measure, print a table, and write everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default=Settings().bundle)
    parser.add_argument("--repeats", type=int, default=5, help="runs of which the median is taken")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("speed.json"))
    arguments = parser.parse_args()

    settings = Settings(bundle=arguments.bundle)
    catalog = Catalog.load(settings.weights)
    bundle = catalog.bundle(settings.bundle)

    rows: dict[str, tuple[float, float | None]] = {  # ours, plain diffusers'
        "import mmmrs_demo.ui": (import_seconds("mmmrs_demo.ui"), None),
        "python app.py to a page that answers": (page_seconds(), None),
        "import torch and diffusers": (timed(import_models), None),
    }
    engine = Engine(catalog, settings)
    plain = Plain(catalog, bundle)
    rows["load"] = timed(partial(engine.load, bundle.key)), timed(plain.load)

    jobs: dict[str, Job] = {"image": (partial(generate, engine), plain.generate)}
    for translation in TRANSLATIONS.values():
        if catalog.locate(bundle, translation.key).kind != "missing":
            jobs[translation.title] = (
                partial(translate, engine, bundle, translation),
                partial(plain.translate, translation),
            )
    shares = {}
    for name, job in jobs.items():
        rows[f"{name}, the first"] = timed(job[0]), timed(job[1])
        rows[name] = medians(job, arguments.repeats)
        shares[name] = parts_of(job[0])

    print(f"{bundle.title}: {STEPS} steps, {bundle.size}² pixels; seconds, medians of {arguments.repeats}\n")
    print(table(rows, shares))
    report = {
        "bundle": bundle.key,
        "steps": STEPS,
        "size": bundle.size,
        "repeats": arguments.repeats,
        "machine": machine(),
        "seconds": {name: {"ours": ours, "plain diffusers": theirs} for name, (ours, theirs) in rows.items()},
        "shares": shares,
    }
    arguments.out.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\nAll of it: {arguments.out}")


Job = tuple[Callable[[], object], Callable[[], object]]
"""The same work through this project and through plain diffusers."""


def generate(engine: Engine) -> object:
    """Make one image from words."""
    return engine.run(TextRequest(prompt=PAPER_PROMPTS[1], steps=STEPS, seed=SEED), on_step=watch)


def translate(engine: Engine, bundle: Bundle, translation: Translation) -> object:
    """Translate one tile."""
    request = TranslationRequest(translation=translation.key, prompt=prompt_of(translation), steps=STEPS, seed=SEED)
    return engine.run(request, tile(bundle.size, translation.source), on_step=watch)


def watch(_step: Step) -> None:
    """Take each step's preview, as the page does."""


class Plain:
    """The same weights through diffusers as its documentation shows it: float32, its default scheduler, no more."""

    def __init__(self, catalog: Catalog, bundle: Bundle) -> None:
        self.catalog = catalog
        self.bundle = bundle
        self.pipelines: dict[str, Any] = {}

    def load(self) -> None:
        """Load base and LoRA."""
        from diffusers import StableDiffusionPipeline

        pipeline = StableDiffusionPipeline.from_pretrained(**self._at("base")).to(device())
        if (lora := self.catalog.locate(self.bundle, LORA)).kind == "folder":
            file = Path(lora.where)
            pipeline.load_lora_weights(file.parent, weight_name=file.name)
        self.pipelines["text"] = pipeline

    def generate(self) -> object:
        """Make one image from words."""
        return self._run("text", PAPER_PROMPTS[1].text, height=self.bundle.size, width=self.bundle.size)

    def translate(self, translation: Translation) -> object:
        """Translate one tile; its ControlNet is loaded by the first call."""
        from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

        if translation.key not in self.pipelines:
            controlnet = ControlNetModel.from_pretrained(**self._at(translation.key))
            pipeline = StableDiffusionControlNetPipeline.from_pretrained(**self._at("base"), controlnet=controlnet)
            self.pipelines[translation.key] = pipeline.to(device())
        image = tile(self.bundle.size, translation.source).convert("RGB")
        return self._run(translation.key, prompt_of(translation).text, image=image)

    def _run(self, key: str, prompt: str, **more: object) -> object:
        pipeline = self.pipelines[key]
        pipeline.set_progress_bar_config(disable=True)
        return pipeline(prompt, num_inference_steps=STEPS, guidance_scale=self.bundle.defaults.guidance, **more)

    def _at(self, part: str) -> dict[str, Any]:
        import torch

        place = self.catalog.locate(self.bundle, part)
        hub = place.source if place.kind == "hub" else None
        where = {"pretrained_model_name_or_path": place.where, "use_safetensors": True, "dtype": torch.float32}
        return where | ({"revision": hub.revision, "subfolder": hub.subfolder} if hub else {})


def prompt_of(translation: Translation) -> Prompt:
    """Return the prompt that fits a translation's example."""
    return Prompt(gsd=translation.gsd, caption=translation.caption, satellite=translation.satellite)


def tile(size: int, modality: Modality) -> Image.Image:
    """Return blotches of random colours, as fields are; `size` pixels square."""
    fields = np.random.default_rng(SEED).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(fields).resize((size, size), Image.Resampling.BICUBIC).convert(modality.mode)


def device() -> str:
    """Return the device that plain diffusers is shown on."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def now() -> float:
    """Return the time in seconds, once the device has done all that it was given."""
    if "torch" in sys.modules and device() == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    gc.collect()
    start = now()
    work()
    return now() - start


def medians(job: Job, repeats: int) -> tuple[float, float]:
    """Return the median seconds of both sides, which take turns so that a busy machine disturbs both alike."""
    ours, plain = zip(*[(timed(job[0]), timed(job[1])) for _ in range(repeats)], strict=True)
    return statistics.median(ours), statistics.median(plain)


def parts_of(work: Callable[[], object]) -> dict[str, float]:
    """Run `work` once and return each part's share of its time, from 0 to 1."""
    with stopwatches() as seconds:
        total = timed(work)
    shares = {part: spent / total for part, spent in seconds.items()}
    return shares | {"everything else": 1 - sum(shares.values())}


@contextmanager
def stopwatches() -> Iterator[Mapping[str, float]]:
    """Add up the seconds that each part spends in its forward passes."""
    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

    seconds: dict[str, float] = dict.fromkeys(PARTS.values(), 0.0)
    running: dict[int, float] = {}

    def start(module: object, _inputs: object) -> None:
        if type(module).__name__ in PARTS:
            running[id(module)] = now()

    def stop(module: object, _inputs: object, _output: object) -> None:
        if (begin := running.pop(id(module), None)) is not None:
            seconds[PARTS[type(module).__name__]] += now() - begin

    hooks = [register_module_forward_pre_hook(start), register_module_forward_hook(stop)]
    try:
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()


def import_seconds(module: str) -> float:
    """Return how long a fresh interpreter takes to import `module`."""
    code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def import_models() -> None:
    """Import what every pipeline needs."""
    from diffusers import StableDiffusionControlNetPipeline, StableDiffusionPipeline  # noqa: F401


def page_seconds() -> float:
    """Return the time from ``python app.py`` to the first answer of its page."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.perf_counter()
    app = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1"},
        stdout=subprocess.DEVNULL,
    )
    try:
        while time.perf_counter() - start < PAGE_LIMIT:
            try:
                with urlopen(f"http://127.0.0.1:{port}/gradio_api/info", timeout=PAGE_LIMIT):
                    return time.perf_counter() - start
            except OSError:
                if app.poll() is not None:
                    raise RuntimeError("python app.py ended before its page answered") from None
                time.sleep(0.05)
        raise TimeoutError(f"no page within {PAGE_LIMIT} s")
    finally:
        app.terminate()
        app.wait()


def machine() -> dict[str, object]:
    """Return what the figures depend on."""
    import diffusers
    import torch

    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }


def table(rows: dict[str, tuple[float, float | None]], shares: dict[str, dict[str, float]]) -> str:
    """Return both tables as Markdown."""
    lines = ["| | this project | plain diffusers | times as fast |", "|---|---:|---:|---:|"]
    for name, (ours, plain) in rows.items():
        beside = f"{plain:.2f} | {plain / ours:.2f}" if plain is not None else " | "
        lines.append(f"| {name} | {ours:.2f} | {beside} |")
    columns = list(next(iter(shares.values())))
    lines += ["", f"| share of the time | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    lines += [f"| {name} | {' | '.join(f'{share[c]:.0%}' for c in columns)} |" for name, share in shares.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
