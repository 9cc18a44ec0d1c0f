"""Programs that misuse the library, or call it at the worst moment.

Each test here hung, leaked, lost records or raised into the application once.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import records
from stack_composer import telemetry
from stack_composer.telemetry import process
from stack_composer.telemetry.record import ids, instruments, logging_handler, recorder
from stack_composer.telemetry.turnstile import Turnstile

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
TOKEN = "ghp_" + "a1B2" * 9


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Record into a folder of the test's own."""
    telemetry.configure(tmp_path / "telemetry")
    yield tmp_path / "telemetry"
    telemetry.shutdown()


def all_bytes(folder: Path) -> bytes:
    return b"".join(records.content(path) for path in folder.glob("*.jsonl*"))


def ends_in_time(work: Callable[[], object]) -> bool:
    """Whether ``work`` ends, on a thread that the suite outlives if it does not."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(10)
    return not thread.is_alive()


def children_of(work: Callable[[], object]) -> None:
    """Run ``work`` in a forked child, which ends as a program does."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


# -- spans used in a way they are not meant for ------------------------------------


def test_a_span_within_itself_is_its_outermost_block(folder: Path) -> None:
    span = telemetry.span("outer")
    with span, telemetry.span("inner"), span:
        pass
    with telemetry.span("after"):
        pass
    assert ends_in_time(telemetry.flush)
    inner, outer, after = records.spans(folder)
    assert (inner["name"], outer["name"], after["name"]) == ("inner", "outer", "after")
    assert inner["parentSpanId"] == outer["spanId"]
    assert "parentSpanId" not in outer
    assert "parentSpanId" not in after
    assert records.health(folder, "dropped")["traces", "span_reused"] == 1


def test_a_span_used_again_keeps_the_times_of_its_first_use(folder: Path) -> None:
    span = telemetry.span("once")
    with span:
        pass
    with span:
        time.sleep(0.01)
    telemetry.flush()
    (written,) = records.spans(folder)
    assert int(written["startTimeUnixNano"]) <= int(written["endTimeUnixNano"])


def test_static_and_class_methods_may_be_decorated(folder: Path) -> None:
    class Planner:
        @telemetry.span("static")
        @staticmethod
        def double(number: int) -> int:
            return 2 * number

        @telemetry.span("class")
        @classmethod
        def name(cls) -> str:
            return cls.__name__

    assert (Planner().double(2), Planner.double(3), Planner().name()) == (4, 6, "Planner")
    telemetry.flush()
    assert [span["name"] for span in records.spans(folder)] == ["static", "static", "class"]


# -- values ------------------------------------------------------------------------


def test_a_list_that_holds_itself_many_times_is_cut(folder: Path) -> None:
    knot: list[Any] = []
    knot.extend([knot] * 30)

    def work() -> None:
        with telemetry.span("knot", knot=knot):
            pass
        telemetry.flush()

    assert ends_in_time(work)
    assert b"[too many values]" in all_bytes(folder)


class Liar(str):
    """A text whose methods say that it is short and plain.

    It has no attributes, so that the garbage collector does not track it.
    """

    __slots__ = ()

    def isascii(self) -> bool:
        return True

    def strip(self, *_: object) -> str:
        return ""

    def removeprefix(self, *_: object) -> str:
        return self

    def encode(self, *_: object) -> bytes:
        return b""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, _: object) -> str:
        return self


class LiarInside:
    def __str__(self) -> str:
        return Liar(TOKEN)


def test_a_text_that_lies_about_itself_is_judged_by_what_is_written(folder: Path) -> None:
    liar, inside = Liar(TOKEN), LiarInside()
    with telemetry.span(liar), telemetry.span("values", value=liar, inside=inside) as span:
        span.set_attribute("later", inside)
        span.add_event(liar, {"event": liar})
        span.set_attribute("nested", [liar, {liar: liar}, inside])
    keys: Any = {liar: 1, inside: 2}
    with telemetry.span("keys", keys):
        pass
    telemetry.log(liar, liar, value=liar, inside=inside)
    telemetry.log("info", inside)
    telemetry.metric(liar, 1, value=liar, inside=inside)
    telemetry.metric("labels", 1, {liar: liar})
    telemetry.counter(liar, {"value": inside}, unit=liar, description=liar).add(1)
    telemetry.flush()
    assert len(records.spans(folder)) == 3
    assert TOKEN.encode() not in all_bytes(folder)


