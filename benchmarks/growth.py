"""Growth: what a bank of 10,000 documents costs and loses beside one of ten.

Questions about held-out passages (knowledge.py) to banks of 10, 100, 1,000 and 10,000 documents. The passages' neurons
are real; the documents that fill a bank up have the real keys of other passages of Wikipedia and random numbers for a
neuron, so an answer for which one of these was chosen first counts as wrong. Answers are greedy: a filler that speaks
beside the right neuron disturbs it, but has no lessons that could be taken for an answer.
- match_SIZE: each question's own passage is in the bank, the others are the first of a fixed order; found_SIZE: its row
  was chosen first. kept_at_10000: match there over match at 100.
- time_10000_vs_10: a whole question whose document is in both banks, weighed, the banks taking turns.
- routing_share_10000: routing over a closed-book question of 64 tokens and 16 answer tokens.
- memory_10000_vs_10: peak memory of a process that answers, backbone included.
Not here: recall beside other retrievers (hyper_layer.py), the index beyond exact scoring (routing.py).

    python benchmarks/growth.py [--quick] [--passages N] [--data DIR] [--json OUT]
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from answer import PER_WRITE, synthetic_row
from common import (
    Report,
    arguments,
    code_version,
    data_folder,
    forget_peak,
    interleaved,
    passages_of,
    peak_memory,
    read_rows,
    show,
    tracked,
)
from hyper_layer import CORPUS
from knowledge import SETS, documents_of, passages
from neurag.backbone import Backbone
from neurag.evaluation.metrics import match
from neurag.knowledge.bank import Bank
from neurag.knowledge.calibration import bank_calibration
from neurag.knowledge.keys import chunk_keys
from neurag.loading import load_backbone
from neurag.model import Model
from neurag.prompts import question_prompt
from quality import encoded, own_cache
from routing import ANSWER_TOKENS, PROMPT_TOKENS, chunks_of, closed_question, long_question
from several import GREEDY

FULL, QUICK = 40, 8
"""Passages of each of SETS."""
SIZES, QUICK_SIZES = (10, 100, 1000, 10_000), (10, 100, 1000)
TIMED, ROUNDS, FEW = 20, 3, 10
"""Questions that are timed, rounds, and documents of the small bank, which these questions are about."""
ASKED = replace(GREEDY, weigh=True)
Rows = Sequence[Mapping[str, Any]]


def fill(bank: Bank, backbone: Backbone, corpus: Rows, size: int) -> None:
    """Add documents of the corpus until the bank has `size`; a run that was stopped goes on where it was."""
    calibration = bank_calibration(bank.path, backbone)
    held = {document.id for document in bank.documents()}
    fresh = {doc["id"]: doc for doc in corpus if doc["id"] not in held}
    chunks = chunks_of(backbone, list(fresh.values())[: max(0, size - len(held))])
    for first in tracked(range(0, len(chunks), PER_WRITE), "filling up, lots"):
        group, rng = chunks[first : first + PER_WRITE], np.random.default_rng(first)
        made = chunk_keys(backbone, calibration, [(chunk.document.title, chunk.text) for chunk in group])
        bank.add([synthetic_row(chunk, bank.manifest, keys, rng) for chunk, keys in zip(group, made, strict=True)])
    bank.compact()


def ask(report: Report, model: Model, rows: Rows, real: int, sizes: Sequence[int]) -> None:
    """Every question to its own passage among others, as many as a bank of each size has."""
    assert model.bank is not None
    names = [document.id for document in model.bank.documents()]
    fillers = set(names) - set(passages_of(rows))
    order = sorted(names, key=lambda name: (name in fillers, name))  # real neurons first, as many as there are
    table = []
    for size in sizes:
        options = []
        for row in rows:
            others = [name for name in order if name != row["docs"][0]["id"]]
            options.append(replace(GREEDY, without=tuple(others[size - 1 :])))
        answers = model.answers([row["question"] for row in rows], options)
        told = list(zip(tracked(rows, f"among {size:,}"), answers, strict=True))
        first = [answer.neurons[0].doc_id if answer.neurons else "" for _, answer in told]
        right = [
            name not in fillers and bool(match(answer.answer, row["answers"]))
            for name, (row, answer) in zip(first, told, strict=True)
        ]
        found = [name == row["docs"][0]["id"] for name, (row, _) in zip(first, told, strict=True)]
        report.add(**{f"match_{size}": fmean(right), f"found_{size}": fmean(found)})
        table.append((size, report.figures[f"match_{size}"], report.figures[f"found_{size}"]))
    show(f"{len(rows)} questions, {real} real neurons", ("documents", "match", "own first"), table)
    if report.figures["match_100"]:
        report.add(**{f"kept_at_{sizes[-1]}": report.figures[f"match_{sizes[-1]}"] / report.figures["match_100"]})


def timed(report: Report, small: Model, large: Model, questions: Sequence[str], size: int) -> None:
    """Both banks in turn, and routing in the large one against a closed-book question."""
    ratios, routing, closed = [], [], []
    for question in questions[:TIMED]:
        seconds = interleaved(
            {"small": lambda q=question: small.answer(q, ASKED), "large": lambda q=question: large.answer(q, ASKED)},
            ROUNDS,
        )
        ratios.append(seconds["large"] / seconds["small"])
    for at in range(0, 100, 20):
        text = long_question(large.backbone, questions[at % len(questions) :] + questions, PROMPT_TOKENS)
        routing.append(large.answer(text, GREEDY).timing.routing_s)
        start = time.perf_counter()
        closed_question(large.backbone, question_prompt(large.backbone, text).ids, ANSWER_TOKENS)
        closed.append(time.perf_counter() - start)
    report.add(**{f"time_{size}_vs_10": median(ratios), f"routing_share_{size}": median(routing) / median(closed)})


def peak(bank: str, questions: Sequence[str]) -> int:
    """Bytes that a process of its own held at most while it answered."""
    model = Model.load(bank=bank)
    forget_peak()
    for question in questions:
        model.answer(question, ASKED)
    return peak_memory()


def alone(bank: Path, questions: Sequence[str]) -> int:
    """`peak` in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak, (str(bank), list(questions)))


def main() -> None:
    """Encode, fill up, ask, time, and weigh."""
    asked = arguments(__doc__, count="passages")
    report, folder, backbone = Report(asked), data_folder(asked.data), load_backbone()
    count, sizes = asked.passages or (QUICK if asked.quick else FULL), QUICK_SIZES if asked.quick else SIZES
    rows = [row for stem in SETS for row in passages(folder, stem, count)]
    corpus = read_rows(folder, CORPUS, 2 * max(sizes))
    own = list(passages_of(rows))
    few = [row for row in rows if row["docs"][0]["id"] in own[:FEW]]
    questions = [row["question"] for row in few]
    report.meta |= {"model": backbone.name, "questions": len(rows), "sizes": sizes}
    with own_cache(backbone, f"growth-{count}-{max(sizes)}-{code_version()}") as cache:
        small = encoded(backbone, documents_of(few), cache / "small.bank")
        large = encoded(backbone, documents_of(rows), cache / "large.bank")
        assert large.bank is not None
        real = sum(document.chunks for document in large.bank.documents() if document.id in own)
        report.meta["real"] = real
        fill(large.bank, backbone, corpus, max(sizes))
        ask(report, large, rows, real, sizes)
        timed(report, small, large, questions, max(sizes))
        ratio = alone(cache / "large.bank", questions[:3]) / alone(cache / "small.bank", questions[:3])
        report.add(**{f"memory_{max(sizes)}_vs_10": ratio})
    report.finish()


if __name__ == "__main__":
    main()
