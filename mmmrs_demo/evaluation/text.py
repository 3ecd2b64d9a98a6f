"""Measures text to image against the real tiles whose prompts it is given (the paper's benchmark, section 4).

The paper's own figures need the Inception network, which comes from outside. What a small classifier of this project
makes of the pictures stands beside them and needs nothing from outside. Generated pictures are kept, each with its
request inside, so that a run that was cut short goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image

from mmmrs_demo.catalog import BASE, LORA, Bundle, Catalog
from mmmrs_demo.dataset.samples import TURNS, Samples, turned
from mmmrs_demo.errors import UserError
from mmmrs_demo.evaluation import adherence, copies
from mmmrs_demo.evaluation.adherence import HEADS, Classes, Judge, Row, Seen
from mmmrs_demo.evaluation.copies import Nearest
from mmmrs_demo.evaluation.distances import distance, inception_score
from mmmrs_demo.evaluation.inception import Inception
from mmmrs_demo.evaluation.measuring import check_side
from mmmrs_demo.files import whole
from mmmrs_demo.modality import Modality
from mmmrs_demo.prompt import parse
from mmmrs_demo.provenance import read, save_png
from mmmrs_demo.request import Rendering, TextRequest, TranslationRequest

TRAINING_TILES, HELD_OUT_TILES = 20_000, 2_000
"""Tiles at most that are looked at, of all kinds of prompts in turn."""

FEWEST = 10
"""Pictures and held-out tiles without which no figure means anything; the inception score takes ten parts of them."""

SHOWN = 8
"""Prompts, and closest pictures, that are kept to be looked at."""

RADAR = "Sentinel-1"
"""The one satellite word whose pictures are SAR: the prompt never says the modality."""

TRAIN, HELD_OUT = "train", "held_out"
"""Names of the real tiles among the sets of pictures that are measured; the others are those of `scales`."""
HALVES = "halves"
"""Name of the comparison of held-out tiles with each other."""
TITLES = {
    "lora": "with the LoRA",
    "plain": "without LoRA",
    HELD_OUT: "held-out tiles",
    TRAIN: "training tiles",
    HALVES: "each other, in halves",
}
"""What people call each set."""


class Painter(Protocol):
    """What is needed of an engine."""

    def run(self, request: TextRequest | TranslationRequest, image: Image.Image | None = None) -> Rendering:
        """Run a request."""


@dataclass(frozen=True)
class Album:
    """Pictures that are read whenever they are looked at.

    Attributes:
        title: Name for people.
        rows: What each one's prompt says.
        read: Gives a picture by its number: uint8 of shape (side, side, 3).
    """

    title: str
    rows: Sequence[Row]
    read: Callable[[int], np.ndarray]

    def pictures(
        self, numbers: Iterable[int] | None = None, on_look: Callable[[str], None] = lambda _: None
    ) -> Iterator[np.ndarray]:
        """Yield the pictures, or those of the given numbers, and tell the album's title after each."""
        for number in range(len(self.rows)) if numbers is None else numbers:
            yield self.read(number)
            on_look(self.title)


def targets(samples: Samples, title: str, most: int) -> Album:
    """Return the tiles that a prompt alone can mean, those of every kind of prompt in turn with those of the others.

    Their order depends on nothing but pictures and prompts.
    """
    of_kind: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, row in enumerate(samples.rows):
        if row["modality"] == (Modality.SAR if row["satellite"] == RADAR else Modality.RGB):
            of_kind[kind(row)].append(number)
    by_chance = (sorted(of_kind[key], key=lambda number: _chance(samples.rows[number])) for key in sorted(of_kind))
    in_turn = [number for number in chain.from_iterable(zip_longest(*by_chance)) if number is not None][:most]
    return Album(title, [samples.rows[number] for number in in_turn], lambda index: samples.picture(in_turn[index]))


def kind(row: Row) -> tuple[str, ...]:
    """Return GSD level, weather and satellite of a row, "" for what its prompt leaves out."""
    return tuple(row[part] or "" for part in ("gsd_level", "weather", "satellite"))


@dataclass(frozen=True)
class Trial:
    """What is measured.

    Attributes:
        train: Real tiles to learn from, and among which copies are looked for.
        held_out: Real tiles of other places; each gives its prompt to a picture, in their order, and again where
            there are more pictures than tiles.
        images: Pictures to make.
        seed: Of the first; every further picture has the next.
        classes: What the classifier can judge.
    """

    train: Album
    held_out: Album
    images: int
    seed: int
    classes: Classes

    @property
    def prompted(self) -> list[int]:
        """For each picture the number of the held-out tile whose prompt it is given."""
        return [index % len(self.held_out.rows) for index in range(self.images)]

    def requests(self, bundle: Bundle, lora_scale: float) -> list[TextRequest]:
        """Return the complete request of every picture."""
        prompts = [parse(self.held_out.rows[number]["prompt"]) for number in self.prompted]
        return [
            bundle.complete(TextRequest(prompt=prompt, seed=self.seed + index, lora_scale=lora_scale))
            for index, prompt in enumerate(prompts)
        ]


