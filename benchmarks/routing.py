"""Routing: which documents a question finds, and what finding them costs.

Every question of a file against all passages of that file (gold and distractors), by the training-free router
over the keys of 160-token chunks (a document counts at its best chunk) and by BM25 (stemmed, title and text).
recall@k is the share of a question's gold documents among the first k. routing_share is the time of routing
among 5,000 rows (projecting the question's states, scoring, choosing) over a whole closed-book question with
a 64-token prompt and a 16-token answer; fetching neurons is in benchmarks/answer.py. four_active_kept and
two_right are measured on invented companies, as in benchmarks/encode.py. Not measured: answers.
The first run computes the keys of all passages (minutes; shown) and caches them.

    python benchmarks/routing.py [--quick] [--data DIR] [--json OUT]
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import mean, median
from typing import Any

import numpy as np
import torch

from common import (
    Report,
    arguments,
    data_folder,
    interleaved,
    passages_of,
    read_rows,
    recall_at,
    show,
    tracked,
)  # fmt: skip
from encode import measure_ours
from invented import companies
from neurag.backbone import Backbone, cache_folder, processor_format
from neurag.config import EncodeOptions, RouteOptions
from neurag.hyper_layer.routing import Router, question_states
from neurag.knowledge.bank import IndexBatch
from neurag.knowledge.calibration import Calibration, load_calibration
from neurag.knowledge.documents import Chunk, Document, chunk_document
from neurag.knowledge.keys import chunk_keys, keys_version
from neurag.knowledge.retrieval import Passages
from neurag.knowledge.states import routing_states
from neurag.loading import load_backbone
from neurag.prompts import question_prompt

SETS = ("popqa", "squad_same_article", "nq_open_oracle", "hotpotqa", "2wikimultihopqa")
"""Routing's settings were picked on questions of the first four; the last has been looked at by nobody."""
QUICK_QUESTIONS, ROWS, ROUTED_ROWS = 60, 5000, 12
PROMPT_TOKENS, ANSWER_TOKENS = 64, 16
GROUP = 16
"""Chunks whose keys are made together."""
Rows = Sequence[Mapping[str, Any]]


def chunks_of(backbone: Backbone, passages: Iterable[Mapping[str, Any]]) -> list[Chunk]:
    """Passages, cut as the product cuts documents."""
    size = EncodeOptions().chunk_tokens
    documents = (Document(d["text"], d["id"], d["title"]) for d in passages)
    return [chunk for document in documents for chunk in chunk_document(document, backbone.count_tokens, size)]


