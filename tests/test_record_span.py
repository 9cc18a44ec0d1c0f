"""Spans as an application uses them, read back from the files."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import records
from stack_composer import telemetry


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A pipeline of its own that lets a test see faults of our code."""

    def raise_it(error: Exception) -> None:
        raise error

    telemetry.configure(tmp_path / "telemetry", on_internal_error=raise_it)
    yield tmp_path / "telemetry"
    telemetry.shutdown()


def written(folder: Path) -> dict[str, dict[str, Any]]:
    """Spans by name, after a flush."""
    telemetry.flush()
    return {span["name"]: span for span in records.spans(folder)}


def test_a_span_reaches_the_disk_with_its_attributes_and_times(folder: Path) -> None:
    with telemetry.span("planner.solve", {"a.b": "text"}, k=3, ratio=0.5, ok=True, none=None):
        pass
    span = written(folder)["planner.solve"]
    assert span["attrs"] == {"a.b": "text", "k": 3, "ratio": 0.5, "ok": True, "none": None}
    assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
    assert span["kind"] == 1
    assert span["flags"] == 0x101
    assert "parentSpanId" not in span
    assert "status" not in span


def test_children_share_the_trace_and_name_their_parent(folder: Path) -> None:
    with telemetry.span("root"):
        with telemetry.span("first"), telemetry.span("below"):
            pass
        with telemetry.span("second"):
            pass
    with telemetry.span("other"):
        pass
    got = written(folder)
    assert len({got[n]["traceId"] for n in ("root", "first", "below", "second")}) == 1
    assert got["other"]["traceId"] != got["root"]["traceId"]
    assert got["first"]["parentSpanId"] == got["second"]["parentSpanId"] == got["root"]["spanId"]
    assert got["below"]["parentSpanId"] == got["first"]["spanId"]
    assert len({span["spanId"] for span in got.values()}) == 5


def test_a_child_written_before_its_parent_ends_still_names_it(folder: Path) -> None:
    with telemetry.span("open"):
        with telemetry.span("done"):
            pass
        telemetry.flush()
    got = written(folder)
    assert got["done"]["parentSpanId"] == got["open"]["spanId"]
    assert got["done"]["traceId"] == got["open"]["traceId"]


def test_an_exception_is_recorded_and_goes_on(folder: Path) -> None:
    def failing() -> None:
        with telemetry.span("bad"):
            raise ValueError("went wrong")

    with pytest.raises(ValueError, match="went wrong"):
        failing()
    span = written(folder)["bad"]
    assert span["status"] == {"message": "ValueError: went wrong", "code": 2}
    (event,) = span["events"]
    told = records.attributes(event)
    assert event["name"] == "exception"
    assert told["exception.type"] == "ValueError"
    assert told["exception.message"] == "went wrong"
    assert "in failing" in told["exception.stacktrace"]
    assert int(event["timeUnixNano"]) <= int(span["endTimeUnixNano"])


def test_an_exception_whose_str_raises_does_no_harm(folder: Path) -> None:
    class SlyError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    with pytest.raises(SlyError), telemetry.span("sly"):
        raise SlyError
    assert written(folder)["sly"]["status"]["message"] == "SlyError: [unprintable]"


def test_leaving_by_generator_exit_is_no_error(folder: Path) -> None:
    def steps() -> Iterator[int]:
        with telemetry.span("steps"):
            yield 1

    for _ in steps():
        break
    gc.collect()
    assert "status" not in written(folder)["steps"]


