"""Zips as people make them, and as those make them who mean harm."""

from __future__ import annotations

import stat
import struct
import threading
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePath

import pytest
from hypothesis import given, strategies

from mmmrs_demo.archive import gather, is_zip, pack
from mmmrs_demo.errors import Stopped, UserError
from mmmrs_demo.settings import Settings

pytestmark = pytest.mark.unit

LIMITS = Settings(max_files=20, max_scene_bytes=100_000)


def wanted(name: PurePath) -> bool:
    return name.suffix == ".png"


def zipped(
    folder: Path, *names: str | zipfile.ZipInfo, content: bytes = b"x", method: int = zipfile.ZIP_STORED
) -> Path:
    file = folder / "tiles.zip"
    with zipfile.ZipFile(file, "w", method) as archive:
        for name in names:
            archive.writestr(name, content)
    return file


@pytest.fixture
def room(tmp_path: Path) -> Path:
    (tmp_path / "room").mkdir()
    return tmp_path / "room"


def found(room: Path) -> set[str]:
    return {file.relative_to(room).as_posix() for file in room.rglob("*") if file.is_file()}


def refusal(file: Path, room: Path, limits: Settings = LIMITS) -> str:
    with pytest.raises(UserError) as refused:
        gather([file], room, wanted, limits)
    assert not [path for path in room.parent.rglob("*") if path.name.startswith("evil")]
    return str(refused.value)


def test_a_tree_is_kept_and_what_is_of_no_use_is_named(tmp_path: Path, room: Path) -> None:
    file = zipped(
        tmp_path,
        *("a.png", "./north/a.png", "north/east/ä (1).png", "empty/"),
        *("notes.txt", ".hidden.png", "north/.git/a.png", "__MACOSX/._a.png", "inner.zip"),
        method=zipfile.ZIP_DEFLATED,
    )
    assert is_zip(file)
    passed_over = gather([file], room, wanted, LIMITS)
    assert found(room) == {"a.png", "north/a.png", "north/east/ä (1).png"}
    assert passed_over == ["notes.txt", ".hidden.png", "north/.git/a.png", "__MACOSX/._a.png", "inner.zip"]


@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "a/../../evil.png",
        "/evil.png",
        "..\\evil.png",
        "a\\evil.png",
        "C:/evil.png",
        "C:evil.png",
        "//s/x/evil.png",
    ],
)
def test_no_name_leads_out(tmp_path: Path, room: Path, name: str) -> None:
    assert "leads out of it" in refusal(zipped(tmp_path, "a.png", name), room)


def test_no_name_has_an_end_before_its_end(tmp_path: Path, room: Path) -> None:
    file = zipped(tmp_path, "evil.png_.txt")
    file.write_bytes(file.read_bytes().replace(b"png_", b"png\0"))
    assert "leads out of it" in refusal(file, room)


