"""Send what was recorded to the server that you named, after showing what and to whom.

What is sent was redacted when it was recorded. What went before to the same server is not
sent again, and an upload that was stopped goes on where it stopped. The first time, and
when the policy changes, you are asked for your consent; 'upload --dry-run' shows what would
leave and needs none, and with --show it prints the very bytes. 'audit' lists what left.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry import effects
from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.destinations import origin_of
from stack_composer.telemetry.cli.parser import (
    UsageError,
    add_folder,
    add_signal_and_name,
    add_window,
)
from stack_composer.telemetry.cli.progress import Progress
from stack_composer.telemetry.errors import NotAllowedError, SendError
from stack_composer.telemetry.query.duration import duration_text, utc_text
from stack_composer.telemetry.upload import consent, ledger, permission, plan, preview
from stack_composer.telemetry.upload import run as sending
from stack_composer.telemetry.upload.audit import Selected, audit_of
from stack_composer.telemetry.upload.pseudonyms import pseudonyms_of

if TYPE_CHECKING:
    import argparse

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.upload.plan import Plan
    from stack_composer.telemetry.upload.preview import Survey
    from stack_composer.telemetry.upload.run import Result

NAMES_SHOWN_MAX = 10
KEYS_SHOWN_MAX = 20
MODES = ("raw", "aggregate", "dp")
EXIT_INTERRUPTED = 130
_BAR_CELLS = 20

JSON_KEYS = {
    "to": "the server: scheme, host and port",
    "protocol": "what requests are written in",
    "mode": "raw or aggregate",
    "plan": "the id of the plan: the same for the same store, ledger, window and destination",
    "dry_run": "whether nothing was sent on purpose",
    "allowed": "whether something may leave now",
    "reason": "which setting or consent says so",
    "bundles": "from which something is sent",
    "done": "bundles that are settled; of a dry run those that were before",
    "requests": "how many were delivered; of a dry run how many there would be",
    "records": "spans, data points and log records in them",
    "bytes": "of their bodies as they leave; of gRPC before it packs them",
    "plain_bytes": "of a dry run: of the bodies before packing; else null",
    "signals": "of a dry run: records by signal; else null",
    "names": "of a dry run: records by the name of spans and metrics; else null",
    "attributes": "of a dry run: how often each attribute key occurs; else null",
    "first": "of a dry run: the earliest time of a record; else null",
    "last": "of a dry run: the latest one; else null",
    "rejected": "records that the server said it did not take; they are not sent again",
    "passed_over": "records that are too large for the server; they are not sent again",
    "refused": "records of requests that the server refused; the next upload tries again",
    "left": "null, or why the rest was not sent",
    "answers": "what the server said: status, message and records",
    "left_out": "what reading had to leave out, by name",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to send, to whom, and whether to ask."""
    parser.epilog = (
        "exit code: 0; 1 when something is left that was to be sent, when nothing may leave, "
        "or when you answer no; 2 when nobody can be asked; 130 when it was interrupted"
    )
    add_window(parser)
    add_signal_and_name(parser)
    parser.add_argument(
        "--mode",
        choices=MODES,
        help="raw records, or their aggregate: counts and histograms (default: upload.mode)",
    )
    parser.add_argument(
        "--to", metavar="URL", help="where to, instead of the configured upload.endpoint"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan and send nothing")
    parser.add_argument(
        "--show", action="store_true", help="with --dry-run: print what would leave, all of it"
    )
    parser.add_argument(
        "--plan", metavar="ID", help="send only if the plan is still the one of this id"
    )
    parser.add_argument(
        "-y", "--yes", action="store_true", help="consent to sending to this server; do not ask"
    )
    add_folder(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, show, ask, send."""
    _check(args)
    config = _config(args)
    forbidden = None if args.dry_run else permission.forbidden(config)
    if forbidden is not None:
        # Before the address is looked at, let alone a name server asked.
        raise NotAllowedError(f"nothing may leave: {forbidden.reason}", hint=forbidden.hint)
    since_ns, until_ns = places.window(args.since, args.until, now_ns=effects.wall_ns())
    if (args.mode or config.upload_mode) == "dp":
        raise UsageError(
            "the mode dp is not in this version", hint="write --mode raw or --mode aggregate"
        )
    command = _Command(args, config, Selected(since_ns, until_ns, args.name or ""))
    return command.show() if args.dry_run else command.send()


def _check(args: argparse.Namespace) -> None:
    if args.name == "":
        raise UsageError("--name needs a pattern", hint="write --name 'planner.*', or leave it out")
    if args.show and not args.dry_run:
        raise UsageError("--show belongs to --dry-run", hint="write --dry-run --show")
    if args.show and args.json:
        raise UsageError("--show prints requests, not JSON", hint="leave out --show or --json")


def _config(args: argparse.Namespace) -> Config:
    from stack_composer.telemetry.config import load_config

    given: dict[str, Any] = {}
    if args.dir is not None:
        given["directory"] = places.absolute(args.dir, "--dir")
    if args.to is not None:
        origin_of(args.to)  # So that a mistake is told of --to, not of the configuration.
        given["upload_endpoint"] = args.to
    return load_config(given)


class _Command:
    """One run of the command."""

    def __init__(self, args: argparse.Namespace, config: Config, wanted: Selected) -> None:
        from stack_composer.telemetry.send.destination import destination_of

        self.args = args
        self.config = config
        self.wanted = wanted
        self.mode = args.mode or config.upload_mode
        self.destination = destination_of(config, "upload")
        self.pseudonyms = pseudonyms_of(config)
        self.allowed = permission.permission(config, self.destination.origin)
        for warning in self.destination.warnings:
            output.note(f"warning: {warning}")

    # -- a dry run --------------------------------------------------------------------

    def show(self) -> int:
        """Show what would leave; send nothing."""
        made = self._plan()
        if self.args.show:
            self._print_requests(made)
            return 0
        survey = self._survey(made)
        if self.args.json:
            output.print_json({**self._facts(made), **_surveyed(survey)})
            return 0
        self._print_preview(made, survey)
        output.say("dry run: nothing was sent")
        if self.allowed.allowed:
            output.say(f"would leave now: yes, {self.allowed.reason}")
        else:
            output.say(f"and nothing would leave now: {self.allowed.reason}")
        return 0

    def _print_requests(self, made: Plan) -> None:
        is_seen = sys.stdout.isatty()
        survey = preview.Survey()
        for batch, message in preview.messages(made, self.destination, self.pseudonyms, survey):
            if is_seen:
                url = self.destination.shown_url_of(batch.signal, batch.name)
                method = preview.method_of(self.destination, batch.signal)
                output.say(f"{method} {url} {output.bytes_text(len(message.body))}")
                for line in batch.lines:
                    output.print_data(line)
            else:
                # An empty line between two requests is none of either.
                output.write_data(preview.http_text(self.destination, message) + b"\r\n")
        for error in survey.unread:
            output.note(f"left out: {error}")

    def _survey(self, made: Plan) -> Survey:
        with Progress() as progress:
            return preview.survey_of(
                made,
                self.destination,
                self.pseudonyms,
                lambda so_far: progress.show(
                    f"counting: {so_far.records.total():,} records, {so_far.requests:,} requests"
                ),
            )

    # -- the real thing ---------------------------------------------------------------

    def send(self) -> int:
        """Ask where consent is missing, send, and say what became of it."""
        must_ask = not self.allowed.allowed
        if must_ask and not self.args.yes and (self.args.json or not output.is_interactive()):
            raise UsageError(
                f"{self.allowed.reason}, and nobody can be asked here",
                hint=f"add --yes to give it, or {self.allowed.hint}",
            )
        with sending.only_upload(self.config.directory):
            made = self._plan()
            self._check_plan(made)
            if not made.portions:
                self._say_nothing(made)
                return 0
            if must_ask and not self._consented(made):
                output.note("nothing was sent")
                return 1
            return self._send(made)

    def _check_plan(self, made: Plan) -> None:
        if self.args.plan is not None and self.args.plan != made.id:
            raise SendError(
                f"the plan is {made.id} now",
                hint="something was recorded or sent since: look at it with --dry-run",
            )

    def _consented(self, made: Plan) -> bool:
        origin = self.destination.origin
        if self.args.yes:
            return self._give(by="--yes")
        self._print_preview(made, self._survey(made))
        output.say()
        output.say(f"policy, version {consent.POLICY_VERSION}:")
        for line in consent.policy_text(" and ".join(origin.split())).splitlines():
            output.say(line)
        if not output.ask(f"{self.allowed.reason}. Do you consent, and send this now?"):
            return False
        return self._give(by="prompt")

    def _give(self, *, by: str) -> bool:
        consent.give(self.config, self.destination.origin, by=by)
        self.allowed = permission.permission(self.config, self.destination.origin)
        return self.allowed.allowed

    def _send(self, made: Plan) -> int:
        from stack_composer.telemetry.send.sender import open_sender

        total = sum(map(sending.covered, made.portions))
        began_ns = effects.monotonic_ns()
        sender = open_sender(self.destination)
        progress = Progress()
        upload = sending.Upload(
            self.config,
            self.destination,
            made,
            sender,
            audit_of(self.config),
            lambda result: progress.show(_bar(result, total)),
        )
        try:
            with progress:
                result = upload.run()
        except KeyboardInterrupt:
            self._say_interrupted(upload.result)
            return EXIT_INTERRUPTED
        finally:
            sender.close()
        return self._summary(made, result, effects.monotonic_ns() - began_ns)

    def _say_interrupted(self, result: Result) -> None:
        sent = output.counted(result.records, "record")
        output.fail(
            f"interrupted after {sent} in {output.counted(result.requests, 'request')}",
            "nothing is lost: upload again to go on; at most one request is sent twice",
        )

    # -- plans ------------------------------------------------------------------------

    def _plan(self) -> Plan:
        destination = self.destination
        signals = frozenset(self.args.signal) if self.args.signal else None
        bundles = [
            bundle
            for bundle in places.bundles_of(self.config.directory)
            if signals is None or bundle.signal in signals
        ]
        known = ledger.read_ledger(self.config.directory)
        made = plan.plan_upload(
            plan.facts_of(bundles, self.wanted),
            wanted=self.wanted,
            signals=signals,
            sent=sending.sent_to(known, destination, self.mode),
            terms=plan.Terms(
                destination.origin,
                destination.protocol,
                self.mode,
                destination.compression,
                self.config.upload_request_bytes_max,
                self.pseudonyms.mark,
            ),
        )
        if destination.is_one_object and sum(len(one.stretches) for one in made.portions) > 1:
            raise SendError(
                f"{destination.origin}: this is the address of one object, and there are "
                f"{output.counted(len(made.portions), 'bundle')}",
                hint="write {name} into the address; or choose less with --since and --signal",
            )
        return made

    # -- for people and programs --------------------------------------------------------

    def _facts(self, made: Plan) -> dict[str, Any]:
        return {
            "to": self.destination.origin,
            "protocol": self.destination.protocol,
            "mode": self.mode,
            "plan": made.id,
            "dry_run": self.args.dry_run,
            "allowed": self.allowed.allowed,
            "reason": self.allowed.reason,
            "bundles": len(made.portions),
            "done": made.done,
        }

    def _say_nothing(self, made: Plan) -> None:
        if self.args.json:
            output.print_json({**self._facts(made), **_sent(sending.Result()), "done": made.done})
            return
        output.say("nothing to send: " + _why_nothing(made))

    def _print_preview(self, made: Plan, survey: Survey) -> None:
        destination = self.destination
        packed = "" if destination.compression == "none" else f", {destination.compression}"
        output.facts("to", f"{destination.origin} ({destination.protocol}{packed})")
        headers = ", ".join(
            f"{name} {where}" for name, where in preview.credentials_of(destination).items()
        )
        output.facts("headers", headers or "no credentials")
        output.facts("proxy", preview.proxy_text(destination, os.environ) or "none")
        output.facts("mode", self.mode)
        if survey.requests:
            self._print_survey(survey)
        else:
            output.facts("what", "nothing: " + _why_nothing(made))
        if made.unfit:
            output.facts(
                "left out",
                f"{_bundles(made.unfit)}: {destination.protocol} has no place for their signal",
            )
        for error in survey.unread:
            output.facts("left out", str(error))
        for name, count in survey.oddities.items():
            output.facts("left out", f"{name}: {count:,}")
        if made.done and survey.requests:
            output.facts("before", f"{_bundles(made.done)} went already")
        output.facts("plan", made.id)

    def _print_survey(self, survey: Survey) -> None:
        counts = ", ".join(
            output.counted(count, *_UNITS[signal]) for signal, count in survey.records.items()
        )
        requests = output.counted(survey.requests, "request")
        output.facts("what", f"{counts}, of {_bundles(survey.bundles)}, in {requests}")
        if survey.first_ns:
            output.facts("from", f"{utc_text(survey.first_ns)} to {utc_text(survey.last_ns)}")
        plain, packed = survey.plain_bytes, survey.packed_bytes
        size, unpacked = output.bytes_text(packed), f"unpacked {output.bytes_text(plain)}"
        if self.destination.protocol == "grpc" and self.destination.compression != "none":
            # It packs messages itself, when they leave.
            unpacked = "before gRPC packs it"
        output.facts("bytes", f"{size} ({unpacked})")
        for label, counted, shown_max in (
            ("names", survey.names, NAMES_SHOWN_MAX),
            ("keys", survey.keys, KEYS_SHOWN_MAX),
        ):
            for number, (text, count) in enumerate(counted.most_common(shown_max)):
                output.facts("" if number else label, f"{text}  {count:,}")
            if len(counted) > shown_max:
                output.facts("", f"and {len(counted) - shown_max:,} more; --json has all")

    def _summary(self, made: Plan, result: Result, took_ns: int) -> int:
        code = 0 if result.is_whole else 1
        if self.args.json:
            output.print_json({**self._facts(made), **_sent(result)})
        elif not result.requests and result.is_whole:
            output.say("nothing to send: " + _why_nothing(made))
        else:
            output.say(
                f"sent {output.counted(result.records, 'record')} in "
                f"{output.counted(result.requests, 'request')}, "
                f"{output.bytes_text(result.bytes)}, to {self.destination.origin} "
                f"in {duration_text(took_ns)}"
            )
        _complain(result)
        gone = result.oddities["gone"]
        if gone:
            output.note(f"{_bundles(gone)} purged meanwhile, and passed over")
        if result.left is not None:
            left = len(made.portions) - result.done
            output.fail(f"{result.left.reason}; {_bundles(left)} left", result.left.hint)
        return code


def _complain(result: Result) -> None:
    """Say aloud what a server did not take."""
    if result.rejected:
        records = output.counted(result.rejected, "record")
        output.note(f"the server did not take {records} of requests that it acknowledged")
    if result.passed_over:
        records = output.counted(result.passed_over, "record")
        output.note(f"{records} too large for the server: passed over for good")
    if result.refused:
        records = output.counted(result.refused, "record")
        output.note(f"the server refused {records}; they stay, and are tried again next time")
    for told in result.words:
        output.note(f"  {told.status}: {told.message or '(no words)'}")
    for error in result.unread:
        output.note(f"left out: {error}")


_UNITS = {
    "traces": ("span",),
    "metrics": ("data point",),
    "logs": ("log record",),
}


def _bundles(count: int) -> str:
    return output.counted(count, "bundle")


def _why_nothing(made: Plan) -> str:
    if made.portions:
        return "what is there is not wanted, or went before"
    if made.done:
        return f"all of it went before ({_bundles(made.done)})"
    if made.unfit:
        return f"{made.terms.protocol} has no place for what is there"
    return "nothing is recorded of that"


def _bar(result: Result, total: int) -> str:
    share = min(result.reached / total, 1.0) if total else 1.0
    cells = round(share * _BAR_CELLS)
    bar = "#" * cells + "." * (_BAR_CELLS - cells)
    sent = f"{result.records:,} records, {output.bytes_text(result.bytes)}"
    waiting = f"; {result.waiting}" if result.waiting else ""
    return f"sending [{bar}] {share:4.0%}  {sent}{waiting}"


def _sent(result: Result) -> dict[str, Any]:
    return {
        "done": result.done,
        "requests": result.requests,
        "records": result.records,
        "bytes": result.bytes,
        **dict.fromkeys(("plain_bytes", "signals", "names", "attributes", "first", "last")),
        "rejected": result.rejected,
        "passed_over": result.passed_over,
        "refused": result.refused,
        "left": None if result.left is None else result.left.reason,
        "answers": [told._asdict() for told in result.words],
        "left_out": dict(result.oddities),
    }


def _surveyed(survey: Survey) -> dict[str, Any]:
    return {
        "requests": survey.requests,
        "records": survey.records.total(),
        "bytes": survey.packed_bytes,
        "plain_bytes": survey.plain_bytes,
        "signals": dict(survey.records),
        "names": dict(survey.names.most_common()),
        "attributes": dict(survey.keys.most_common()),
        "first": utc_text(survey.first_ns) if survey.first_ns else None,
        "last": utc_text(survey.last_ns) if survey.last_ns else None,
        "rejected": 0,
        "passed_over": 0,
        "refused": 0,
        "left": None,
        "answers": [],
        "left_out": dict(survey.oddities),
    }
