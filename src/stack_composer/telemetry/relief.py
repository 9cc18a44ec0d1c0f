"""What the writer does when the disk fills: it looks, thins out, makes room, and tells.

``store.pressure`` decides; this carries it out, on the writer's thread. A look is one
``statvfs`` in ``LOOK_S`` seconds. Without pressure a chunk of 512 records costs one
comparison more.

Every step is counted (``recorder.steps``) and told as a health metric, once there is
room for that; the level stands in the folder all along (``store.pressure_note``).
"""

from __future__ import annotations

import os

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import TelemetryError
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.store import names, pressure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.outputs import Outputs

LOOK_S = 5.0
"""How often the room is looked at, and how long a full disk is left alone."""


class Relief:
    """One configuration's watch over the room on its disk.

    Attributes:
        level: One of ``pressure.LEVELS``.
        writes: Whether bundles may be written to.
    """

    def __init__(self, config: Config) -> None:
        self.level = pressure.NORMAL
        self.writes = True
        self._config = config
        self._directory = config.directory
        self._bundle_bytes_max = config.bundle_bytes_max
        self._limits = pressure.Limits(
            config.throttle_free_bytes, config.critical_free_bytes, config.stop_free_bytes
        )
        self._measures = pressure.Measures(self.level, self._bundle_bytes_max)
        self._state: pressure.State | None = None
        self._next_ns = 0
        self._is_full = False
        self._is_told = True

    def look(self, outputs: Outputs, *, now: bool = False) -> None:
        """Look at the disk, if it is time or ``now``, and do what its room asks for."""
        now_ns = effects.monotonic_ns()
        if (now_ns < self._next_ns and not now) or not any(e.fills_disk for e in outputs.exporters):
            return
        self._next_ns = now_ns + int(LOOK_S * 1e9)
        found = effects.disk_space(self._directory)
        if found is None and not self._is_full:
            return
        free_bytes, total_bytes = found or (0, 0)
        state = pressure.assess(
            self._state or self._told(),
            free_bytes=free_bytes,
            total_bytes=total_bytes,
            now_ns=effects.wall_ns(),
            limits=self._limits,
            is_full=self._is_full,
        )
        self._is_full = False
        self._take(state, outputs)
        if self._measures.frees:
            self._free(pressure.wanted_bytes(state, self._limits))

    def refused(self, error: Exception, outputs: Outputs) -> bool:
        """Stop at once if a write failed for want of room; whether it did."""
        if not pressure.is_full(error):
            return False
        self._is_full = True
        if self.level != pressure.STOP:
            # Until the next look nothing is tried, since it would fail likewise.
            self.look(outputs, now=True)
        return True

    def thin(self, spans: list[Any]) -> list[Any]:
        """Leave out what the level asks for, and count it; the spans have their ids."""
        if self.level == pressure.NORMAL or not self.writes:
            return spans
        one_in = self._measures.one_trace_in
        kept = [span for span in spans if pressure.keeps(span, one_in)]
        return self._counted("traces", spans, kept)

    def thin_logs(self, records: list[Any]) -> list[Any]:
        """Likewise for log records."""
        if self.level != pressure.CRITICAL:
            return records
        kept = [record for record in records if pressure.keeps_log(record, self.level)]
        return self._counted("logs", records, kept)

    def _counted(self, signal: str, records: list[Any], kept: list[Any]) -> list[Any]:
        if len(kept) < len(records):
            recorder.drop(signal, "pressure", len(records) - len(kept))
        return kept

    def _told(self) -> pressure.State | None:
        """What another process, or this one before, found out."""
        if not os.path.lexists(os.path.join(self._directory, names.PRESSURE_NOTE)):
            return None  # As nearly always: nothing is imported for it.
        from stack_composer.telemetry.store.pressure_note import read_note

        return read_note(self._directory)

    def _take(self, state: pressure.State, outputs: Outputs) -> None:
        if state.level != self.level:
            recorder.step(state.level)
            self.level = state.level
            self._measures = pressure.Measures(state.level, self._bundle_bytes_max)
            self.writes = self._measures.writes
            self._is_told = False
            outputs.narrow(self._measures.bundle_bytes_max)
        self._state = state
        if not self._is_told:
            from stack_composer.telemetry.store.pressure_note import read_note, write_note

            before = read_note(self._directory)
            if before is not None and before.level == state.level:
                state.since_ns = min(state.since_ns, before.since_ns)
            self._is_told = write_note(self._directory, state)

    def _free(self, wanted: int) -> None:
        from stack_composer.telemetry.store import keys, reader, retention

        try:
            unlock = keys.configured(self._config)
            bundles = reader.list_bundles(self._directory, unlock, locked=[]).bundles
            chosen = pressure.plan_relief(bundles, wanted)
            if chosen:
                result = retention.apply_purge(retention.PurgePlan(tuple(chosen), ()))
                recorder.step("deleted", result.deleted)
        except TelemetryError:
            recorder.step("undeletable")
