"""List everything that left this computer: when, where, what, and what was answered.

The list is the log in the telemetry folder, to which each request is written before it
leaves. With --verify: whether the log is what was written. Each line holds the hash of the
line before it, and length and last hash of the log stand in a file beside the
configuration, so what is changed, removed or cut off shows; not to a forger who may write
both places, as you and your programs may.

The log is kept until you say otherwise: no purge deletes it. --forget-before deletes whole
old parts of it (of 8 MB, before they were packed), after showing which, and notes that.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry import effects
from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.config_path import config_place
from stack_composer.telemetry.cli.parser import UsageError, add_folder, add_window
from stack_composer.telemetry.query.duration import parse_time_ns, utc_text
from stack_composer.telemetry.store import names
from stack_composer.telemetry.upload import entries, history
from stack_composer.telemetry.upload.audit import Audit

if TYPE_CHECKING:
    import argparse

    from stack_composer.telemetry.upload.verify import Verification

JSON_KEYS = {
    "path": "the log; older parts of it lie beside it, as audit-*.jsonl.zst",
    "entries": "of each request time, to, path, purpose, protocol, plan, mode, since, until and"
    " name (what of the bundles was meant), parts (bundle, and from where to where), records,"
    " bytes, sha256 (of the body as it left; of gRPC before it packs it), verdict, status,"
    " rejected and message (null while no answer is known); of each consent time, to, consent,"
    " policy_version and by; of what the log says of itself time and note",
    "requests": "how many of the listed requests may have left: all but those that found no"
    " connection",
    "records": "of how many records",
    "bytes": "of how many bytes, as they left; of gRPC before it packs them",
    "reached_nobody": "how many requests found no connection",
    "unreadable": "how many lines of the log are damaged",
    "forgotten": "names of the parts that --forget-before deleted",
    "verified": "null, or with --verify: ok, lines, requests, unanswered, torn, is_anchored,"
    " problems (line, 0 for the end, and what) and problem_count; of the whole log",
}

_NOTES = {
    entries.TORN: "the line before was not finished: a program was killed, or the power went",
    entries.FORGOTTEN: "parts of the log were deleted, as you asked for",
    entries.MISSING: "what was noted before this is gone, in part or altogether",
}

_ONE = {"traces": "span", "metrics": "data point", "logs": "log record"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which entries, and whether to check."""
    parser.epilog = (
        "exit code: 0; 1 with --verify when the log is not what was written, or when you answer no;"
        " 2 when nobody can be asked"
    )
    add_window(parser)
    parser.add_argument(
        "--to", metavar="TEXT", help="only to origins with this in them, such as a host"
    )
    parser.add_argument(
        "--verify", action="store_true", help="check the whole log instead of listing it"
    )
    parser.add_argument(
        "--forget-before", metavar="TIME", help="delete the parts that were closed before this"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask before deleting")
    add_folder(parser)


def run(args: argparse.Namespace) -> int:
    """List, or check."""
    directory = places.folder_of(args)
    if args.forget_before is not None:
        return _forget(args, directory)
    verified = _verified(directory) if args.verify else None
    counts: Counter[str] = Counter()
    rows = [] if args.verify else _chosen(args, directory, counts)
    requests = [row for row in rows if "sha256" in row]
    left = [row for row in requests if row["status"] != history.NO_CONNECTION]
    if args.json:
        output.print_json(
            {
                "path": os.path.join(directory, names.AUDIT),
                "entries": rows,
                "requests": len(left),
                "records": sum(row["records"] for row in left),
                "bytes": sum(row["bytes"] for row in left),
                "reached_nobody": len(requests) - len(left),
                "unreadable": counts["unreadable"],
                "forgotten": [],
                "verified": None if verified is None else _as_json(verified),
            }
        )
    elif verified is not None:
        _print_verified(verified)
    else:
        _print(args, rows, left, len(requests) - len(left))
        _tell_damage(counts["unreadable"])
    return int(bool(verified and verified.problems))


def _verified(directory: str) -> Verification:
    from stack_composer.telemetry.upload.verify import verify

    # The configuration itself is not read, so a broken one is no bar.
    return verify(directory, os.path.dirname(config_place()[0]))


def _as_json(found: Verification) -> dict[str, Any]:
    return {
        "ok": not found.problems,
        **found._asdict(),
        "problems": [problem._asdict() for problem in found.problems],
    }


def _forget(args: argparse.Namespace, directory: str) -> int:
    """Show which parts would go, ask, delete them."""
    if args.verify:
        raise UsageError("--verify and --forget-before exclude each other", hint="run it twice")
    before_ns = parse_time_ns(args.forget_before, now_ns=effects.wall_ns())
    doomed, _ = history.forgettable(directory, before_ns)
    if not args.json:
        output.say(
            f"to delete: {output.counted(len(doomed), 'part')} of the log, up to {doomed[-1]}"
            if doomed
            else "no part of the log was closed before that"
        )
    if doomed and not args.yes:
        if args.json or not output.is_interactive():
            raise UsageError(
                "this deletes parts of the log, and nobody can be asked here",
                hint="add --yes to delete them",
            )
        if not output.ask("delete what they say of what left?"):
            output.note("nothing was deleted")
            return 1
    gone = Audit(directory, os.path.dirname(config_place()[0])).forget(before_ns)
    if args.json:
        path = os.path.join(directory, names.AUDIT)
        none = dict.fromkeys(("requests", "records", "bytes", "reached_nobody", "unreadable"), 0)
        nothing: dict[str, Any] = {"entries": [], **none, "verified": None}
        output.print_json({"path": path, **nothing, "forgotten": gone})
    elif gone:
        output.say(f"deleted {output.counted(len(gone), 'part')}")
    return 0


def _row(entry: entries.Entry, answer: entries.Entry | None) -> dict[str, Any] | None:
    """An entry as it is listed; None for one that is not."""
    if entry.entry == entries.SENDING:
        return {**_request(entry), **_answer(answer)}
    if entry.entry == entries.CONSENT:
        return {
            "time": entry.time,
            "to": entry.to,
            "consent": entry.action,
            "policy_version": entry.policy,
            "by": entry.by or None,
        }
    note = _NOTES.get(entry.entry)
    return None if note is None else {"time": entry.time, "note": note}


def _request(entry: entries.Entry) -> dict[str, Any]:
    return {
        "time": entry.time,
        "to": entry.to,
        "path": entry.path,
        "purpose": entry.purpose,
        "protocol": entry.protocol,
        "plan": entry.plan or None,
        "mode": entry.mode,
        "since": utc_text(entry.since_ns) if entry.since_ns else None,
        "until": utc_text(entry.until_ns) if entry.until_ns else None,
        "name": entry.name or None,
        "parts": [
            {"bundle": bundle, "from": [offset, record], "to": [end, end_record]}
            for bundle, offset, record, end, end_record in entry.parts
        ],
        "records": entry.records,
        "bytes": entry.bytes,
        "sha256": entry.sha256,
    }


def _answer(entry: entries.Entry | None) -> dict[str, Any]:
    if entry is None:
        return dict.fromkeys(("verdict", "status", "rejected", "message"))
    return {
        "verdict": entry.verdict,
        "status": entry.status,
        "rejected": entry.rejected,
        "message": entry.message,
    }


def _chosen(args: argparse.Namespace, directory: str, counts: Counter[str]) -> list[dict[str, Any]]:
    since_ns, until_ns = places.window(args.since, args.until, now_ns=effects.wall_ns())
    since = entries.time_text(since_ns) if since_ns else ""
    until = entries.time_text(until_ns) if until_ns else "~"
    rows = [
        _row(entry, answer)
        for entry, answer in history.read_history(directory, since_ns=since_ns, counts=counts)
        # Times are written in one length, so texts compare as they do.
        if since <= entry.time < until and (not args.to or args.to in entry.to)
    ]
    return [row for row in rows if row is not None]


def _tell_damage(lines: int) -> None:
    if lines:
        found = output.counted(lines, "line")
        output.note(f"{found} of the log cannot be read: 'telemetry audit --verify' says where")


def _print(
    args: argparse.Namespace,
    rows: list[dict[str, Any]],
    requests: list[dict[str, Any]],
    in_vain: int,
) -> None:
    if not rows:
        chosen = " that was asked for" if args.since or args.until or args.to else ""
        output.say(f"nothing{chosen} left this computer")
        return
    heads = ("to", "when (UTC)", "plan", "what", "bytes", "sha256", "answer")
    listed = [_cells(row) for row in rows if "note" not in row]
    if listed:
        output.table(heads, listed)
    records = output.counted(sum(row["records"] for row in requests), "record")
    size = output.bytes_text(sum(row["bytes"] for row in requests))
    more = f"; {in_vain:,} more reached nobody" if in_vain else ""
    output.say(f"{output.counted(len(requests), 'request')}, {records}, {size}{more}")
    for row in rows:
        if "note" in row:
            output.say(f"{row['time'][:19].replace('T', ' ')}: {row['note']}")
    for message in sorted({row["message"] for row in rows if row.get("message")}):
        output.say(f"what was answered: {message}")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    when = row["time"][:19].replace("T", " ")
    if "consent" in row:
        how = f" ({row['by']})" if row["by"] else ""
        return (row["to"], when, "", "consent", "", "", row["consent"] + how)
    signals = {part["bundle"].rpartition(".")[2] for part in row["parts"]}
    # What leaves as an aggregate are metrics, whatever they were made of.
    signal = "metrics" if row["mode"] == "aggregate" else "".join(signals)
    what = output.counted(row["records"], _ONE.get(signal, "record"))
    if row["mode"] != "raw":
        what += f", {row['mode']}"
    answer = "not known" if row["verdict"] is None else f"{row['verdict']} ({row['status']})"
    if row["rejected"]:
        answer += f", {row['rejected']:,} not taken"
    return (
        row["to"],
        when,
        (row["plan"] or "stream")[:8],
        what,
        output.bytes_text(row["bytes"]),
        row["sha256"][:8],
        answer,
    )


def _print_verified(found: Verification) -> None:
    for line, what in found.problems:
        output.say(f"line {line:,} {what}" if line else what)
    if found.problem_count > len(found.problems):
        output.say(f"and {found.problem_count - len(found.problems):,} more")
    requests = output.counted(found.requests, "request")
    if not found.problems:
        output.say(
            f"the log is what was written: {output.counted(found.lines, 'line')}, {requests}"
            if found.lines
            else "there is no log: nothing left this computer"
        )
    if found.unanswered:
        output.say(f"of {output.counted(found.unanswered, 'request')} the answer is not known")
    if found.torn:
        output.say(f"{output.counted(found.torn, 'line')} not finished by a killed program")
    if found.lines and not found.is_anchored:
        output.say("no anchor stands beside the configuration: a cut-off end would not show")
