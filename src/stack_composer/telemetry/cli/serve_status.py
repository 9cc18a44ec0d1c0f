"""Say whether the system keeps 'telemetry serve' running, and whether it answers.

Whoever runs it, a receiver answers if it takes a connection on the configured port of
this computer; nothing is sent to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.schedule import print_files
from stack_composer.telemetry.cli.services import MANAGER_KEY, add_manager, service_of
from stack_composer.telemetry.receive.probe import HOST, is_listening
from stack_composer.telemetry.schedule import apply

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which manager of services."""
    parser.epilog = "exit code: 0, installed or not"
    add_manager(parser)


def run(args: argparse.Namespace) -> int:
    """Look, and print."""
    config = places.load(args)
    job = service_of(args)
    installed = apply.is_installed(job)
    current = installed and apply.is_current(job)
    ports = {"http": config.serve_http_port, "grpc": config.serve_grpc_port}
    answers = {name: bool(port) and is_listening(port) for name, port in ports.items()}
    if args.json:
        output.print_json(
            {
                "method": job.method,
                "installed": installed,
                "current": current,
                "files": [file.path for file in job.files],
                **{name: {"port": ports[name], "answers": answers[name]} for name in ports},
            }
        )
        return 0
    output.facts("service", job.method)
    output.facts("installed", "yes" if installed else "no: 'serve install' shows how")
    if installed and not current:
        output.facts("but", "not as it would be now; 'serve install' writes it anew")
    for name, port in ports.items():
        said = "answers" if answers[name] else "nothing answers"
        output.facts(name, f"{HOST}:{port}: {said}" if port else "off")
    if current:
        print_files(job, "by")
    return 0
