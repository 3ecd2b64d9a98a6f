"""Two endpoints for programs, ``/generate`` and ``/translate``: one file out, through the same code as the page."""

from __future__ import annotations

import asyncio
from functools import partial
from inspect import getdoc
from typing import TYPE_CHECKING, Any

from gradio.data_classes import FileData, FileDataDict
from gradio.events import api

from mmmrs_demo.ui.cache import discard, fresh_folder, uploaded
from mmmrs_demo.ui.controls import quantity_of, to_text, to_translation
from mmmrs_demo.ui.job import text_job, translation_job
from mmmrs_demo.ui.run import ONE_AT_A_TIME, running
from mmmrs_demo.ui.stage import told

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmmrs_demo.ui.job import Job
    from mmmrs_demo.ui.page import Page


def add_endpoints(page: Page) -> None:
    """Add both endpoints to the current `gr.Blocks`."""

    async def answer(prepare: Callable[[], Job]) -> FileDataDict:
        room = fresh_folder()
        try:
            with told():
                job = await asyncio.to_thread(prepare)
                async with running(partial(job.make, page.engine, room)) as run:
                    made = await run.result()
        finally:
            discard(room)
        return FileDataDict(**FileData(path=made.file).model_dump())  # type: ignore[typeddict-item] # a FileData is all it asks

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
            "width": width,
            "height": height,
            "seed": seed,
            "bundle": bundle,
        }
        return await answer(lambda: text_job(to_text(form), page.catalog, page.settings))

    async def translate(  # noqa: PLR0913, PLR0917 - as above
        translation: str,
        image: FileDataDict,
        caption: str = "",
        gsd: str | None = None,
        weather: str | None = None,
        satellite: str | None = None,
        negative_prompt: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        scheduler: str | None = None,
        lora_scale: float | None = None,
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
            "controlnet_scale": controlnet_scale,
            "samples": samples,
            "seed": seed,
            "bundle": bundle,
        }

        def prepare() -> Job:
            request = to_translation(form, translation)
            reading: dict[str, Any] = {"bands": bands, "quantity": quantity_of(sar_as), "units": units}
            return translation_job(request, uploaded(image), page.catalog, page.settings, **reading)

        return await answer(prepare)

    for endpoint in (generate, translate):
        api(endpoint, api_name=endpoint.__name__, api_description=getdoc(endpoint), **ONE_AT_A_TIME)
