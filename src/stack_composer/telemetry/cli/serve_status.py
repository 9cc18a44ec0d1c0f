"""Say whether the system keeps 'telemetry serve' running, and whether it answers.

Whoever runs it, a receiver answers if it takes a connection on the configured port of
this computer; nothing is sent to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.schedule import print_files, print_status, status_of
from stack_composer.telemetry.cli.services import MANAGER_KEY, add_manager, service_of
from stack_composer.telemetry.receive.probe import HOST, is_listening
from stack_composer.telemetry.schedule.apply import ScheduleError

if TYPE_CHECKING:
    import argparse

JSON_KEYS = {
    **MANAGER_KEY,
    "installed": "whether the system knows the service",
    "current": "whether it is the one that 'serve install' would install now",
    "files": "the files that it is made of",
    "http": "port, and whether something answers there; port 0: nothing shall",
    "grpc": "the same for gRPC",
}


_NO_MANAGER: dict[str, Any] = {"method": None, "installed": False, "current": False, "files": []}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which manager of services."""
    parser.epilog = "exit code: 0, installed or not"
    add_manager(parser)


def run(args: argparse.Namespace) -> int:
    """Look, and print."""
    config = places.load(args)
    try:
        job = service_of(args)
    except ScheduleError:
        # No manager of services is known here, as in a container; a receiver may run.
        job = None
    status = _NO_MANAGER if job is None else status_of(job)
    ports = {"http": config.serve_http_port, "grpc": config.serve_grpc_port}
    answers = {name: bool(port) and is_listening(port) for name, port in ports.items()}
    if args.json:
        told = {name: {"port": ports[name], "answers": answers[name]} for name in ports}
        output.print_json({**status, **told})
        return 0
    if job is None:
        output.facts("service", "no manager of services is known here")
    else:
        print_status(status, "service", "serve install")
    for name, port in ports.items():
        said = "answers" if answers[name] else "nothing answers"
        output.facts(name, f"{HOST}:{port}: {said}" if port else "off")
    if job is not None and status["current"]:
        print_files(job, "by")
    return 0
