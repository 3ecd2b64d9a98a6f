"""A classifier that learns what can be seen, pictures that heed their prompts or do not, and copies that are found."""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from mmmrs_demo.catalog import Bundle, Catalog
from mmmrs_demo.dataset.manifest import Manifest, Record, write_shard
from mmmrs_demo.dataset.samples import Samples, turned
from mmmrs_demo.errors import UserError
from mmmrs_demo.evaluation import adherence, copies, text
from mmmrs_demo.evaluation.adherence import Judge
from mmmrs_demo.evaluation.cli import add_arguments
from mmmrs_demo.evaluation.distances import distance, inception_score
from mmmrs_demo.evaluation.inception import Inception
from mmmrs_demo.evaluation.report_text import markdown
from mmmrs_demo.evaluation.text import HELD_OUT, TRAIN, Trial, measure, plan, targets
from mmmrs_demo.evaluation.text_cli import run_text
from mmmrs_demo.modality import Modality
from mmmrs_demo.prompt import Prompt
from mmmrs_demo.provenance import read
from mmmrs_demo.request import Rendering, TextRequest, TranslationRequest
from mmmrs_demo.training.loop import Plan, Stage

pytestmark = pytest.mark.unit

SIDE = 64
FEW = Plan(60, 32, 3e-3, warmup=10, ema=0.9)
CATALOG = """
[tiny]
title = "Tiny"
summary = "Trained on nothing."
licence = "Apache-2.0"
card = "tiny.md"
size = 64
base = { path = "tiny" }
lora = { path = "tiny/lora" }
defaults = { steps = 2, guidance = 1.5, scheduler = "ddim" }
"""


# --- a data set that is easy to judge ---------------------------------------------------------------------------------


