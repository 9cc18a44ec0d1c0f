"""Ask both indexes and fuse their answers by rank."""

from __future__ import annotations

from catalogue import Catalogue
from dense import DenseIndex
from sparse import SparseIndex

from stack_composer import telemetry

K_DENSE = 24
K_SPARSE = 32
RANK_OFFSET = 5
"""Of reciprocal rank fusion: the larger, the less the very first ranks count."""


class Retriever:
    """Finds the parts that fit a need and a brief."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._sparse = SparseIndex(catalogue.components)
        self._dense = DenseIndex(catalogue.components)
        self.note = self._sparse.note

    def close(self) -> None:
        """Let go of the indexes."""
        self._sparse.close()

    def search(self, need: str, query: str) -> dict[str, float]:
        """Give part names with their relevance in (0, 1]; the best has 1.

        The span tells the need, which is a word of ours. The query is the user's, so
        it is not said to the span.
        """
        with telemetry.span(
            "retrieval.search", need=need, k_dense=K_DENSE, k_sparse=K_SPARSE
        ) as span:
            ranked = [self._sparse.search(query, K_SPARSE), self._dense.search(query, K_DENSE)]
            span.set_attribute("hits_sparse", len(ranked[0]))
            span.set_attribute("hits_dense", len(ranked[1]))
            return fuse(ranked)


def fuse(rankings: list[list[str]]) -> dict[str, float]:
    """Reciprocal rank fusion: a part near the top of both lists beats one at one's top."""
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, name in enumerate(ranking, start=1):
            scores[name] = scores.get(name, 0.0) + 1 / (RANK_OFFSET + rank)
    best = max(scores.values(), default=1.0)
    return {name: score / best for name, score in scores.items()}
