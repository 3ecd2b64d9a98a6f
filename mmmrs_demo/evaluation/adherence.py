"""Whether a picture shows what its prompt says: a small classifier that learns the prompt's words from real tiles.

It sees pixels only and never resizes them, for the ground sample distance must be judged from texture. What it cannot
tell apart on real tiles it cannot judge on generated ones either, so its figures on held-out tiles stand beside.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mmmrs_demo.dataset.samples import TURNS, turned
from mmmrs_demo.errors import UserError
from mmmrs_demo.training.loop import Plan, Share, Stage

Row = Mapping[str, Any]
"""What is known of a tile: a row of `dataset.samples.Samples`."""

SCENES = {
    "town": ("town", "city", "residential", "houses", "buildings", "street", "streets", "industrial", "commercial"),
    "farmland": ("farmland", "field", "fields", "rural", "countryside", "pasture"),
    "forest": ("forest", "rainforest", "jungle", "woodland", "woods", "trees"),
    "water": ("water", "river", "sea", "coast", "lake", "lakes", "lagoon", "delta", "ponds", "tidal", "wetlands"),
    "mountain": ("mountain", "mountains", "hills", "glaciers"),
    "dry land": ("desert", "dry", "savanna", "grassland", "bare"),
}
"""Kinds of scene by the words of a caption that name them; a caption that names several kinds counts for none."""

CLEAR = "clear"
"""What the weather is called where the prompt leaves it out."""


def scene(caption: str) -> str | None:
    """Return the one kind of scene that a caption names; None where it names none, or several."""
    words = set(re.findall(r"[a-z]+", caption.lower()))
    named = [kind for kind, telling in SCENES.items() if words & set(telling)]
    return named[0] if len(named) == 1 else None


class Head(NamedTuple):
    """One thing that a prompt says."""

    title: str
    said: Callable[[Row], str | None]


HEADS = {
    "gsd": Head("GSD level", lambda row: row["gsd_level"]),
    "weather": Head("weather", lambda row: row["weather"] or CLEAR),
    "satellite": Head("satellite", lambda row: row["satellite"]),
    "scene": Head("kind of scene", lambda row: scene(row["caption"])),
}
"""What is judged, by name in a report."""

Classes = Mapping[str, Sequence[str]]
"""The classes of each head; what is said beside them is not judged."""

LEARNT_FROM, TESTED_ON = 40, 8
"""Tiles that a class needs for training and for the test; a class with fewer is left out."""

PLAN = Plan(1_500, 32, 2e-3, warmup=50, ema=0.99)
CROP = 128
"""Side in pixels of the crops that the classifier learns from."""

_WIDTHS = (32, 64, 96, 128)
_GROUPS = 8
_AT_ONCE = 16  # pictures, or turns of two, seen side by side


def choose_classes(train: Iterable[Row], test: Iterable[Row]) -> dict[str, tuple[str, ...]]:
    """Return the classes of each head of which there are enough tiles in both splits; a head needs two of them.

    Raises:
        UserError: No head has two.
    """
    splits = [(list(rows), enough) for rows, enough in ((train, LEARNT_FROM), (test, TESTED_ON))]
    found = {}
    for name, head in HEADS.items():
        counts = [(Counter(head.said(row) for row in rows), enough) for rows, enough in splits]
        said = (word for word in counts[0][0] if word is not None)
        found[name] = tuple(sorted(word for word in said if all(count[word] >= enough for count, enough in counts)))
    kept = {name: words for name, words in found.items() if len(words) > 1}
    if not kept:
        raise UserError(
            "The data set is too small to judge pictures by: of two GSD levels, weathers, satellites or kinds of "
            f"scene it needs {LEARNT_FROM} tiles for training and {TESTED_ON} for the test each."
        )
    return kept


class Classifier(nn.Module):
    """A small residual network; it sees levels, which tell night, and their pattern, which night does not hide."""

    def __init__(self, classes: Classes) -> None:
        super().__init__()
        self.stem = nn.Conv2d(6, _WIDTHS[0], 5, stride=2, padding=2)
        self.blocks = nn.Sequential(*(_Block(a, b) for a, b in pairwise((_WIDTHS[0], *_WIDTHS))))
        self.heads = nn.ModuleDict({name: nn.Linear(2 * _WIDTHS[-1], len(words)) for name, words in classes.items()})

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return features of shape (pictures, 256): mean and deviation over the picture of each channel.

        Args:
            pictures: uint8 of shape (pictures, side, side, 3).
        """
        levels = pictures.permute(0, 3, 1, 2).float() / 64 - 2
        pattern = functional.layer_norm(levels, levels.shape[1:])
        both = torch.cat([levels, pattern], dim=1).contiguous(memory_format=torch.channels_last)
        local = functional.relu(self.blocks(self.stem(both)))
        return torch.cat([local.mean((2, 3)), local.var((2, 3)).add(1e-6).sqrt()], dim=1)


class _Block(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.GroupNorm(_GROUPS, channels),
            nn.ReLU(),
            nn.Conv2d(channels, out, 3, stride=2, padding=1),
            nn.GroupNorm(_GROUPS, out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1),
        )
        self.skip = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels, out, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.skip(x) + self.branch(x)


class Seen(NamedTuple):
    """What the classifier makes of pictures.

    Attributes:
        features: Shape (pictures, turns, 256), float32.
        words: Of each head the class that each picture is taken for.
    """

    features: np.ndarray
    words: dict[str, list[str]]


