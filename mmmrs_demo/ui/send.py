"""Sends a result to the tabs that take what it shows: the file itself, not the picture of it on the page."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from mmmrs_demo.errors import UserError
from mmmrs_demo.ui.cache import twin
from mmmrs_demo.ui.page import QUIET
from mmmrs_demo.ui.stage import told
from mmmrs_demo.ui.visits import Visits

if TYPE_CHECKING:
    from mmmrs_demo.ui.job import Outcome


def connect_sending(tabs: gr.Tabs) -> None:
    """Make the buttons of all places send what is shown there; call it when all tabs are laid out."""
    places = Visits.here().places.values()
    tiles = {place.tab.id: place.tile for place in places if place.tile}
    for place in places:
        for key, button in place.sends.items():
            button.click(partial(_sent, key), place.last, [tabs, tiles[key]], **(QUIET | {"queue": True}))


def _sent(key: str, outcome: Outcome | None) -> Any:
    with told():
        if outcome is None:
            raise UserError("There is no picture to send yet: make one first.")
        try:
            file = twin(Path(outcome.made.file))
        except FileNotFoundError as error:
            raise UserError("The picture is gone, for it was deleted or is older than a day: make it again.") from error
    return gr.Tabs(selected=key), str(file)
