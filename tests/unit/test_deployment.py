"""The app as Spaces and containers run it: by somebody who may not write where the code is, with the real weights."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import httpx
import pytest
from gradio_client import Client

from mmmrs_demo import provenance
from mmmrs_demo.catalog import Catalog
from mmmrs_demo.errors import UserError
from mmmrs_demo.settings import Settings
from mmmrs_demo.ui.app import create_app, launch_options
from tests.ui.fake import FakeEngine
from tests.unit.test_repository import ROOT, tracked

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 1000  # the user of Spaces and of our container
PATIENCE = 240  # seconds


@dataclass(frozen=True)
class Place:
    """Where a program runs.

    Attributes:
        code: Folder that it may read.
        temporary: Folder that it may write, beside its home.
        python: An interpreter that its user may run.
        user: Who runs it; None for who runs the tests.
    """

    code: Path
    temporary: Path
    python: str
    user: int | None

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """Start a program of the code, with no more of the environment here than it needs, and nothing of a home."""
        surroundings = {
            "PATH": os.defpath,
            "HOME": "/nonexistent",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
            "PYTHONPATH": sysconfig.get_path("purelib"),
            "PYTHONUNBUFFERED": "1",
            "GRADIO_TEMP_DIR": str(self.temporary / "gradio"),
            "GRADIO_SERVER_NAME": "0.0.0.0",  # noqa: S104 - as on a Space
        }
        user = {"user": self.user, "group": self.user, "extra_groups": []} if self.user else {}
        return subprocess.Popen(
            [self.python, *words],
            cwd=self.code,
            env=surroundings | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **user,  # type: ignore[call-overload]
        )


def interpreter(user: int | None) -> str:
    """Return one that this user may run; whose tests run as root may have theirs in a folder of root's."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, shutil.which(name, path=os.defpath)):
        if python and user is None:
            return python
        try:
            subprocess.run([python or "", "-c", ""], user=user, group=user, extra_groups=[], check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python or ""
    pytest.skip(f"user {user} may run no {name} here")


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    user = NOBODY if os.geteuid() == 0 else None
    python = interpreter(user)
    with TemporaryDirectory() as folder:  # pytest's own are closed to others
        house = Path(folder)
        house.chmod(0o755)
        code, temporary = house / "code", house / "temporary"
        temporary.mkdir()
        temporary.chmod(0o777)
        for file in tracked("app.py", "mmmrs_demo", "weights", "examples"):
            copy = code / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        paths = [code, *code.rglob("*")]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield Place(code, temporary, python, user)
        for path in paths:
            path.chmod(0o755)  # so that it can be removed


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def health_check() -> list[str]:
    """Return the arguments that the Dockerfile gives to Python."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (command,) = re.findall(r"^HEALTHCHECK.*?CMD (\[.*?\])$", text, re.MULTILINE | re.DOTALL)
    python, *words = json.loads(command)
    assert python == "python"
    return words


@pytest.mark.real
def test_the_app_serves_where_it_may_not_write_its_code(place: Place) -> None:
    port = free_port()
    here = {"GRADIO_SERVER_PORT": str(port), "SPACE_ID": "somebody/mmmrs-demo", "SYSTEM": "spaces"}
    check = place.start(*health_check(), **here)
    assert check.wait(PATIENCE), "healthy before it runs"
    app = place.start("app.py", **here)
    try:
        url = f"http://127.0.0.1:{port}"
        while place.start(*health_check(), **here).wait(PATIENCE):  # the test's own limit ends it
            assert app.poll() is None, app.communicate()
            time.sleep(0.5)
        assert httpx.get(f"{url}/gradio_api/info", timeout=PATIENCE).is_success
        assert "MMM-RS Demo" in httpx.get(url, timeout=PATIENCE).text
        file = Client(url, verbose=False).predict(caption="a pond", steps=2, seed=7, api_name="/generate")
        assert provenance.read(file).request.seed == 7
        app.send_signal(signal.SIGINT)  # the Dockerfile's STOPSIGNAL
        said, _ = app.communicate(timeout=PATIENCE)
        assert app.returncode == 0, said
        assert "/mmmrs_demo/" not in said, said  # Gradio alone says that it misses a package of Spaces
        assert not list((place.temporary / "gradio").glob("mmmrs-*")), "what belonged to visitors is there still"
    finally:
        app.kill()
        app.wait()


@pytest.mark.unit
def test_the_image_has_what_the_program_reads() -> None:
    said = (ROOT / ".dockerignore").read_text().splitlines()
    taken = {line[1:] for line in said if line.startswith("!")}
    assert taken >= {"app.py", "requirements.txt", "mmmrs_demo", "weights", "examples"}
    assert {"weights/sd15", "*"} <= set(said)
    assert not [name for name in taken if not (ROOT / name).exists()]


@pytest.mark.unit
@pytest.mark.parametrize("said", ["maria", "maria:", ":secret"])
def test_half_a_password_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMMRS_AUTH", said)
    with pytest.raises(UserError, match="MMMRS_AUTH should be a user and a password") as refused:
        launch_options(Settings())
    assert "maria:secret" in str(refused.value)


@pytest.mark.unit
def test_a_password_is_asked_for_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch_options(Settings())["auth"] is None
    monkeypatch.setenv("MMMRS_AUTH", "maria:with:colons")
    assert launch_options(Settings())["auth"] == ("maria", "with:colons")
    assert "colons" not in repr(Settings())


@pytest.mark.unit
def test_without_the_password_only_the_health_check_is_answered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MMMRS_AUTH", "maria:secret")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    settings = Settings()
    catalog = Catalog.load(settings.weights)
    app = create_app(FakeEngine(catalog, settings), catalog, settings)
    _, url, _ = app.launch(**launch_options(settings), prevent_thread_lock=True, quiet=True)
    try:
        (path,) = re.findall(r"'(/gradio_api/\w+)'", " ".join(health_check()))
        with httpx.Client(base_url=url, timeout=PATIENCE) as visitor:
            assert visitor.get(path).is_success
            assert visitor.get("gradio_api/info").status_code == httpx.codes.UNAUTHORIZED
            assert visitor.post("login", data={"username": "maria", "password": "wrong"}).is_error
            assert visitor.post("login", data={"username": "maria", "password": "secret"}).is_success
            assert visitor.get("gradio_api/info").is_success
    finally:
        app.close()