def scene(prompt: Prompt, seed: int) -> np.ndarray:
    """Coarse where the GSD is high, fine where it is low; dark at night."""
    rng = np.random.default_rng(seed)
    cell = 8 if prompt.gsd == "high" else 1
    cells = rng.integers(40, 256, (SIDE // cell, SIDE // cell, 3))
    picture = cells.repeat(cell, axis=0).repeat(cell, axis=1)
    return (picture // (5 if prompt.weather == "night" else 1)).astype(np.uint8)


def record(prompt: Prompt, seed: int, split: str, modality: str = "rgb") -> Record:
    place = f"{split}{seed}"
    image = scene(prompt, seed) if modality == "rgb" else scene(prompt, seed)[..., 0]
    return Record(image, prompt, modality, place, 0.6, "made-up", None, place, "CC0-1.0", split, "none")


def write_set(folder: Path, *, train: int = 21, test: int = 5) -> Path:
    """Write as many tiles of each of four kinds of prompts, and the NIR of each first, which no prompt alone means."""
    folder.mkdir()
    records = []
    for number, (gsd, weather) in enumerate(product(("high", "low"), (None, "night"))):
        prompt = Prompt(gsd=gsd, weather=weather, caption="a satellite image of a town", satellite="Google Earth")
        for split, count in (("train", train), ("test", test)):
            seeds = range(1000 * number, 1000 * number + count)
            records += [record(prompt, seed + 500 * (split == "test"), split) for seed in seeds]
            records.append(record(prompt, 0, split, "nir"))
    write_shard(folder / "made-up.parquet", [[one] for one in records])
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def trial(data: Path) -> Trial:
    return planned(data, 20)


@pytest.fixture(scope="module")
def judge(trial: Trial, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    return adherence.train(trial.train.rows, trial.train.read, trial.classes, tmp_path_factory.mktemp("work"), FEW)


def planned(data: Path, images: int, seed: int = 0) -> Trial:
    manifest = Manifest(data)
    return plan(Samples(manifest), Samples(manifest, "test"), images, seed, SIDE)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    weights = tmp_path / "weights"
    (weights / "tiny/lora").mkdir(parents=True)
    (weights / "catalog.toml").write_text(CATALOG, encoding="utf-8")
    (weights / "tiny/unet").mkdir()
    for file in ("model_index.json", "unet/config.json"):
        (weights / "tiny" / file).touch()
    (weights / "tiny/lora/pytorch_lora_weights.safetensors").touch()
    return Catalog.load(weights)


@pytest.fixture
def bundle(catalog: Catalog) -> Bundle:
    return catalog.bundle("tiny")


class Hand:
    """Draws what `answer` makes of a prompt and a seed."""

    def __init__(self, bundle: Bundle, answer: Callable[[TextRequest], np.ndarray]) -> None:
        self.bundle = bundle
        self.answer = answer
        self.requests: list[TextRequest] = []

    def run(self, request: TextRequest | TranslationRequest, image: Image.Image | None = None) -> Rendering:
        assert isinstance(request, TextRequest)
        assert image is None
        assert request == self.bundle.complete(request), "a picture is kept for a request that leaves nothing open"
        self.requests.append(request)
        return Rendering(
            image=Image.fromarray(self.answer(request)),
            request=request,
            modality=Modality.RGB,
            seconds=0.5,
            model={"bundle": "tiny", "base": "tiny sha256:0"},
            versions={"fake": "1"},
            created="2026-11-20T12:00:00+00:00",
        )


def obedient(request: TextRequest) -> np.ndarray:
    return scene(request.prompt, 10_000 + (request.seed or 0))


def deaf(request: TextRequest) -> np.ndarray:
    return scene(Prompt(gsd="high"), 10_000 + (request.seed or 0))


def painted(trial: Trial, bundle: Bundle, answer: Callable[[TextRequest], np.ndarray], scale: float = 1) -> text.Album:
    pictures = [answer(request) for request in trial.requests(bundle, scale)]
    rows = [trial.held_out.rows[number] for number in trial.prompted]
    return text.Album("generated", rows, lambda index: pictures[index])


# --- adherence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "kind"),
    [
        ("a satellite image shows a small town", "town"),
        ("a satellite image of Houses and Streets", "town"),
        ("a satellite image of a river plain", "water"),
        ("a satellite image shows a forest in the mountains", None),
        ("a satellite image of a landscape", None),
        ("a satellite image of a townscape", None),
        ("", None),
    ],
)
def test_a_caption_that_names_one_kind_of_scene(caption: str, kind: str | None) -> None:
    assert adherence.scene(caption) == kind


def test_only_classes_with_enough_tiles_are_judged(trial: Trial) -> None:
    assert trial.classes == {"gsd": ("high", "low"), "weather": ("clear", "night")}
    train, held_out = list(trial.train.rows), list(trial.held_out.rows)
    snowy = [{**train[0], "weather": "snow"}] * (adherence.LEARNT_FROM - 1)
    tested = [{**train[0], "weather": "snow"}] * adherence.TESTED_ON
    assert adherence.choose_classes([*train, *snowy], [*held_out, *tested]) == trial.classes
    more = adherence.choose_classes([*train, *snowy, snowy[0]], [*held_out, *tested])
    assert more["weather"] == ("clear", "night", "snow")
    assert adherence.choose_classes([*train, *snowy, snowy[0]], [*held_out, *tested[1:]]) == trial.classes
    with pytest.raises(UserError, match="too small to judge pictures by"):
        adherence.choose_classes(train[:30], held_out)


def test_heads_and_their_classes_are_drawn_in_equal_parts() -> None:
    labels = np.array([[0, -1]] * 6 + [[1, -1]] * 2 + [[-1, 0]] * 3 + [[-1, 1]] + [[-1, -1]] * 5)
    drawn = adherence.chances(labels)
    assert [drawn[part].sum() for part in (slice(6), slice(6, 8), slice(8, 11), slice(11, 12))] == pytest.approx(
        [0.25] * 4
    )
    assert not drawn[12:].any()


def test_the_classifier_learns_what_can_be_seen(trial: Trial, judge: Judge) -> None:
    seen = judge.see(map(trial.held_out.read, range(20)))
    found = adherence.agreement(seen.words, trial.held_out.rows, trial.classes)
    assert found["gsd"]["balanced"] >= 0.9
    assert found["weather"]["balanced"] >= 0.9
    assert seen.features.shape == (20, 8, 256)
    assert Counter(entry["pictures"] for head in found.values() for entry in head["classes"].values()) == {10: 4}


def test_the_classifier_does_not_learn_what_is_not_there(trial: Trial, tmp_path: Path) -> None:
    words = [row["gsd_level"] for row in trial.train.rows]
    shuffled = np.random.default_rng(0).permutation(words)
    rows = [{**row, "gsd_level": word} for row, word in zip(trial.train.rows, shuffled, strict=True)]
    classes = {"gsd": trial.classes["gsd"]}
    fooled = adherence.train(rows, trial.train.read, classes, tmp_path, replace(FEW, batch=16))
    seen = fooled.see(map(trial.held_out.read, range(20)))
    assert adherence.agreement(seen.words, trial.held_out.rows, classes)["gsd"]["balanced"] < 0.8


def test_agreement_is_a_mean_over_classes() -> None:
    rows = [{"weather": word} for word in [None] * 8 + ["night"] * 2 + ["fog"]]
    seen = {"weather": ["clear"] * 6 + ["night"] * 3 + ["clear"] * 2}
    found = adherence.agreement(seen, rows, {"weather": ("clear", "night", "snow")})["weather"]
    assert found["balanced"] == pytest.approx((6 / 8 + 1 / 2) / 2)
    assert found["classes"]["night"] == {"pictures": 2, "share": 0.5, "seen_as": {"clear": 1, "night": 1, "snow": 0}}
    assert "snow" not in found["classes"]


def test_a_trained_classifier_is_kept_for_the_same_tiles(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = Plan(2, 4, 1e-3)
    rows, read = trial.train.rows, trial.train.read
    first = adherence.train(rows, read, trial.classes, tmp_path, brief)
    (kept,) = tmp_path.iterdir()
    assert kept.suffix == ".safetensors"
    monkeypatch.setattr(Stage, "_learn", lambda *_: pytest.fail("it learns again"))
    second = adherence.train(rows, read, trial.classes, tmp_path, brief)
    picture = trial.held_out.read(0)
    assert np.array_equal(first.see([picture]).features, second.see([picture]).features)
    monkeypatch.undo()
    adherence.train(rows[1:], read, trial.classes, tmp_path, brief)
    assert len(list(tmp_path.iterdir())) == 2


# --- distances and copies ---------------------------------------------------------------------------------------------


def test_distance_of_known_gaussians() -> None:
    rng = np.random.default_rng(0)
    one = torch.from_numpy(rng.normal(0, 1, (600, 3)))
    other = torch.from_numpy(rng.normal(2, 3, (600, 3)))
    found = distance(one, other)
    assert found.frechet == pytest.approx(3 * 2**2 + 3 * (3 - 1) ** 2, rel=0.15)
    assert found.kernel > 10 * found.kernel_deviation > 0
    assert found == distance(one, other), "chance is the same every time"
    same = distance(one[:50], one[50:100])
    assert abs(same.kernel) < 2 * same.kernel_deviation


def test_inception_score_counts_what_is_certain_and_varied() -> None:
    certain = 50 * torch.eye(4).repeat(25, 1)
    assert inception_score(certain)[0] == pytest.approx(4, rel=0.3)
    assert inception_score(certain[:1].repeat(20, 1)) == pytest.approx((1, 0))


def test_a_coarse_copy_is_measured_in_levels() -> None:
    dark, bright = (np.full((SIDE, SIDE, 3), level, np.uint8) for level in (100, 130))
    pictures, tiles = copies.coarse([dark]), copies.coarse([bright], turns=1)[:, 0]
    assert pictures.shape == (1, 8, 768)
    assert copies.nearest(pictures, tiles).distance == pytest.approx(30)


def test_the_nearest_tile_is_found_however_it_lies() -> None:
    tiles = [scene(Prompt(gsd="high"), seed) for seed in range(5)]
    every = [turned(tiles[3], turn) for turn in range(8)]
    assert len({one.tobytes() for one in every}) == 8
    found = copies.nearest(copies.coarse(every), copies.coarse(tiles, turns=1)[:, 0])
    assert found.tile.tolist() == [3] * 8
    assert found.distance == pytest.approx(0, abs=1e-3)
    for picture, turn in zip(every, found.turn, strict=True):
        assert np.array_equal(turned(picture, turn), tiles[3])


def test_what_lies_nearer_than_held_out_tiles_is_counted() -> None:
    found = copies.compare(np.array([0.0, 0.0, 5.0, 6.0]), np.arange(1.0, 102))
    assert found["threshold"] == pytest.approx(2)
    assert found["nearer"] == 0.5
    assert (found["made"], found["held_out"]) == (2.5, 51)
    assert found["ks"] > 0.9
    assert found["p"] < 0.01


# --- Inception --------------------------------------------------------------------------------------------------------


def test_inception_with_weights_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: None)
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        random = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], "no file").state_dict()
    save_file(random, tmp_path / "inception.safetensors")
    features, logits = Inception(tmp_path / "inception.safetensors").see(scene(Prompt(), seed) for seed in range(4))
    assert (features.shape, logits.shape) == ((4, 2048), (4, 1008))
    assert math.isfinite(distance(features[:2, :64], features[2:, :64]).frechet)
    random.pop("Conv2d_1a_3x3.conv.weight")
    save_file(random, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"“other\.safetensors” holds no Inception weights as safetensors: convert"):
        Inception(tmp_path / "other.safetensors")


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"“weights\.pth” holds no Inception weights as safetensors"):
        Inception(tmp_path / "weights.pth")
    with pytest.raises(UserError, match="There is no file"):
        Inception(tmp_path / "none")


