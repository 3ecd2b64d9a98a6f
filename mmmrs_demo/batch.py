"""Many files, one after another: walks folders, keeps a manifest, skips what is done, goes on after an error.

Knows neither models nor pictures: what makes a file is given to it.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from mmmrs_demo.errors import Stopped, UserError
from mmmrs_demo.files import called, digest, opened, whole
from mmmrs_demo.make import Done
from mmmrs_demo.outputs import GEOTIFF, PNG, suffix_of

MANIFEST = "manifest"
"""Name, without its suffix, of the two files in the output folder that say what was made of what: JSON and CSV."""

_RASTERS = (*GEOTIFF, ".jp2", ".j2k")
READ = (PNG, ".jpg", ".jpeg", ".webp", ".bmp", ".gif", *_RASTERS)
"""What the names of pictures and rasters end with, in small letters."""

_COLUMNS = ("input", "output", "sha256", "seconds", "settings", "error")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One file to be made.

    Attributes:
        file: The input.
        name: Of the result, relative to the output folder.
    """

    file: Path
    name: PurePath


class Entry(BaseModel):
    """What the manifest says of one file.

    Attributes:
        input: Its path as it was given.
        input_sha256: Hash of its bytes; "" where it could not be read.
        output: Path of the result, relative to the manifest.
        sha256: Hash of the result's bytes; "" where there is none.
        seconds: Time that it took.
        windows: Windows of the scene; 0 for what was made in one piece.
        settings: What was asked for.
        request: The complete request; None where there is no result.
        notes: What was assumed on the way, a sentence each.
        error: Why there is no result; "" where there is one.
        spread: Path of the file with the spread of samples, relative to the manifest; "" for none.
        comparison: How near the result comes to its reference, as `compare.Comparison` says it, or the ``problem`` that
            kept them from being compared; None where there is no reference.
    """

    model_config = ConfigDict(frozen=True)

    input: str
    input_sha256: str = ""
    output: str
    sha256: str = ""
    seconds: float = 0.0
    windows: int = 0
    settings: dict[str, Any]
    request: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    error: str = ""
    spread: str = ""
    comparison: dict[str, Any] | None = None


_ENTRIES: TypeAdapter[list[Entry]] = TypeAdapter(list[Entry])


@dataclass(frozen=True)
class Outcome:
    """What became of an item."""

    item: Item
    entry: Entry
    state: Literal["made", "skipped", "failed"]


Each = Callable[[Callable[[Item], Outcome], Iterable[Item]], Iterable[Outcome]]
"""Yields what becomes of each item, in their order, as `map` does."""


def collect(inputs: Sequence[Path], out: Path) -> tuple[list[Item], list[str]]:
    """List what is to be made of files and folders.

    A file keeps its name and a folder its tree. What is not a picture or raster by its suffix, is hidden, or lies in
    the output folder is passed over, and so are links that lead out of a folder.

    Args:
        inputs: Files and folders.
        out: The output folder.

    Returns:
        The items, in the order of their names within each input; and sentences on what was passed over.

    Raises:
        UserError: There is nothing, two results would have one name, or a result would replace an input.
    """
    items, notes = [], []
    for given in inputs:
        if given.is_dir():
            if out.resolve() == given.resolve():
                raise UserError(f"The folder {called(given)} cannot take its own results: choose another with --out.")
            files, led_out = _walked(given, out.resolve())
            items += [Item(file, _name(file, file.relative_to(given))) for file in files]
            if led_out:
                notes.append(f"{called(led_out[0])} and other links lead out of {called(given)}: they are passed over.")
        else:
            opened(given, called(given)).close()
            items.append(Item(given, _name(given, PurePath(given.name))))
    if not items:
        raise UserError(f"There is no picture and no raster in {called(inputs[0])}: choose another folder.")
    by_name: dict[PurePath, Item] = {}
    for item in items:
        if (other := by_name.setdefault(item.name, item)) is not item:
            raise UserError(
                f"{called(other.file)} and {called(item.file)} would both become {called(item.name.name)}: "
                "translate them into different folders."
            )
    sources = {item.file.resolve() for item in items}
    for item in items:
        if (out / item.name).resolve() in sources:
            raise UserError(f"{called(item.file)} lies where a result would go: choose another folder with --out.")
    return items, notes


def _walked(root: Path, out: Path) -> tuple[list[Path], list[Path]]:
    """Return the files of a folder that may be read, and links that lead out of it."""
    files, led_out = [], []
    inside = root.resolve()
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and (here / name).resolve() != out)
        for name in sorted(names):
            file = here / name
            if name.startswith(".") or file.suffix.lower() not in READ:
                continue
            if not file.resolve().is_relative_to(inside):
                led_out.append(file)
            elif file.is_file():
                files.append(file)
    return files, led_out


def _name(file: Path, name: PurePath) -> PurePath:
    try:
        return name.with_suffix(suffix_of(file))
    except UserError:  # it will be said when its turn comes
        return name.with_suffix(GEOTIFF[0] if file.suffix.lower() in _RASTERS else PNG)


def reference_of(item: Item, folder: Path) -> Path | None:
    """Return the file in a folder with the relative name of an item, whatever its suffix; None where there is none."""
    names = (folder / item.name.with_suffix(suffix) for suffix in (item.file.suffix, *READ))
    return next((name for name in names if name.is_file()), None)


