"""The same over a shell: commands turn words into a request, or show what there is; torch waits until a model runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from mmmrs_demo import __version__
from mmmrs_demo.catalog import Catalog
from mmmrs_demo.cli.command import EngineFactory
from mmmrs_demo.cli.compare import COMPARE
from mmmrs_demo.cli.generate import GENERATE
from mmmrs_demo.cli.rooms import DATASET, EVALUATE, TRAIN
from mmmrs_demo.cli.serve import SERVE
from mmmrs_demo.cli.show import SHOW
from mmmrs_demo.cli.translate import TRANSLATE
from mmmrs_demo.cli.weights import WEIGHTS
from mmmrs_demo.errors import Stopped, UserError
from mmmrs_demo.settings import Settings

if TYPE_CHECKING:
    from mmmrs_demo.cli.command import AnyEngine

_REFUSED = 2
_STOPPED = 130  # 128 + SIGINT, what shells expect after Ctrl-C

_COMMANDS = {
    "serve": SERVE,
    "generate": GENERATE,
    "compare": COMPARE,
    "translate": TRANSLATE,
    "show": SHOW,
    "weights": WEIGHTS,
    "dataset": DATASET,
    "train": TRAIN,
    "evaluate": EVALUATE,
}


def _engine(catalog: Catalog, settings: Settings) -> AnyEngine:
    from mmmrs_demo.engine import Engine

    return Engine(catalog, settings)


def main(argv: Sequence[str] | None = None, engine_factory: EngineFactory = _engine) -> int:
    """Run one command.

    Args:
        argv: Words after the program's name; those of the shell where None.
        engine_factory: Makes the engine for the commands that need one; tests put a fake here.

    Returns:
        Exit status: 0 where all went well, 1 where some of several files failed, 2 after a sentence on stderr that says
        what was refused, 130 after Ctrl-C.
    """
    parser = _parser()
    try:
        args = parser.parse_args(argv)
        if args.command is None:
            parser.print_help()
            return 0
        return _COMMANDS[args.command].run(args, engine_factory) or 0
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return _REFUSED
    except (KeyboardInterrupt, Stopped):
        print(f"{parser.prog}: Stopped.", file=sys.stderr)
        return _STOPPED


class _Parser(argparse.ArgumentParser):
    """Takes its arguments only when its command is typed, so that no command loads the rooms of another.

    Args:
        fill: Adds the arguments.
        options: Those of `argparse.ArgumentParser`.
    """

    def __init__(self, *, fill: Callable[[argparse.ArgumentParser], None] = lambda _: None, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self._fill = fill

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._fill(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(_REFUSED, f"{self.prog}: {message[:1].upper()}{message[1:]}; see {self.prog} --help.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mmmrs-demo",
        description="Satellite images from words, and RGB, SAR and NIR tiles turned into each other.",
        epilog="mmmrs-demo COMMAND --help says more about a command, with examples.",
    )
    parser.add_argument("-V", "--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, command in _COMMANDS.items():
        commands.add_parser(
            name, help=command.summary, description=command.description, epilog=command.examples, fill=command.fill
        )
    return parser
