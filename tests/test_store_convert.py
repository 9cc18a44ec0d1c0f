"""Bundles go from form to form as they are, one by one, and nothing is there once too few."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from encrypted_store import (
    assert_no_plain_text,
    database_of,
    key_of,
    keys_in,
    lines_in,
    need_cipher,
    planted_line,
    write,
    writer_of,
)
from stack_composer.telemetry.errors import StoreError, StoreLockedError
from stack_composer.telemetry.store import convert, names, reader
from stack_composer.telemetry.store.convert import Conversion, ConversionPlan
from stack_composer.telemetry.store.encrypted.database import store_lock
from stack_composer.telemetry.store.folder import open_folder
from stack_composer.telemetry.store.keys import Keys
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import append, names_in, tick_until_idle

need_cipher()

LINES = [planted_line(number) for number in range(30)]
GOLDEN = Path(__file__).parent / "golden" / "format-1"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "telemetry"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return keys_in(tmp_path)


def write_plain(directory: Path, *, bundle_bytes_max: int = 4_000) -> None:
    writer = BundleWriter(str(directory), bundle_bytes_max=bundle_bytes_max)
    for line in LINES:
        append(writer, line)
        tick_until_idle(writer)
    writer.close()


def encrypt(directory: Path, keys: Keys) -> Conversion:
    return carry_out(convert.plan_encrypt(str(directory), keys), keys)


def decrypt(directory: Path, keys: Keys) -> Conversion:
    return carry_out(convert.plan_decrypt(str(directory), keys), keys)


def rekey(directory: Path, keys: Keys) -> Conversion:
    return carry_out(convert.plan_rekey(str(directory), keys), keys)


def carry_out(plan: ConversionPlan, keys: Keys) -> Conversion:
    conversion = Conversion(plan, keys)
    for _ in conversion.run():
        pass
    return conversion


def all_files(directory: Path) -> dict[str, bytes]:
    """What bundles and sidecars there are, byte for byte."""
    return {
        path.name: path.read_bytes()
        for path in directory.iterdir()
        if path.name.endswith((".zst", ".jsonl", ".json"))
    }


def test_there_and_back_gives_the_same_bytes(directory: Path, keys: Keys) -> None:
    write_plain(directory)
    sealed = {name: data for name, data in all_files(directory).items() if "jsonl" not in name[-5:]}
    assert len(sealed) >= 6
    done = encrypt(directory, keys)
    assert done.left == 0
    assert all_files(directory) == {}
    assert_no_plain_text(directory, lines=tuple(LINES))
    assert lines_in(directory, keys) == LINES
    done = decrypt(directory, keys)
    assert done.left == 0
    assert not list(directory.glob("*sqlcipher*"))
    after = all_files(directory)
    assert {name: after[name] for name in sealed} == sealed
    assert lines_in(directory, keys) == LINES
    for bundle in reader.list_bundles(str(directory)).bundles:
        assert reader.read_sidecar(bundle) is not None


def test_golden_bundles_come_through_as_they_are(directory: Path, keys: Keys) -> None:
    shutil.copytree(GOLDEN, directory)
    before = [list(reader.read_lines(b)) for b in reader.list_bundles(str(directory)).bundles]
    sidecars = [reader.read_sidecar(b) for b in reader.list_bundles(str(directory)).bundles]
    encrypt(directory, keys)
    bundles = reader.list_bundles(str(directory), keys).bundles
    assert [list(reader.read_lines(bundle)) for bundle in bundles] == before
    assert [reader.read_sidecar(b) for b, old in zip(bundles, sidecars, strict=True) if old] == [
        old for old in sidecars if old
    ]
    assert all(bundle.sealed for bundle in bundles)
    decrypt(directory, keys)
    after = [list(reader.read_lines(b)) for b in reader.list_bundles(str(directory)).bundles]
    assert after == before


def test_a_plan_touches_nothing(directory: Path, keys: Keys) -> None:
    write_plain(directory)
    before = names_in(directory), all_files(directory)
    plan = convert.plan_encrypt(str(directory), keys)
    assert len(plan.moves) > 3
    assert plan.bytes > 0
    assert convert.plan_decrypt(str(directory), keys).is_nothing
    assert convert.plan_rekey(str(directory), keys).is_nothing
    assert (names_in(directory), all_files(directory)) == before
    assert not Path(keys.key_file).exists()
    assert convert.plan_encrypt(str(directory / "missing"), keys).is_nothing


def test_a_bundle_being_written_stays_and_the_next_run_takes_it(
    directory: Path, keys: Keys
) -> None:
    writer = BundleWriter(str(directory))
    append(writer, LINES[0])
    plan = convert.plan_encrypt(str(directory), keys)
    assert (len(plan.moves), len(plan.in_use)) == (0, 1)
    carry_out(plan, keys)
    append(writer, LINES[1])
    writer.close()
    assert encrypt(directory, keys).moved == 1
    assert lines_in(directory, keys) == LINES[:2]


def test_a_bundle_that_is_locked_since_the_plan_stays(directory: Path, keys: Keys) -> None:
    write_plain(directory, bundle_bytes_max=10**6)
    plan = convert.plan_encrypt(str(directory), keys)
    folder = open_folder(str(directory), create=False)
    fd = folder.open(os.path.basename(plan.moves[0].path), write=True)
    from stack_composer.telemetry.store import lock

    assert lock.try_lock(fd) == lock.LOCKED
    done = carry_out(plan, keys)
    assert (done.moved, done.left) == (0, 1)
    os.close(fd)
    folder.close()
    assert lines_in(directory, keys) == LINES


def test_stopped_between_the_new_form_and_the_old_one_it_is_there_once(
    directory: Path, keys: Keys
) -> None:
    write_plain(directory)
    before = all_files(directory)
    encrypt(directory, keys)
    for name, data in before.items():
        # As if the power had gone before any file did.
        (directory / name).write_bytes(data)
        (directory / name).chmod(0o600)
    assert lines_in(directory, keys) == LINES
    plan = convert.plan_encrypt(str(directory), keys)
    assert not plan.moves
    assert set(plan.leftover) == set(before)
    carry_out(plan, keys)
    assert all_files(directory) == {}
    assert lines_in(directory, keys) == LINES


def test_a_rekey_takes_all_to_a_new_key_and_destroys_the_old(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES, bundle_bytes_max=4_000)
    old = database_of(directory, keys)
    old_key = key_of(old)
    done = rekey(directory, keys)
    assert done.left == 0
    new = database_of(directory, keys)
    assert new.stem != old.stem
    assert key_of(new) != old_key
    assert old_key.hex() not in Path(keys.key_file).read_text()
    assert not list(directory.glob(f"{old.stem}*"))
    assert lines_in(directory, keys) == LINES


def test_a_stopped_rekey_keeps_both_keys_and_is_finished_by_the_next(
    directory: Path, keys: Keys
) -> None:
    write(directory, keys, LINES, bundle_bytes_max=4_000)
    steps = Conversion(convert.plan_rekey(str(directory), keys), keys).run()
    next(steps)
    next(steps)
    steps.close()
    again = Keys(keys.key_file)
    assert lines_in(directory, again) == LINES
    assert len(convert.databases(str(directory))) == 2
    writer = writer_of(directory, again)
    append(writer, planted_line(99))  # type: ignore[arg-type]
    writer.close()
    done = rekey(directory, again)
    assert done.left == 0
    assert len(convert.databases(str(directory))) == 1, "no third one was made"
    assert sorted(lines_in(directory, again)) == sorted([*LINES, planted_line(99)])


def test_writers_go_on_through_a_rekey_and_a_decryption(directory: Path, keys: Keys) -> None:
    writer = writer_of(directory, keys)
    append(writer, LINES[0])  # type: ignore[arg-type]
    rekey(directory, Keys(keys.key_file))
    append(writer, LINES[1])  # type: ignore[arg-type]
    decrypt(directory, Keys(keys.key_file))
    append(writer, LINES[2])  # type: ignore[arg-type]
    writer.close()
    assert sorted(lines_in(directory, Keys(keys.key_file))) == sorted(LINES[:3])


@pytest.mark.parametrize("kind", ["decrypt", "rekey"])
def test_what_is_begun_meanwhile_goes_elsewhere(directory: Path, keys: Keys, kind: str) -> None:
    write(directory, keys, LINES[:20], bundle_bytes_max=2_000)
    old = database_of(directory, keys).stem
    steps = Conversion(getattr(convert, f"plan_{kind}")(str(directory), keys), keys).run()
    next(steps)
    write(directory, Keys(keys.key_file), LINES[20:])
    for _ in steps:
        pass
    assert not list(directory.glob(f"{old}*"))
    assert sorted(lines_in(directory, Keys(keys.key_file))) == sorted(LINES)


def test_a_reader_that_listed_before_a_conversion_reads_all_the_same(
    directory: Path, keys: Keys
) -> None:
    from stack_composer.telemetry.store import keys as key_module

    write_plain(directory)
    key_module._shared[""] = keys
    try:
        listed = reader.list_bundles(str(directory), keys).bundles
        encrypt(directory, keys)
        assert [line + b"\n" for b in listed for line in reader.read_lines(b)] == LINES
        listed = reader.list_bundles(str(directory), keys).bundles
        rekey(directory, keys)
        assert [line + b"\n" for b in listed for line in reader.read_lines(b)] == LINES
        listed = reader.list_bundles(str(directory), keys).bundles
        decrypt(directory, keys)
        assert [line + b"\n" for b in listed for line in reader.read_lines(b)] == LINES
    finally:
        key_module._shared.pop("")


def test_a_damaged_bundle_stays_as_it_is_and_the_rest_moves(directory: Path, keys: Keys) -> None:
    write_plain(directory)
    (first, *_) = sorted(directory.glob("*.zst"))
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    done = encrypt(directory, keys)
    assert done.left == 1
    assert done.error is not None
    assert [path.name for path in directory.glob("*.zst")] == [first.name]
    assert first.read_bytes() == data


def test_a_folder_that_another_process_converts_is_refused(directory: Path, keys: Keys) -> None:
    write_plain(directory)
    folder = open_folder(str(directory), create=True)
    with store_lock(folder, names.CONVERSION_LOCK), pytest.raises(StoreError, match="another"):
        encrypt(directory, keys)
    folder.close()
    assert lines_in(directory, keys) == LINES


def test_without_the_key_nothing_is_touched(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES)
    Path(keys.key_file).unlink()
    before = names_in(directory)
    lost = Keys(keys.key_file)
    for plan in (convert.plan_encrypt, convert.plan_decrypt, convert.plan_rekey):
        with pytest.raises(StoreLockedError):
            plan(str(directory), lost)
    assert names_in(directory) == before
    assert not Path(keys.key_file).exists()


def test_frames_are_cut_where_they_end_and_what_is_no_line_stays_with_its_frame() -> None:
    from stack_composer.telemetry.store.zstd import compress_frame

    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"index"
    one, two = compress_frame(b"one\n"), compress_frame(b"three\n" * 1000)
    assert convert.split_frames(one + two + skippable, "path") == [
        (0, 4, one),
        (4, 6000, two + skippable),
    ]
    for cut in range(len(one)):
        with pytest.raises(StoreError, match="damaged"):
            convert.split_frames(two + one[:cut] if cut else b"", "path")


def test_age_survives(directory: Path, keys: Keys) -> None:
    old_ns = time.time_ns() - 40 * 86_400 * 10**9
    writer = BundleWriter(str(directory), clock=lambda: old_ns)
    append(writer, LINES[0])
    writer.close()
    encrypt(directory, keys)
    (bundle,) = reader.list_bundles(str(directory), keys).bundles
    assert bundle.created_ns == old_ns // 1000 * 1000