Compare = Callable[[Item, Path], Mapping[str, Any] | None]


def translate_all(  # noqa: PLR0913 - what is to be made, how, and what is done with it
    items: Sequence[Item],
    out: Path,
    settings: Mapping[str, Any],
    make: Callable[[Item, Path, bool], Done],
    *,
    overwrite: bool = False,
    root: Path | None = None,
    each: Each = map,
    compare: Compare = lambda *_: None,
) -> Iterator[Outcome]:
    """Make the items, and yield what became of each, in their order, once the manifest says so.

    Skipped is what the manifest knows as made from the same bytes with the same settings, as long as the result is
    there. What was made with others is made again. An item that fails is noted, and the next one begun.

    Args:
        items: What is to be made; see `collect`.
        out: The output folder, made where it is missing.
        settings: All that was asked for, in a form that JSON can hold.
        make: Makes one item at a path; the flag says that a file there may be replaced.
        overwrite: Skip nothing, and replace files of which the manifest knows nothing too.
        root: Folder from which the manifest names the inputs; without one, they have the names that were given.
        each: `map`, which makes one after another, or what makes several at a time.
        compare: Says how near the result of an item, at a path, comes to its reference; None where there is none. It is
            asked about what is skipped too.

    Raises:
        Stopped: From `make` and `compare`; so does KeyboardInterrupt.
        UserError: The manifest cannot be read, or the folder not be written to.
    """
    manifest, writing = _Manifest(out), threading.Lock()
    asked = json.loads(json.dumps(settings))

    def one(item: Item) -> Outcome:
        known = manifest.entries.get(item.name.as_posix())
        name = str(item.file.relative_to(root) if root else item.file)
        entry = Entry(input=name, output=item.name.as_posix(), settings=asked)
        path = out / item.name
        try:
            entry = entry.model_copy(update={"input_sha256": digest(item.file, called(item.file))})
            if known and not overwrite and _there(known, out) and _same(known, entry):
                entry = _compared(known, item, path, compare)
                if entry is not known:
                    with writing:
                        manifest.put(entry)
                return Outcome(item, entry, "skipped")
            _folder(path.parent)
            ours = known is not None and bool(known.sha256)
            done = make(item, path, overwrite or ours)
            made = {
                "sha256": digest(done.path, called(done.path)),
                "seconds": round(done.seconds, 2),
                "windows": done.windows,
                "request": done.request.model_dump(mode="json"),
                "notes": done.notes,
                "spread": done.spread.relative_to(out).as_posix() if done.spread else "",
            }
            entry = _compared(entry.model_copy(update=made), item, path, compare)
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001 - a night's work does not end with one file
            entry = entry.model_copy(update={"error": _reason(item, error)})
        with writing:
            manifest.put(entry)
        return Outcome(item, entry, "failed" if entry.error else "made")

    yield from each(one, items)


def entries(out: Path) -> list[Entry]:
    """Return what the manifest of an output folder says so far; raises UserError where it cannot be read."""
    return list(_Manifest(out).entries.values())


def _compared(entry: Entry, item: Item, path: Path, compare: Compare) -> Entry:
    """Return the entry of a result with what `compare` says of it, or why it cannot."""
    try:
        found = compare(item, path)
    except Stopped:
        raise
    except Exception as error:  # noqa: BLE001 - the result is there all the same
        found = {"problem": _reason(item, error)}
    return entry if found is None else entry.model_copy(update={"comparison": dict(found)})


def _reason(item: Item, error: Exception) -> str:
    """Return the sentence that says what went wrong with an item; of what nobody foresaw, the log says the rest."""
    if isinstance(error, UserError):
        return str(error)
    _log.error("%s failed", item.file, exc_info=error)
    return f"{called(item.file)} failed inside the program ({type(error).__name__}), whose log says why."


def _there(known: Entry, out: Path) -> bool:
    return all((out / name).is_file() for name in (known.output, known.spread) if name)


def _same(known: Entry, entry: Entry) -> bool:
    return not known.error and known.input_sha256 == entry.input_sha256 and known.settings == entry.settings


def _folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {called(path)} cannot be made ({error.strerror}): choose another.") from error


class _Manifest:
    """The manifest of a folder: `Entry` by output, written anew with each one."""

    def __init__(self, folder: Path) -> None:
        _folder(folder)
        self._json, self._csv = (folder / f"{MANIFEST}.{kind}" for kind in ("json", "csv"))
        self.entries: dict[str, Entry] = {}
        if self._json.is_file():
            try:
                entries = _ENTRIES.validate_json(self._json.read_bytes())
            except (OSError, ValidationError) as error:
                raise UserError(f"{called(self._json)} in the output folder is none of ours: move it away.") from error
            self.entries = {entry.output: entry for entry in entries}

    def put(self, entry: Entry) -> None:
        self.entries[entry.output] = entry
        entries = [self.entries[name] for name in sorted(self.entries)]
        with whole(self._json) as file:
            file.write(_ENTRIES.dump_json(entries, indent=1))
        table = StringIO(newline="")
        rows = csv.writer(table)
        rows.writerow(_COLUMNS)
        for line in entries:
            facts = line.model_dump(include=set(_COLUMNS)) | {"settings": json.dumps(line.settings, sort_keys=True)}
            rows.writerow([facts[column] for column in _COLUMNS])
        with whole(self._csv) as file:
            file.write(table.getvalue().encode())
