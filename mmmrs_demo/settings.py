"""Limits and places, all of them; each can be set through an environment variable with the prefix ``MMMRS_``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What the person who runs the app may decide; ``MMMRS_MAX_SIDE=4096`` sets `max_side`.

    What Gradio has variables for, such as `GRADIO_SERVER_NAME` and `GRADIO_ROOT_PATH`, remains Gradio's own.
    """

    model_config = SettingsConfigDict(env_prefix="MMMRS_", frozen=True)

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
    max_caption: int = Field(1000, gt=0, description="characters of a caption or a negative prompt")
    max_steps: int = Field(150, gt=0, description="denoising steps of one run")
    queue_size: int = Field(32, gt=0, description="people waiting before the next one is turned away")
    gpu_seconds: int = Field(120, gt=0, description="longest time that a run asks of ZeroGPU")
