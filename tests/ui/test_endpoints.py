"""The four endpoints, as programs and assistants call them; and what is not one of them."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from mmmrs_demo import provenance
from mmmrs_demo.catalog import Catalog
from mmmrs_demo.errors import UserError
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import GSD_LEVELS, SATELLITES, WEATHERS
from mmmrs_demo.request import MAX_SEED, SCHEDULERS, TextRequest, TranslationRequest
from mmmrs_demo.ui import app
from tests import loops
from tests.ui.fake import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmmrs_demo.settings import Settings
    from tests.ui.conftest import Server

pytestmark = pytest.mark.ui

ROOT = Path(__file__).resolve().parents[2]
ENDPOINTS = {"/generate": 1, "/translate": 1, "/compare": 2, "/bundles": 1}
"""How many results each gives."""


@pytest.fixture
def client(server: Server, tmp_path: Path) -> Client:
    return Client(server.url, verbose=False, download_files=str(tmp_path / "down"))


@pytest.fixture
def tile(tmp_path: Path) -> Path:
    file = tmp_path / "tile.png"
    Image.linear_gradient("L").resize((96, 64)).convert("RGB").save(file)
    return file


def test_generate_gives_one_file_with_its_request(client: Client, server: Server) -> None:
    file = client.predict(
        caption="a satellite image shows a park in the city",
        gsd="high",
        weather="snow",
        satellite="Google Earth",
        steps=3,
        seed=MAX_SEED,
        width=128,
        api_name="/generate",
    )
    read = provenance.read(file)
    request = server.engine.requests[0]
    assert read.request == request
    assert isinstance(request, TextRequest)
    assert (request.prompt.weather, request.steps, request.seed) == ("snow", 3, MAX_SEED)
    assert (request.width, request.guidance, request.bundle) == (128, 4.0, "small")


def test_generate_makes_large_pictures_too(client: Client, server: Server) -> None:
    file = client.predict(caption="a park", seed=7, width=256, height=128, scheduler="euler", api_name="/generate")
    read = provenance.read(file)
    assert read.request == server.engine.requests[0]
    assert (read.request.seed, read.request.scheduler) == (7, "euler")
    assert read.details["windows"]["count"] > 1
    with Image.open(file) as picture:
        assert picture.size == (256, 128)


def test_translate_gives_one_file_of_the_size_of_the_tile(client: Client, server: Server, tile: Path) -> None:
    file = client.predict(translation="rgb2sar", image=handle_file(tile), api_name="/translate")
    request = server.engine.requests[0]
    assert isinstance(request, TranslationRequest)
    assert provenance.read(file).request == request
    assert request.prompt.text == ""
    with Image.open(file) as picture:
        assert (picture.size, picture.mode) == ((96, 64), "L")


def test_translate_gives_the_mean_of_samples(client: Client, server: Server, tile: Path) -> None:
    said = {"translation": "rgb2sar", "image": handle_file(tile), "seed": 9, "api_name": "/translate"}
    file = client.predict(**said, samples=3)
    request = provenance.read(file).request
    assert isinstance(request, TranslationRequest)
    assert request.samples == 3
    asked = server.engine.requests.copy()
    assert [request.seed for request in asked] == [9, 10, 11]
    with Image.open(tile) as source, Image.open(file) as mean:
        made = [np.asarray(server.engine.run(request, source).image, np.float32) for request in asked]
        assert np.array_equal(np.asarray(mean), np.floor(np.mean(made, axis=0) + 0.5))
    for wrong in (0, 17):
        with pytest.raises(AppError, match=f"Samples should be at .*, not {wrong}"):
            client.predict(**said, samples=wrong)


def test_compare_gives_a_sheet_and_a_zip(client: Client, server: Server) -> None:
    sheet, archive = client.predict(
        caption="a park",
        seed=7,
        rows="weather",
        row_values=["clear", "fog"],
        columns="steps",
        column_values=[2, "3"],
        api_name="/compare",
    )
    asked = [(request.prompt.text, request.steps, request.seed) for request in server.engine.requests]
    assert asked == [(prompt, steps, 7) for prompt in ("a park", "fog, a park") for steps in (2, 3)]
    assert provenance.read(sheet).details["grid"]["columns"] == {"axis": "steps", "values": ["2", "3"]}
    with zipfile.ZipFile(archive) as files:
        singles = [name for name in sorted(files.namelist()) if name.endswith("_seed-7.png")]
        assert [provenance.read(files.read(name)).request for name in singles] == server.engine.requests


def test_bundles_say_what_there_is(client: Client) -> None:
    small, large = client.predict(api_name="/bundles")
    assert (small["key"], small["title"], small["size"], small["licence"]) == ("small", "Small", 64, "CC0-1.0")
    assert (small["in_use"], large["in_use"]) == (True, False)
    assert small["translations"] == list(TRANSLATIONS)
    assert small["parts"]["rgb2sar"] == {"present": True, "hint": ""}
    assert small["defaults"]["generate"]["steps"] == 8
    assert small["defaults"]["translate"]["nir2rgb"]["controlnet_scale"] == 1
    assert (large["translations"], large["parts"]["base"]["present"]) == ([], False)
    assert large["parts"]["base"]["hint"].startswith("There is no base model for large yet")


def test_what_is_wrong_is_one_sentence(client: Client, server: Server, tmp_path: Path) -> None:
    text = tmp_path / "notes.png"
    text.write_text("no picture")
    calls: list[tuple[dict[str, Any], str]] = [
        ({"steps": 0, "api_name": "/generate"}, "Steps should be at least 1"),
        ({"seed": MAX_SEED + 1, "api_name": "/generate"}, "Seed should be"),
        ({"gsd": "medium", "api_name": "/generate"}, "There is no gsd “medium”"),
        ({"translation": "rgb2xyz", "image": handle_file(text), "api_name": "/translate"}, "There is no translation"),
        ({"translation": "rgb2sar", "image": handle_file(text), "api_name": "/translate"}, "not a picture"),
        ({"rows": "cloud", "api_name": "/compare"}, "There is no axis “cloud”"),
        ({"rows": "seed", "row_values": ["x"], "api_name": "/compare"}, "Seed should be a valid integer"),
        (
            {"rows": "seed", "row_values": [*range(99)], "columns": None, "api_name": "/compare"},
            "These are 99 pictures",
        ),
    ]
    for said, sentence in calls:
        with pytest.raises(AppError, match=sentence):
            client.predict(**said)
    assert server.engine.requests == []


def test_no_endpoint_reads_a_file_that_nobody_uploaded(server: Server, tile: Path) -> None:
    """A path without the mark of an upload passes Gradio's own check, so ours must catch it."""
    for image in ({"path": str(tile)}, str(tile)):
        said = {"translation": "rgb2sar", "image": image}
        event = httpx.post(f"{server.url}gradio_api/call/v2/translate", json=said).json()["event_id"]
        answer = httpx.get(f"{server.url}gradio_api/call/translate/{event}", timeout=60).text
        assert answer.startswith("event: error")
        assert "The image should be an uploaded file" in answer
    assert server.engine.requests == []


