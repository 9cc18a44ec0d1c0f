"""What ``doctor`` looks at. Each check returns what it found wrong, and touches nothing.

A check answers for one thing and does not assume that another passed: the folder may
be missing, the configuration broken, and each still gets its own finding.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry import effects, gdpr
from stack_composer.telemetry.cli import output
from stack_composer.telemetry.cli.disk import disk_state
from stack_composer.telemetry.errors import TelemetryError
from stack_composer.telemetry.query.aggregate import Summary
from stack_composer.telemetry.query.collect import collect
from stack_composer.telemetry.query.duration import utc_text
from stack_composer.telemetry.store import pressure, reader, repair
from stack_composer.telemetry.store.recover import plan_recovery

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stack_composer.telemetry.store.reader import BundleInfo
    from stack_composer.telemetry.store.repair import Condition, Survey

LOSSES_SINCE_NS = 7 * 86_400 * 1_000_000_000
"""Losses are findings for a week; then they are history, which ``stats`` still shows."""

HITS_SINCE_NS = 86_400 * 1_000_000_000
HITS_SHARE_MAX = 0.2
"""A rule that hits more of a day's texts is hardly about secrets."""
JUDGED_MIN = 100
"""Of fewer texts a share says nothing."""

NAMED_MAX = 5

REPAIR = "stack-composer telemetry doctor --repair"

_MISREAD = ("config", "rules")
"""Faults that are a mistake in the configuration file, not one of ours."""


class Finding:
    """Something wrong.

    Attributes:
        check: Which check found it.
        what: What is wrong, where, how big; never recorded content.
        mend: The command or edit that puts it right.
        is_repairable: Whether ``doctor --repair`` does it.
    """

    __slots__ = ("check", "is_repairable", "mend", "what")

    def __init__(self, check: str, what: str, mend: str, *, is_repairable: bool = False) -> None:
        self.check = check
        self.what = what
        self.mend = mend
        self.is_repairable = is_repairable

    def as_json(self) -> dict[str, Any]:
        """Return the finding for ``--json``."""
        return {name: getattr(self, name) for name in ("check", "what", "mend", "is_repairable")}


def _listing(directory: str) -> reader.Listing:
    """List the folder; a database that cannot be opened is ``check_encryption``'s."""
    return reader.list_bundles(directory, locked=[])


def check_configuration() -> list[Finding]:
    """The file can be read, and nothing of the environment is ignored."""
    from stack_composer.telemetry.config import load_config

    try:
        warnings = load_config().warnings
    except TelemetryError as error:
        return [Finding("configuration", str(error), error.hint)]
    return [
        Finding("configuration", warning, "correct the setting or take it away")
        for warning in warnings
    ]


def check_folder(directory: str) -> list[Finding]:
    """The folder is a real one, of this user, and closed to others."""
    if not os.path.lexists(directory):
        return []
    try:
        _listing(directory)
    except TelemetryError as error:
        return [Finding("folder", str(error), error.hint or f"look at {directory}")]
    found = repair.loose_mode(directory, 0o700)
    if not found:
        return []
    what = f"{directory} has mode {found}: others can see into it"
    return [Finding("folder", what, REPAIR, is_repairable=True)]


def check_modes(directory: str) -> list[Finding]:
    """No file of ours can be read by others."""
    loose = repair.loose_files(directory)
    if not loose:
        return []
    what = f"{output.counted(len(loose), 'file')} can be read by others: {_named(loose)}"
    return [Finding("modes", what, REPAIR, is_repairable=True)]


def check_foreign(directory: str) -> list[Finding]:
    """Nothing else lies in the folder."""
    listing = _listing(directory)
    if not listing.foreign:
        return []
    what = (
        f"{output.counted(len(listing.foreign), 'entry', 'entries')} in {directory} not made by us,"
        f" never read and never purged: {_named(listing.foreign)}"
    )
    return [Finding("foreign", what, "move them elsewhere")]


def check_leftovers(directory: str) -> list[Finding]:
    """No half-made files of a process that died while sealing or importing."""
    if not os.path.isdir(directory):
        return []
    leftover = plan_recovery(os.listdir(directory)).leftover
    if not leftover:
        return []
    count = output.counted(len(leftover), "leftover file")
    what = f"{count} of an interrupted seal or import: {_named(leftover)}"
    return [Finding("leftovers", what, REPAIR, is_repairable=True)]


