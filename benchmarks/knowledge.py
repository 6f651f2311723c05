"""Knowledge: does a neuron know what its document says? Passages that no adapter was trained on, real questions.

For passages of SQuAD and of Natural Questions that nothing which ships learned from (`unseen`), every question
people asked about them: closed book, the passage in the prompt (of the plain backbone, and of the one with the task
adapter), the document's own neuron with nothing in the prompt, another document's neuron, random weights of the same
norm, and neuron and passage together. Neurons are forced, and all is done by `neurag eval`'s own code; 95 % intervals
are in the JSON's meta. Then the same questions to all neurons of the set at once, with their document there and without
(abstaining.py). Not here: larger collections, in which a document has to be found (quality.py).

    python benchmarks/knowledge.py [--quick] [--only PART ...] [--data DIR] [--json OUT]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from abstaining import ask as ask_twice
from abstaining import figures as told_figures
from abstaining import reliability
from common import (
    Report,
    arguments,
    by_hash,
    code_version,
    data_folder,
    gold_of,
    passages_of,
    read_rows,
    show,
    unseen,
    write_rows,
)
from errors import KINDS, how_wrong
from neurag.app.progress import EncodeProgress
from neurag.backbone import Backbone
from neurag.config import BASE_MODEL, AugmentOptions, EncodeOptions
from neurag.evaluation.collection import collect, open_bank
from neurag.evaluation.data import Row
from neurag.evaluation.data import read_rows as read
from neurag.evaluation.metrics import match
from neurag.evaluation.report import verdicts
from neurag.evaluation.results import Result
from neurag.knowledge.augmentation import augment
from neurag.knowledge.documents import Document, chunk_document
from neurag.knowledge.pipeline import encode
from neurag.loading import load_backbone
from neurag.model import Model
from quality import ask_all, own_cache

SETS = ("squad_same_article", "nq_open_oracle")
PARTS = (*SETS, "long")
NAMES = {
    "closed": "closed", "rag-oracle": "prompt_reader", "neurag-oracle": "own", "neurag-oracle-greedy": "own_greedy",
    "neurag-wrong": "wrong", "neurag-random": "random", "hybrid-oracle": "hybrid",
}  # fmt: skip
"""Figures by system, of the backbone with the task adapter."""
PLAIN = {"closed": "closed_plain", "rag-oracle": "prompt_plain"}
FULL, QUICK, PRECISE = 200, 12, 50
"""Passages of a set, and how many of them are encoded in float16 once more."""
LONG, TITLES = 3000, 3
"""Words of a long document, at least, and how many there are."""


def answered(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows about one unseen passage that answers them, with that passage only."""
    for row in rows:
        gold = gold_of(row)
        if len(gold) == 1 and unseen(gold[0]) and match(gold[0]["text"], row["answers"]):
            yield {**row, "docs": gold}


def passages(folder: Path, stem: str, count: int, first: int = 0) -> list[dict[str, Any]]:
    """Rows about `count` unseen passages, in the order of their ids' hashes, with the gold passage only."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in answered(read_rows(folder, stem)):
        found.setdefault(row["docs"][0]["id"], []).append(row)
    taken = by_hash(found)[first : first + count]
    return [row for name in taken for row in found[name]]


def documents_of(rows: Sequence[Mapping[str, Any]]) -> list[Document]:
    """The passages of the rows, each once."""
    return [Document(doc["text"], name, doc["title"]) for name, doc in passages_of(rows).items()]


def ask(report: Report, backbone: Backbone, data: Path, names: Mapping[str, str], stem: str) -> Result:
    """Ask the systems and record match, EM and F1 under their names."""
    result = ask_all(backbone, data, names, report.meta["seed"])
    for system, name in names.items():
        told = result.systems[system]
        report.meta["intervals"][f"{name}_{stem}"] = [told.match_low, told.match_high]
        report.meta["others"][f"{name}_{stem}"] = {"em": told.em, "f1": told.f1, "words": told.answer_words}
        report.add(**{f"{name}_{stem}": told.match})
    return result


def coverage(report: Report, backbone: Backbone, rows: Sequence[Mapping[str, Any]], stem: str) -> None:
    """What may be asked, and what people asked, that the lessons answer (they are in the cache)."""
    texts: dict[str, list[str]] = {}
    shares = []
    for document in documents_of(rows):
        chunks = chunk_document(document, backbone.count_tokens, EncodeOptions().chunk_tokens)
        made = augment(backbone, chunks, AugmentOptions())
        texts[document.id] = [answer for one in made for _, answer in (*one.questions, *one.echoes)]
        shares += [one.coverage for one in made]
    asked = [any(match(told, row["answers"]) for told in texts[row["docs"][0]["id"]]) for row in rows]
    report.add(**{f"coverage_{stem}": sum(shares) / len(shares), f"asked_covered_{stem}": sum(asked) / len(asked)})


def int8_loss(
    report: Report, backbone: Backbone, data: Path, rows: Sequence[Mapping[str, Any]], stored: Result
) -> None:
    """Match of the first passages' neurons when they are kept in float16, less that of the same in int8."""
    names = set(list(passages_of(rows))[:PRECISE])
    first = [row for row in rows if row["docs"][0]["id"] in names]
    part = data.with_suffix(".float16.jsonl")
    write_rows(part, first)
    with EncodeProgress() as progress:
        precise = EncodeOptions(precision="float16")
        encode(documents_of(first), part.with_suffix(".bank"), options=precise, progress=progress, backbone=backbone)
    result = ask_all(backbone, part, ("neurag-oracle",), report.meta["seed"], part.with_suffix(".bank"))
    own = [one.correct for one in stored.answers if one.system == "neurag-oracle"][: len(first)]
    loss = (result.systems["neurag-oracle"].match or 0.0) - sum(map(bool, own)) / len(own)
    report.add(**{f"int8_loss_{data.stem}": loss})


