"""Several people at once: one line in fair order, everybody told where they are, and nobody sees another's."""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import Page, Request, expect

from tests.ui.fake import FREE
from tests.ui.test_history import history
from tests.ui.test_page import done, generate, press, tab

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ui.conftest import Server

pytestmark = pytest.mark.ui


def test_people_wait_in_one_line_and_are_told_where(open_page: Callable[..., Page], server: Server) -> None:
    panels = []
    server.engine.hold_after = 1
    for number, words in enumerate(("Step 1 of 8", "1 before you", "2 before you")):
        panel = tab(open_page(), "Generate")
        panel.get_by_label("Caption").fill(f"lake {number}")
        press(panel, "Generate")
        expect(panel.get_by_text(words)).to_be_visible()
        panels.append(panel)
    press(panels[1], "Stop")
    expect(panels[1].get_by_text("Stopped.")).to_be_visible()
    expect(panels[2].get_by_text("Waiting for its turn: 1 before you")).to_be_visible()
    press(panels[1], "Generate")
    expect(panels[1].get_by_text("Waiting for its turn: 2 before you")).to_be_visible()
    server.engine.hold_after = FREE
    for panel in panels:
        done(panel)
    assert [request.prompt.caption for request in server.engine.requests] == ["lake 0", "lake 2", "lake 1"]


def call(server: Server, name: str, data: list[Any]) -> Any:
    """Call what the page calls, as a stranger without a browser would."""
    config = httpx.get(f"{server.url}config", timeout=60).json()
    number = next(one["id"] for one in config["dependencies"] if one["api_name"] == name)
    page = secrets.token_hex(6)
    body = {"data": data, "fn_index": number, "session_hash": page}
    httpx.post(f"{server.url}gradio_api/queue/join", json=body, timeout=60).raise_for_status()
    with httpx.stream("GET", f"{server.url}gradio_api/queue/data?session_hash={page}", timeout=60) as events:
        for line in events.iter_lines():
            event = json.loads(line.removeprefix("data: ") or "{}")
            if event.get("msg") == "process_completed":
                assert event["success"]
                return event["output"]["data"]
    raise AssertionError("no answer")


def test_nobody_sees_what_others_made(page: Page, returning: Page, server: Server) -> None:
    mine, theirs = page, returning
    asked: list[Request] = []
    mine.on("request", lambda request: asked.extend([request]))  # Playwright cannot take a method of a list
    panel = tab(mine, "Generate")
    generate(panel, server)
    history(mine, 1)
    expect(theirs.locator(".history")).to_be_hidden()
    theirs.reload()
    expect(tab(theirs, "Generate").get_by_role("button", name="Generate", exact=True)).to_be_visible()
    expect(theirs.locator(".history")).to_be_hidden()

    said = "".join(request.post_data or "" for request in asked)
    (token,) = set(re.findall(r'"([0-9a-f]{32})"', said))
    assert token not in mine.content()
    assert token not in mine.evaluate("JSON.stringify(localStorage)")
    assert not [request.url for request in asked if token in request.url]
    ours = json.dumps(call(server, "_refresh", [token, None]))
    assert "thumbnail.png" in ours
    for other in (None, "", secrets.token_hex(16), token[:-1], token.upper(), [token], {"token": token}):
        assert "thumbnail.png" not in json.dumps(call(server, "_refresh", [other, None]))

    addresses = re.findall(r'"path": "([^"]+)"', ours)
    assert re.fullmatch(r".*/mmmrs-[0-9a-f]{32}/[0-9a-f]{32}/thumbnail\.png", addresses[0])