def check_gdpr(directory: str) -> list[Finding]:
    """No purge is owed for a stack generation that was killed."""
    if not gdpr.is_left(directory):
        return []
    what = "a stack generation under GDPR was killed before what was recorded could be purged"
    mend = "start any program that records, or 'stack-composer --gdpr run python3 -c pass'"
    return [Finding("gdpr", what, mend)]


def check_bundles(found: Survey) -> list[Finding]:
    """Every bundle can be read to its end, every line is OTLP, every sidecar matches."""
    return [finding for condition in found.conditions for finding in _check_bundle(condition)]


def _check_bundle(condition: Condition) -> Iterator[Finding]:
    name = condition.name
    if condition.is_written:
        return
    if condition.bundle.database is not None:
        yield from _check_row(condition)
        return
    if condition.unreadable:
        yield _mendable(condition.unreadable)
    for kind in condition.damage:
        yield _mendable(f"{name}: {reader.ODDITIES[kind]}")
    if condition.has_bad_index:
        yield _mendable(f"{name}: {reader.ODDITIES['damaged_index']}")
    if condition.is_empty:
        yield _mendable(f"{name}: is empty, and nobody writes it")
    if condition.is_torn:
        yield _mendable(f"{name}: ends without a newline, its writer died; whole lines are kept")
    if condition.refused:
        yield _mendable(f"{name}: {output.counted(condition.refused, 'line')} that are no OTLP")
    if condition.sidecar in (repair.MISSING, repair.WRONG) and not condition.damage:
        which = "no sidecar" if condition.sidecar == repair.MISSING else "a wrong sidecar"
        yield _mendable(f"{name}: {which}; stats decodes the bundle, which is slower")


def _check_row(condition: Condition) -> Iterator[Finding]:
    """What is wrong with a bundle in a database: nothing there is mended."""
    if condition.unreadable:
        yield Finding("bundles", condition.unreadable, "look at the database")
    wrong = [reader.ODDITIES[kind] for kind in condition.damage]
    if condition.has_bad_index:
        wrong.append(reader.ODDITIES["damaged_index"])
    if condition.refused:
        wrong.append(f"{output.counted(condition.refused, 'line')} that are no OTLP")
    if condition.sidecar in (repair.MISSING, repair.WRONG) and not condition.damage:
        which = "no sidecar" if condition.sidecar == repair.MISSING else "a wrong sidecar"
        wrong.append(f"{which}; stats decodes the bundle, which is slower")
    for what in wrong:
        yield Finding(
            "bundles",
            f"{condition.name}: {what}",
            "none: the rest is read, and goes when the bundle is purged",
        )


def _mendable(what: str) -> Finding:
    return Finding("bundles", what, REPAIR, is_repairable=True)


def check_pressure(directory: str) -> list[Finding]:
    """There is room enough on the disk."""
    from stack_composer.telemetry.config import load_config

    try:
        config = load_config({"directory": directory})
    except TelemetryError:
        return []  # Said already.
    state = disk_state(config)
    if state is None or state.level == pressure.NORMAL:
        return []
    does = pressure.Measures(state.level, config.bundle_bytes_max).text
    what = (
        f"the disk has {output.bytes_text(state.free_bytes)} left ({state.level} since "
        f"{utc_text(state.since_ns)}): {does}"
    )
    return [Finding("pressure", what, "free some space, or lower the limits in [store]")]


def _of_the_last(length_ns: int, directory: str) -> Summary:
    """What the pipelines said of themselves since so long ago."""
    bundles: Sequence[BundleInfo] = [
        bundle for bundle in _listing(directory).bundles if bundle.signal == "metrics"
    ]
    now_ns = effects.wall_ns()
    since_ns = max(now_ns - length_ns, 0)
    sketch = collect(bundles, since_ns=since_ns).sketch
    return Summary(sketch, since_ns=since_ns, until_ns=now_ns)


