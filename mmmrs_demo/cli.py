"""The same over a shell: commands turn words into a request, or show what there is; torch waits until a model runs."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from PIL import Image
from pydantic import ValidationError

from mmmrs_demo import __version__
from mmmrs_demo.catalog import Bundle, Catalog, Status
from mmmrs_demo.errors import Stopped, UserError, explain
from mmmrs_demo.files import called, printable, whole
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import GSD_LEVELS, SATELLITES, WEATHERS, level_of, overflow, parse
from mmmrs_demo.provenance import Provenance, file_name, read, save_png
from mmmrs_demo.raster import read_tile
from mmmrs_demo.request import SCHEDULERS, Step, TextRequest, TranslationRequest, parse_request
from mmmrs_demo.settings import Settings

if TYPE_CHECKING:
    from mmmrs_demo.ui.run import EngineLike

EngineFactory = Callable[[Catalog, Settings], "EngineLike"]

_REFUSED = 2
_STOPPED = 130  # 128 + SIGINT, what shells expect after Ctrl-C
_NONE = "none"  # leaves a part out of the prompt


def _engine(catalog: Catalog, settings: Settings) -> EngineLike:
    from mmmrs_demo.engine import Engine

    return Engine(catalog, settings)


def main(argv: Sequence[str] | None = None, engine_factory: EngineFactory = _engine) -> int:
    """Run one command.

    Args:
        argv: Words after the program's name; those of the shell where None.
        engine_factory: Makes the engine for the commands that need one; tests put a fake here.

    Returns:
        Exit status: 0 where all went well, 2 after a sentence on stderr that says what did not, 130 after Ctrl-C.
    """
    parser = _parser()
    try:
        args = parser.parse_args(argv)
        if args.command is None:
            parser.print_help()
            return 0
        _COMMANDS[args.command].run(args, engine_factory)
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return _REFUSED
    except (KeyboardInterrupt, Stopped):
        print(f"{parser.prog}: Stopped.", file=sys.stderr)
        return _STOPPED
    return 0


# --- commands ---------------------------------------------------------------------------------------------------------


def _serve(args: argparse.Namespace, engine_factory: EngineFactory) -> None:
    if args.port is not None and not 0 < args.port < 2**16:
        raise UserError(f"A port is a number from 1 to {2**16 - 1:,}, not {args.port}.")
    settings, catalog = _house(args.bundle)
    from mmmrs_demo.ui import serve

    try:
        serve(engine_factory(catalog, settings), catalog, settings, server_name=args.host, server_port=args.port)
    except OSError as error:
        raise UserError(
            "The page cannot be served there, as if the port were taken: choose another --port or --host."
        ) from error


def _generate(args: argparse.Namespace, engine_factory: EngineFactory) -> None:
    settings, catalog = _house(args.bundle)
    prompt = _prompt(args, args.caption, {})
    form = {"kind": "text", "prompt": prompt, "width": args.width, "height": args.height}
    _make(args, form, None, catalog.bundle(settings.bundle), engine_factory(catalog, settings))


def _translate(args: argparse.Namespace, engine_factory: EngineFactory) -> None:
    settings, catalog = _house(args.bundle)
    translation = TRANSLATIONS[args.translation]
    usual = {"gsd": translation.gsd, "satellite": translation.satellite}
    prompt = _prompt(args, args.caption or translation.caption, usual)
    form = {"kind": "translation", "translation": translation.key, "prompt": prompt}
    form |= {} if args.controlnet_scale is None else {"controlnet_scale": args.controlnet_scale}
    tile = read_tile(args.tile, translation.source, settings)
    _make(args, form, tile, catalog.bundle(settings.bundle), engine_factory(catalog, settings))


def _make(
    args: argparse.Namespace, form: dict[str, Any], image: Image.Image | None, bundle: Bundle, engine: EngineLike
) -> None:
    """Run the request that `form` and the shared options describe, save its picture and print where."""
    request = bundle.complete(parse_request(form | {name: getattr(args, name) for name in _SHARED}))
    out = _free_place(args.out, request, overwrite=args.overwrite)
    with _progress(quiet=args.quiet) as (say, on_step):
        say(f"Loading {bundle.title} …")
        cut = overflow(request.prompt.text, lambda text: engine.tokenize(bundle.key, text))
        if cut and not args.quiet:
            say(f"{cut}\n")
        rendering = engine.run(request, image, on_step)
    with whole(out) as file:
        save_png(rendering, file)
    print(out)


def _show(args: argparse.Namespace, _: EngineFactory) -> None:
    provenance = read(args.file)
    if args.json:
        print(provenance.model_dump_json(indent=2))
    else:
        _print_table([(name, printable(str(fact))) for name, fact in _facts(provenance).items()])


def _weights(_: argparse.Namespace, __: EngineFactory) -> None:
    settings, catalog = _house(None)
    rows = [(bundle, row) for bundle in catalog.bundles.values() for row in catalog.status(bundle)]
    head = ("bundle", "part", "present", "size", "licence", "where")
    _print_table([head, *(_cells(bundle, row) for bundle, row in rows)])
    print(f"\nIn use where none is named: {settings.bundle}. Folder of weights: {catalog.weights}")
    for _bundle, row in rows:
        if row.hint:
            print(row.hint)


def _train(args: argparse.Namespace, _: EngineFactory) -> None:
    from mmmrs_demo.training import cli as training

    with _with_extra("Training"):
        training.run(args)


def _evaluate(args: argparse.Namespace, engine_factory: EngineFactory) -> None:
    from mmmrs_demo.evaluation import cli as evaluation

    settings, catalog = _house(args.bundle)
    with _with_extra("Evaluation"):
        evaluation.run(args, catalog, catalog.bundle(settings.bundle), lambda: engine_factory(catalog, settings))


def _dataset(args: argparse.Namespace, _: EngineFactory) -> None:
    from mmmrs_demo.dataset import cli as dataset

    with _with_extra("Building a data set"):
        dataset.run(args)


# --- what they share --------------------------------------------------------------------------------------------------


@contextmanager
def _with_extra(what: str) -> Iterator[None]:
    """Say how to get what is not installed by default."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f"{what} needs {error.name}: install it with pip install 'mmmrs-demo[train]'.") from error


