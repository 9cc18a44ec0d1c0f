"""What lines are made with and where they go: one guard, encoders, exporters.

Made on the writer's thread when the first line is due, anew for each configuration.
Everything here imports late, so that the application's first span does not wait for
modules that it does not need.
"""

from __future__ import annotations

import os

from stack_composer.telemetry import effects
from stack_composer.telemetry.config import signature
from stack_composer.telemetry.config_options import MIB, NETWORK_EXPORTERS
from stack_composer.telemetry.errors import GuardError
from stack_composer.telemetry.model import Resource
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.store.names import OUTBOXES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, Protocol

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.guard.engine import Guard
    from stack_composer.telemetry.store.encode import Encoder
    from stack_composer.telemetry.store.encrypted.writer import DatabaseWriter
    from stack_composer.telemetry.store.sketch import Sketch
    from stack_composer.telemetry.store.writer import BundleWriter

    class Exporter(Protocol):
        """Where guarded lines go: ``BundleWriter``, ``DatabaseWriter``, the terminal.

        Attributes:
            fills_disk: Whether it needs room in the telemetry folder.
        """

        fills_disk: bool

        def append(self, signal: str, data: bytes, sketch: Sketch, /) -> None:
            """Take whole lines; raises ``StoreError`` if it took nothing."""

        def tick(self) -> bool:
            """Do a little of what takes time; True if more of it is left."""

        def settle(self) -> None:
            """End a turn; make durable what it wrote, if the configuration asks for that."""

        def narrow(self, bundle_bytes_max: int, /) -> None:
            """Write smaller bundles than so far, or larger ones again."""

        def flush(self) -> str:
            """Make durable what was appended; returns where the last line went."""

        def close(self) -> None:
            """Finish; nothing is appended afterwards."""

        def abandon(self) -> None:
            """Let go in a forked child, without touching what the parent has."""


OUTBOX_BUNDLE_BYTES_MAX: Final = 4 * MIB
"""Bundles that are deleted once they went are kept small."""


class Outputs:
    """One configuration's guard, encoders and exporters.

    Spans and log records have limits of their own, hence an encoder for each.
    """

    def __init__(self, guard: Guard, config: Config, exporters: list[Exporter]) -> None:
        from stack_composer.telemetry.store.encode import Encoder

        self.guard = guard
        self.exporters = exporters
        resource = resource_of(config)
        self.spans: Encoder = Encoder(
            guard,
            resource,
            attributes_max=config.span_attribute_count_max,
            chars_max=config.span_attribute_chars_max or 0,
        )
        self.logs: Encoder = Encoder(
            guard,
            resource,
            attributes_max=config.log_attribute_count_max,
            chars_max=config.log_attribute_chars_max or 0,
        )
        # OpenTelemetry exempts metrics from the limits: cut labels would merge series.
        self.metrics: Encoder = Encoder(guard, resource, attributes_max=recorder.buffered_max)

    def tick(self) -> bool:
        """Let each exporter do a little of what takes time; True if more is left."""
        busy = [exporter.tick() for exporter in self.exporters]  # Each of them, whatever it says.
        return any(busy)

    def settle(self) -> None:
        """End a turn of the writer."""
        for exporter in self.exporters:
            exporter.settle()

    def narrow(self, bundle_bytes_max: int) -> None:
        """Have bundles of another size from now on."""
        for exporter in self.exporters:
            exporter.narrow(bundle_bytes_max)

    def flush(self) -> str:
        """Make durable what was appended; returns where the first exporter's last line is."""
        return [exporter.flush() for exporter in self.exporters][0]  # noqa: RUF015 - all are flushed

    def close(self) -> None:
        """Finish all exporters."""
        for exporter in self.exporters:
            exporter.close()

    def linger(self) -> None:
        """After ``close``: wait for what is still to be sent, as long as is configured."""
        for exporter in self.exporters:
            if hasattr(exporter, "linger"):
                exporter.linger()

    def abandon(self) -> None:
        """Let go in a forked child."""
        for exporter in self.exporters:
            exporter.abandon()


class Encoders:
    """What records from elsewhere are written with: an encoder for each signal.

    Without a resource of this program: each batch brings its own.
    """

    def __init__(self, config: Config, guard: Guard) -> None:
        from stack_composer.telemetry.store.encode import Encoder

        self.guard = guard
        nobody = Resource({})
        self._spans = Encoder(
            self.guard,
            nobody,
            attributes_max=config.span_attribute_count_max,
            chars_max=config.span_attribute_chars_max or 0,
        )
        self._logs = Encoder(
            self.guard,
            nobody,
            attributes_max=config.log_attribute_count_max,
            chars_max=config.log_attribute_chars_max or 0,
        )
        self._metrics = Encoder(self.guard, nobody, attributes_max=recorder.buffered_max)

    def encode(self, signal: str, resource: Resource, records: list[Any]) -> tuple[bytes, Sketch]:
        """Encode records of one signal, said by ``resource``, as one line."""
        if signal == "traces":
            self._spans.speak_for(resource)
            return self._spans.encode_spans(records)
        if signal == "metrics":
            self._metrics.speak_for(resource)
            return self._metrics.encode_metrics(records)
        self._logs.speak_for(resource)
        return self._logs.encode_logs(records)


