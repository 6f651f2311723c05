"""Steps: questions about two documents, answered in steps and at once, beside RAG; and what steps cost elsewhere.

As a user asks them, of a bank of all their documents:
- world: the pages of an invented cableway company (world/, in this folder), 24 questions about two of them (world_two)
  and 24 about one (world_one), by a language model that had not seen the rules by which questions are cut;
- public: questions about two documents (HotpotQA, 2WikiMultihopQA; several.py), and about one (SQuAD, Natural
  Questions; knowledge.py).

- match_SYSTEM_SET: `direct` is NeuRAG without steps, `steps` with them (the default), `rag` BM25's first five passages
  read at once by the backbone with the task adapter, `hybrid` passages and neurons with steps.
- taken_SET: questions that were answered in steps. gained, lost: questions that only the one or the other of steps and
  direct answers rightly, of all sets together. seconds_vs_direct: a question's time with steps over that without, the
  two taking turns.
Not here: single neurons of two documents at once (several.py).

    python benchmarks/steps.py [--quick] [--only PART ...] [--passages N] [--data DIR] [--json OUT]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from common import Report, arguments, code_version, data_folder, interleaved, passages_of, read_rows, show
from knowledge import FULL as READ_PASSAGES
from knowledge import SETS, documents_of, passages
from neurag.config import AnswerOptions
from neurag.evaluation.metrics import match
from neurag.loading import load_backbone
from neurag.model import Model
from quality import encoded, own_cache
from several import TWO, two_documents

PARTS = ("world", "public")
WORLD = Path(__file__).parent / "world"
FULL, QUICK = 50, 8
"""Questions of each of TWO, and passages of each of SETS."""
READ = 24
"""The first questions of each of TWO were read when the rules were written, and are not asked; nor are those about the
first READ_PASSAGES of each of SETS."""
TIMED = 6
"""Questions of each set that are timed."""
SYSTEMS: Mapping[str, AnswerOptions] = {
    "direct": AnswerOptions(chain=False),
    "steps": AnswerOptions(),
    "rag": AnswerOptions(mode="rag", passages=5),
    "hybrid": AnswerOptions(mode="hybrid", passages=5),
}
Rows = Sequence[Mapping[str, Any]]


def world() -> dict[str, Rows]:
    """The questions of the invented company by kind, each with the documents it needs."""
    docs = {doc["id"]: doc for doc in read_rows(WORLD, "documents")}
    rows = [{**row, "docs": [docs[name] for name in row["docs"]]} for row in read_rows(WORLD, "questions")]
    return {f"world_{kind}": [row for row in rows if row["type"] == kind] for kind in ("two", "one")}


def public(folder: Path, count: int) -> dict[str, Rows]:
    """The rows of each public set."""
    two: dict[str, Rows] = {stem: two_documents(folder, stem, READ + count)[READ:] for stem in TWO}
    return two | {stem: passages(folder, stem, count, READ_PASSAGES) for stem in SETS}


def measure(report: Report, model: Model, stem: str, rows: Rows) -> tuple[int, int]:
    """All systems on one set; how many questions steps gained and lost."""
    right = {}
    for name, options in SYSTEMS.items():
        told = list(model.answers([row["question"] for row in rows], options))
        right[name] = [bool(match(answer.answer, row["answers"])) for answer, row in zip(told, rows, strict=True)]
        report.add(**{f"match_{name}_{stem}": fmean(right[name])})
        if name == "steps":
            report.add(**{f"taken_{stem}": fmean(bool(answer.steps) for answer in told)})
    pairs = list(zip(right["steps"], right["direct"], strict=True))
    return sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)


def seconds(model: Model, asked: Sequence[str]) -> list[float]:
    """Each question's time with steps over that without."""
    ratios = []
    for question in asked:
        told = interleaved(
            {name: lambda q=question, n=name: model.answer(q, SYSTEMS[n]) for name in ("direct", "steps")}, 1
        )
        ratios.append(told["steps"] / told["direct"])
    return ratios


def main() -> None:
    """Encode, ask every system, and time, one bank after the other."""
    asked = arguments(__doc__, only=PARTS, count="passages")
    report, backbone = Report(asked), load_backbone()
    count, parts = asked.passages or (QUICK if asked.quick else FULL), asked.only or PARTS
    report.meta |= {"model": backbone.name, "documents": 0, "systems": list(SYSTEMS), "sets": {}}
    changes, ratios = [], []
    with own_cache(backbone, f"steps-{count}-{code_version()}") as cache:
        for part in parts:
            sets = world() if part == "world" else public(data_folder(asked.data), count)
            every = [row for rows in sets.values() for row in rows]
            model = encoded(backbone, documents_of(every), cache / f"{part}.bank")
            report.meta["documents"] += len(passages_of(every))
            report.meta["sets"] |= {stem: len(rows) for stem, rows in sets.items()}
            changes += [measure(report, model, stem, rows) for stem, rows in sets.items()]
            ratios += seconds(model, [row["question"] for rows in sets.values() for row in rows[:TIMED]])
    gained, lost = (sum(counts) for counts in zip(*changes, strict=True))
    report.add(gained=gained, lost=lost, seconds_vs_direct=median(ratios))
    told = report.meta["sets"]
    table = [(stem, *(report.figures[f"match_{name}_{stem}"] for name in SYSTEMS)) for stem in told]
    show(f"{sum(told.values())} questions", ("set", *SYSTEMS), table)
    report.finish()


if __name__ == "__main__":
    main()