def test_labels_of_any_type_are_kept_and_none_is_lost_with_them(folder: Path) -> None:
    telemetry.counter("bytes", {"id": bytearray(b"x")}).add(1)
    odd_key: Any = {1: "one"}
    telemetry.metric("number", 1, odd_key)
    for at in range(3):
        recorder.measurements.append(
            (instruments.get_instrument("counter", "api", "", "", instruments.NATIVE), 1, {}, 0)
        )
        if at == 1:
            odd = {"id": bytearray(b"x")}
            entry = instruments.get_instrument("counter", "api", "", "", instruments.NATIVE)
            recorder.measurements.append((entry, 1, odd, 0))
    telemetry.flush()
    sums = {metric["name"]: metric for metric in records.metrics(folder)}
    assert sorted(int(p["asInt"]) for p in sums["api"]["sum"]["dataPoints"]) == [1, 3]
    assert records.attributes(sums["number"]["gauge"]["dataPoints"][0]) == {"1": "one"}
    assert "bytes" in sums
    assert records.health(folder, "dropped") == {}


def test_a_log_record_of_an_impossible_time_is_kept(folder: Path) -> None:
    handler = telemetry.LoggingHandler()
    for created in (-5.0, 1e300, float("nan"), float("inf")):
        record = logging.makeLogRecord({"msg": "when", "levelno": 20, "levelname": "INFO"})
        record.created = created
        handler.handle(record)
    telemetry.flush()
    ages_ns = [time.time_ns() - int(log["timeUnixNano"]) for log in records.logs(folder)]
    assert [age_ns < 60e9 for age_ns in ages_ns] == [True] * 4


# -- memory ------------------------------------------------------------------------


def remembered_bytes() -> int:
    outputs = process.running and process.running._outputs
    assert outputs
    names, keys = outputs.spans._names, outputs.spans._keys
    return sum(map(len, names)) + sum(map(len, keys))


@pytest.mark.usefixtures("folder")
def test_long_names_and_keys_are_not_remembered_for_ever() -> None:
    for number in range(1_500):
        with telemetry.span(f"{number} " + "x " * 15_000, {f"{number}" * 20_000: 1}):
            pass
        if number % 100 == 0:
            telemetry.flush()
    telemetry.flush()
    assert remembered_bytes() < 40_000_000


def test_a_logger_a_request_does_not_fill_the_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging_handler, "_scopes", {})
    handler = telemetry.LoggingHandler()
    for number in range(3_000):
        handler.handle(
            logging.makeLogRecord({"name": f"request.{number}", "levelno": 20, "msg": "x"})
        )
    telemetry.flush()
    outputs = process.running and process.running._outputs
    assert outputs
    assert len(outputs.logs._scopes) <= 1_001
    assert len(records.logs(folder)) == 3_000


# -- locks, signals and callbacks --------------------------------------------------


@pytest.mark.parametrize("lock", [ids, instruments, process], ids=lambda module: module.__name__)
def test_a_signal_handler_may_record_while_its_thread_holds_a_lock_of_ours(
    folder: Path, lock: Any
) -> None:
    held = lock.lock if lock is process else lock._lock

    def as_the_handler_would() -> None:
        with held, telemetry.span("in the handler") as span:
            span.get_span_context()
            telemetry.counter("handled").add(1)

    telemetry.shutdown()
    recorder.recording, recorder.span_class, process.stopped = True, None, False
    process.options = {"directory": str(folder)}
    assert ends_in_time(as_the_handler_would)
    telemetry.flush()
    assert [span["name"] for span in records.spans(folder)] == ["in the handler"]


@pytest.mark.parametrize("lock", [ids, instruments], ids=lambda module: module.__name__)
def test_a_handler_may_flush_though_its_thread_holds_a_lock_of_ours(
    folder: Path, lock: Any
) -> None:
    release, held = threading.Event(), threading.Event()

    def hold() -> None:
        with lock._lock:
            held.set()
            release.wait(20)

    holder = threading.Thread(target=hold)
    telemetry.counter("bound").add(1)
    with telemetry.span("written"):
        pass
    holder.start()
    held.wait()
    try:
        assert ends_in_time(telemetry.flush)
    finally:
        release.set()
        holder.join()
    assert [span["name"] for span in records.spans(folder)] == ["written"]


