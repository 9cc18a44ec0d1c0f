"""The writer of what is received: the pipeline's thread, with an inbox beside its buffers.

A request goes the way of all records: decoded, through the guard, encoded, appended. It
is answered when its lines are as durable as the configuration asks for: with "buffered"
once the operating system has them, with "batch" and "sync" once the disk has. Requests
that wait together are made durable together.

All else is the pipeline's: following the configuration, retention, pressure, health.
What is refused is not counted as lost, since whoever sent it still has it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from stack_composer.telemetry import effects
from stack_composer.telemetry.config import Config, effective_mode
from stack_composer.telemetry.config_options import BY_NAME, NETWORK_EXPORTERS
from stack_composer.telemetry.errors import LineRefusedError, SendError, StoreError
from stack_composer.telemetry.model import SIGNALS
from stack_composer.telemetry.otlp.protobuf import Reader
from stack_composer.telemetry.outputs import Encoders
from stack_composer.telemetry.pipeline import Pipeline
from stack_composer.telemetry.receive import inbox
from stack_composer.telemetry.receive.bodies import TooLargeError, unpacked
from stack_composer.telemetry.receive.inbox import Answer, Inbox
from stack_composer.telemetry.receive.transcode import Transcoder
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.store.writer import BUFFERED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from stack_composer.telemetry.outputs import Outputs
    from stack_composer.telemetry.receive.inbox import Request

GROUP_BYTES: Final = 4 * 2**20
"""Requests of together so many bytes are made durable at once, and then answered."""
TURN_NS: Final = 1_000_000_000
"""While requests never cease, the rest of a turn comes about once a second."""

_TOLD: Final = {
    "bad_id": "ids that are none were left out",
    "out_of_range": "numbers beyond their fields count as absent",
    "bad_buckets": "histograms whose counts and bounds do not match lost their buckets",
    "no_points": "metrics without a known point were left out",
    "not_strict": "texts that are not UTF-8 were mended",
}
"""Oddities that a developer can do something about."""


class Receiving(Pipeline):
    """A pipeline that writes what is received, too.

    Args:
        config: What holds.
        options: Options by name, which hold on when the file is read again.
    """

    def __init__(self, config: Config, options: dict[str, object]) -> None:
        self._transcoder: Transcoder | None = None
        self._transcoder_for: Outputs | None = None
        self._taken: Counter[str] = Counter()
        super().__init__(config, options, None)
        self.inbox = Inbox(config.serve_waiting_bytes_max, self.wake)

    def use(self, config: Config) -> None:
        """Take a configuration, but for exporters that would send to this very receiver."""
        super().use(apart_from_itself(config))

    def waits(self) -> bool:
        """Tell whether there is something to write."""
        return bool(self.inbox) or super().waits()

    def take(self, *, last: bool) -> None:
        """Write what the buffers hold, and what was received."""
        super().take(last=last)
        until_ns = effects.monotonic_ns() + TURN_NS
        while group := self.inbox.take(GROUP_BYTES):
            self._write_group(group)
            if effects.monotonic_ns() >= until_ns and not last:
                self.wake()
                return
            self.turnstile.let_others()

    def _write_group(self, group: Sequence[Request]) -> None:
        answers = [self._answer(request) for request in group]
        if self._outputs is not None and self.config.durability != BUFFERED:
            try:
                self._outputs.settle()
            except StoreError as error:
                self._failed(error, "store")
                refused = Answer(inbox.BROKEN, "what was written is not on the disk for sure")
                answers = [refused if a.verdict == inbox.TAKEN else a for a in answers]
        for request, answer in zip(group, answers, strict=True):
            self.inbox.done(request, answer)

    def _answer(self, request: Request) -> Answer:
        """Write one request; never raises, since its sender waits for an answer."""
        recording, why = effective_mode(self.config)
        if not recording:
            return Answer(inbox.OFF, f"nothing is recorded: {why}")
        try:
            return self._written(request)
        except TooLargeError as error:
            return Answer(inbox.TOO_LARGE, str(error))
        except LineRefusedError as error:
            return Answer(inbox.BAD, f"the body {error}")
        except StoreError as error:
            is_full = self._outputs is not None and self._relief.refused(error, self._outputs)
            if not is_full:
                recorder.fault("store")
            return Answer(inbox.NO_ROOM if is_full else inbox.BROKEN, "it cannot be written now")
        except Exception as error:
            self._failed(error, "receive")
            return Answer(inbox.BROKEN, "an internal error")

    def _written(self, request: Request) -> Answer:
        if self._outputs is None:
            self._outputs = self._make_outputs()
        outputs = self._outputs
        self._relief.look(outputs)
        if not self._can_write(outputs):
            return Answer(inbox.NO_ROOM, "there is no room on the disk")
        body = unpacked(request.body, request.encoding, self.config.serve_request_bytes_max)
        oddities: Counter[str] = Counter()
        lines = self._transcoder_of(outputs).lines(
            request.signal, body, oddities, is_json=request.is_json
        )
        for line, sketch, _count in lines:
            for exporter in outputs.exporters:
                exporter.append(request.signal, line, sketch)
            self._tick_at_times(outputs)
        return Answer(inbox.TAKEN, _told(oddities))

    def _transcoder_of(self, outputs: Outputs) -> Transcoder:
        """Give what turns requests into lines with the guard of these outputs."""
        if self._transcoder is None or self._transcoder_for is not outputs:
            encoders = Encoders(self.config, outputs.guard)
            self._transcoder = Transcoder(encoders, Reader())
            self._transcoder_for = outputs
        return self._transcoder


def exporters_to_itself(config: Config) -> tuple[str, ...]:
    """Name the network exporters that a receiver may not have: they would send to itself.

    What it received it would receive again, for ever.
    """
    wanted = [name for name in NETWORK_EXPORTERS if name in config.exporter]
    return tuple(name for name in wanted if _sends_here(config, name))


def apart_from_itself(config: Config) -> Config:
    """Give a configuration without ``exporters_to_itself``; with none left, bundles are kept."""
    left_out = exporters_to_itself(config)
    if not left_out:
        return config
    values = {name: getattr(config, name) for name in BY_NAME}
    kept = tuple(name for name in config.exporter if name not in left_out)
    values["exporter"] = kept or ("file",)
    return Config(values, config.origin, config.warnings)


def _sends_here(config: Config, name: str) -> bool:
    from stack_composer.telemetry.send.addresses import address_of
    from stack_composer.telemetry.send.destination import destination_of

    ports = {config.serve_http_port, config.serve_grpc_port} - {0}
    try:
        destination = destination_of(config, name)
        places = [address_of(destination.url_of(signal), name) for signal in SIGNALS]
    except SendError:
        return False  # It cannot send at all, which the exporter itself says.
    return any(place.is_loopback and place.port in ports for place in places)


def _told(oddities: Counter[str]) -> str:
    return "; ".join(f"{oddities[name]} {text}" for name, text in _TOLD.items() if oddities[name])
