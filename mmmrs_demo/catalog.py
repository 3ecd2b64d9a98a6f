"""Which weights can be loaded together, where they lie, and what to do about those that are missing; loads none."""

from __future__ import annotations

import hashlib
import secrets
import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from mmmrs_demo.errors import UserError, explain
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.request import BaseRequest, TextRequest, TranslationRequest, one_of

BASE = "base"
LORA = "lora"
# The other parts of a bundle are its ControlNets, each named by the key of its translation.

_DRAWN_SEEDS = 2**32  # short enough to be read out, and exact in a browser's numbers

_PIPELINE = "model_index.json"
_COMPONENTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")

_Direction = Annotated[str, one_of(TRANSLATIONS, "translation")]
_AnyRequest = TypeVar("_AnyRequest", bound=BaseRequest)


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Entry):
    """Where one set of weights may lie: a folder (or file) below ``weights/``, a repository of the Hub, or both.

    Attributes:
        path: Relative to ``weights/``; wins over the Hub where it exists.
        hub: Repository id.
        revision: Commit of that repository.
        subfolder: Folder in it.
        weight_name: File of a LoRA, needed where its folder holds several.
    """

    path: str | None = None
    hub: str | None = None
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    subfolder: str = ""
    weight_name: str | None = None

    @field_validator("path")
    @classmethod
    def _stays_below_weights(cls, path: str | None) -> str | None:
        if path is not None and (PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts):
            raise UserError(
                f"The path “{path}” in the catalog should be relative to the folder of weights, without “..”."
            )
        return path

    @model_validator(mode="after")
    def _is_somewhere(self) -> Source:
        if not (self.path or self.hub):
            raise UserError("Each set of weights in the catalog needs a path or the id of a Hub repository.")
        if self.hub and not self.revision:
            raise UserError(f"{self.hub} needs the commit it is pinned to (revision, 40 hexadecimal digits).")
        return self


class Difference(_Entry):
    """What one translation means differently from pictures made from words."""

    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None


class Defaults(_Entry):
    """What a request of this bundle means where it says nothing; a translation, by its key, may differ."""

    steps: int
    guidance: float
    scheduler: str
    text_lora_scale: float = 1.0
    translation_lora_scale: float = 0.0
    controlnet_scale: float = 1.0
    translations: dict[_Direction, Difference] = {}


def drawn_seed() -> int:
    """Return a seed drawn at random."""
    return secrets.randbelow(_DRAWN_SEEDS)


class Bundle(_Entry):
    """A base model with the LoRA and the ControlNets that were trained on it.

    Attributes:
        key: Name in requests.
        title: Name for people.
        summary: One sentence on what it was trained on.
        licence: Of its weights.
        card: Path of the model card, relative to ``weights/``.
        size: Native side in pixels.
        base: The pipeline.
        lora: Its MMM-RS adapter, where it has one.
        controlnets: By key of the translation.
        defaults: What None means in a request.
    """

    key: str
    title: str
    summary: str
    licence: str
    card: str
    size: Annotated[int, Field(multiple_of=64)]
    base: Source
    lora: Source | None = None
    controlnets: dict[_Direction, Source] = {}
    defaults: Defaults

    @property
    def parts(self) -> dict[str, Source]:
        """All that can be loaded, by name of the part."""
        return {BASE: self.base} | ({LORA: self.lora} if self.lora else {}) | self.controlnets

    @property
    def piece(self) -> int:
        """Longest side in pixels of what is made in one piece; models repeat themselves in anything larger."""
        return self.size * 3 // 2

    def complete(self, request: _AnyRequest) -> _AnyRequest:
        """Return `request` with every None filled in: this bundle's defaults, and a seed drawn at random.

        Only `source_sha256` stays as it is, because it is the engine that sees the picture.
        """
        values = self._meant_by(request)
        return request.model_copy(update={key: value for key, value in values.items() if getattr(request, key) is None})

    def _meant_by(self, request: BaseRequest) -> dict[str, object]:
        own = self.defaults
        shared = {"bundle": self.key, "seed": drawn_seed()}
        if isinstance(request, TextRequest):
            side = request.width or request.height or self.size
            return shared | {
                "steps": own.steps,
                "guidance": own.guidance,
                "scheduler": own.scheduler,
                "lora_scale": own.text_lora_scale if self.lora else 0.0,
                "width": side,
                "height": side,
            }
        key = request.translation if isinstance(request, TranslationRequest) else ""
        differs = own.translations.get(key, Difference())
        return shared | {
            "steps": own.steps if differs.steps is None else differs.steps,
            "guidance": own.guidance if differs.guidance is None else differs.guidance,
            "scheduler": differs.scheduler or own.scheduler,
            "lora_scale": own.translation_lora_scale,
            "controlnet_scale": own.controlnet_scale,
        }


@dataclass(frozen=True)
class Location:
    """Where a part of a bundle was found.

    Attributes:
        kind: "folder" (on this machine), "hub" (to be fetched from the Hub) or "missing".
        where: The folder, the LoRA's file, or the id of the Hub repository; "" where it is missing.
        hint: Where it is missing, the sentence that says what to do.
        source: What the catalog says of it; None where it says nothing.
    """

    kind: Literal["folder", "hub", "missing"]
    where: str = ""
    hint: str = ""
    source: Source | None = None


@dataclass(frozen=True)
class Status:
    """One row of the table of weights.

    Attributes:
        part: Name for people, such as ``RGB → SAR ControlNet``.
        where: Path relative to ``weights/``, or repository and commit; "" where the catalog names neither.
        present: Whether it is on this machine already.
        bytes: Size on this machine, 0 where it is not.
        licence: That of the bundle.
        hint: Where it is missing, the sentence that says what to do.
    """

    part: str
    where: str
    present: bool
    bytes: int
    licence: str
    hint: str = ""