def test_links_are_no_files(tmp_path: Path, room: Path) -> None:
    link, pipe = zipfile.ZipInfo("link.png"), zipfile.ZipInfo("pipe.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    pipe.external_attr = (stat.S_IFIFO | 0o777) << 16
    file = zipped(tmp_path, link, pipe, "a.png", content=b"/etc/passwd")
    assert gather([file], room, wanted, LIMITS) == ["link.png", "pipe.png"]
    assert found(room) == {"a.png"}


def test_a_name_is_there_once(tmp_path: Path, room: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        file = zipped(tmp_path, "a.png", "a.png")
    assert refusal(file, room) == "“a.png” is in “tiles.zip” twice: pack it again as a plain zip."


def test_there_are_only_so_many_entries(tmp_path: Path, room: Path) -> None:
    file = zipped(tmp_path, *(f"{i}/" for i in range(21)))
    assert refusal(file, room) == "“tiles.zip” has 21 entries: at most 20 are taken at once."


def test_a_long_list_of_entries_is_not_even_read(tmp_path: Path, room: Path) -> None:
    file = zipped(tmp_path, *(f"{i:0>60000}" for i in range(20)))
    assert "too many entries" in refusal(file, room)


def test_what_is_declared_is_limited(tmp_path: Path, room: Path) -> None:
    file = zipped(tmp_path, "a.png", "b.png", content=bytes(60_000), method=zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 1000
    assert refusal(file, room) == "The files in “tiles.zip” take more than 0 MB: choose fewer."
    assert found(room) == set()


def test_what_is_not_declared_is_not_written(tmp_path: Path, room: Path) -> None:
    file = zipped(tmp_path, "a.png", content=bytes(10**7), method=zipfile.ZIP_DEFLATED)
    lie = file.read_bytes().replace(struct.pack("<I", 10**7), struct.pack("<I", 10))
    file.write_bytes(lie)
    assert "damaged" in refusal(file, room)
    assert sum((room / name).stat().st_size for name in found(room)) <= 10


def test_what_is_of_no_use_may_be_large(tmp_path: Path, room: Path) -> None:
    file = zipped(tmp_path, "a.txt", content=bytes(10**6), method=zipfile.ZIP_DEFLATED)
    assert gather([file], room, wanted, LIMITS) == ["a.txt"]


@pytest.mark.parametrize("flag", [0x1, 0x40, 0x2000])
def test_a_password_is_said(tmp_path: Path, room: Path, flag: int) -> None:
    file = zipped(tmp_path, "a.png")
    data = bytearray(file.read_bytes())
    for start, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        struct.pack_into("<H", data, data.index(start) + at, flag)
    file.write_bytes(data)
    assert refusal(file, room) == "“tiles.zip” is encrypted: pack it again without a password."


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_plain_zips_are_unpacked(tmp_path: Path, room: Path, method: int) -> None:
    assert "uncommon way" in refusal(zipped(tmp_path, "a.png", method=method), room)


def test_a_name_too_long_for_the_disk_is_a_sentence(tmp_path: Path, room: Path) -> None:
    assert "File name too long" in refusal(zipped(tmp_path, f"{'a' * 300}.png"), room)


def test_a_file_is_no_folder(tmp_path: Path, room: Path) -> None:
    refusal(zipped(tmp_path, "a.png", "a.png/b.png"), room)


@given(strategies.data())
def test_any_damage_is_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: strategies.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "room").mkdir()
    file = zipped(folder, "a.png", "b/c.png", content=bytes(range(256)), method=zipfile.ZIP_DEFLATED)
    content = bytearray(file.read_bytes())
    places = strategies.tuples(strategies.integers(4, len(content) - 1), strategies.integers(0, 255))
    for at, value in data.draw(strategies.lists(places, min_size=1)):
        content[at] = value
    file.write_bytes(content[: data.draw(strategies.integers(4, len(content)))])
    with suppress(UserError):
        gather([file], folder / "room", wanted, LIMITS)


def test_stop_is_heeded(tmp_path: Path, room: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        gather([zipped(tmp_path, "a.png")], room, wanted, LIMITS, stop)


@pytest.fixture
def loose(tmp_path: Path) -> Callable[..., list[Path]]:
    def make(*names: str, size: int = 1) -> list[Path]:
        files = []
        for number, name in enumerate(names):
            (tmp_path / str(number)).mkdir()
            files.append(tmp_path / str(number) / name)
            files[-1].write_bytes(bytes(size))
        return files

    return make


def test_loose_files_come_together(loose: Callable[..., list[Path]], room: Path) -> None:
    assert gather(loose("a.png", "b (1).png", "notes.txt", ".c.png"), room, wanted, LIMITS) == ["notes.txt", ".c.png"]
    assert found(room) == {"a.png", "b (1).png"}


@pytest.mark.parametrize(
    ("names", "size", "sentence"),
    [
        (["a.png", "a.png"], 1, "Two files are called “a.png”: choose them one after the other."),
        ([f"{i}.png" for i in range(21)], 1, "These are 21 files: at most 20 are taken at once."),
        (["a.png", "b.png"], 60_000, "These files take more than 0 MB: choose fewer."),
    ],
)
def test_loose_files_have_limits(
    loose: Callable[..., list[Path]], room: Path, names: list[str], size: int, sentence: str
) -> None:
    with pytest.raises(UserError) as refused:
        gather(loose(*names, size=size), room, wanted, LIMITS)
    assert str(refused.value) == sentence


def test_a_zip_comes_alone(loose: Callable[..., list[Path]], tmp_path: Path, room: Path) -> None:
    with pytest.raises(UserError, match=r"“tiles.zip” is a zip among other files: choose it alone\."):
        gather([*loose("a.png"), zipped(tmp_path, "b.png")], room, wanted, LIMITS)


def test_packing_keeps_the_tree_and_what_is_hidden_to_itself(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("a.png", "north/b.tif", ".part", "north/.mmmrs-1/state.json"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name)
    pack(out, tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == {
            name: name for name in ("a.png", "north/b.tif")
        }
