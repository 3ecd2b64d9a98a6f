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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.request import urlopen

import numpy as np
from PIL import Image

from mmmrs_demo.catalog import LORA, Bundle, Catalog
from mmmrs_demo.engine import Engine
from mmmrs_demo.metrics import psnr
from mmmrs_demo.modality import TRANSLATIONS, Modality, Translation
from mmmrs_demo.precision import half_type
from mmmrs_demo.prompt import PAPER_PROMPTS, Prompt
from mmmrs_demo.request import Step, TextRequest, TranslationRequest
from mmmrs_demo.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
SEED = 7
SIDES = ("this project", "plain diffusers", "plain diffusers in 16 bits")
"""Whose seconds are measured: the last follows diffusers' own advice for speed, half precision."""
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
    """Measure, print tables, and write everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default=Settings().bundle)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5, help="runs of which the median is taken")
    parser.add_argument("--batch", type=int, default=4, help="images of a click; 1 leaves that out")
    parser.add_argument("--translation", choices=TRANSLATIONS, action="append", help="these alone (default: all)")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("speed.json"))
    arguments = parser.parse_args()

    settings = Settings(bundle=arguments.bundle)
    catalog = Catalog.load(settings.weights)
    bundle = catalog.bundle(settings.bundle)

    rows: dict[str, list[float]] = {  # seconds of this project, of plain diffusers, and of that with its own advice
        "import mmmrs_demo.ui": [import_seconds("mmmrs_demo.ui")],
        "python app.py to a page that answers": [page_seconds(bundle.key)],
        "import torch and diffusers": [timed(import_models)],
    }
    engine = Engine(catalog, settings)
    alone = engine._thread.do  # noqa: SLF001 - helpers of a second thread would slow down both
    sides: list[Side] = [Ours(engine, bundle, arguments.steps)]
    sides += [Plain(catalog, bundle, arguments.steps, half=half) for half in (False, True)]

    def jobs_of(name: str, *args: Any) -> list[Job]:
        ours, *plain = (partial(getattr(side, name), *args) for side in sides)
        return [ours, *(partial(alone, job) for job in plain)]

    rows["load"] = [timed(job) for job in jobs_of("load")]
    jobs = {"image": jobs_of("generate")}
    if arguments.batch > 1:
        jobs[f"{arguments.batch} images"] = jobs_of("generate", arguments.batch)
    for translation in TRANSLATIONS.values():
        asked = translation.key in (arguments.translation or TRANSLATIONS)
        if asked and catalog.locate(bundle, translation.key).kind != "missing":
            jobs[translation.title] = jobs_of("translate", translation)
    shares, likeness = {}, {}
    for name, work in jobs.items():
        firsts, pictures = zip(*[first(job) for job in work], strict=True)
        rows[f"{name}, the first"] = list(firsts)
        likeness[name] = [psnr(np.asarray(made), np.asarray(pictures[1])) for made in pictures]
        rows[name] = medians(work, arguments.repeats)
        shares[name] = parts_of(work[0])
    unet = engine._loaded[bundle.key].pipeline.unet  # noqa: SLF001 - a benchmark looks inside
    limit = alone(partial(hardware_limit, unet))

    print(f"{bundle.title}: {arguments.steps} steps, {bundle.size}² pixels; medians of {arguments.repeats}\n")
    print(table(rows, likeness, shares))
    print(
        f"\nThe UNet needs {limit['operations'] / 1e9:,.0f} GFLOP for a step with guidance: {limit['seconds']:.4f} s at"
    )
    print(
        f"the {limit['rate'] / 1e9:,.0f} GFLOP/s of a large product of matrices; a step took {limit['measured']:.4f} s."
    )
    report = {
        "bundle": bundle.key,
        "steps": arguments.steps,
        "size": bundle.size,
        "repeats": arguments.repeats,
        "machine": machine(),
        "seconds": {name: dict(zip(SIDES, seconds, strict=False)) for name, seconds in rows.items()},
        "PSNR to plain diffusers in dB": {
            name: dict(zip(SIDES, found, strict=True)) for name, found in likeness.items()
        },
        "shares": shares,
        "limit": limit,
    }
    arguments.out.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\nAll of it: {arguments.out}")


Job = Callable[[], Image.Image]


class Side(Protocol):
    """One way to do the work."""

    def load(self) -> None:
        """Load base and LoRA."""

    def generate(self, images: int = 1) -> Image.Image:
        """Make images from words and return the first."""

    def translate(self, translation: Translation) -> Image.Image:
        """Translate one tile; its ControlNet is loaded by the first call."""


class Ours:
    """This project, as it is used."""

    def __init__(self, engine: Engine, bundle: Bundle, steps: int) -> None:
        self.engine, self.bundle, self.steps = engine, bundle, steps

    def load(self) -> None:
        """Load base and LoRA."""
        self.engine.load(self.bundle.key)

    def generate(self, images: int = 1) -> Image.Image:
        """Make images from words with one click and return the first."""
        said = {"prompt": PAPER_PROMPTS[1], "steps": self.steps, "bundle": self.bundle.key}
        requests = [TextRequest(**said, seed=SEED + n) for n in range(images)]
        return self.engine.run_all(requests, on_step=watch)[0].image

    def translate(self, translation: Translation) -> Image.Image:
        """Translate one tile."""
        said = {"translation": translation.key, "prompt": prompt_of(translation), "bundle": self.bundle.key}
        scheduler = self.bundle.defaults.scheduler
        request = TranslationRequest(**said, steps=self.steps, scheduler=scheduler, seed=SEED)
        return self.engine.run(request, tile(self.bundle.size, translation.source), on_step=watch).image


def watch(_step: Step) -> None:
    """Take each step's preview, as the page does."""


