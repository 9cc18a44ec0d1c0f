"""Mend a telemetry folder: look, plan, apply.

``survey`` reads everything and changes nothing; ``plan_repair`` decides, from what the
survey found alone; ``apply_repair`` does what the plan says and decides nothing but to
leave alone what has changed since. So ``doctor --repair --dry-run`` prints the very
steps that ``doctor --repair`` takes.

The steps, in the order in which they are taken:

``tighten``
    Take away what group and others may do with a file.
``remove``
    Delete a half-made file of a sealing that nobody is at any more; or of an encrypted
    database that was being made or destroyed, with its key.
``seal``
    Seal a plain bundle whose writer is dead; its torn tail is not copied.
``rebuild``
    Write the sidecar of a sealed bundle anew.
``save``
    Keep the lines of a bundle that can be read, and put the bundle as it was aside.
``quarantine``
    Put aside a bundle of which nothing can be read.

``save`` makes the new bundle in ``quarantine/work``, where no other process takes it for
a leftover, and then: the old file gets its second place in the quarantine; the new
sidecar gets its name; the new bundle takes the place of the old one, in one step. A
plain bundle goes last. So at each moment a reader finds the lines once, and a repair
that dies is taken up by the next one. Two repairs at once are kept apart by a lock; a
bundle that is being written, or sealed, is left alone.

What is in an encrypted database is surveyed too, and never mended: a page that was changed
there is lost, and what can be read stays where it is.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import LineRefusedError, StoreError
from stack_composer.telemetry.store import keys, lock, names, quarantine, reader
from stack_composer.telemetry.store.encrypted import erase
from stack_composer.telemetry.store.folder import open_folder, store_error, sync_file
from stack_composer.telemetry.store.recover import plan_recovery
from stack_composer.telemetry.store.retention import is_being_written
from stack_composer.telemetry.store.seal import Sealing, write_all
from stack_composer.telemetry.store.sidecar import Sidecar, encode_sidecar
from stack_composer.telemetry.store.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final

    from stack_composer.telemetry.store.folder import Folder
    from stack_composer.telemetry.store.reader import BundleInfo

DAMAGE: Final = ("damaged_frame", "truncated", "too_large", "line_too_long")
"""Of ``reader.ODDITIES``, what says that something is lost."""

TIGHTEN: Final = "tighten"
REMOVE: Final = "remove"
SEAL: Final = "seal"
REBUILD: Final = "rebuild"
SAVE: Final = "save"
QUARANTINE: Final = "quarantine"
ACTIONS: Final = (TIGHTEN, REMOVE, SEAL, REBUILD, SAVE, QUARANTINE)

MATCHES: Final = "matches"
MISSING: Final = "missing"
WRONG: Final = "wrong"
NONE: Final = "none"


class Condition(NamedTuple):
    """How a bundle is.

    Attributes:
        bundle: The bundle.
        is_written: A living process holds it.
        lines: Whole lines that can be read and are OTLP.
        refused: Whole lines that are no OTLP.
        damage: What is lost, by the names in ``DAMAGE``.
        is_torn: It ends without a newline.
        sidecar: ``MATCHES``, ``MISSING`` or ``WRONG``; ``NONE`` of a plain bundle.
        has_plain: The plain bundle is there beside the sealed one.
        unreadable: Why it could not be read at all, or "".
        has_bad_index: What tells where things are in it is damaged: it is only slower.

    Of a bundle in a database ``is_torn`` is never true: an append is all or nothing.
    """

    bundle: BundleInfo
    is_written: bool = False
    lines: int = 0
    refused: int = 0
    damage: dict[str, int] = {}  # noqa: RUF012 - nobody changes it
    is_torn: bool = False
    sidecar: str = NONE
    has_plain: bool = False
    unreadable: str = ""
    has_bad_index: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether it is a plain bundle without a byte, such as an import that died leaves."""
        return not (self.bundle.sealed or self.bundle.bytes or self.is_written)

    @property
    def name(self) -> str:
        """The name of its file."""
        return os.path.basename(self.bundle.path)


