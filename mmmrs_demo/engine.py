"""Turns a request into a rendering: loads a bundle once, runs one request at a time, stops within a step.

Torch and diffusers are imported when the first bundle is loaded. It knows no page and no picture files. Nothing here
asks which bundle it is: sizes and channels come from the catalog and the models.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from PIL import Image

from mmmrs_demo.catalog import BASE, LORA, Bundle, Catalog, Location, part_title
from mmmrs_demo.errors import Stopped, UserError
from mmmrs_demo.loaded import Loaded, check_finite, versions
from mmmrs_demo.modality import TRANSLATIONS, Modality
from mmmrs_demo.prompt import Prompt
from mmmrs_demo.request import FULL_SPEED, SCHEDULERS, SPEEDS, Rendering, Step, TextRequest, TranslationRequest
from mmmrs_demo.settings import Settings
from mmmrs_demo.shortcuts import deep, repeating
from mmmrs_demo.together import Asked, OneThread, Together
from mmmrs_demo.window_model import WindowModel

if TYPE_CHECKING:
    import torch

_GRID = 64  # a translation's sides inside the model are multiples of this many pixels
_SLIMMEST = 4  # and one is at most this many times the other
_PREVIEW = 256  # longer side of a preview in pixels
_ADAPTER = "mmmrs"

_BATCH_PIXELS = {"cpu": 2**18}
_BATCH_PIXELS_ON_GPU = 2**21
"""How many pixels the pictures of a batch may have together: where those of one keep all cores busy, more gain nothing.

