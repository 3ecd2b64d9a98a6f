"""Many files brought together, and given back as one: zips in, hostile ones too, and out; knows no picture."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from mmmrs_demo.errors import Stopped, UserError, heed
from mmmrs_demo.files import called, opened, whole
from mmmrs_demo.settings import Settings

_STARTS = (b"PK\3\4", b"PK\5\6")
_METHODS = (ZIP_STORED, ZIP_DEFLATED)  # what all programs write; of others, Python unpacks without a limit
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # flags: encrypted, strongly, and with its list of entries
_PART = 2**20  # bytes that are unpacked at once
_LISTED = 1024  # bytes that the list of entries may take for each
_REMADE = "pack it again as a plain zip"


def is_zip(file: Path) -> bool:
    """Whether a file begins as a zip does; raises UserError where it cannot be opened."""
    with opened(file, called(file)) as stream:
        return stream.read(4) in _STARTS


def gather(
    files: Sequence[Path],
    folder: Path,
    wanted: Callable[[PurePath], bool],
    settings: Settings,
    stop: threading.Event | None = None,
) -> list[str]:
    """Bring files together in a folder under their own names, or what is in a zip with its tree.

    Args:
        files: Several files, or one zip.
        folder: An empty folder on the disk where the files are, which are linked into it.
        wanted: Says by its name whether a file is of use; others, hidden ones and links are passed over.
        settings: Limits: `max_files` and `max_scene_bytes`, which holds for all files together.
        stop: Once set, ends it within a part of a file.

    Returns:
        The names that were passed over.

    Raises:
        Stopped: `stop` was set.
        UserError: They are too many or too large; or, of a zip, something that no honest one has: a name that leads
            out of the folder, two files of one name, a password, damage.
    """
    zips = [file for file in files if is_zip(file)]
    if zips and len(files) == 1:
        return _unpack(files[0], folder, wanted, settings, stop)
    if zips:
        raise UserError(f"{called(zips[0])} is a zip among other files: choose it alone.")
    _check_count(len(files), "These are", "files", settings)
    _check_size(sum(file.stat().st_size for file in files), "These files", settings)
    passed_over = []
    for file in files:
        if not _in_sight(file.name, wanted):
            passed_over.append(file.name)
            continue
        try:
            os.link(file, folder / file.name)
        except FileExistsError as error:
            raise UserError(f"Two files are called {called(file)}: choose them one after the other.") from error
    return passed_over


def pack(folder: Path, archive: Path) -> None:
    """Pack all that is in a folder and not hidden, with its tree, into a zip; it is written a part at a time.

    Nothing is compressed: pictures are already.

    Raises:
        UserError: It cannot be written.
    """
    with whole(archive) as file, ZipFile(file, "w") as zipped:
        for here, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if not name.startswith("."):
                    path = Path(here, name)
                    zipped.write(path, path.relative_to(folder))


def _unpack(
    archive: Path,
    folder: Path,
    wanted: Callable[[PurePath], bool],
    settings: Settings,
    stop: threading.Event | None,
) -> list[str]:
    who = called(archive)
    within = f"The files in {who}"
    with _readable(archive, who, settings) as zipped:
        entries = [(entry, _name(entry, who)) for entry in zipped.infolist()]
        _check_count(len(entries), f"{who} has", "entries", settings)
        chosen = [(entry, name) for entry, name in entries if _is_file(entry) and _in_sight(name, wanted)]
        _check_size(sum(entry.file_size for entry, _ in chosen), within, settings)
        written = 0
        for entry, name in chosen:
            if entry.flag_bits & _ENCRYPTED:
                raise UserError(f"{who} is encrypted: pack it again without a password.")
            if entry.compress_type not in _METHODS:
                raise UserError(f"{called(str(name))} in {who} is packed in an uncommon way: {_REMADE}.")
            with zipped.open(entry) as packed, _created(folder / name, who) as file:
                while part := packed.read(_PART):
                    heed(stop)
                    written += len(part)
                    _check_size(written, within, settings)
                    file.write(part)
    taken = {name for _, name in chosen}
    return [str(name) for entry, name in entries if name not in taken and not entry.is_dir()]


@contextmanager
def _readable(archive: Path, who: str, settings: Settings) -> Iterator[ZipFile]:
    """Open a zip, and say in a sentence what goes wrong with it."""
    try:
        with _Listed(archive, max(_PART, settings.max_files * _LISTED), who) as file, ZipFile(file) as zipped:
            yield zipped
    except (UserError, Stopped):
        raise
    except OSError as error:
        raise UserError(
            f"{who} cannot be unpacked ({error.strerror or error}): choose one with fewer or smaller files, and "
            "shorter names."
        ) from error
    except Exception as error:  # a broken zip can raise anything
        raise UserError(f"{who} is damaged or cut short: download or pack it again.") from error


class _Listed(FileIO):
    """A file of which only so much is read at once: a `ZipFile` reads its list of entries in one piece."""

    def __init__(self, path: Path, most: int, who: str) -> None:
        super().__init__(path)
        self._most, self._who = most, who

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self._most:
            raise UserError(f"{self._who} has too many entries: pack fewer files.")
        return super().read(-1 if size is None else size) or b""


def _created(file: Path, who: str) -> BinaryIO:
    """Open a file that is not there yet."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.open("xb")
    except FileExistsError as error:
        raise UserError(f"{called(file)} is in {who} twice: {_REMADE}.") from error


def _name(entry: ZipInfo, who: str) -> PurePosixPath:
    """Return where an entry belongs; the names of all have to be such that no system would leave the folder."""
    name = entry.orig_filename
    elsewhere = PureWindowsPath(name)  # which knows both kinds of slashes, and drives
    if elsewhere.anchor or ".." in elsewhere.parts or "\\" in name or "\0" in name:
        raise UserError(f"{who} holds {called(name, name)}, a name that leads out of it: {_REMADE}.")
    return PurePosixPath(name)


def _is_file(entry: ZipInfo) -> bool:
    """Whether an entry is neither a folder, a link nor anything else that is no file."""
    return not entry.is_dir() and stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG)


def _in_sight(name: str | PurePath, wanted: Callable[[PurePath], bool]) -> bool:
    path = PurePath(name)
    return not any(part.startswith((".", "__MACOSX")) for part in path.parts) and wanted(path)


def _check_count(count: int, what: str, of: str, settings: Settings) -> None:
    if count > settings.max_files:
        raise UserError(f"{what} {count:,} {of}: at most {settings.max_files:,} are taken at once.")


def _check_size(size: int, what: str, settings: Settings) -> None:
    if size > settings.max_scene_bytes:
        raise UserError(f"{what} take more than {settings.max_scene_bytes / 1e6:,.0f} MB: choose fewer.")