def plan(train: Samples, test: Samples, images: int, seed: int, side: int) -> Trial:
    """Choose tiles and prompts: all kinds of them in turn, as long as there are tiles of that kind.

    Args:
        train: The tiles for training.
        test: The held-out tiles.
        images: Pictures to make, `FEWEST` or more.
        seed: Of the first.
        side: Pixels of a picture that is made.

    Raises:
        UserError: The data set has too few tiles of a kind that can be measured, or they are of another size.
    """
    learnt, held_out = (
        targets(samples, title, most)
        for samples, title, most in (
            (train, "training tiles", TRAINING_TILES),
            (test, "held-out tiles", max(HELD_OUT_TILES, images)),
        )
    )
    if len(held_out.rows) < FEWEST:
        raise UserError(
            f"The data set holds {len(held_out.rows)} held-out tiles that words alone can mean, which are RGB or "
            f"{RADAR}'s: at least {FEWEST} are needed."
        )
    check_side(held_out.read(0), side)
    return Trial(learnt, held_out, images, seed, adherence.choose_classes(learnt.rows, held_out.rows))


def scales(catalog: Catalog, bundle: Bundle) -> dict[str, float]:
    """Return the strengths of the LoRA to compare, by name: the bundle's own, and none; where it has no LoRA, none."""
    own = bundle.defaults.text_lora_scale
    return ({"lora": own} if own and catalog.locate(bundle, LORA).kind != "missing" else {}) | {"plain": 0.0}