class Imagined:
    """Stands for Inception where only the way of its figures matters."""

    def see(self, pictures: Any) -> tuple[torch.Tensor, torch.Tensor]:
        means = torch.from_numpy(np.stack([picture.mean((0, 1)) for picture in pictures]))
        return means, means


# --- the trial and its figures ----------------------------------------------------------------------------------------


def test_prompts_are_of_all_kinds_in_turn(data: Path) -> None:
    test = Samples(Manifest(data), "test")
    assert {row["modality"] for row in test.rows} == {"rgb", "nir"}
    found = targets(test, "tiles", 100)
    assert {row["modality"] for row in found.rows} == {"rgb"}
    assert [len({text.kind(row) for row in found.rows[i : i + 4]}) for i in range(0, 20, 4)] == [4] * 5
    assert targets(test, "tiles", 7).rows == found.rows[:7]


def test_radar_counts_where_the_satellite_says_so(tmp_path: Path) -> None:
    shard = [
        [record(Prompt(caption="a town", satellite=satellite), seed, "train", modality)]
        for seed, (satellite, modality) in enumerate(
            [("Sentinel-1", "sar"), ("Sentinel-1", "rgb"), ("Sentinel-2", "sar"), ("Sentinel-2", "rgb")]
        )
    ]
    write_shard(tmp_path / "a.parquet", shard)
    found = targets(Samples(Manifest(tmp_path)), "tiles", 9).rows
    assert {(row["satellite"], row["modality"]) for row in found} == {("Sentinel-1", "sar"), ("Sentinel-2", "rgb")}


