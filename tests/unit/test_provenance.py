"""What goes into a PNG comes out of it again, and nothing that is put there by others does harm."""

from __future__ import annotations

import contextlib
import json
import re
import struct
import time
import warnings
import zlib
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rasterio.io import MemoryFile

from mmmrs_demo.cli import main
from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import Modality
from mmmrs_demo.prompt import PAPER_PROMPTS, Prompt
from mmmrs_demo.provenance import (
    KEYWORD,
    SOFTWARE,
    embed,
    file_name,
    find,
    parameters,
    parse_parameters,
    read,
    save_png,
    settings_kept,
    tiff_tags,
)
from mmmrs_demo.request import SCHEDULERS, Rendering, TextRequest, TranslationRequest
from tests import rasters
from tests.instant import InstantEngine

TEXT = TextRequest(
    bundle="mini",
    prompt=Prompt(gsd="high", weather="snow", caption="a park in the city, 公园, 🛰, café", satellite="Google Earth"),
    negative_prompt="clouds: many, and haze",
    steps=20,
    guidance=7.5,
    scheduler="euler-a",
    lora_scale=1.0,
    seed=2**63 - 1,
    width=64,
    height=96,
)
TRANSLATION = TranslationRequest(
    bundle="mini",
    translation="rgb2sar",
    prompt=PAPER_PROMPTS[8],
    steps=30,
    guidance=5.0,
    scheduler="dpm++2m-karras",
    lora_scale=0.0,
    controlnet_scale=1.25,
    seed=7,
    source_sha256="0" * 64,
)


def rendering(request: TextRequest | TranslationRequest = TEXT, **changes: Any) -> Rendering:
    modality = Modality.RGB if isinstance(request, TextRequest) else Modality.SAR
    values = np.arange(96 * 64 * len(modality.mode)).reshape(96, 64, -1).squeeze() % 256
    facts: dict[str, Any] = {
        "image": Image.fromarray(values.astype(np.uint8)),
        "request": request,
        "modality": modality,
        "seconds": 1.5,
        "model": {"bundle": "mini", "title": "Mini", "base": "mini sha256:0123456789abcdef"},
        "versions": {"torch": "2.15.0"},
        "created": "2026-11-21T04:05:06+00:00",
    }
    return Rendering(**(facts | changes))


def saved(picture: Rendering) -> bytes:
    file = BytesIO()
    save_png(picture, file)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def carrying(*chunks: bytes) -> bytes:
    """A PNG with chunks put right after its header."""
    file = BytesIO()
    Image.new("L", (40, 40)).save(file, "PNG")
    data = file.getvalue()
    return data[:33] + b"".join(chunks) + data[33:]


def refusal(data: bytes | Path, name: str | None = "park.png") -> str:
    with pytest.raises(UserError) as caught:
        read(data, name)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("request_", [TEXT, TRANSLATION], ids=["text", "translation"])
def test_a_saved_picture_gives_back_its_request(request_: TextRequest | TranslationRequest, tmp_path: Path) -> None:
    picture = rendering(request_)
    file = tmp_path / "park.png"
    save_png(picture, file)
    for source in (file, str(file), file.read_bytes()):
        found = read(source)
        assert found.request == request_
        assert found.modality is picture.modality
        assert (found.model, found.versions, found.synthetic) == (picture.model, picture.versions, True)
        assert found.created == datetime(2026, 11, 21, 4, 5, 6, tzinfo=UTC)
    with Image.open(file) as again:
        assert again.mode == picture.modality.mode
        assert again.tobytes() == picture.image.tobytes()


@given(
    st.text(max_size=200),
    st.text(max_size=200),
    st.integers(0, 2**63 - 1),
    st.floats(0, 30) | st.integers(0, 30),
)
def test_any_words_survive(caption: str, negative: str, seed: int, guidance: float) -> None:
    request = TEXT.model_copy(
        update={
            "prompt": Prompt(caption=caption),
            "negative_prompt": TextRequest(negative_prompt=negative).negative_prompt,
            "seed": seed,
            "guidance": float(guidance),
        }
    )
    assert read(saved(rendering(request))).request == request


