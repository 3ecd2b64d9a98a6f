"""Four endpoints for programs, and the tools of an MCP server: files out, through the same code as the page."""

from __future__ import annotations

import asyncio
from functools import partial
from inspect import getdoc
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, TypeVar, get_type_hints

from gradio.data_classes import FileData, FileDataDict
from gradio.events import api

from mmmrs_demo.catalog import BASE, LORA
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.request import FULL_SPEED
from mmmrs_demo.ui.cache import discard, fresh_folder, uploaded
from mmmrs_demo.ui.compare import grid_job
from mmmrs_demo.ui.controls import quantity_of, to_text, to_translation
from mmmrs_demo.ui.job import text_job, translation_job
from mmmrs_demo.ui.page import defaults
from mmmrs_demo.ui.run import FOR_PROGRAMS, running
from mmmrs_demo.ui.stage import told

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from mmmrs_demo.catalog import Bundle, Catalog
    from mmmrs_demo.ui.job import Job
    from mmmrs_demo.ui.page import Page
    from mmmrs_demo.ui.run import Effort, EngineLike, News

T_co = TypeVar("T_co", covariant=True)


class _Mark(TypedDict):
    _type: Literal["gradio.FileData"]


class Upload(TypedDict):
    """An uploaded file; only what is marked so is seen as a file by a client, and by Gradio's MCP server."""

    path: str
    meta: _Mark


class _Job(Protocol[T_co]):
    def effort(self, catalog: Catalog) -> Effort | None: ...

    def make(self, engine: EngineLike, room: Path, tell: Callable[[News], None], stop: threading.Event) -> T_co: ...


