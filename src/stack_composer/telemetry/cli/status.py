"""Say what is recorded now and why, where it is kept, and who is writing."""

from __future__ import annotations

import os
import stat
from collections import Counter
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry import effects
from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.disk import disk_state
from stack_composer.telemetry.cli.parser import add_folder
from stack_composer.telemetry.config import effective_mode
from stack_composer.telemetry.errors import ConfigError, StoreError
from stack_composer.telemetry.query.duration import age_text, utc_text
from stack_composer.telemetry.store import opportunity, pressure
from stack_composer.telemetry.store.quarantine import list_quarantine
from stack_composer.telemetry.store.reader import list_bundles
from stack_composer.telemetry.store.retention import is_being_written, size_of

if TYPE_CHECKING:
    import argparse

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.store.reader import BundleInfo
    from stack_composer.telemetry.upload.entries import Entry

JSON_KEYS = {
    "recording": "whether a program started here and now would record",
    "reason": "which setting decides that",
    "upload": 'whether uploads may leave now: "on" or "off"',
    "upload_reason": "which setting or consent decides that",
    "upload_to": "where they would go: scheme, host and port; null without a destination",
    "exporters": "of each exporter over the network name, to (null without a destination),"
    " is_sending, and reason: the consent, or why it is held back",
    "sent": "of what left in the last 7 days requests, records, bytes (as they left) and"
    " unanswered: requests whose answer is not known, and unreadable: lines of the audit log"
    " that are damaged; null if it cannot be read",
    "last_sent": "time, to, records, bytes and verdict (null: not known) of the last request;"
    " null if nothing ever left",
    "directory": "the folder",
    "directory_mode": 'its mode as octal digits, such as "0700"; null when there is none',
    "config_path": "the configuration file",
    "config_exists": "whether there is one",
    "retention_days": "after how many days bundles are deleted",
    "kept_bytes_max": "beyond how many bytes the oldest are deleted",
    "encryption": 'how bundles lie on the disk: "none" or "sqlcipher"',
    "locked": "what hinders the reading and writing of encrypted databases",
    "profile": "the redaction profile",
    "rules": "how many redaction rules are your own",
    "bundles": "how many there are",
    "bytes": "their size, sidecars included",
    "oldest": "when the oldest was begun (UTC), or null",
    "writers": "ids of the processes that are writing now",
    "foreign": "how many files in the folder are not ours",
    "pressure": "level, since (UTC, or null), free_bytes, total_bytes and does: what is done"
    " because of the room on the disk; null where the system does not tell it",
    "quarantine": "how many files doctor --repair put aside, and their bytes",
    "warnings": "what of the configuration is ignored, and why",
}

SENT_SINCE_NS = 7 * 86_400 * 1_000_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder to look at."""
    add_folder(parser)


def run(args: argparse.Namespace) -> int:
    """Look, and print what there is."""
    config = _config(args)
    locked: list[StoreError] = []
    listing = list_bundles(config.directory, locked=locked)
    if config.encryption != "none":
        from stack_composer.telemetry.cli.checks_encryption import what_hinders
        from stack_composer.telemetry.store.convert import databases

        hindrance = what_hinders(config, databases(config.directory))
        locked += [] if hindrance is None else [hindrance]
    found = _look(config, listing.bundles, len(listing.foreign), locked)
    if args.json:
        output.print_json(found)
    else:
        _print(found, config, listing.bundles)
    return 0


def _config(args: argparse.Namespace) -> Config:
    """Return what holds; a wrong rule of the guard's is then one of its warnings."""
    try:
        return places.load(args, bad_rules=True)
    except ConfigError as error:
        raise ConfigError(
            f"{error}; programs that run keep the last good configuration, one that starts"
            " now records nothing",
            hint=error.hint,
        ) from None


