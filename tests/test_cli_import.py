"""``telemetry import``: every kind of file, through the guard, once."""

from __future__ import annotations

import gzip
import json
import os
import signal as signals
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from cli_running import COMMAND, ok, ok_json, ok_lines, refusal, run
from stack_composer.telemetry.imports.ledger import Ledger
from stack_composer.telemetry.store import intake, names, reader
from stack_composer.telemetry.store.zstd import compress_frame

NS = 1_764_000_000_000_000_000
SECRET = "ghp_" + "0123456789abcdefghijABCDEFGHIJ" + "4Q2uq1"
MAIL = "ada" + "@" + "example.org"


def spans(*names_: str, attributes: dict[str, str] | None = None) -> trace_pb2.TracesData:
    data = trace_pb2.TracesData()
    held = data.resource_spans.add()
    held.resource.attributes.add(key="service.name").value.string_value = "elsewhere"
    scope = held.scope_spans.add()
    scope.scope.name = "library"
    for number, name in enumerate(names_):
        span = scope.spans.add(
            trace_id=b"t" * 16,
            span_id=(number + 1).to_bytes(8, "big"),
            name=name,
            kind=3,
            start_time_unix_nano=NS,
            end_time_unix_nano=NS + 5_000,
        )
        for key, value in (attributes or {}).items():
            span.attributes.add(key=key).value.string_value = value
    return data


def line(*names_: str, attributes: dict[str, str] | None = None) -> bytes:
    """The same as a line of OTLP JSON."""
    found = [
        {
            "traceId": "74" * 16,
            "spanId": f"{number + 1:016x}",
            "name": name,
            "kind": 3,
            "startTimeUnixNano": str(NS),
            "endTimeUnixNano": str(NS + 5_000),
            "attributes": [
                {"key": key, "value": {"stringValue": value}}
                for key, value in (attributes or {}).items()
            ],
        }
        for number, name in enumerate(names_)
    ]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "elsewhere"}}]}
    scope = {"scope": {"name": "library"}, "spans": found}
    tree = {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}
    return json.dumps(tree).encode() + b"\n"


def stream(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(4, "big") + message for message in messages)


def place(tmp_path: Path, data: bytes, name: str = "any name\nof a file") -> Path:
    file = tmp_path / name
    file.write_bytes(data)
    return file


def kept(folder: Path) -> list[str]:
    """Names of all spans that are kept, sorted."""
    shown = ok_lines("telemetry", "show", "--as", "records", "--dir", folder)
    return sorted(record["name"] for record in shown if "name" in record)


def everything(folder: Path) -> bytes:
    found = b""
    for bundle in reader.list_bundles(str(folder)).bundles:
        found += b"\n".join(reader.read_lines(bundle))
    return found


PRETTY = json.dumps(json.loads(line("a", "b")), indent=2).encode()
FORMS = {
    "json lines": line("a") + line("b"),
    "json": PRETTY,
    "protobuf": spans("a", "b").SerializeToString(),
    "protobuf stream": stream(spans("a").SerializeToString(), spans("b").SerializeToString()),
    "packed messages": stream(
        compress_frame(spans("a").SerializeToString()), compress_frame(line("b").strip())
    ),
    "records": b"".join(
        json.dumps(
            {
                "trace_id": "74" * 16,
                "span_id": "73" * 8,
                "parent_id": None,
                "name": name,
                "start_ns": NS,
                "end_ns": NS + 1,
                "attrs": {"k_dense": 128},
            }
        ).encode()
        + b"\n"
        for name in "ab"
    ),
}


@pytest.mark.parametrize("packing", ["plain", "zstd", "gzip"])
@pytest.mark.parametrize("form", FORMS)
def test_each_kind_of_file_is_told_by_what_is_in_it(
    form: str, packing: str, tmp_path: Path
) -> None:
    folder = tmp_path / "telemetry"
    packs: dict[str, Any] = {"plain": bytes, "zstd": compress_frame, "gzip": gzip.compress}
    pack = packs[packing]
    file = place(tmp_path, pack(FORMS[form]), "nothing.in.this.name")
    told = ok_json("telemetry", "import", file, "--dir", folder)
    assert told["records"] == {"traces": 2, "metrics": 0, "logs": 0}
    expected = {"packed messages": "protobuf stream", "records": "json lines"}.get(form, form)
    assert told["files"][0]["form"] == (expected if packing == "plain" else f"{packing} {expected}")
    assert kept(folder) == ["a", "b"]
    for entry in folder.iterdir():
        assert entry.stat().st_mode & 0o777 == 0o600
        assert names.parse_name(entry.name)
    assert "nothing is wrong" in ok("telemetry", "doctor", "--dir", folder)


