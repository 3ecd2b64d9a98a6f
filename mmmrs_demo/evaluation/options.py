"""What all kinds of ``mmmrs-demo evaluate`` have in common: options, and the command that measures the same again."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from mmmrs_demo.catalog import Bundle
from mmmrs_demo.errors import UserError
from mmmrs_demo.files import called


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is measured, on what, and where the report goes."""
    parser.add_argument("--data", type=Path, required=True, help="folder of a data set by `mmmrs-demo dataset build`")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report, made where it is not there")
    parser.add_argument(
        "--bundle", metavar="KEY", help="models to measure, as `mmmrs-demo weights` names them (default: as elsewhere)"
    )


def check_least(args: argparse.Namespace, **least: int) -> None:
    """Refuse options that are less than the least that they may be.

    Raises:
        UserError: One is.
    """
    for name, value in least.items():
        if (given := getattr(args, name)) < value:
            raise UserError(f"{_option(name)} should be at least {value}, not {given}.")


def make_folder(folder: Path, option: str = "--out") -> None:
    """Make a folder where it is not there.

    Args:
        folder: Its path.
        option: By which another one can be chosen.

    Raises:
        UserError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{called(folder)} cannot be made a folder: choose another with {option}.") from error


def command(args: argparse.Namespace, bundle: Bundle, *names: str, **chosen: list[str]) -> str:
    """Return the command that measures the same again, whatever the defaults will be then.

    Args:
        args: Its options.
        bundle: The models that are measured.
        names: Of the options to repeat beside those of `add_places`; None is left out.
        chosen: What became of options that have several values.
    """
    words = ["mmmrs-demo", "evaluate", args.kind, "--data", str(args.data), "--out", str(args.out)]
    words += ["--bundle", bundle.key]
    for name, values in chosen.items():
        words += [_option(name), *values]
    for name in names:
        if (value := getattr(args, name)) is not None:
            words += [_option(name), str(value)]
    return shlex.join(words)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