def add_endpoints(page: Page) -> None:
    """Add all endpoints to the current `gr.Blocks`."""

    async def made(prepare: Callable[[], _Job[T_co]]) -> T_co:
        room = fresh_folder()
        try:
            with told():
                job = await asyncio.to_thread(prepare)
                effort = await asyncio.to_thread(job.effort, page.catalog)
                async with running(partial(job.make, page.engine, room), effort) as run:
                    return await run.result()
        finally:
            discard(room)

    async def generate(  # noqa: PLR0913, PLR0917 - a program may say all that the page can
        caption: str = "",
        gsd: str | None = None,
        weather: str | None = None,
        satellite: str | None = None,
        negative_prompt: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        scheduler: str | None = None,
        lora_scale: float | None = None,
        speed: str = FULL_SPEED,
        width: int | None = None,
        height: int | None = None,
        seed: int | None = None,
        bundle: str | None = None,
    ) -> FileDataDict:
        """Make a synthetic satellite image from words.

        What is left out takes the bundle's default.

        Args:
            caption: What the picture shows, such as "a satellite image shows a park in the city".
            gsd: Ground sample distance: ultra-high, high, ordinary, low or ultra-low.
            weather: snow, fog or night; left out for clear weather.
            satellite: Google Earth, GF1, GF2, TG2, Sentinel-1 or Sentinel-2.
            negative_prompt: What the picture should not show.
            steps: Denoising steps.
            guidance: How closely the picture follows the words, 0 to 30; 1 or less turns it off.
            scheduler: dpm++2m-karras, ddim, euler, euler-a or unipc; of a large picture ddim, euler or euler-a.
            lora_scale: Strength of the LoRA, 0 (off) to 2.
            speed: full, faster or draft; what is made window by window is always made in full.
            width: Pixels, a multiple of 8 from 64 to 2048; what is larger than one and a half times the bundle's own
                size is made window by window.
            height: The same.
            seed: 0 to 2**63 - 1; left out for one drawn at random.
            bundle: Key of the model; left out for the one in use.

        Returns:
            PNG file that carries its complete request.
        """
        form = {
            "caption": caption,
            "gsd": gsd,
            "weather": weather,
            "satellite": satellite,
            "negative_prompt": negative_prompt,
            "steps": steps,
            "guidance": guidance,
            "scheduler": scheduler,
            "lora_scale": lora_scale,
            "speed": speed,
            "width": width,
            "height": height,
            "seed": seed,
            "bundle": bundle,
        }
        return _file((await made(lambda: text_job(to_text(form), page.catalog, page.settings)))[0].file)

    async def translate(  # noqa: PLR0913, PLR0917 - as above
        translation: str,
        image: Upload,
        caption: str = "",
        gsd: str | None = None,
        weather: str | None = None,
        satellite: str | None = None,
        negative_prompt: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        scheduler: str | None = None,
        lora_scale: float | None = None,
        speed: str = FULL_SPEED,
        controlnet_scale: float | None = None,
        seed: int | None = None,
        bundle: str | None = None,
        bands: list[int] | None = None,
        sar_as: str | None = None,
        units: bool = False,  # noqa: FBT001, FBT002 - named in every call
        samples: int = 1,
    ) -> FileDataDict:
        """Render a tile of one modality as a synthetic image of another.

        What is left out takes the bundle's default.

        Args:
            translation: rgb2sar, rgb2nir, sar2rgb or nir2rgb.
            image: The tile: a PNG, JPEG, WebP, BMP or GIF file; or a GeoTIFF or JPEG 2000 of any size.
            caption: What the tile shows, such as "a satellite image shows a city".
            gsd: Ground sample distance: ultra-high, high, ordinary, low or ultra-low.
            weather: snow, fog or night; left out for clear weather.
            satellite: That of the tile: Google Earth, GF1, GF2, TG2, Sentinel-1 or Sentinel-2.
            negative_prompt: What the picture should not show.
            steps: Denoising steps.
            guidance: How closely the picture follows the words, 0 to 30; 1 or less turns it off.
            scheduler: dpm++2m-karras, ddim, euler, euler-a or unipc.
            lora_scale: Strength of the LoRA, 0 (off) to 2.
            speed: full, faster or draft; what is made window by window is always made in full.
            controlnet_scale: How firmly the tile holds the picture, 0 to 2.
            seed: 0 to 2**63 - 1; left out for one drawn at random.
            bundle: Key of the model; left out for the one in use.
            bands: Of a GeoTIFF or JPEG 2000, the numbers from 1 of the bands to read, such as [4, 3, 2]: three for
                RGB, one for SAR and NIR; left out for what the file says.
            sar_as: What the samples of its SAR band are: dB, power or amplitude; left out for what the file says.
            units: Give dB (SAR) or reflectance (RGB, NIR) as floating-point numbers in place of grey values 0 to 255.
            samples: How many are made, 1 to 16, with the seed and those that follow it; the result is their mean.

        Returns:
            File of the tile's size that carries its complete request: a GeoTIFF with the coordinate reference system,
            transform and nodata of the tile where that is a GeoTIFF or JPEG 2000, a PNG for other pictures. Of several
            samples the last band of a GeoTIFF is their spread, that is, their standard deviation.
        """
        form = {
            "caption": caption,
            "gsd": gsd,
            "weather": weather,
            "satellite": satellite,
            "negative_prompt": negative_prompt,
            "steps": steps,
            "guidance": guidance,
            "scheduler": scheduler,
            "lora_scale": lora_scale,
            "speed": speed,
            "controlnet_scale": controlnet_scale,
            "samples": samples,
            "seed": seed,
            "bundle": bundle,
        }

        def prepare() -> Job:
            request = to_translation(form, translation)
            reading: dict[str, Any] = {"bands": bands, "quantity": quantity_of(sar_as), "units": units}
            return translation_job(request, uploaded(image), page.catalog, page.settings, **reading)

        return _file((await made(prepare))[0].file)

    async def compare(  # noqa: PLR0913, PLR0917 - as above
        caption: str = "",
        gsd: str | None = None,
        weather: str | None = None,
        satellite: str | None = None,
        negative_prompt: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        scheduler: str | None = None,
        lora_scale: float | None = None,
        speed: str = FULL_SPEED,
        width: int | None = None,
        height: int | None = None,
        seed: int | None = None,
        bundle: str | None = None,
        rows: str | None = "weather",
        row_values: list[str] | None = None,
        columns: str | None = "gsd",
        column_values: list[str] | None = None,
    ) -> tuple[FileDataDict, FileDataDict]:
        """Make a grid of synthetic satellite images from words: one request, of which two things differ.

        All images have one seed, unless it is what differs. What is left out takes the bundle's default.

        Args:
            caption: What the pictures show, such as "a satellite image shows a park in the city".
            gsd: Ground sample distance: ultra-high, high, ordinary, low or ultra-low.
            weather: snow, fog or night; left out for clear weather.
            satellite: Google Earth, GF1, GF2, TG2, Sentinel-1 or Sentinel-2.
            negative_prompt: What the pictures should not show.
            steps: Denoising steps.
            guidance: How closely the pictures follow the words, 0 to 30; 1 or less turns it off.
            scheduler: dpm++2m-karras, ddim, euler, euler-a or unipc; of large pictures ddim, euler or euler-a.
            lora_scale: Strength of the LoRA, 0 (off) to 2.
            speed: full, faster or draft; what is made window by window is always made in full.
            width: Pixels of each picture, a multiple of 8 from 64 to 2048.
            height: The same.
            seed: 0 to 2**63 - 1; left out for one drawn at random.
            bundle: Key of the model; left out for the one in use.
            rows: What differs from row to row: gsd, weather, satellite, lora_scale, guidance, steps, seed, scheduler,
                speed, or bundle where there are several; left out for a single row.
            row_values: Its values, as they are said above, such as ["clear", "fog"] or ["1", "2"]; "none" leaves a part
                out of the prompt. Left out for the usual ones. There are at most 64 pictures.
            columns: What differs from column to column, as for rows; left out for a single column.
            column_values: Its values, as for rows.

        Returns:
            PNG of all pictures with their labels.
            Zip of that sheet and the single PNG files, each of which carries its complete request.
        """
        form = {
            "caption": caption,
            "gsd": gsd,
            "weather": weather,
            "satellite": satellite,
            "negative_prompt": negative_prompt,
            "steps": steps,
            "guidance": guidance,
            "scheduler": scheduler,
            "lora_scale": lora_scale,
            "speed": speed,
            "width": width,
            "height": height,
            "seed": seed,
            "bundle": bundle,
        }
        lines = {"rows": rows, "row_values": row_values, "columns": columns, "column_values": column_values}
        grid = await made(lambda: grid_job(form, lines, page.catalog, page.settings))
        return _file(grid.sheet), _file(grid.archive)

    def bundles() -> list[dict[str, Any]]:
        """List the models: what each can do, what it does where a request says nothing, and its licence.

        Returns:
            A list of objects with key, title, summary, licence, the native size in pixels, whether it is the one in
            use, its parts (whether each is present, and what to do where it is missing), the translations that it has,
            and the defaults of generate and translate.
        """
        with told():
            return [_described(bundle, page.catalog, page.settings.bundle) for bundle in page.catalog.bundles.values()]

    for endpoint, how in (
        (generate, FOR_PROGRAMS),
        (translate, FOR_PROGRAMS),
        (compare, FOR_PROGRAMS),
        (bundles, {}),
    ):
        endpoint.__annotations__ = get_type_hints(endpoint)  # as text, Gradio would not see that some have two results
        api(endpoint, api_name=endpoint.__name__, api_description=getdoc(endpoint), **how)


def _file(path: str | Path) -> FileDataDict:
    return FileDataDict(**FileData(path=str(path)).model_dump())  # type: ignore[typeddict-item] # a FileData is all it asks


def _described(bundle: Bundle, catalog: Catalog, in_use: str) -> dict[str, Any]:
    parts = dict(zip((BASE, LORA, *TRANSLATIONS), catalog.status(bundle), strict=True))
    translations = [key for key in TRANSLATIONS if not parts[key].hint]
    return {
        "key": bundle.key,
        "title": bundle.title,
        "summary": bundle.summary,
        "licence": bundle.licence,
        "size": bundle.size,
        "in_use": bundle.key == in_use,
        "parts": {name: {"present": row.present, "hint": row.hint} for name, row in parts.items()},
        "translations": translations,
        "defaults": {"generate": defaults(bundle), "translate": {key: defaults(bundle, key) for key in translations}},
    }
