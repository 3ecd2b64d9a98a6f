"""The program `app.py` itself: the page is there before anything heavy is touched, and whatever weights there are."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from mmmrs_demo.settings import Settings

pytestmark = pytest.mark.ui

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_needs_nothing_heavy() -> None:
    code = "import json, sys, mmmrs_demo.ui, app; print(json.dumps(list(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"torch", "diffusers", "transformers", "peft", "torchvision", "scipy"}
    assert not heavy & set(json.loads(shown.stdout))


@pytest.mark.parametrize("program", [["app.py"], ["-m", "mmmrs_demo", "weights"]], ids=["app.py", "mmmrs-demo"])
@pytest.mark.parametrize(
    ("name", "value", "works"),
    [
        ("MMMRS_MAX_STEPS", "many", "a whole number above 0"),
        ("MMMRS_MAX_CAPTION", "0", "a whole number above 0"),
        ("MMMRS_MCP", "perhaps", "true or false"),
    ],
)
def test_a_wrong_setting_is_said_in_a_sentence(program: list[str], name: str, value: str, works: str) -> None:
    surroundings = os.environ | {name: value}
    ended = subprocess.run(
        [sys.executable, *program], cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.removeprefix("mmmrs-demo: ") == f"{name} cannot be “{value}”: it should be {works}.\n"


def test_the_page_comes_first_and_missing_weights_are_said_in_a_sentence(settings: Settings, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    surroundings = os.environ | {
        "MMMRS_WEIGHTS": str(settings.weights),
        "MMMRS_BUNDLE": "large",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(tmp_path),
    }
    with subprocess.Popen(
        [sys.executable, "-u", "app.py"],
        cwd=ROOT,
        env=surroundings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as app:
        try:
            said = ""
            for line in app.stdout or ():
                said += line
                if "There is no base model for large yet" in line:
                    break
            assert "Running on local URL" in said
            assert "Traceback" not in said
            info = httpx.get(f"http://127.0.0.1:{port}/gradio_api/info", timeout=60).json()
            assert set(info["named_endpoints"]) == {"/generate", "/translate", "/compare", "/bundles"}
        finally:
            app.terminate()