class Survey(NamedTuple):
    """All that a plan goes by.

    Attributes:
        conditions: Of every bundle, oldest first.
        loose: Files of ours that others may look into.
        leftover: Half-made files that belong to nobody.
        is_folder_loose: The folder itself is open to others.
        half_made: Files of databases that were being made or destroyed by somebody killed.
    """

    conditions: list[Condition]
    loose: list[str]
    leftover: list[str]
    is_folder_loose: bool = False
    half_made: tuple[str, ...] = ()


class Step(NamedTuple):
    """One step of a repair: what is done, with which file of the folder, and why."""

    action: str
    name: str
    why: str


class RepairResult(NamedTuple):
    """What a repair did.

    Attributes:
        done: Steps that were taken, by action.
        failed: Steps that could not be, each with the reason.
    """

    done: dict[str, int]
    failed: list[tuple[Step, str]]


def survey(directory: str, *, progress: Callable[[int, int], None] | None = None) -> Survey:
    """Read the whole folder; change nothing.

    Args:
        directory: The telemetry folder; a missing one is empty.
        progress: Called before each bundle with how many are done, of how many.

    Raises:
        FolderRefusedError: As ``list_bundles``.
        StoreError: As ``list_bundles``.
    """
    # A database that cannot be opened is no bundle's matter: ``checks_encryption`` says it.
    bundles = reader.list_bundles(directory, locked=[]).bundles
    conditions = []
    for done, bundle in enumerate(bundles):
        if progress is not None:
            progress(done, len(bundles))
        found = examine(bundle)
        if found is not None:
            conditions.append(found)
    if progress is not None:
        progress(len(bundles), len(bundles))
    present = os.listdir(directory) if os.path.isdir(directory) else []
    is_open = bool(present) and bool(loose_mode(directory, 0o700))
    leftover = plan_recovery(present).leftover
    half_made = tuple(erase.half_made(directory))
    return Survey(conditions, loose_files(directory), leftover, is_open, half_made)


def loose_files(directory: str) -> list[str]:
    """Names of our files that allow group or others anything."""
    ours = []
    for bundle in reader.list_bundles(directory, locked=[]).bundles:
        if bundle.database is not None:
            continue
        ours.append(os.path.basename(bundle.path))
        if bundle.sketch_bytes:
            ours.append(names.sketch_name(bundle.stem, bundle.signal))
        if bundle.sealed:
            ours.append(names.page_name(bundle.stem, bundle.signal))
    if os.path.isdir(directory):
        ours += sorted(filter(names.is_of_database, os.listdir(directory)))
        ours.append(names.AUDIT)
    return [name for name in ours if loose_mode(os.path.join(directory, name), 0o600)]


def loose_mode(path: str, wanted: int) -> str:
    """The mode as digits if it allows more than ``wanted``, otherwise ""."""
    if os.name == "nt":
        return ""  # There the user's profile folder keeps others out.
    try:
        mode = stat.S_IMODE(os.lstat(path).st_mode)
    except FileNotFoundError:
        return ""  # Sealed or purged meanwhile.
    return f"{mode:04o}" if mode & ~wanted & 0o077 else ""


def examine(bundle: BundleInfo) -> Condition | None:
    """Read a bundle to its end; None if it was purged meanwhile."""
    try:
        is_written = is_being_written(bundle)
        sidecar = reader.read_sidecar(bundle)
        # Lines that a sidecar covers were decoded when it was made.
        read = _Read(bundle, decode=sidecar is None)
        reader.frames_of(bundle, read.counts)
        has_bad_index = bool(read.counts.pop("damaged_index", 0))
        state = NONE
        if bundle.sealed:
            state = MATCHES if sidecar is not None else WRONG if bundle.sketch_bytes else MISSING
        if sidecar is not None:
            read.refused = sidecar.refused_lines
            is_same = (sidecar.lines, sidecar.plain_bytes) == (read.lines, read.plain_bytes)
            if not is_same and not read.counts.total():
                state = WRONG
                read = _Read(bundle, decode=True)
    except StoreError as error:
        return Condition(bundle, unreadable=str(error))
    if read.counts["gone"]:
        return None
    plain = os.path.join(os.path.dirname(bundle.path), names.open_name(bundle.stem, bundle.signal))
    return Condition(
        bundle,
        is_written,
        read.lines - read.refused,
        read.refused,
        {kind: read.counts[kind] for kind in DAMAGE if read.counts[kind]},
        bool(read.counts["torn_tail"]),
        state,
        bundle.sealed and os.path.lexists(plain),
        has_bad_index=has_bad_index,
    )