def test_one_rendering_gives_the_same_bytes_and_only_the_time_differs() -> None:
    once = rendering()
    assert saved(once) == saved(rendering(seconds=99.0))
    later = embed(rendering(created="2026-11-21T04:05:07+00:00"))
    differing = {key for key, text in embed(once).items() if later[key] != text}
    assert differing == {KEYWORD}
    assert later[KEYWORD].replace("05:07", "05:06") == embed(once)[KEYWORD]


def test_chunks_say_what_they_should_in_every_reader() -> None:
    with Image.open(BytesIO(saved(rendering()))) as picture:
        text = picture.info
    assert text["Software"].startswith("MMM-RS Demo ")
    assert text["Description"].startswith("Synthetic RGB image")
    assert text[KEYWORD].isascii()
    assert json.loads(text[KEYWORD])["synthetic"] is True
    assert json.loads(text[KEYWORD])["request"]["prompt"]["caption"] == TEXT.prompt.caption
    assert "公园" in text["parameters"]


def as_other_programs_read(parameters: str) -> tuple[str, str, dict[str, str]]:
    """The common way to read this form: the last line is settings, the line before may be a negative prompt."""
    *lines, last = parameters.strip().split("\n")
    prompt, negative, within_negative = "", "", False
    for line in lines:
        if line.startswith("Negative prompt:"):
            within_negative = True
            negative = line.removeprefix("Negative prompt:").strip()
        elif within_negative:
            negative += "\n" + line
        else:
            prompt += line
    found = re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', last)
    return prompt, negative, {key: json.loads(value) if value.startswith('"') else value for key, value in found}


def test_parameters_as_other_programs_read_them() -> None:
    prompt, negative, settings = as_other_programs_read(embed(rendering())["parameters"])
    assert prompt == TEXT.prompt.text
    assert negative == "clouds: many, and haze"
    assert settings == {
        "Steps": "20",
        "Sampler": "Euler a",
        "CFG scale": "7.5",
        "Seed": str(2**63 - 1),
        "Size": "64x96",
        "Model": "mini",
        "LoRA scale": "1",
        "Version": embed(rendering())["Software"],
    }
    odd = TRANSLATION.model_copy(update={"bundle": 'my "own", v2: best'})
    prompt, negative, settings = as_other_programs_read(embed(rendering(odd))["parameters"])
    assert (prompt, negative) == (TRANSLATION.prompt.text, "")
    assert settings["Model"] == 'my "own", v2: best'
    assert (settings["Translation"], settings["ControlNet scale"]) == ("rgb2sar", "1.25")
    assert (settings["Sampler"], settings["CFG scale"]) == ("DPM++ 2M Karras", "5")


words = st.text(max_size=80) | st.lists(
    st.sampled_from(["a park", "1,000 houses", '"', ":", ", ", "\\", "\n", "公园", "Steps: 5, Seed: 3", "fog", "GF2"])
).map("".join)
settings_of_all: dict[str, Any] = {
    "bundle": st.text(
        st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "), min_size=1, max_size=20
    ),
    "negative_prompt": words,
    "steps": st.integers(1, 150),
    "guidance": st.floats(0, 30),
    "scheduler": st.sampled_from(list(SCHEDULERS)),
    "lora_scale": st.floats(0, 2),
    "seed": st.integers(0, 2**63 - 20),
}
sides = st.integers(8, 256).map(lambda eighths: eighths * 8)
requests = st.builds(
    TextRequest, prompt=st.builds(Prompt, caption=words), width=sides, height=sides, **settings_of_all
) | st.builds(
    TranslationRequest,
    prompt=st.builds(Prompt, caption=words, gsd=st.sampled_from(["low", None])),
    translation=st.sampled_from(["rgb2sar", "nir2rgb"]),
    controlnet_scale=st.floats(0, 2),
    samples=st.integers(1, 16),
    **settings_of_all,
)


