"""Put all that is kept into one file: the right to see it, and to take it along.

The file is a ZIP, which every system opens. It holds each bundle as plain OTLP JSON
lines, whatever the store (sealed, encrypted), files of ours that are no bundles any more
(damaged or half-made) as they are, the log of what left this computer, the configuration
and the consents, ``manifest.json``, which says what
each is, how much is in it and what is left out and why, and ``README.txt`` for people.

``plan_archive`` looks, ``write_archive`` writes; memory is bounded by a line.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.query.duration import utc_text
from stack_composer.telemetry.store import names
from stack_composer.telemetry.store.folder import open_folder, store_error
from stack_composer.telemetry.store.quarantine import list_quarantine
from stack_composer.telemetry.store.reader import read_lines, read_sidecar
from stack_composer.telemetry.store.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    from stack_composer.telemetry.store.reader import BundleInfo

_COPY_BYTES: Final = 2**20

README: Final = """\
This is all that Stack Composer Telemetry keeps on this computer.

bundles/        what your programs recorded, as the guard left it: OTLP JSON lines, one
                object a line, one signal (traces, metrics, logs) a file
other/          files that are no whole bundles (half-made ones), as they are
audit.jsonl     what left this computer, if anything was ever sent: one entry a line;
                audit-*.jsonl.zst are older parts of it
configuration/  telemetry.toml, and consent.json: to whom you allowed to send
manifest.json   what each file is, its size, SHA-256, number of records and their times;
                and what is left out, and why