def test_standard_input_and_pipes_are_files_too(tmp_path: Path) -> None:
    ok("telemetry", "import", "-", "--dir", tmp_path / "t", stdin=FORMS["protobuf stream"])
    assert kept(tmp_path / "t") == ["a", "b"]


def test_all_of_it_passes_the_guard(tmp_path: Path) -> None:
    secrets = {"note": f"token {SECRET}", "mail": MAIL, "brief": "the whole brief", "plain": "kept"}
    files = [
        place(tmp_path, line("a", attributes=secrets), "1"),
        place(tmp_path, spans("b", attributes=secrets).SerializeToString(), "2"),
    ]
    logs = logs_pb2.LogsData()
    held = logs.resource_logs.add()
    held.resource.attributes.add(key="owner").value.string_value = MAIL
    record = held.scope_logs.add().log_records.add(time_unix_nano=NS, severity_text=SECRET)
    record.body.string_value = f"mail to {MAIL}"
    files.append(place(tmp_path, logs.SerializeToString(), "3"))
    told = ok_json("telemetry", "import", *files, "--dir", tmp_path / "t")
    assert told["redacted"]["email"] >= 4
    written = everything(tmp_path / "t")
    for text in (SECRET, MAIL, "the whole brief"):
        assert text.encode() not in written
    assert b'"stringValue":"kept"' in written
    # And `stats` tells it, as of any program.
    assert ok_json("telemetry", "stats", "--dir", tmp_path / "t")["redacted"]["email"] >= 4


# -- once --------------------------------------------------------------------------------


