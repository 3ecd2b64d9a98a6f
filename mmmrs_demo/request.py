"""What goes in and what comes out: requests, steps and renderings, frozen and validated; knows no model and no page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from PIL import Image
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from mmmrs_demo.errors import UserError, explain
from mmmrs_demo.modality import TRANSLATIONS, Modality
from mmmrs_demo.prompt import Prompt, check_length, clean
from mmmrs_demo.settings import Settings

MAX_SEED = 2**63 - 1
MAX_SAMPLES = 16

SCHEDULERS = {
    "dpm++2m-karras": "DPM++ 2M Karras",
    "ddim": "DDIM",
    "euler": "Euler",
    "euler-a": "Euler ancestral",
    "unipc": "UniPC",
}
"""Label of every scheduler by key; the first is the paper authors'."""


class Speed(NamedTuple):
    """How much of the work is spared.

    Attributes:
        label: Its name.
        every: The deep part of the network works in one of so many steps, and the others use what it gave then.
    """

    label: str
    every: int


FULL_SPEED = "full"
SPEEDS = {FULL_SPEED: Speed("Full quality", 1), "faster": Speed("Faster", 2), "draft": Speed("Draft", 4)}


def one_of(known: Mapping[str, object], what: str) -> AfterValidator:
    """Return what refuses a key that is not known, in a sentence that says what it should be a key of."""

    def check(key: str) -> str:
        if key not in known:
            raise UserError(f"There is no {what} “{key}”; choose one of {', '.join(known)}.")
        return key

    return AfterValidator(check)


_Side = Annotated[int, Field(ge=64, le=2048, multiple_of=8)]
_Scale = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]


class BaseRequest(BaseModel):
    """What every request says; None stands for the bundle's default, and for a seed to be drawn.

    Attributes:
        bundle: Key in the catalog.
        prompt: The four parts.
        negative_prompt: What the picture should not show.
        steps: Denoising steps, from 1 to the settings' `max_steps`.
        guidance: Classifier-free guidance, 0 to 30; 1 or less turns it off.
        scheduler: Key of `SCHEDULERS`.
        lora_scale: Strength of the bundle's LoRA, 0 (off) to 2.
        speed: Key of `SPEEDS`; the JSON form says nothing of full quality.
        seed: 0 to 2**63 - 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str | None = None
    prompt: Prompt = Field(default_factory=Prompt)
    negative_prompt: str = ""
    steps: Annotated[int, Field(ge=1)] | None = None
    guidance: Annotated[float, Field(ge=0, le=30, allow_inf_nan=False)] | None = None
    scheduler: Annotated[str, one_of(SCHEDULERS, "scheduler")] | None = None
    lora_scale: _Scale | None = None
    speed: Annotated[str, one_of(SPEEDS, "speed"), Field(exclude_if=lambda speed: speed == FULL_SPEED)] = FULL_SPEED
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None

    @field_validator("negative_prompt")
    @classmethod
    def _tidy(cls, text: str) -> str:
        return check_length(clean(text), "negative prompt")

    @field_validator("steps")
    @classmethod
    def _affordable(cls, steps: int | None) -> int | None:
        limit = Settings().max_steps
        if steps is not None and steps > limit:
            raise UserError(f"Steps should be at most {limit}, not {steps}.")
        return steps


class TextRequest(BaseRequest):
    """Make a picture from words.

    Attributes:
        width: Pixels, a multiple of 8 from 64 to 2048.
        height: The same.
        samples: Always a single one, of which the JSON form says nothing.
    """

    samples: ClassVar[int] = 1

    kind: Literal["text"] = "text"
    width: _Side | None = None
    height: _Side | None = None


class TranslationRequest(BaseRequest):
    """Render an input picture in another modality.

    Attributes:
        translation: Key of `TRANSLATIONS`.
        controlnet_scale: How strongly the input holds the output, 0 to 2.
        samples: How many are made, 1 to `MAX_SAMPLES`, with `seed`, `seed` + 1 and so on; the result is their mean. The
            JSON form says nothing of a single one.
        source_sha256: Hash of the input's pixels, filled in by the engine; with it a rendering names its input.
    """

    kind: Literal["translation"] = "translation"
    translation: Annotated[str, one_of(TRANSLATIONS, "translation")]
    controlnet_scale: _Scale | None = None
    samples: Annotated[int, Field(ge=1, le=MAX_SAMPLES, exclude_if=lambda samples: samples == 1)] = 1
    source_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="after")
    def _enough_seeds(self) -> Self:
        if self.seed is not None and self.seed > (last := MAX_SEED + 1 - self.samples):
            raise UserError(f"The seed of {self.samples} samples should be at most {last}, not {self.seed}.")
        return self


Request = Annotated[TextRequest | TranslationRequest, Field(discriminator="kind")]
REQUEST: TypeAdapter[TextRequest | TranslationRequest] = TypeAdapter(Request)
"""Reads and writes the one JSON form of a request."""


def parse_request(data: Mapping[str, Any]) -> TextRequest | TranslationRequest:
    """Build the request that `data` describes, the form that ``model_dump()`` gives.

    Raises:
        UserError: One sentence that names what is wrong.
    """
    try:
        return REQUEST.validate_python(dict(data))
    except ValidationError as error:
        raise UserError(explain(error)) from error


def restore_request(data: Mapping[str, Any]) -> tuple[TextRequest | TranslationRequest, str]:
    """Build as much of the request that `data` describes as can be used, which may come from elsewhere.

    Returns:
        The request, without the fields that cannot be used; and a sentence that says why they cannot, "" if all can.

    Raises:
        UserError: Too little of it can be used; one sentence that names what is wrong.
    """
    try:
        return REQUEST.validate_python(dict(data)), ""
    except ValidationError as error:
        wrong = {fault["loc"][1] for fault in error.errors() if len(fault["loc"]) > 1}  # after the kind
        problem = explain(error)
    try:
        return REQUEST.validate_python({name: value for name, value in data.items() if name not in wrong}), problem
    except ValidationError as error:
        raise UserError(problem) from error


@dataclass(frozen=True)
class Step:
    """How far a run has come.

    Attributes:
        index: Steps done, 1 to `total`; of several pictures those of all.
        total: Steps of the whole run.
        preview: The picture as it looks now, small; None where there is none.
        seconds: Time since the run began.
    """

    index: int
    total: int
    preview: Image.Image | None
    seconds: float


class Rendering(BaseModel):
    """A picture and everything that was said on the way to it; its JSON form leaves out the picture.

    Attributes:
        image: The picture: of the size asked for, or the input's; of the modality's PIL mode.
        request: The complete request: run again, it gives the same pixels.
        modality: What the picture shows.
        seconds: Time of the run, without loading weights and waiting.
        model: Bundle key and title; name and hash of each set of weights that was used.
        versions: Version of each library that shapes the pixels.
        created: ISO 8601 time, UTC.
        details: What else shaped the pixels, where anything did: bands and display range of a raster, the windows of a
            scene.
        synthetic: Always true: no picture made here is an observation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    image: Image.Image = Field(exclude=True, repr=False)
    request: Request
    modality: Modality
    seconds: float
    model: dict[str, Any]
    versions: dict[str, str]
    created: str
    details: dict[str, Any] = {}
    synthetic: Literal[True] = True
