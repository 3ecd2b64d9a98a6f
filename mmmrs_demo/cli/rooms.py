"""``mmmrs-demo dataset``, ``train`` and ``evaluate``, whose words are their own rooms'."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from mmmrs_demo.cli.command import Command, EngineFactory, house
from mmmrs_demo.errors import UserError


def _dataset_arguments(parser: argparse.ArgumentParser) -> None:
    from mmmrs_demo.dataset import cli as dataset

    dataset.add_arguments(parser)


def _dataset(args: argparse.Namespace, _: EngineFactory) -> None:
    from mmmrs_demo.dataset import cli as dataset

    with _with_extra("Building a data set"):
        dataset.run(args)


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    from mmmrs_demo.training import cli as training

    training.add_arguments(parser)


def _train(args: argparse.Namespace, _: EngineFactory) -> None:
    from mmmrs_demo.training import cli as training

    with _with_extra("Training"):
        training.run(args)


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    from mmmrs_demo.evaluation import cli as evaluation

    evaluation.add_arguments(parser)


def _evaluate(args: argparse.Namespace, engine_factory: EngineFactory) -> None:
    from mmmrs_demo.evaluation import cli as evaluation

    settings, catalog = house(args.bundle)
    with _with_extra("Evaluation"):
        evaluation.run(args, catalog, catalog.bundle(settings.bundle), lambda: engine_factory(catalog, settings))


@contextmanager
def _with_extra(what: str) -> Iterator[None]:
    """Say how to get what is not installed by default."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f"{what} needs {error.name}: install it with pip install 'mmmrs-demo[train]'.") from error


DATASET = Command(
    "build MMM-RS from its sources, and look at it",
    _dataset,
    _dataset_arguments,
    "Build a data set from its sources, count it, look through it; each has its own --help.",
    """examples:
  mmmrs-demo dataset build --source inria=AerialImageDataset --upscale bicubic --out mmm-rs
  mmmrs-demo dataset sheet mmm-rs""",
)


TRAIN = Command(
    "train models",
    _train,
    _train_arguments,
    "Train models; what can be trained has its own --help.",
)


EVALUATE = Command(
    "measure models against real tiles",
    _evaluate,
    _evaluate_arguments,
    "Measure models; what can be measured has its own --help.",
    """examples:
  mmmrs-demo evaluate translation --data mmm-rs --out report --direction rgb2nir --tiles 12 --samples 2
  mmmrs-demo evaluate text --data mmm-rs --out report --images 100""",
)