def test_a_file_imported_twice_counts_once_whatever_wraps_its_lines(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    first = place(tmp_path, line("a") + line("b"), "first")
    ok("telemetry", "import", first, first, "--dir", folder)
    other = place(tmp_path, gzip.compress(line("c") + b"\n" + line("b") + line("a")), "other")
    told = ok_json("telemetry", "import", first, other, "--dir", folder)
    assert [file["known"] for file in told["files"]] == [2, 2]
    assert kept(folder) == ["a", "b", "c"]
    message = spans("d").SerializeToString()
    ok("telemetry", "import", place(tmp_path, message, "one"), "--dir", folder)
    wrapped = place(tmp_path, stream(message, message), "two")
    # It stands twice in this file: the second one is a message of its own.
    assert ok_json("telemetry", "import", wrapped, "--dir", folder)["records"]["traces"] == 1
    assert kept(folder) == ["a", "b", "c", "d", "d"]


def test_what_was_purged_can_be_imported_anew(tmp_path: Path) -> None:
    folder, file = tmp_path / "t", place(tmp_path, line("a"))
    ok("telemetry", "import", file, "--dir", folder)
    ok("telemetry", "purge", "--all", "--yes", "--dir", folder)
    assert list(folder.iterdir()) == []
    ok("telemetry", "import", file, "--dir", folder)
    assert kept(folder) == ["a"]


def test_the_ledger_tells_nobody_what_was_recorded(tmp_path: Path) -> None:
    from hashlib import blake2b, sha256

    folder, data = tmp_path / "t", line("a").strip()
    ok("telemetry", "import", place(tmp_path, data), "--dir", folder)
    (page,) = folder.glob("*.imports")
    raw = page.read_bytes()
    for digest in (sha256(data).digest(), blake2b(data, digest_size=12).digest()):
        assert digest[:8] not in raw
    page.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    # A damaged page says nothing, so its messages come again rather than being lost.
    assert intake.decode_page(page.read_bytes(), raw[8:16]) == b""


@pytest.mark.e2e
@pytest.mark.parametrize("turn", range(6))
def test_killed_at_any_moment_and_run_again_each_span_is_there_once(
    turn: int, tmp_path: Path
) -> None:
    folder = tmp_path / "t"
    expected = [f"span {number}" for number in range(6_000)]
    file = place(tmp_path, b"".join(line(name) for name in expected))
    config = tmp_path / "telemetry.toml"
    config.write_text("[store]\nbundle_bytes_max = 65536\n", encoding="utf-8")
    environ = {**os.environ, "STACK_COMPOSER_TELEMETRY_CONFIG": str(config)}
    command = [*COMMAND, "telemetry", "import", str(file), "--dir", str(folder)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as child:
        wanted = turn * 2
        while child.poll() is None and len(list(folder.glob("*.zst*"))) < wanted:
            time.sleep(0.001)
        child.send_signal(signals.SIGKILL if os.name != "nt" else signals.SIGTERM)
    ok("telemetry", "import", file, "--dir", folder, environ=environ)
    assert kept(folder) == sorted(expected)
    run("telemetry", "doctor", "--repair", "--dir", folder)
    left = [entry.name for entry in folder.iterdir() if entry.name.endswith((".tmp", ".jsonl"))]
    assert left == []
    assert kept(folder) == sorted(expected)


def test_a_page_without_its_bundle_says_nothing(tmp_path: Path) -> None:
    """As after a crash between the page and the bundle."""
    folder, file = tmp_path / "t", place(tmp_path, line("a"))
    ok("telemetry", "import", file, "--dir", folder)
    for bundle in folder.glob("*.jsonl.zst"):
        bundle.unlink()
    ok("telemetry", "import", file, "--dir", folder)
    assert kept(folder) == ["a"]
    ok("telemetry", "doctor", "--repair", "--dir", folder)
    assert len(list(folder.glob("*.imports"))) == 1


def test_equal_lines_in_one_file_are_as_many_messages() -> None:
    ledger = Ledger(b"k" * 32)
    for _ in range(2):
        ledger.next_source()
        new = [ledger.admit(b"x") is not None for _ in range(20)]
        assert new == [ledger._source == 1] * 20
    ledger.next_source()
    assert [ledger.admit(b"x") is not None for _ in range(21)] == [False] * 20 + [True]


# -- bad input ---------------------------------------------------------------------------


def test_of_many_lines_only_the_bad_one_is_refused_and_named_by_number(tmp_path: Path) -> None:
    bad = b'{"resourceSpans":[{"scopeSpans":[{"spans":"' + SECRET.encode() + b'"}]}]}\n'
    lines = [line(f"span {number}") for number in range(2_000)]
    lines[1_233] = bad
    file = place(tmp_path, b"".join(lines))
    done = run("telemetry", "import", file, "--dir", tmp_path / "t")
    assert done.returncode == 1
    assert "line 1234 is not OTLP" in done.stdout
    assert SECRET not in done.stdout + done.stderr
    assert len(kept(tmp_path / "t")) == 1_999
    first = place(tmp_path, b"no JSON at all\n" + line("a"), "first")
    told = json.loads(run("telemetry", "import", first, "--dry-run", "--json").stdout)
    assert told["files"][0]["refusals"] == ["line 1 is not JSON at character 0"]
    assert told["records"]["traces"] == 1


def test_nothing_is_written_by_a_dry_run(tmp_path: Path) -> None:
    told = ok_json(
        "telemetry", "import", place(tmp_path, line("a")), "--dry-run", "--dir", tmp_path / "t"
    )
    assert (told["dry_run"], told["records"]["traces"], told["bundles"]) == (True, 1, [])
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", None),
        (b"\n \n", None),
        (b"\x7fELF and so on", "is neither OTLP nor records of ours"),
        (bytes(5_000), "says at byte 0 that it has 0 bytes"),
        (stream(b"\x1a\0") + b"\0\0", "at byte 6 is cut short"),
        (b'{"resourceProfiles": []}', "holds no OTLP"),
        (b'{\n "resourceSpans": [\n', "is not JSON at character"),
        (b"\x0a\x7f\x12", "is not protobuf at byte"),
        (line("a")[:-30], "is not JSON"),
    ],
)
def test_files_that_are_none_get_a_reason_and_no_traceback(
    data: bytes, says: str | None, tmp_path: Path
) -> None:
    done = run(
        "telemetry", "import", place(tmp_path, data), "--json", "--signal", "traces",
        "--dir", tmp_path / "t",
    )  # fmt: skip
    told = json.loads(done.stdout)["files"][0]
    assert done.stderr == ""
    assert (done.returncode, told["refused"]) == ((1, 1) if says else (0, 0))
    assert told["records"]["traces"] == 0
    if says:
        assert says in " ".join(told["refusals"])


def test_a_huge_file_of_nothing_takes_no_memory_and_no_time(tmp_path: Path) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as made:
        made.truncate(10 * 10**9)
    done = run("telemetry", "import", file, "--dir", tmp_path / "t")
    assert (done.returncode, "has 0 bytes" in done.stdout) == (1, True)