class _Read:
    """What reading a bundle to its end counts."""

    def __init__(self, bundle: BundleInfo, *, decode: bool) -> None:
        self.counts: Counter[str] = Counter()
        self.sketch = Sketch()
        self.lines = self.plain_bytes = self.refused = 0
        for line in reader.read_lines(bundle, self.counts):
            self.lines += 1
            self.plain_bytes += len(line) + 1
            if decode:
                try:
                    self.sketch.add_line(bundle.signal, line)
                except LineRefusedError:
                    self.refused += 1


def plan_repair(found: Survey) -> list[Step]:
    """Decide what to do, from the survey alone; touch nothing.

    Returns:
        Steps in the order in which they are taken. Each stands by itself: stopped after
        any of them, the rest is what the next plan says.
    """
    steps = []
    if found.is_folder_loose:
        steps.append(Step(TIGHTEN, ".", "others can see into the folder"))
    steps += [Step(TIGHTEN, name, "others can read it") for name in found.loose]
    steps += [Step(REMOVE, name, "left by an interrupted seal") for name in found.leftover]
    half_made = "of a database that was being made or destroyed"
    steps += [Step(REMOVE, name, half_made) for name in found.half_made]
    for condition in found.conditions:
        steps += _steps_for(condition)
    return sorted(steps, key=lambda step: ACTIONS.index(step.action))


def _steps_for(condition: Condition) -> Iterator[Step]:
    name, damage = condition.name, condition.damage
    if condition.is_written or condition.bundle.database is not None:
        return
    if condition.unreadable:
        yield Step(QUARANTINE, name, "it cannot be read")
        return
    why = ", ".join(f"{kind} {count:,}" for kind, count in damage.items())
    if condition.bundle.sealed and not condition.lines and not condition.refused:
        # None is ever sealed that holds nothing.
        why = why or "it holds no line"
    if condition.refused:
        why += (", " if why else "") + f"no OTLP {condition.refused:,} lines"
    if why and (condition.has_plain or not condition.lines or "too_large" in damage):
        # What unpacks to more than any bundle is none; and a plain bundle is whole.
        yield Step(QUARANTINE, name, why)
    elif why:
        yield Step(SAVE, name, why)
    elif condition.is_empty:
        yield Step(SEAL, name, "it is empty, and nobody writes it")
    elif condition.is_torn and not condition.bundle.sealed:
        yield Step(SEAL, name, "its writer died in the middle of a line")
    else:
        yield from _steps_for_what_is_beside(condition)


def _steps_for_what_is_beside(condition: Condition) -> Iterator[Step]:
    """What mends a sealed bundle of which no line is lost."""
    name = condition.name
    if condition.is_torn:
        yield Step(SAVE, name, "it ends in the middle of a line")
    elif condition.has_bad_index:
        yield Step(SAVE, name, "its index is damaged, which makes it slower to search")
    elif condition.sidecar in (MISSING, WRONG):
        which = "it has no sidecar" if condition.sidecar == MISSING else "its sidecar is wrong"
        yield Step(REBUILD, name, which)


def apply_repair(directory: str, steps: list[Step]) -> RepairResult:
    """Take the steps of a plan; one that fails does not stop the others.

    Raises:
        FolderRefusedError: The folder is not ours.
        StoreError: Another repair is at it.
    """
    result = RepairResult({}, [])
    if not steps:
        return result
    # Opening to write takes from group and others what they may do with the folder.
    folder = open_folder(directory, create=True)
    try:
        needs_aside = {REBUILD, SAVE, QUARANTINE} & {step.action for step in steps}
        with _workplace(folder) if needs_aside else contextlib.nullcontext() as workplace:
            for step in steps:
                try:
                    is_done = _Repairer(folder, workplace).take(step)
                except (OSError, StoreError) as error:
                    result.failed.append((step, _reason(error)))
                else:
                    if is_done:
                        result.done[step.action] = result.done.get(step.action, 0) + 1
    finally:
        folder.close()
    return result


