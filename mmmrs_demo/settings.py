"""Limits and places, all of them; each can be set through an environment variable with the prefix ``MMMRS_``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mmmrs_demo.errors import UserError

_PREFIX = "MMMRS_"
_NUMBER = "it should be a whole number above 0"
_WORKS = {"int_parsing": _NUMBER, "greater_than": _NUMBER, "bool_parsing": "it should be true or false"}
_SHOWN = 40  # characters of a refused value that are repeated


class Settings(BaseSettings):
    """What the person who runs the app may decide; ``MMMRS_MAX_SIDE=4096`` sets `max_side`.

    What Gradio has variables for, such as `GRADIO_SERVER_NAME` and `GRADIO_ROOT_PATH`, remains Gradio's own.

    Raises:
        UserError: A value cannot be used; the sentence names its variable.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True)

    weights: Path = Field(Path(__file__).resolve().parent.parent / "weights", description="folder of catalog.toml")
    bundle: str = Field("mini", description="bundle in use where none is named")
    device: str = Field("", description="torch device such as cuda:0 or cpu; empty chooses the fastest there is")
    auth: SecretStr = Field(SecretStr(""), description="user:password that the page asks for; empty asks for none")
    mcp: bool = Field(default=False, description="offer the endpoints as tools of an MCP server, at /gradio_api/mcp/")
    max_pixels: int = Field(16_777_216, gt=0, description="decoded pixels of an uploaded picture")
    max_side: int = Field(8192, gt=0, description="longer side of an uploaded picture, in pixels")
    max_bytes: int = Field(50_000_000, gt=0, description="size of an uploaded file")
    max_scene_pixels: int = Field(1_000_000_000, gt=0, description="pixels of a GeoTIFF that is read in parts")
    max_scene_bytes: int = Field(4_000_000_000, gt=0, description="size of its file, and of several files together")
    max_scene_bands: int = Field(512, gt=0, description="bands of it")
    max_files: int = Field(5000, gt=0, description="files uploaded at once, or entries of a zip")
    max_model_bytes: int = Field(
        6_000_000_000, gt=0, description="weights kept in memory; those unused longest make room"
    )
    max_caption: int = Field(1000, gt=0, description="characters of a caption or a negative prompt")
    max_steps: int = Field(150, gt=0, description="denoising steps of one run")
    queue_size: int = Field(32, gt=0, description="people waiting before the next one is turned away")
    gpu_seconds: int = Field(120, gt=0, description="longest time that a run asks of ZeroGPU")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            fault = error.errors()[0]
            name, value = f"{_PREFIX}{fault['loc'][0]}".upper(), str(fault["input"])[:_SHOWN]
            raise UserError(f"{name} cannot be “{value}”: {_WORKS.get(fault['type'], fault['msg'])}.") from error
