"""The embedded bundle's text half: a small CLIP tokenizer with its own vocabulary, and a small CLIP text encoder."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mmmrs_demo.dataset import captions
from mmmrs_demo.dataset.tiles import SCENES_BY_CAPTION, SOURCES, TOWN
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import GSD_LEVELS, MAX_TOKENS, PAPER_PROMPTS, SATELLITES, WEATHERS

VOCABULARY = 1024
HIDDEN = 160


def _corpus() -> Iterator[str]:
    """Every phrase that training or the paper can put into a prompt."""
    openings = captions.OPENINGS + captions.NIR_OPENINGS + captions.SAR_OPENINGS
    scenes = (
        {s for source in SOURCES.values() for s in source.scenes}
        | {s for _, words in SCENES_BY_CAPTION for s in words}
        | set(TOWN)
    )
    patterns = captions.LEAFY + captions.BUILT + captions.WATERY + captions.BARE
    for opening, scene in itertools.product(openings, sorted(scenes)):
        yield opening.format(scene)
    yield from (pattern.format("a town") for pattern in patterns)
    yield from (f"{level.words}, {weather}, " for level, weather in itertools.product(GSD_LEVELS, WEATHERS))
    yield from SATELLITES
    yield from (prompt.text for prompt in PAPER_PROMPTS)
    yield from (translation.caption for translation in TRANSLATIONS.values())


def build_tokenizer() -> CLIPTokenizer:
    """Return a CLIP tokenizer that knows the words of this project's captions and spells any other text."""
    byte_level = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    byte_level.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        min_frequency=1,
        show_progress=False,
    )
    byte_level.train_from_iterator((text.lower() for text in _corpus()), trainer)
    merges = [tuple(pair) for pair in json.loads(byte_level.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    tokens += [joined for pair in merges if (joined := "".join(pair)) not in set(tokens)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, model_max_length=MAX_TOKENS)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained text encoder of three layers for `tokenizer`."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            intermediate_size=4 * HIDDEN,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
