"""Nothing leaves that must not, not even a question to a name server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli_running import span, spans_line, write
from store_lines import START_NS

pytestmark = pytest.mark.e2e

WATCHED = """
import os, sys

def watch(event, arguments):
    if event.startswith("socket.") or event in ("os.exec", "subprocess.Popen", "os.posix_spawn"):
        os.write(2, f"watched: {event}\\n".encode())
        os._exit(99)

sys.addaudithook(watch)
from stack_composer.telemetry.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""The command line, which dies at the first socket, look-up or child."""


class Scene:
    """A folder with something to send, and a destination that nobody answers for."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "telemetry"
        self.config = home / "telemetry.toml"
        write(self.folder, ("traces", spans_line(span("x", start_ns=START_NS))))
        self.configure()

    def configure(self, *, enabled: str = "true", recording: str = "true") -> None:
        self.config.write_text(
            f"[telemetry]\nupload_enabled = {enabled}\nenabled = {recording}\n"
            f'directory = "{self.folder}"\n[upload]\nendpoint = "https://collector.example:4318"\n'
        )

    def run(
        self, *arguments: str, prefix: tuple[str, ...] = (), **environ: str
    ) -> subprocess.CompletedProcess[str]:
        found = {"STACK_COMPOSER_TELEMETRY_CONFIG": str(self.config), **environ}
        return subprocess.run(
            [*prefix, sys.executable, "-c", WATCHED, *arguments],
            env={**os.environ, **found},
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=60,
            check=False,
        )


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


UPLOAD = ("telemetry", "upload", "--yes")


def assert_refused(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    what, hint = done.stderr.splitlines()
    assert what.startswith("stack-composer: nothing may leave: ")
    assert hint.startswith("  hint: ")


@pytest.mark.parametrize("value", ["1", "true", "yes", "anything"])
def test_do_not_track_opens_no_socket(value: str, scene: Scene) -> None:
    scene.run("telemetry", "consent", "give", "--yes")
    assert_refused(scene.run(*UPLOAD, DO_NOT_TRACK=value))


def test_switched_off_it_opens_no_socket(scene: Scene) -> None:
    scene.run("telemetry", "consent", "give", "--yes")
    scene.configure(enabled="false")
    assert_refused(scene.run(*UPLOAD))
    scene.configure(recording="false")
    assert_refused(scene.run(*UPLOAD))
    scene.configure()
    assert_refused(scene.run("--gdpr", *UPLOAD))
    assert_refused(scene.run(*UPLOAD, OTEL_SDK_DISABLED="true"))


def test_nobody_asked_opens_no_socket(scene: Scene) -> None:
    done = scene.run("telemetry", "upload")
    assert done.returncode == 2
    assert "nobody can be asked" in done.stderr


@pytest.mark.parametrize("options", [(), ("--show",), ("--json",)])
def test_a_dry_run_opens_no_socket(options: tuple[str, ...], scene: Scene) -> None:
    done = scene.run("telemetry", "upload", "--dry-run", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "collector.example" in done.stdout
    # Even where a proxy is named, and a broken name server would hang.
    proxied = scene.run(
        "telemetry", "upload", "--dry-run", *options, HTTPS_PROXY="http://proxy.example:3128"
    )
    assert proxied.returncode == 0


def test_the_watch_sees_an_upload_that_is_allowed(scene: Scene) -> None:
    """Otherwise the tests above would prove nothing."""
    done = scene.run(*UPLOAD)
    assert done.returncode == 99
    assert "watched: socket." in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="name spaces are Linux's")
def test_without_a_route_it_is_told_in_two_lines_and_nothing_is_lost(scene: Scene) -> None:
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-Urn", "true"], check=False).returncode:
        pytest.skip("unshare -Urn is not allowed here, so there is no network without a route")
    scene.config.write_text(scene.config.read_text() + "give_up_s = 0\n")
    done = subprocess.run(
        [unshare, "-Urn", sys.executable, "-m", "stack_composer.telemetry.cli", *UPLOAD],
        env={**os.environ, "STACK_COMPOSER_TELEMETRY_CONFIG": str(scene.config)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    *_, what, hint = done.stderr.splitlines()
    assert what.startswith("stack-composer: gave up on https://collector.example:4318")
    assert hint.startswith("  hint: upload again later")
    assert "Traceback" not in done.stderr
