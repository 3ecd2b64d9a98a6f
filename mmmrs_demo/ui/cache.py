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
from typing import Any

from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from mmmrs_demo.errors import UserError

_THUMBNAIL = 320  # pixels of its longer side


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


def thumbnail(picture: Image.Image, file: Path) -> Path:
    """Write a picture as a small PNG in the folder of a file that was handed out, and return its path."""
    small = picture.convert("RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return beside(file, "thumbnail.png", small)


def fresh_folder() -> Path:
    """Make an empty folder whose name nobody guesses; it goes with the program at the latest."""
    folder = _house(get_upload_folder()) / secrets.token_hex(16)
    folder.mkdir(mode=0o700, parents=True)
    return folder


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


def twin(file: Path) -> Path:
    """Give a file a second name, in a folder of its own, so that either can be deleted without the other."""
    (other := fresh_folder() / file.name).hardlink_to(file)
    return other


def discard(folder: str | Path | None) -> None:
    """Remove a folder, if there is one, with all that is in it."""
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
