"""How full the disk is, and what the writers do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry import effects
from stack_composer.telemetry.store import pressure
from stack_composer.telemetry.store.pressure_note import read_note

if TYPE_CHECKING:
    from stack_composer.telemetry.config import Config


def disk_state(config: Config) -> pressure.State | None:
    """How the disk is now; since when, if a writer has told."""
    found = effects.disk_space(config.directory)
    if found is None:
        return None
    limits = pressure.Limits(
        config.throttle_free_bytes, config.critical_free_bytes, config.stop_free_bytes
    )
    return pressure.assess(
        read_note(config.directory),
        free_bytes=found[0],
        total_bytes=found[1],
        now_ns=effects.wall_ns(),
        limits=limits,
    )
