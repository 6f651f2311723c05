"""From documents to a bank: read, cut, write training texts, train neurons, store. Resumes by itself.

Chunks are trained in fixed groups and each group is one transaction, so whatever stops a run (Ctrl-C, kill -9,
a full disk) leaves whole groups behind, and the next run with the same documents goes on with the same groups:
the bank comes out the same. Not here: how each step works (the sibling modules).

    >>> encode(["The mill in Oskerby is led by Ilse Maranth."], bank="notes.bank")    # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..backbone import Backbone
from ..config import DEFAULT_MODEL, AugmentOptions, EncodeOptions, NeuragError
from ..loading import load_backbone
from .augmentation import Augmentation
from .augmentation import augment as write_texts
from .band import Lesson
from .bank import Bank, NeuronRow
from .calibration import KEY_WIDTH, Calibration, bank_calibration, save_calibration
from .documents import Chunk, Document, as_documents, chunk_document
from .encoder import train_neurons
from .folder import CALIBRATION
from .keys import chunk_keys
from .learned import Learned
from .lessons import learned, lessons
from .neurons import InputSpace, band_layers, quantise
from .readers import Skipped
from .rows import key_bytes, neuron_bytes
from .spaces import manifest_of, new_space

Stage = Literal["reading", "writing questions", "training"]
Input = str | Mapping[str, object] | Document | Skipped
SECONDS_PER_CHUNK = 25.0
"""Cost of one chunk, in forward passes over 128 tokens: 16 and 31 in two encodes of the demo's 36 chunks, the second
with all caches empty on a busy machine."""
KEYS_PER_TOKEN = 1.3
"""Words with capitals have keys for both readings: 1.32 and 1.37 on Wikipedia passages."""


@dataclass(frozen=True)
class Plan:
    """What an encode run would do."""

    documents: int
    chunks: int
    tokens: int
    todo: int
    """Chunks that are not in the bank yet."""
    bytes: int
    """Bytes of the rows to be written, keys and neurons."""
    seconds: float
    """Estimated time."""


@dataclass(frozen=True)
class EncodeReport:
    """What an encode run did."""

    documents: int
    chunks: int
    encoded: int
    reused: int
    seconds: float
    skipped: tuple[Skipped, ...] = ()
    coverage: float = 0.0
    """Mean over the chunks encoded: share of what may be asked about them that their lessons answer."""
    split: Mapping[str, float] = field(default_factory=dict)
    """Seconds by part of the work."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands; counts are chunks."""

    stage: Stage
    done: int
    total: int
    documents_per_second: float
    seconds_left: float


Report = Callable[[Progress], None]


def encode(
    documents: Iterable[Input],
    bank: str | Path,
    model: str = DEFAULT_MODEL,
    options: EncodeOptions = EncodeOptions(),
    augment: AugmentOptions = AugmentOptions(),
    progress: Report | None = None,
    backbone: Backbone | None = None,
) -> EncodeReport:
    """Make the neurons of `documents` and store them in the bank at `bank`, which is made when missing.

    A document whose id is in the bank with other content is replaced. Raises NeuragError when nothing can be
    read, and BankError for a bank of another backbone or other options.
    """
    start = time.perf_counter()
    backbone = backbone or load_backbone(model)
    read, chunks, skipped = _read(documents, backbone, options)
    _check(bank, backbone)
    calibration = bank_calibration(bank, backbone)
    space = new_space(backbone, calibration, options)
    store = Bank.create(bank, manifest_of(backbone, calibration, space, options))
    if not (kept := Path(bank) / CALIBRATION).exists():
        save_calibration(kept, calibration)
    recipe = options.recipe(augment)
    groups = _groups(chunks, options.batch)
    known = store.known()
    todo = [_missing(group, known, recipe) for group in groups]
    total, done = sum(map(len, todo)), 0
    covered, clock = 0.0, _Clock()
    for group in todo:
        if not group:
            continue
        _tell(progress, "writing questions", done, total, start)
        with clock("questions"):
            texts = _augmented(backbone, group, augment)
        _tell(progress, "training", done, total, start)
        with clock("training"):
            trained, learned = _train(backbone, space, group, texts, options)
        with clock("keys and storing"):
            store.add(_rows(backbone, calibration, group, texts, trained, learned, options, recipe))
        done, covered = done + len(group), covered + sum(text.coverage for text in texts)
        _tell(progress, "training", done, total, start)
    for document, count in _shortened(chunks, known).items():
        store.prune(document, count)
    seconds = time.perf_counter() - start
    return EncodeReport(
        read, len(chunks), done, len(chunks) - done, seconds, skipped, covered / max(1, done), clock.spent
    )


