"""The four-part prompt: what it says, how it is read back, and what does not fit."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mmmrs_demo.errors import UserError
from mmmrs_demo.prompt import (
    GSD_LEVELS,
    MAX_TOKENS,
    PAPER_PROMPTS,
    SATELLITES,
    WEATHERS,
    Prompt,
    clean,
    level_of,
    overflow,
    parse,
)

pytestmark = pytest.mark.unit

LEVEL_WORDS = {level.key: level.words for level in GSD_LEVELS}
# Captions that come close to the vocabulary find more than random letters do.
PIECES = [*WEATHERS, *SATELLITES, *LEVEL_WORDS.values(), "a park", "1,000 houses", "Snow", "é", "🛰️", "", " ", ",", "\n"]
captions = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=6).flatmap(
        lambda pieces: st.sampled_from([", ", ",", " ", " , "]).map(lambda glue: glue.join(pieces))
    ),
)
parts = st.fixed_dictionaries(
    {},
    optional={
        "gsd": st.sampled_from([None, "", *LEVEL_WORDS]),
        "weather": st.sampled_from([None, "", *WEATHERS]),
        "caption": captions,
        "satellite": st.sampled_from([None, "", *SATELLITES]),
    },
)


@given(parts)
def test_every_prompt_is_read_back_as_it_was(said: dict[str, Any]) -> None:
    prompt = Prompt(**said)
    assert parse(prompt.text) == prompt
    assert Prompt(**prompt.model_dump()) == prompt


@given(parts)
def test_the_text_is_the_parts_in_order(said: dict[str, Any]) -> None:
    words = LEVEL_WORDS.get(said.get("gsd") or "")
    told = (words, said.get("weather"), clean(said.get("caption") or ""), said.get("satellite"))
    assert Prompt(**said).text == ", ".join(part for part in told if part)


@given(captions)
def test_any_text_can_be_read_and_says_the_same(text: str) -> None:
    assert parse(text).text == clean(text)


def test_the_papers_example() -> None:
    prompt = Prompt(gsd="high", weather="snow", caption="a satellite image shows a park", satellite="Google Earth")
    assert prompt.text == "High precision resolution, snow, a satellite image shows a park, Google Earth"
    assert prompt.level is GSD_LEVELS[1]


def test_every_prompt_printed_in_the_paper_has_its_parts() -> None:
    assert len(PAPER_PROMPTS) == 12
    for prompt in PAPER_PROMPTS:
        assert prompt.gsd
        assert prompt.satellite
        assert prompt.caption.startswith("a satellite image ")
    assert [prompt.weather for prompt in PAPER_PROMPTS if prompt.weather] == ["snow", "fog", "night"]


def test_a_whole_prompt_in_the_caption_is_taken_apart() -> None:
    prompt = Prompt(caption="High precision resolution, fog, a river, 2 bridges, GF1")
    assert prompt == Prompt(gsd="high", weather="fog", caption="a river, 2 bridges", satellite="GF1")


def test_a_part_that_was_chosen_stays_beside_the_captions_own_words() -> None:
    prompt = Prompt(gsd="low", weather="fog", caption="snow, GF2", satellite="GF1")
    assert (prompt.weather, prompt.caption, prompt.satellite) == ("fog", "snow, GF2", "GF1")


@pytest.mark.parametrize(
    ("raw", "tidy"),
    [
        ("  a \t park\r\n in\x00the city ", "a park in the city"),
        ("a park , , trees,", "a park, trees"),
        (", a park", "a park"),
        ("1,000 houses", "1,000 houses"),
        ("\ud800 half an emoji", "half an emoji"),
        ("家 🛰️", "家 🛰️"),
        (" ,, ", ""),
    ],
)
def test_captions_are_tidied(raw: str, tidy: str) -> None:
    assert Prompt(caption=raw).caption == tidy


@pytest.mark.parametrize(
    "said", [{"gsd": "medium"}, {"weather": "rain"}, {"satellite": "Landsat"}, {"gsd": 3}, {"words": "x"}]
)
def test_unknown_words_are_refused(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Prompt(**said)


def test_a_caption_that_is_too_long_is_refused_with_its_length() -> None:
    with pytest.raises(UserError, match="5000 characters; at most 1000"):
        parse("x" * 5000)


def test_the_limit_of_a_caption_comes_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMMRS_MAX_CAPTION", "3")
    assert parse("abc").caption == "abc"
    with pytest.raises(UserError):
        parse("abcd")


@pytest.mark.parametrize(
    ("metres", "key"),
    [
        (0.01, "ultra-high"),
        (0.4999, "ultra-high"),
        (0.5, "high"),
        (0.9999, "high"),
        (1, "ordinary"),
        (4.9999, "ordinary"),
        (5, "low"),
        (10, "low"),
        (10.001, "ultra-low"),
        (100, "ultra-low"),
        (1e9, "ultra-low"),
    ],
)
def test_metres_give_the_papers_level(metres: float, key: str) -> None:
    assert level_of(metres).key == key


@pytest.mark.parametrize("metres", [0, -1, math.nan, math.inf, -math.inf])
def test_what_is_no_ground_sample_distance_is_refused(metres: float) -> None:
    with pytest.raises(UserError, match="positive number of metres"):
        level_of(metres)


def test_the_levels_leave_no_gap() -> None:
    assert (GSD_LEVELS[0].lower_m, GSD_LEVELS[-1].upper_m) == (0, math.inf)
    for finer, coarser in itertools.pairwise(GSD_LEVELS):
        assert finer.upper_m == coarser.lower_m


def test_a_prompt_that_fits_overflows_nothing() -> None:
    assert overflow("a " * (MAX_TOKENS - 2), str.split) is None
    assert overflow("", str.split) is None


def test_overflow_names_what_is_lost() -> None:
    text = " ".join([*["w"] * (MAX_TOKENS - 2), "Google", "Earth"])
    sentence = overflow(text, str.split)
    assert sentence
    assert "“Google Earth”" in sentence


@given(st.lists(st.text("ab", min_size=1, max_size=9), min_size=1, max_size=60))
def test_what_is_kept_fits_and_one_word_more_would_not(words: list[str]) -> None:
    text = " ".join(words)
    sentence = overflow(text, list)
    if len(text) <= MAX_TOKENS - 2:
        assert sentence is None
        return
    assert sentence
    lost = sentence.partition("“")[2].removesuffix("”.").removeprefix("… ")
    assert text.endswith(lost)
    if "…" not in sentence:
        kept = text.removesuffix(lost).rstrip()
        assert len(kept) <= MAX_TOKENS - 2 < len(f"{kept} {lost.split()[0]}")


def test_overflow_shows_the_end_of_a_long_rest() -> None:
    sentence = overflow("word " * 500 + "Sentinel-2", list)
    assert sentence
    assert sentence.endswith("Sentinel-2”.")
    assert len(sentence) < 250
