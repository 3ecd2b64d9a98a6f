"""What holds for the repository as a whole: its files agree with each other and fit where they have to go."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard, SpaceHardware

from mmmrs_demo.catalog import BASE, LORA, Catalog
from mmmrs_demo.modality import TRANSLATIONS
from mmmrs_demo.settings import Settings

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
MB = 1_000_000


def tracked(*patterns: str) -> list[Path]:
    """The files that a clone would have, and new ones not ignored; an unpacked archive has no list of them."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git clone")
    return [file for name in sorted(set(listing.stdout.split("\0"))) if name and (file := ROOT / name).is_file()]


def block(text: str, start: str, end: str) -> str:
    return text.split(f"<!-- {start} -->", 1)[1].split(f"<!-- {end} -->", 1)[0]


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["dependencies"])


def test_requirements_follow_pyproject(dependencies: list[str]) -> None:
    assert (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() == dependencies, "make requirements.txt"


def test_space_runs_a_gradio_that_the_project_allows(readme: str, dependencies: list[str]) -> None:
    (version,) = re.findall(r"^sdk_version: (\d+)\.(\d+)", readme, re.MULTILINE)
    (minimum, limit) = next(re.findall(r"\d+(?:\.\d+)*", d) for d in dependencies if d.startswith("gradio"))
    assert [int(n) for n in minimum.split(".")] <= [int(n) for n in version] < [int(limit)]


def test_space_is_described_in_the_words_of_spaces() -> None:
    said = SpaceCard.load(ROOT / "README.md").data.to_dict()
    assert said["sdk"] == "gradio"
    assert (ROOT / said["app_file"]).is_file()
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {said["colorFrom"], said["colorTo"]} <= colours
    assert len(said["short_description"]) <= 60
    assert said["suggested_hardware"] in set(SpaceHardware)
    assert isinstance(said["python_version"], str), "3.10 is not 3.1"
    assert [int(n) for n in said["python_version"].split(".")] >= [3, 11]
    bundles = Catalog.load(ROOT / "weights").bundles.values()
    assert set(said["models"]) == {part.hub for bundle in bundles for part in bundle.parts.values() if part.hub}


def test_readme_names_every_python_file_and_no_other(readme: str) -> None:
    tree = block(readme, "files", "end of files")
    named: list[str] = []
    path: list[str] = []
    for indent, name in re.findall(r"^((?:│   |    )*)[├└]── (\S+)", tree, re.MULTILINE):
        path[len(indent) // 4 :] = [name]
        named.append("".join(path))
    assert not [name for name in named if not (ROOT / name).exists()], "named, but missing"
    assert {f.relative_to(ROOT).as_posix() for f in tracked("*.py")} - set(named) == set(), "there, but not named"


def test_readme_names_every_setting_with_its_default(readme: str) -> None:
    rows = dict(re.findall(r"^\| `MMMRS_(\w+)` \| `?(.*?)`? \|", readme, re.MULTILINE))
    defaults = {name.upper(): str(field.default) for name, field in Settings.model_fields.items()}
    defaults["WEIGHTS"] = Path(defaults["WEIGHTS"]).relative_to(ROOT).as_posix()
    assert rows == defaults


def test_readme_example_uses_names_that_exist(readme: str) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    compile(example, "README.md", "exec")
    exec("\n".join(line for line in example.splitlines() if line.startswith("from ")), {})  # noqa: S102


def test_no_machine_paths_and_no_registry_hosts() -> None:
    unwanted = re.compile(
        r"(?<![\w.])/(?:work|farm|root|home/\w+)/|pypi\.org|pythonhosted\.org|registry\.npmjs|deb\.debian\.org"
    )
    for file in tracked():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        assert not unwanted.search(text), f"{file.relative_to(ROOT)}: {unwanted.search(text)}"


def test_files_fit_a_space() -> None:
    assert not [file for file in tracked() if file.stat().st_size >= 10 * MB]
    assert sum(file.stat().st_size for file in tracked("weights/mini")) <= 40 * MB


def test_app_is_short() -> None:
    assert len((ROOT / "app.py").read_text(encoding="utf-8").splitlines()) < 40


def test_embedded_bundle_is_whole() -> None:
    catalog = Catalog.load(ROOT / "weights")
    mini = catalog.bundle("mini")
    assert not [hint for part in (BASE, LORA, *TRANSLATIONS) if (hint := catalog.locate(mini, part).hint)]


def test_every_bundle_has_its_model_card() -> None:
    catalog = Catalog.load(ROOT / "weights")
    assert not [bundle.card for bundle in catalog.bundles.values() if not (catalog.weights / bundle.card).is_file()]
