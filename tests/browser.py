"""Which browser the tests drive: the system's Chromium, else Playwright's own. Run as a program, it installs one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# In the order they are tried: a system package where this user may install one, Playwright's download elsewhere.
INSTALLERS = {
    "apt-get": [["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", NAMES[0]]],
    sys.executable: [[sys.executable, "-m", "playwright", "install", "chromium"]],
}


def find() -> Path | None:
    """The browser's program, or None where there is none."""
    for name in NAMES:
        if program := shutil.which(name):
            return Path(program)
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    return own if own.exists() else None


def install() -> Path | None:
    """Try each installer until there is a browser; returns it, or None."""
    for program, commands in INSTALLERS.items():
        if shutil.which(program) and (program != "apt-get" or os.geteuid() == 0):
            print(f"No Chromium here: installing one for the browser tests with {Path(program).name}.")
            if all(subprocess.run(command, check=False).returncode == 0 for command in commands) and (found := find()):
                return found
    return None


if __name__ == "__main__" and not (find() or install()):
    print(
        "There is no Chromium and none could be installed, so the browser tests are skipped. To get one: "
        "'sudo apt install chromium', or '.venv/bin/python -m playwright install --with-deps chromium'."
    )
