"""The folder is private, whatever the umask, and never somewhere else by a trick."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack_composer.telemetry.errors import FolderRefusedError, StoreError
from stack_composer.telemetry.store import folder as folders
from stack_composer.telemetry.store import reader
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import all_lines, append, names_in, spans_line

pytestmark = pytest.mark.skipif(os.name == "nt", reason="modes and owners are POSIX")

LINE = spans_line(1)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(params=[True, False], ids=["dir_fd", "paths"])
def by_descriptor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways of reaching files: by the folder's descriptor, and as on Windows."""
    monkeypatch.setattr(folders, "_HAS_DIR_FD", request.param)
    return bool(request.param)


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask", "by_descriptor")
def test_folders_are_0700_and_files_0600_whatever_the_umask(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "telemetry"
    writer = BundleWriter(str(directory), bundle_bytes_max=1)
    append(writer, LINE)
    (bundle,) = directory.iterdir()
    assert mode(bundle) == 0o600
    append(writer, LINE)
    while writer.tick():
        assert {mode(path) for path in directory.iterdir()} == {0o600}
    assert len(names_in(directory)) == 3  # a sealed bundle, its sidecar, an open one
    assert {mode(path) for path in directory.iterdir()} == {0o600}
    assert mode(directory) == mode(directory.parent) == 0o700
    writer.close()


@pytest.mark.usefixtures("umask")
def test_a_folder_that_others_may_enter_is_closed_to_them(tmp_path: Path) -> None:
    directory = tmp_path / "telemetry"
    directory.mkdir()
    directory.chmod(0o755)
    writer = BundleWriter(str(directory))
    append(writer, LINE)
    writer.close()
    assert mode(directory) == 0o700


def test_reading_changes_no_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    reader.list_bundles(str(tmp_path))
    assert mode(tmp_path) == 0o755


@pytest.mark.usefixtures("by_descriptor")
@pytest.mark.parametrize("end", ["", "/", "/."])
def test_a_link_in_the_place_of_the_folder_is_refused(tmp_path: Path, end: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / "telemetry"
    link.symlink_to(elsewhere)
    with pytest.raises(FolderRefusedError, match="symbolic link"):
        append(BundleWriter(f"{link}{end}"), LINE)
    with pytest.raises(FolderRefusedError, match="symbolic link"):
        reader.list_bundles(f"{link}{end}")
    assert names_in(elsewhere) == []


@pytest.mark.usefixtures("by_descriptor")
def test_a_dead_link_is_refused_too(tmp_path: Path) -> None:
    link = tmp_path / "telemetry"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FolderRefusedError, match="symbolic link"):
        append(BundleWriter(str(link)), LINE)
    assert not (tmp_path / "nowhere").exists()


def test_a_link_above_the_folder_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "home link").symlink_to(tmp_path / "real")
    writer = BundleWriter(str(tmp_path / "home link" / "telemetry"))
    append(writer, LINE)
    writer.close()
    assert all_lines(tmp_path / "real" / "telemetry") == [LINE]


@pytest.mark.usefixtures("by_descriptor")
def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "telemetry"
    place.write_text("mine")
    with pytest.raises(FolderRefusedError, match="not a folder") as caught:
        append(BundleWriter(str(place)), LINE)
    assert caught.value.hint
    assert place.read_text() == "mine"


def test_a_file_above_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="cannot create"):
        append(BundleWriter(str(tmp_path / "file" / "telemetry")), LINE)


@pytest.mark.usefixtures("by_descriptor")
@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
def test_another_users_folder_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "telemetry"
    place.mkdir()
    os.chown(place, 12345, 12345)
    with pytest.raises(FolderRefusedError, match="another user"):
        append(BundleWriter(str(place)), LINE)
    with pytest.raises(FolderRefusedError, match="another user"):
        reader.list_bundles(str(place))
    assert names_in(place) == []


@pytest.mark.usefixtures("by_descriptor")
def test_a_link_pipe_or_folder_in_the_place_of_a_bundle_is_foreign(tmp_path: Path) -> None:
    writer = BundleWriter(str(tmp_path / "telemetry"))
    append(writer, LINE)
    writer.close()
    (bundle,) = (tmp_path / "telemetry").iterdir()
    planted = {
        bundle.name.replace("Z-", f"Z-{number}"): make
        for number, make in enumerate((os.mkfifo, os.mkdir), start=1)
    }
    for name, make in planted.items():
        make(bundle.with_name(name))
    link = bundle.name.replace("Z-", "Z-3")
    (tmp_path / "secret").write_bytes(LINE)
    bundle.with_name(link).symlink_to(tmp_path / "secret")
    listing = reader.list_bundles(str(tmp_path / "telemetry"))
    assert [Path(found.path).name for found in listing.bundles] == [bundle.name]
    assert listing.foreign == sorted([*planted, link])


@pytest.mark.usefixtures("by_descriptor")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, None], ids=["pipe", "folder", "link"])
def test_only_a_regular_file_is_opened(tmp_path: Path, make: object) -> None:
    place = tmp_path / "x"
    if callable(make):
        make(place)
    else:
        (tmp_path / "y").touch()
        place.symlink_to(tmp_path / "y")
    folder = folders.open_folder(str(tmp_path), create=False)
    with pytest.raises((FolderRefusedError, IsADirectoryError)):
        folder.open("x", write=not callable(make) or make is os.mkdir)
    folder.close()


def test_descriptors_of_a_refused_folder_are_given_back(tmp_path: Path) -> None:
    (tmp_path / "telemetry").write_text("mine")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(10):
        with pytest.raises(FolderRefusedError):
            folders.open_folder(str(tmp_path / "telemetry"), create=True)
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before


def test_a_missing_folder_lists_as_empty_and_stays_missing(tmp_path: Path) -> None:
    assert reader.list_bundles(str(tmp_path / "none")) == reader.Listing([], [])
    assert not (tmp_path / "none").exists()
