"""Answering: time to the first token, whole time and prompt length with a bank of 5,000 rows.

Systems: closed book, RAG (BM25, five passages of 100 words pasted), NeuRAG, hybrid (both), NeuRAG with weighed answers,
one question after the other with the systems taking turns. The rows have real passages of Natural Questions and
HotpotQA as texts and real routing keys; the neurons are random numbers of a trained neuron's size, because their values
cost no time. So nothing about right answers is measured here (`neurag demo` and `neurag eval` do that).
The clock of an answer starts with the question: BM25's search and the look whether the bank has changed count, and
reading the bank's index does not, since every system is asked once before. The first round, in which a question's
neurons have to be read from the bank, is told apart (cold) and counts in no other figure.

    python benchmarks/answer.py [--quick] [--data DIR] [--json OUT]
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from common import Report, arguments, data_folder, passages_of, read_rows, show, tracked
from neurag.backbone import Backbone, cache_folder
from neurag.config import AnswerOptions, EncodeOptions, Mode
from neurag.knowledge.bank import Bank, Manifest, NeuronRow
from neurag.knowledge.calibration import Calibration, load_calibration
from neurag.knowledge.documents import Chunk, Document, chunk_document
from neurag.knowledge.keys import chunk_keys
from neurag.knowledge.spaces import manifest_of, new_space
from neurag.loading import load_backbone
from neurag.model import Model

ROWS, QUICK_REAL, PER_WRITE = 5000, 500, 250
FORMAT = "1"
NEURON_SIZE = 0.2
"""Root mean square of a trained B, near enough: its values do not change the time."""
JITTER = 0.03
"""Noise on a copied key (a unit vector), in each of its numbers."""
MODES: tuple[Mode, ...] = ("closed", "rag", "neurag", "hybrid")
WEIGHED = "neurag weighed"
ASKED = AnswerOptions(passages=5, max_new_tokens=16)
SYSTEMS = {**{mode: replace(ASKED, mode=mode, weigh=False) for mode in MODES}, WEIGHED: ASKED}
"""All but the last stream the likeliest answer, so their first token is known."""


def corpus(backbone: Backbone, data: Path, options: EncodeOptions) -> list[Chunk]:
    """The first ROWS chunks of the passages of nq_open_oracle, then hotpotqa."""
    chunks: list[Chunk] = []
    for stem in ("nq_open_oracle", "hotpotqa"):
        for doc in tracked(list(passages_of(read_rows(data, stem)).values()), f"reading {stem}"):
            if len(chunks) >= ROWS:
                return chunks[:ROWS]
            document = Document(doc["text"], f"{stem}-{doc['id']}", doc["title"])
            chunks += chunk_document(document, backbone.count_tokens, options.chunk_tokens)
    return chunks


def find_bank(backbone: Backbone, data: Path, quick: bool) -> tuple[Path, int]:
    """The bank and how many of its rows have their own keys; built where there is none (minutes)."""
    options, calibration = EncodeOptions(), load_calibration(backbone)
    manifest = manifest_of(backbone, calibration, new_space(backbone, calibration, options), options)
    told = f"{FORMAT} {manifest} {options.chunk_tokens} {ROWS} {PER_WRITE}"
    key = hashlib.sha256(told.encode()).hexdigest()[:12]
    folder = cache_folder() / "benchmarks"
    whole, part = folder / f"answer-{key}.bank", folder / f"answer-{key}-quick.bank"
    for path, real in ((whole, ROWS), (part, QUICK_REAL)):
        if (real == ROWS or quick) and (path / "bank.json").exists() and len(Bank.open(path)) == ROWS:
            return path, real
    path, real = (part, QUICK_REAL) if quick else (whole, ROWS)
    folder.mkdir(parents=True, exist_ok=True)
    build(Bank.create(path, manifest), backbone, calibration, corpus(backbone, data, options), real)
    return path, real


def build(bank: Bank, backbone: Backbone, calibration: Calibration, chunks: Sequence[Chunk], real: int) -> None:
    """Write the rows, PER_WRITE in one transaction; a run that was stopped goes on where it was."""
    known = bank.known()
    templates: list[tuple[np.ndarray, np.ndarray]] = []
    for first in tracked(range(0, len(chunks), PER_WRITE), "building the bank"):
        group = chunks[first : first + PER_WRITE]
        if all(c.id in known for c in group):
            if first < real < len(chunks):
                found = {r.id: r for c in group for r in bank.get(c.document.id)}
                templates += [(found[c.id].keys, found[c.id].positions) for c in group]
            continue
        rng, rows = np.random.default_rng(first), []
        told = [(chunk.document.title, chunk.text) for chunk in group[: max(0, real - first)]]
        made = chunk_keys(backbone, calibration, told)
        for number, chunk in enumerate(group, first):
            if number < real:
                keys = next(made)
                templates += [keys] if real < len(chunks) else []
            else:
                keys = jittered(*templates[number % len(templates)], rng)
            rows.append(synthetic_row(chunk, bank.manifest, keys, rng))
        bank.add(rows)
    bank.compact()


def jittered(keys: np.ndarray, positions: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A copy of a row's keys with noise, unit vectors again."""
    noisy = keys.astype(np.float32) + rng.normal(0, JITTER, keys.shape).astype(np.float32)
    return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float16), positions