@pytest.mark.parametrize("pack", ["zstd", "gzip"])
def test_a_bomb_is_left_where_it_shows(pack: str, tmp_path: Path) -> None:
    pytest.importorskip("resource")
    piece = b"\n" * 2**20
    if pack == "zstd":
        data = line("a") + b"\n" * 2**20
        packed = compress_frame(data) + compress_frame(piece * 16) * 400
    else:
        packed = gzip.compress(line("a")) + gzip.compress(piece * 64, 9) * 2
    file = place(tmp_path, packed)
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20));"
        "from stack_composer.telemetry.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = run(
        "telemetry", "import", file, "--json", "--dir", tmp_path / "t",
        program=[COMMAND[0], "-c", script],
    )  # fmt: skip
    told = json.loads(done.stdout)["files"][0]
    assert done.stderr == ""
    assert told["oddities"].get("bomb") == 1
    assert kept(tmp_path / "t") == ["a"]


def test_behind_a_damaged_frame_reading_goes_on(tmp_path: Path) -> None:
    frames = [compress_frame(line(name)) for name in "abc"]
    broken = bytearray(frames[1])
    broken[-1] ^= 1  # Its checksum.
    file = place(tmp_path, frames[0] + bytes(broken) + frames[2])
    told = ok_json("telemetry", "import", file, "--dir", tmp_path / "t")
    assert told["files"][0]["oddities"]["damaged_frame"] == 1
    assert kept(tmp_path / "t") == ["a", "c"]


def test_a_file_that_cannot_be_read_does_not_keep_the_rest_from_it(tmp_path: Path) -> None:
    good = place(tmp_path, line("a"), "good")
    done = run("telemetry", "import", tmp_path / "none", tmp_path, good, "--dir", tmp_path / "t")
    assert done.returncode == 1
    assert done.stderr.count("  hint: ") == 2
    assert "it is a folder" in done.stderr
    assert kept(tmp_path / "t") == ["a"]


def test_a_closed_standard_input_is_an_error_of_two_lines(tmp_path: Path) -> None:
    script = (
        "import os, sys; os.close(0);"
        "from stack_composer.telemetry.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = run(
        "telemetry", "import", "-", "--dir", tmp_path / "t", program=[COMMAND[0], "-c", script]
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 2)


def test_a_full_disk_ends_an_import_without_half_a_bundle(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000));"
        "from stack_composer.telemetry.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    noise = b"".join(line(os.urandom(300).hex()) for _ in range(20))
    file = place(tmp_path, noise)
    done = run(
        "telemetry", "import", file, "--dir", tmp_path / "t", program=[COMMAND[0], "-c", script]
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 2)
    assert list((tmp_path / "t").iterdir()) == []
    ok("telemetry", "import", file, "--dir", tmp_path / "t")
    assert len(kept(tmp_path / "t")) == 20


def test_where_nothing_is_recorded_nothing_is_imported(tmp_path: Path) -> None:
    file = place(tmp_path, line("a"))
    what, hint = refusal("--gdpr", "telemetry", "import", file, "--dir", tmp_path / "t", code=1)
    assert "gdpr" in what
    assert "show FILE" in hint
    assert not (tmp_path / "t").exists()


# -- faithful ----------------------------------------------------------------------------


