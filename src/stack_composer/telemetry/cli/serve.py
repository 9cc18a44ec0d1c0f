"""Receive OTLP from programs in any language, on this computer alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.parser import UsageError, add_folder
from stack_composer.telemetry.config import effective_mode, load_config
from stack_composer.telemetry.errors import ReceiveError
from stack_composer.telemetry.store.folder import open_folder

if TYPE_CHECKING:
    import argparse

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.receive.serving import Listening

JSON_KEYS = {
    "http": "where it listens for OTLP over HTTP, or null",
    "grpc": "where it listens for OTLP over gRPC, or null",
    "directory": "the folder that it writes to",
    "durability": "what an answer means: the store's durability",
}
PORT_MAX = 65_535
SERVICE_NAME = "stack-composer telemetry serve"
"""What it says of itself, in the metrics of its health."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Ports and folder."""
    parser.add_argument(
        "--http-port", type=_port, metavar="PORT", help="for OTLP over HTTP (4318); 0: not"
    )
    parser.add_argument(
        "--grpc-port", type=_port, metavar="PORT", help="for OTLP over gRPC (4317); 0: not"
    )
    add_folder(parser)


def run(args: argparse.Namespace) -> int:
    """Listen until it is ended; Ctrl-C and SIGTERM write what was accepted first."""
    options = _options(args)
    config = load_config(options)
    if config.origin["service_name"] == "default":
        options["service_name"] = SERVICE_NAME
        config = load_config(options)
    _judge(config)
    try:
        from stack_composer.telemetry.receive.serving import serve
        from stack_composer.telemetry.receive.writing import exporters_to_itself
    except ModuleNotFoundError as error:
        if error.name != "httptools":
            raise
        raise ReceiveError(
            "the receiver needs the extra 'serve'",
            hint="pip install 'stack-composer-telemetry[serve]'",
        ) from error
    with_grpc = _can_grpc(config, is_wanted=args.grpc_port is not None)
    if not config.serve_http_port and not with_grpc:
        raise UsageError("there is nothing to listen on", hint="give --http-port a number")
    # Made now, or refused: otherwise each request would be refused instead.
    open_folder(config.directory, create=True).close()
    for name in exporters_to_itself(config):
        output.note(f"{name} is left out: it would send to this very receiver")
    serve(
        config,
        options,
        with_grpc=with_grpc,
        started=lambda told: _tell(told, config, as_json=args.json),
    )
    return 0


def _judge(config: Config) -> None:
    """Refuse what cannot be served.

    Raises:
        ReceiveError: Nothing is recorded now.
        UsageError: Both protocols are to have the same port.
    """
    is_recording, why = effective_mode(config)
    if not is_recording:
        hint = "'stack-composer telemetry enable'"
        if config.sdk_disabled or config.gdpr:
            hint = "go without " + ("OTEL_SDK_DISABLED" if config.sdk_disabled else "--gdpr")
        raise ReceiveError(f"nothing is recorded now: {why}", hint=hint)
    if config.serve_http_port == config.serve_grpc_port != 0:
        raise UsageError(
            "HTTP and gRPC have the same port", hint="give --http-port or --grpc-port another one"
        )


def _port(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or int(text) > PORT_MAX:
        raise UsageError("a port is no number up to 65535", hint="for example: --http-port 4318")
    return int(text)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if args.dir is not None:
        options["directory"] = places.absolute(args.dir, "--dir")
    if args.http_port is not None:
        options["serve_http_port"] = args.http_port
    if args.grpc_port is not None:
        options["serve_grpc_port"] = args.grpc_port
    return options


def _can_grpc(config: Config, *, is_wanted: bool) -> bool:
    """Tell whether to speak gRPC; without its extra only who asks for it is refused."""
    import importlib.util

    if not config.serve_grpc_port:
        return False
    if importlib.util.find_spec("grpc") is not None:
        return True
    hint = "pip install 'stack-composer-telemetry[grpc]'"
    if is_wanted:
        raise ReceiveError("OTLP over gRPC needs the extra 'grpc'", hint=hint)
    output.note("OTLP over gRPC is not received, for want of the extra 'grpc'")
    return False


def _tell(listening: Listening, config: Config, *, as_json: bool) -> None:
    http = f"http://127.0.0.1:{listening.http_port}" if listening.http_port else None
    grpc = f"127.0.0.1:{listening.grpc_port}" if listening.grpc_port else None
    if as_json:
        output.print_json(
            {
                "http": http,
                "grpc": grpc,
                "directory": config.directory,
                "durability": config.durability,
            }
        )
    else:
        output.facts("OTLP/HTTP", http or "not received")
        output.facts("OTLP/gRPC", grpc or "not received")
        output.facts("folder", f"{config.directory}, durability {config.durability}")
        output.say("programs send to it with OTEL_EXPORTER_OTLP_ENDPOINT; Ctrl-C ends it")
    output.flush()
