"""A data set is cut, standardised, composed and written as the paper says, and a stopped build goes on."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import rasterio
import torch
import transformers
from onnx import TensorProto, helper
from PIL import Image
from rasterio.transform import Affine
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from mmmrs_demo.cli import main
from mmmrs_demo.dataset import build as building
from mmmrs_demo.dataset.build import Options, Progress, build
from mmmrs_demo.dataset.captioner import believable, load_blip2, recaption
from mmmrs_demo.dataset.manifest import Manifest
from mmmrs_demo.dataset.pictures import opened
from mmmrs_demo.dataset.scenes import load_translator
from mmmrs_demo.dataset.sheet import write_sheet
from mmmrs_demo.dataset.standardise import Cut, cuts, empty, load_upscaler, pyramid, resize
from mmmrs_demo.errors import UserError
from mmmrs_demo.prompt import parse
from tests.unit.test_dataset import towns, write_index

pytestmark = pytest.mark.unit


def test_a_large_picture_gives_every_whole_square_at_its_own_gsd() -> None:
    found = cuts(1100, 1540, 0.5, 512)
    assert [(c.x, c.y) for c in found] == [(x, y) for y in (0, 512, 1024) for x in (0, 512)]
    assert {(c.side, c.gsd) for c in found} == {(512, 0.5)}


@pytest.mark.parametrize(("width", "height"), [(256, 256), (900, 256), (256, 511)])
def test_a_small_picture_gives_its_centre_square_at_a_finer_gsd(width: int, height: int) -> None:
    assert cuts(width, height, 10.0, 512) == [Cut((width - 256) // 2, (height - 256) // 2, 256, 5.0)]


def test_the_pyramid_of_the_papers_example() -> None:
    levels = pyramid(5000, 5000, 0.3, 512, np.random.default_rng(0))
    assert [c.side for c in levels] == [4096, 2048, 1024, 512]
    assert [c.gsd for c in levels] == pytest.approx([2.4, 1.2, 0.6, 0.3])
    for outer, inner in itertools.pairwise(levels):
        assert outer.x <= inner.x <= inner.x + inner.side <= outer.x + outer.side
        assert outer.y <= inner.y <= inner.y + inner.side <= outer.y + outer.side
    assert pyramid(1000, 5000, 0.3, 512, np.random.default_rng(0)) == []


def test_what_is_too_small_goes_through_the_upscaler_and_what_is_too_large_does_not() -> None:
    def white(image: np.ndarray) -> np.ndarray:
        return np.full((2 * image.shape[0], 2 * image.shape[1], 3), 255, np.uint8)

    grey = np.zeros((40, 40), np.uint8)
    assert resize(grey, 128, white).shape == (128, 128)
    assert resize(grey, 128, white).min() == 255
    assert resize(grey, 128, None).max() == 0
    assert resize(grey, 32, white).max() == 0
    assert resize(grey, 40, white) is grey


def test_only_a_collar_counts_as_empty() -> None:
    scene = np.random.default_rng(0).integers(1, 255, (64, 64, 3), np.uint8)
    assert not empty(scene)
    scene[:56] = 0
    assert empty(scene)


def test_super_resolution_weights_are_checked(tmp_path: Path) -> None:
    pickle, nothing = tmp_path / "RealESRGAN_x2plus.pth", tmp_path / "x.safetensors"
    pickle.write_bytes(b"")
    save_file({}, nothing)
    with pytest.raises(UserError, match="no safetensors file"):
        load_upscaler(pickle)
    with pytest.raises(UserError, match="no super-resolution network"):
        load_upscaler(nothing)


def test_super_resolution_weights_double_a_picture(tmp_path: Path) -> None:
    from spandrel.architectures.ESRGAN import ESRGAN

    network = ESRGAN(in_nc=12, out_nc=3, num_filters=8, num_blocks=1, scale=4, shuffle_factor=2)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "x2.safetensors")
    doubled = load_upscaler(tmp_path / "x2.safetensors")(np.zeros((20, 24, 3), np.uint8))
    assert doubled.shape == (40, 48, 3)
    assert doubled.dtype == np.uint8


def write_tiff(file: Path, bands: np.ndarray) -> Path:
    count, height, width = bands.shape
    kind = {"driver": "GTiff", "photometric": "MINISBLACK", "transform": Affine.scale(2.0, -2.0)}
    with rasterio.open(file, "w", count=count, height=height, width=width, dtype=bands.dtype, **kind) as target:
        target.write(bands)
    return file


def test_bands_of_a_tiff_are_read_by_number_and_in_windows(tmp_path: Path) -> None:
    bands = np.random.default_rng(0).integers(0, 255, (4, 60, 80), np.uint8)
    with opened(write_tiff(tmp_path / "a.tif", bands), (4,)) as near_infrared:
        assert (near_infrared.width, near_infrared.height) == (80, 60)
        assert (near_infrared.read(Cut(10, 20, 30, 1.0)) == bands[3, 20:50, 10:40]).all()
    with opened(tmp_path / "a.tif", (3, 2, 1)) as colours:
        assert (colours.read(Cut(0, 0, 60, 1.0)) == bands[[2, 1, 0], :, :60].transpose(1, 2, 0)).all()
    with pytest.raises(UserError, match="has 4 bands; band 5 was wanted"), opened(tmp_path / "a.tif", (5,)):
        pass


def test_sixteen_bits_become_eight_by_their_own_range(tmp_path: Path) -> None:
    deep = np.linspace(1000, 3000, 64 * 64).reshape(1, 64, 64).astype(np.uint16)
    with opened(write_tiff(tmp_path / "deep.tif", deep)) as source:
        shown = source.read(Cut(0, 0, 64, 1.0))
    assert shown.dtype == np.uint8
    assert shown.min() == 0
    assert shown.max() == 255
    assert abs(float(shown.mean()) - 127.5) < 3


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve pairs of RGB and NIR of 100 px; one RGB picture is cut off in the middle."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    write_index(folder, towns(12), side=100)
    broken = sorted(folder.rglob("*_rgb.png"))[3]
    broken.write_bytes(broken.read_bytes()[:2000])
    return folder


OPTIONS = Options(size=64, weather=0.5)


def built(data: Path, out: Path, options: Options = OPTIONS) -> list[Progress]:
    told: list[Progress] = []
    build({"index": data}, out, options, workers=1, report=told.append)
    return told


def test_every_tile_says_all_that_is_known_of_it(data: Path, tmp_path: Path) -> None:
    (last,) = built(data, tmp_path / "out")
    manifest = Manifest(tmp_path / "out")
    rows = list(manifest.rows())
    assert (last.done, last.total, last.tiles, last.skipped) == (12, 12, len(rows), 1)
    assert [entry.source for entry in manifest.skipped()] == ["naip_urban_trees"]
    clear = [row for row in rows if row["weather"] is None]
    drawn = [row for row in rows if row["weather"] is not None]
    assert sorted(row["modality"] for row in clear) == ["nir"] * 11 + ["rgb"] * 11
    assert drawn
    assert {row["weather_by"] for row in drawn} == {"synthesis"}
    for row in rows:
        prompt = parse(row["prompt"])
        assert (prompt.gsd, prompt.weather, prompt.caption, prompt.satellite) == (
            row["gsd_level"],
            row["weather"],
            row["caption"],
            row["satellite"],
        )
        image = Image.open(io.BytesIO(row["image"]["bytes"]))
        assert image.size == (64, 64)
        assert image.mode == ("RGB" if row["modality"] == "rgb" else "L")
        assert row["resampling"] == "none"
        assert row["licence"] == "CC-BY-4.0"
    pairs = {row["pair"] for row in clear}
    assert len(pairs) == 11
    assert all({r["modality"] for r in clear if r["pair"] == pair} == {"rgb", "nir"} for pair in pairs)
    for place in {row["place"] for row in rows}:
        assert len({row["split"] for row in rows if row["place"] == place}) == 1


def test_a_build_that_is_run_again_makes_nothing_twice(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    built(data, out)
    before = {shard: shard.stat().st_mtime_ns for shard in Manifest(out).shards}
    (again,) = built(data, out)
    assert {shard: shard.stat().st_mtime_ns for shard in Manifest(out).shards} == before
    assert again.rate == 0


def test_a_killed_build_keeps_whole_shards_and_ends_with_the_same_tiles(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "SHARD_PICTURES", 4)
    built(data, tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(_: Progress) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        build({"index": data}, tmp_path / "cut", OPTIONS, workers=1, report=kill)
    left = len(list((tmp_path / "cut").glob("*.parquet")))
    assert 1 <= left <= 3
    (tmp_path / "cut" / "index-0000.part").write_bytes(b"half a shard")
    built(data, tmp_path / "cut")
    sums = [[row["sha256"] for row in Manifest(tmp_path / name).rows(["sha256"])] for name in ("whole", "cut")]
    assert sums[0] == sums[1]
    assert len(Manifest(tmp_path / "cut").shards) == 3


def test_a_picture_that_was_mended_is_read_again(data: Path, tmp_path: Path) -> None:
    built(data, tmp_path / "out")
    for file in data.rglob("*_rgb.png"):
        Image.fromarray(np.random.default_rng(0).integers(1, 255, (100, 100, 3), np.uint8)).save(file)
        os.utime(file)
    (last,) = built(data, tmp_path / "out")
    assert last.skipped == 0
    assert len(Manifest(tmp_path / "out").shards) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: built(folder / "tiles", folder / "out", Options(size=72)), "built with size 64"),
        (lambda folder: built(folder / "tiles", folder / "new", Options(size=65)), "multiple of 8"),
        (lambda folder: built(folder / "tiles", folder / "new", Options(size=64, weather=2)), "between 0 and 1"),
        (lambda folder: built(folder / "tiles", folder / "new", Options(upscale="x2.pth")), "choose --upscale bicubic"),
        (lambda folder: Manifest(folder / "tiles"), "holds no data set"),
    ],
)
def test_what_cannot_be_done_is_said(
    data: Path, tmp_path: Path, change: Callable[[Path], object], sentence: str
) -> None:
    built(data, tmp_path / "out")
    with pytest.raises(UserError, match=sentence):
        change(tmp_path)


def write_translator(file: Path, channels: int = 3) -> Path:
    """A network that inverts a picture."""
    shape: list[str | int | None] = [1, channels, "height", "width"]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("clear", "snowy")]
    graph = helper.make_graph([helper.make_node("Neg", ["clear"], ["snowy"])], "invert", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), file)
    return file


def test_a_learned_translator_draws_its_weather(data: Path, tmp_path: Path) -> None:
    file = str(write_translator(tmp_path / "invert.onnx"))
    built(data, tmp_path / "out", Options(size=64, weather=1.0, translators=(("snow", file),)))
    rows = [row for row in Manifest(tmp_path / "out").rows() if row["modality"] == "rgb"]
    pixels = {row["pair"]: pixels_of(row) for row in rows if row["weather"] is None}
    snowy = [row for row in rows if row["weather"] == "snow"]
    assert snowy
    for row in snowy:
        assert row["weather_by"] == "invert.onnx"
        assert np.abs(pixels_of(row) + pixels[row["pair"]] - 255).max() <= 1
    assert {row["weather_by"] for row in rows if row["weather"] in ("fog", "night")} == {"synthesis"}


def pixels_of(row: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])), int)


def test_a_translator_is_checked(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(UserError, match="is no ONNX network"):
        load_translator(tmp_path / "x.onnx")
    with pytest.raises(UserError, match="takes one RGB picture"):
        load_translator(write_translator(tmp_path / "grey.onnx", channels=1))


def describe(images: list[Image.Image]) -> list[str]:
    assert {image.mode for image in images} == {"RGB"}
    return [f"an aerial photo,, of  a harbour at {np.asarray(image).mean():.2f}" for image in images]


def test_a_model_describes_each_piece_of_ground_once(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    built(data, out)
    before = list(Manifest(out).rows())
    recaption(out, describe, "blip2", lambda *_: None)
    rows = list(Manifest(out).rows())
    assert [row["sha256"] for row in rows] == [row["sha256"] for row in before]
    assert Manifest(out).skipped()
    colours = {row["pair"] for row in rows if row["modality"] == "rgb"}
    for row, old in zip(rows, before, strict=True):
        if row["pair"] in colours:
            assert row["caption"].startswith("an aerial photo, of a harbour at ")
            assert row["prompt"] == old["prompt"].replace(old["caption"], row["caption"])
    for pair in colours:
        assert len({row["caption"] for row in rows if row["pair"] == pair}) == 1


def write_blip2(folder: Path) -> Path:
    """Write a BLIP-2 of random weights that knows nine words."""
    words = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "a", "satellite", "image", "town"]
    level = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))  # noqa: S106
    level.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=level, additional_special_tokens=["<image>"], **names
    )
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = transformers.Blip2VisionConfig(**small, intermediate_size=16, image_size=32, patch_size=16)
    text = {"vocab_size": len(words), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    asking = transformers.Blip2QFormerConfig(
        **small, vocab_size=len(words), intermediate_size=16, encoder_hidden_size=16
    )
    telling = transformers.OPTConfig(**small, **text, ffn_dim=16, word_embed_proj_dim=16, max_position_embeddings=128)
    parts = {"vision_config": vision, "qformer_config": asking, "text_config": telling}
    config = transformers.Blip2Config(
        **{name: part.to_dict() for name, part in parts.items()}, num_query_tokens=4, image_token_index=4
    )
    torch.manual_seed(0)
    transformers.Blip2ForConditionalGeneration(config).save_pretrained(folder)
    seeing = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    transformers.Blip2Processor(seeing, tokenizer, num_query_tokens=4).save_pretrained(folder)
    return folder


def test_blip2_is_loaded_and_read_by(tmp_path: Path) -> None:
    told = load_blip2(write_blip2(tmp_path))([Image.new("RGB", (64, 64), colour) for colour in ("green", "red")])
    assert len(told) == 2
    assert all(set(caption.split()) <= {"a", "satellite", "image", "town"} for caption in told)


def test_what_is_no_blip2_is_said(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="holds no BLIP-2 with safetensors weights"):
        load_blip2(tmp_path)


def test_what_a_model_has_described_is_not_described_again(data: Path, tmp_path: Path) -> None:
    built(data, tmp_path / "out")
    recaption(tmp_path / "out", describe, "blip2", lambda *_: None)

    def never(_: list[Image.Image]) -> list[str]:
        raise AssertionError

    recaption(tmp_path / "out", never, "blip2", lambda *_: None)
    with pytest.raises(AssertionError):
        recaption(tmp_path / "out", never, "another", lambda *_: None)


@pytest.mark.parametrize(
    ("caption", "category", "believed"),
    [
        ("a satellite image shows two airports", "airport", True),
        ("buses in a city", "bus station", True),
        ("a satellite image shows a forest", "airport", False),
        ("anything", None, True),
        ("", None, False),
    ],
)
def test_a_caption_is_checked_against_the_category(caption: str, category: str | None, *, believed: bool) -> None:
    assert believable(caption, category) is believed


def test_the_sheet_shows_every_kind_and_needs_no_other_file(data: Path, tmp_path: Path) -> None:
    built(data, tmp_path / "out")
    write_sheet(Manifest(tmp_path / "out"), tmp_path / "sheet.html")
    page = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == sum(1 for _ in Manifest(tmp_path / "out").rows(["pair"]))
    assert 'src="http' not in page
    assert "High precision resolution" in page


def test_the_command_builds_counts_and_shows(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    words = ["--source", f"index={data}", "--upscale", "bicubic", "--size", "64", "--workers", "1", "--out", out]
    assert main(["dataset", "build", *words]) == 0
    told = capsys.readouterr()
    assert "modality: rgb" in told.out
    assert "skipped naip_urban_trees" in told.out
    assert "12 of 12 pictures" in told.err
    assert main(["dataset", "sheet", out]) == 0
    assert (tmp_path / "out/contact-sheet.html").is_file()
    assert main(["dataset", "build", "--source", "inria", "--upscale", "bicubic", "--out", out]) == 2
    assert "write it like inria=" in capsys.readouterr().err