def places(requests: Iterable[TextRequest], catalog: Catalog, bundle: Bundle, folder: Path) -> dict[Path, TextRequest]:
    """Return where the picture of each request is kept, under a name for the request and the weights it is run with."""
    base, lora = (catalog.fingerprint(catalog.locate(bundle, part)) for part in (BASE, LORA))
    found = {}
    for request in requests:
        key = json.dumps([request.model_dump(mode="json"), base, lora if request.lora_scale else None], sort_keys=True)
        found[folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.png"] = request
    return found


def missing(wanted: Mapping[Path, TextRequest]) -> dict[Path, TextRequest]:
    """Return what no earlier run has left, or not as it should be."""
    return {file: request for file, request in wanted.items() if not _kept(file, request)}


def generate(painter: Painter, wanted: Mapping[Path, TextRequest], on_picture: Callable[[str], None]) -> None:
    """Make pictures, and keep each as a PNG with its request inside as soon as it is there.

    Args:
        painter: Makes them.
        wanted: Requests by the file that their picture goes to.
        on_picture: Told the prompt of each that is done.

    Raises:
        UserError: From the engine, or a picture cannot be written.
    """
    for file, request in wanted.items():
        rendering = painter.run(request, None)
        with whole(file) as stream:
            save_png(rendering, stream)
        on_picture(request.prompt.text)


def album(files: Sequence[Path], trial: Trial, title: str) -> Album:
    """Return generated pictures, one for every prompt of a trial."""
    return Album(title, [trial.held_out.rows[number] for number in trial.prompted], lambda index: _pixels(files[index]))


class Outcome(NamedTuple):
    """What was measured.

    Attributes:
        section: The figures, in plain values.
        sheets: Pictures to look at by the name of their file: rows of pictures of one size.
    """

    section: dict[str, Any]
    sheets: dict[str, list[list[np.ndarray]]]


def measure(
    trial: Trial,
    made: Mapping[str, Album],
    judge: Judge,
    inception: Inception | None,
    on_look: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Measure what was generated.

    Args:
        trial: What was asked for.
        made: The pictures at each strength of the LoRA, by its name in `scales`.
        judge: The classifier.
        inception: For FID, KID and IS, which are left out without it.
        on_look: Told the title of an album after each look at one of its pictures.
    """
    albums = {TRAIN: trial.train, HELD_OUT: trial.held_out, **made}
    seen = {
        name: judge.see(one.pictures(on_look=on_look), 1 if name == TRAIN else TURNS) for name, one in albums.items()
    }
    judged = {name: adherence.agreement(seen[name].words, albums[name].rows, trial.classes) for name in albums}
    spaces = _spaces(albums, seen)
    found = {name: {space: copies.nearest(of[name], of[TRAIN][:, 0]) for space, of in spaces.items()} for name in made}
    compared = _compared(trial, made)
    real = compared[HELD_OUT]
    held_out = {space: copies.nearest(of[HELD_OUT][real], of[TRAIN][:, 0]) for space, of in spaces.items()}
    features = {name: torch.from_numpy(spaces["features"][name][which, 0]) for name, which in compared.items()}
    distances, scores = {"classifier": _distances(features)}, {}
    if inception:
        views = {name: inception.see(albums[name].pictures(which, on_look)) for name, which in compared.items()}
        distances["inception"] = _distances({name: features for name, (features, _) in views.items()})
        scores = {name: inception_score(logits) for name, (_, logits) in views.items()}

    first = next(iter(made))
    kinds = len({kind(row) for row in made[first].rows})
    shown = np.linspace(0, kinds - 1, min(SHOWN, kinds)).round().astype(int).tolist()
    section = {
        "images": trial.images,
        "seed": trial.seed,
        "kinds": kinds,
        "tiles": {name: len(albums[name].rows) for name in (TRAIN, HELD_OUT)},
        "classes": _supply(trial),
        "adherence": {name: of for name, of in judged.items() if name != TRAIN},
        "distances": distances,
        "inception_score": scores,
        "copies": {
            name: {space: copies.compare(of.distance, held_out[space].distance) for space, of in each.items()}
            for name, each in found.items()
        },
        "shown": [made[first].rows[index]["prompt"] for index in shown],
    }
    sheets = {
        "text.png": [[one.read(index) for one in (trial.held_out, *made.values())] for index in shown],
        "text-copies.png": _closest(found[first], made[first], trial.train),
    }
    return Outcome(section, sheets)


def looks(trial: Trial, made: Mapping[str, Album], *, inception: bool) -> int:
    """Return how many looks `measure` will take."""
    own = sum(len(one.rows) for one in (trial.train, trial.held_out, *made.values()))
    return own + inception * sum(map(len, _compared(trial, made).values()))


def made_with(file: Path) -> dict[str, Any]:
    """Return what a generated picture says of the settings, models and libraries that it was made with."""
    told = read(file)
    settings = told.request.model_dump(include={"steps", "guidance", "scheduler", "width", "height"})
    return {"settings": settings, "model": told.model, "versions": told.versions}


def _compared(trial: Trial, made: Iterable[str]) -> dict[str, Sequence[int]]:
    """Return which pictures of each set make up the sets that are compared as a whole."""
    compared: dict[str, Sequence[int]] = {name: range(trial.images) for name in made}
    compared[HELD_OUT] = range(min(trial.images, len(trial.held_out.rows)))
    alike = _alike(trial)
    return compared | ({TRAIN: alike} if len(alike) >= FEWEST else {})


def _chance(row: Row) -> bytes:
    return hashlib.sha256(f"{row['sha256']} {row['prompt']}".encode()).digest()


def _pixels(file: Path) -> np.ndarray:
    with Image.open(file, formats=("PNG",)) as image:
        return np.asarray(image.convert("RGB"))


def _kept(file: Path, request: TextRequest) -> bool:
    try:
        return read(file).request == request
    except UserError:
        return False


def _alike(trial: Trial) -> list[int]:
    """Return numbers of training tiles: of every kind of prompt as many as pictures are compared with, if there are."""
    wanted = Counter(kind(row) for row in trial.held_out.rows[: trial.images])
    chosen = []
    for number, row in enumerate(trial.train.rows):
        if wanted[kind(row)]:
            wanted[kind(row)] -= 1
            chosen.append(number)
    return chosen


def _supply(trial: Trial) -> dict[str, dict[str, dict[str, int]]]:
    """Return of each class how many tiles say so, and from how many sources those for training come."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for name, words in trial.classes.items():
        found[name] = {}
        for word in words:
            train, held_out = (
                [row for row in one.rows if HEADS[name].said(row) == word] for one in (trial.train, trial.held_out)
            )
            sources = len({row["source"] for row in train})
            found[name][word] = {"train": len(train), "held_out": len(held_out), "sources": sources}
    return found


def _spaces(albums: Mapping[str, Album], seen: Mapping[str, Seen]) -> dict[str, dict[str, np.ndarray]]:
    """Return of each album what is compared: coarse pixels, and features whose variance on training tiles is 1.

    That is their mean variance: scaled one by one, those that hardly ever change would count as much as all others.
    """
    tiles = seen[TRAIN].features[:, 0]
    mean, deviation = tiles.mean(0), np.sqrt(tiles.var(0).mean())
    return {
        "pixels": {name: copies.coarse(one.pictures(), seen[name].features.shape[1]) for name, one in albums.items()},
        "features": {name: (one.features - mean) / deviation for name, one in seen.items()},
    }


def _distances(sets: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
    """Return how far each set lies from the held-out tiles, and, as a yardstick, two halves of those from each other.

    Args:
        sets: Features of shape (pictures, values).
    """
    real = sets[HELD_OUT]
    pairs = [(name, one, real) for name, one in sets.items() if name != HELD_OUT]
    return [
        {"set": name, "pictures": len(one), "tiles": len(other), **distance(other, one)._asdict()}
        for name, one, other in (*pairs, (HALVES, real[::2], real[1::2]))
    ]


def _closest(found: Mapping[str, Nearest], made: Album, train: Album) -> list[list[np.ndarray]]:
    """Return the pictures nearest to a training tile, each turned like that and beside it, one pair for each space."""
    orders = {space: np.argsort(of.distance)[:SHOWN] for space, of in found.items()}
    return [
        [
            picture
            for space, order in orders.items()
            for picture in (
                turned(made.read(order[rank]), found[space].turn[order[rank]]),
                train.read(found[space].tile[order[rank]]),
            )
        ]
        for rank in range(min(SHOWN, len(made.rows)))
    ]
