"""The catalog: what it holds, where things lie, and what is said of those that are missing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mmmrs_demo.catalog import Bundle, Catalog
from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.request import SCHEDULERS, TextRequest, TranslationRequest, parse_request
from mmmrs_demo.settings import Settings

pytestmark = pytest.mark.unit

COMMIT = "0123456789" * 4
TABLE = {
    "key": "b",
    "title": "B",
    "summary": "S.",
    "licence": "L",
    "card": "b/README.md",
    "size": 256,
    "base": {"path": "b", "hub": "someone/base", "revision": COMMIT},
    "lora": {"path": "b/lora"},
    "controlnets": {"rgb2sar": {"path": "b/rgb2sar"}, "sar2rgb": {"hub": "someone/net", "revision": COMMIT}},
    "defaults": {"steps": 20, "guidance": 4.0, "scheduler": "ddim"},
}


def bundle(**changes: Any) -> Bundle:
    return Bundle.model_validate(TABLE | changes)


def catalog(weights: Path) -> Catalog:
    return Catalog(weights, {"b": bundle()})


def write(file: Path, size: int = 10) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x" * size)


@pytest.fixture(scope="module")
def shipped() -> Catalog:
    return Catalog.load(Settings.model_fields["weights"].default)


def test_the_shipped_catalog_has_both_bundles(shipped: Catalog) -> None:
    assert list(shipped.bundles) == ["mini", "sd15"]
    for own in shipped.bundles.values():
        assert list(own.controlnets) == list(TRANSLATIONS)
        assert own.lora
        assert own.defaults.scheduler in SCHEDULERS
    sizes = {key: (own.size, own.defaults.steps, own.defaults.guidance) for key, own in shipped.bundles.items()}
    assert sizes == {"mini": (256, 20, 4.0), "sd15": (512, 30, 7.5)}


def test_an_unknown_bundle_is_answered_with_those_there_are(shipped: Catalog) -> None:
    with pytest.raises(UserError, match=r"no bundle “sdxl”; choose one of mini, sd15\."):
        shipped.bundle("sdxl")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"base": {"path": "../elsewhere"}}, "without “..”"),
        ({"base": {"path": "/etc"}}, "relative to the folder of weights"),
        ({"base": {}}, "needs a path or the id"),
        ({"base": {"hub": "someone/base"}}, "pinned to"),
        ({"base": {"hub": "someone/base", "revision": "main"}}, "Revision should match pattern"),
        ({"controlnets": {"sar2nir": {"path": "x"}}}, "no translation “sar2nir”"),
        ({"colour": "red"}, "no setting called colour"),
        ({"size": 250}, "multiple of 64"),
    ],
)
def test_a_catalog_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    table = {key: value for key, value in (TABLE | changes).items() if key != "key"}
    lines = [f"{key} = {_inline(value)}" for key, value in table.items()]
    (tmp_path / "catalog.toml").write_text("\n".join(["[b]", *lines]), encoding="utf-8")
    with pytest.raises(UserError, match="cannot be used") as caught:
        Catalog.load(tmp_path)
    assert sentence in str(caught.value)


def test_a_missing_or_broken_catalog_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no catalog of weights"):
        Catalog.load(tmp_path)
    (tmp_path / "catalog.toml").write_text("[b", encoding="utf-8")
    with pytest.raises(UserError, match="no valid TOML"):
        Catalog.load(tmp_path)


def test_a_folder_wins_over_the_hub(tmp_path: Path) -> None:
    assert catalog(tmp_path).locate(bundle(), "base").kind == "hub"
    write(tmp_path / "b" / "model_index.json")
    location = catalog(tmp_path).locate(bundle(), "base")
    assert (location.kind, location.where) == ("folder", str(tmp_path / "b"))


def test_an_empty_folder_is_no_part(tmp_path: Path) -> None:
    for folder in ("b/lora", "b/rgb2sar"):
        (tmp_path / folder).mkdir(parents=True)
    assert {catalog(tmp_path).locate(bundle(), part).kind for part in ("lora", "rgb2sar")} == {"missing"}


def test_the_hub_is_named_with_its_commit(tmp_path: Path) -> None:
    location = catalog(tmp_path).locate(bundle(), "sar2rgb")
    assert (location.kind, location.where) == ("hub", "someone/net")
    assert catalog(tmp_path).fingerprint(location) == f"someone/net@{COMMIT}"


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path) -> None:
    hints = {part: catalog(tmp_path).locate(bundle(), part).hint for part in ("rgb2sar", "lora", "rgb2nir")}
    name = tmp_path.name
    assert hints == {
        "rgb2sar": f"There is no RGB → SAR ControlNet for b yet: put one at {name}/b/rgb2sar, "
        "or train one with `mmmrs-demo train controlnet rgb2sar`.",
        "lora": f"There is no LoRA for b yet: put one at {name}/b/lora, or train one with `mmmrs-demo train lora`.",
        "rgb2nir": f"There is no RGB → NIR ControlNet for b yet: name one in {name}/catalog.toml.",
    }


@pytest.mark.parametrize(
    ("files", "named", "found"),
    [
        (["pytorch_lora_weights.safetensors"], None, "pytorch_lora_weights.safetensors"),
        (["mmmrs.safetensors"], None, "mmmrs.safetensors"),
        (["a.safetensors", "pytorch_lora_weights.safetensors"], None, "pytorch_lora_weights.safetensors"),
        (["a.safetensors", "b.safetensors"], "b.safetensors", "b.safetensors"),
        (["a.safetensors"], "b.safetensors", None),
        (["pytorch_lora_weights.bin"], None, None),
    ],
)
def test_which_file_is_the_lora(tmp_path: Path, files: list[str], named: str | None, found: str | None) -> None:
    for file in files:
        write(tmp_path / "b" / "lora" / file)
    location = catalog(tmp_path).locate(bundle(lora={"path": "b/lora", "weight_name": named}), "lora")
    assert location.where == (str(tmp_path / "b" / "lora" / found) if found else "")


def test_several_loras_need_a_choice(tmp_path: Path) -> None:
    for file in ("a.safetensors", "b.safetensors"):
        write(tmp_path / "b" / "lora" / file)
    with pytest.raises(UserError, match="several LoRAs"):
        catalog(tmp_path).locate(bundle(), "lora")


def test_a_fingerprint_follows_what_is_loaded_and_nothing_else(tmp_path: Path) -> None:
    def fingerprint() -> str | None:
        return catalog(tmp_path).fingerprint(catalog(tmp_path).locate(bundle(), "base"))

    write(tmp_path / "b" / "model_index.json")
    write(tmp_path / "b" / "unet" / "diffusion_pytorch_model.safetensors")
    first = fingerprint()
    assert first
    assert first.startswith("b sha256:")
    for other in ("README.md", "lora/x.safetensors", "controlnet/rgb2sar/x.safetensors", "unet/x.fp16.safetensors"):
        write(tmp_path / "b" / other)
    assert fingerprint() == first
    write(tmp_path / "b" / "unet" / "diffusion_pytorch_model.safetensors", 11)
    assert fingerprint() != first


def test_status_tells_of_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    write(tmp_path / "b" / "model_index.json")
    write(tmp_path / "b" / "unet" / "diffusion_pytorch_model-00001-of-00002.safetensors", 100)
    write(tmp_path / "b" / "vae" / "config.json", 20)
    write(tmp_path / "b" / "lora" / "kohya.safetensors", 30)
    rows = {row.part: row for row in catalog(tmp_path).status(bundle())}
    assert {part: (row.present, row.bytes, row.where, bool(row.hint)) for part, row in rows.items()} == {
        "base model": (True, 120, "b", False),
        "LoRA": (True, 30, "b/lora", False),
        "RGB → SAR ControlNet": (False, 0, "b/rgb2sar", True),
        "RGB → NIR ControlNet": (False, 0, "", True),
        "SAR → RGB ControlNet": (False, 0, f"someone/net@{COMMIT}", False),
        "NIR → RGB ControlNet": (False, 0, "", True),
    }


def test_status_knows_what_the_hub_has_given_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub" / "models--someone--net" / "snapshots" / COMMIT
    write(snapshot / "config.json", 7)
    write(snapshot / "diffusion_pytorch_model.safetensors", 50)
    row = next(row for row in catalog(tmp_path).status(bundle()) if row.part == "SAR → RGB ControlNet")
    assert (row.present, row.bytes) == (True, 57)


def test_a_text_request_is_completed() -> None:
    request = bundle().complete(TextRequest())
    told = request.model_dump()
    assert told.pop("seed") in range(2**32)
    assert told == TextRequest(
        bundle="b", steps=20, guidance=4.0, scheduler="ddim", lora_scale=1.0, width=256, height=256
    ).model_dump(exclude={"seed"})
    assert parse_request(request.model_dump()) == request


def test_a_translation_request_is_completed() -> None:
    request = bundle().complete(TranslationRequest(translation="rgb2sar", seed=5))
    assert request == TranslationRequest(
        translation="rgb2sar",
        bundle="b",
        steps=20,
        guidance=4.0,
        scheduler="ddim",
        lora_scale=0.0,
        controlnet_scale=1.0,
        seed=5,
    )


def test_translations_may_have_defaults_of_their_own() -> None:
    other = {"translations": {"rgb2sar": {"steps": 9, "guidance": 0.0, "scheduler": "euler-a"}}}
    own = bundle(defaults=TABLE["defaults"] | other)  # type: ignore[operator]
    request = own.complete(TranslationRequest(translation="rgb2sar"))
    assert (request.steps, request.guidance, request.scheduler) == (9, 0.0, "euler-a")
    for usual in (own.complete(TextRequest()), own.complete(TranslationRequest(translation="sar2rgb"))):
        assert (usual.steps, usual.guidance, usual.scheduler) == (20, 4.0, "ddim")


def test_what_was_said_stays() -> None:
    said = TextRequest(
        bundle="b", steps=3, guidance=0.0, scheduler="euler", lora_scale=0.0, seed=0, width=64, height=128
    )
    assert bundle().complete(said) == said


def test_one_side_is_enough_and_a_bundle_without_lora_uses_none() -> None:
    request = bundle(lora=None).complete(TextRequest(height=128))
    assert (request.width, request.height, request.lora_scale) == (128, 128, 0.0)


def test_seeds_are_drawn_anew() -> None:
    assert len({bundle().complete(TextRequest()).seed for _ in range(20)}) > 15


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def test_the_folder_of_weights_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "MMMRS_WEIGHTS", str(tmp_path))
    assert Settings().weights == tmp_path
