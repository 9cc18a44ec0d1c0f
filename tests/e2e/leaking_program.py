"""A program that records secrets in every place that a text can have.

Usage: ``python leaking_program.py SEED FAULT``. The secrets are made from the seed, so
the test that started it knows them; nothing is printed. FAULT names what breaks:

none
    Nothing does.
validator, views, hasher
    That part of the guard raises, whenever it is asked.
rules
    The rules do not compile.
engine
    google-re2 cannot be imported.
abort
    The process ends in the middle, as after a crash in native code, with a dump of its
    stacks.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import random
import sys
from typing import Any
from urllib.parse import quote

LETTERS = "ghjkmnpqrstuvwxyzGHJKMNPQRSTUVWXYZ"


def secrets(seed: int) -> dict[str, str]:
    """Made-up secrets; any four characters hold a letter that no hexadecimal has."""
    dice = random.Random(seed)

    def chance(length: int) -> str:
        return "".join(
            dice.choice(LETTERS if at % 3 else LETTERS + "0123456789") for at in range(length)
        )

    return {
        "token": "ghp_" + chance(33) + "1Qz",
        "mail": f"{chance(9)}@{chance(11).lower()}.example",
        "password": chance(15) + "7x",
        "key": chance(29) + "3Kp",
        "brief": " ".join(chance(12) for _ in range(5)),
        "user": chance(14),
        "home": chance(10).lower(),
        "bearer": chance(37) + "9Rw",
        "query": chance(23) + "5Hm",
    }


def _break(what: str) -> None:
    def cursed(*_: object, **__: object) -> bool:
        raise ZeroDivisionError

    if what == "engine":
        sys.modules["re2"] = None  # type: ignore[assignment]
    elif what == "rules":
        from stack_composer.telemetry.guard import rules

        rules.text_rules = cursed  # type: ignore[assignment]
    elif what == "validator":
        from stack_composer.telemetry.guard import validators

        validators.find_validator = lambda _name: cursed  # type: ignore[assignment]
    elif what == "views":
        from stack_composer.telemetry.guard import views

        views.views = cursed  # type: ignore[assignment]
    elif what == "hasher":
        from stack_composer.telemetry.guard.hashing import Hasher

        Hasher.hash = cursed  # type: ignore[assignment,method-assign]


def main(seed: int, fault: str) -> None:
    """Record it all."""
    from stack_composer import telemetry

    _break(fault)
    telemetry.configure(opentelemetry=True)
    s = secrets(seed)
    texts = [
        f"pushed with {s['token']}",
        f"mail {s['mail']} bounced",
        f"password={s['password']}",
        json.dumps({"api_key": s["key"], "note": json.dumps({"password": s["password"]})}),
        f"Authorization: Bearer {s['bearer']}",
        f"https://{s['user']}:{s['password']}@host.example/x?api_key={s['query']}&page=2",
        f"see /home/{s['home']}/notes.txt",
        quote(f"to={s['mail']}", safe=""),
        "".join(f"\\u{ord(char):04x}" for char in f"password={s['password']}"),
        f"two lines {s['token'][:17]}\n{s['token'][17:]}",
    ]
    tracer = _tracer()
    logger = logging.getLogger("leaking")
    logger.addHandler(telemetry.LoggingHandler())
    logger.propagate = False
    for at, text in enumerate(texts):
        _record_everywhere(tracer, logger, text, at)
    with telemetry.span("run", brief=s["brief"], user_id=s["user"], password=s["password"]) as run:
        run.add_event("asked", {"gen_ai.input.messages": s["brief"]})
    with telemetry.generation(project_id=s["user"]):
        pass
    for size in (70_000, 10_000_000):
        with telemetry.span("long", text=f"{s['token']} " * (size // 40)):
            pass
    deep: object = s["token"]
    for _ in range(1_000):
        deep = [deep]
    with telemetry.span("deep", value=deep):
        pass
    with telemetry.span("wide", **{f"k{at}.{s['token']}": s["mail"] for at in range(10_000)}):
        pass
    telemetry.flush()
    if fault == "abort":
        faulthandler.enable()
        os.abort()


def _tracer() -> Any:
    from opentelemetry import trace

    return trace.get_tracer("leaking")


def _record_everywhere(tracer: Any, logger: logging.Logger, text: str, at: int) -> None:
    from stack_composer import telemetry

    with telemetry.span(f"name {text}", **{"note": text, f"in key {text}": 1}) as span:
        span.set_attribute("listed", [text, [text, at]])
        span.set_attribute("nested", {"deep": {"deeper": text}, text: "key"})
        span.set_attribute("bytes", text.encode())
        span.set_attribute("wide", text.encode("utf-16"))
        span.set_attribute("invalid", text.encode() + b"\xff\xfe")
        span.add_event(f"event {text}", {"note": text})
    try:
        with telemetry.span("raises"):
            local = text
            raise ValueError(local)
    except ValueError:
        logger.exception("failed for %s", text)
    with tracer.start_as_current_span(f"otel {text}", attributes={"note": text}) as span:
        span.add_event(text, {"note": text})
        span.record_exception(RuntimeError(text))
    telemetry.metric("uses", 1, label=text)
    telemetry.metric(f"named {text}", 1)
    telemetry.counter("hits", {"label": text, text: "key"}).add(1)
    telemetry.log("info", text, note=text)
    logger.warning("said %s", text)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
