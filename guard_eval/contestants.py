"""The tools that are measured, each brought to the same question: which parts of a text?

A tool has two steps. ``look`` is the tool's own work and is what the clock sees;
``spans`` says which characters of the text its answer takes away.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from labelled import Span

from stack_composer.telemetry.guard.engine import Guard
from stack_composer.telemetry.guard.policy import Policy

PIECE_CHARS_MIN = 4
"""Shorter pieces of a text are found in any other by chance."""


class Tool:
    """One tool, ready to look at texts; making it raises ImportError where it is missing."""

    title: str
    package = ""
    """What it is called in the table, and the distribution that its version is of."""

    def look(self, text: str, key: str) -> Any:
        """Do what the tool does with ``text``, the value of the attribute ``key``."""
        raise NotImplementedError

    def spans(self, text: str, seen: Any) -> list[Span]:
        """The parts of ``text`` that the answer ``seen`` takes away; they may overlap."""
        raise NotImplementedError

    def close(self) -> None:
        """Put away what it made."""

    def version(self) -> str:
        """The version of the peer that is installed, or ""."""
        return version(self.package) if self.package else ""


class Ours(Tool):
    """The guard of this project, on the text alone: the attribute's key is not told."""

    def __init__(self, profile: str) -> None:
        self.title = f"ours, {profile}"
        self._guard = Guard(Policy(profile=profile, salt=bytes(32)))

    def look(self, text: str, key: str) -> Any:
        return self._guard.findings(text)

    def spans(self, text: str, seen: Any) -> list[Span]:
        return [(finding.start, finding.end) for finding in seen]


class Logfire(Tool):
    """Logfire's scrubber with its default patterns, on an attribute of a span."""

    title = "Logfire"
    package = "logfire"
    REPLACED = "[Scrubbed due to "

    def __init__(self) -> None:
        module = importlib.import_module("logfire._internal.scrubbing")
        self._scrubber = module.Scrubber(None)

    def look(self, text: str, key: str) -> Any:
        key = key or "value"
        scrubbed, notes = self._scrubber.scrub_value(("attributes",), {key: text})
        return scrubbed[key] if notes else text

    def spans(self, text: str, seen: Any) -> list[Span]:
        if seen == text:
            return []
        if seen.startswith(self.REPLACED):
            return [(0, len(text))]
        return lost(text, seen)  # Of JSON it replaces single values.


class DetectSecretsFile(Tool):
    """detect-secrets as it scans a file: all plugins, default filters, nothing verified."""

    title = "detect-secrets, file"
    package = "detect-secrets"

    def __init__(self) -> None:
        settings = importlib.import_module("detect_secrets.settings")
        self._scan = importlib.import_module("detect_secrets.core.scan")
        plugins = importlib.import_module("detect_secrets.core.plugins.util")
        # Verification would ask the providers; it stays off, and nothing turns it on here.
        classes = plugins.get_mapping_from_secret_type_to_class().values()
        settings.get_settings().configure_plugins([{"name": one.__name__} for one in classes])
        self._folder = tempfile.TemporaryDirectory(prefix="guard-eval-")
        self._path = os.path.join(self._folder.name, "text.txt")

    def close(self) -> None:
        self._folder.cleanup()

    def look(self, text: str, key: str) -> Any:
        Path(self._path).write_text(text, encoding="utf-8")
        return [secret.secret_value for secret in self._scan.scan_file(self._path)]

    def spans(self, text: str, seen: Any) -> list[Span]:
        return [span for value in seen for span in places(text, value)]


class DetectSecretsLine(DetectSecretsFile):
    """detect-secrets as it scans a string given by hand, which is more eager."""

    title = "detect-secrets, line"

    def look(self, text: str, key: str) -> Any:
        return [
            secret.secret_value
            for line in text.splitlines()
            for secret in self._scan.scan_line(line)
        ]