def make_outputs(config: Config) -> Outputs:
    """Make what ``config`` asks for."""
    guard = make_guard(config, _salt(config))
    return Outputs(guard, config, _exporters(config))


def make_guard(config: Config, salt: bytes) -> Guard:
    """Make a guard with the configuration's policy."""
    from stack_composer.telemetry.guard.engine import Guard
    from stack_composer.telemetry.guard.policy import Policy

    policy = Policy(
        profile=config.profile,
        identifiers=config.identifiers,
        salt=salt,
        record_content=config.record_content,
        rules=config.redaction_rules,
        allow=config.redaction_allow,
    )
    return Guard(policy)


def resource_of(config: Config) -> Resource:
    """Give what each line says of this program."""
    attributes = {
        **config.resource_attributes,
        **recorder.resource,
        "telemetry.sdk.name": "stack-composer-telemetry",
        "telemetry.sdk.language": "python",
        "process.pid": os.getpid(),
    }
    recorder.written_resource = attributes
    return Resource(attributes)


def _exporters(config: Config) -> list[Exporter]:
    """Make what ``exporter`` names, bundles first: where they are is what ``flush`` tells."""
    names = config.exporter
    streams = [name for name in names if name in NETWORK_EXPORTERS]
    found: list[Exporter] = []
    if streams:
        found += _streamed(config, streams)
    elif "file" in names:
        found.append(_bundles(config, config.directory, config.bundle_bytes_max))
    if "stdout" in names:
        from stack_composer.telemetry.export.stdout import StdoutExporter

        # In the order that was given, where both are there.
        found.insert(0 if names[0] == "stdout" else len(found), StdoutExporter())
    return found


def _streamed(config: Config, streams: list[str]) -> list[Exporter]:
    """Make the writers whose bundles are streamed: the kept ones, or an outbox each."""
    from stack_composer.telemetry.export import otlp

    is_kept = "file" in config.exporter
    if not otlp.may_ever_leave(config):
        directory = config.directory
        if is_kept:
            return [_bundles(config, directory, config.bundle_bytes_max)]
        return [otlp.Forbidden(directory)]
    if is_kept:
        feeds = [otlp.Feed(config, name, config.directory) for name in streams]
        writer = _bundles(config, config.directory, config.bundle_bytes_max)
        return [otlp.Streamed(writer, feeds)]
    found: list[Exporter] = []
    for name in streams:
        directory = os.path.join(config.directory, OUTBOXES[name])
        # Room is made by whole bundles; and what went is deleted by whole bundles, too.
        bytes_max = min(
            config.bundle_bytes_max, OUTBOX_BUNDLE_BYTES_MAX, config.otlp_queue_bytes_max // 8
        )
        writer = _bundles(config, directory, bytes_max)
        found.append(otlp.Streamed(writer, [otlp.Feed(config, name, directory)]))
    return found


def _bundles(config: Config, directory: str, bytes_max: int) -> BundleWriter | DatabaseWriter:
    if config.encryption != "none":
        from stack_composer.telemetry.store import keys
        from stack_composer.telemetry.store.encrypted.writer import DatabaseWriter

        return DatabaseWriter(
            directory,
            keys=keys.configured(config),
            bundle_bytes_max=bytes_max,
            bundle_age_s_max=config.bundle_age_s_max,
            durability=config.durability,
        )
    from stack_composer.telemetry.store.writer import BundleWriter

    return BundleWriter(
        directory,
        bundle_bytes_max=bytes_max,
        bundle_age_s_max=config.bundle_age_s_max,
        durability=config.durability,
    )


def salt_signature(config: Config) -> tuple[int, int, int] | None:
    """Tell one salt from another by one ``stat``; None where there is none, or none is used."""
    if config.identifiers == "sha256":
        return None
    return signature(os.path.join(os.path.dirname(config.config_path), "salt"))


def salt_of(config: Config) -> bytes:
    """Load the salt of this computer, whatever ids are hashed with.

    Raises:
        GuardError: It cannot be read or made.
    """
    from stack_composer.telemetry.guard.hashing import load_salt

    return load_salt(os.path.dirname(config.config_path))


def hashing_salt(config: Config) -> bytes:
    """Load the salt that ids are hashed with; none where they are hashed without.

    Raises:
        GuardError: As ``salt_of``.
    """
    return b"" if config.identifiers == "sha256" else salt_of(config)


def _salt(config: Config) -> bytes:
    """Load the salt of hashed ids; without one, ids group within this process only."""
    try:
        return hashing_salt(config)
    except GuardError:
        recorder.fault("salt")
        return effects.random_bytes(32)