On a CPU that was measured (``benchmarks.speed``), for GPUs it is a guess.
"""

SCENE_SCHEDULERS = ("euler-a", "euler", "ddim")
"""Schedulers whose steps remember nothing, so that a scene can take each in parts; the first is the default."""


T = TypeVar("T")


class _Kind(NamedTuple):
    """What orders of one batch have in common: all but the words, the seed and the picture.

    Attributes:
        request: The rest of the request.
        inner: Width and height inside the model.
    """

    request: Any
    inner: tuple[int, int]


@dataclass(frozen=True)
class _Order:
    """A complete request with its input.

    Attributes:
        request: No None is left in it, which its type cannot say.
        image: The input of a translation in its modality's mode.
        size: Width and height of the picture to be.
        inner: The same inside the model.
        modality: Of the picture to be.
    """

    request: Any
    image: Image.Image | None
    size: tuple[int, int]
    inner: tuple[int, int]
    modality: Modality

    @property
    def kind(self) -> _Kind:
        own = {"prompt": Prompt(), "negative_prompt": "", "seed": 0}
        if self.image is not None:
            own["source_sha256"] = None
        return _Kind(self.request.model_copy(update=own), self.inner)


class Engine:
    """Runs requests on the bundles of a catalog; any thread may call it.

    One batch runs at a time: a request alone, or all that are alike and wait when it is their turn. A picture of a
    batch differs by a few levels from the same made alone, for multiplications are rounded otherwise, and its details
    say of how many it was.
    """

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self.catalog = catalog
        self.settings = settings
        self._thread = OneThread()
        self._loaded: dict[str, Loaded] = {}
        self._together: Together[_Order, Rendering] = Together(self._work, self._most, self._thread)
        self._tokenizer_lock = threading.Lock()
        self._tokenizers: dict[str, Any] = {}

    def bundle(self, key: str | None = None) -> Bundle:
        """Return the bundle of that key, or the one in use where none is named.

        Raises:
            UserError: There is none of that key.
        """
        return self.catalog.bundle(key or self.settings.bundle)

    def load(self, key: str | None = None) -> None:
        """Load a bundle's base model, and its LoRA where there is one, so that the first request need not wait.

        Raises:
            UserError: The base model is missing, or something cannot be loaded.
        """

        def load() -> None:
            loaded = self._load(self.bundle(key))
            if self.catalog.locate(loaded.bundle, LORA).kind != "missing":
                self._attach_lora(loaded)

        self._thread.do(load)

    def tokenize(self, key: str | None, text: str) -> list[str]:
        """Return the tokens of `text`, without start and end marks; loads no more than a bundle's tokenizer.

        Raises:
            UserError: The base model is missing, or its tokenizer cannot be loaded.
        """
        bundle = self.bundle(key)
        with self._tokenizer_lock:
            if bundle.key not in self._tokenizers:
                location = self._require(bundle, BASE)
                with self._naming(bundle, BASE, location):
                    from transformers import CLIPTokenizer

                    self._tokenizers[bundle.key] = CLIPTokenizer.from_pretrained(
                        location.where, subfolder="tokenizer", **_access(location)
                    )
            return self._tokenizers[bundle.key].tokenize(text)

    def run(
        self,
        request: TextRequest | TranslationRequest,
        image: Image.Image | None = None,
        on_step: Callable[[Step], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Rendering:
        """Make the picture that `request` asks for.

        The first noise is drawn on the CPU from the request's seed, so the same request gives the same pixels again;
        nothing of one request is left for the next.

        Args:
            request: What to make; what it leaves out is filled in with the bundle's defaults. Of several samples, the
                first is made: `make.sampled` makes them all.
            image: The input of a translation, of any size; None for text.
            on_step: Called after every step, in a thread of the engine.
            stop: Once set, ends the run within a step, and the wait for another run at once.

        Raises:
            Stopped: `stop` was set.
            UserError: A part of the bundle is missing, or the request cannot be run.
        """
        return self.run_all([request], image, on_step, stop)[0]

    def run_all(
        self,
        requests: Sequence[TextRequest | TranslationRequest],
        image: Image.Image | None = None,
        on_step: Callable[[Step], None] | None = None,
        stop: threading.Event | None = None,
    ) -> list[Rendering]:
        """Make the pictures that several requests ask for; those that are alike in one batch, where that is faster.

        Args, and what it raises: as `run`; a step is one of all of them, and its preview shows the first of a batch.
        """
        orders = [self._order(request, image) for request in requests]
        made: list[Rendering] = []
        total = sum(order.request.steps for order in orders)

        def tell(step: Step) -> None:
            done = sum(order.request.steps for order in orders[: len(made)]) + step.index
            before = sum(one.seconds for one in made)
            if on_step:
                on_step(Step(done, total, step.preview, before + step.seconds))

        while left := orders[len(made) :]:
            kind = left[0].kind
            alike = next(list(some) for _, some in itertools.groupby(left, lambda order: order.kind))
            made += self._together.ask(Asked(kind, alike[: self._most(kind)], on_step and tell, stop))
        return made

    def _order(self, request: TextRequest | TranslationRequest, image: Image.Image | None) -> _Order:
        """Return a complete request with its input as the model sees it."""
        bundle = self.bundle(request.bundle)
        complete = bundle.complete(request)
        if isinstance(complete, TextRequest):
            if image is not None:
                raise UserError("A picture made from words takes no input picture; a translation does.")
            size = complete.width or 0, complete.height or 0
            return _Order(complete, None, size, size, Modality.RGB)
        translation = TRANSLATIONS[complete.translation]
        if image is None:
            raise UserError(f"{translation.title} needs an input picture.")
        image = image.convert(translation.source.mode)
        complete = complete.model_copy(update={"source_sha256": _digest(image), "samples": 1})
        return _Order(complete, image, image.size, _inner_size(image.size, bundle.size), translation.target)

    def together(self, request: TextRequest) -> int:
        """Return how many pictures like that of a request are faster made in one batch than one after the other."""
        bundle = self.bundle(request.bundle)
        order = self._order(request, None)
        return 1 if max(order.size) > bundle.piece else self._most(order.kind)

    def _most(self, kind: _Kind) -> int:
        """Return how many requests of a kind a batch may have."""
        device = (self.settings.device or _fastest_device()).split(":")[0]
        return max(1, _BATCH_PIXELS.get(device, _BATCH_PIXELS_ON_GPU) // math.prod(kind.inner))

    def _work(self, batch: list[Asked[_Order, Rendering]]) -> None:
        """Make the pictures of one batch, for as long as anybody waits for them."""
        import torch

        orders = [order for asked in batch for order in asked.things]

        def heed_all(*_: Any) -> None:
            if not any(asked.wanted for asked in batch):
                raise Stopped

        def on_step(step: Step, preview: Callable[[int], Image.Image]) -> None:
            first = 0
            for asked in batch:
                count = len(asked.things)
                if asked.tell and asked.wanted:
                    asked.told(Step(step.index * count, step.total * count, preview(first), step.seconds))
                first += count
            heed_all()

        heed_all()
        loaded = self._load(self.bundle(orders[0].request.bundle))
        try:
            made = self._run(loaded, orders, on_step)
        except torch.OutOfMemoryError as error:
            if len(orders) == 1:
                raise UserError(
                    "There is not enough graphics memory for a picture of this size; choose a smaller."
                ) from error
            made = [one for order in orders for one in self._run(loaded, [order], heed_all)]
        for asked in batch:
            own, made = made[: len(asked.things)], made[len(asked.things) :]
            renderings = [one for one in own if isinstance(one, Rendering)]
            faults = [one for one in own if isinstance(one, UserError)]
            if faults:
                asked.fail(faults[0])
            else:
                asked.finish(renderings)

    def _run(
        self, loaded: Loaded, orders: Sequence[_Order], on_step: Callable[[Step, Callable[[int], Image.Image]], None]
    ) -> list[Rendering | UserError]:
        """Make one batch.

        Args:
            loaded: The bundle.
            orders: All of one kind.
            on_step: Told of every step, without a preview, and what draws that of an order by its number.

        Returns:
            A rendering of each order, or the UserError that says why there is none.
        """
        import torch

        request = orders[0].request
        pipeline, own = self._prepare(loaded, orders)
        predicted = _watch(pipeline.scheduler)
        generators = [torch.Generator("cpu").manual_seed(order.request.seed) for order in orders]
        factor = pipeline.vae_scale_factor
        shape = (1, pipeline.unet.config.in_channels, own["height"] // factor, own["width"] // factor)
        noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
        texts = {
            name: torch.cat([loaded.encoded(text, request.lora_scale) for text in said])
            for name, said in (
                ("prompt_embeds", [order.request.prompt.text for order in orders]),
                ("negative_prompt_embeds", [order.request.negative_prompt for order in orders]),
            )
        }
        began = time.perf_counter()

        def preview(number: int) -> Image.Image:
            return _preview(predicted[-1][number], loaded.to_rgb, orders[number].size, orders[number].modality)

        def step_done(_: Any, index: int, __: Any, ___: Any) -> dict[str, Any]:
            on_step(Step(index + 1, request.steps, None, time.perf_counter() - began), preview)
            return {}

        blocks = [*deep(pipeline.unet), *([pipeline.controlnet] if orders[0].image is not None else [])]
        with repeating(blocks, SPEEDS[request.speed].every):
            pictures = pipeline(
                num_inference_steps=request.steps,
                guidance_scale=request.guidance,
                generator=generators,
                latents=noise.to(pipeline.device),
                callback_on_step_end=step_done,
                output_type="pt",
                **texts,
                **own,
            ).images
        seconds = (time.perf_counter() - began) / len(orders)
        details = {"batch": len(orders)} if len(orders) > 1 else {}
        return [_rendered(loaded, *each, seconds, details) for each in zip(orders, pictures, strict=True)]

    def windows(
        self, request: TextRequest | TranslationRequest, stop: threading.Event | None = None
    ) -> tuple[TextRequest | TranslationRequest, WindowModel]:
        """Return a request with nothing left out, and what looks through the windows of a scene for it.

        A scene is made at full quality: to keep what lies deep in the network would take memory for each window.

        Raises:
            Stopped: `stop` was set.
            UserError: A part of the bundle is missing, or the scheduler cannot take a step of a part of a scene.
        """
        bundle = self.bundle(request.bundle)
        usual = bundle.complete(request).scheduler
        scheduler = request.scheduler or (usual if usual in SCENE_SCHEDULERS else SCENE_SCHEDULERS[0])
        if scheduler not in SCENE_SCHEDULERS:
            raise UserError(
                f"{SCHEDULERS[scheduler]} cannot be used for a picture larger than {bundle.piece} px: choose "
                f"{' or '.join(SCHEDULERS[key] for key in SCENE_SCHEDULERS)}."
            )
        request = bundle.complete(request.model_copy(update={"scheduler": scheduler, "speed": FULL_SPEED}))
        translation = request.translation if isinstance(request, TranslationRequest) else None

        def load() -> tuple[Loaded, Any]:
            loaded = self._load(bundle)
            return loaded, self._controlnet(loaded, translation) if translation else None

        loaded, controlnet = self._thread.do(load, stop)

        def in_turn(look: Callable[[], T]) -> T:
            def looked() -> T:
                self._set_lora(loaded, request.lora_scale or 0.0)  # whatever other requests wanted before
                return look()

            return self._thread.do(looked, stop)

        return request, WindowModel(loaded, controlnet, request, in_turn)

    def _prepare(self, loaded: Loaded, orders: Sequence[_Order]) -> tuple[Any, dict[str, Any]]:
        """Set the loaded modules up for orders of one kind, from whatever state the last ones left them in.

        Returns:
            A pipeline of its own, with a fresh scheduler; the arguments that only this kind of request has.
        """
        import diffusers

        request, (width, height) = orders[0].request, orders[0].inner
        self._set_lora(loaded, request.lora_scale)
        scheduler = loaded.scheduler(request.scheduler)
        components = {**loaded.pipeline.components, "scheduler": scheduler, "requires_safety_checker": False}
        images = [order.image for order in orders if order.image is not None]
        if images:
            controlnet = self._controlnet(loaded, request.translation)
            pipeline = diffusers.StableDiffusionControlNetPipeline(**components, controlnet=controlnet)
            own = {
                "image": [image.resize((width, height), Image.Resampling.LANCZOS).convert("RGB") for image in images],
                "controlnet_conditioning_scale": request.controlnet_scale,
                "width": width,
                "height": height,
            }
        else:
            factor = loaded.pipeline.vae_scale_factor
            pipeline = diffusers.StableDiffusionPipeline(**components)
            own = {"width": math.ceil(width / factor) * factor, "height": math.ceil(height / factor) * factor}
        pipeline.set_progress_bar_config(disable=True)
        return pipeline, own

    def _load(self, bundle: Bundle) -> Loaded:
        """Return the bundle in memory, loading its base model the first time."""
        if bundle.key not in self._loaded:
            location = self._require(bundle, BASE)
            with self._naming(bundle, BASE, location):
                from mmmrs_demo.precision import ready

                pipeline = load_base(location, self.settings.device or _fastest_device())
                for model in (pipeline.unet, *pipeline.vae.children()):
                    ready(model)
                names = {BASE: self.catalog.fingerprint(location)}
                self._loaded[bundle.key] = Loaded(bundle, pipeline, _fit_colours(pipeline), names=names)
        loaded = self._loaded[bundle.key] = self._loaded.pop(bundle.key)  # the last one is the one used last
        self._make_room(loaded)
        return loaded

    def _make_room(self, loaded: Loaded, controlnet: str | None = None) -> None:
        """Drop ControlNets, then bundles, until the weights in memory keep to the limit: those unused longest first.

        Args:
            loaded: The bundle in use, which stays.
            controlnet: That of its ControlNets which stays.
        """
        idle: list[tuple[dict[str, Any], str]] = [
            (one.controlnets, key)
            for one in self._loaded.values()
            for key in one.controlnets
            if one is not loaded or key != controlnet
        ]
        idle += [(self._loaded, key) for key in self._loaded if key != loaded.bundle.key]
        for place, key in idle:
            if sum(one.bytes for one in self._loaded.values()) <= self.settings.max_model_bytes:
                return
            del place[key]

    def _set_lora(self, loaded: Loaded, scale: float) -> None:
        """Set the adapter's strength absolutely, so that it does not matter what was set before.

        A scale given with a call is multiplied into the adapter and divided out again: that drifts, and an error on the
        way leaves it behind.
        """
        if scale:
            self._attach_lora(loaded)
            loaded.pipeline.enable_lora()
            loaded.pipeline.set_adapters([_ADAPTER], [scale])
        elif LORA in loaded.names:
            loaded.pipeline.disable_lora()

    def _attach_lora(self, loaded: Loaded) -> None:
        if LORA in loaded.names:
            return
        location = self._require(loaded.bundle, LORA)
        folder, name = location.where, "pytorch_lora_weights.safetensors"
        if location.kind == "folder":
            folder, name = str(Path(location.where).parent), Path(location.where).name
        elif location.source and location.source.weight_name:
            name = location.source.weight_name
        with self._naming(loaded.bundle, LORA, location):
            said = {"weight_name": name, "use_safetensors": True, **_access(location)}
            try:
                loaded.pipeline.load_lora_weights(folder, adapter_name=_ADAPTER, **said)
                _check_lora(loaded.pipeline, loaded.pipeline.lora_state_dict(folder, **said)[0])
            except Exception:
                loaded.pipeline.unload_lora_weights()
                raise
            loaded.names[LORA] = self.catalog.fingerprint(location)

    def _controlnet(self, loaded: Loaded, key: str) -> Any:
        """Return the ControlNet of a translation, loading it the first time."""
        if key not in loaded.controlnets:
            location = self._require(loaded.bundle, key)
            with self._naming(loaded.bundle, key, location):
                from diffusers import ControlNetModel

                from mmmrs_demo.precision import ready

                controlnet = ControlNetModel.from_pretrained(
                    location.where, dtype=loaded.pipeline.unet.dtype, use_safetensors=True, **_access(location)
                )
                for trait in ("in_channels", "block_out_channels", "cross_attention_dim"):
                    own, needed = controlnet.config[trait], loaded.pipeline.unet.config[trait]
                    if own != needed:
                        raise UserError(
                            f"The {part_title(key)} at {location.where} does not fit {loaded.bundle.title}: "
                            f"its {trait.replace('_', ' ')} is {own} instead of {needed}."
                        )
                loaded.controlnets[key] = ready(controlnet.to(loaded.pipeline.device))
                loaded.names[key] = self.catalog.fingerprint(location)
        controlnet = loaded.controlnets[key] = loaded.controlnets.pop(key)
        self._make_room(loaded, key)
        return controlnet

    def _require(self, bundle: Bundle, part: str) -> Location:
        """Find a part of a bundle, or raise UserError with what to do about it."""
        location = self.catalog.locate(bundle, part)
        if location.kind == "missing":
            way_out = " With a LoRA scale of 0 the base model runs without it." if part == LORA else ""
            raise UserError(location.hint + way_out)
        return location

    @contextmanager
    def _naming(self, bundle: Bundle, part: str, location: Location) -> Iterator[None]:
        """Turn what the libraries raise while they load a part into a sentence that names it."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            what = f"The {part_title(part)} of {bundle.title} cannot be loaded from {location.where}"
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            copy = location.source.path if location.source and location.kind == "hub" else None
            way_out = f" Without a network, put a copy at {self.catalog.weights.name}/{copy}." if copy else ""
            raise UserError(f"{what}: {reason}.{way_out}") from error