def _house(bundle: str | None) -> tuple[Settings, Catalog]:
    """Return the settings, with `bundle` in use where it is named, and the catalog that has it."""
    try:
        settings = Settings(bundle=bundle) if bundle else Settings()
    except ValidationError as error:
        raise UserError(f"An environment variable that begins with MMMRS_ cannot be used: {explain(error)}") from error
    catalog = Catalog.load(settings.weights)
    catalog.bundle(settings.bundle)
    return settings, catalog


def _prompt(args: argparse.Namespace, words: str, usual: dict[str, str]) -> dict[str, str | None]:
    """Return the four parts of a prompt: options win over what the words say, and those over what is usual."""
    said = {part: word for part, word in parse(words).model_dump().items() if word}
    options = {
        "gsd": _level(args.gsd),
        "weather": _word(args.weather, WEATHERS),
        "satellite": _word(args.satellite, SATELLITES),
    }
    chosen = {part: None if word == _NONE else word for part, word in options.items() if word is not None}
    return usual | said | chosen


def _level(text: str | None) -> str | None:
    """Return the key of a GSD level, which may be given in metres or centimetres per pixel."""
    keys = [level.key for level in GSD_LEVELS]
    if text is None or (key := text.strip().lower()) in (*keys, _NONE):
        return text and key
    measure = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(c?)m?(?:/px)?", key)
    if not measure:
        raise UserError(f"There is no GSD “{text}”; choose one of {', '.join(keys)}, or give metres such as 0.6m.")
    return level_of(float(measure[1]) / (100 if measure[2] else 1)).key


def _word(text: str | None, words: Sequence[str]) -> str | None:
    """Return the word of the vocabulary that differs from `text` in capitals only, or `text` for others to refuse."""
    known = {word.lower(): word for word in words} | {"clear": _NONE}
    return known.get(text.strip().lower(), text) if text else text


def _free_place(out: Path | None, request: TextRequest | TranslationRequest, *, overwrite: bool) -> Path:
    """Return where the picture goes, after making sure, before a long run, that it can."""
    path = out or Path()
    path = path / file_name(request) if path.is_dir() else path
    if path.suffix.lower() != ".png":
        raise UserError(f"{called(path)} should end in .png, the format that carries the request.")
    if path.is_dir():
        raise UserError(f"{called(path)} is a folder: choose another name with --out.")
    if path.exists() and not overwrite:
        raise UserError(f"{called(path)} is there already: choose another name with --out, or add --overwrite.")
    if not path.parent.is_dir():
        raise UserError(f"There is no folder {called(path.parent)}: make it first, or choose another with --out.")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"You may not write in the folder {called(path.parent)}: choose another with --out.")
    return path


