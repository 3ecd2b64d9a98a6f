"""The exceptions that mean something to a person; knows nothing of what raises them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threading import Event

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_SHOWN_INPUT = 40  # characters of a refused value that are repeated to the person


class UserError(ValueError):
    """One clear sentence for a person: what was wrong with which input, and what would work."""


class Stopped(Exception):  # noqa: N818 - pressing Stop is an outcome, not an error
    """The person pressed Stop; there is no picture, and nothing went wrong."""


def heed(stop: Event | None) -> None:
    """Raise Stopped where `stop` was set."""
    if stop and stop.is_set():
        raise Stopped


def explain(error: ValidationError) -> str:
    """Turn what pydantic found into one sentence for a person, such as ``Steps should be at least 1, not 0.``."""
    sentence = "; ".join(_say(fault) for fault in error.errors(include_url=False))
    return sentence[:1].upper() + sentence[1:] + "."


def _say(fault: ErrorDetails) -> str:
    name = next((part for part in reversed(fault["loc"]) if isinstance(part, str)), "the request").replace("_", " ")
    own = fault.get("ctx", {}).get("error")
    if isinstance(own, UserError):
        return str(own).rstrip(".")
    if fault["type"] == "extra_forbidden":
        return f"there is no setting called {name}"
    if fault["type"] == "missing":
        return f"{name} is missing"
    if fault["type"].startswith("union_tag"):
        return "the request names no kind that there is"
    message = f"{name} {fault['msg'].partition(' ')[2]}"  # "Input should be ...", "String should match ..."
    for long, short in (("greater than or equal to", "at least"), ("less than or equal to", "at most")):
        message = message.replace(long, short)
    given = repr(fault["input"])
    return f"{message}, not {given if len(given) <= _SHOWN_INPUT else given[:_SHOWN_INPUT] + '…'}"
