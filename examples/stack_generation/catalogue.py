"""What the example knows: parts of web systems, and which words ask for them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).with_name("components.toml")


@dataclass(frozen=True)
class Component:
    """A part of a system. ``components.toml`` explains the fields."""

    name: str
    kind: str
    text: str
    provides: frozenset[str]
    requires: frozenset[str]
    conflicts: frozenset[str]
    cost_eur: float
    latency_ms: float

    def clashes(self, other: Component) -> bool:
        """Tell whether the two cannot stand in one system."""
        return self._refuses(other) or other._refuses(self)

    def _refuses(self, other: Component) -> bool:
        return not self.conflicts.isdisjoint({other.name, other.kind, *other.provides})


@dataclass(frozen=True)
class Need:
    """A capability that a brief may ask for, by any of ``words``."""

    name: str
    title: str
    words: frozenset[str]
    always: bool


@dataclass(frozen=True)
class Catalogue:
    """All parts and needs, in the order of the file."""

    components: tuple[Component, ...]
    needs: tuple[Need, ...]

    def names(self) -> set[str]:
        """Give every name that stands for a part or a capability."""
        capabilities = {c for component in self.components for c in component.provides}
        return {component.name for component in self.components} | capabilities


def load_catalogue(path: Path = DATA) -> Catalogue:
    """Read the file."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    return Catalogue(
        tuple(_component(entry) for entry in data["component"]),
        tuple(_need(entry) for entry in data["need"]),
    )


def _component(entry: dict[str, Any]) -> Component:
    sets = {key: frozenset(entry.get(key, ())) for key in ("provides", "requires", "conflicts")}
    return Component(**{**entry, **sets})


def _need(entry: dict[str, Any]) -> Need:
    return Need(
        name=entry["name"],
        title=entry["title"],
        words=frozenset(entry.get("words", ())),
        always=entry.get("always", False),
    )
