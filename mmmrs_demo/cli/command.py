"""What all commands are made of."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mmmrs_demo.catalog import Catalog
from mmmrs_demo.maker import Maker
from mmmrs_demo.settings import Settings

if TYPE_CHECKING:
    from mmmrs_demo.ui.run import EngineLike

    class AnyEngine(EngineLike, Maker, Protocol):
        """What the commands need of an engine."""


EngineFactory = Callable[[Catalog, Settings], "AnyEngine"]

BUNDLE = "models to use, as `mmmrs-demo weights` names them (default: mini, or MMMRS_BUNDLE)"


class Command(NamedTuple):
    """A command.

    Attributes:
        summary: What it does, in a few words.
        run: Does it, and returns the exit status; none stands for 0.
        fill: Adds its arguments.
        description: What it does, in full.
        examples: Of how it is typed.
    """

    summary: str
    run: Callable[[argparse.Namespace, EngineFactory], int | None]
    fill: Callable[[argparse.ArgumentParser], None] = lambda _: None
    description: str = ""
    examples: str = ""


def house(bundle: str | None) -> tuple[Settings, Catalog]:
    """Return the settings, with `bundle` in use where it is named, and the catalog that has it."""
    settings = Settings(bundle=bundle) if bundle else Settings()
    catalog = Catalog.load(settings.weights)
    catalog.bundle(settings.bundle)
    return settings, catalog


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of equally many cells, each column as wide as its widest."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