@given(requests)
def test_text_gives_back_its_request_and_the_request_its_text(request: TextRequest | TranslationRequest) -> None:
    assume(not request.prompt.text.startswith("Negative prompt:"))  # which no program could tell from a negative one
    text = parameters(request, (640, 480) if isinstance(request, TranslationRequest) else None)
    found = parse_parameters(text)
    assert (found.request, found.problems) == (request, ())
    assert parameters(found.request, (640, 480) if isinstance(request, TranslationRequest) else None) == text


FOREIGN = """a harbour, (ships:1.2),
at dawn
Negative prompt: blurry, low quality
text
Steps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 12, Size: 512x768, Model hash: 6ce0161689, \
Model: v1-5-pruned, Hires prompt: "more: ships, \\"many\\"", Version: v1.10.1"""


def test_text_of_other_programs() -> None:
    found = parse_parameters(FOREIGN)
    assert found.problems == ()
    assert found.request == TextRequest(
        bundle="v1-5-pruned",
        prompt=Prompt(caption="a harbour, (ships:1.2), at dawn"),
        negative_prompt="blurry, low quality text",
        steps=30,
        guidance=7.0,
        scheduler="dpm++2m-karras",
        seed=12,
        width=512,
        height=768,
    )
    assert parse_parameters("  a whole\nprompt, GF2 ").request == TextRequest(
        prompt=Prompt(caption="a whole prompt, GF2")
    )
    assert parse_parameters("Negative prompt: haze\nSteps: 4").request == TextRequest(negative_prompt="haze", steps=4)


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("Sampler: Euler a", "euler-a"),
        ("Sampler: euler_ancestral", "euler-a"),
        ("Sampler: Euler a, Schedule type: Automatic", "euler-a"),
        ("Sampler: DPM++ 2M Karras", "dpm++2m-karras"),
        ("Sampler: UniPC", "unipc"),
        ("Sampler: DPM++ 2M", None),
        ("Sampler: Euler, Schedule type: Karras", None),
        ("Sampler: <b>LMS</b>", None),
    ],
)
def test_samplers_of_other_programs(said: str, key: str | None) -> None:
    found = parse_parameters(f"a park\nSteps: 20, {said}, Seed: 1")
    assert (found.request.scheduler, found.request.steps, found.request.seed) == (key, 20, 1)
    assert [problem.startswith("There is no scheduler “") for problem in found.problems] == [True] * (key is None)


@pytest.mark.parametrize(
    ("line", "field", "says"),
    [
        ("Steps: 9999, Seed: 5", "steps", "at most 150"),
        ("Steps: 20, Seed: -1", "seed", "Seed should be"),
        ("Steps: 20, CFG scale: high, Seed: 5", "guidance", "Guidance should be"),
        ("Steps: 20, Size: 4096x512, Seed: 5", "width", "Width should be at most 2048"),
        ("Steps: 20, Size: 500x512, Seed: 5", "width", "multiple of 8"),
    ],
)
def test_what_cannot_be_used_is_left_out_and_said(line: str, field: str, says: str) -> None:
    found = parse_parameters(f"a park\n{line}")
    assert getattr(found.request, field) is None
    assert found.request.prompt.caption == "a park"
    assert says in " ".join(found.problems)
    facts = json.loads(embed(rendering())[KEYWORD])
    facts["request"][field] = "no"
    found = find(carrying(chunk(b"tEXt", KEYWORD.encode() + b"\0" + json.dumps(facts).encode())))
    assert found.request == TEXT.model_copy(update={field: None})
    assert len(found.problems) == 1


