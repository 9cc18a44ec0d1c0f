"""Ask the records in SQL, and write them as Parquet: by DuckDB, shut in.

What SQL can reach is a database in memory, made for one question. It holds the records
of the window, of the signals and columns that the question names: DuckDB itself says
which, by planning the question over empty tables first. Then access to files is switched
off, no extension can be loaded, nothing spills to the disk, and the configuration is
locked, before the question is run. Only one ``SELECT`` is a question.

What DuckDB says of a mistake in the question is passed on; what it says of a value that
it stumbled over is not, since that is recorded content.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import msgspec

from stack_composer.telemetry.errors import QueryError, StoreError, TelemetryError
from stack_composer.telemetry.export.columns import COLUMNS, TYPES, VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Final

    from stack_composer.telemetry.export.columns import Column

MEMORY_MB: Final = 1_024
THREADS: Final = 2
PROCESS_MB_MAX: Final = 4 * MEMORY_MB
"""What the process may take in all: a single text of a question is not in DuckDB's count."""
_BATCH_ROWS: Final = 4_096
QUERY_CHARS_MAX: Final = 100_000

_SHUT_IN: Final = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    # Else a name in the question could mean a variable of this program.
    "python_enable_replacements": "false",
    # Nothing that was recorded is written to a temporary file.
    "temp_directory": "",
    "threads": str(THREADS),
    "memory_limit": f"{MEMORY_MB}MB",
}
# They take columns or whole tables out of a plan over nothing, which would then not be
# loaded.
_NOT_WHILE_PLANNING: Final = (
    "statistics_propagation,empty_result_pullup,filter_pushdown,filter_pullup"
)
_MISTAKES: Final = ("ParserException", "BinderException", "CatalogException", "SyntaxException")
_FORBIDDEN: Final = ("PermissionException",)


def bound_memory() -> None:
    """Have the system refuse this process more memory, where a system can.

    For a process that answers one question. DuckDB counts what it keeps, but not a text
    of gigabytes that a function makes.
    """
    try:
        import resource
    except ImportError:
        return  # Windows: there DuckDB's own count is all.
    most = PROCESS_MB_MAX << 20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise TelemetryError(
            "SQL and Parquet need DuckDB, which is not installed",
            hint="pip install 'stack-composer-telemetry[sql]'",
        ) from error
    return duckdb


Need = dict[str, "tuple[Column, ...]"]
"""Which columns of which signals a question is about."""


class Question:
    """One ``SELECT`` over ``spans``, ``metrics`` and ``logs``.

    Attributes:
        need: What must be loaded to answer it.
    """

    def __init__(self, text: str) -> None:
        """Read the question; nothing is loaded yet.

        Raises:
            QueryError: It is no question, or not one.
            TelemetryError: There is no DuckDB.
        """
        self._duckdb = _duckdb()
        self._text = text
        if len(text) > QUERY_CHARS_MAX:
            raise QueryError(f"the question has more than {QUERY_CHARS_MAX:,} characters")
        with self._told():
            statements = self._duckdb.extract_statements(text)
        if len(statements) != 1 or statements[0].type != self._duckdb.StatementType.SELECT:
            raise QueryError(
                "not one SELECT",
                hint='ask like "select name, count(*) from spans group by name"',
            )
        self.need = self._plan()

    def _plan(self) -> Need:
        everything = dict(COLUMNS)
        with contextlib.closing(self._connect()) as connection:
            _make_tables(connection, everything)
            connection.execute(f"SET disabled_optimizers = '{_NOT_WHILE_PLANNING}'")
            _lock(connection)
            with self._told():
                named = {name.lower() for name in connection.get_table_names(self._text)}
                plan = json.loads(
                    connection.execute(f"EXPLAIN (FORMAT JSON) {self._text}").fetchall()[0][1]
                )
        scanned: dict[str, set[str]] = {}
        for table, names in _scans(plan):
            scanned.setdefault(table, set()).update(names)
        need: Need = {}
        for signal, view in VIEWS.items():
            if view in scanned:
                columns = [column for column in COLUMNS[signal] if column.name in scanned[view]]
                # To count rows takes no column, but a table has one at least.
                need[signal] = tuple(columns) or COLUMNS[signal][:1]
            elif view in named:
                need[signal] = COLUMNS[signal]
        return need

    def ask(self, records: Callable[[str, Sequence[Column]], Iterable[list[Any]]]) -> Answer:
        """Load what is needed and run the question.

        Args:
            records: Gives the rows of a signal, with these columns.

        Raises:
            QueryError: DuckDB finds a mistake in it.
            StoreError: It takes too much memory.
        """
        connection = self._connect()
        try:
            with self._told():
                _make_tables(connection, {**COLUMNS, **self.need})
                for signal, columns in self.need.items():
                    _load(connection, VIEWS[signal], columns, records(signal, columns))
                _lock(connection)
                cursor = connection.execute(self._text)
        except BaseException:
            connection.close()
            raise
        return Answer(connection, cursor, self._told)

    def _connect(self) -> Any:
        return self._duckdb.connect(":memory:", config=_SHUT_IN)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (self._duckdb.OutOfMemoryException, MemoryError) as error:
            raise StoreError(
                f"the question takes more than {MEMORY_MB} MB of memory",
                hint="ask about less time with --since, or name fewer columns",
            ) from error
        except self._duckdb.Error as error:
            raise _query_error(error) from None


