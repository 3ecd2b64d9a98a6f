"""``mmmrs-demo weights``: the models that there are."""

from __future__ import annotations

import argparse

from mmmrs_demo.catalog import Bundle, Status
from mmmrs_demo.cli.command import Command, EngineFactory, house, print_table


def _weights(_: argparse.Namespace, __: EngineFactory) -> None:
    settings, catalog = house(None)
    rows = [(bundle, row) for bundle in catalog.bundles.values() for row in catalog.status(bundle)]
    head = ("bundle", "part", "present", "size", "licence", "where")
    print_table([head, *(_cells(bundle, row) for bundle, row in rows)])
    print(f"\nIn use where none is named: {settings.bundle}. Folder of weights: {catalog.weights}")
    for _bundle, row in rows:
        if row.hint:
            print(row.hint)


def _cells(bundle: Bundle, row: Status) -> tuple[str, ...]:
    present = "yes" if row.present else "no" if row.hint else "on first use"
    size = f"{row.bytes / 1e6:,.1f} MB" if row.present else ""
    return bundle.key, row.part, present, size, row.licence, row.where


WEIGHTS = Command(
    "list the models: where they are, their size and licence",
    _weights,
    description="List every part of every bundle, and say what to do about those that are missing.",
)