class Catalog:
    """The bundles of one folder of weights; read it with `load`.

    Attributes:
        weights: The folder.
        bundles: By key, in the order of the file.
    """

    def __init__(self, weights: Path, bundles: dict[str, Bundle]) -> None:
        self.weights = weights
        self.bundles = bundles

    @classmethod
    def load(cls, weights: Path) -> Catalog:
        """Read ``catalog.toml`` in the folder `weights`.

        Raises:
            UserError: It is not there, or says what cannot be.
        """
        file = weights / "catalog.toml"
        try:
            tables = tomllib.loads(file.read_text(encoding="utf-8"))
            return cls(weights, {key: Bundle.model_validate({"key": key, **table}) for key, table in tables.items()})
        except OSError as error:
            raise UserError(f"There is no catalog of weights at {file}; MMMRS_WEIGHTS names its folder.") from error
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"The catalog {file} is no valid TOML: {error}.") from error
        except ValidationError as error:
            raise UserError(f"The catalog {file} cannot be used: {explain(error)}") from error

    def bundle(self, key: str) -> Bundle:
        """Return the bundle of that key.

        Raises:
            UserError: There is none; the sentence names those that there are.
        """
        if key not in self.bundles:
            raise UserError(f"There is no bundle “{key}”; choose one of {', '.join(self.bundles)}.")
        return self.bundles[key]

    def locate(self, bundle: Bundle, part: str) -> Location:
        """Find a part of a bundle: "base", "lora" or the key of a translation. A local folder wins over the Hub.

        Raises:
            UserError: It cannot be told which of several files is the LoRA.
        """
        source = bundle.parts.get(part)
        if source and (file := self._local(source, part)):
            return Location("folder", str(file), source=source)
        if source and source.hub:
            return Location("hub", source.hub, source=source)
        hint = f"There is no {part_title(part)} for {bundle.key} yet: " + (
            f"put one at {self.weights.name}/{source.path}"
            if source
            else f"name one in {self.weights.name}/catalog.toml"
        )
        if source and part != BASE:
            hint += f", or train one with `mmmrs-demo train {LORA if part == LORA else f'controlnet {part}'}`"
        return Location("missing", hint=hint + ".", source=source)

    def fingerprint(self, location: Location) -> str | None:
        """Name the weights at `location` so that no others have that name; None where it is missing.

        For the Hub that is repository and commit, for a folder its path and a hash of its files.
        """
        source = location.source
        if source is None or location.kind == "missing":
            return None
        if location.kind == "hub":
            return f"{source.hub}@{source.revision}"
        digest = hashlib.sha256()
        for file in _files(Path(location.where)):
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return f"{source.path} sha256:{digest.hexdigest()[:16]}"

    def status(self, bundle: Bundle) -> list[Status]:
        """Return a row for every part a bundle can have, the missing ones too."""
        return [self._status(bundle, part) for part in (BASE, LORA, *TRANSLATIONS)]

    def _status(self, bundle: Bundle, part: str) -> Status:
        location = self.locate(bundle, part)
        source = location.source
        files: list[Path] = []
        where = source.path or "" if source else ""
        if source and location.kind == "hub":
            where = f"{source.hub}@{source.revision}"
            files = _fetched(source, part)
        elif location.kind == "folder":
            files = _files(Path(location.where))
        size = sum(file.stat().st_size for file in files)
        return Status(part_title(part), where, bool(files), size, bundle.licence, location.hint)

    def _local(self, source: Source, part: str) -> Path | None:
        """Return the folder, or the LoRA's file, where it is complete enough to be tried."""
        if source.path is None:
            return None
        path = self.weights / source.path / source.subfolder
        mark = path / _mark(source, part)
        if mark.is_file():
            return mark if part == LORA else path
        files = sorted(path.glob("*.safetensors")) if part == LORA and not source.weight_name else []
        if len(files) > 1:
            raise UserError(
                f"There are several LoRAs at {path}; name one with weight_name in the catalog, or keep one."
            )
        return files[0] if files else None


def part_title(part: str) -> str:
    """Return the name for people of a part: "base", "lora" or the key of a translation."""
    return {BASE: "base model", LORA: "LoRA"}.get(part) or f"{TRANSLATIONS[part].title} ControlNet"


def _mark(source: Source, part: str) -> str:
    """Return the file by which a set of weights is recognised."""
    return {BASE: _PIPELINE, LORA: source.weight_name or "pytorch_lora_weights.safetensors"}.get(part, "config.json")


def _files(path: Path) -> list[Path]:
    """Return the files that are loaded from a folder of weights, in a fixed order."""
    if path.is_file():
        return [path]
    folders = [path / name for name in _COMPONENTS] if (path / _PIPELINE).is_file() else [path]
    # A second dot marks what is not loaded: variants such as model.fp16.safetensors beside model.safetensors.
    files = (file for folder in folders for file in folder.glob("*.*") if file.name.count(".") == 1)
    return sorted(file for file in files if file.suffix in (".json", ".safetensors", ".txt"))


def _fetched(source: Source, part: str) -> list[Path]:
    """Return the files of a Hub repository that an earlier run has fetched."""
    from huggingface_hub import try_to_load_from_cache

    mark = PurePosixPath(source.subfolder) / _mark(source, part)
    found = try_to_load_from_cache(source.hub or "", str(mark), revision=source.revision)
    if not isinstance(found, str):
        return []
    return _files(Path(found) if part == LORA else Path(found).parent)