class Presidio(Tool):
    """Presidio's recognisers that need no language model, of all countries, at any score."""

    title = "Presidio, patterns"
    package = "presidio-analyzer"
    FOLDERS = (".generic.", ".country_specific.")

    def __init__(self) -> None:
        # Its check of e-mail addresses would fetch the list of public suffixes.
        tldextract: Any = importlib.import_module("tldextract")
        tldextract.extract = tldextract.TLDExtract(suffix_list_urls=())
        module = importlib.import_module("presidio_analyzer.predefined_recognizers")
        found = {
            one
            for one in vars(module).values()
            if isinstance(one, type) and any(part in one.__module__ for part in self.FOLDERS)
        }
        self._recognizers = [one() for one in sorted(found, key=lambda one: one.__name__)]

    def look(self, text: str, key: str) -> Any:
        return [
            result
            for recognizer in self._recognizers
            for result in recognizer.analyze(text, recognizer.supported_entities, None)
        ]

    def spans(self, text: str, seen: Any) -> list[Span]:
        return [(result.start, result.end) for result in seen]


class Simple(Tool):
    """What many programs have: a dozen patterns that somebody wrote in an afternoon."""

    title = "12 patterns"
    PATTERNS = (
        r"AKIA[0-9A-Z]{16}",
        r"gh[pousr]_[A-Za-z0-9]{36}",
        r"xox[abprs]-[A-Za-z0-9-]{10,}",
        r"sk-[A-Za-z0-9]{20,}",
        r"AIza[0-9A-Za-z_-]{35}",
        r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
        r"(?i)bearer\s+[a-z0-9._~+/-]+=*",
        r"(?i)(?:password|passwd|pwd|secret|token|api_?key)\s*[:=]\s*\S+",
        r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}",
        r"\b(?:\d[ -]?){13,16}\b",
        r"\b\d{3}-\d{2}-\d{4}\b",
    )

    def __init__(self) -> None:
        self._pattern = re.compile("|".join(f"(?:{_scoped(one)})" for one in self.PATTERNS))

    def look(self, text: str, key: str) -> Any:
        return [match.span() for match in self._pattern.finditer(text)]

    def spans(self, text: str, seen: Any) -> list[Span]:
        return list(seen)


def _scoped(pattern: str) -> str:
    """A flag for the whole pattern, made one for this part of a larger one."""
    return f"(?i:{pattern.removeprefix('(?i)')})" if pattern.startswith("(?i)") else pattern


def places(text: str, value: str | None) -> Iterator[Span]:
    """Everywhere that ``value`` stands in ``text``."""
    at = text.find(value) if value else -1
    while value and at >= 0:
        yield at, at + len(value)
        at = text.find(value, at + 1)


def lost(text: str, output: str) -> list[Span]:
    """The parts of ``text`` that are not in ``output``, its rewritten form."""
    spans = []
    position = 0
    matcher = difflib.SequenceMatcher(None, text, output, autojunk=False)
    for block in matcher.get_matching_blocks():
        if block.size >= PIECE_CHARS_MIN:
            spans.append((position, block.a))
            position = block.a + block.size
    spans.append((position, len(text)))
    return [span for span in spans if span[0] < span[1]]


PROFILES = ("default", "strict")
PEERS: tuple[type[Tool], ...] = (Logfire, DetectSecretsFile, DetectSecretsLine, Presidio, Simple)
TITLES = (*(f"ours, {profile}" for profile in PROFILES), *(peer.title for peer in PEERS))


def make_all(*, peers: bool = True) -> Iterator[tuple[str, Tool | None]]:
    """Each tool with its title, to be used before the next; None for one not installed."""
    for profile in PROFILES:
        ours = Ours(profile)
        yield ours.title, ours
    for peer in PEERS if peers else ():
        try:
            tool = peer()
        except ImportError:
            yield peer.title, None
            continue
        yield tool.title, tool
        tool.close()