@contextmanager
def _progress(*, quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[Step], None] | None]]:
    """Give ways to say, in one line of the terminal, what goes on; silent where stderr is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield (lambda _: None), None
        return

    def say(words: str) -> None:
        print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)

    def tell(step: Step) -> None:
        left = step.seconds / step.index * (step.total - step.index)
        say(f"Step {step.index}/{step.total}, {left:.0f} s left")

    try:
        yield say, tell
    finally:
        say("")


def _facts(provenance: Provenance) -> dict[str, object]:
    """Return what a picture says of itself in the order of interest, by name."""
    request = provenance.request
    facts: dict[str, object] = {"Prompt": request.prompt.text, "Negative prompt": request.negative_prompt or None}
    if isinstance(request, TranslationRequest):
        facts |= {
            "Translation": TRANSLATIONS[request.translation].title,
            "ControlNet scale": request.controlnet_scale,
            "Input SHA-256": request.source_sha256,
        }
    else:
        facts["Size"] = f"{request.width} by {request.height} px"
    facts |= {
        "Seed": request.seed,
        "Steps": request.steps,
        "Guidance": request.guidance,
        "Scheduler": request.scheduler and SCHEDULERS[request.scheduler],
        "LoRA scale": request.lora_scale,
        "Bundle": ", ".join(str(name) for name in (request.bundle, provenance.model.get("title")) if name),
        "Shows": f"{provenance.modality.label}, synthetic",
        "Created": f"{provenance.created:%Y-%m-%d %H:%M:%S %Z}",
        **{f"Model: {name}": fact for name, fact in provenance.model.items() if name not in ("bundle", "title")},
        **{f"Version: {name}": fact for name, fact in provenance.versions.items()},
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _cells(bundle: Bundle, row: Status) -> tuple[str, ...]:
    present = "yes" if row.present else "no" if row.hint else "on first use"
    size = f"{row.bytes / 1e6:,.1f} MB" if row.present else ""
    return bundle.key, row.part, present, size, row.licence, row.where


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


# --- words of the command line ----------------------------------------------------------------------------------------


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


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1, or GRADIO_SERVER_NAME)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 7860, or GRADIO_SERVER_PORT)")
    parser.add_argument("--bundle", metavar="KEY", help=_BUNDLE)


def _generate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("caption", help="what the picture shows; a whole prompt of four parts is understood too")
    _prompt_arguments(parser)
    add_setting = _run_arguments(parser)
    add_setting("--width", type=int, metavar="PX", help="a multiple of 8, 64 to 2048 (default: native)")
    add_setting("--height", type=int, metavar="PX", help="the same")


def _translate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("translation", choices=TRANSLATIONS, metavar="translation", help=", ".join(TRANSLATIONS))
    parser.add_argument("tile", type=Path, help="the input: a PNG, JPEG, WebP, BMP, GIF, GeoTIFF or JPEG 2000")
    parser.add_argument("--caption", metavar="TEXT", help="what the tile shows (default: one of the paper's)")
    _prompt_arguments(parser)
    add_setting = _run_arguments(parser)
    add_setting("--controlnet-scale", type=float, metavar="X", help="how firmly the tile holds, 0 to 2")


def _prompt_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the other parts of the prompt", f"“{_NONE}” leaves a part out")
    levels = ", ".join(level.key for level in GSD_LEVELS)
    group.add_argument("--gsd", metavar="LEVEL", help=f"{levels}, or metres per pixel such as 0.6m")
    group.add_argument("--weather", metavar="WORD", help=f"{', '.join(WEATHERS)}, or clear")
    group.add_argument("--satellite", metavar="WORD", help=", ".join(SATELLITES))


def _run_arguments(parser: argparse.ArgumentParser) -> Callable[..., argparse.Action]:
    """Add what both kinds of run take, and return what adds one more setting."""
    group = parser.add_argument_group("the file")
    group.add_argument("--out", type=Path, metavar="FILE", help="a .png or a folder (default: a name that says it)")
    group.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    group.add_argument("--quiet", action="store_true", help="show no progress")
    group = parser.add_argument_group("settings", "those left out are the bundle's defaults")
    group.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same picture (default: random)")
    group.add_argument("--steps", type=int, metavar="N", help="denoising steps")
    group.add_argument("--guidance", type=float, metavar="X", help="how closely the words hold, 0 to 30; 1 is off")
    group.add_argument("--scheduler", metavar="KEY", help=", ".join(SCHEDULERS))
    group.add_argument("--lora-scale", type=float, metavar="X", help="strength of the LoRA, 0 (off) to 2")
    group.add_argument("--negative", dest="negative_prompt", default="", metavar="TEXT", help="what should not be seen")
    group.add_argument("--bundle", metavar="KEY", help=_BUNDLE)
    return group.add_argument


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a PNG that was saved here")
    parser.add_argument("--json", action="store_true", help="print it as JSON, for programs")


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    from mmmrs_demo.training import cli as training

    training.add_arguments(parser)


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    from mmmrs_demo.evaluation import cli as evaluation

    evaluation.add_arguments(parser)


def _dataset_arguments(parser: argparse.ArgumentParser) -> None:
    from mmmrs_demo.dataset import cli as dataset

    dataset.add_arguments(parser)


class _Command(NamedTuple):
    summary: str
    run: Callable[[argparse.Namespace, EngineFactory], None]
    fill: Callable[[argparse.ArgumentParser], None] = lambda _: None
    description: str = ""
    examples: str = ""


_BUNDLE = "models to use, as `mmmrs-demo weights` names them (default: mini, or MMMRS_BUNDLE)"
_SHARED = ("negative_prompt", "steps", "guidance", "scheduler", "lora_scale", "seed", "bundle")
"""Options that are fields of every request."""

_COMMANDS = {
    "serve": _Command(
        "open the page in a browser",
        _serve,
        _serve_arguments,
        "Serve the page until Ctrl-C.",
        """examples:
  mmmrs-demo serve
  mmmrs-demo serve --host 0.0.0.0 --port 8080      reachable from other machines""",
    ),
    "generate": _Command(
        "make a satellite image from words",
        _generate,
        _generate_arguments,
        """Make a satellite image from words and save it as a PNG that carries its request.