def check_guard(directory: str) -> list[Finding]:
    """No rule of the guard takes so much of a day that it is likely to be wrong.

    Of the rules that look into texts, and of the user's own over keys: ours over keys
    take what they name, however often that is recorded.
    """
    summary = _of_the_last(HITS_SINCE_NS, directory)
    if summary.judged < JUDGED_MIN:
        return []
    return [
        Finding(
            "guard",
            f"the rule {rule} hit {hits:,} of {summary.judged:,} texts in the last 24 hours"
            f" ({hits / summary.judged:.0%})",
            f"'guard explain' says why; if it is wrong, make the rule narrower if it is yours,"
            f' or add the key to [redaction.allow]: "the.key" = ["{rule}"]',
        )
        for rule, hits in summary.hits.items()
        if hits > HITS_SHARE_MAX * summary.judged
    ]


def check_encryption(directory: str) -> list[Finding]:
    """What is to be encrypted is, and can be read."""
    from stack_composer.telemetry.cli import checks_encryption

    return list(checks_encryption.check(directory))


def check_audit(directory: str) -> list[Finding]:
    """The log of what left this computer is what was written."""
    from stack_composer.telemetry.cli.config_path import config_place
    from stack_composer.telemetry.upload.verify import verify

    found = verify(directory, os.path.dirname(config_place()[0]))
    if not found.problems:
        return []
    line, what = found.problems[0]
    where = f"line {line:,} {what}" if line else what
    more = f"; and {found.problem_count - 1:,} more" if found.problem_count > 1 else ""
    mend = (
        "'stack-composer telemetry audit --verify' tells all of it; if you know why, "
        "'data erase --audit' begins a new log"
    )
    return [Finding("audit", f"the audit log: {where}{more}", mend)]


def check_consent(directory: str) -> list[Finding]:
    """The file of consents can be trusted and understood."""
    from stack_composer.telemetry.config import load_config
    from stack_composer.telemetry.upload.consent import read_consents

    try:
        problem = read_consents(load_config({"directory": directory})).problem
    except TelemetryError:
        return []  # Said already.
    if not problem:
        return []
    mend = "'stack-composer telemetry consent give' or 'consent withdraw' writes it anew"
    return [Finding("consent", f"no consent counts, since {problem}", mend)]


def check_losses(directory: str) -> list[Finding]:
    """The pipeline lost nothing and failed nowhere in the last week."""
    summary = _of_the_last(LOSSES_SINCE_NS, directory)
    findings = []
    if summary.dropped:
        what = f"records were dropped in the last 7 days: {_listed(summary.dropped)}"
        findings.append(Finding("losses", what, _mend_drops(summary.dropped)))
    misread = {name: count for name, count in summary.faults.items() if name in _MISREAD}
    if misread:
        what = (
            f"a program met a mistake in the configuration, in the last 7 days: {_listed(misread)}"
        )
        findings.append(Finding("losses", what, "stack-composer telemetry config check"))
    failed = {name: count for name, count in summary.faults.items() if name not in _MISREAD}
    if failed:
        what = f"our own code failed in the last 7 days: {_listed(failed)}"
        findings.append(Finding("losses", what, "please report it with these names and counts"))
    return findings


def _mend_drops(dropped: dict[str, int]) -> str:
    if "pressure" in dropped:
        return "free some space on the disk; 'stack-composer telemetry status' says how much"
    if any("full" in reason or "buffer" in reason for reason in dropped):
        return "raise store.buffered_records_max in the configuration, or record less"
    return "see docs/configuration.md for the limits, and check the free space"


def check_environment() -> list[Finding]:
    """The fast engine is there, and the means to compress."""
    findings = []
    if not _imports("re2"):
        findings.append(
            Finding(
                "environment",
                "google-re2 is missing: redaction is slower",
                "pip install google-re2",
            )
        )
    if not _imports("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"):
        findings.append(
            Finding(
                "environment",
                "zstd is missing: bundles are neither sealed nor read when sealed",
                "pip install backports.zstd",
            )
        )
    return findings


def _imports(module: str) -> bool:
    import importlib

    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _named(some: Sequence[str]) -> str:
    more = len(some) - NAMED_MAX
    return ", ".join(some[:NAMED_MAX]) + (f" and {more:,} more" if more > 0 else "")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