def test_every_picture_has_its_prompt_and_seed(data: Path, bundle: Bundle) -> None:
    trial = planned(data, 23, seed=7)
    requests = trial.requests(bundle, 0.5)
    assert [request.seed for request in requests] == list(range(7, 30))
    assert {(request.lora_scale, request.steps, request.width) for request in requests} == {(0.5, 2, 64)}
    prompts = [row["prompt"] for row in trial.held_out.rows]
    assert [request.prompt.text for request in requests] == [*prompts, *prompts[:3]]


def test_pictures_that_ignore_their_prompts_agree_less(trial: Trial, judge: Judge, bundle: Bundle) -> None:
    made = {"lora": painted(trial, bundle, obedient), "plain": painted(trial, bundle, deaf)}
    section = measure(trial, made, judge, None).section
    found = section["adherence"]
    for head in ("gsd", "weather"):
        assert found[HELD_OUT][head]["balanced"] >= 0.9
        assert found["lora"][head]["balanced"] >= 0.9
        assert found["plain"][head]["balanced"] == pytest.approx(0.5, abs=0.1)
    assert found["plain"]["weather"]["classes"]["night"]["seen_as"] == {"clear": 10, "night": 0}
    near, far = (next(row for row in section["distances"]["classifier"] if row["set"] == n) for n in ("lora", "plain"))
    yardstick = next(row for row in section["distances"]["classifier"] if row["set"] == TRAIN)
    assert near["frechet"] < far["frechet"] / 2
    assert near["kernel"] < far["kernel"] / 4
    assert yardstick["kernel"] < far["kernel"] / 4
    assert all(of["nearer"] < 0.3 for name in made for of in section["copies"][name].values())
    assert section["classes"]["gsd"]["low"] == {"train": 42, "held_out": 10, "sources": 1}