Prints where it was saved. Ctrl-C stops within a step and leaves no file.""",
        """examples:
  mmmrs-demo generate "a park in the city" --gsd high --weather snow --satellite "Google Earth" --seed 7 --out park.png
  mmmrs-demo generate "Ultra-low precision resolution, fog, a satellite image shows a large mountain range, TG2"
  mmmrs-demo generate "some roads in farmland" --gsd 0.6m""",
    ),
    "translate": _Command(
        "render a tile of one sensor as another's",
        _translate,
        _translate_arguments,
        """Render a tile in another modality and save it as a PNG that carries its request.
GSD, caption and satellite are the paper's for this direction where you give none; the satellite is that of the input.
Prints where it was saved. Ctrl-C stops within a step and leaves no file.""",
        """examples:
  mmmrs-demo translate rgb2sar tile.png --out tile_sar.png
  mmmrs-demo translate sar2rgb radar.png --caption "a satellite image shows a city" --controlnet-scale 1.2 --seed 7""",
    ),
    "show": _Command(
        "print the request inside a picture",
        _show,
        _show_arguments,
        "Print what a picture that was saved here says of itself: its request, seed, models and versions.",
        """examples:
  mmmrs-demo show park.png
  mmmrs-demo show park.png --json""",
    ),
    "weights": _Command(
        "list the models: where they are, their size and licence",
        _weights,
        description="List every part of every bundle, and say what to do about those that are missing.",
    ),
    "dataset": _Command(
        "build MMM-RS from its sources, and look at it",
        _dataset,
        _dataset_arguments,
        "Build a data set from its sources, count it, look through it; each has its own --help.",
        """examples:
  mmmrs-demo dataset build --source inria=AerialImageDataset --upscale bicubic --out mmm-rs
  mmmrs-demo dataset sheet mmm-rs""",
    ),
    "train": _Command(
        "train models",
        _train,
        _train_arguments,
        "Train models; what can be trained has its own --help.",
    ),
    "evaluate": _Command(
        "measure models against real tiles",
        _evaluate,
        _evaluate_arguments,
        "Measure models; what can be measured has its own --help.",
        """examples:
  mmmrs-demo evaluate translation --data mmm-rs --out report --direction rgb2nir --tiles 12 --samples 2
  mmmrs-demo evaluate text --data mmm-rs --out report --images 100""",
    ),
}