def with_and_without(report: Report, backbone: Backbone, rows: Sequence[Mapping[str, Any]], data: Path) -> None:
    """What a bank of all the passages answers, and whether it knows when it cannot."""
    bank, _ = open_bank(collect([one for one in read(data) if isinstance(one, Row)], backbone), backbone)
    told = ask_twice(Model(backbone, bank), rows)
    report.meta["reliability"][data.stem] = reliability(told)
    report.add(**{f"{name}_{data.stem}": value for name, value in told_figures(told).items()})


def wrong_answers(result: Result, rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How the own neurons' wrong answers are wrong: counts by kind."""
    own = (one for one in result.answers if one.system == "neurag-oracle")
    told = [
        how_wrong(one.answer, row["answers"], row["docs"][0]["text"])
        for one, row in zip(own, rows, strict=True)
        if not one.correct
    ]
    return {kind: told.count(kind) for kind in KINDS}


def long_documents(rows: Iterable[Mapping[str, Any]], titles: int) -> list[list[dict[str, Any]]]:
    """Of the titles with `LONG` words, the first few by hash: the rows about their passages, up to that length."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in answered(rows):
        doc = row["docs"][0]
        found.setdefault(doc["title"], {}).setdefault(doc["id"], []).append(row)
    made = []
    for title in by_hash(found):
        words, taken = 0, []
        for about in found[title].values():
            if words < LONG:
                words += len(about[0]["docs"][0]["text"].split())
                taken += about
        if words >= LONG:
            made.append(taken)
    return made[:titles]


def joined(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same rows, each with one document that holds the passages of all."""
    documents = documents_of(rows)
    text = "\n\n".join(document.text for document in documents)
    doc = {"id": f"long {documents[0].id}", "title": documents[0].title, "text": text, "relevant": True}
    return [{**row, "docs": [doc]} for row in rows]


def ask_long(report: Report, backbone: Backbone, folder: Path, cache: Path) -> None:
    """Questions about the passages of long documents: of each passage's own neuron, and of the whole document's."""
    groups = long_documents(read_rows(folder, SETS[0]), TITLES)
    if not groups:
        report.note(f"no held-out title has {LONG} words: nothing was asked of long documents")
        return
    for name, rows in {
        "long_own": [row for group in groups for row in group],
        "long": [row for group in groups for row in joined(group)],
    }.items():
        data = cache / f"{name}.jsonl"
        write_rows(data, rows)
        ask(report, backbone, data, {"neurag-oracle": name}, SETS[0])


def measure(report: Report, plain: Backbone, reader: Backbone, rows: Sequence[Mapping[str, Any]], data: Path) -> None:
    """All figures of one set."""
    stem = data.stem
    write_rows(data, rows)
    ask(report, plain, data, PLAIN, stem)
    result = ask(report, reader, data, NAMES, stem)
    documents, seconds = result.meta["documents"], result.meta["encode_seconds"]
    words = sum(len(document.text.split()) for document in documents_of(rows))
    coverage(report, reader, rows, stem)
    report.meta["wrong"][stem] = wrong_answers(result, rows)
    with_and_without(report, reader, rows, data)
    int8_loss(report, reader, data, rows, result)
    report.meta["sets"][stem] = {"questions": len(rows), "documents": documents, "words": words, "seconds": seconds}
    report.meta["verdicts"][stem] = verdicts(result)
    report.add(**{
        f"pipeline_documents_per_second_{stem}": words / 100 / seconds,
        f"bytes_per_document_{stem}": result.meta["bytes_per_document"],
    })  # fmt: skip


def main() -> None:
    """Both sets and long documents, or the parts asked for."""
    asked = arguments(__doc__, only=PARTS)
    parts = asked.only or (SETS if asked.quick else PARTS)
    report, folder = Report(asked), data_folder(asked.data)
    plain, reader = load_backbone(BASE_MODEL), load_backbone()
    report.meta |= {"model": reader.name, "intervals": {}, "others": {}, "sets": {}, "verdicts": {}, "wrong": {}}
    report.meta["reliability"] = {}
    report.note("a document is 100 words in pipeline_documents_per_second")
    with own_cache(reader, f"knowledge-{'quick' if asked.quick else 'full'}-{code_version()}") as cache:
        for stem in [stem for stem in SETS if stem in parts]:
            rows = passages(folder, stem, QUICK if asked.quick else FULL)
            measure(report, plain, reader, rows, cache / f"{stem}.jsonl")
            told = [(n, report.figures[f"{n}_{stem}"]) for n in (*PLAIN.values(), *NAMES.values())]
            show(f"{stem}, {len(rows)} questions", ("system", "match"), told)
        if "long" in parts:
            ask_long(report, reader, folder, cache)
    report.finish()


if __name__ == "__main__":
    main()