def test_copies_of_training_tiles_are_found(trial: Trial, judge: Judge, bundle: Bundle) -> None:
    def copied(request: TextRequest) -> np.ndarray:
        return np.ascontiguousarray(np.rot90(trial.train.read(request.seed or 0)))

    made = {"plain": painted(trial, bundle, copied, scale=0)}
    outcome = measure(trial, made, judge, None)
    for space in outcome.section["copies"]["plain"].values():
        assert space["made"] == pytest.approx(0, abs=0.05)
        assert space["nearer"] == 1
        assert space["ks"] == 1
    for picture, tile, same, again in outcome.sheets["text-copies.png"]:
        assert np.array_equal(picture, tile)
        assert np.array_equal(same, again)


def test_figures_that_need_inception(trial: Trial, judge: Judge, bundle: Bundle) -> None:
    looked: Counter[str] = Counter()
    made = {"lora": painted(trial, bundle, obedient)}
    imagined: Any = Imagined()
    section = measure(trial, made, judge, imagined, lambda name: looked.update([name])).section
    assert looked.total() == text.looks(trial, made, inception=True)
    rows = section["distances"]["inception"]
    assert [(row["set"], row["pictures"], row["tiles"]) for row in rows] == [
        ("lora", 20, 20),
        (TRAIN, 20, 20),
        ("halves", 10, 10),
    ]
    assert set(section["inception_score"]) == {"lora", HELD_OUT, TRAIN}
    page = markdown({**section, "made_with": {"settings": SETTINGS}, "scales": {"lora": 1.0}})
    assert "FID" in page
    assert "were not measured" not in page


# --- the report and the command line ----------------------------------------------------------------------------------


SETTINGS = {"steps": 2, "guidance": 1.5, "scheduler": "ddim", "width": 64, "height": 64}


class Shell:
    """Runs the command on a data set, with a hand for an engine."""

    def __init__(self, folder: Path, data: Path, catalog: Catalog) -> None:
        self.data, self.out, self.catalog = data, folder / "new" / "report", catalog
        self.answer = obedient
        self.hands: list[Hand] = []

    @property
    def requests(self) -> list[TextRequest]:
        return [request for hand in self.hands for request in hand.requests]

    def make_engine(self) -> Hand:
        self.hands.append(Hand(self.catalog.bundle("tiny"), self.answer))
        return self.hands[-1]

    def __call__(self, *words: str, out: Path | None = None) -> dict[str, Any]:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        places = ["--data", str(self.data), "--out", str(out or self.out)]
        args = parser.parse_args(["text", *places, "--images", "12", *words])
        run_text(args, self.catalog, self.catalog.bundle("tiny"), self.make_engine)
        return json.loads((self.out / "report.json").read_text(encoding="utf-8"))["text"]