def test_decorated_functions_of_every_kind(folder: Path) -> None:
    @telemetry.span("plain", k=1)
    def plain(x: int) -> int:
        return x + 1

    @telemetry.span("coroutine")
    async def coroutine(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    @telemetry.span("generator")
    def generator() -> Generator[Any, Any, None]:
        with telemetry.span("inside generator"):
            pass
        got = yield 1
        yield got

    @telemetry.span("async generator")
    async def async_generator() -> AsyncIterator[int]:
        yield 1
        with telemetry.span("inside async generator"):
            await asyncio.sleep(0)
        yield 2

    assert plain(1) == plain(1) == 2
    assert asyncio.run(coroutine(1)) == 2
    made = generator()
    assert next(made) == 1
    with telemetry.span("consumer"):
        pass
    assert made.send(5) == 5
    assert list(made) == []

    async def consume() -> list[int]:
        return [x async for x in async_generator()]

    assert asyncio.run(consume()) == [1, 2]
    telemetry.flush()
    spans = records.spans(folder)
    assert sorted(span["name"] for span in spans) == sorted(
        [
            *("plain", "plain", "coroutine", "generator", "inside generator", "consumer"),
            *("async generator", "inside async generator"),
        ]
    )
    got = {span["name"]: span for span in spans}
    assert got["plain"]["attrs"] == {"k": 1}
    assert got["inside generator"]["parentSpanId"] == got["generator"]["spanId"]
    assert got["inside async generator"]["parentSpanId"] == got["async generator"]["spanId"]
    assert "parentSpanId" not in got["consumer"]
    assert plain.__name__ == "plain"


def test_a_generator_that_raises_fails_its_span(folder: Path) -> None:
    @telemetry.span("raising")
    def raising() -> Iterator[int]:
        yield 1
        raise KeyError("gone")

    with pytest.raises(KeyError):
        list(raising())
    assert written(folder)["raising"]["status"]["code"] == 2


def test_threads_and_tasks_have_their_own_current_span(folder: Path) -> None:
    def work(name: str) -> None:
        with telemetry.span(name), telemetry.span(f"{name}.below"):
            pass

    async def task(name: str) -> None:
        with telemetry.span(name):
            await asyncio.sleep(0)
            with telemetry.span(f"{name}.below"):
                await asyncio.sleep(0)

    async def tasks() -> None:
        with telemetry.span("gather"):
            await asyncio.gather(task("task a"), task("task b"))

    threads = [threading.Thread(target=work, args=(f"thread {i}",)) for i in range(4)]
    with telemetry.span("main"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    asyncio.run(tasks())
    got = written(folder)
    for i in range(4):
        assert "parentSpanId" not in got[f"thread {i}"]
        assert got[f"thread {i}.below"]["parentSpanId"] == got[f"thread {i}"]["spanId"]
    for name in ("task a", "task b"):
        assert got[name]["parentSpanId"] == got["gather"]["spanId"]
        assert got[f"{name}.below"]["parentSpanId"] == got[name]["spanId"]


def test_a_span_ended_twice_or_on_another_thread_is_written_once(folder: Path) -> None:
    with telemetry.span("twice") as span:
        span.end()
        span.end()
    span.end()
    entered = telemetry.span("elsewhere")
    # In a context of its own, since it stays current there for ever.
    contextvars.copy_context().run(entered.__enter__)
    thread = threading.Thread(target=lambda: entered.__exit__(None, None, None))
    thread.start()
    thread.join()
    telemetry.span("never entered").end()
    names = sorted(s["name"] for s in [*written(folder).values()])
    assert names == ["elsewhere", "twice"]
    assert len(records.spans(folder)) == 2


def test_nothing_changes_a_span_after_its_end(folder: Path) -> None:
    with telemetry.span("ended", k=1) as span:
        span.set_attribute("j", 2)
    span.set_attribute("k", 3)
    span.add_event("late")
    span.update_name("renamed")
    assert not span.is_recording()
    got = written(folder)["ended"]
    assert got["attrs"] == {"k": 1, "j": 2}
    assert "events" not in got


def test_a_list_is_recorded_as_it_was_when_it_was_passed(folder: Path) -> None:
    items = ["a"]
    with telemetry.span("copied", items=items, mapping={"x": items}) as span:
        span.set_attribute("later", items)
    items.append("b")
    assert written(folder)["copied"]["attrs"] == {
        "items": ["a"],
        "mapping": {"x": ["a"]},
        "later": ["a"],
    }


def test_attributes_of_any_type_never_raise_and_stay_valid(folder: Path) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    class Endless(dict[str, Any]):
        def keys(self) -> Any:
            raise RuntimeError("no")

    recursive: list[Any] = []
    recursive.append(recursive)
    deep: Any = "leaf"
    for _ in range(5_000):
        deep = [deep]
    with telemetry.span(
        "odd",
        {3: "a number as key", ("t",): 1, "sur\ud800rogate": "v\udfff"},  # type: ignore[dict-item]
        broken=Broken(),
        endless=Endless(a=1),
        recursive=recursive,
        deep=deep,
        nan=float("nan"),
        infinity=float("-inf"),
        big=1 << 70,
        huge=1 << 100_000,
        blob=b"\x00\xff",
        path=Path("x") / "y",
        type_=int,
        emoji="\U0001f600 \x00 \x1f \u2028",
    ):
        pass
    got = written(folder)["odd"]["attrs"]
    assert got["3"] == "a number as key"
    assert got["('t',)"] == 1
    assert got["sur\ufffdrogate"] == "v\ufffd"
    assert got["broken"] == "[unprintable]"
    assert got["endless"] == "[unprintable]"
    assert got["nan"] == "NaN"
    assert got["infinity"] == "-Infinity"
    assert got["big"] == hex(1 << 70)
    assert got["huge"] == "[huge integer]"
    assert got["blob"] == "AP8="
    assert got["path"] == str(Path("x") / "y")
    assert got["type_"] == "builtins.int"
    assert got["emoji"] == "\U0001f600 \x00 \x1f \u2028"
    assert "nested too deep" in str(got["deep"])
    assert "nested too deep" in str(got["recursive"])


def test_names_that_are_empty_huge_or_no_text(folder: Path) -> None:
    for name in ("", "x" * 3_000_000, 7, None, ["list"]):
        with telemetry.span(name):  # type: ignore[arg-type]
            pass
    telemetry.flush()
    names = [span["name"] for span in records.spans(folder)]
    assert len(names) == 5
    assert {"", "7", "None", "['list']"} < set(names)
    assert max(map(len, names)) < 100_000


def test_attributes_beyond_the_limit_are_counted(tmp_path: Path) -> None:
    telemetry.configure(tmp_path, attribute_count_max=3, event_count_max=1, link_count_max=0)
    with telemetry.span("many", {str(i): i for i in range(10)}) as span:
        span.add_event("first")
        span.add_event("second")
    with telemetry.span("set") as span:
        for i in range(5):
            span.set_attribute(str(i), i)
        span.set_attribute("0", "replaced")
    got = written(tmp_path)
    telemetry.shutdown()
    assert len(got["many"]["attrs"]) == 3
    assert got["many"]["droppedAttributesCount"] == 7
    assert got["many"]["droppedEventsCount"] == 1
    assert got["set"]["attrs"] == {"0": "replaced", "1": 1, "2": 2}
    assert got["set"]["droppedAttributesCount"] == 2


def test_a_long_text_is_cut_after_the_guard_has_seen_all_of_it(tmp_path: Path) -> None:
    secret = "ghp_" + "a1B2" * 9
    telemetry.configure(tmp_path, attribute_chars_max=20)
    with telemetry.span("cut", text="x" * 100, hidden=f"0123456789 {secret}"):
        pass
    got = written(tmp_path)["cut"]["attrs"]
    telemetry.shutdown()
    assert got["text"] == "x" * 20
    assert "ghp_" not in got["hidden"]


@pytest.mark.usefixtures("folder")
def test_tasks_that_spawn_their_successor_keep_no_ancestors() -> None:
    refs: list[weakref.ref[Any]] = []

    async def tick(left: int) -> None:
        with telemetry.span("tick") as span:
            refs.append(weakref.ref(span))
            telemetry.flush()
            if left:
                await asyncio.create_task(tick_in_new_context(left - 1))

    async def tick_in_new_context(left: int) -> None:
        await asyncio.sleep(0)
        await tick(left)

    asyncio.run(tick(3))
    # And a chain whose links do not wait for one another.
    context = contextvars.copy_context()
    for _ in range(20):
        context = context.run(_one_link, refs)
    telemetry.flush()
    gc.collect()
    alive = [ref for ref in refs if ref() is not None]
    assert len(alive) <= 2, "written spans are released, though their descendants live on"


def _one_link(refs: list[weakref.ref[Any]]) -> contextvars.Context:
    with telemetry.span("link") as span:
        refs.append(weakref.ref(span))
        context = contextvars.copy_context()
    telemetry.flush()
    return context


def test_a_generation_is_a_root_that_hashes_its_project_and_keeps_no_brief(folder: Path) -> None:
    brief = "Nebelparder orders quixotic inventory"
    with (
        telemetry.generation(project_id="acme-rocket", brief=brief),
        telemetry.span("planner.solve"),
    ):
        pass
    got = written(folder)
    root = got["stack.generation"]
    assert "parentSpanId" not in root
    assert got["planner.solve"]["parentSpanId"] == root["spanId"]
    assert root["attrs"]["stack.brief.length"] == len(brief)
    assert root["attrs"]["project.id"].startswith("hmac:")
    everything = b"".join(path.read_bytes() for path in folder.iterdir())
    for word in [*brief.split(), "acme-rocket"]:
        assert word.encode() not in everything


def test_a_function_decorated_while_off_or_before_all_records_once_on(tmp_path: Path) -> None:
    telemetry.configure(tmp_path / "off", enabled=False)

    @telemetry.span("decorated", k=1)
    def decorated() -> None:
        pass

    decorated()
    with telemetry.span("off") as span:
        assert not span.is_recording()
        span.set_attribute("k", 1)
    telemetry.configure(tmp_path / "on")
    decorated()
    telemetry.configure(tmp_path / "off", enabled=False)
    decorated()
    telemetry.shutdown()
    decorated()
    assert [span["name"] for span in records.spans(tmp_path / "on")] == ["decorated"]
    assert not (tmp_path / "off").exists()