class Judge:
    """A trained classifier."""

    def __init__(self, net: Classifier, classes: Classes) -> None:
        self.net = net.eval()
        self.classes = classes

    @torch.inference_mode()
    def see(self, pictures: Iterable[np.ndarray], turns: int = TURNS) -> Seen:
        """Look at pictures of any size, uint8 of shape (side, side, 3), one after another.

        Args:
            pictures: At least one.
            turns: How many of its `TURNS` each picture is seen in; the classes are those of their mean.
        """
        device = self.net.stem.weight.device
        features = []
        rest = iter(pictures)
        while some := list(islice(rest, max(1, _AT_ONCE // turns))):
            views = np.stack([turned(picture, turn) for picture in some for turn in range(turns)])
            features.append(self.net(torch.from_numpy(views).to(device)).view(len(some), turns, -1))
        all_features = torch.cat(features)
        words = {}
        for name, of_head in self.classes.items():
            likely = self.net.heads[name](all_features).softmax(dim=2).mean(dim=1).argmax(dim=1)
            words[name] = [of_head[number] for number in likely.tolist()]
        return Seen(all_features.cpu().numpy(), words)


def chances(labels: np.ndarray) -> np.ndarray:
    """Return how often each tile is drawn, so that heads, and the classes of a head, are learnt in equal parts.

    Args:
        labels: Shape (tiles, heads): the number of the class, -1 where a tile says nothing of that head.

    Returns:
        Shape (tiles,); they add up to 1.
    """
    share = np.zeros(len(labels))
    for of_head in labels.T:
        for label in np.unique(of_head[of_head >= 0]):
            share[of_head == label] += 1 / (np.count_nonzero(of_head == label) * len(np.unique(of_head[of_head >= 0])))
    return share / share.sum()


def train(rows: Sequence[Row], read: Callable[[int], np.ndarray], classes: Classes, folder: Path, plan: Plan) -> Judge:
    """Return a classifier that has learnt from real tiles, or the one that an earlier run left in `folder`.

    Args:
        rows: What is known of the tiles.
        read: Gives the picture of a tile by its number among them.
        classes: What it has to tell apart.
        folder: Keeps it; its name there is of all that it was made from, so another data set gets another.
        plan: How long it learns.
    """
    labels = np.array([[_label(row, name, words) for name, words in classes.items()] for row in rows])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    net = Classifier(classes).to(device).to(memory_format=torch.channels_last)
    stage = Stage(f"classifier-{_key(rows, classes, net, plan)}", folder, {"net": net}, plan)
    drawn = chances(labels)
    # Tiles of a rare class are drawn for that head's sake and shift the shares of the others: adding the logarithm of a
    # share in training takes it out of what is learnt (Menon et al. 2021, "Long-tail learning via logit adjustment").
    shares = [_shares(labels[:, i], drawn, len(words)) for i, words in enumerate(classes.values())]
    adjusted = {
        name: torch.log(torch.from_numpy(share)).to(device) for name, share in zip(classes, shares, strict=True)
    }

    def loss(_: int, rng: np.random.Generator, share: Share) -> torch.Tensor:
        chosen = share.of(rng.choice(len(rows), plan.batch, p=drawn))
        crops = np.stack([_crop(read(int(index)), rng) for index in chosen])
        features = net(torch.from_numpy(crops).to(device))
        told = torch.from_numpy(labels[chosen]).to(device)
        each = [
            functional.cross_entropy(
                net.heads[name](features) + adjusted[name], told[:, i], ignore_index=-1, reduction="sum"
            )
            for i, name in enumerate(classes)
        ]
        return torch.stack(each).sum() / (told >= 0).sum()

    stage.train(loss)
    return Judge(net, classes)


def agreement(seen: Mapping[str, Sequence[str]], rows: Sequence[Row], classes: Classes) -> dict[str, Any]:
    """Return how often the pictures are taken for what their prompts say.

    Args:
        seen: Of each head the class that each picture is taken for.
        rows: Of each picture what its prompt says.
        classes: Those that are judged; pictures whose prompt says something else do not count for that head.

    Returns:
        For each head "balanced", the mean over classes, and under "classes", for each that occurs, "pictures" (how
        many say so), "share" (how many of those are taken for it, 0 to 1) and "seen_as" (how many for which class).
    """
    found = {}
    for name, words in classes.items():
        pairs = Counter((HEADS[name].said(row), word) for row, word in zip(rows, seen[name], strict=True))
        of_head: dict[str, dict[str, Any]] = {}
        for said in words:
            seen_as = {word: pairs[said, word] for word in words}
            if pictures := sum(seen_as.values()):
                of_head[said] = {"pictures": pictures, "share": seen_as[said] / pictures, "seen_as": seen_as}
        shares = [entry["share"] for entry in of_head.values()]
        found[name] = {"balanced": float(np.mean(shares)) if shares else float("nan"), "classes": of_head}
    return found


def _label(row: Row, name: str, words: Sequence[str]) -> int:
    said = HEADS[name].said(row)
    return words.index(said) if said in words else -1


def _shares(of_head: np.ndarray, drawn: np.ndarray, count: int) -> np.ndarray:
    """Return how large a part of what is drawn each class of a head is, among those drawn that say anything of it."""
    share = np.bincount(of_head[of_head >= 0], drawn[of_head >= 0], count)
    return (share / share.sum()).astype(np.float32)


def _crop(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = min(CROP, *picture.shape[:2])
    top, left = (int(rng.integers(length - side + 1)) for length in picture.shape[:2])
    return turned(picture[top : top + side, left : left + side], int(rng.integers(TURNS)))


def _key(rows: Sequence[Row], classes: Classes, net: Classifier, plan: Plan) -> str:
    """Return a name for all that a classifier is made from."""
    tiles = [(row["sha256"], [head.said(row) for head in HEADS.values()]) for row in rows]
    made_from = json.dumps([tiles, {name: list(words) for name, words in classes.items()}, repr(net), repr(plan), CROP])
    return hashlib.sha256(made_from.encode()).hexdigest()[:16]