def test_a_flush_in_the_middle_of_configure_begins_no_second_pipeline(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = process.running
    assert old is not None
    stop = old.stop

    def interrupted(timeout_s: float) -> None:
        telemetry.flush()  # as the handler of a signal would
        assert process.running is None
        stop(timeout_s)

    monkeypatch.setattr(old, "stop", interrupted)
    telemetry.configure(folder)
    assert process.running is not None


def test_no_record_waits_for_a_thread_that_starts_or_configures(folder: Path) -> None:
    def record() -> None:
        with telemetry.span("meanwhile"):
            pass

    recorder.wake_at = 0
    with process.lock:
        assert ends_in_time(record)
    telemetry.flush()
    assert [span["name"] for span in records.spans(folder)] == ["meanwhile"]


def test_who_is_inside_the_turnstile_is_refused_at_once() -> None:
    turnstile = Turnstile()
    assert turnstile.enter(-1)
    assert not turnstile.enter(-1)
    turnstile.leave()
    assert turnstile.enter(0)


def test_an_interrupted_wait_still_gives_the_turn_back_to_its_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turnstile = Turnstile()
    turnstile.enter(-1)
    enter = turnstile.enter

    def interrupted(_: float) -> bool:
        monkeypatch.setattr(turnstile, "enter", enter)
        raise KeyboardInterrupt

    monkeypatch.setattr(turnstile, "enter", interrupted)
    with pytest.raises(KeyboardInterrupt):
        turnstile.let_others()
    assert turnstile.is_inside()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_writer_survives_what_a_callback_raises(tmp_path: Path) -> None:
    def on_internal_error(error: Exception) -> None:
        raise error

    place = tmp_path / "telemetry"
    place.write_text("in the way")
    telemetry.configure(place, on_internal_error=on_internal_error, flush_s=0.05)
    with telemetry.span("refused"):
        pass
    wait_until(lambda: recorder.faults.get("callback"))
    place.unlink()
    with telemetry.span("written"):
        pass
    wait_until(lambda: [span["name"] for span in records.spans(place)] == ["written"])
    telemetry.configure(tmp_path / "else")


def wait_until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_without_a_thread_flush_writes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        telemetry.configure(folder)
        with telemetry.span("alone"):
            pass
        telemetry.flush()
        telemetry.shutdown()
    assert [span["name"] for span in records.spans(folder)] == ["alone"]


# -- nothing is lost ---------------------------------------------------------------


def test_flush_tells_what_the_thread_could_not_write_before(tmp_path: Path) -> None:
    place = tmp_path / "telemetry"
    place.write_text("in the way")
    telemetry.configure(place, flush_s=0.05)
    with telemetry.span("lost"):
        pass
    wait_until(lambda: not recorder.spans)
    wait_until(lambda: process.running and process.running._unwritten)
    place.unlink()
    with pytest.raises(telemetry.StoreError, match="1 records could not be written"):
        telemetry.flush()
    telemetry.flush()


@pytest.mark.usefixtures("folder")
def test_what_is_recorded_while_configure_ends_the_old_is_written_as_the_new(
    tmp_path: Path,
) -> None:
    old = process.running
    assert old is not None
    old.turnstile.enter(-1)  # so that the old one cannot end yet
    changing = threading.Thread(target=telemetry.configure, args=(tmp_path / "new",))
    changing.start()
    wait_until(lambda: process.running is None)
    with telemetry.span("meanwhile"):
        pass
    recorder.spans, held = [], recorder.spans  # the old one's last turn must not see it
    old.turnstile.leave()
    changing.join()
    recorder.spans = held
    telemetry.flush()
    assert [span["name"] for span in records.spans(tmp_path / "new")] == ["meanwhile"]


def test_a_pipeline_that_was_ended_writes_nothing_that_is_recorded_later(
    folder: Path, tmp_path: Path
) -> None:
    old = process.running
    assert old is not None
    telemetry.configure(tmp_path / "new", profile="strict")
    with telemetry.span("later"):
        pass
    assert old.flush(1.0) == ""
    telemetry.flush()
    assert [span["name"] for span in records.spans(tmp_path / "new")] == ["later"]
    assert records.spans(folder) == []


@needs_fork
def test_a_counter_bound_before_the_fork_counts_in_the_child(folder: Path) -> None:
    counter = telemetry.counter("hits")

    def work() -> None:
        counter.add(1)
        counter.add(2)
        telemetry.flush()

    children_of(work)
    (metric,) = [m for m in records.metrics(folder) if m["name"] == "hits"]
    assert metric["sum"]["dataPoints"][0]["asInt"] == "3"
    # The first amount starts the child's writer; a flush alone would find it, too.

    def count_only() -> None:
        counter.add(1)
        os._exit(int(process.running is None))

    children_of(count_only)


@needs_fork
def test_a_child_knows_the_span_it_was_forked_in(folder: Path) -> None:
    def work() -> None:
        with telemetry.span("child"):
            pass
        telemetry.flush()

    with telemetry.span("root"), telemetry.span("parent"):
        children_of(work)
    telemetry.flush()
    found = {span["name"]: span for span in records.spans(folder)}
    assert found["child"]["parentSpanId"] == found["parent"]["spanId"]
    assert found["child"]["traceId"] == found["root"]["traceId"]
    assert found["parent"]["parentSpanId"] == found["root"]["spanId"]


def test_a_pipe_in_the_place_of_the_salt_hangs_nobody(folder: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes on this platform")
    assert process.running is not None
    place = Path(process.running.config.config_path).parent
    place.mkdir(parents=True, exist_ok=True)
    os.mkfifo(place / "salt", 0o600)
    with telemetry.span("salted", {"user.id": "someone"}):
        pass
    assert ends_in_time(telemetry.flush)
    assert b"hmac:" in all_bytes(folder)


@pytest.mark.usefixtures("folder")
def test_a_refused_provider_changes_no_option(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider())
    before = process.running
    with pytest.raises(telemetry.ConfigError, match="another tracer provider"):
        telemetry.configure(tmp_path / "new", opentelemetry=True)
    assert process.running is before


@pytest.mark.e2e
class TestPrograms:
    """Whole programs, since it is their end that matters."""

    def run(self, folder: Path, source: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(source)],
            env={**os.environ, "STACK_COMPOSER_TELEMETRY_DIR": str(folder)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.stderr, done.returncode) == ("", 0)

    @needs_fork
    def test_a_worker_of_multiprocessing_writes_what_it_recorded(self, tmp_path: Path) -> None:
        self.run(
            tmp_path,
            """
            import multiprocessing
            from stack_composer import telemetry
            def work():
                with telemetry.span("worker"):
                    pass
            with telemetry.span("main"):
                worker = multiprocessing.get_context("fork").Process(target=work)
                worker.start()
                worker.join()
            """,
        )
        assert sorted(s["name"] for s in records.spans(tmp_path)) == ["main", "worker"]

    def test_a_handler_of_the_end_may_record_though_it_was_first(self, tmp_path: Path) -> None:
        self.run(
            tmp_path,
            """
            import atexit
            from stack_composer import telemetry
            def last():
                with telemetry.span("last"):
                    pass
            atexit.register(last)
            with telemetry.span("first"):
                pass
            """,
        )
        assert [s["name"] for s in records.spans(tmp_path)] == ["first", "last"]

    def test_shutdown_in_a_handler_that_interrupts_a_flush_loses_nothing(
        self, tmp_path: Path
    ) -> None:
        if not hasattr(os, "fork"):
            pytest.skip("no such signals on this platform")
        self.run(
            tmp_path,
            """
            import os, signal
            from stack_composer import telemetry
            from stack_composer.telemetry import process
            def end(*_):
                telemetry.shutdown()
                raise SystemExit(0)
            signal.signal(signal.SIGTERM, end)
            telemetry.configure()
            pipeline = process.running
            take = pipeline.take
            def interrupted(*, last):
                pipeline.take = take
                os.kill(os.getpid(), signal.SIGTERM)
                take(last=last)
            with telemetry.span("waiting"):
                pass
            pipeline.take = interrupted
            telemetry.flush()
            """,
        )
        assert [s["name"] for s in records.spans(tmp_path)] == ["waiting"]
