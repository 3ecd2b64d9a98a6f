"""Requests: what is accepted, their one JSON form, and the sentence for what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import TRANSLATIONS, Modality
from mmmrs_demo.prompt import PAPER_PROMPTS, Prompt
from mmmrs_demo.request import (
    MAX_SAMPLES,
    MAX_SEED,
    REQUEST,
    SCHEDULERS,
    Rendering,
    TextRequest,
    TranslationRequest,
    parse_request,
)

pytestmark = pytest.mark.unit

shared = {
    "bundle": st.none() | st.just("mini"),
    "prompt": st.sampled_from(PAPER_PROMPTS),
    "negative_prompt": st.text(max_size=30),
    "steps": st.none() | st.integers(1, 150),
    "guidance": st.none() | st.floats(0, 30),
    "scheduler": st.none() | st.sampled_from(list(SCHEDULERS)),
    "lora_scale": st.none() | st.floats(0, 2),
    "seed": st.none() | st.integers(0, MAX_SEED),
}
sides = st.none() | st.integers(8, 256).map(lambda n: n * 8)
requests = st.one_of(
    st.builds(TextRequest, **shared, width=sides, height=sides),
    st.builds(
        TranslationRequest,
        **shared,
        translation=st.sampled_from(list(TRANSLATIONS)),
        controlnet_scale=st.none() | st.floats(0, 2),
        samples=st.integers(1, MAX_SAMPLES),
        source_sha256=st.none() | st.text("0123456789abcdef", min_size=64, max_size=64),
    ),
)


@given(requests)
def test_json_gives_the_request_back(request: TextRequest | TranslationRequest) -> None:
    assert REQUEST.validate_json(REQUEST.dump_json(request)) == request
    assert parse_request(request.model_dump()) == request
    assert parse_request(json.loads(request.model_dump_json())) == request


def test_a_single_sample_is_not_spoken_of() -> None:
    one, two = (TranslationRequest(translation="rgb2sar", samples=samples) for samples in (1, 2))
    assert "samples" not in one.model_dump_json()
    assert json.loads(two.model_dump_json()) == one.model_dump(mode="json") | {"samples": 2}
    assert parse_request(one.model_dump(mode="json")) == one


def test_requests_are_frozen() -> None:
    request = TextRequest(prompt=Prompt(caption="a park"))
    with pytest.raises(ValidationError):
        request.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"steps": 0}, "Steps should be at least 1, not 0."),
        ({"steps": 151}, "Steps should be at most 150, not 151."),
        ({"seed": 2**63}, f"Seed should be at most {MAX_SEED}, not {2**63}."),
        ({"seed": 2**70}, f"Seed should be at most {MAX_SEED}, not {2**70}."),
        ({"seed": -1}, "Seed should be at least 0, not -1."),
        ({"guidance": float("nan")}, "Guidance should be a finite number, not nan."),
        ({"guidance": 31}, "Guidance should be at most 30, not 31."),
        ({"lora_scale": 3}, "Lora scale should be at most 2, not 3."),
        ({"width": 65}, "Width should be a multiple of 8, not 65."),
        ({"height": 8192}, "Height should be at most 2048, not 8192."),
        ({"width": 8, "height": 16}, "Width should be at least 64, not 8; height should be at least 64, not 16."),
        ({"stepz": 3}, "There is no setting called stepz."),
        ({"prompt": {"captoin": "x"}}, "There is no setting called captoin."),
        ({"scheduler": "pndm"}, f"There is no scheduler “pndm”; choose one of {', '.join(SCHEDULERS)}."),
        (
            {"negative_prompt": "x" * 1001},
            "The negative prompt has 1001 characters; at most 1000 are read, so shorten it.",
        ),
        (
            {"prompt": {"weather": "rain"}},
            "There is no weather “rain”; choose one of snow, fog, night, or leave it out.",
        ),
        ({"kind": "translation"}, "Translation is missing."),
        (
            {"kind": "translation", "translation": "rgb2sar", "samples": 17},
            "Samples should be at most 16, not 17.",
        ),
        (
            {"kind": "translation", "translation": "rgb2sar", "samples": 3, "seed": MAX_SEED - 1},
            f"The seed of 3 samples should be at most {MAX_SEED - 2}, not {MAX_SEED - 1}.",
        ),
        ({"samples": 2}, "There is no setting called samples."),
        (
            {"kind": "translation", "translation": "sar2nir"},
            "There is no translation “sar2nir”; choose one of rgb2sar, rgb2nir, sar2rgb, nir2rgb.",
        ),
        ({"kind": "video"}, "The request names no kind that there is."),
        ({"kind": None}, "The request names no kind that there is."),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_request({"kind": "text"} | said)
    assert str(caught.value) == sentence


def test_words_make_one_picture_and_the_json_does_not_say_so() -> None:
    assert TextRequest().samples == 1
    assert "samples" not in TextRequest().model_dump()
    assert "samples" not in TextRequest.model_json_schema()["properties"]


def test_a_request_says_its_kind() -> None:
    with pytest.raises(UserError, match="names no kind"):
        parse_request({"steps": 3})


def test_a_long_wrong_value_is_not_repeated_in_full() -> None:
    with pytest.raises(UserError) as caught:
        parse_request({"kind": "text", "steps": "x" * 500})
    assert len(str(caught.value)) < 150


def test_the_limit_of_steps_comes_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMMRS_MAX_STEPS", "7")
    assert TextRequest(steps=7).steps == 7
    with pytest.raises(UserError, match="at most 7"):
        parse_request({"kind": "text", "steps": 8})


def test_the_negative_prompt_is_tidied() -> None:
    assert TextRequest(negative_prompt=" blurry\n , , clouds, ").negative_prompt == "blurry, clouds"


def test_the_json_of_a_rendering_is_everything_but_the_picture() -> None:
    rendering = Rendering(
        image=Image.new("L", (8, 8)),
        request=TranslationRequest(translation="rgb2sar", seed=1),
        modality=Modality.SAR,
        seconds=1.5,
        model={"bundle": "mini"},
        versions={"torch": "2"},
        created="2026-01-01T00:00:00+00:00",
    )
    told = json.loads(rendering.model_dump_json())
    assert "image" not in told
    assert told["synthetic"] is True
    assert parse_request(told["request"]) == rendering.request