class _Clock:
    """Adds up the seconds of each part of the work."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - start


def plan(
    documents: Iterable[Input],
    bank: str | Path,
    model: str = DEFAULT_MODEL,
    options: EncodeOptions = EncodeOptions(),
    augment: AugmentOptions = AugmentOptions(),
    backbone: Backbone | None = None,
) -> Plan:
    """What `encode` would do with the same arguments; nothing is written."""
    backbone = backbone or load_backbone(model)
    read, chunks, _ = _read(documents, backbone, options)
    there = _check(bank, backbone)
    known = there.known() if there else {}
    recipe = options.recipe(augment)
    missing = [c for g in _groups(chunks, options.batch) for c in _missing(g, known, recipe)]
    tokens = [backbone.count_tokens(c.text) for c in chunks]
    scales = len(band_layers(backbone.depth, options.band)) * options.rank
    neuron, key = neuron_bytes(scales, backbone.width, options.precision), key_bytes(KEY_WIDTH)
    size = sum(neuron + int(backbone.count_tokens(c.text) * KEYS_PER_TOKEN) * key for c in missing)
    seconds = len(missing) * SECONDS_PER_CHUNK * _forward_seconds(backbone)
    return Plan(read, len(chunks), sum(tokens), len(missing), size, seconds)


def _check(bank: str | Path, backbone: Backbone) -> Bank | None:
    """The bank that is there already, if one is. Raises BankError when another backbone made it."""
    if not (Path(bank) / "bank.json").exists():
        return None
    return Bank.open(bank, backbone.fingerprint, backbone.tokenizer_fingerprint)


def _read(
    documents: Iterable[Input], backbone: Backbone, options: EncodeOptions
) -> tuple[int, list[Chunk], tuple[Skipped, ...]]:
    skipped: list[Skipped] = []

    def kept() -> Iterable[str | Mapping[str, object] | Document]:
        for item in documents:
            if isinstance(item, Skipped):
                skipped.append(item)
            else:
                yield item

    read = 0
    chunks: list[Chunk] = []
    for document in as_documents(kept()):
        read += 1
        chunks += _first_of_alike(chunk_document(document, backbone.count_tokens, options.chunk_tokens))
    if not chunks:
        why = f"; first: {skipped[0].where} {skipped[0].reason}" if skipped else ""
        raise NeuragError(f"no document could be read ({len(skipped)} skipped{why})")
    return read, chunks, tuple(skipped)


def _first_of_alike(chunks: Sequence[Chunk]) -> Iterator[Chunk]:
    """The chunks of a document without those that say again what an earlier one says."""
    seen: set[str] = set()
    for chunk in chunks:
        if chunk.text not in seen:
            seen.add(chunk.text)
            yield chunk


def _groups(chunks: Sequence[Chunk], size: int) -> list[list[Chunk]]:
    return [list(chunks[i : i + size]) for i in range(0, len(chunks), size)]


def _missing(group: list[Chunk], known: Mapping[str, tuple[str, str]], recipe: str) -> list[Chunk]:
    return [c for c in group if known.get(c.id) != (c.content_hash, recipe)]


def _shortened(chunks: Iterable[Chunk], known: Iterable[str]) -> dict[str, int]:
    """Chunk counts of the documents of which the bank held more chunks than they have now."""
    counts = {chunk.document.id: chunk.index + 1 for chunk in chunks}  # chunks come in order: the last one counts
    held = (id.rpartition("#") for id in known)
    return {doc: counts[doc] for doc, _, index in held if int(index) >= counts.get(doc, int(index) + 1)}


def _augmented(backbone: Backbone, group: list[Chunk], options: AugmentOptions) -> list[Augmentation]:
    texts = write_texts(backbone, group, options)
    return texts if options.recite else [replace(t, completions=()) for t in texts]


def _train(
    backbone: Backbone, space: InputSpace, group: list[Chunk], texts: list[Augmentation], options: EncodeOptions
) -> tuple[Tensor, list[Learned]]:
    """B of every chunk, [N, L, R, D], and what it was taught."""
    taught, reads = group_lessons(backbone, group, texts, options), dict[Lesson, Tensor]()
    told = len(group), options, group_seed(group, options)
    trained = train_neurons(backbone, space, taught, *told, heard=reads.__setitem__)
    own = ([lesson for lesson in taught if lesson.document == place] for place in range(len(group)))
    return trained, [learned(*both, reads) for both in zip(texts, own, strict=True)]


def group_lessons(
    backbone: Backbone, group: Sequence[Chunk], texts: Sequence[Augmentation], options: EncodeOptions
) -> list[Lesson]:
    """The lessons of chunks that are trained together, each a document of its own by its place."""
    return [
        lesson
        for place, (chunk, text) in enumerate(zip(group, texts, strict=True))
        for lesson in lessons(backbone, text, (chunk.document.title, chunk.text), place, options)
    ]


def group_seed(group: Sequence[Chunk], options: EncodeOptions) -> int:
    """The seed of a group's training, by its content: the same wherever in a run it comes."""
    return options.seed + int(group[0].content_hash[:8], 16)


