"""The embedded bundle's text half: a small CLIP tokenizer with its own vocabulary, and a small CLIP text encoder.

As in Stable Diffusion the encoder is finished before the UNet starts, and frozen from then on. Learned together with a
UNet it would come to tell apart only what the UNet's captions need, and be deaf to the words that a LoRA teaches later.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mmmrs_demo.dataset import captions
from mmmrs_demo.dataset.tiles import SCENES_BY_CAPTION, SOURCES, TOWN
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import GSD_LEVELS, MAX_TOKENS, PAPER_PROMPTS, SATELLITES, WEATHERS
from mmmrs_demo.training.loop import Plan, Share, Stage

VOCABULARY = 1024
HIDDEN = 160


def _corpus() -> Iterator[str]:
    """Every phrase that training or the paper can put into a prompt."""
    openings = [opening for modality in captions.PLAIN.values() for opening in modality]
    scenes = (
        {s for source in SOURCES.values() for s in source.scenes}
        | {s for _, words in SCENES_BY_CAPTION for s in words}
        | set(TOWN)
    )
    patterns = captions.LEAFY + captions.BUILT + captions.WATERY + captions.BARE
    said = (*patterns, *captions.WEATHERS.values(), *captions.DISTANCES.values())
    for opening, scene in itertools.product(openings, sorted(scenes)):
        yield opening.format(scene)
    yield from (pattern.format("a town") for pattern in said)
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


def train(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, folder: Path, plan: Plan) -> None:
    """Train the encoder until each position tells its own token and, as one sum, all that stand before it; freeze it.

    Every token has a direction drawn at random, so that no word outshines another. Half of the texts are phrases of
    the corpus strung together, the others tokens at random, so that words are told apart in any company.
    """
    corpus = [tokenizer(text, add_special_tokens=False).input_ids for text in sorted(set(_corpus()))]
    words = sorted({token for phrase in corpus for token in phrase})
    directions = torch.randn(len(tokenizer), HIDDEN, generator=torch.Generator().manual_seed(0)).to(encoder.device)

    def text(rng: np.random.Generator) -> list[int]:
        if rng.random() < 0.5:
            chosen = rng.integers(len(corpus), size=rng.integers(0, 4))
            tokens = [token for i in chosen for token in corpus[i]]
        else:
            tokens = [int(token) for token in rng.choice(words, rng.integers(0, 24))]
        tokens = [tokenizer.bos_token_id, *tokens[: MAX_TOKENS - 2], tokenizer.eos_token_id]
        return tokens + [tokenizer.pad_token_id] * (MAX_TOKENS - len(tokens))

    def loss(_: int, rng: np.random.Generator, share: Share) -> torch.Tensor:
        tokens = torch.tensor(share.of([text(rng) for _ in range(plan.batch)]), device=encoder.device)
        own = directions[tokens]
        said = (tokens != tokenizer.bos_token_id) & (tokens != tokenizer.eos_token_id)
        before = functional.layer_norm((own * said[..., None]).cumsum(1), (HIDDEN,))
        target = functional.layer_norm(own + before, (HIDDEN,))
        return functional.mse_loss(encoder(tokens)[0], target)

    Stage("text", folder, {"encoder": encoder}, plan).train(loss)
    encoder.requires_grad_(requires_grad=False)
    encoder.eval()
