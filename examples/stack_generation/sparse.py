"""Retrieval by words: SQLite's full-text index, ranked by bm25."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable

from brief import words_of
from catalogue import Component


class SparseIndex:
    """An index in memory that several threads may ask; ``note`` says if it is a lesser one."""

    def __init__(self, components: Iterable[Component]) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        cursor = self._connection.cursor()
        self.note = ""
        try:
            cursor.execute("CREATE VIRTUAL TABLE part USING fts5(name, text, tokenize='porter')")
            self._search = self._by_bm25
        except sqlite3.OperationalError:
            cursor.execute("CREATE TABLE part (name TEXT, text TEXT)")
            self._search = self._by_count
            self.note = "this SQLite has no FTS5: words are counted instead of ranked"
        rows = [(part.name, f"{part.text} {' '.join(part.provides)}") for part in components]
        cursor.executemany("INSERT INTO part VALUES (?, ?)", rows)

    def close(self) -> None:
        """Let go of the index."""
        self._connection.close()

    def search(self, query: str, k: int) -> list[str]:
        """Give the names of the ``k`` best parts, best first."""
        words = sorted(set(words_of(query)))
        if not words:
            return []
        with self._lock:
            return [name for (name,) in self._search(words, k)]

    # What is searched for is passed beside the statement, never in it: statements are
    # recorded by the instrumentation, their parameters are not.

    def _by_bm25(self, words: list[str], k: int) -> list[tuple[str]]:
        any_of_them = " OR ".join(f'"{word}"' for word in words)
        cursor = self._connection.cursor()
        cursor.execute(
            "SELECT name FROM part WHERE part MATCH ? ORDER BY bm25(part), name LIMIT ?",
            (any_of_them, k),
        )
        return cursor.fetchall()

    def _by_count(self, words: list[str], k: int) -> list[tuple[str]]:
        cursor = self._connection.cursor()
        cursor.execute(
            "SELECT name FROM part ORDER BY (SELECT count(*) FROM json_each(?)"
            " WHERE instr(lower(part.text), value)) DESC, name LIMIT ?",
            ("[" + ",".join(f'"{word}"' for word in words) + "]", k),
        )
        return cursor.fetchall()
