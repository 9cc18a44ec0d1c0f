"""The tree of commands: names, one line each, and where their code is.

It is data, so that the help of a group, the dispatch, the completion scripts and
docs/cli.md are all read from the one table, and a command's module is imported
only when that command runs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    Node: TypeAlias = "Command | Group"

PROGRAM = "stack-composer"


class Command:
    """A leaf of the tree.

    ``module`` below cli/ has ``add_arguments(parser)``, ``run(args)`` and
    ``JSON_KEYS``, which says what ``--json`` prints.
    """

    __slots__ = ("module", "summary")

    def __init__(self, module: str, summary: str) -> None:
        self.module = module
        self.summary = summary


class Group:
    """A command that has commands of its own; ``default`` runs where none is named."""

    __slots__ = ("children", "default", "summary")

    def __init__(
        self, summary: str, children: dict[str, Node], default: Command | None = None
    ) -> None:
        self.summary = summary
        self.children = children
        self.default = default


STATS = Command("stats", "what happened: counts, rates, errors and percentiles by name")

ROOT = Group(
    "See what your programs did, on your own computer.",
    {
        "stats": STATS,
        "telemetry": Group(
            "look at, keep and delete what was recorded",
            {
                "stats": STATS,
                "status": Command("status", "what is recorded now, why, and where it is kept"),
                "show": Command(
                    "show", "print spans, metrics and logs, as a tree, records or OTLP"
                ),
                "tail": Command("tail", "print the newest records; -f goes on as they arrive"),
                "import": Command(
                    "import_files", "bring in OTLP files and bundles of other computers, once"
                ),
                "export": Command("export", "write records as OTLP, JSON, CSV or Parquet"),
                "sql": Command("sql", "ask a question in SQL"),
                "purge": Command("purge", "delete old bundles, after showing which"),
                "schedule": Group(
                    "have the system purge once a day",
                    {
                        "install": Command(
                            "schedule_install", "install a daily job, after showing it"
                        ),
                        "remove": Command("schedule_remove", "take the daily job away"),
                        "status": Command("schedule_status", "say whether there is one"),
                    },
                ),
                "serve": Group(
                    "take OTLP from other programs on this computer",
                    {
                        "install": Command(
                            "serve_install", "have the system keep it running, after showing how"
                        ),
                        "remove": Command("serve_remove", "end the service and take it away"),
                        "status": Command("serve_status", "say whether it runs, and answers"),
                    },
                    default=Command("serve", "take OTLP from other programs on this computer"),
                ),
                "upload": Command("upload", "send records to your server, after showing which"),
                "audit": Command("audit", "list everything that left this computer, and check it"),
                "consent": Group(
                    "what may leave this computer, and to whom",
                    {
                        "give": Command(
                            "consent_give", "allow it for a destination, after showing the policy"
                        ),
                        "status": Command("consent_status", "say what you allowed"),
                        "withdraw": Command("consent_withdraw", "take it back"),
                    },
                ),
                "headers": Group(
                    "credentials of destinations, in the keychain",
                    {
                        "set": Command("headers_set", "keep a header of a destination there"),
                        "remove": Command("headers_remove", "take it out again"),
                    },
                ),
                "enable": Command("enable", "record from now on"),
                "disable": Command("disable", "stop recording; what is there stays"),
                "config": Group(
                    "look at the configuration",
                    {
                        "show": Command("config_show", "print the configuration in effect"),
                        "check": Command("config_check", "check a configuration file"),
                        "path": Command("config_path", "print where the configuration file is"),
                    },
                ),
                "guard": Group(
                    "look at the redaction, and renew its salt",
                    {
                        "test": Command("guard_test", "show what the guard makes of texts"),
                        "explain": Command(
                            "guard_explain", "say which rules take what of one text, and why"
                        ),
                        "rules": Command("guard_rules", "list the rules, ours and yours"),
                        "rotate-salt": Command(
                            "guard_rotate_salt", "replace the salt of hashed ids by a new one"
                        ),
                    },
                ),
                "data": Group(
                    "all that is kept of you: take it along, or have it gone",
                    {
                        "export": Command("data_export", "put all that is kept into one file"),
                        "erase": Command("data_erase", "delete all that is kept, after showing it"),
                    },
                ),
                "store": Group(
                    "look at the store's encryption, and change it",
                    {
                        "status": Command(
                            "store_status", "which databases there are, and whether they open"
                        ),
                        "encrypt": Command(
                            "store_encrypt", "move what is recorded into an encrypted database"
                        ),
                        "decrypt": Command("store_decrypt", "move it back into plain files"),
                        "rekey": Command("store_rekey", "give it a new key"),
                    },
                ),
                "doctor": Command("doctor", "look for damage and misconfiguration, and mend it"),
            },
        ),
        "run": Command("run", "run a program, under --gdpr without recording"),
        "completion": Command("completion", "print a completion script for a shell"),
    },
)

TOP_OPTIONS = {
    "--gdpr": "record nothing, in this program and in those it runs",
    "--version": "print the version",
    "--help": "print this help",
}


def walk(node: Node = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Yield every node below ``node`` with its path, itself first, in table order.

    The default of a group comes behind the group, with the same path.
    """
    yield path, node
    if isinstance(node, Group):
        if node.default is not None:
            yield path, node.default
        for name, child in node.children.items():
            yield from walk(child, (*path, name))
