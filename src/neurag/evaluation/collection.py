"""The collection of an evaluation: the documents of its rows, as passages and as a bank that is built once.

Every system works on the same pieces of text: what RAG pastes is what a neuron was made from. Not here: reading rows
(data.py), and what systems do with the collection (systems.py).

    >>> told = collect(rows, backbone)                               # doctest: +SKIP
    >>> bank, seconds = open_bank(told, backbone, EncodeOptions())   # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..backbone import Backbone, cache_folder
from ..config import AugmentOptions, EncodeOptions, NeuragError
from ..files import write_whole
from ..knowledge.bank import Bank
from ..knowledge.documents import Chunk, Document, chunk_document
from ..knowledge.folder import Manifest
from ..knowledge.pipeline import Report, encode
from .data import Doc, Row, documents_of


@dataclass(frozen=True)
class Collection:
    """Documents in the order of the file, and their chunks."""

    documents: tuple[Document, ...]
    chunks: tuple[Chunk, ...]

    @cached_property
    def passages(self) -> list[tuple[str, str, str, str]]:
        """(id, document id, title, text) of every chunk, as retrieval takes them."""
        return [(c.id, c.document.id, c.document.title, c.text) for c in self.chunks]

    @cached_property
    def texts(self) -> Mapping[str, tuple[tuple[str, str], ...]]:
        """(title, text) of each document's chunks, by document id."""
        told: dict[str, list[tuple[str, str]]] = {}
        for chunk in self.chunks:
            told.setdefault(chunk.document.id, []).append((chunk.document.title, chunk.text))
        return {name: tuple(texts) for name, texts in told.items()}

    @property
    def key(self) -> str:
        """Hash of what the documents say."""
        told = "".join(f"{c.id} {c.content_hash}\n" for c in self.chunks)
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def collect(rows: Sequence[Row], backbone: Backbone, size: int | None = None) -> Collection:
    """Every document of the rows once. With a `size`, the rows' gold documents and then others in file order.

    Documents without text are left out. Raises NeuragError when `size` is smaller than the number of gold documents.
    """
    told = [doc for doc in documents_of(rows) if doc.text.strip()]
    if size is not None:
        gold = {name for row in rows for name in row.gold}
        if size < (needed := sum(doc.id in gold for doc in told)):
            raise NeuragError(
                f"the rows need {needed} documents and --documents says {size}: raise it, or lower --limit"
            )
        told = _first(told, gold, size)
    documents = tuple(Document(doc.text, doc.id, doc.title) for doc in told)
    chunk_tokens = EncodeOptions().chunk_tokens
    chunks = (c for d in documents for c in chunk_document(d, backbone.count_tokens, chunk_tokens))
    return Collection(documents, tuple(chunks))


def _first(documents: Iterable[Doc], gold: set[str], size: int) -> list[Doc]:
    told = list(documents)
    spare = size - sum(doc.id in gold for doc in told)
    kept = []
    for doc in told:
        if doc.id in gold:
            kept.append(doc)
        elif spare > 0:
            kept.append(doc)
            spare -= 1
    return kept


def open_bank(
    collection: Collection,
    backbone: Backbone,
    options: EncodeOptions = EncodeOptions(),
    augment: AugmentOptions = AugmentOptions(),
    progress: Report | None = None,
) -> tuple[Bank, float]:
    """The bank of a collection, and the seconds it took to make; kept by content, and made where it is missing.

    A run that was stopped goes on where it was.
    """
    made = f"{Manifest.format} {backbone.fingerprint} {backbone.tokenizer_fingerprint} {options.recipe(augment)}"
    told = f"{collection.key} {made}"
    path = cache_folder() / "eval" / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.bank"
    taken = path.with_suffix(".seconds.json")
    seconds = float(json.loads(taken.read_text())) if taken.exists() else 0.0
    if not _complete(path, collection):
        path.parent.mkdir(parents=True, exist_ok=True)
        report = encode(collection.documents, path, backbone.name, options, augment, progress, backbone)
        seconds += report.seconds
        write_whole(taken, json.dumps(seconds))
    return Bank.open(path, backbone.fingerprint, backbone.tokenizer_fingerprint), seconds


def _complete(path: Path, collection: Collection) -> bool:
    return (path / "bank.json").exists() and {c.id for c in collection.chunks} <= set(Bank.open(path).known())