@pytest.mark.parametrize("text", ["", " \n ", "x" * 2_000_000, "a park\nSteps: 4, Translation: rgb2xray"])
def test_text_that_cannot_be_used(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_parameters(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("piece", ["a", " ", ",", '"', 'a:"', 'a:"b\\",', "Steps: 1,", "\n", "Steps: 1\n"])
def test_long_lines_are_read_in_no_time(piece: str) -> None:
    began = time.monotonic()
    with contextlib.suppress(UserError):
        parse_parameters("Steps: 1, " + piece * (900_000 // len(piece)))
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("request_", [TEXT, TRANSLATION], ids=["text", "translation"])
def test_settings_are_found_in_what_was_made_here(request_: TextRequest | TranslationRequest) -> None:
    picture = rendering(request_, details={"bands": [4, 3, 2]})
    for data in (saved(picture), tiff(tiff_tags(picture))):
        found = find(data)
        assert (found.request, found.problems, found.details) == (request_, (), {"bands": [4, 3, 2]})


def test_settings_are_found_in_a_picture_with_nothing_but_their_text() -> None:
    file = BytesIO()
    info = PngInfo()
    info.add_text("parameters", FOREIGN)
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    assert find(file.getvalue()) == parse_parameters(FOREIGN)


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b"[" * 100_000, b'{"request": {"kind": "video"}}'])
def test_settings_that_cannot_be_used(body: bytes) -> None:
    with pytest.raises(UserError, match=r"“park\.png” carries cannot be used"):
        find(carrying(chunk(b"tEXt", KEYWORD.encode() + b"\0" + body)), "park.png")


def test_pictures_without_settings() -> None:
    for data in (carrying(), tiff({})):
        with pytest.raises(UserError, match=r"“park\.png” carries no settings"):
            find(data, "park.png")
    with pytest.raises(UserError, match="is not a PNG or TIFF"):
        find(b"words")


def test_without_settings_a_file_says_that_it_is_synthetic_and_no_more() -> None:
    with settings_kept(kept=False):
        chunks, tags, data = embed(rendering()), tiff_tags(rendering()), saved(rendering())
    mark = "Synthetic RGB image: made by a model, not observed by a satellite."
    assert chunks == {"Description": mark, "synthetic": "true"}
    assert tags == {"TIFFTAG_IMAGEDESCRIPTION": mark, "synthetic": "true"}
    with Image.open(BytesIO(data)) as picture, Image.open(BytesIO(saved(rendering()))) as whole:
        assert picture.info == chunks
        assert picture.tobytes() == whole.tobytes()
    assert "carries no request" in refusal(data)
    assert KEYWORD in embed(rendering())


def test_the_command_line_can_leave_settings_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = tmp_path / "catalog"
    catalog.mkdir()

    def run(*said: str | Path) -> int:
        return main([*map(str, said), "--seed", "7"], lambda *_: InstantEngine(catalog))  # type: ignore[arg-type] # it is never asked for tokens

    raster = rasters.write(tmp_path / "in.tif", rasters.pattern(3, 64, 64, high=255).astype(np.uint8))
    assert run("generate", "a secret harbour", "--no-metadata", "--out", tmp_path / "bare.png") == 0
    assert run("translate", "rgb2nir", raster, "--no-metadata", "--out", tmp_path / "bare.tif") == 0
    assert run("translate", "rgb2nir", raster, "--out", tmp_path / "whole.tif") == 0
    with rasterio.open(tmp_path / "bare.tif") as bare, rasterio.open(tmp_path / "whole.tif") as whole:
        assert np.array_equal(bare.read(), whole.read())
        assert not [name for name in bare.tags() if name.startswith(KEYWORD) or "SOFTWARE" in name]
        assert bare.tags()["synthetic"] == "true"
    for file in ("bare.png", "bare.tif"):
        content = (tmp_path / file).read_bytes()
        assert b"synthetic" in content
        for said in (b"secret", b"Seed", b"mini", SOFTWARE.encode()):
            assert said not in content
    assert (
        run("translate", "rgb2nir", raster, "--no-metadata", "--reference", raster, "--out", tmp_path / "no.tif") == 2
    )
    assert "--no-metadata" in capsys.readouterr().err


def test_every_kind_of_text_chunk_is_read_before_and_after_the_pixels() -> None:
    text = embed(rendering())[KEYWORD]
    plain = json.dumps(json.loads(text), ensure_ascii=False).encode()
    mark = KEYWORD.encode() + b"\0"
    chunks = (
        chunk(b"tEXt", mark + text.encode()),
        chunk(b"zTXt", mark + b"\0" + zlib.compress(text.encode())),
        chunk(b"iTXt", mark + b"\0\0\0\0" + plain),
        chunk(b"iTXt", mark + b"\1\0en\0provenance\0" + zlib.compress(plain)),
    )
    for one in chunks:
        assert read(carrying(one)).request == TEXT
    end = carrying()[-12:]
    assert read(carrying().removesuffix(end) + chunks[0] + end).request == TEXT


def test_pictures_resaved_by_pillow_keep_their_request() -> None:
    with Image.open(BytesIO(saved(rendering()))) as picture:
        info = PngInfo()
        for key in embed(rendering()):
            info.add_text(key, str(picture.info[key]))
        file = BytesIO()
        picture.resize((20, 20)).save(file, "PNG", pnginfo=info)
    assert read(file.getvalue()).request == TEXT


def test_a_request_is_found_in_half_a_picture() -> None:
    data = saved(rendering())
    assert read(data[: data.index(b"IDAT") + 50]).request == TEXT


def test_none_there(tmp_path: Path) -> None:
    assert "“park.png” carries no request" in refusal(carrying())
    assert "carries no request" in refusal(carrying(chunk(b"tEXt", b"parameters\0a park")))
    for data in (b"", b"\xff\xd8\xff\xe0", b"words"):
        assert "“park.png” is not a PNG or TIFF" in refusal(data)
    assert "no file “gone.png”" in refusal(tmp_path / "gone.png", name=None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[" * 100_000,
        b'{"request": {}}',
        "{}".encode("utf-16"),
        json.dumps({"model": {"a" * 70_000: 1}}).encode(),
    ],
)
def test_damaged_ones(body: bytes) -> None:
    sentence = refusal(carrying(chunk(b"tEXt", KEYWORD.encode() + b"\0" + body)))
    assert "The request that “park.png” carries cannot be used" in sentence
    assert len(sentence) < 600


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("request", "steps"), 100_000, "at most 150"),
        (("request", "kind"), "video", "kind"),
        (("request", "trust_remote_code"), True, "no setting called trust remote code"),
        (("request", "seed"), -1, "eed"),
        (("request", "guidance"), "NaN", "uidance"),
        (("request", "prompt", "weather"), "rain", "no weather “rain”"),
        (("synthetic",), False, "ynthetic"),
        (("created",), "<b>yesterday</b>", "reated"),
    ],
)
def test_what_it_says_is_validated(path: tuple[str, ...], value: object, says: str) -> None:
    facts = json.loads(embed(rendering())[KEYWORD])
    place = facts
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert says in refusal(carrying(chunk(b"tEXt", KEYWORD.encode() + b"\0" + json.dumps(facts).encode())))


