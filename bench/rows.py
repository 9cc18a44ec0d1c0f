"""The attributes of the spans that are measured: made before any clock starts.

Plain rows hold four values that repeat, as most attributes do. Rich rows hold eight,
among them a text and two floats that are never the same twice, which nothing can
remember. Leaky rows are plain ones of which 1 % hold a secret.
"""

from __future__ import annotations

from random import Random

AGENTS = ("planner", "retriever", "critic", "writer", "router", "ranker", "reader", "judge")
PHASES = ("prepare", "search", "score", "finish")
MODELS = ("small-2026", "medium-2026", "large-2026")
WIDTHS = (32, 64, 128)
LEAK_EVERY = 100
_ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def plain_rows(count: int) -> list[tuple[str, str, int, int]]:
    """Give (agent, phase, k_dense, step) for each span."""
    return [(AGENTS[n % 8], PHASES[n % 4], WIDTHS[n % 3], n % 64) for n in range(count)]


def rich_rows(count: int) -> list[tuple[str, str, str, str, int, int, float, float]]:
    """Give (agent, phase, model, document, k_dense, k_sparse, score, distance)."""
    random = Random(7)
    return [
        (
            AGENTS[n % 8],
            PHASES[n % 4],
            MODELS[n % 3],
            f"handbook chapter {n} of volume {n % 37}",
            WIDTHS[n % 3],
            n % 500,
            random.random(),
            random.uniform(0.0, 90.0),
        )
        for n in range(count)
    ]


def leaky_rows(count: int) -> list[tuple[str, str, int, int]]:
    """Give plain rows; the phase of every hundredth is an address or a token."""
    random = Random(11)
    rows = plain_rows(count)
    for n in range(0, count, LEAK_EVERY):
        agent, _, k_dense, step = rows[n]
        # Made here, so that no credential stands in the tree.
        token = "ghp_" + "".join(random.choices(_ALNUM, k=36))
        leak = token if n % (2 * LEAK_EVERY) else f"reader{n}@post-office.net"
        rows[n] = (agent, leak, k_dense, step)
    return rows


def leaks(count: int) -> int:
    """Tell how many of ``count`` leaky rows hold a secret."""
    return -(-count // LEAK_EVERY)