def keys_of(backbone: Backbone, calibration: Calibration, stem: str, chunks: Sequence[Chunk]) -> IndexBatch:
    """The chunks' keys, computed once and then read from the cache."""
    told = keys_version(calibration) + "".join(c.content_hash for c in chunks)
    key = hashlib.sha256(told.encode()).hexdigest()[:16]
    path = cache_folder() / "benchmarks" / f"keys-{stem}-{key}.npz"
    if not path.exists():
        told = [(c.document.title, c.text) for c in chunks]
        groups = [told[at : at + GROUP] for at in range(0, len(told), GROUP)]
        made = [k for group in tracked(groups, f"{stem}: keys") for k in chunk_keys(backbone, calibration, group)]
        arrays = {
            "lengths": np.array([len(k) for k, _ in made], np.int64),
            "keys": np.concatenate([k for k, _ in made]),
            "positions": np.concatenate([p for _, p in made]),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{os.getpid()}-{path.name}")
        np.savez(aside, **arrays)
        aside.replace(path)
    with np.load(path) as stored:
        owners = [chunk.document.id for chunk in chunks]
        return index_batch(owners, stored["lengths"], stored["keys"], stored["positions"])


def index_batch(owners: Sequence[str], lengths: np.ndarray, keys: np.ndarray, positions: np.ndarray) -> IndexBatch:
    """What the bank would hand to the router for chunks of these documents."""
    count = len(owners)
    return IndexBatch(
        ids=[str(n) for n in range(count)], document_ids=list(owners), labels=[()] * count,
        timestamps=[""] * count, trusts=[None] * count, lengths=lengths, keys=keys, positions=positions,
    )  # fmt: skip


def distinct(documents: Iterable[str], count: int) -> list[str]:
    """The first `count` different ids, in order."""
    return list(dict.fromkeys(documents))[:count]


def route_all(
    backbone: Backbone, calibration: Calibration, batch: IndexBatch, questions: Sequence[str], stem: str
) -> list[list[str]]:
    """The first five documents of every question by the router."""
    router = Router(calibration, RouteOptions(top_k=ROUTED_ROWS))
    index = router.build([batch], processor_format())
    ranked = []
    for question in tracked(questions, f"{stem}: routing"):
        routed = router.route(index, question_states(backbone, calibration, question))
        ranked.append(distinct((batch.document_ids[int(r)] for r in routed.rows), 5))
    return ranked


def bm25_all(rows: Rows, questions: Sequence[str]) -> tuple[list[list[str]], float]:
    """The first five documents of every question by BM25 over whole documents, and the seconds a question."""
    passages = Passages([(d["id"], d["id"], d["title"], d["text"]) for d in passages_of(rows).values()])
    start = time.perf_counter()
    ranked = [[p.id for p in passages.search(question, 5)] for question in questions]
    return ranked, (time.perf_counter() - start) / len(questions)


def measure_set(
    report: Report, backbone: Backbone, calibration: Calibration, stem: str, rows: Rows
) -> tuple[IndexBatch, tuple[object, ...]]:
    """Recall of the router and of BM25 on one file; returns the keys for the timing, and a table row."""
    asked = [r for r in rows if any(d["relevant"] is True for d in r["docs"])]
    gold = [{d["id"] for d in r["docs"] if d["relevant"] is True} for r in asked]
    questions = [r["question"] for r in asked]
    batch = keys_of(backbone, calibration, stem, chunks_of(backbone, passages_of(rows).values()))
    start = time.perf_counter()
    ranked = {"": route_all(backbone, calibration, batch, questions, stem)}
    seconds = (time.perf_counter() - start) / len(questions)
    ranked["bm25_"], bm25_seconds = bm25_all(rows, questions)
    figures = {
        f"{system}recall_at_{k}_{stem}": mean(recall_at(r, g, k) for r, g in zip(found, gold, strict=True))
        for system, found in ranked.items()
        for k in (1, 5)
    }
    report.add(**figures)
    report.meta.setdefault("sets", {})[stem] = {
        "questions": len(asked), "documents": len(passages_of(rows)), "rows": len(batch.ids),
        "seconds_per_question": seconds, "bm25_seconds_per_question": bm25_seconds,
    }  # fmt: skip
    return batch, (stem, len(asked), len(passages_of(rows)), *figures.values(), seconds, bm25_seconds)


def first_rows(batches: Sequence[IndexBatch], count: int) -> Iterator[IndexBatch]:
    """`count` rows in all, from one batch after the other and then from the first again."""
    left = count
    while left > 0:
        for batch in batches:
            take = min(left, len(batch.ids))
            end = int(batch.lengths[:take].sum())
            yield IndexBatch(
                batch.ids[:take], batch.document_ids[:take], batch.labels[:take], batch.timestamps[:take],
                batch.trusts[:take], batch.lengths[:take], batch.keys[:end], batch.positions[:end],
            )  # fmt: skip
            left -= take


def long_question(backbone: Backbone, questions: Sequence[str], tokens: int) -> str:
    """Questions strung together, word by word, until the prompt has at least `tokens` tokens."""
    words = " ".join(questions).split()
    for count in range(1, len(words)):
        question = " ".join(words[:count])
        if len(question_prompt(backbone, question).ids) >= tokens:
            break
    return question


@torch.no_grad()
def closed_question(backbone: Backbone, ids: Sequence[int], tokens: int) -> None:
    """A closed-book question with an answer of exactly so many tokens, end tokens ignored."""
    from transformers import DynamicCache

    cache = DynamicCache()
    shown = torch.tensor([list(ids)], device=backbone.device)
    for _ in range(tokens):
        out = backbone.model(input_ids=shown, past_key_values=cache, use_cache=True, logits_to_keep=1)
        shown = out.logits[:, -1].argmax(-1, keepdim=True)


def measure_share(
    report: Report, backbone: Backbone, calibration: Calibration, batches: Sequence[IndexBatch], rows: Rows
) -> None:
    """Routing among 5,000 rows against a closed-book question, taking turns, medians over five questions."""
    router = Router(calibration, RouteOptions())
    index = router.build(first_rows(batches, ROWS), processor_format())
    share, routing, closed, lengths = [], [], [], []
    for number in tracked(range(5), "timing"):
        texts = [r["question"] for r in rows[number * 20 : number * 20 + 20]]
        question = long_question(backbone, texts, PROMPT_TOKENS)
        ids = question_prompt(backbone, question).ids
        states = routing_states(backbone, question, calibration.layer)

        def route(states: torch.Tensor = states) -> None:
            router.route(index, calibration.project(states).cpu())

        def closed_book(ids: Sequence[int] = ids) -> None:
            closed_question(backbone, ids, ANSWER_TOKENS)

        taken = interleaved({"routing": route, "closed": closed_book}, 3)
        lengths.append(len(ids))
        routing.append(taken["routing"])
        closed.append(taken["closed"])
        share.append(taken["routing"] / taken["closed"])
    report.meta |= {"timed_rows": len(index), "timed_prompt_tokens": lengths}
    report.add(routing_share=median(share), routing_seconds=median(routing), closed_seconds=median(closed))


def main() -> None:
    """All sets, then the timing, then what is left with several neurons active."""
    asked = arguments(__doc__)
    report, data = Report(asked), data_folder(asked.data)
    backbone = load_backbone()
    calibration = load_calibration(backbone)
    report.meta |= {"model": backbone.name, "dtype": str(backbone.dtype)}
    if asked.quick:
        report.note(f"quick: the first {QUICK_QUESTIONS} questions of each file, and only their passages")
    batches, told = [], []
    for stem in SETS:
        rows = read_rows(data, stem, QUICK_QUESTIONS if asked.quick else None)
        batch, line = measure_set(report, backbone, calibration, stem, rows)
        batches.append(batch)
        told.append(line)
    columns = ("set", "asked", "docs", "@1", "@5", "BM25@1", "BM25@5", "s each", "BM25 s")
    show("Recall (seconds include the question's own forward pass up to the routing layer)", columns, told)
    measure_share(report, backbone, calibration, batches, read_rows(data, "nq_open_oracle", 100))
    own = Report(asked)
    own.out = None
    measure_ours(own, backbone, companies(12 if asked.quick else 24, seed=asked.seed), asked.seed)
    report.add(**{name: own.figures[name] for name in ("own_exact", "four_active_kept", "two_right")})
    report.finish()


if __name__ == "__main__":
    main()