def _rows(
    backbone: Backbone,
    calibration: Calibration,
    group: list[Chunk],
    texts: list[Augmentation],
    trained: Tensor,
    learned: Sequence[Learned],
    options: EncodeOptions,
    recipe: str,
) -> list[NeuronRow]:
    values, scales = quantise(trained, options.precision)
    rows = []
    read = chunk_keys(backbone, calibration, [(chunk.document.title, chunk.text) for chunk in group])
    parts = zip(group, texts, values, scales, learned, read, strict=True)
    for chunk, text, value, scale, told, (keys, positions) in parts:
        document = chunk.document
        rows.append(
            NeuronRow(
                id=chunk.id,
                document_id=document.id,
                chunk_index=chunk.index,
                title=document.title,
                text=chunk.text,
                start=chunk.start,
                end=chunk.end,
                source=document.source,
                timestamp=document.timestamp,
                trust=document.trust,
                labels=document.labels,
                metadata=document.metadata,
                content_hash=chunk.content_hash,
                recipe=recipe,
                keys=keys,
                positions=positions,
                neuron=value,
                scale=scale,
                learned=told,
                pairs=len(text),
                coverage=text.coverage,
            )
        )
    return rows


def _tell(progress: Report | None, stage: Stage, done: int, total: int, start: float) -> None:
    if progress:
        rate = done / max(time.perf_counter() - start, 1e-9)
        progress(Progress(stage, done, total, rate, (total - done) / rate if rate else float("nan")))


@torch.no_grad()
def _forward_seconds(backbone: Backbone) -> float:
    """Seconds of one forward pass over 128 tokens, the best of three."""
    ids = torch.arange(128, device=backbone.device)[None] % backbone.model.config.vocab_size
    times = []
    for _ in range(3):
        start = time.perf_counter()
        backbone.model(input_ids=ids, use_cache=False, logits_to_keep=1)
        times.append(time.perf_counter() - start)
    return min(times)
