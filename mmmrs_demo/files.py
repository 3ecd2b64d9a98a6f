"""Files and people: what to call a file in a sentence, opening one, and writing one whole; knows no picture."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mmmrs_demo.errors import UserError

_PART = 2**20  # bytes that are read at once
_NAME_SHOWN = 60  # characters repeated of a file's name


def called(file: str | Path | bytes, name: str | None = None) -> str:
    """Return what a sentence calls a file: its name in quotes, short and printable, or "The picture" for mere bytes."""
    if name is None and not isinstance(file, bytes):
        name = Path(file).name or str(file)
    if not name:
        return "The picture"
    name = printable(name)
    return f"“{name}”" if len(name) <= _NAME_SHOWN else f"“{name[: _NAME_SHOWN // 2]}…{name[-_NAME_SHOWN // 2 :]}”"


def printable(text: str) -> str:
    """Return text of a stranger's with what a terminal might obey, or nobody could see, replaced."""
    return "".join(c if c.isprintable() else "�" for c in text)


def opened(path: Path, who: str) -> BinaryIO:
    """Open a file to be read.

    Args:
        path: A regular file.
        who: What an error calls it.

    Raises:
        UserError: There is none, or it may not be read.
    """
    try:
        if path.is_file():
            return path.open("rb")
        there = path.exists()
    except OSError as error:
        raise UserError(f"{who} cannot be opened ({error.strerror}): check that you may read it.") from error
    raise UserError(
        f"{who} is not a file: choose one." if there else f"There is no file {who}: check its name and folder."
    )


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be written that gets its name when it is complete; whatever goes wrong before leaves nothing.

    Raises:
        UserError: It cannot be written there.
    """
    part = path.with_name(f".{threading.get_native_id()}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{called(path)} cannot be written ({reason}): choose another place for it.") from error
    finally:
        part.unlink(missing_ok=True)


def free_place(out: Path, name: str, suffixes: Sequence[str], *, overwrite: bool = False) -> Path:
    """Return where a file goes, after making sure, before a long run, that it can.

    Args:
        out: Its path, or a folder that is there.
        name: What it is called in a folder.
        suffixes: What its name may end with.
        overwrite: One that is there may be replaced.

    Raises:
        UserError: One sentence that says why it cannot go there.
    """
    path = out / name if out.is_dir() else out
    if path.suffix.lower() not in suffixes:
        formats = "the format that carries" if len(suffixes) == 1 else "formats that carry"
        raise UserError(f"{called(path)} should end in {' or '.join(suffixes)}, {formats} the request.")
    if path.is_dir():
        raise UserError(f"{called(path)} is a folder: choose another name with --out.")
    if path.exists() and not overwrite:
        raise UserError(f"{called(path)} is there already: choose another name with --out, or add --overwrite.")
    if not path.parent.is_dir():
        raise UserError(f"There is no folder {called(path.parent)}: make it first, or choose another with --out.")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"You may not write in the folder {called(path.parent)}: choose another with --out.")
    return path


def digest(path: Path, who: str) -> str:
    """Return the SHA-256 of a file's bytes.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    found = hashlib.sha256()
    with opened(path, who) as stream:
        try:
            while part := stream.read(_PART):
                found.update(part)
        except OSError as error:
            raise UserError(f"{who} cannot be read ({error.strerror}): check its disk.") from error
    return found.hexdigest()