class Answer:
    """The rows of an answer; close it.

    Attributes:
        columns: Their names.
    """

    def __init__(self, connection: Any, cursor: Any, told: Callable[[], Any]) -> None:
        self._connection = connection
        self._cursor = cursor
        self._told = told
        self.columns = [str(column[0]) for column in cursor.description]

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield them."""
        while True:
            with self._told():
                some = self._cursor.fetchmany(_BATCH_ROWS)
            if not some:
                return
            yield from some

    def close(self) -> None:
        """Forget all of it."""
        self._connection.close()


def _query_error(error: Exception) -> QueryError:
    kind = type(error).__name__
    if kind in _MISTAKES:
        # It speaks of the question, which the user has typed, and of our columns.
        return QueryError(
            " ".join(str(error).split("\n", 1)[0].split()),
            hint="views are spans, metrics and logs; docs/import-export.md has their columns",
        )
    if kind in _FORBIDDEN:
        return QueryError(
            "the question reaches for a file, an extension or a setting",
            hint="it can see spans, metrics and logs, and nothing else",
        )
    return QueryError(
        f"DuckDB cannot answer it: {kind.removesuffix('Exception')}",
        hint="a value may not fit: try_cast gives NULL instead",
    )


def _scans(plan: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield table and columns of each scan in a plan."""
    if isinstance(plan, list):
        for part in plan:
            yield from _scans(part)
    elif isinstance(plan, dict):
        extra = plan.get("extra_info", {})
        if isinstance(extra, dict) and "Table" in extra:
            names = extra.get("Projections", [])
            yield (
                str(extra["Table"]).rpartition(".")[2],
                [names] if isinstance(names, str) else list(names),
            )
        yield from _scans(plan.get("children", []))


def _make_tables(connection: Any, need: Need) -> None:
    for signal, columns in need.items():
        listed = ", ".join(f'"{column.name}" {TYPES[column.kind]}' for column in columns)
        connection.execute(f"CREATE TABLE {VIEWS[signal]} ({listed})")


def _lock(connection: Any) -> None:
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _load(
    connection: Any, table: str, columns: Sequence[Column], found: Iterable[list[Any]]
) -> None:
    """Insert rows, as JSON that DuckDB reads itself: no other way is as quick."""
    shape = json.dumps([{column.name: _shape(column) for column in columns}])
    picked = ", ".join(_picked(column) for column in columns)
    statement = (
        f"INSERT INTO {table} SELECT {picked}"  # noqa: S608 - names of our own columns
        f" FROM (SELECT unnest(from_json(?, '{shape}')) AS r)"
    )
    names = [column.name for column in columns]
    batch: list[dict[str, Any]] = []
    for row in found:
        batch.append(dict(zip(names, row, strict=True)))
        if len(batch) >= _BATCH_ROWS:
            connection.execute(statement, [msgspec.json.encode(batch).decode()])
            batch.clear()
    if batch:
        connection.execute(statement, [msgspec.json.encode(batch).decode()])


def _shape(column: Column) -> str:
    return "BIGINT" if column.kind == "time" else TYPES[column.kind]


def _picked(column: Column) -> str:
    quoted = f'r."{column.name}"'
    return f"make_timestamp_ns({quoted})" if column.kind == "time" else quoted


def write_parquet(path: str, columns: Sequence[Column], found: Iterable[list[Any]]) -> None:
    """Write rows as a Parquet file over an empty one.

    What does not fit into memory waits in a private folder beside the file.

    Raises:
        StoreError: The disk is full or fails.
        TelemetryError: There is no DuckDB.
    """
    duckdb = _duckdb()
    import shutil
    import tempfile

    aside = tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=os.path.dirname(path))
    mask = os.umask(0o077)
    try:
        database = os.path.join(aside, "rows.duckdb")
        settings = {**_SHUT_IN, "memory_limit": "512MB", "temp_directory": aside}
        with contextlib.closing(duckdb.connect(database, config=settings)) as connection:
            listed = ", ".join(f'"{column.name}" {TYPES[column.kind]}' for column in columns)
            connection.execute(f"CREATE TABLE exported ({listed})")
            _load(connection, "exported", columns, found)
            quoted = path.replace("'", "''")
            connection.execute(
                f"COPY exported TO '{quoted}'"
                " (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"
            )
    except duckdb.Error as error:
        # Its words may quote a value.
        raise StoreError(
            f"cannot write {path}: DuckDB says {type(error).__name__}",
            hint="check the folder and its free space",
        ) from None
    finally:
        os.umask(mask)
        shutil.rmtree(aside, ignore_errors=True)