def load_base(location: Location, device: str, *, half: bool = True) -> Any:
    """Return the Stable Diffusion pipeline at a location, from safetensors files only.

    Args:
        location: A folder or a repository of the Hub.
        device: Where it is to run, as torch names it.
        half: Whether UNet and autoencoder are to compute in 16 bits where that is faster.
    """
    import diffusers
    import torch
    import transformers

    from mmmrs_demo.precision import half_type

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    return diffusers.StableDiffusionPipeline.from_pretrained(
        location.where,
        dtype={"default": half_type(device) if half else torch.float32, "text_encoder": torch.float32},
        use_safetensors=True,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **_access(location),
    ).to(device)


def _access(location: Location) -> dict[str, Any]:
    """Return how diffusers and transformers may reach a location: a folder never leads to the Hub."""
    if location.kind == "folder" or location.source is None:
        return {"local_files_only": True}
    subfolder = {"subfolder": location.source.subfolder} if location.source.subfolder else {}
    return {"revision": location.source.revision, **subfolder}


def threads() -> int:
    """Return how many threads models on the CPU use in this process; the last bits of pictures may depend on it."""
    import torch

    return torch.get_num_threads()


def _fastest_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _check_lora(pipeline: Any, state: dict[str, Any]) -> None:
    """Raise ValueError unless every layer of a LoRA's file is in the pipeline, which passes over what does not fit."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    told = {re.split(r"[._]lora[._]", key)[0] for key in state}
    models = (pipeline.unet, pipeline.text_encoder)
    here = sum(isinstance(layer, BaseTunerLayer) for model in models for layer in model.modules())
    if here != len(told):
        raise ValueError(f"of its {len(told)} layers {here} fit this model")


def _rendered(
    loaded: Loaded, order: _Order, pixels: torch.Tensor, seconds: float, details: dict[str, Any]
) -> Rendering | UserError:
    """Return an order's rendering from what was decoded, shape (3, height, width), or why there is none."""
    try:
        check_finite(pixels)
    except UserError as error:
        return error
    picture = _picture(pixels.float().cpu().permute(1, 2, 0), order.modality)
    return Rendering(
        image=picture if picture.size == order.size else picture.resize(order.size, Image.Resampling.LANCZOS),
        request=order.request,
        modality=order.modality,
        seconds=seconds,
        model=loaded.described(order.request),
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        details=details,
    )