def _look(
    config: Config, bundles: list[BundleInfo], foreign: int, locked: list[StoreError]
) -> dict[str, Any]:
    recording, reason = effective_mode(config)
    return {
        "recording": recording,
        "reason": reason,
        **sending_of(config),
        "directory": config.directory,
        "directory_mode": _mode(config.directory),
        "config_path": config.config_path,
        "config_exists": os.path.lexists(config.config_path),
        "retention_days": config.local_retention_days,
        "kept_bytes_max": config.kept_bytes_max,
        "encryption": config.encryption,
        "locked": [f"{error} ({error.hint})" for error in locked],
        "profile": config.profile,
        "rules": len(config.redaction_rules),
        "bundles": len(bundles),
        "bytes": sum(map(size_of, bundles)),
        "oldest": utc_text(bundles[0].created_ns) if bundles else None,
        "writers": sorted({bundle.pid for bundle in bundles if is_being_written(bundle)}),
        "foreign": foreign,
        "pressure": _pressure(config),
        "quarantine": _quarantine(config.directory),
        "warnings": list(config.warnings),
    }


def sending_of(config: Config) -> dict[str, Any]:
    """What may leave now and why, and what left lately: the keys of ``--json`` for it."""
    from stack_composer.telemetry.cli.destinations import purposes_of
    from stack_composer.telemetry.upload.consent import read_consents
    from stack_composer.telemetry.upload.permission import forbidden, permission_for

    consents = read_consents(config)
    forbids = forbidden(config)
    states = []
    for purpose in purposes_of(config):
        decided = forbids or permission_for(config, consents, purpose.origins)
        reason = purpose.problem if purpose.problem and not forbids else decided.reason
        states.append((purpose, decided.allowed and not purpose.problem, reason))
    upload, is_on, why = states[0]
    return {
        "upload": "on" if is_on else "off",
        "upload_reason": why,
        "upload_to": upload.origins or None,
        "exporters": [
            {
                "name": purpose.name,
                "to": purpose.origins or None,
                "is_sending": is_sending,
                "reason": reason,
            }
            for purpose, is_sending, reason in states[1:]
        ],
        **_sent(config.directory),
    }


def _sent(directory: str) -> dict[str, Any]:
    """What left lately, by the audit log."""
    from stack_composer.telemetry.upload.entries import SENDING, time_text
    from stack_composer.telemetry.upload.history import may_have_left, read_history

    since_ns = max(effects.wall_ns() - SENT_SINCE_NS, 0)
    since = time_text(since_ns)
    requests: list[tuple[Entry, Entry | None]] = []
    counts: Counter[str] = Counter()
    try:
        # All of it only if nothing left lately: the last request may be long ago.
        for begin_ns in (since_ns, 0):
            if not requests:
                counts.clear()
                history = read_history(directory, since_ns=begin_ns, counts=counts)
                requests = [pair for pair in history if pair[0].entry == SENDING]
    except StoreError:
        return {"sent": None, "last_sent": None}
    late = [pair for pair in requests if pair[0].time >= since and may_have_left(pair[1])]
    last = None
    if requests:
        entry, answer = requests[-1]
        last = {
            "time": entry.time,
            "to": entry.to,
            "records": entry.records,
            "bytes": entry.bytes,
            "verdict": None if answer is None else answer.verdict,
        }
    return {
        "sent": {
            "requests": len(late),
            "records": sum(entry.records for entry, _ in late),
            "bytes": sum(entry.bytes for entry, _ in late),
            "unanswered": sum(answer is None for _, answer in late),
            "unreadable": counts["unreadable"],
        },
        "last_sent": last,
    }


