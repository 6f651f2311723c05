"""The Hyper-Layer's retrieval: which documents a question finds, with trained routing, untrained, BM25 and MiniLM.

Real questions whose gold documents routing was not trained on (`held_out` titles; no row of PopQA and 2Wiki was), each
set over a bank of its own passages, gold ones and hard negatives, filled up with passages of a large Wikipedia
corpus. A bank row is a chunk of at most 160 tokens; a document counts at its best chunk. All four systems rank the same
documents:

- neurag: the router as it ships, with the trained projection; untrained: the same router with the whitening instead;
- bm25: stemmed, over title and text; minilm: all-MiniLM-L6-v2, over title and text (it reads 256 word pieces).

recall_at_{1,5}_SET_SYSTEM is the share of a question's gold documents among the first, at the largest bank measured;
those of smaller banks are in the JSON's meta. Keys are computed once (shown) and cached. Not here: answers.
null_auc_SET: how often the best row's score is higher with a question's gold documents in the bank than the best of
another question without its own; null_f1: F1 of telling the latter, all sets pooled, by a threshold that was picked on
the other half of the questions. What the null score can know from routing alone.

    python benchmarks/hyper_layer.py [--quick] [--data DIR] [--json OUT]
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from torch import Tensor

from common import Report, arguments, data_folder, gold_of, held_out, passages_of, read_rows, recall_at, show, tracked
from neurag.backbone import Backbone, cache_folder, processor_format
from neurag.config import RouteOptions
from neurag.hyper_layer.routing import Routed, Router, RoutingIndex
from neurag.knowledge.calibration import Calibration, load_calibration
from neurag.knowledge.documents import Chunk
from neurag.knowledge.embedding import Embedded, dense_encoder
from neurag.knowledge.keys import keys_of, keys_version, read_chunks
from neurag.knowledge.retrieval import Passages
from neurag.knowledge.states import span_states
from neurag.loading import load_backbone
from neurag.prompts import question_prompt
from null import auc, crossed_f1
from routing import GROUP, chunks_of, distinct, index_batch

SETS = ("popqa", "squad_same_article", "nq_open_oracle", "ragbench_nq_tqa_webq", "hotpotqa", "2wikimultihopqa")
UNTRAINED_SETS = ("popqa", "2wikimultihopqa")
"""No row of these was trained on: all their questions may be asked."""
CORPUS = "text_wiki_passages"
FOUND = 12
"""Rows that are ranked, so that five documents are among them."""


@dataclass(frozen=True)
class Size:
    """Questions of a set, and sizes of its bank in documents."""

    questions: int
    banks: tuple[int, ...]


FULL, QUICK = Size(100, (1000, 10_000)), Size(40, (300,))
Found = list[list[str]]
Rows = Sequence[tuple[str, str, str, str]]
Keys = dict[str, list[tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class Asked:
    """Questions of a set, and the passages of their rows: what a bank begins with."""

    stem: str
    questions: list[str]
    gold: list[set[str]]
    own: dict[str, Mapping[str, Any]]


def asked_of(folder: Path, stem: str, count: int) -> Asked:
    """Rows whose gold documents nothing was trained on; of HotpotQA, with few such, one of two is enough."""
    enough = any if stem == "hotpotqa" else all
    free = stem in UNTRAINED_SETS
    rows = [
        row
        for row in read_rows(folder, stem)
        if (gold := gold_of(row)) and (free or enough(held_out(doc["title"]) for doc in gold))
    ][:count]
    gold = [{doc["id"] for doc in gold_of(row)} for row in rows]
    return Asked(stem, [row["question"] for row in rows], gold, passages_of(rows))


def filled(asked: Asked, corpus: Sequence[Mapping[str, Any]], size: int) -> dict[str, Mapping[str, Any]]:
    """The passages of a bank of `size` documents, or of all of the set's own if they are more."""
    bank = dict(asked.own)
    for doc in corpus:
        if len(bank) >= size:
            break
        bank.setdefault(doc["id"], doc)
    return bank