def synthetic_row(
    chunk: Chunk, manifest: Manifest, keys: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
) -> NeuronRow:
    """A row with the chunk's text, the given keys, and random numbers for a neuron."""
    scales = len(manifest.layers) * manifest.rank
    neuron = rng.normal(0, 40, scales * manifest.width).clip(-127, 127).astype(np.int8)
    return NeuronRow(
        id=chunk.id, document_id=chunk.document.id, chunk_index=chunk.index, title=chunk.document.title,
        text=chunk.text, start=chunk.start, end=chunk.end, source="", timestamp="", trust=None, labels=(),
        metadata={}, content_hash=chunk.content_hash, recipe="benchmark", keys=keys[0], positions=keys[1],
        neuron=neuron, scale=np.full(scales, NEURON_SIZE / 40, np.float32),
    )  # fmt: skip


class Log:
    """What every answer took: [system][question][repeat] of each quantity."""

    def __init__(self, systems: Sequence[str], questions: int) -> None:
        self.taken: dict[str, list[list[dict[str, float]]]] = {s: [[] for _ in range(questions)] for s in systems}

    def value(self, system: str, quantity: str, cold: bool = False) -> float:
        """Median over questions of the median over the rounds after the first, or of the first alone."""
        told = [median(x[quantity] for x in (each[:1] if cold else each[1:])) for each in self.taken[system]]
        return float(median(told))


def ask_all(model: Model, questions: Sequence[str], repeats: int) -> Log:
    """Every question to every system in turn, the turns reversed every second round."""
    log = Log(list(SYSTEMS), len(questions))
    for options in SYSTEMS.values():  # warm up: indexes are built here
        model.answer("Which river runs through the old town?", options)
    for repeat in tracked(range(repeats), "asking, rounds"):
        for number, question in enumerate(questions):
            for name in list(SYSTEMS)[:: 1 if repeat % 2 == 0 else -1]:
                start = time.perf_counter()
                answer = model.answer(question, SYSTEMS[name])
                wall, timing = time.perf_counter() - start, answer.timing
                log.taken[name][number].append(
                    {
                        "first_token_s": timing.first_token_s, "total_s": timing.total_s, "wall_s": wall,
                        "routing_s": timing.routing_s, "prompt_tokens": timing.prompt_tokens,
                        "answer_tokens": model.backbone.count_tokens(answer.answer),
                    }
                )  # fmt: skip
    return log


def main() -> None:
    """Build or find the bank, ask, and print."""
    asked = arguments(__doc__)
    report, data = Report(asked), data_folder(asked.data)
    backbone = load_backbone()
    count, repeats = (8, 3) if asked.quick else (20, 4)
    path, real = find_bank(backbone, data, asked.quick)
    report.meta |= {"model": backbone.name, "dtype": str(backbone.dtype)}
    report.meta |= {"rows": ROWS, "rows_with_own_keys": real, "questions": count, "repeats": repeats}
    report.note("the neurons are random numbers, so the answers mean nothing; only times are measured")
    report.note("random neurons are sure of nothing: weighed answers have all five branches and all 16 tokens here")
    if real < ROWS:
        report.note(
            f"quick: {real} rows have their own keys, the other {ROWS - real} have real texts with copies of "
            "those keys, jittered; the full run gives every row its own"
        )
    questions = [row["question"] for row in read_rows(data, "nq_open_oracle", count)]
    log = ask_all(Model.load(bank=path, backbone=backbone), questions, repeats)
    quantities = ("first_token_s", "routing_s", "total_s", "wall_s", "prompt_tokens", "answer_tokens")
    told = [(name, *(log.value(name, q) for q in quantities)) for name in log.taken]
    columns = ("system", "first s", "routing s", "total s", "wall s", "prompt", "answer")
    show(f"Medians, {count} questions, {repeats} rounds (seconds and tokens)", columns, told)
    report.meta["medians"] = {row[0]: dict(zip(quantities, row[1:], strict=True)) for row in told}
    first, total = ({m: log.value(m, q) for m in MODES} for q in ("first_token_s", "total_s"))
    cold = {m: log.value(m, "first_token_s", cold=True) for m in MODES}
    report.add(
        first_token_vs_closed=first["neurag"] / first["closed"],
        first_token_vs_rag5=first["neurag"] / first["rag"],
        total_vs_rag5=total["neurag"] / total["rag"],
        total_weighed_vs_rag5=log.value(WEIGHED, "total_s") / total["rag"],
        first_token_vs_closed_cold=cold["neurag"] / cold["closed"],
        first_token_hybrid_vs_rag5=first["hybrid"] / first["rag"],
    )
    report.note("cold: the first round, when a question's neurons have to be read from the bank; not in the others")
    report.finish()


if __name__ == "__main__":
    main()