def test_what_goes_out_comes_in_again(tmp_path: Path) -> None:
    """Bundles of another computer, and exports, are the same after an import."""
    metrics = metrics_pb2.MetricsData()
    scope = metrics.resource_metrics.add().scope_metrics.add()
    gauge = scope.metrics.add(name="gauge", unit="ms")
    gauge.gauge.data_points.add(as_int=-3, time_unix_nano=NS)
    gauge.gauge.data_points.add(time_unix_nano=NS, flags=1)
    total: Any = scope.metrics.add(name="total").sum
    total.is_monotonic, total.aggregation_temporality = True, 2
    total.data_points.add(as_double=2.5, start_time_unix_nano=NS - 5, time_unix_nano=NS)
    explicit: Any = scope.metrics.add(name="explicit").histogram
    explicit.aggregation_temporality = 1
    explicit.data_points.add(
        time_unix_nano=NS, count=3, sum=6.0, bucket_counts=[1, 2], explicit_bounds=[2.0], max=4.0
    )
    exponential: Any = scope.metrics.add(name="exponential").exponential_histogram
    exponential.aggregation_temporality = 1
    point = exponential.data_points.add(time_unix_nano=NS, count=4, scale=2, zero_count=1)
    point.positive.offset, point.zero_threshold = -2, 0.5
    point.positive.bucket_counts.extend([1, 0, 2])
    summary = scope.metrics.add(name="summary").summary.data_points.add(
        time_unix_nano=NS, count=2, sum=3.0
    )
    summary.quantile_values.add(quantile=0.5, value=1.5)
    first = tmp_path / "first"
    ok("telemetry", "import", place(tmp_path, metrics.SerializeToString()), "--dir", first)
    out = tmp_path / "out.jsonl"
    ok("telemetry", "export", "--dir", first, "-o", out)
    second = tmp_path / "second"
    ok("telemetry", "import", out, "--dir", second)
    assert everything(first) == everything(second)
    (written,) = everything(first).splitlines()
    made = {
        metric["name"]: metric
        for metric in json.loads(written)["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
    }
    assert made["gauge"]["gauge"]["dataPoints"][1]["flags"] == 1
    assert made["total"]["sum"]["isMonotonic"] is True
    assert made["explicit"]["histogram"]["dataPoints"] == [
        {
            "attributes": [],
            "timeUnixNano": str(NS),
            "count": "3",
            "sum": 6.0,
            "bucketCounts": ["1", "2"],
            "explicitBounds": [2.0],
            "max": 4.0,
        }
    ]
    assert made["exponential"]["exponentialHistogram"]["dataPoints"][0]["zeroThreshold"] == 0.5
    assert made["summary"]["summary"]["dataPoints"][0]["quantileValues"] == [
        {"quantile": 0.5, "value": 1.5}
    ]
    # The sidecar says what reading the lines would: statistics are the same without it.
    with_sidecars = ok_json("telemetry", "stats", "--since", "@1", "--dir", first)
    for sidecar in first.glob("*.sketch.json"):
        sidecar.unlink()
    without = ok_json("telemetry", "stats", "--since", "@1", "--dir", first)
    assert with_sidecars["metrics"] == without["metrics"]


def test_flags_of_spans_come_out_as_they_came_in(tmp_path: Path) -> None:
    """Also where nobody said a thing, and bits that nobody knows."""
    data = spans("none", "sampled", "remote", "unknown")
    told = [0, 1, 0x301, 0x8000_0400]
    for span, flags in zip(data.resource_spans[0].scope_spans[0].spans, told, strict=True):
        span.flags = flags
    folder = tmp_path / "store"
    ok("telemetry", "import", place(tmp_path, data.SerializeToString()), "--dir", folder)
    (line,) = everything(folder).splitlines()
    kept = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert [span.get("flags") for span in kept] == [None, *told[1:]]


def test_records_of_all_three_kinds_come_back(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {
            "trace_id": "ab" * 16, "span_id": "cd" * 8, "parent_id": "ef" * 8, "name": "n",
            "start_ns": NS, "end_ns": NS + 9, "attrs": {"a": 1, "b": [True, "x"], "c": {"d": 2.5}},
        },
        {
            "timestamp": "2025-06-20T12:00:01.5Z", "metric": "agent.latency_ms", "value": 123,
            "labels": {"agent": "stack", "phase": "score"},
        },
        {
            "timestamp": "2025-06-20T14:00:01+02:00", "level": "warn", "message": "said",
            "attrs": {}, "trace_id": "ab" * 16, "span_id": None,
        },
    ]  # fmt: skip
    data = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    ok("telemetry", "import", place(tmp_path, data), "--dir", tmp_path / "t")
    shown = ok_lines("telemetry", "show", "--as", "records", "--dir", tmp_path / "t")
    records[2]["timestamp"] = "2025-06-20T12:00:01Z"
    assert sorted(map(str, shown)) == sorted(map(str, records))
    bad = place(tmp_path, b'{"metric":"m","timestamp":"yesterday","value":1}\n', "bad")
    done = run("telemetry", "import", bad, "--dir", tmp_path / "t")
    assert "line 1 is no record: the timestamp is no time" in done.stdout


def test_every_file_of_the_corpus_is_read_or_refused_with_a_reason(
    corpus: Path, tmp_path: Path
) -> None:
    files = [file for file in corpus.glob("otlp/**/*") if file.is_file() and file.suffix != ".tsv"]
    assert len(files) > 100
    done = run("telemetry", "import", *files, "--json", "--dir", tmp_path / "t")
    told = json.loads(done.stdout)
    assert done.stderr == ""
    for file in told["files"]:
        read = sum(file["records"].values()) or file["known"] or file["oddities"]
        assert read or file["refusals"] or file["form"] == "json lines", file["file"]
    assert told["records"]["logs"] > 1_400
    assert told["records"]["metrics"] > 4_000
    again = json.loads(run("telemetry", "import", *files, "--json", "--dir", tmp_path / "t").stdout)
    assert sum(again["records"].values()) == 0
