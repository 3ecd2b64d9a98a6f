"""The same over a shell: commands turn words into a request, or show what there is; torch waits until a model runs."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol, cast

from mmmrs_demo import __version__
from mmmrs_demo.bands import band_numbers
from mmmrs_demo.batch import MANIFEST, Each, Item, collect, reference_of, translate_all
from mmmrs_demo.catalog import Bundle, Catalog, Status
from mmmrs_demo.cluster import connect
from mmmrs_demo.errors import Stopped, UserError
from mmmrs_demo.files import printable
from mmmrs_demo.geotiff import SPREAD
from mmmrs_demo.grid import Cell, Grid, write_sheet
from mmmrs_demo.grid import make as make_grid
from mmmrs_demo.make import Done, generate_file, translate_file
from mmmrs_demo.maker import Maker
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import GSD_LEVELS, SATELLITES, WEATHERS, level_of, overflow, parse
from mmmrs_demo.provenance import Provenance, read, settings_kept
from mmmrs_demo.radiometry import Quantity
from mmmrs_demo.request import SCHEDULERS, Step, TextRequest, TranslationRequest, parse_request
from mmmrs_demo.scene import Progress
from mmmrs_demo.settings import Settings

if TYPE_CHECKING:
    from mmmrs_demo.ui.run import EngineLike

    class AnyEngine(EngineLike, Maker, Protocol):
        """What the commands need of an engine."""


EngineFactory = Callable[[Catalog, Settings], "AnyEngine"]

_FAILED = 1
_REFUSED = 2
_STOPPED = 130  # 128 + SIGINT, what shells expect after Ctrl-C
_NONE = "none"  # leaves a part out of the prompt


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
    request = cast("TextRequest", _request(args, form, settings))
    engine = engine_factory(catalog, settings)
    with _progress(quiet=args.quiet) as told, settings_kept(kept=args.metadata):
        _begin(told, engine, catalog.bundle(settings.bundle), request)
        done = generate_file(
            engine,
            request,
            args.out or Path(),
            settings,
            overwrite=args.overwrite,
            on_progress=told.windows,
            on_step=told.on_step,
        )
    print(done.path)


def _compare(args: argparse.Namespace, engine_factory: EngineFactory) -> None:
    settings, catalog = _house(args.bundle)
    prompt = _prompt(args, args.caption, {})
    form = {"kind": "text", "prompt": prompt, "width": args.width, "height": args.height}
    request = cast("TextRequest", _request(args, form, settings))
    lines = [
        (axis, values and [_READERS.get(axis, str.strip)(word) for word in values.split(",")])
        for axis, values in ((args.rows, args.row_values), (args.columns, args.column_values))
    ]
    asked = Grid.of(request, *lines[0], *lines[1], catalog=catalog, settings=settings)
    folder = _folder(args.out)
    begun = asked.begun(folder, catalog, overwrite=args.overwrite)
    total = math.prod(map(len, begun.heads(catalog)))
    engine = engine_factory(catalog, settings)
    with _progress(quiet=args.quiet) as told:

        def next_is(number: int, cell: Cell) -> None:
            told.about = f"{number}/{total} {printable(cell.label)}: "

        _begin(told, engine, catalog.bundle(settings.bundle), request)
        made = make_grid(
            begun,
            engine,
            folder,
            settings,
            overwrite=args.overwrite,
            on_cell=next_is,
            on_progress=told.windows,
            on_step=told.on_step,
        )
        for finished in made:
            if finished.seconds is not None:
                told.clear()
                print(finished.path, flush=True)
        sheet = write_sheet(begun, catalog, folder)
    print(sheet)


def _translate(args: argparse.Namespace, engine_factory: EngineFactory) -> int:
    settings, catalog = _house(args.bundle)
    translation = TRANSLATIONS[args.translation]
    usual = {"gsd": translation.gsd, "satellite": translation.satellite}
    prompt = _prompt(args, args.caption or translation.caption, usual)
    form = {"kind": "translation", "translation": translation.key, "prompt": prompt}
    form |= {name: given for name in ("controlnet_scale", "samples") if (given := getattr(args, name)) is not None}
    request, reading = cast("TranslationRequest", _request(args, form, settings)), _reading(args)
    several = len(args.inputs) > 1 or args.inputs[0].is_dir()
    items, passed_over = collect(args.inputs, _folder(args.out)) if several else ([], [])
    if args.reference:
        _check_reference(args, settings, several=several)
    engine = engine_factory(catalog, settings)
    with _progress(quiet=args.quiet) as told, ExitStack() as stack:

        def make(file: Path, out: Path, *, overwrite: bool) -> Done:
            with settings_kept(kept=args.metadata):
                return translate_file(
                    maker,
                    request,
                    file,
                    out,
                    settings,
                    **reading,
                    overwrite=overwrite,
                    on_progress=told.windows,
                    on_step=told.on_step,
                )

        _begin(told, engine, catalog.bundle(settings.bundle), request)
        maker: Maker = engine
        each: Each = map
        if args.engine == "ray":
            maker = cluster = stack.enter_context(connect(engine_factory, catalog, settings))
            each = cluster.files
        if several:
            asked = {"request": request.model_dump(mode="json"), **reading}
            asked |= {} if args.metadata else {"metadata": False}  # unsaid, so that what was made before is known
            for note in passed_over:
                told.note(note)
            return _each(args, settings, items, asked, make, told, each)
        done = make(args.inputs[0], args.out or Path(), overwrite=args.overwrite)
    _say_done(args, settings, done)
    return 0


def _say_done(args: argparse.Namespace, settings: Settings, done: Done) -> None:
    """Say where the result of one file is, what was assumed, and how near it comes to its reference."""
    for note in () if args.quiet else done.notes:
        print(note, file=sys.stderr)
    for path in filter(None, (done.path, done.spread)):
        print(path)
    if args.reference:
        from mmmrs_demo.compare import compare

        found = compare(done.path, args.reference, settings, args.inputs[0])
        for note in () if args.quiet else found.notes:
            print(note, file=sys.stderr)
        _print_table(list(found.facts.items()))


def _check_reference(args: argparse.Namespace, settings: Settings, *, several: bool) -> None:
    """Refuse a reference that cannot be compared with what will be made, before a model is loaded."""
    from mmmrs_demo.compare import check

    if not args.metadata:
        raise UserError("A result without metadata cannot be compared: leave out --reference, or --no-metadata.")
    if not several:
        check(args.reference, args.inputs[0], TRANSLATIONS[args.translation].target, settings)
    elif not args.reference.is_dir():
        raise UserError("Several files need a folder of references under the same names: name one with --reference.")


def _each(
    args: argparse.Namespace,
    settings: Settings,
    items: Sequence[Item],
    asked: dict[str, Any],
    make: Callable[..., Done],
    told: _Told,
    each: Each,
) -> int:
    """Translate several files, telling what becomes of each, and return the exit status."""
    from mmmrs_demo.compare import Comparison, compare

    numbers = {item.name: number for number, item in enumerate(items, 1)}
    counts = {"made": 0, "skipped": 0, "failed": 0}

    def one(item: Item, path: Path, overwrite: bool) -> Done:  # noqa: FBT001 - as it is called
        told.about = f"{numbers[item.name]}/{len(items)} {printable(item.file.name)}: "
        return make(item.file, path, overwrite=overwrite)

    def compared(item: Item, path: Path) -> dict[str, Any] | None:
        reference = reference_of(item, args.reference) if args.reference else None
        return asdict(compare(path, reference, settings, item.file)) if reference else None

    unfit = 0
    for outcome in translate_all(items, args.out, asked, one, overwrite=args.overwrite, each=each, compare=compared):
        entry, found = outcome.entry, outcome.entry.comparison if args.reference else None
        counts[outcome.state] += 1
        if outcome.state == "failed":
            told.note(entry.error, even_if_quiet=True)
        elif outcome.state == "made" or found:
            told.clear()
            for name in filter(None, (entry.output, entry.spread)):
                print(args.out / name, flush=True)
        if found and "problem" in found:
            unfit += 1
            told.note(found["problem"], even_if_quiet=True)
        elif found:
            _print_table(list(Comparison(**found).facts.items()))
    counted = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    told.note(f"{counted}: {args.out / MANIFEST}.csv says more.")
    return _FAILED if counts["failed"] or unfit else 0


def _begin(told: _Told, engine: AnyEngine, bundle: Bundle, request: TextRequest | TranslationRequest) -> None:
    """Say that models are being loaded, and which words are more than they read."""
    told.say(f"Loading {bundle.title} …")
    if told.shown and (cut := overflow(request.prompt.text, lambda text: engine.tokenize(bundle.key, text))):
        told.note(cut)


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
    settings = Settings(bundle=bundle) if bundle else Settings()
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


def _request(args: argparse.Namespace, form: dict[str, Any], settings: Settings) -> TextRequest | TranslationRequest:
    """Return the request that `form` and the shared options describe, for the bundle in use."""
    shared = {name: getattr(args, name) for name in _SHARED} | {"bundle": settings.bundle}
    return parse_request(form | shared)


def _reading(args: argparse.Namespace) -> dict[str, Any]:
    """Return what a person says of how rasters are read and written."""
    bands = None if args.bands is None else band_numbers(args.bands)
    return {"bands": bands, "quantity": _QUANTITIES.get(args.sar_as), "units": args.units}


def _axis(text: str) -> str:
    """Return the key of an axis, whose words an option joins with hyphens."""
    return text.strip().replace("-", "_")


def _folder(out: Path | None) -> Path:
    """Return the folder for the results of several files."""
    if out is None or (out.exists() and not out.is_dir()):
        raise UserError("Several files need a folder to go to: name one with --out.")
    return out


class _Told:
    """One line of the terminal that says what goes on, and sentences that stay.

    Attributes:
        shown: Whether there is a line: stderr is a terminal, and nobody asked for quiet.
        about: What each line begins with.
    """

    def __init__(self, *, shown: bool, quiet: bool) -> None:
        self.shown, self.about = shown, ""
        self._quiet = quiet

    @property
    def on_step(self) -> Callable[[Step], None] | None:
        return self._step if self.shown else None

    def windows(self, progress: Progress) -> None:
        left = "" if progress.seconds_left is None else f", {_time(progress.seconds_left)} left"
        self.say(f"Window {progress.done:,}/{progress.total:,}{left}")

    def say(self, words: str) -> None:
        if self.shown:
            print(f"\r\x1b[K{self.about if words else ''}{words}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        self.say("")

    def note(self, sentence: str, *, even_if_quiet: bool = False) -> None:
        """Say what stays on the screen."""
        if even_if_quiet or not self._quiet:
            self.clear()
            print(sentence, file=sys.stderr, flush=True)

    def _step(self, step: Step) -> None:
        left = step.seconds / step.index * (step.total - step.index)
        self.say(f"Step {step.index}/{step.total}, {_time(left)} left")


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


@contextmanager
def _progress(*, quiet: bool) -> Iterator[_Told]:
    """Give what tells a person how it goes, and clear its line at the end."""
    told = _Told(shown=not quiet and sys.stderr.isatty(), quiet=quiet)
    try:
        yield told
    finally:
        told.clear()


def _facts(provenance: Provenance) -> dict[str, object]:
    """Return what a picture says of itself in the order of interest, by name."""
    request = provenance.request
    facts: dict[str, object] = {"Prompt": request.prompt.text, "Negative prompt": request.negative_prompt or None}
    if isinstance(request, TranslationRequest):
        facts |= {
            "Translation": TRANSLATIONS[request.translation].title,
            "ControlNet scale": request.controlnet_scale,
            "Samples": request.samples if request.samples > 1 else None,
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
        **_details(provenance.details),
        **{f"Model: {name}": fact for name, fact in provenance.model.items() if name not in ("bundle", "title")},
        **{f"Version: {name}": fact for name, fact in provenance.versions.items()},
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _details(details: dict[str, Any]) -> dict[str, object]:
    """Return what a picture says of bands, the range shown of them, and windows; it may come from anywhere."""
    facts: dict[str, object] = {}
    if SPREAD in details:
        facts["Spread"] = details[SPREAD]
    if isinstance(grid := details.get("grid"), dict):
        facts |= {name.capitalize(): _line(line) for name, line in grid.items() if line}
    if isinstance(bands := details.get("bands"), list):
        facts["Bands"] = ", ".join(map(str, bands))
    if isinstance(stretch := details.get("stretch"), dict):
        facts["Input range"] = " ".join(str(stretch.get(part)) for part in ("low", "high", "unit"))
    if isinstance(windows := details.get("windows"), dict):
        facts["Windows"] = "{} of {} px, {} px in common".format(*map(windows.get, ("count", "side", "overlap")))
    return facts


def _line(line: Any) -> str:
    """Return what differs between the rows or columns of a sheet; it may come from anywhere."""
    if isinstance(line, dict) and isinstance(values := line.get("values"), list):
        return f"{line.get('axis')}: {', '.join(map(str, values))}"
    return str(line)


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
    add_setting = _run_arguments(parser, "a .png or a folder (default: a name that says it)")
    add_setting("--width", type=int, metavar="PX", help="a multiple of 8, 64 to 2048 (default: native)")
    add_setting("--height", type=int, metavar="PX", help="the same")
    _metadata_argument(add_setting)


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("caption", help="what the pictures show; a whole prompt of four parts is understood too")
    for side, usual in (("row", "weather"), ("column", "gsd")):
        what = f"what differs from {side} to {side}, or {_NONE} (default: {usual}); see above"
        parser.add_argument(f"--{side}s", default=usual, type=_axis, metavar="AXIS", help=what)
        parser.add_argument(f"--{side}-values", metavar="A,B,C", help="its values (default: the usual ones)")
    _prompt_arguments(parser)
    add_setting = _run_arguments(parser, "the folder for the pictures and sheet.png; needed")
    add_setting("--width", type=int, metavar="PX", help="of each, a multiple of 8, 64 to 2048 (default: native)")
    add_setting("--height", type=int, metavar="PX", help="the same")


def _translate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("translation", choices=TRANSLATIONS, metavar="translation", help=", ".join(TRANSLATIONS))
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="input",
        help="a PNG, JPEG, WebP, BMP, GIF, GeoTIFF or JPEG 2000, or a folder of them; or several",
    )
    parser.add_argument("--caption", metavar="TEXT", help="what the input shows (default: one of the paper's)")
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help="what was really measured there, or a folder; see above"
    )
    _prompt_arguments(parser)
    add_setting = _run_arguments(
        parser, "the result, or a folder; several results need one (default: a name that says it)"
    )
    add_setting("--controlnet-scale", type=float, metavar="X", help="how firmly the input holds, 0 to 2")
    add_setting(
        "--samples", type=int, metavar="N", help="make N, 1 to 16, with the next seeds; keep their mean and spread"
    )
    add_setting("--engine", choices=("local", "ray"), default="local", help="where models run (default: local)")
    _metadata_argument(add_setting)
    group = parser.add_argument_group("GeoTIFF and JPEG 2000")
    group.add_argument("--bands", metavar="N,N,N", help="bands to read, such as 4,3,2 (default: what the file says)")
    group.add_argument(
        "--sar-as", choices=_QUANTITIES, metavar="WORD", help=f"SAR samples are {_LISTED} (default: as it seems)"
    )
    group.add_argument("--units", action="store_true", help="write dB or reflectance as float32, not grey values")


def _prompt_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the other parts of the prompt", f"“{_NONE}” leaves a part out")
    levels = ", ".join(level.key for level in GSD_LEVELS)
    group.add_argument("--gsd", metavar="LEVEL", help=f"{levels}, or metres per pixel such as 0.6m")
    group.add_argument("--weather", metavar="WORD", help=f"{', '.join(WEATHERS)}, or clear")
    group.add_argument("--satellite", metavar="WORD", help=", ".join(SATELLITES))


def _run_arguments(parser: argparse.ArgumentParser, out: str) -> Callable[..., argparse.Action]:
    """Add what both kinds of run take, `out` being what may be written, and return what adds one more setting."""
    group = parser.add_argument_group("the file")
    group.add_argument("--out", type=Path, metavar="FILE", help=out)
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


def _metadata_argument(add: Callable[..., argparse.Action]) -> None:
    add("--no-metadata", dest="metadata", action="store_false", help="keep out of the file all but “synthetic”")


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a PNG or GeoTIFF that was saved here")
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
    run: Callable[[argparse.Namespace, EngineFactory], int | None]
    fill: Callable[[argparse.ArgumentParser], None] = lambda _: None
    description: str = ""
    examples: str = ""


_BUNDLE = "models to use, as `mmmrs-demo weights` names them (default: mini, or MMMRS_BUNDLE)"
_SHARED = ("negative_prompt", "steps", "guidance", "scheduler", "lora_scale", "seed", "bundle")
"""Options that are fields of every request."""

_READERS: dict[str, Callable[[str], str | None]] = {
    "gsd": _level,
    "weather": partial(_word, words=WEATHERS),
    "satellite": partial(_word, words=SATELLITES),
}
"""What reads a value of an axis of a grid, where it may be said in several ways."""

_QUANTITIES = {quantity.value.lower(): quantity for quantity in Quantity}
_LISTED = " or ".join([", ".join([*_QUANTITIES][:-1]), [*_QUANTITIES][-1]])

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
Prints where it was saved. Ctrl-C stops within a step and leaves no file. An image much larger than the models' native
size is made window by window; after Ctrl-C or a kill the same command goes on with it.""",
        """examples:
  mmmrs-demo generate "a park in the city" --gsd high --weather snow --satellite "Google Earth" --seed 7 --out park.png
  mmmrs-demo generate "Ultra-low precision resolution, fog, a satellite image shows a large mountain range, TG2"
  mmmrs-demo generate "some roads in farmland" --gsd 0.6m""",
    ),
    "compare": _Command(
        "make a grid of images: one request, of which two things differ",
        _compare,
        _compare_arguments,
        """Make one image for each pair of values, with one seed for all, and a labelled sheet of them: sheet.png in the
folder --out. Prints where each image was saved, and the sheet at the end.

What may differ: weather, gsd, satellite, lora-scale, guidance, steps, seed, scheduler, and bundle where there are
several. A value is written as its own option takes it. There are at most 64 images.

After Ctrl-C or a kill the same command goes on with what is missing, with the seed that was drawn.""",
        """examples:
  mmmrs-demo compare "a small town in the middle of a field" --satellite GF2 --out town
  mmmrs-demo compare "a park in the city" --row-values clear,fog --columns steps --column-values 5,20 --out park
  mmmrs-demo compare "some roads in farmland" --rows none --columns seed --column-values 1,2,3,4 --out roads""",
    ),
    "translate": _Command(
        "render rasters and pictures of one sensor as another's",
        _translate,
        _translate_arguments,
        """Render a picture or raster in another modality: a PNG from a picture, and from a GeoTIFF or JPEG 2000 a
cloud-optimised GeoTIFF on the same grid. Each carries its request. What is larger than the models' native size is done
window by window, in constant memory and without seams; after Ctrl-C or a kill the same command goes on where it was.

GSD, caption and satellite are the paper's for this direction where you give none; the satellite is that of the input.
Prints where it was saved, and on stderr what was assumed about bands and values.

The results of a folder, or of several files, go to the folder --out under the same names. Its manifest.csv and
manifest.json say what was made of what. Files that are done, with these settings and unchanged since, are skipped the
next time, unless you say --overwrite. A file that cannot be translated is noted, and the next one begun.

With --samples N the result is the mean of N samples. Their spread, the standard deviation, is the last band of a
GeoTIFF, and a PNG of its own, NAME_spread.png, beside a PNG.

With --reference FILE the result is compared with what was really measured there: PSNR and SSIM, and the mean error of
NDVI or of backscatter. The file has the size of the result and, where both have one, its grid. For folders it is a
folder: files in it are found by the names of the inputs.

With --engine ray the models run on the workers of a Ray cluster: that of RAY_ADDRESS, one on this machine, or else a
new one here. Files go to them several at a time, and so do the windows of a scene; the pixels stay the same. All of
its machines need the same file system, with mmmrs-demo and the folder of weights where they are here.

Exit status: 0 if all went well, 1 if some of several files failed, 2 if something was refused, 130 after Ctrl-C.""",
        """examples:
  mmmrs-demo translate rgb2sar tile.png --out tile_sar.png
  mmmrs-demo translate sar2rgb radar.png --caption "a satellite image shows a city" --controlnet-scale 1.2 --seed 7
  mmmrs-demo translate rgb2nir scene.tif --bands 4,3,2 --units --out scene_nir.tif
  mmmrs-demo translate rgb2nir tile.tif --samples 8 --reference measured.tif --out tile_nir.tif
  mmmrs-demo translate rgb2sar tiles --seed 7 --out tiles_sar""",
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