def _digest(image: Image.Image) -> str:
    """Return the SHA-256 of mode, size and pixels."""
    return hashlib.sha256(f"{image.mode} {image.width} {image.height} ".encode() + image.tobytes()).hexdigest()


def _inner_size(size: tuple[int, int], native: int) -> tuple[int, int]:
    """Return width and height for the model: about native² pixels, the shape of `size`, multiples of the grid."""
    shape = min(max(size[0] / size[1], 1 / _SLIMMEST), _SLIMMEST)
    width, height = (max(_GRID, round(native * side / _GRID) * _GRID) for side in (shape**0.5, shape**-0.5))
    return width, height


def _watch(scheduler: Any) -> list[torch.Tensor]:
    """Return a list whose only item becomes, with every step of `scheduler`, the clean latents that it predicts."""
    step = scheduler.step
    predicted: list[torch.Tensor] = []

    @functools.wraps(step)
    def watched(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        # Multistep schedulers keep their predictions, the others return theirs.
        predicted[:] = [result[1] if len(result) > 1 else scheduler.model_outputs[-1]]
        return result

    scheduler.step = watched
    return predicted


def _fit_colours(pipeline: Any) -> torch.Tensor:
    """Fit the straight line from latents to colours that agrees best with how smooth random latents are decoded.

    To decode each preview would cost as much as several steps; this costs nothing, and is as sharp as the latents are.

    Returns:
        Shape (latent channels + 1, 3), on the CPU: the last row is the constant, colours lie in 0..1.
    """
    import torch
    import torch.nn.functional as F

    vae = pipeline.vae
    generator = torch.Generator().manual_seed(0)
    corners = torch.randn(16, pipeline.unet.config.in_channels, 2, 2, generator=generator)
    latents = F.interpolate(corners, size=(8, 8), mode="bicubic")
    with torch.no_grad():
        decoded = vae.decode((latents / vae.config.scaling_factor).to(pipeline.device)).sample
    colours = F.avg_pool2d(decoded.float().cpu(), pipeline.vae_scale_factor).clamp(-1, 1) / 2 + 0.5
    rows, targets = (tensor.permute(0, 2, 3, 1).flatten(0, 2) for tensor in (latents, colours))
    return torch.linalg.lstsq(F.pad(rows, (0, 1), value=1.0), targets).solution


def _preview(latents: torch.Tensor, to_rgb: torch.Tensor, size: tuple[int, int], modality: Modality) -> Image.Image:
    """Return a small picture of latents of shape (channels, height, width), in the shape of `size`."""
    colours = latents.float().cpu().permute(1, 2, 0) @ to_rgb[:-1] + to_rgb[-1]
    scale = min(1.0, _PREVIEW / max(size))
    width, height = (max(1, round(side * scale)) for side in size)
    return _picture(colours.nan_to_num().clamp(0, 1), modality).resize((width, height), Image.Resampling.BICUBIC)


def _picture(colours: torch.Tensor, modality: Modality) -> Image.Image:
    """Return a picture of colours of shape (height, width, 3) in 0..1, in the modality's mode."""
    if modality.mode == "L":
        colours = colours.mean(2)
    return Image.fromarray((colours * 255).round().byte().numpy())