def all_keys(backbone: Backbone, calibrations: Mapping[str, Calibration], chunks: Sequence[Chunk]) -> Keys:
    """Keys of every chunk by system, read once for all systems; by file out of the cache."""
    made: Keys = {name: [] for name in calibrations}
    groups = [chunks[at : at + 64 * GROUP] for at in range(0, len(chunks), 64 * GROUP)]
    for group in tracked(groups, "keys"):
        for name, found in keys_of_group(backbone, calibrations, group).items():
            made[name] += found
    return made


def keys_of_group(backbone: Backbone, calibrations: Mapping[str, Calibration], group: Sequence[Chunk]) -> Keys:
    """One file of the cache for each system."""
    told = "".join(chunk.content_hash for chunk in group)
    paths = {}
    for name, calibration in calibrations.items():
        key = hashlib.sha256(f"{keys_version(calibration)}{told}".encode()).hexdigest()[:16]
        paths[name] = cache_folder() / "benchmarks" / f"keys-{key}.npz"
    if not all(path.exists() for path in paths.values()):
        made: Keys = {name: [] for name in calibrations}
        for layer in {calibration.layer for calibration in calibrations.values()}:
            sharing = {name: one for name, one in calibrations.items() if one.layer == layer}
            for at in range(0, len(group), GROUP):
                texts = [(chunk.document.title, chunk.text) for chunk in group[at : at + GROUP]]
                for states, positions in read_chunks(backbone, layer, texts):
                    for name, calibration in sharing.items():
                        made[name].append(keys_of(calibration, states, positions))
        for name, path in paths.items():
            save_keys(path, made[name])
    return {name: load_keys(path) for name, path in paths.items()}