class Plain:
    """The same weights through diffusers as its documentation shows it, with the scheduler that they come with."""

    def __init__(self, catalog: Catalog, bundle: Bundle, steps: int, *, half: bool) -> None:
        self.catalog, self.bundle, self.steps, self.half = catalog, bundle, steps, half
        self.pipelines: dict[str, Any] = {}

    def load(self) -> None:
        """Load base and LoRA."""
        from diffusers import StableDiffusionPipeline

        pipeline = StableDiffusionPipeline.from_pretrained(**self._at("base")).to(device())
        if (lora := self.catalog.locate(self.bundle, LORA)).kind == "folder":
            file = Path(lora.where)
            pipeline.load_lora_weights(file.parent, weight_name=file.name)
        self.pipelines["text"] = pipeline

    def generate(self, images: int = 1) -> Image.Image:
        """Make images from words in one batch and return the first."""
        size = {"height": self.bundle.size, "width": self.bundle.size, "num_images_per_prompt": images}
        return self._run("text", PAPER_PROMPTS[1].text, self.bundle.defaults.guidance, **size)

    def translate(self, translation: Translation) -> Image.Image:
        """Translate one tile; its ControlNet is loaded by the first call."""
        from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

        if translation.key not in self.pipelines:
            controlnet = ControlNetModel.from_pretrained(**self._at(translation.key))
            pipeline = StableDiffusionControlNetPipeline.from_pretrained(**self._at("base"), controlnet=controlnet)
            self.pipelines[translation.key] = pipeline.to(device())
        image = tile(self.bundle.size, translation.source).convert("RGB")
        own = self.bundle.complete(TranslationRequest(translation=translation.key))
        made = self._run(translation.key, prompt_of(translation).text, own.guidance, image=image)
        grey = translation.target.mode == "L"  # the mean of its colours, as here: a picture of random ones has any
        return Image.fromarray(np.asarray(made, float).mean(2).round().astype(np.uint8)) if grey else made

    def _run(self, key: str, prompt: str, guidance: float | None, **more: object) -> Image.Image:
        import torch

        pipeline = self.pipelines[key]
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(SEED)
        images = pipeline(
            prompt, num_inference_steps=self.steps, guidance_scale=guidance, generator=generator, **more
        ).images
        return images[0]

    def _at(self, part: str) -> dict[str, Any]:
        import torch

        place = self.catalog.locate(self.bundle, part)
        hub = place.source if place.kind == "hub" else None
        dtype = half_type(device()) if self.half else torch.float32
        where = {"pretrained_model_name_or_path": place.where, "use_safetensors": True, "dtype": dtype}
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


def first(job: Job) -> tuple[float, Image.Image]:
    """Return the seconds of a first run and its picture."""
    made: list[Image.Image] = []
    return timed(lambda: made.append(job())), made[0]


def medians(jobs: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Return the median seconds of each side; they take turns so that a busy machine disturbs all alike."""
    rounds = [[timed(job) for job in jobs] for _ in range(repeats)]
    return [statistics.median(seconds) for seconds in zip(*rounds, strict=True)]


def hardware_limit(unet: Any) -> dict[str, float]:
    """Return operations and seconds of a step with guidance, and its seconds at the rate of a product of matrices."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    side = unet.config.sample_size
    latents = torch.randn(2, unet.config.in_channels, side, side, device=unet.device)
    words = torch.randn(2, 77, unet.config.cross_attention_dim, device=unet.device)
    matrix = torch.randn(4096, 4096, device=unet.device, dtype=unet.dtype)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            unet(latents, 500, words)
        step, product = medians([lambda: unet(latents, 500, words), lambda: matrix @ matrix], 5)
    rate = 2 * 4096**3 / product
    return {
        "operations": counter.get_total_flops(),
        "rate": rate,
        "seconds": counter.get_total_flops() / rate,
        "measured": step,
    }


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


def page_seconds(bundle: str) -> float:
    """Return the time from ``python app.py`` to the first answer of its page."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.perf_counter()
    app = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "MMMRS_BUNDLE": bundle},
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


def table(rows: dict[str, list[float]], likeness: dict[str, list[float]], shares: dict[str, dict[str, float]]) -> str:
    """Return the tables as Markdown; each bracket says how many times as fast this project is."""
    lines = [f"| seconds | {' | '.join(SIDES)} |", "|---|" + "---:|" * len(SIDES)]
    for name, seconds in rows.items():
        ours, *others = seconds
        beside = [f"{other:.2f} ({other / ours:.2f} ×)" for other in others] or [""] * (len(SIDES) - 1)
        lines.append(f"| {name} | {ours:.2f} | {' | '.join(beside)} |")
    lines += ["", f"| PSNR to {SIDES[1]}, dB | {' | '.join(SIDES)} |", "|---|" + "---:|" * len(SIDES)]
    lines += [f"| {name} | {' | '.join(f'{one:.1f}' for one in found)} |" for name, found in likeness.items()]
    columns = list(next(iter(shares.values())))
    lines += ["", f"| share of the time | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    lines += [f"| {name} | {' | '.join(f'{share[c]:.0%}' for c in columns)} |" for name, share in shares.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
