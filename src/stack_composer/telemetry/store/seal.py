"""Turn a finished bundle into a compressed one with a sidecar, a small step at a time.

Three files share a stem. O is the plain bundle (``.jsonl``), Z the sealed one
(``.jsonl.zst``), K the sidecar (``.sketch.json``). Whoever seals holds the lock of O
from before the first step until O is gone. Then, in this order:

1. Z.tmp is written, one zstd frame for about 1 MiB of whole lines and the index behind
   them (``index``), and fsynced.
2. K.tmp is written, with the size of Z.tmp and the sketch, and fsynced.
3. K.tmp becomes K.
4. Z.tmp becomes Z. The folder is fsynced.
5. O is deleted.

A reader takes Z if there is one, otherwise O, and believes K only together with a Z
of the size that K tells. So each moment at which the process may die is harmless:

- In 1 or 2: O is whole, and what is left over has a name that no reader takes. The
  next to get the lock of O deletes it and starts again.
- After 3: K describes a Z that is not there; O is whole, K is overwritten later.
- After 4: O and Z hold the same lines, and Z wins. The next to get the lock of O
  sees Z and deletes O. Power loss between 4 and 5 cannot lose lines, since the
  folder is synced before O goes.
- After 5: nothing is left to do. Should power loss bring O back, that is "after 4".

K comes before Z, since the other order has a moment with a Z and no K, which nobody
would ever mend. A K without O and Z is what a purge left half-way; ``recover``
deletes it.

Two processes may want to seal the same O: one gets the lock. The other one, if it
opened O earlier and gets the lock later, sees that O has no name any more
(``st_nlink`` is 0) and leaves. A reader that listed O before 5 finds Z instead when
it opens it. Nobody seals a file of another process where locks are not supported.

Lines behind the last newline of a dead writer's file are not copied: the torn tail
is cut by that, and its size is told in the sidecar.
"""

from __future__ import annotations

import errno
import os

from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store import names
from stack_composer.telemetry.store.folder import close_own, file_id, sync_file
from stack_composer.telemetry.store.packing import Packing
from stack_composer.telemetry.store.sidecar import encode_sidecar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Final

    from stack_composer.telemetry.store.folder import Folder
    from stack_composer.telemetry.store.marks import Marks
    from stack_composer.telemetry.store.sketch import Sketch

FRAME_BYTES: Final = 2**20
LINE_BYTES_MAX: Final = 64 * 2**20


class Sealing:
    """The sealing of one bundle, in steps of a few milliseconds.

    Args:
        folder: Where it is.
        fd: The plain bundle, open for reading, whose lock is held (or unsupported,
            for a bundle of this process). Closed at the end, which frees the lock.
        stem: Of its name.
        signal: Of its name.
        sketch: Of all its lines; None builds one by decoding them.
        marks: Of all its appends; as for ``Packing``.

    Attributes:
        is_done: The bundle is sealed, or was empty and is gone.
        sealed_name: Its name now.
    """

    def __init__(
        self,
        folder: Folder,
        fd: int,
        stem: str,
        signal: str,
        sketch: Sketch | None,
        marks: Marks | None = None,
    ) -> None:
        self.is_done = False
        self.open_name = names.open_name(stem, signal)
        self.sealed_name = names.sealed_name(stem, signal)
        self._sketch_name = names.sketch_name(stem, signal)
        self._folder = folder
        self._fd = fd
        self._id = file_id(fd)
        self._out = -1
        self._stem = stem
        self._signal = signal
        self._packing = Packing(signal, sketch, marks)
        self._steps = self._run()

    def step(self) -> bool:
        """Do a little; True when all is done.

        Raises:
            OSError: The disk is full or fails. Call ``close``; the plain bundle stays.
            StoreError: It holds a line too long to be ours; likewise.
        """
        if not self.is_done:
            if file_id(self._fd) != self._id:
                raise OSError(errno.EBADF, "the program closed the descriptor")
            self.is_done = next(self._steps, True)
        return self.is_done

    def sync(self) -> None:
        """Make the plain bundle durable, as long as it is not sealed."""
        if not self.is_done:
            sync_file(self._fd)

    def close(self) -> None:
        """Stop before the end: delete what is half-made, free the lock."""
        if not self.is_done:
            for name in (self.sealed_name, self._sketch_name):
                try:
                    self._folder.remove(names.temporary_name(name))
                except OSError:
                    # A folder that lets nothing be deleted; whoever adopts the
                    # plain bundle later clears it away.
                    break
        self.forget()

    def forget(self) -> None:
        """Close descriptors and touch no file: what a forked child must do."""
        fd, self._fd = self._fd, -1
        close_own(fd, self._id)
        self._close_out()

    def _close_out(self) -> None:
        out, self._out = self._out, -1
        if out >= 0:
            os.close(out)

    def _run(self) -> Generator[bool, None, None]:
        yield from self._write_frames()
        if not self._packing.lines:
            self._close_out()
            # Under an empty one there may be the half-made files of an import (``intake``).
            for make in (names.sealed_name, names.sketch_name, names.page_name):
                self._folder.remove(names.temporary_name(make(self._stem, self._signal)))
            self._remove_plain()
            return
        sync_file(self._out)
        yield False
        self._write_sidecar()
        self._close_out()
        for name in (self._sketch_name, self.sealed_name):
            self._folder.rename(names.temporary_name(name), name)
        # Without this a power cut could undo the renames after O is gone.
        self._folder.sync()
        self._remove_plain()

    def _remove_plain(self) -> None:
        fd, self._fd = self._fd, -1
        self._folder.remove_open(self.open_name, fd)

    def _write_frames(self) -> Generator[bool, None, None]:
        from stack_composer.telemetry.store.zstd import compress_frame

        packing = self._packing
        self._out = self._create(self.sealed_name)
        while chunk := whole_lines(self._fd, packing.plain_bytes):
            frame = compress_frame(chunk)
            write_all(self._out, frame)
            yield False
            yield from packing.counted(chunk)
            packing.add(chunk, len(frame))
        if packing.lines:
            write_all(self._out, packing.index())

    def _write_sidecar(self) -> None:
        torn_bytes = os.fstat(self._fd).st_size - self._packing.plain_bytes
        sidecar = self._packing.sidecar(os.fstat(self._out).st_size, torn_bytes=torn_bytes)
        fd = self._create(self._sketch_name)
        try:
            write_all(fd, encode_sidecar(sidecar))
            sync_file(fd)
        finally:
            os.close(fd)

    def _create(self, name: str) -> int:
        # We hold the lock of the plain bundle: what is there is from somebody dead.
        self._folder.remove(names.temporary_name(name))
        return self._folder.create(names.temporary_name(name))


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``, however many calls that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def whole_lines(fd: int, offset: int) -> bytes:
    """Read about ``FRAME_BYTES`` of whole lines; b"" when no whole line is left.

    Raises:
        StoreError: A line is too long to be ours.
    """
    wanted = FRAME_BYTES
    while True:
        data = _read_at(fd, offset, wanted)
        end = data.rfind(b"\n") + 1
        if end or len(data) < wanted:
            return data[:end]
        if wanted > LINE_BYTES_MAX:
            raise StoreError(f"a line is longer than {LINE_BYTES_MAX} bytes")
        wanted *= 2


def _read_at(fd: int, offset: int, size: int) -> bytes:
    # Not ``pread``, which Windows lacks; nobody else moves this descriptor.
    os.lseek(fd, offset, os.SEEK_SET)
    parts = []
    while size > 0 and (part := os.read(fd, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
