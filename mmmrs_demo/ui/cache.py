"""Files that come and go through Gradio's own folder, the only one that the page reads from and writes to."""

from __future__ import annotations

import os
import tempfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from mmmrs_demo.errors import UserError
from mmmrs_demo.provenance import file_name, save_png
from mmmrs_demo.request import Rendering

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


def cached(picture: Image.Image | Rendering) -> str:
    """Write a PNG where Gradio serves files from and deletes them again; a rendering's carries its request."""
    data = BytesIO()
    if isinstance(picture, Rendering):
        save_png(picture, data)
        name = file_name(picture.request)
    else:
        picture.save(data, "PNG")
        name = "input.png"
    return save_bytes_to_cache(data.getvalue(), name, get_upload_folder())


def beside(file: Path, name: str, picture: Image.Image) -> Path:
    """Write a PNG in the folder of an upload, whole or not at all, and return its path."""
    handle, part = tempfile.mkstemp(".part", dir=file.parent)
    with os.fdopen(handle, "wb") as stream:
        picture.save(stream, "PNG")
    return Path(part).replace(file.with_name(name))


def fresh_folder() -> Path:
    """Make an empty folder for results of one run; whoever fills it removes it where nothing came of it."""
    folder = Path(get_upload_folder()).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="scene-", dir=folder))
