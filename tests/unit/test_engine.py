"""The engine on small bundles of random weights: what it makes is noise, but it makes it as it should."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mmmrs_demo import loaded, precision
from mmmrs_demo.catalog import Catalog
from mmmrs_demo.engine import Engine, _access, _fit_colours, _inner_size, _picture, _preview
from mmmrs_demo.errors import Stopped, UserError
from mmmrs_demo.metrics import psnr
from mmmrs_demo.modality import TRANSLATIONS, Modality
from mmmrs_demo.prompt import PAPER_PROMPTS, Prompt
from mmmrs_demo.request import SCHEDULERS, SPEEDS, Step, TextRequest, TranslationRequest, parse_request
from mmmrs_demo.settings import Settings
from tests import tiny

pytestmark = pytest.mark.unit

PROMPT = PAPER_PROMPTS[1]
SEED = 7


def text(**said: Any) -> TextRequest:
    return TextRequest(**{"prompt": PROMPT, "seed": SEED} | said)


def translation(key: str = "rgb2sar", **said: Any) -> TranslationRequest:
    return TranslationRequest(**{"prompt": PROMPT, "seed": SEED, "translation": key} | said)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def differ(a: Image.Image, b: Image.Image) -> bool:
    return bool((pixels(a) != pixels(b)).any())


def tile(size: tuple[int, int] = (64, 64), seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def engine_on(weights: Path, bundle: str = "tiny") -> Engine:
    return Engine(Catalog.load(weights), Settings(weights=weights, bundle=bundle))


@pytest.fixture
def own_weights(tiny_weights: Path, tmp_path: Path) -> Path:
    """Return a copy of the weights that a test may change."""
    return Path(shutil.copytree(tiny_weights, tmp_path / "weights"))


# ------------------------------------------------------------------------------------------------- the same, and not


@pytest.mark.parametrize("bundle", ["tiny", "mini"])
def test_the_same_request_gives_the_same_pixels(tiny_engine: Engine, tiny_weights: Path, bundle: str) -> None:
    first = tiny_engine.run(text(bundle=bundle))
    again = tiny_engine.run(first.request)
    elsewhere = engine_on(tiny_weights).run(parse_request(first.model_dump()["request"]))
    assert first.image == again.image == elsewhere.image
    assert first.request == again.request == elsewhere.request


@pytest.mark.parametrize("scale", [0.0, 0.7])
@pytest.mark.parametrize("key", [None, "sar2rgb"])
@pytest.mark.parametrize("bits", [32, 16])
def test_the_pixels_are_those_of_plain_diffusers(
    tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, bits: int, key: str | None, scale: float
) -> None:
    monkeypatch.setattr(precision, "half_type", lambda _: torch.float32 if bits == 32 else torch.bfloat16)
    engine = engine_on(tiny_weights)
    bundle, image = tiny_weights / "tiny", tile().convert("L") if key else None
    said: dict[str, Any] = {"negative_prompt": "fog", "lora_scale": scale}
    made = engine.run(translation(key, controlnet_scale=0.8, **said) if key else text(**said), image)
    plain = diffusers.StableDiffusionPipeline.from_pretrained(bundle)
    plain.load_lora_weights(bundle / "lora")
    options: dict[str, Any] = {"width": tiny.SIZE, "height": tiny.SIZE}
    if key and image:
        controlnet = diffusers.ControlNetModel.from_pretrained(bundle / "controlnet" / key)
        plain = diffusers.StableDiffusionControlNetPipeline(
            **plain.components, controlnet=controlnet, requires_safety_checker=False
        )
        options |= {"image": image.convert("RGB"), "controlnet_conditioning_scale": 0.8}
    plain.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(plain.scheduler.config, use_karras_sigmas=True)
    picture = plain(
        PROMPT.text,
        negative_prompt="fog",
        num_inference_steps=4,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(SEED),
        cross_attention_kwargs={"scale": scale},
        **options,
    ).images[0]
    apart = np.abs(pixels(picture) - pixels(made.image))
    assert apart.max() <= 1 if bits == 32 else psnr(pixels(picture), pixels(made.image)) > 35  # rounding differs
    assert made.model["dtype"] == ("float32" if bits == 32 else "bfloat16")


@pytest.mark.parametrize(
    "other",
    [
        {"seed": SEED + 1},
        {"seed": 2**63 - 1},
        {"prompt": Prompt(caption="a city")},
        {"negative_prompt": "snow"},
        {"guidance": 9.0},
        {"guidance": 0.0},
        {"steps": 5},
        {"scheduler": "euler"},
        {"lora_scale": 0.5},
        {"bundle": "mini"},
    ],
)
def test_another_request_gives_another_picture(tiny_engine: Engine, other: dict[str, Any]) -> None:
    assert differ(tiny_engine.run(text()).image, tiny_engine.run(text(**other)).image)


def test_a_seed_is_drawn_and_reported(tiny_engine: Engine) -> None:
    drawn = tiny_engine.run(text(seed=None))
    assert drawn.request.seed is not None
    assert tiny_engine.run(text(seed=drawn.request.seed)).image == drawn.image
    assert tiny_engine.run(text(seed=None)).request.seed != drawn.request.seed


def test_a_rendering_says_everything(tiny_engine: Engine) -> None:
    made = tiny_engine.run(translation(), tile())
    assert None not in made.request.model_dump().values()
    assert made.synthetic is True
    assert made.seconds > 0
    assert made.model["bundle"] == "tiny"
    assert made.model["base"].startswith("tiny sha256:")
    assert made.model["controlnet"].startswith("tiny/controlnet/rgb2sar sha256:")
    assert made.model["lora"] is None
    assert tiny_engine.run(text()).model["lora"].startswith("tiny/lora sha256:")
    assert set(made.versions) >= {"mmmrs-demo", "torch", "diffusers"}
    assert made.created.endswith("+00:00")


# ------------------------------------------------------------------------------------------------- nothing leaks


def test_no_request_influences_the_next(tiny_weights: Path) -> None:
    plain = engine_on(tiny_weights)  # its LoRA is loaded by none of these
    base = plain.run(text(lora_scale=0.0)).image
    sar = plain.run(translation(), tile()).image
    engine = engine_on(tiny_weights)
    full, third = engine.run(text()).image, engine.run(text(lora_scale=1 / 3)).image
    assert differ(base, full)
    assert differ(third, full)
    for _ in range(2):
        assert engine.run(translation(), tile()).image == sar
        assert engine.run(text(lora_scale=1 / 3)).image == third
        assert engine.run(text(lora_scale=0.0)).image == base
        assert engine.run(text(scheduler="euler-a")).image != full
        assert engine.run(text()).image == full


def test_a_translation_can_use_the_lora(tiny_engine: Engine) -> None:
    plain = tiny_engine.run(translation(), tile())
    adapted = tiny_engine.run(translation(lora_scale=1.0), tile())
    assert differ(plain.image, adapted.image)
    assert adapted.model["lora"]


def test_a_run_that_broke_leaves_nothing_behind(tiny_engine: Engine) -> None:
    before = tiny_engine.run(text(lora_scale=0.0)).image

    def break_off(_: Step) -> None:
        raise RuntimeError

    for said in ({"lora_scale": 1.7}, {"lora_scale": 0.3}):
        with pytest.raises(RuntimeError):
            tiny_engine.run(text(**said), on_step=break_off)
    assert tiny_engine.run(text(lora_scale=0.0)).image == before


# ------------------------------------------------------------------------------------------------- steps and Stop


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 4])
def test_every_scheduler_reports_every_step(tiny_engine: Engine, scheduler: str, steps: int) -> None:
    seen: list[Step] = []
    tiny_engine.run(text(scheduler=scheduler, steps=steps, width=128, height=64), on_step=seen.append)
    assert [(step.index, step.total) for step in seen] == [(i, steps) for i in range(1, steps + 1)]
    assert [step.seconds for step in seen] == sorted(step.seconds for step in seen)
    for step in seen:
        assert step.preview
        assert (step.preview.mode, step.preview.size) == ("RGB", (128, 64))


@pytest.mark.parametrize("bundle", ["tiny", "mini"])
@pytest.mark.parametrize(
    ("key", "name", "options"),
    [
        (
            "dpm++2m-karras",
            "DPMSolverMultistepScheduler",
            {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True},
        ),
        ("ddim", "DDIMScheduler", {"clip_sample": False}),
        ("euler", "EulerDiscreteScheduler", {"use_karras_sigmas": False}),
        ("euler-a", "EulerAncestralDiscreteScheduler", {}),
        ("unipc", "UniPCMultistepScheduler", {"use_karras_sigmas": False}),
    ],
)
def test_schedulers_are_what_they_are_called_on_the_bundles_own_noise(
    tiny_engine: Engine, bundle: str, key: str, name: str, options: dict[str, Any]
) -> None:
    order = tiny_engine._order(text(bundle=bundle, scheduler=key), None)
    loaded = tiny_engine._load(tiny_engine.bundle(bundle))
    scheduler = tiny_engine._prepare(loaded, [order])[0].scheduler
    own = loaded.pipeline.scheduler.config
    options = options | {name: own[name] for name in ("prediction_type", "beta_schedule", "beta_start", "beta_end")}
    assert type(scheduler).__name__ == name
    assert {name: scheduler.config[name] for name in options} == options


def test_looking_on_changes_nothing(tiny_engine: Engine) -> None:
    assert tiny_engine.run(text(), on_step=lambda _: None).image == tiny_engine.run(text()).image


@pytest.mark.parametrize("key", TRANSLATIONS)
def test_previews_are_grey_where_the_picture_is(tiny_engine: Engine, key: str) -> None:
    seen: list[Step] = []
    made = tiny_engine.run(translation(key), tile((600, 300)), on_step=seen.append)
    mode = TRANSLATIONS[key].target.mode
    assert made.image.mode == mode
    assert {(step.preview.mode, step.preview.size) for step in seen if step.preview} == {(mode, (256, 128))}


def test_no_satellite_word_makes_a_picture_from_words_grey(tiny_engine: Engine) -> None:
    seen: list[Step] = []
    made = tiny_engine.run(text(prompt=Prompt(caption="a city", satellite="Sentinel-1")), on_step=seen.append)
    assert {made.image.mode, *(step.preview.mode for step in seen if step.preview)} == {"RGB"}


def test_a_grey_picture_is_the_mean_of_the_models_colours() -> None:
    colours = torch.tensor([[[1.0, 0.0, 0.2], [0.2, 0.2, 0.2]]])
    assert pixels(_picture(colours, Modality.SAR)).tolist() == [[102, 51]]
    assert pixels(_picture(colours, Modality.RGB)).tolist() == [[[255, 0, 51], [51, 51, 51]]]


def test_colours_are_fitted_to_what_the_autoencoder_does() -> None:
    mixing = torch.tensor([[0.1, 0.0, 0.2], [0.0, 0.3, 0.0], [0.1, 0.1, 0.1], [0.0, -0.2, 0.1]])

    class Decoder:
        dtype = torch.float32
        config = type("config", (), {"scaling_factor": 0.5})

        def decode(self, latents: torch.Tensor) -> Any:
            colours = torch.einsum("bchw,cd->bdhw", latents * 0.5, mixing) + 0.1
            return type("out", (), {"sample": colours.repeat_interleave(8, 2).repeat_interleave(8, 3)})

    config = type("config", (), {"in_channels": 4})
    parts = {"vae": Decoder(), "unet": type("unet", (), {"config": config}), "device": "cpu", "vae_scale_factor": 8}
    fitted = _fit_colours(type("pipeline", (), parts))
    torch.testing.assert_close(fitted, torch.cat([mixing / 2, torch.full((1, 3), 0.55)]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_previews_show_the_clean_picture_and_end_where_it_ends(
    tiny_engine: Engine, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_engine.load()
    loaded = tiny_engine._loaded["tiny"]
    vae = loaded.pipeline.vae
    decode = vae.decode
    final: list[torch.Tensor] = []
    seen: list[Step] = []

    def spy(latents: torch.Tensor, **options: Any) -> Any:
        final.append(latents * vae.config.scaling_factor)
        return decode(latents, **options)

    monkeypatch.setattr(vae, "decode", spy)
    tiny_engine.run(text(scheduler=scheduler, steps=8), on_step=seen.append)
    last = _preview(final[0][0], loaded.to_rgb, (tiny.SIZE, tiny.SIZE), Modality.RGB)
    distances = [np.abs(pixels(step.preview) - pixels(last)).mean() for step in seen if step.preview]
    assert distances[-1] < 0.1 * max(distances[0], 1)


@pytest.mark.parametrize("request_and_image", [(text(steps=20), None), (translation(steps=20), tile())])
def test_stop_stops_within_a_step(tiny_engine: Engine, request_and_image: tuple[Any, Any]) -> None:
    stop = threading.Event()
    seen: list[int] = []

    def on_step(step: Step) -> None:
        seen.append(step.index)
        if step.index == 2:
            stop.set()

    with pytest.raises(Stopped):
        tiny_engine.run(*request_and_image, on_step=on_step, stop=stop)
    assert seen == [1, 2]
    assert tiny_engine.run(text()).image == tiny_engine.run(text()).image


def test_stop_before_the_start_makes_no_step(tiny_engine: Engine) -> None:
    stop = threading.Event()
    seen: list[Step] = []
    stop.set()
    with pytest.raises(Stopped):
        tiny_engine.run(text(), on_step=seen.append, stop=stop)
    assert not seen


def test_stop_ends_the_wait_for_another_run(tiny_engine: Engine) -> None:
    running, go_on, stop = threading.Event(), threading.Event(), threading.Event()
    outcome: list[BaseException] = []

    def hold(_: Step) -> None:
        running.set()
        assert go_on.wait(60)

    def wait() -> None:
        try:
            tiny_engine.run(text(), stop=stop)
        except Stopped as stopped:
            outcome.append(stopped)

    first = threading.Thread(target=tiny_engine.run, args=(text(),), kwargs={"on_step": hold})
    first.start()
    assert running.wait(60)
    second = threading.Thread(target=wait)
    second.start()
    stop.set()
    second.join(20)
    ended, still_running = not second.is_alive(), first.is_alive()
    go_on.set()
    first.join(60)
    assert still_running
    assert ended
    assert len(outcome) == 1


def test_threads_take_turns_and_get_their_own(tiny_engine: Engine) -> None:
    requests: list[tuple[Any, Image.Image | None]] = [(text(seed=i, lora_scale=i / 4), None) for i in range(4)]
    requests += [(translation(key, seed=3), tile()) for key in ("rgb2sar", "rgb2nir")]
    alone = [tiny_engine.run(*request).image for request in requests]
    together: dict[int, Image.Image] = {}

    def run(i: int) -> None:
        together[i] = tiny_engine.run(*requests[i]).image

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [together[i] for i in range(len(requests))] == alone


# ------------------------------------------------------------------------------------------------- batches


def near(a: Image.Image, b: Image.Image) -> bool:
    """Whether pictures differ by no more than rounding in another order does."""
    return psnr(np.asarray(a), np.asarray(b)) > 40


SIX = [text(seed=seed, prompt=Prompt(caption=word)) for seed, word in enumerate("abcdef")]


def test_what_is_alike_is_made_in_one_batch_and_tells_all_steps(
    tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [tiny_engine.run(request) for request in SIX]
    monkeypatch.setattr("mmmrs_demo.engine._BATCH_PIXELS", {"cpu": 4 * tiny.SIZE**2})
    seen, told = looks(tiny_engine, monkeypatch), list[Step]()
    made = tiny_engine.run_all(SIX, on_step=told.append)
    assert seen == [8] * 4 + [4] * 4
    assert [one.details for one in made] == [{"batch": 4}] * 4 + [{"batch": 2}] * 2
    assert [one.request for one in made] == [one.request for one in alone]
    assert all(near(a.image, b.image) for a, b in zip(made, alone, strict=True))
    assert [(step.index, step.total) for step in told] == [(n, 24) for n in (4, 8, 12, 16, 18, 20, 22, 24)]
    assert [step.seconds for step in told] == sorted(step.seconds for step in told)
    assert [one.image for one in tiny_engine.run_all(SIX)] == [one.image for one in made]


def test_what_is_not_alike_is_not_made_together(tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    different: list[dict[str, Any]] = [
        {"steps": 3},
        {"guidance": 2.0},
        {"scheduler": "ddim"},
        {"lora_scale": 0.5},
        {"speed": "draft"},
        {"width": 128},
    ]
    seen = looks(tiny_engine, monkeypatch)
    made = tiny_engine.run_all([text(), *(text(**said) for said in different)])
    assert set(seen) == {2}
    assert [one.details for one in made] == [{}] * len(made)


@pytest.mark.parametrize("key", [None, "rgb2sar"])
def test_those_who_wait_at_the_same_time_share_a_batch_and_may_leave_it(
    tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    def asked(seed: int) -> tuple[Any, Image.Image | None]:
        return (translation(key, seed=seed), tile((90, 90), seed)) if key else (text(seed=seed), None)

    alone = {seed: tiny_engine.run(*asked(seed)) for seed in (1, 2, 3)}
    seen = looks(tiny_engine, monkeypatch)
    running, go_on, stop, begun = (threading.Event() for _ in range(4))
    made: dict[int, Any] = {}

    def hold(_: Step) -> None:
        running.set()
        assert go_on.wait(60)

    def leave(_: Step) -> None:
        begun.set()
        stop.set()

    def make(seed: int, **more: Any) -> None:
        try:
            made[seed] = tiny_engine.run(*asked(seed), **more)
        except Stopped as error:
            made[seed] = error

    more: dict[int, dict[str, Any]] = {0: {"on_step": hold}, 2: {"on_step": leave, "stop": stop}}
    threads = [threading.Thread(target=make, args=(seed,), kwargs=more.get(seed, {})) for seed in range(4)]
    threads[0].start()
    assert running.wait(60)
    for thread in threads[1:]:
        thread.start()
    while len(tiny_engine._together._waiting) < 3:
        assert not begun.wait(0.01)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert seen == [2] * 4 + [6] * 4  # who left is not waited for, and nobody begins anew
    assert isinstance(made[2], Stopped)
    assert made[0].details == {}
    for seed in (1, 3):
        assert made[seed].details == {"batch": 3}
        assert made[seed].request == alone[seed].request
        assert near(made[seed].image, alone[seed].image)


def test_a_batch_that_all_have_left_ends(tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, stop = looks(tiny_engine, monkeypatch), threading.Event()
    with pytest.raises(Stopped):
        tiny_engine.run_all(SIX, on_step=lambda _: stop.set(), stop=stop)
    tiny_engine.run(text(steps=1))
    assert seen == [12, 2]


# ------------------------------------------------------------------------------------------------- sizes and modes


@pytest.mark.parametrize(("width", "height"), [(128, 64), (72, 200), (64, 64)])
def test_text_gives_the_size_asked_for(tiny_engine: Engine, width: int, height: int) -> None:
    made = tiny_engine.run(text(width=width, height=height, steps=1))
    assert (made.image.mode, made.image.size) == ("RGB", (width, height))


def test_text_has_the_bundles_size_by_default(tiny_engine: Engine) -> None:
    assert tiny_engine.run(text(steps=1)).image.size == (tiny.SIZE, tiny.SIZE)


@pytest.mark.parametrize("key", TRANSLATIONS)
@pytest.mark.parametrize("size", [(64, 64), (101, 37), (1, 1), (20, 500)])
def test_translations_give_the_inputs_size(tiny_engine: Engine, key: str, size: tuple[int, int]) -> None:
    made = tiny_engine.run(translation(key, steps=1), tile(size))
    assert (made.image.mode, made.image.size) == (TRANSLATIONS[key].target.mode, size)
    assert made.modality is TRANSLATIONS[key].target


@pytest.mark.parametrize(
    ("size", "inner"),
    [
        ((256, 256), (512, 512)),
        ((4000, 4000), (512, 512)),
        ((300, 200), (640, 448)),
        ((200, 300), (448, 640)),
        ((8000, 1), (1024, 256)),
        ((1, 8000), (256, 1024)),
    ],
)
def test_the_model_works_at_about_its_native_area(size: tuple[int, int], inner: tuple[int, int]) -> None:
    assert _inner_size(size, 512) == inner


def test_the_input_is_read_in_its_modality(tiny_engine: Engine) -> None:
    colour = tile()
    grey = colour.convert("L")
    made = tiny_engine.run(translation("sar2rgb"), colour), tiny_engine.run(translation("sar2rgb"), grey)
    assert made[0].image == made[1].image
    assert made[0].request == made[1].request


def test_another_input_gives_another_picture_and_name(tiny_engine: Engine) -> None:
    a, b = (tiny_engine.run(translation(), tile(seed=seed)) for seed in (0, 1))
    assert differ(a.image, b.image)
    assert isinstance(a.request, TranslationRequest)
    assert isinstance(b.request, TranslationRequest)
    assert a.request.source_sha256 != b.request.source_sha256
    assert differ(a.image, tiny_engine.run(translation(controlnet_scale=0.3), tile()).image)


def test_each_translation_has_its_own_controlnet(tiny_engine: Engine) -> None:
    assert differ(
        tiny_engine.run(translation("rgb2sar"), tile()).image, tiny_engine.run(translation("rgb2nir"), tile()).image
    )


def test_pictures_and_requests_must_go_together(tiny_engine: Engine) -> None:
    with pytest.raises(UserError, match="RGB → SAR needs an input picture"):
        tiny_engine.run(translation())
    with pytest.raises(UserError, match="takes no input picture"):
        tiny_engine.run(text(), tile())


# ------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("bundle", ["tiny", "mini"])
def test_folders_never_lead_to_the_network(
    tiny_weights: Path, bundle: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    engine = engine_on(tiny_weights, bundle)
    assert engine.tokenize(None, "a park")
    engine.load()
    engine.run(text())
    engine.run(translation(), tile())
    assert capfd.readouterr() == ("", "")


def test_a_prompt_beyond_the_models_tokens_is_cut_in_silence(
    tiny_engine: Engine, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    long = Prompt(caption="a park in the city " * 50)
    assert len(tiny_engine.tokenize(None, long.text)) > 77
    longer = Prompt(caption=long.caption + " with snow")
    assert tiny_engine.run(text(prompt=long)).image == tiny_engine.run(text(prompt=longer)).image
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_tokens_need_no_model(tiny_weights: Path) -> None:
    engine = engine_on(tiny_weights)
    assert engine.tokenize("tiny", "A, 2") == ["a</w>", ",</w>", "2</w>"]
    assert not engine._loaded


def test_importing_the_engine_does_not_import_torch() -> None:
    code = "import sys, mmmrs_demo.engine; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("text_encoder", [False, True])
@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_loras_of_the_usual_layouts_do_the_same(
    tiny_weights: Path, own_weights: Path, layout: str, *, text_encoder: bool
) -> None:
    folder = own_weights / "tiny" / "lora"
    shutil.rmtree(folder)
    if layout == "kohya":
        tiny.write_kohya_lora(
            own_weights / "tiny", folder / "mine.safetensors", text_encoder=text_encoder, alpha=tiny.RANK / 2
        )
    else:
        tiny.write_lora(own_weights / "tiny", folder, text_encoder=text_encoder)
    engine = engine_on(own_weights)
    base = engine_on(tiny_weights).run(text(lora_scale=0.0)).image
    made = engine.run(text(lora_scale=1.0 if layout == "kohya" else 0.5)).image  # kohya's alpha is half its rank here
    assert engine.run(text(lora_scale=0.0)).image == base

    other = own_weights / "tiny" / "reference"
    tiny.write_lora(own_weights / "tiny", other, text_encoder=text_encoder)
    (own_weights / "catalog.toml").write_text(tiny.table("tiny", lora="tiny/reference"), encoding="utf-8")
    assert engine_on(own_weights).run(text(lora_scale=0.5)).image == made
    plain = engine_on(tiny_weights).run(text(lora_scale=0.5)).image  # its LoRA has no text-encoder keys
    assert differ(made, plain) == text_encoder


@pytest.mark.parametrize(
    ("gone", "request_and_image", "sentence"),
    [
        ("", (text(), None), "There is no base model for tiny yet: put one at weights/tiny."),
        (
            "lora",
            (text(), None),
            """There is no LoRA for tiny yet: put one at weights/tiny/lora, or train one with `mmmrs-demo train lora`.
            With a LoRA scale of 0 the base model runs without it.""",
        ),
        (
            "controlnet/rgb2sar",
            (translation(), tile()),
            """There is no RGB → SAR ControlNet for tiny yet: put one at weights/tiny/controlnet/rgb2sar,
            or train one with `mmmrs-demo train controlnet rgb2sar`.""",
        ),
    ],
)
def test_what_is_missing_is_named(
    own_weights: Path, gone: str, request_and_image: tuple[Any, Any], sentence: str
) -> None:
    shutil.rmtree(own_weights / "tiny" / gone)
    engine = engine_on(own_weights)
    with pytest.raises(UserError) as caught:
        engine.run(*request_and_image)
    assert str(caught.value) == " ".join(sentence.split())


def test_without_a_lora_the_rest_still_works(own_weights: Path) -> None:
    shutil.rmtree(own_weights / "tiny" / "lora")
    engine = engine_on(own_weights)
    engine.load()
    engine.run(text(lora_scale=0.0))
    engine.run(translation(), tile())


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "base model"),
        ("lora/pytorch_lora_weights.safetensors", "LoRA"),
        ("controlnet/rgb2sar/diffusion_pytorch_model.safetensors", "RGB → SAR ControlNet"),
    ],
)
def test_a_broken_file_is_named_and_breaks_nothing_else(own_weights: Path, file: str, part: str) -> None:
    path = own_weights / "tiny" / file
    path.write_bytes(path.read_bytes()[:1000])
    engine = engine_on(own_weights)
    for _ in range(2):
        with pytest.raises(UserError, match=f"^The {part} of Random weights \\(tiny\\) cannot be loaded from .*tiny"):
            engine.run(*((translation(), tile()) if "controlnet" in file else (text(), None)))
    assert engine.run(text(bundle="mini")).image.size == (tiny.SIZE, tiny.SIZE)
    if part != "base model":
        engine.run(text(lora_scale=0.0))


def test_pickled_weights_are_refused(own_weights: Path) -> None:
    file = own_weights / "tiny" / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        engine_on(own_weights).run(text())


@pytest.mark.filterwarnings("ignore:While injecting the PEFT adapters")
def test_a_lora_that_does_not_fit_in_full_is_refused_and_leaves_the_base_as_it_was(own_weights: Path) -> None:
    engine = engine_on(own_weights)
    base = engine.run(text(lora_scale=0.0)).image
    file = own_weights / "tiny" / "lora" / "pytorch_lora_weights.safetensors"
    good = load_file(file)
    half = [key for key in good if "attn1" in key]
    rest = {key: tensor for key, tensor in good.items() if key not in half}
    bad: list[dict[str, torch.Tensor]] = [
        {key: tensor.repeat_interleave(2, -1) for key, tensor in good.items()},
        {f"transformer.{key}": tensor for key, tensor in good.items()},
        {key.replace("attentions", "elsewhere"): tensor for key, tensor in good.items()},
        {key.replace("up_blocks.1", "up_blocks.7"): tensor for key, tensor in good.items()},
        {f"{key.partition('.lora')[0]}.lora_{'A' if 'down' in key else 'B'}.weight": good[key] for key in half} | rest,
    ]
    for tensors in bad:
        save_file(tensors, file)
        with pytest.raises(UserError, match=r"^The LoRA of Random weights \(tiny\) cannot be loaded from "):
            engine.run(text())
        assert engine.run(text(lora_scale=0.0)).image == base
    save_file(good, file)
    assert differ(engine.run(text()).image, base)


def test_a_controlnet_of_another_model_is_refused(own_weights: Path) -> None:
    shutil.copytree(
        own_weights / "mini" / "controlnet", own_weights / "tiny" / "controlnet", dirs_exist_ok=True
    )  # mini has other latents
    with pytest.raises(UserError, match=r"does not fit Random weights .*: its in channels is 8 instead of 4"):
        engine_on(own_weights).run(translation(), tile())


def test_a_folder_is_read_and_nothing_else_is_asked(tiny_engine: Engine) -> None:
    location = tiny_engine.catalog.locate(tiny_engine.bundle(), "base")
    assert _access(location) == {"local_files_only": True}


def test_the_hub_is_asked_for_the_pinned_commit(own_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def from_pretrained(where: str, **options: Any) -> None:
        asked.update(options, where=where)
        message = "no route to host"
        raise OSError(message)

    monkeypatch.setattr("diffusers.StableDiffusionPipeline.from_pretrained", from_pretrained)
    commit = "c" * 40
    table = tiny.table("far").replace('path = "far"', f'path = "far/base", hub = "someone/sd", revision = "{commit}"')
    (own_weights / "catalog.toml").write_text(table, encoding="utf-8")
    with pytest.raises(UserError, match=r"no route to host\. Without a network, put a copy at weights/far/base\."):
        engine_on(own_weights, "far").run(text())
    assert asked["where"] == "someone/sd"
    assert asked["revision"] == commit
    assert asked["use_safetensors"] is True
    assert "local_files_only" not in asked


# ------------------------------------------------------------------------------------------------- when it fails


def test_no_black_picture_is_returned_for_one_that_could_not_be_computed(tiny_weights: Path) -> None:
    engine = engine_on(tiny_weights)
    engine.load()
    with torch.no_grad():
        engine._loaded["tiny"].pipeline.unet.conv_out.bias.fill_(torch.nan)
    with pytest.raises(UserError, match="no valid picture"):
        engine.run(text(), on_step=lambda _: None)


@pytest.mark.parametrize("key", [None, "rgb2nir"])
@pytest.mark.parametrize("speed", SPEEDS)
def test_a_speed_spares_what_lies_deep_and_is_gone_with_its_run(
    tiny_weights: Path, speed: str, key: str | None
) -> None:
    engine, image, worked = engine_on(tiny_weights), tile() if key else None, list[str]()
    wanted = translation(key, steps=8) if key else text(steps=8)
    usual = engine.run(wanted, image).image
    there = engine._loaded["tiny"]
    for layer in (there.pipeline.unet.mid_block.resnets[0], *(one.conv_in for one in there.controlnets.values())):
        layer.register_forward_pre_hook(lambda layer, _: worked.append(type(layer).__name__))
    made = engine.run(wanted.model_copy(update={"speed": speed}), image)
    each = 8 // SPEEDS[speed].every
    assert len(worked) == (each * 2 if key else each)
    assert differ(made.image, usual) == (speed != "full")
    assert made.request.speed == speed
    assert not differ(engine.run(wanted, image).image, usual)


def test_texts_are_encoded_once_for_each_scale_of_the_lora(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, read = engine_on(tiny_weights), list[int]()
    monkeypatch.setattr(loaded, "_MOST_WORDS", 2)
    engine.load()
    encoder = engine._loaded["tiny"].pipeline.text_encoder
    encoder.register_forward_pre_hook(lambda _, inputs: read.append(len(inputs)))
    first = engine.run(text()).image
    assert len(read) == 2  # what is wanted, and what is not
    assert not differ(engine.run(text()).image, first)
    assert len(read) == 2
    engine.run(text(lora_scale=0.5))
    assert len(read) == 4  # of which two are kept
    engine.run(text())
    assert len(read) == 6


def test_the_weights_unused_longest_make_room(tiny_weights: Path) -> None:
    catalog = Catalog.load(tiny_weights)
    roomy = Engine(catalog, Settings(weights=tiny_weights, bundle="tiny"))
    pictures = {key: roomy.run(translation(key), tile()).image for key in TRANSLATIONS}
    assert list(roomy._loaded["tiny"].controlnets) == list(TRANSLATIONS)
    whole = roomy._loaded["tiny"].bytes
    narrow = Engine(catalog, Settings(weights=tiny_weights, bundle="tiny", max_model_bytes=whole - 1))
    for key in TRANSLATIONS:
        assert not differ(narrow.run(translation(key), tile()).image, pictures[key])
    assert list(narrow._loaded["tiny"].controlnets) == [*TRANSLATIONS][1:]
    narrow.run(translation("rgb2nir"), tile())
    assert not differ(narrow.run(translation("rgb2sar"), tile()).image, pictures["rgb2sar"])
    assert list(narrow._loaded["tiny"].controlnets) == ["nir2rgb", "rgb2nir", "rgb2sar"]
    narrow.run(text(bundle="mini"))
    assert "mini" in narrow._loaded
    assert sum(one.bytes for one in narrow._loaded.values()) < whole
    cramped = Engine(catalog, Settings(weights=tiny_weights, bundle="tiny", max_model_bytes=1))
    cramped.run(text())
    cramped.run(text(bundle="mini"))
    assert list(cramped._loaded) == ["mini"]


def looks(engine: Engine, monkeypatch: pytest.MonkeyPatch, most: int = 99) -> list[int]:
    """Let a look of the UNet at more than so many latents be too much; return the list of how many it looks at."""
    engine.load()
    unet = engine._loaded["tiny"].pipeline.unet
    forward, seen = type(unet).forward, list[int]()

    def limited(latents: torch.Tensor, *args: Any, **more: Any) -> Any:
        seen.append(len(latents))
        if len(latents) > most:
            raise torch.OutOfMemoryError
        return forward(unet, latents, *args, **more)

    monkeypatch.setattr(unet, "forward", limited)
    return seen


def test_too_little_graphics_memory_for_a_batch_is_no_fault(
    tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = looks(tiny_engine, monkeypatch, most=2)
    made = tiny_engine.run_all([text(seed=seed, steps=1) for seed in (1, 2, 3)])
    assert seen == [6, 2, 2, 2]  # guidance looks at each twice
    assert [one.details for one in made] == [{}] * 3
    assert made[1].image == tiny_engine.run(text(seed=2, steps=1)).image


def test_too_little_graphics_memory_is_said(tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    looks(tiny_engine, monkeypatch, most=1)
    with pytest.raises(UserError, match="graphics memory"):
        tiny_engine.run(text())


def test_a_device_that_is_not_there_is_named(tiny_weights: Path) -> None:
    engine = Engine(Catalog.load(tiny_weights), Settings(weights=tiny_weights, bundle="tiny", device="abacus"))
    with pytest.raises(UserError, match="abacus"):
        engine.run(text())


def test_an_unknown_bundle_is_named(tiny_engine: Engine) -> None:
    with pytest.raises(UserError, match="no bundle “sdxl”; choose one of mini, tiny"):
        tiny_engine.run(text(bundle="sdxl"))