@pytest.fixture
def shell(tmp_path: Path, data: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setattr(adherence, "PLAN", Plan(2, 4, 1e-3))
    return Shell(tmp_path, data, catalog)


def test_the_command_writes_a_report(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    section = shell("--seed", "3")
    out, err = capsys.readouterr()
    assert out == f"{shell.out / 'report.md'}\n"
    assert "24 of 24 pictures, 0.0 min left: " in err
    assert {"report.json", "report.md", "text.png", "text-copies.png", "work"} == {f.name for f in shell.out.iterdir()}
    assert [request.seed for request in shell.requests] == [*range(3, 15), *range(3, 15)]
    assert [request.lora_scale for request in shell.requests] == [1.0] * 12 + [0.0] * 12
    assert section["scales"] == {"lora": 1.0, "plain": 0.0}
    assert section["command"].startswith("mmmrs-demo evaluate text --data ")
    assert section["command"].endswith("--bundle tiny --images 12 --seed 3")
    page = (shell.out / "report.md").read_text(encoding="utf-8")
    assert "FID, KID and IS were not measured: they need Inception's weights" in page
    assert "| MMM-RS, 500 images | SDXL | FID 168.34, IS 6.89 |" in page
    assert "must not be ranked" in page
    for name in ("text.png", "text-copies.png"):
        assert f"]({name})" in page
    with Image.open(shell.out / "text.png") as sheet:
        assert sheet.size == (3 * SIDE + 2 * 4, 4 * SIDE + 3 * 4)
    row = next(line for line in page.splitlines() if line.startswith("| weather | night |"))
    share = section["adherence"]["lora"]["weather"]["classes"]["night"]["share"]
    assert f"{100 * share:.0f} % of 6" in row


def test_a_second_run_makes_nothing_again(shell: Shell) -> None:
    first = shell()
    assert len(shell.requests) == 24
    files = sorted((shell.out / "work/pictures").iterdir())
    assert {read(file).request.seed for file in files} == set(range(12))
    files[0].write_bytes(files[0].read_bytes()[:200])
    second = shell("--images", "12")
    assert len(shell.requests) == 25
    assert second["adherence"] == first["adherence"]


def test_ctrl_c_loses_nothing_that_was_made(shell: Shell) -> None:
    def stopped(request: TextRequest) -> np.ndarray:
        if request.seed == 5:
            raise KeyboardInterrupt
        return obedient(request)

    shell.answer = stopped
    with pytest.raises(KeyboardInterrupt):
        shell()
    assert len(list((shell.out / "work/pictures").iterdir())) == 5
    shell.answer = obedient
    shell()
    assert len(shell.requests) == 6 + 19


def test_other_weights_make_other_pictures(trial: Trial, catalog: Catalog, bundle: Bundle, tmp_path: Path) -> None:
    def wanted() -> dict[Path, TextRequest]:
        requests = trial.requests(bundle, 1)[:2] + trial.requests(bundle, 0)[:3]
        return text.places(requests, catalog, bundle, tmp_path)

    assert len(wanted()) == 5
    text.generate(Hand(bundle, obedient), wanted(), lambda _: None)
    assert not text.missing(wanted())
    (catalog.weights / "tiny/lora/pytorch_lora_weights.safetensors").write_text("other")
    assert [request.lora_scale for request in text.missing(wanted()).values()] == [1.0] * 2
    (catalog.weights / "tiny/unet/config.json").write_text("other")
    assert len(text.missing(wanted())) == 5


def test_a_bundle_without_a_lora_is_measured_alone(shell: Shell) -> None:
    (shell.catalog.weights / "tiny/lora/pytorch_lora_weights.safetensors").unlink()
    section = shell()
    assert section["scales"] == {"plain": 0.0}
    assert {request.lora_scale for request in shell.requests} == {0.0}
    assert "The bundle has no LoRA" in (shell.out / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--images", "9"), "--images should be at least 10, not 9."),
        (("--seed", "-1"), "--seed should be at least 0, not -1."),
        (("--data", "nowhere"), "nowhere holds no data set: make one with `mmmrs-demo dataset build`."),
        (("--inception", "none.safetensors"), "There is no file “none.safetensors”: check its name and folder."),
    ],
)
def test_refusals_before_anything_is_made(shell: Shell, words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UserError) as refusal:
        shell(*words)
    assert str(refusal.value) == sentence
    assert not shell.hands
    assert not shell.out.exists()


def test_what_cannot_be_measured_is_said(shell: Shell, data: Path, tmp_path: Path) -> None:
    manifest = Manifest(data)
    with pytest.raises(UserError, match="have 64 px and the bundle's pictures 512: build one with"):
        plan(Samples(manifest), Samples(manifest, "test"), 12, 0, 512)
    with pytest.raises(UserError, match="holds 8 held-out tiles that words alone can mean"):
        planned(write_set(tmp_path / "few", test=2), 12)
    with pytest.raises(UserError, match=r"“model_index\.json” cannot be made a folder: choose another with --out"):
        shell(out=shell.catalog.weights / "tiny/model_index.json")
    (shell.catalog.weights / "tiny/model_index.json").unlink()
    with pytest.raises(UserError, match="There is no base model for tiny yet"):
        shell()
    assert not shell.hands