def _reason(error: OSError | StoreError) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)


class _Workplace(NamedTuple):
    """Where things are put aside, and where they are made."""

    aside: Folder
    work: Folder


@contextlib.contextmanager
def _workplace(folder: Folder) -> Iterator[_Workplace]:
    aside = open_folder(quarantine.place_of(folder.path), create=True)
    try:
        fd = _take_lock(aside)
        try:
            work = open_folder(aside.path_of(quarantine.WORK_NAME), create=True)
            try:
                _clear(work)  # What a repair left that died.
                yield _Workplace(aside, work)
            finally:
                with contextlib.suppress(OSError):
                    _clear(work)
                work.close()
                _leave(aside)
        finally:
            os.close(fd)
    finally:
        aside.close()
        with contextlib.suppress(OSError):
            os.rmdir(aside.path)  # Only if nothing was put aside.


def _take_lock(aside: Folder) -> int:
    try:
        fd = aside.create(quarantine.LOCK_NAME)
    except FileExistsError:
        fd = aside.open(quarantine.LOCK_NAME, write=True)
    if lock.try_lock(fd) == lock.HELD:
        os.close(fd)
        raise StoreError(
            f"another repair is at work in {os.path.dirname(aside.path)}",
            hint="wait until it is done",
        )
    return fd


def _clear(work: Folder) -> None:
    for name in work.names():
        work.remove(name)


def _leave(aside: Folder) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(aside.path_of(quarantine.WORK_NAME))
        aside.remove(quarantine.LOCK_NAME)


