"""The table of modalities and translations."""

from __future__ import annotations

import pytest

from mmmrs_demo.modality import TRANSLATIONS, Modality
from mmmrs_demo.prompt import PAPER_PROMPTS, Prompt

pytestmark = pytest.mark.unit


def test_the_four_translations_in_their_order() -> None:
    assert list(TRANSLATIONS) == ["rgb2sar", "rgb2nir", "sar2rgb", "nir2rgb"]
    assert [t.title for t in TRANSLATIONS.values()] == ["RGB → SAR", "RGB → NIR", "SAR → RGB", "NIR → RGB"]


def test_each_translation_leads_from_or_to_rgb() -> None:
    for key, translation in TRANSLATIONS.items():
        assert key == f"{translation.source}2{translation.target}"
        assert (translation.source is Modality.RGB) != (translation.target is Modality.RGB)


def test_defaults_are_the_papers_prompts() -> None:
    prompts = tuple(Prompt(gsd=t.gsd, caption=t.caption, satellite=t.satellite) for t in TRANSLATIONS.values())
    assert set(prompts) == set(PAPER_PROMPTS[-4:])


def test_the_satellite_is_that_of_the_input() -> None:
    satellites = {key: translation.satellite for key, translation in TRANSLATIONS.items()}
    assert satellites == {"rgb2sar": "Sentinel-2", "rgb2nir": "GF1", "sar2rgb": "Sentinel-1", "nir2rgb": "GF1"}


def test_modes_and_labels() -> None:
    assert {m: (m.mode, m.label) for m in Modality} == {"rgb": ("RGB", "RGB"), "sar": ("L", "SAR"), "nir": ("L", "NIR")}