def _print_sending(found: dict[str, Any]) -> None:
    if found["upload"] == "on":
        output.facts("upload", f"on, to {found['upload_to']}: {found['upload_reason']}")
    else:
        output.facts("upload", f"off: {found['upload_reason']}")
    for exporter in found["exporters"]:
        state = "on" if exporter["is_sending"] else "held back"
        to = f", to {exporter['to']}" if exporter["to"] else ""
        output.facts(exporter["name"], f"{state}{to}: {exporter['reason']}")
    last, sent = found["last_sent"], found["sent"]
    if sent is None:
        output.facts("sent", "the audit log cannot be read; 'doctor' says why")
        return
    if sent["unreadable"]:
        lines = output.counted(sent["unreadable"], "line")
        output.facts("audit", f"{lines} of the log cannot be read: 'telemetry audit --verify'")
    if last is None:
        output.facts("sent", "nothing ever left this computer, by the audit log")
        return
    verdict = last["verdict"] or "answer not known"
    lately = f"{output.counted(sent['records'], 'record')}, {output.bytes_text(sent['bytes'])}"
    when = last["time"][:19] + "Z"
    output.facts("sent", f"{lately} in 7 days; last {when} to {last['to']}: {verdict}")


def _pressure(config: Config) -> dict[str, Any] | None:
    state = disk_state(config)
    if state is None:
        return None
    is_normal = state.level == pressure.NORMAL
    return {
        "level": state.level,
        "since": None if is_normal else utc_text(state.since_ns),
        "free_bytes": state.free_bytes,
        "total_bytes": state.total_bytes,
        "does": pressure.Measures(state.level, config.bundle_bytes_max).text,
    }


def _quarantine(directory: str) -> dict[str, int]:
    found = list_quarantine(directory)
    return {"files": len(found), "bytes": sum(entry.bytes for entry in found)}


def _mode(folder: str) -> str | None:
    try:
        return f"{stat.S_IMODE(os.stat(folder).st_mode):04o}"
    except FileNotFoundError:
        return None


def _print(found: dict[str, Any], config: Config, bundles: list[BundleInfo]) -> None:
    state = "on" if found["recording"] else "off"
    output.facts("recording", f"{state}: {found['reason']}")
    _print_sending(found)
    mode = found["directory_mode"]
    output.facts("folder", f"{config.directory} ({'not there yet' if mode is None else mode})")
    missing = "" if found["config_exists"] else " (not there: the defaults hold)"
    output.facts("config", f"{config.config_path}{missing}")
    kept = "nothing"
    if bundles:
        age = age_text(effects.wall_ns() - bundles[0].created_ns)
        count = output.counted(len(bundles), "bundle")
        kept = f"{output.bytes_text(found['bytes'])} in {count}, oldest {age}"
    output.facts("kept", kept)
    writers = ", ".join(map(str, found["writers"]))
    output.facts("writing", f"process {writers}" if writers else "nobody")
    room = output.bytes_text(config.kept_bytes_max)
    purged_ns = opportunity.last_ns(config.directory)
    purged = "" if purged_ns is None else f"; purged {age_text(effects.wall_ns() - purged_ns)} ago"
    output.facts("retention", f"{config.local_retention_days} days, and {room} at most{purged}")
    disk = found["pressure"]
    if disk is not None:
        free = f"{output.bytes_text(disk['free_bytes'])} free"
        level = "" if disk["since"] is None else f"{disk['level']} since {disk['since']}, "
        output.facts("disk", f"{level}{free}: {disk['does']}")
    own = output.counted(found["rules"], "rule") + " of your own"
    redaction = f"profile {config.profile}, ids by {config.identifiers}"
    output.facts("redaction", redaction + (f", {own}" if found["rules"] else ""))
    if found["quarantine"]["files"]:
        aside = output.counted(found["quarantine"]["files"], "file")
        size = output.bytes_text(found["quarantine"]["bytes"])
        output.facts("quarantine", f"{aside}, {size}: what 'doctor --repair' could not read")
    if config.encryption != "none":
        output.facts("at rest", f"{config.encryption}; 'store status' tells more")
    for reason in found["locked"]:
        output.facts("locked", f"nothing is written or read: {reason}")
    if found["foreign"]:
        output.facts("foreign", f"{found['foreign']:,} files are not ours; 'doctor' names them")
    for warning in config.warnings:
        output.facts("warning", warning)