def test_facts_of_later_versions_are_ignored() -> None:
    facts = json.loads(embed(rendering())[KEYWORD]) | {"scene": {"tiles": 12}}
    assert read(carrying(chunk(b"tEXt", KEYWORD.encode() + b"\0" + json.dumps(facts).encode()))).request == TEXT


@pytest.mark.parametrize(
    ("kind", "head"), [(b"tEXt", b""), (b"zTXt", b"\0"), (b"iTXt", b"\1\0\0\0"), (b"iTXt", b"\0\0\0\0")]
)
def test_bombs_are_not_unpacked(kind: bytes, head: bytes) -> None:
    packed = head == b"\0" or head.startswith(b"\1")
    body = zlib.compress(bytes(300_000_000), 9) if packed else b" " * 3_000_000
    began = time.monotonic()
    assert "over the limit" in refusal(carrying(chunk(kind, KEYWORD.encode() + b"\0" + head + body)))
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"zTXt", b"\0not packed"),
        (b"zTXt", b""),
        (b"iTXt", b""),
        (b"iTXt", b"\0\0no end of the language"),
        (b"iTXt", b"\0\0\0\0\xff\xfe"),
        (b"iTXt", b"\1\0\0\0\xff\xfe"),
    ],
)
def test_broken_chunks(kind: bytes, body: bytes) -> None:
    assert "damaged" in refusal(carrying(chunk(kind, KEYWORD.encode() + b"\0" + body)))


