"""Files that come and go through Gradio's own folder, the only one that the page reads from and writes to."""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from mmmrs_demo.errors import UserError

if TYPE_CHECKING:
    from PIL import Image


def uploaded(file: Any) -> Path:
    """Return the path of a file that came through Gradio's upload.

    Gradio itself lets a program name any file of the server where a picture is expected, so each is checked here.

    Args:
        file: A FileData as a dict.

    Raises:
        UserError: It is none, or lies elsewhere.
    """
    path = file.get("path") if isinstance(file, dict) else None
    if not path or not Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
        raise UserError("The image should be an uploaded file; in Python: gradio_client.handle_file(path).")
    return Path(path).resolve()


def cached(picture: Image.Image) -> str:
    """Write a PNG where Gradio serves files from and deletes them again, and return its path."""
    data = BytesIO()
    picture.save(data, "PNG")
    return save_bytes_to_cache(data.getvalue(), "picture.png", get_upload_folder())


def beside(file: Path, name: str, picture: Image.Image) -> Path:
    """Write a PNG in the folder of an upload, whole or not at all, and return its path."""
    handle, part = tempfile.mkstemp(".part", dir=file.parent)
    with os.fdopen(handle, "wb") as stream:
        picture.save(stream, "PNG")
    return Path(part).replace(file.with_name(name))


def fresh_folder() -> Path:
    """Make an empty folder whose name nobody guesses; it goes with the program at the latest."""
    house = _house(get_upload_folder())
    house.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=house))


@functools.cache
def _house(folder: str) -> Path:
    house = Path(folder).resolve() / f"mmmrs-{secrets.token_hex(16)}"
    atexit.register(discard, house)
    return house


def kept(room: Path, *asked: Any) -> Path:
    """Return the folder where the unfinished work of a job lies, which is there still when the same is asked again.

    Args:
        room: A folder for the jobs of one person, who has one at a time: what other jobs left there is given up.
        asked: All that tells the job from others.
    """
    name = hashlib.sha256(json.dumps(asked, default=str).encode()).hexdigest()[:16]
    for other in room.iterdir():
        if other.name != name:
            discard(other)
    (room / name).mkdir(exist_ok=True)
    return room / name


def handed_out(file: Path) -> Path:
    """Move a finished file to where Gradio serves it from, in a folder of its own, and return its path."""
    return file.rename(fresh_folder() / file.name)


def discard(folder: str | Path | None) -> None:
    """Remove a folder, if there is one, with all that is in it."""
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
