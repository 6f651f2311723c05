"""Retrieval over texts, for the modes that paste passages into the prompt: BM25 by bm25s.

Not here: retrieval by embeddings (embedding.py), choosing neurons (hyper_layer/routing.py).

    >>> Passages([("a#0", "a", "Mill", "The mill is in Oskerby.")]).search("Where is the mill?", 1)[0].text
    'The mill is in Oskerby.'
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Passage:
    """A chunk as text."""

    id: str
    document_id: str
    title: str
    text: str
    score: float


class Passages:
    """A BM25 index (k1 1.5, b 0.75, English stemming and stop words) over titles and texts."""

    def __init__(self, rows: Sequence[tuple[str, str, str, str]]) -> None:
        import bm25s
        import Stemmer

        self._rows = list(rows)
        self._stemmer = Stemmer.Stemmer("english")
        self._index = None
        tokens = self._tokens([f"{title}\n{text}" for _, _, title, text in rows])
        if any(tokens):
            self._index = bm25s.BM25()
            self._index.index(tokens, show_progress=False)

    def _tokens(self, texts: Sequence[str]) -> list[list[str]]:
        import bm25s

        return list(
            bm25s.tokenize(list(texts), stopwords="en", stemmer=self._stemmer, return_ids=False, show_progress=False)
        )

    def search(self, question: str, count: int, allowed: Container[str] | None = None) -> list[Passage]:
        """The `count` best passages, best first; `allowed` limits the document ids."""
        words = self._tokens([question])[0]
        if self._index is None or not words:
            scores = np.zeros(len(self._rows))
        else:
            scores = self._index.get_scores(words)
        return best_passages(self._rows, scores, count, allowed)


def best_passages(
    rows: Sequence[tuple[str, str, str, str]], scores: np.ndarray, count: int, allowed: Container[str] | None = None
) -> list[Passage]:
    """The `count` rows with the highest scores, best first; of equal ones the first row."""
    found: list[Passage] = []
    for place in np.argsort(-scores, kind="stable"):
        if len(found) == count:
            break
        name, document, title, text = rows[place]
        if allowed is None or document in allowed:
            found.append(Passage(name, document, title, text, float(scores[place])))
    return found