def test_chunks_that_lie_about_their_length() -> None:
    huge = struct.pack(">I", 0x7FFFFFFF) + b"tEXt"
    assert "carries no request" in refusal(carrying(huge + b"Comment\0"))
    assert "over the limit" in refusal(carrying(huge + KEYWORD.encode() + b"\0"))


def tiff(tags: dict[str, str], **options: Any) -> bytes:
    with warnings.catch_warnings(action="ignore"), MemoryFile() as file:
        with file.open(driver="GTiff", width=40, height=40, count=1, dtype="uint8", **options) as dataset:
            dataset.update_tags(**tags)
            dataset.update_tags(1, mmmrs="of a band")
        return bytes(file.read())


@pytest.mark.parametrize(
    "options", [{}, {"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}, {"BIGTIFF": "YES", "ENDIANNESS": "BIG"}]
)
@pytest.mark.parametrize("request_", [TEXT, TRANSLATION], ids=["text", "translation"])
def test_a_tiff_gives_back_its_request(request_: TextRequest | TranslationRequest, options: dict[str, str]) -> None:
    picture = rendering(request_)
    tags = tiff_tags(picture)
    assert tags[KEYWORD] == embed(picture)[KEYWORD]
    found = read(tiff(tags, **options))
    assert (found.request, found.modality, found.synthetic) == (request_, picture.modality, True)
    assert read(tiff(tiff_tags(found), **options)) == found


def test_tags_say_what_they_should_in_every_reader() -> None:
    tags = tiff_tags(rendering())
    assert tags["TIFFTAG_SOFTWARE"].startswith("MMM-RS Demo ")
    assert tags["TIFFTAG_IMAGEDESCRIPTION"].startswith("Synthetic RGB image")
    assert (tags["TIFFTAG_DATETIME"], tags["synthetic"]) == ("2026:11:21 04:05:06", "true")


def test_tiffs_that_say_nothing_or_too_much() -> None:
    assert "carries no request" in refusal(tiff({}))
    assert "carries no request" in refusal(tiff({"other": "<Item name='mmmrs'>{}</Item>"}))
    assert "cannot be used" in refusal(tiff({KEYWORD: "{}"}))
    assert "over the limit" in refusal(tiff({KEYWORD: "x" * 2_000_000}))
    assert "over the limit" in refusal(tiff({"other": "x" * 5_000_000, KEYWORD: "{}"}))


def test_broken_tiffs_give_a_sentence_or_a_request() -> None:
    data = tiff(tiff_tags(rendering()))
    dice = np.random.default_rng(7)
    broken = [data[:length] for length in range(4, len(data), 97)]
    for _ in range(300):
        flipped = bytearray(data)
        for _ in range(dice.integers(1, 7)):
            flipped[dice.integers(4, min(600, len(flipped)))] = dice.integers(256)
        broken.append(bytes(flipped))
    for file in broken:
        try:
            assert read(file).synthetic
        except UserError as error:
            assert "picture" in str(error)  # noqa: PT017 - either outcome is right
    assert "damaged or cut short" in refusal(data[:6])


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (TEXT, "mmmrs_a-park-in-the-city-公园-café_high_snow_google-earth_seed-9223372036854775807.png"),
        (TRANSLATION, "mmmrs_rgb2sar_some-roads-in-farmland_low_sentinel-2_seed-7.png"),
        (TextRequest(), "mmmrs.png"),
        (TextRequest(prompt=Prompt(caption="../../etc/passwd\0 CON: <b>|?*")), "mmmrs_etc-passwd-con-b.png"),
    ],
)
def test_file_names(request_: TextRequest | TranslationRequest, name: str) -> None:
    assert file_name(request_) == name
    assert file_name(request_, ".tif") == name.replace(".png", ".tif")


@given(st.text(max_size=300) | st.sampled_from(["公" * 300, "a" * 300, "𠀀" * 300]))
def test_file_names_are_safe(caption: str) -> None:
    name = file_name(TRANSLATION.model_copy(update={"prompt": Prompt(caption=caption, gsd="ultra-high")}))
    assert len(name.encode()) <= 255
    assert name == Path(name).name
    assert not set(name) & set('/\\:*?"<>| \0\n')
    assert name.isprintable()
