"""The fold with what a person made before: each result can be seen again, made again, deleted, and taken along."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from mmmrs_demo.archive import pack
from mmmrs_demo.errors import UserError
from mmmrs_demo.request import TranslationRequest
from mmmrs_demo.ui.cache import discard, fresh_folder
from mmmrs_demo.ui.controls import form_values
from mmmrs_demo.ui.language import marked
from mmmrs_demo.ui.page import QUIET, TEXT, thumbnails
from mmmrs_demo.ui.stage import told
from mmmrs_demo.ui.visits import MOST_KEPT, Kept, Updates, Visitor, Visits

if TYPE_CHECKING:
    from pathlib import Path

    from mmmrs_demo.ui.page import Page

_ANSWERED: dict[str, Any] = QUIET | {"queue": True, "concurrency_limit": None}
_ZIP = "mmmrs_history.zip"
_ONLINE = "online"
_WHEN_ONLINE = f"() => addEventListener('online', () => document.getElementById('{_ONLINE}').click())"


def history(page: Page, blocks: gr.Blocks, tabs: gr.Tabs) -> None:
    """Lay the fold out beneath the tabs, once all of them are laid out, and make it work.

    When a page is opened, it also brings back what went on without one.
    """
    _History.lay_out(page, tabs).connect(blocks)


@dataclass(frozen=True)
class _History:
    """The fold; a result is known by its key, since its number changes when another one comes.

    Attributes:
        page: What the tabs share.
        visits: Who is here.
        tabs: Those of the page.
        fold: Around the rest; hidden as long as there is nothing.
        thumbnails: Of the results, newest first.
        keys: Holds the keys of those that are shown.
        chosen: Holds the key of the one that was chosen.
        actions: Buttons that do something with it, by name.
        pack: Makes the zip of all.
        download: Gives it.
        online: Pressed by the browser when its connection is there again.
    """

    page: Page
    visits: Visits
    tabs: gr.Tabs
    fold: gr.Accordion
    thumbnails: gr.Gallery
    keys: gr.State
    chosen: gr.State
    actions: dict[str, gr.Button]
    pack: gr.Button
    download: gr.DownloadButton
    online: gr.Button

    @classmethod
    def lay_out(cls, page: Page, tabs: gr.Tabs) -> _History:
        """Lay it out."""
        with gr.Accordion("History", open=False, visible=False, elem_classes="history") as fold:
            gr.Markdown(
                f"Your last {MOST_KEPT} results, kept for a day; only this browser can see them. Choose one.",
                elem_classes="about",
            )
            small = thumbnails("Earlier results", show_label=False)
            with gr.Row():
                actions = {
                    "open": gr.Button("Open", size="md", interactive=False),
                    "again": gr.Button("Use these settings", size="md", interactive=False),
                    "delete": gr.Button("Delete", size="md", interactive=False),
                }
                everything = gr.Button("Zip all", size="md")
                download = gr.DownloadButton("Download zip", visible=False, size="md")
        keys, chosen = gr.State([]), gr.State("")
        online = gr.Button(visible="hidden", elem_id=_ONLINE)
        return cls(page, Visits.here(), tabs, fold, small, keys, chosen, actions, everything, download, online)

    def connect(self, blocks: gr.Blocks) -> None:
        """Make it work."""
        token, places = self.visits.token, self.visits.places.values()
        shown = [self.fold, self.thumbnails, self.keys, self.chosen, *self.actions.values(), self.download]
        back = dict.fromkeys(part for one in self.visits.returns.values() for part in one.outputs)
        came = gr.on([blocks.load, self.online.click], self._come_back, token, [token, self.tabs, *back], **_ANSWERED)
        blocks.load(None, None, None, js=_WHEN_ONLINE)
        ends: list[Any] = [blocks.load, self.fold.expand, *(ended.then for ended in (came, *self.visits.ends))]
        for event in ends:
            event(self._refresh, [token, self.keys], shown, **_ANSWERED)
        self.thumbnails.select(self._choose, self.keys, [self.chosen, *self.actions.values()], **QUIET)
        said = [token, self.chosen]
        outputs = list(dict.fromkeys(part for place in places for part in place.outputs))
        self.actions["open"].click(self._open, said, [self.tabs, *outputs], **_ANSWERED)
        fields = [component for form in self.page.forms.values() for component in form.values()]
        self.actions["again"].click(self._again, said, [self.tabs, self.page.bundle, *fields], **_ANSWERED)
        self.actions["delete"].click(self._delete, said, None, **_ANSWERED).success(
            self._refresh, [token, self.keys], shown, **_ANSWERED
        )
        self.pack.click(self._pack, token, self.download, **_ANSWERED)

    async def _come_back(self, request: gr.Request, token: str | None) -> AsyncGenerator[Updates]:
        yield {self.visits.token: self.visits.token_of(token, str(request.session_hash))}
        if made := await self.visits.left_alone(self._visitor(request, token), str(request.session_hash)):
            if place := self.visits.places.get(made.place):
                yield {self.tabs: gr.Tabs(selected=place.tab.id)}
            async with aclosing(self.visits.returns[made.place].watch(made, str(request.session_hash))) as shown:
                async for updates in shown:
                    yield updates

    def _refresh(self, request: gr.Request, token: str | None, keys: list[str]) -> Updates:
        kept = self._visitor(request, token).kept
        now = [one.key for one in kept]
        if now == keys:
            return {self.keys: gr.skip()}
        return {
            self.fold: gr.update(label=f"{marked('History')} ({len(kept)})", visible=bool(kept)),
            self.thumbnails: gr.update(value=[self._captioned(one) for one in kept], selected_index=None),
            self.keys: now,
            self.chosen: "",
            **{button: gr.update(interactive=False) for button in self.actions.values()},
            self.download: gr.update(visible=False),
        }

    def _choose(self, event: gr.SelectData, keys: list[str]) -> Updates:
        chosen: Updates = {self.chosen: keys[event.index]}
        return chosen | {button: gr.update(interactive=True) for button in self.actions.values()}

    def _open(self, request: gr.Request, token: str | None, key: str) -> Updates:
        with told():
            chosen = self._find(request, token, key)
            place = self.visits.places[chosen.place]
            return {self.tabs: gr.Tabs(selected=place.tab.id), **place.show(chosen.outcome)}

    def _again(self, request: gr.Request, token: str | None, key: str) -> Updates:
        with told():
            made = self._find(request, token, key).request
            tab = made.translation if isinstance(made, TranslationRequest) else TEXT
            said, form = form_values(made), self.page.forms[tab]
            filled: Updates = {component: said[name] for name, component in form.items() if name in said}
            return {self.tabs: gr.Tabs(selected=tab), self.page.bundle: made.bundle, **filled}

    def _delete(self, request: gr.Request, token: str | None, key: str) -> None:
        with told():
            self._visitor(request, token).forget(self._find(request, token, key))

    async def _pack(self, request: gr.Request, token: str | None) -> dict[str, Any]:
        with told():
            kept = self._visitor(request, token).kept
            return gr.update(value=str(await asyncio.to_thread(_packed, kept)), visible=True)

    def _captioned(self, one: Kept) -> tuple[str, str]:
        seed = "" if one.request.seed is None else f" · seed {one.request.seed}"
        return str(one.thumbnail), f"{self.visits.places[one.place].name}{seed}"

    def _visitor(self, request: gr.Request, token: str | None) -> Visitor:
        return self.visits.visitor(token, str(request.session_hash))

    def _find(self, request: gr.Request, token: str | None, key: str) -> Kept:
        for one in self._visitor(request, token).kept:
            if one.key == key and all(file.is_file() for file in one.files):
                return one
        raise UserError("This result is gone, for it was deleted or is older than a day: choose another one.")


def _packed(kept: list[Kept]) -> Path:
    folder = fresh_folder()
    try:
        files = [file for one in reversed(kept) for file in one.files if file.is_file()]
        for number, file in enumerate(files, 1):  # two may have one name
            (folder / f"{number:02}_{file.name}").hardlink_to(file)
        pack(folder, archive := fresh_folder() / _ZIP)
    finally:
        discard(folder)
    return archive