def save_keys(path: Path, made: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write aside, then swap in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{os.getpid()}-{path.name}")
    lengths = np.array([len(positions) for _, positions in made], np.int64)
    keys, positions = (np.concatenate([one[part] for one in made]) for part in (0, 1))
    np.savez(aside, lengths=lengths, keys=keys, positions=positions)
    aside.replace(path)


def load_keys(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """What `save_keys` wrote."""
    with np.load(path) as stored:
        cuts = np.cumsum(stored["lengths"])[:-1]
        return list(zip(np.split(stored["keys"], cuts), np.split(stored["positions"], cuts), strict=True))


@dataclass(frozen=True)
class Bench:
    """What all sets and sizes share: every chunk of every bank, by row number."""

    calibrations: Mapping[str, Calibration]
    owners: list[str]
    """Document of each row."""
    keys: Keys
    corpus: Sequence[Mapping[str, Any]]
    encoder: Any

    @cached_property
    def rows_of(self) -> dict[str, list[int]]:
        """Rows of each document."""
        rows: dict[str, list[int]] = {}
        for row, owner in enumerate(self.owners):
            rows.setdefault(owner, []).append(row)
        return rows


def laid_out(
    calibration: Calibration, owners: Sequence[str], keys: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[Router, RoutingIndex]:
    """A router, and what it searches: rows that have these keys and belong to these documents."""
    lengths = np.array([len(positions) for _, positions in keys], np.int64)
    batch = index_batch(owners, lengths, *(np.concatenate([one[part] for one in keys]) for part in (0, 1)))
    router = Router(calibration, RouteOptions(top_k=FOUND))
    return router, router.build([batch], processor_format())


def found_by(index: RoutingIndex, routed: Iterable[Routed]) -> Found:
    """The first documents of each choice of rows."""
    return [distinct((index.document_ids[row] for row in one.rows), 5) for one in routed]


def searched(
    made: Callable[[Sequence[tuple[str, str, str, str]]], Any], bank: Mapping[str, Any], asked: Asked
) -> Found:
    """Documents found by a search over titles and texts."""
    index = made([(name, name, doc["title"], doc["text"]) for name, doc in bank.items()])
    return [[passage.id for passage in index.search(question, 5)] for question in asked.questions]


def without_gold(
    router: Router, index: RoutingIndex, states: Sequence[Tensor], gold: Sequence[set[str]]
) -> list[Routed]:
    """The choice for every question where its gold documents are not in the bank."""
    seen = (np.array([document not in own for document in index.document_ids]) for own in gold)
    return [router.route(index, one, allowed, top_k=1) for one, allowed in zip(states, seen, strict=True)]


def best_scores(routed: Iterable[Routed]) -> list[float]:
    """Score of the best row of each choice."""
    return [max(one.scores, default=0.0) for one in routed]


def recalls(found: Mapping[str, Found], asked: Asked) -> dict[str, float]:
    """recall_at_{1,5}_SET_SYSTEM."""
    return {
        f"recall_at_{k}_{asked.stem}_{name}": mean(map(lambda r, g: recall_at(r, g, k), told, asked.gold))
        for name, told in found.items()
        for k in (1, 5)
    }


def compare(report: Report, bench: Bench, size: int, sets: Sequence[tuple[Asked, Sequence[Tensor]]]) -> None:
    """All sets over banks of one size."""
    table: list[tuple[object, ...]] = []
    present: list[float] = []
    absent: list[float] = []
    for one, raw in sets:
        bank = filled(one, bench.corpus, size)
        rows = [row for document in bank for row in bench.rows_of[document]]
        found: dict[str, Found] = {}
        for name, calibration in bench.calibrations.items():
            keys = [bench.keys[name][row] for row in rows]
            router, index = laid_out(calibration, [bench.owners[row] for row in rows], keys)
            states = [calibration.project(x).cpu() for x in raw]
            routed = [router.route(index, question) for question in states]
            found[name] = found_by(index, routed)
            if name == "neurag":
                here = best_scores(routed), best_scores(without_gold(router, index, states, one.gold))
        found |= {"bm25": searched(Passages, bank, one)}
        found |= {"minilm": searched(lambda told: Embedded(told, bench.encoder), bank, one)}
        figures = recalls(found, one) | {f"null_auc_{one.stem}": auc(*here)}
        present, absent = [*present, *here[0]], [*absent, *here[1]]
        report.meta["by_bank"].setdefault(str(size), {}).update(figures)
        report.meta.setdefault("sets", {})[one.stem] = {"questions": len(one.questions), "own": len(one.own)}
        report.add(**figures)
        table.append((one.stem, len(one.questions), len(bank), *figures.values()))
    report.add(null_f1=crossed_f1(present, absent))
    columns = ("set", "asked", "docs", *(f"{name}@{k}" for name in found for k in (1, 5)), "null AUC")
    show(f"Recall, {size:,} documents", columns, table)


def main() -> None:
    """Keys of all banks, then set by set."""
    asked = arguments(__doc__)
    report, folder, size = Report(asked), data_folder(asked.data), QUICK if asked.quick else FULL
    backbone = load_backbone()
    trained = load_calibration(backbone)
    calibrations = {"neurag": trained, "untrained": load_calibration(replace(backbone, routing=None))}
    sets = [asked_of(folder, stem, size.questions) for stem in SETS]
    corpus = read_rows(folder, CORPUS, 2 * max(size.banks))
    docs = {name: doc for one in sets for name, doc in filled(one, corpus, max(size.banks)).items()}
    report.meta |= {"model": backbone.name, "documents": len(docs), "banks": list(size.banks), "by_bank": {}}
    begun = time.perf_counter()
    chunks = chunks_of(backbone, docs.values())
    keys = all_keys(backbone, calibrations, chunks)
    report.meta["key_seconds"] = round(time.perf_counter() - begun, 1)
    bench = Bench(calibrations, [chunk.document.id for chunk in chunks], keys, corpus, dense_encoder())
    told = [
        (one, list(span_states(backbone, [question_prompt(backbone, q) for q in one.questions], trained.layer)))
        for one in sets
    ]
    for bank_size in size.banks:
        compare(report, bench, bank_size, told)
    report.finish()


if __name__ == "__main__":
    main()
