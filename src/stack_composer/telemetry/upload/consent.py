"""What the user allowed to leave this computer: to whom, when, and under which policy.

A consent is given to one origin (scheme, host and port) and one version of the policy
below; a destination that sends signals to several places needs one for each of them. It
stands in ``consent.json`` beside the configuration, mode 0600, since it is the user's wish
as the configuration is, and not what was recorded: erasing what was recorded leaves it. A
file that others could have written, or that cannot be understood, is no consent. Each
change is an entry of the audit log too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import NotAllowedError, StoreError
from stack_composer.telemetry.upload.audit import audit_of
from stack_composer.telemetry.upload.entries import time_text
from stack_composer.telemetry.upload.private import alone, read_private, write_private

if TYPE_CHECKING:
    from typing import Final

    from stack_composer.telemetry.config import Config

CONSENT_NAME: Final = "consent.json"
POLICY_VERSION: Final = 1
"""Goes up whenever ``POLICY`` comes to allow more; then everybody is asked again."""
POLICY: Final = """\
What may leave: spans, metrics and logs that programs recorded here, as the guard left them:
  secrets redacted, ids hashed, and hashed once more on their way out. No guard finds all,
  and this is not anonymous. 'upload --dry-run --show' prints the very bytes.
To whom: {origin} and nobody else. Who runs it can keep it and pass it on.
When: whenever you run 'upload', or while a network exporter is configured.
To withdraw: 'stack-composer telemetry consent withdraw', at any time. It calls nothing
  back: 'stack-composer telemetry audit' lists what has left.
"""

_FORMAT: Final = 1
_BYTES_MAX: Final = 2**20
_HINT: Final = "run 'stack-composer telemetry consent give' to write it anew"


class Consent(NamedTuple):
    """One consent.

    Attributes:
        origin: As ``Destination.origin``: "https://host:port".
        policy_version: Of the policy that was shown.
        date: When, UTC (RFC 3339).
        by: How it was given: "prompt", or "--yes".
    """

    origin: str
    policy_version: int
    date: str
    by: str


class Consents(NamedTuple):
    """What the file holds.

    Attributes:
        given: All of them, one an origin at most.
        problem: Why the file counts for nothing, or "".
        hint: What makes it count, or "".
    """

    given: tuple[Consent, ...]
    problem: str = ""
    hint: str = ""

    def lookup(self, origin: str) -> Consent | None:
        """The consent to one origin, of whatever version of the policy; None without one."""
        return next((one for one in self.given if one.origin == origin), None)


def consent_path(config: Config) -> str:
    """Where the file is, whether it exists or not."""
    return os.path.join(os.path.dirname(config.config_path), CONSENT_NAME)


def policy_text(origin: str) -> str:
    """The policy as it is shown to who is asked."""
    return POLICY.format(origin=origin)


def read_consents(config: Config) -> Consents:
    """Read the file; never raises, since whatever is wrong with it means: no consent."""
    path = consent_path(config)
    try:
        return Consents(_decoded(read_private(path, bytes_max=_BYTES_MAX)))
    except FileNotFoundError:
        return Consents(())
    except StoreError as error:
        return Consents((), str(error), error.hint)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Consents((), f"{path} cannot be understood")


def _decoded(data: bytes) -> tuple[Consent, ...]:
    import json

    found = json.loads(data)
    if found["format"] != _FORMAT:
        raise ValueError("another format")
    consents = tuple(
        Consent(one["origin"], one["policy_version"], one["date"], one["by"])
        for one in found["consents"]
    )
    for one in consents:
        texts = (one.origin, one.date, one.by)
        # True is no version, though it equals 1.
        if type(one.policy_version) is not int or not all(type(text) is str for text in texts):
            raise TypeError("not a consent")
    return consents


def give(config: Config, origin: str, *, by: str) -> list[Consent]:
    """Write down that the user allowed it.

    What they allowed before, under the present version of the policy, holds on with its
    date; another version's is replaced.

    Args:
        config: Where the file is, and the audit log.
        origin: To whom, as ``Destination.origin``: several with blanks between are given
            one by one.
        by: How: "prompt", or "--yes".

    Raises:
        NotAllowedError: ``DO_NOT_TRACK`` is set.
        StoreError: It cannot be written; then there is no consent.

    Returns:
        What holds now, for each of the origins.
    """
    if config.do_not_track:
        raise NotAllowedError(
            f"no consent can be given while do_not_track is set ({config.origin['do_not_track']})",
            hint="unset DO_NOT_TRACK first, if you mean it",
        )
    # To the microsecond: one that is given anew is told from the one before.
    date = time_text(effects.wall_ns())
    path = consent_path(config)
    with alone(_lock_path(path)):
        held = {one.origin: one for one in read_consents(config).given}
        origins = list(dict.fromkeys(origin.split()))
        for one in origins:
            if one in held and held[one].policy_version == POLICY_VERSION:
                continue
            # Noted before it holds, so that no consent is ever without its note.
            audit_of(config).consent("given", one, policy_version=POLICY_VERSION, by=by)
            held.pop(one, None)
            held[one] = Consent(one, POLICY_VERSION, date, by)
        _write(path, list(held.values()))
    return [held[one] for one in origins]


def withdraw(config: Config, origin: str | None = None) -> list[Consent]:
    """Take back the consent to ``origin``, or every one; return those that were there.

    Of several origins, with blanks between, each.

    It holds from the next request on, in programs that run too.

    Raises:
        StoreError: The file cannot be written, and the consent stands; or, after it was
            taken back, that could not be noted in the audit log.
    """
    path = consent_path(config)
    with alone(_lock_path(path)):
        found = read_consents(config)
        gone = [one for one in found.given if origin is None or one.origin in origin.split()]
        if gone or found.problem:
            # A file that counts for nothing is written anew: its mode could be mended
            # later, and what it holds would count again.
            _write(path, [one for one in found.given if one not in gone])
    # Afterwards: a full disk must not keep anybody from withdrawing.
    for one in gone:
        audit_of(config).consent("withdrawn", one.origin, policy_version=one.policy_version)
    return gone


def _lock_path(path: str) -> str:
    return path.removesuffix(".json") + ".lock"


def _write(path: str, consents: list[Consent]) -> None:
    import json

    held = {"format": _FORMAT, "consents": [one._asdict() for one in consents]}
    write_private(path, json.dumps(held, indent=2).encode() + b"\n")
