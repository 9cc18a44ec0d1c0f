"""Write guarded lines to standard output, for containers and pipes."""

from __future__ import annotations

import os

from stack_composer.telemetry.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stack_composer.telemetry.store.sketch import Sketch

_STDOUT = 1


class StdoutExporter:
    """Append OTLP JSON lines to file descriptor 1.

    All three signals share the stream; each line says by its one key which it is.
    Written past Python's own buffers, so a line is whole even while the application
    prints.
    """

    fills_disk = False

    def append(self, _signal: str, data: bytes, _sketch: Sketch) -> None:
        """Write whole lines.

        Raises:
            StoreError: Standard output is closed, or its reader is gone.
        """
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(_STDOUT, view) :]
        except OSError as error:
            raise StoreError(
                f"standard output: {error.strerror}", hint='use exporter = "file"'
            ) from error

    def tick(self) -> bool:
        """Say that nothing is left to do: there is nothing to rotate."""
        return False

    def settle(self) -> None:
        """Do nothing: what the operating system has, the reader gets."""

    def narrow(self, _bundle_bytes_max: int) -> None:
        """Do nothing: there are no bundles."""

    def flush(self) -> str:
        """Say where lines go; the operating system has them already."""
        return "/dev/stdout"

    def close(self) -> None:
        """Leave standard output open: it is the application's."""

    def abandon(self) -> None:
        """Leave standard output open: it is the application's."""