class _Repairer:
    """Takes single steps; each answers whether there was still anything to do."""

    def __init__(self, folder: Folder, workplace: _Workplace | None) -> None:
        self._folder = folder
        self._workplace = workplace

    def take(self, step: Step) -> bool:
        """Take a step."""
        if step.action == TIGHTEN:
            return self._tighten(step.name)
        if step.action == REMOVE:
            return self._remove(step.name)
        bundle = self._find(step.name)
        condition = None if bundle is None else examine(bundle)
        if (
            bundle is None
            or condition is None
            or step.action not in {s.action for s in _steps_for(condition)}
        ):
            return False  # Purged, sealed, mended or taken into use since.
        if step.action == SEAL:
            return self._seal(bundle, step.name)
        if step.action == REBUILD:
            return self._rebuild(bundle)
        return self._put_aside(bundle, step)

    def _find(self, name: str) -> BundleInfo | None:
        parsed = names.parse_name(name)
        if parsed is None or not self._folder.exists(name):
            return None
        sketch_bytes = 0
        with contextlib.suppress(FileNotFoundError):
            sketch = names.sketch_name(parsed.stem, parsed.signal)
            sketch_bytes = self._folder.stat(sketch).st_size
        return reader.BundleInfo(
            self._folder.path_of(name),
            parsed.signal,
            parsed.created_ns,
            parsed.pid,
            parsed.kind == names.SEALED,
            self._folder.stat(name).st_size,
            parsed.stem,
            sketch_bytes,
        )

    def _tighten(self, name: str) -> bool:
        if name == ".":
            return True  # Opening the folder has done it.
        if names.is_of_database(name):
            return self._tighten_by_path(name)
        try:
            # By descriptor: what is opened was checked to be a file of ours.
            fd = self._folder.open(name)
        except FileNotFoundError:
            return False
        try:
            os.fchmod(fd, 0o600)
        finally:
            os.close(fd)
        return True

    def _tighten_by_path(self, name: str) -> bool:
        # The end of any descriptor of a database would end SQLite's locks in this process.
        try:
            found = self._folder.stat(name)
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return False
        os.chmod(self._folder.path_of(name), 0o600)
        return True

    def _remove_half_made(self, name: str) -> bool:
        # The first step clears all that belongs together; who makes one holds the lock.
        if name in erase.half_made(self._folder.path):
            erase.clear(self._folder.path, keys.configured())
        return not self._folder.exists(name)

    def _remove(self, name: str) -> bool:
        if names.is_of_database(name):
            return self._remove_half_made(name)
        # Looked at again: a sealer may have begun since.
        if name not in plan_recovery(self._folder.names()).leftover:
            return False
        return self._folder.remove(name)

    def _seal(self, bundle: BundleInfo, name: str) -> bool:
        fd = self._own(name)
        if fd is None:
            return False
        sealing = Sealing(self._folder, fd, bundle.stem, bundle.signal, None)
        try:
            while not sealing.step():
                pass
        except BaseException:
            sealing.close()
            raise
        return True

    def _own(self, name: str) -> int | None:
        """A descriptor with the lock of a bundle whose writer is dead; None otherwise."""
        fd = self._folder.open(name, write=True)
        if lock.try_lock(fd) == lock.LOCKED and os.fstat(fd).st_nlink:
            return fd
        os.close(fd)
        return None

    def _rebuild(self, bundle: BundleInfo) -> bool:
        work = self._workplace.work if self._workplace else self._folder
        read = _Read(bundle, decode=True)
        before = reader.read_sidecar(bundle)
        sidecar = Sidecar(
            bytes=self._folder.stat(os.path.basename(bundle.path)).st_size,
            plain_bytes=read.plain_bytes,
            lines=read.lines,
            # The bundle itself does not tell.
            torn_bytes=0 if before is None else before.torn_bytes,
            refused_lines=read.refused,
            sketch=read.sketch,
        )
        name = names.sketch_name(bundle.stem, bundle.signal)
        work.remove(name)
        fd = work.create(name)
        try:
            write_all(fd, encode_sidecar(sidecar))
            sync_file(fd)
        finally:
            os.close(fd)
        _move(work, self._folder, name)
        self._folder.sync()
        return True

    def _put_aside(self, bundle: BundleInfo, step: Step) -> bool:
        assert self._workplace is not None
        fd = None if bundle.sealed else self._own(step.name)
        if not bundle.sealed and fd is None:
            return False
        try:
            kept = self._save(bundle) if step.action == SAVE else 0
            note = _note(bundle, step.why, kept)
            quarantine.keep_aside(self._folder, self._workplace.aside, step.name, note)
            sealed = names.sealed_name(bundle.stem, bundle.signal)
            sketch = names.sketch_name(bundle.stem, bundle.signal)
            if kept:
                _move(self._workplace.work, self._folder, sketch)
                _move(self._workplace.work, self._folder, sealed)
            else:
                self._folder.remove(sketch)
            self._folder.sync()
            if fd is not None:
                held, fd = fd, None
                self._folder.remove_open(step.name, held)
            elif not kept:
                self._folder.remove(step.name)
            self._folder.sync()
        finally:
            if fd is not None:
                os.close(fd)
        return True

    def _save(self, bundle: BundleInfo) -> int:
        """Seal the lines that can be read, in the work folder; how many those are."""
        assert self._workplace is not None
        work = self._workplace.work
        _clear(work)
        fd = work.create(names.open_name(bundle.stem, bundle.signal))
        sketch = Sketch()
        kept = 0
        sealing = None
        try:
            for line in reader.read_lines(bundle):
                with contextlib.suppress(LineRefusedError):
                    sketch.add_line(bundle.signal, line)
                    write_all(fd, line + b"\n")
                    kept += 1
            sealing = Sealing(work, fd, bundle.stem, bundle.signal, sketch)
            while not sealing.step():
                pass
        except BaseException:
            if sealing is None:
                os.close(fd)
            else:
                sealing.close()
            raise
        return kept


def _note(bundle: BundleInfo, why: str, kept: int) -> dict[str, Any]:
    from datetime import UTC, datetime

    now = datetime.fromtimestamp(effects.wall_ns() / 1e9, UTC)
    return {
        "bytes": bundle.bytes,
        "when": now.isoformat(timespec="seconds"),
        "why": why,
        "kept_lines": kept,
    }


def _move(source: Folder, target: Folder, name: str) -> None:
    try:
        os.replace(source.path_of(name), target.path_of(name))
    except OSError as error:
        raise store_error("move", source.path_of(name), error) from error