def test_just_these_endpoints_are_offered_and_all_are_documented(client: Client) -> None:
    offered = client.view_api(return_format="dict", print_info=False, all_endpoints=True)
    assert offered["unnamed_endpoints"] == {}
    assert {name: len(endpoint["returns"]) for name, endpoint in offered["named_endpoints"].items()} == ENDPOINTS
    for name, endpoint in offered["named_endpoints"].items():
        for parameter in endpoint["parameters"]:
            assert f"{parameter['parameter_name']}: " in endpoint["description"]
        if name != "/bundles":
            for word in (*(level.key for level in GSD_LEVELS), *WEATHERS, *SATELLITES, *SCHEDULERS):
                assert word in endpoint["description"]
    assert all(key in offered["named_endpoints"]["/translate"]["description"] for key in TRANSLATIONS)


# --- the examples of the README ---------------------------------------------------------------------------------------


@pytest.fixture
def examples(server: Server, tmp_path: Path) -> dict[str, str]:
    """Return them by language, asking the page of this test, and run them where their tile is."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    part = text.split("<!-- examples over http -->")[1].split("<!-- end of examples over http -->")[0]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    found = dict(re.findall(r"```(\w+)\n(.*?)```", part, re.DOTALL))
    return {kind: code.replace("http://127.0.0.1:7860", server.url.rstrip("/")) for kind, code in found.items()}


def ran(command: list[str], folder: Path) -> str:
    surroundings = os.environ | {"GRADIO_TEMP_DIR": str(folder / "down")}
    done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_python_as_in_the_readme(examples: dict[str, str], server: Server, tmp_path: Path) -> None:
    said = ran([sys.executable, "-c", examples["py"] + "print(park, nir, sheet, archive, len(models))"], tmp_path)
    park, nir, sheet, archive, count = said.splitlines()[-1].split()
    assert [provenance.read(file).request for file in (park, nir)] == server.engine.requests[:2]
    assert provenance.read(sheet).details["grid"]["columns"]["values"] == ["5", "20"]
    assert zipfile.is_zipfile(archive)
    assert count == "2"


def test_curl_as_in_the_readme(examples: dict[str, str], server: Server, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("There is no curl.")
    said = ran(["sh", "-c", examples["sh"]], tmp_path)
    made = [provenance.read(tmp_path / name).request for name in ("park.png", "nir.png")]
    assert made == server.engine.requests[:2]
    sheet, archive = re.findall(r"^http\S+$", said, re.MULTILINE)
    assert provenance.read(httpx.get(sheet).content).details["grid"]["columns"]["values"] == ["5", "20"]
    assert zipfile.is_zipfile(BytesIO(httpx.get(archive).content))
    assert '"key": "small"' in said


# --- tools for assistants ---------------------------------------------------------------------------------------------


@pytest.fixture
def tools(server: Server, settings: Settings) -> Iterator[Server]:
    """A page that offers its endpoints as tools."""
    pytest.importorskip("mcp")
    catalog = Catalog.load(settings.weights)
    engine = FakeEngine(catalog, settings)
    blocks = app.create_app(engine, catalog, settings)
    options = app.launch_options(settings.model_copy(update={"mcp": True}))
    _, url, _ = blocks.launch(**options, prevent_thread_lock=True, quiet=True)
    yield replace(server, url=url, engine=engine)
    blocks.close()


def test_the_endpoints_are_tools(tools: Server, tile: Path) -> None:
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    data = f"data:image/png;base64,{base64.b64encode(tile.read_bytes()).decode()}"

    async def session() -> dict[str, Any]:
        async with (
            streamable_http_client(f"{tools.url}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as client,
        ):
            await client.initialize()
            calls: list[tuple[str, dict[str, Any]]] = [
                ("generate", {"caption": "a park", "seed": 7}),
                ("translate", {"translation": "rgb2nir", "image": data}),
                ("bundles", {}),
                ("compare", {"caption": "a park", "rows": "seed", "row_values": ["1", "2"], "columns": None}),
                ("generate", {"steps": 0}),
            ]
            return {
                "tools": (await client.list_tools()).tools,
                "answers": [await client.call_tool(*call) for call in calls],
            }

    said = loops.run(session())
    listed = {tool.name: tool for tool in said["tools"]}
    assert {f"/{name}" for name in listed} == set(ENDPOINTS)
    assert "Make a synthetic satellite image from words." in listed["generate"].description
    parameters = listed["translate"].inputSchema["properties"]
    assert parameters["image"]["type"] == "string"
    assert parameters["weather"]["description"] == "snow, fog or night; left out for clear weather."

    made, translated, models, compared, refused = said["answers"]
    assert [request.kind for request in tools.engine.requests] == ["text", "translation", "text", "text"]
    for answer, request in zip((made, translated), tools.engine.requests[:2], strict=True):
        picture, address = answer.content
        assert picture.type == "image"
        file = httpx.get(address.text.removeprefix("Image URL: ")).content
        assert provenance.read(file).request == request
    assert "'key': 'small'" in models.content[0].text
    sheet, archive = re.findall(r"https?://[^'\s]+", compared.content[0].text)
    assert provenance.read(httpx.get(sheet).content).details["grid"]["rows"]["values"] == ["1", "2"]
    assert zipfile.is_zipfile(BytesIO(httpx.get(archive).content))
    assert refused.isError
    assert "Steps should be at least 1" in refused.content[0].text


def test_tools_need_their_package(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "find_spec", lambda _: None)
    assert not app.launch_options(settings)["mcp_server"]
    with pytest.raises(UserError, match=r"install it with pip install 'mmmrs-demo\[mcp\]'"):
        app.launch_options(settings.model_copy(update={"mcp": True}))