Keep it to yourself: it is not encrypted, and no purge finds it.
"""


class ArchivePlan(NamedTuple):
    """What would be in the archive.

    Attributes:
        directory: The telemetry folder.
        bundles: All of them.
        other: Names of files of ours that are no bundle and belong to none.
        configuration: Path of the configuration file, "" for none.
        left_out: What is kept and is not in it, with the reason.
        consents: Path of the file of consents, "" for none.
        audit: Names of the parts of the log of what left this computer.
    """

    directory: str
    bundles: tuple[BundleInfo, ...]
    other: tuple[str, ...]
    configuration: str
    left_out: tuple[tuple[str, str], ...]
    consents: str = ""
    audit: tuple[str, ...] = ()


def plan_archive(
    directory: str,
    bundles: Sequence[BundleInfo],
    *,
    configuration: str,
    keys: Sequence[str],
    consents: str = "",
) -> ArchivePlan:
    """Look at all that is kept; touch nothing.

    Args:
        directory: The telemetry folder.
        bundles: What is in it, or in its database.
        configuration: Where the configuration file is, if there is one.
        keys: Paths of salts and keys, which are left out.
        consents: Where the file of consents is, if there is one.

    Raises:
        StoreError: The folder cannot be read.
    """
    other: list[str] = []
    audit: list[str] = []
    left_out = [(path, "a key: who has it could tell whose a hashed id is") for path in keys]
    stems = {(bundle.stem, bundle.signal) for bundle in bundles}
    if os.path.lexists(directory):
        folder = open_folder(directory, create=False)
        try:
            for name in sorted(folder.names()):
                if name == names.AUDIT or names.audit_part(name) is not None:
                    audit.append(name)
                    continue
                why, what = _sorted_out(name, stems, directory)
                other += what
                if why:
                    left_out.append((name, why))
        except OSError as error:
            raise store_error("list", directory, error) from error
        finally:
            folder.close()
    return ArchivePlan(
        directory,
        tuple(bundles),
        tuple(other),
        configuration if os.path.isfile(configuration) else "",
        tuple(left_out),
        consents if os.path.isfile(consents) else "",
        tuple(audit),
    )


def _sorted_out(name: str, stems: set[tuple[str, str]], directory: str) -> tuple[str, list[str]]:
    """Why a file that is no bundle is left out, or ""; and what of it goes in as it is."""
    found = names.parse_name(name)
    why, what = "", list[str]()
    if name == names.QUARANTINE:
        what = [f"{name}/{os.path.basename(aside.path)}" for aside in list_quarantine(directory)]
    elif found is None:
        why = "" if name in names.SINGLES else "not made by this program"
    elif found.kind == names.DATABASE:
        why = "encrypted; its bundles are here, as lines"
    elif names.is_of_database(name):
        pass  # Of no use without the database.
    elif found.kind in (names.SKETCH, names.PAGE) and (found.stem, found.signal) in stems:
        why = _DERIVED[found.kind]
    elif found.kind in (names.SKETCH, names.PAGE, names.TEMPORARY):
        what = [name]
    return why, what


_COPIED: Final = {
    "other": "not a whole bundle",
    "configuration": "the configuration, and to whom you allowed to send",
}
_DERIVED: Final = {
    names.SKETCH: "counts that are made from its bundle",
    names.PAGE: "keyed digests by which imported messages are known again",
}


def write_archive(
    path: str, plan: ArchivePlan, *, now_ns: int, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Write the archive over an empty file, and return its manifest.

    Args:
        path: The file.
        plan: What goes into it. A bundle purged meanwhile is told as gone.
        now_ns: When this is.
        progress: Called with the number of bundles written.

    Raises:
        StoreError: Something cannot be read or written.
    """
    manifest: dict[str, Any] = {
        "format": 1,
        "created": utc_text(now_ns),
        "directory": plan.directory,
        "files": [],
        "left_out": [{"what": what, "why": why} for what, why in plan.left_out],
    }
    files: list[dict[str, Any]] = manifest["files"]
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            writer = _Writer(archive, time.gmtime(max(now_ns // 10**9, 315_532_800))[:6])
            for number, bundle in enumerate(plan.bundles, 1):
                files.append(writer.bundle(bundle))
                progress(number)
            for name in plan.other:
                files += writer.copy(os.path.join(plan.directory, name), "other/" + name)
            for name in plan.audit:
                files += writer.copy(os.path.join(plan.directory, name), name)
            if plan.configuration:
                files += writer.copy(plan.configuration, "configuration/telemetry.toml")
            if plan.consents:
                files += writer.copy(plan.consents, "configuration/consent.json")
            writer.text("manifest.json", json.dumps(manifest, indent=2) + "\n")
            writer.text("README.txt", README)
    except OSError as error:
        raise store_error("write", path, error) from error
    return manifest


class _Writer:
    """Files of an archive, each with what the manifest says of it."""

    def __init__(self, archive: zipfile.ZipFile, moment: Any) -> None:
        self._archive = archive
        self._moment = moment

    def _info(self, name: str) -> zipfile.ZipInfo:
        info = zipfile.ZipInfo(name, self._moment)
        info.compress_type = zipfile.ZIP_DEFLATED
        # So that unpacking makes files that only their owner can read.
        info.external_attr = 0o600 << 16
        return info

    def bundle(self, bundle: BundleInfo) -> dict[str, Any]:
        name = f"bundles/{names.open_name(bundle.stem, bundle.signal)}"
        counts: Counter[str] = Counter()
        digest = hashlib.sha256()
        sidecar = read_sidecar(bundle)
        sketch = Sketch() if sidecar is None else sidecar.sketch
        size = lines = refused = 0
        with self._archive.open(self._info(name), "w", force_zip64=True) as file:
            for line in read_lines(bundle, counts):
                whole = line + b"\n"
                file.write(whole)
                digest.update(whole)
                size += len(whole)
                lines += 1
                if sidecar is None:
                    try:
                        sketch.add_line(bundle.signal, line)
                    except LineRefusedError:
                        refused += 1
        return {
            "name": name,
            "what": f"recorded {bundle.signal}",
            "bytes": size,
            "sha256": digest.hexdigest(),
            "created": utc_text(bundle.created_ns),
            "lines": lines,
            "records": sketch.records,
            "first": utc_text(sketch.first_ns) if sketch.first_ns else None,
            "last": utc_text(sketch.last_ns) if sketch.last_ns else None,
            "refused_lines": refused if sidecar is None else sidecar.refused_lines,
            "oddities": {odd: count for odd, count in sorted(counts.items()) if count},
        }

    def copy(self, path: str, name: str) -> list[dict[str, Any]]:
        """Copy a file as it is; nothing for one that is gone."""
        digest = hashlib.sha256()
        size = 0
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise store_error("read", path, error) from error
        with (
            os.fdopen(descriptor, "rb") as file,
            self._archive.open(self._info(name), "w", force_zip64=True) as out,
        ):
            while piece := file.read(_COPY_BYTES):
                out.write(piece)
                digest.update(piece)
                size += len(piece)
        what = _COPIED.get(name.partition("/")[0], "what left this computer")
        return [{"name": name, "what": what, "bytes": size, "sha256": digest.hexdigest()}]

    def text(self, name: str, text: str) -> None:
        self._archive.writestr(self._info(name), text)
