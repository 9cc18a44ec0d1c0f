"""May anything leave this computer? Decided by what is set and allowed, by nothing else.

``permission_for`` is pure: no file, no socket and no name server is asked, so that
"no" is said before anything could leak. The first reason in the table holds; the user's
consent is asked last, since no consent outweighs a switch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry.config import effective_mode
from stack_composer.telemetry.upload.consent import POLICY_VERSION, Consents, read_consents

if TYPE_CHECKING:
    from stack_composer.telemetry.config import Config


class Permission(NamedTuple):
    """The decision.

    Attributes:
        allowed: Whether something may leave.
        reason: Which setting says so and where it comes from, or which consent.
        hint: What would allow it; "" if it is allowed.
        may_ask: Nothing but the user's consent is missing, so they can be asked.
    """

    allowed: bool
    reason: str
    hint: str
    may_ask: bool = False


def permission(config: Config, origin: str) -> Permission:
    """Decide after reading the consents; see ``permission_for``."""
    return permission_for(config, read_consents(config), origin)


def permission_for(config: Config, consents: Consents, origin: str) -> Permission:
    """Decide for one destination.

    Args:
        config: What holds now.
        consents: What the user allowed.
        origin: The destination, as ``Destination.origin``; of several, with blanks
            between, the first that may not get anything decides.
    """
    forbids = forbidden(config)
    if forbids is not None:
        return forbids
    found = [_consented(consents, one) for one in origin.split()]
    if not found:
        return _no("there is no destination", "set endpoint under [upload] in the configuration")
    return next((one for one in found if not one.allowed), found[0])


def forbidden(config: Config) -> Permission | None:
    """The first switch that forbids it, whoever the destination is; None: none does."""
    if config.do_not_track:
        # The name that everybody knows it by, rather than the option's own.
        return _no(f"DO_NOT_TRACK ({config.origin['do_not_track']})", "unset DO_NOT_TRACK")
    recording, reason = effective_mode(config)
    if not recording:
        # Who switched telemetry off did not mean that its past may leave.
        return _no(reason, _switch_on(config))
    if not config.upload_enabled:
        return _no(
            f"upload_enabled = false ({config.origin['upload_enabled']})",
            f"set upload_enabled = true under [telemetry] in {config.config_path}",
        )
    return None


def _switch_on(config: Config) -> str:
    if config.sdk_disabled:
        return "nothing leaves under it; unset OTEL_SDK_DISABLED"
    if config.gdpr:
        return "nothing leaves under it; go without --gdpr"
    return "nothing leaves while telemetry is off; run 'stack-composer telemetry enable'"


def _consented(consents: Consents, origin: str) -> Permission:
    consent = consents.lookup(origin)
    give = f"run 'stack-composer telemetry consent give --to {origin}'"
    if consents.problem:
        return _no(f"no consent: {consents.problem}", consents.hint or give, may_ask=True)
    if consent is None:
        return _no(f"no consent to {origin}", give, may_ask=True)
    if consent.policy_version != POLICY_VERSION:
        reason = (
            f"the consent to {origin} of {consent.date[:10]} is for version "
            f"{consent.policy_version} of the policy, and this is version {POLICY_VERSION}"
        )
        return _no(reason, give, may_ask=True)
    return Permission(allowed=True, reason=f"consent to {origin} of {consent.date[:10]}", hint="")


def _no(reason: str, hint: str, *, may_ask: bool = False) -> Permission:
    return Permission(allowed=False, reason=reason, hint=hint, may_ask=may_ask)
