"""The two endpoints, as a program calls them; and what is not one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from mmmrs_demo import provenance
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.prompt import GSD_LEVELS, SATELLITES, WEATHERS
from mmmrs_demo.request import MAX_SEED, SCHEDULERS, TextRequest, TranslationRequest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ui.conftest import Server

pytestmark = pytest.mark.ui


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


def test_what_is_wrong_is_one_sentence(client: Client, server: Server, tmp_path: Path) -> None:
    text = tmp_path / "notes.png"
    text.write_text("no picture")
    calls: list[tuple[dict[str, Any], str]] = [
        ({"steps": 0, "api_name": "/generate"}, "Steps should be at least 1"),
        ({"seed": MAX_SEED + 1, "api_name": "/generate"}, "Seed should be"),
        ({"gsd": "medium", "api_name": "/generate"}, "There is no gsd “medium”"),
        ({"translation": "rgb2xyz", "image": handle_file(text), "api_name": "/translate"}, "There is no translation"),
        ({"translation": "rgb2sar", "image": handle_file(text), "api_name": "/translate"}, "not a picture"),
    ]
    for said, sentence in calls:
        with pytest.raises(AppError, match=sentence):
            client.predict(**said)
    assert server.engine.requests == []


def test_no_endpoint_reads_a_file_that_nobody_uploaded(server: Server, tile: Path) -> None:
    """A path without the mark of an upload passes Gradio's own check, so ours must catch it."""
    for image in ({"path": str(tile)}, str(tile)):
        said = {"data": ["rgb2sar", image]}
        event = httpx.post(f"{server.url}gradio_api/call/translate", json=said).json()["event_id"]
        answer = httpx.get(f"{server.url}gradio_api/call/translate/{event}", timeout=60).text
        assert answer.startswith("event: error")
    assert server.engine.requests == []


def test_only_two_endpoints_are_offered_and_both_are_documented(client: Client) -> None:
    offered = client.view_api(return_format="dict", print_info=False, all_endpoints=True)
    assert set(offered["named_endpoints"]) == {"/generate", "/translate"}
    for endpoint in offered["named_endpoints"].values():
        assert len(endpoint["returns"]) == 1
        for parameter in endpoint["parameters"]:
            assert f"{parameter['parameter_name']}: " in endpoint["description"]
        for word in (*(level.key for level in GSD_LEVELS), *WEATHERS, *SATELLITES, *SCHEDULERS):
            assert word in endpoint["description"]
    assert all(key in offered["named_endpoints"]["/translate"]["description"] for key in TRANSLATIONS)
