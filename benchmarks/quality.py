"""Quality: what is answered right, end to end, on questions people asked about passages of Wikipedia.

Each data set's first questions whose gold documents hold an accepted answer, over a collection of their documents
(gold ones first), by `neurag eval`'s own code: documents are cut, questions written, neurons trained, every system
asked, differences tested. match_SYSTEM_SET is the share of answers that hold an accepted one; its 95 % interval and
the verdicts are in the JSON's meta. Not here: times (answer.py), recall over whole files (routing.py).
Everything is made anew for the code as it is, beside the usual cache; a run that was stopped goes on where it was.

    python benchmarks/quality.py [--quick] [--data DIR] [--json OUT]
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import (
    Report,
    arguments,
    code_version,
    data_folder,
    find_rows,
    gold_of,
    read_rows,
    show,
    unseen,
    write_rows,
)
from neurag.app.progress import EncodeProgress, EvalProgress
from neurag.backbone import Backbone, cache_folder
from neurag.config import EvalOptions
from neurag.evaluation.metrics import match
from neurag.evaluation.report import verdicts
from neurag.evaluation.results import Result
from neurag.evaluation.run import evaluate
from neurag.evaluation.watch import Watch
from neurag.knowledge.calibration import load_calibration
from neurag.knowledge.documents import Document
from neurag.knowledge.pipeline import encode
from neurag.loading import load_backbone
from neurag.model import Model
from task_rows import FILES

SETS = ("nq_open_oracle", "popqa", "squad_same_article", "hotpotqa", "2wikimultihopqa", "ragbench_nq_tqa_webq")
SYSTEMS = ("closed", "rag-bm25", "rag-oracle", "neurag", "neurag-oracle", "neurag-wrong", "hybrid")
"""A verdict subtracts a system named earlier from one named later."""


@dataclass(frozen=True)
class Size:
    """How much is asked, of each set."""

    sets: tuple[str, ...]
    questions: int
    documents: int
    """Of the collection, at least: all gold documents are in it."""
    systems: tuple[str, ...]


QUICK = Size(SETS[:3], 12, 18, SYSTEMS)
FULL = Size(SETS, 100, 300, (*SYSTEMS[:3], "prag", *SYSTEMS[3:]))


def answerable(rows: Sequence[Mapping[str, Any]], count: int, clean: bool = False) -> list[Mapping[str, Any]]:
    """The first `count` rows with an accepted answer in one of their gold documents, as match would find it; `clean`:
    only those whose gold documents nothing learned from."""
    told = [row for row in rows if any(match(doc["text"], row["answers"]) for doc in gold_of(row))]
    return [row for row in told if not clean or all(map(unseen, gold_of(row)))][:count]


@contextmanager
def own_cache(backbone: Backbone, name: str) -> Iterator[Path]:
    """A cache for this run, so that no bank and no answer of other code is taken for this code's.

    It stays where the run is stopped, for the next one to go on, and is removed at the end.
    """
    load_calibration(backbone)  # is in the usual cache now, and is the same for all code
    folder = cache_folder() / "benchmarks" / name
    shutil.copytree(cache_folder() / "calibration", folder / "calibration", dirs_exist_ok=True)
    before = os.environ.get("NEURAG_CACHE")
    os.environ["NEURAG_CACHE"] = str(folder)
    try:
        yield folder
        shutil.rmtree(folder)
    finally:
        os.environ.pop("NEURAG_CACHE")
        if before is not None:
            os.environ["NEURAG_CACHE"] = before


def encoded(backbone: Backbone, documents: Iterable[Document], bank: Path) -> Model:
    """A model with a bank of these documents; a bank that was begun is gone on with."""
    with EncodeProgress() as progress:
        encode(documents, bank, progress=progress, backbone=backbone)
    return Model.load(bank=bank, backbone=backbone)


def ask_all(
    backbone: Backbone,
    data: Path,
    systems: Iterable[str],
    seed: int,
    bank: Path | None = None,
    documents: int | None = None,
) -> Result:
    """What the systems answer to the rows of a file, with progress; a bank is made where none is named, of as many of
    the rows' documents (None: of all)."""
    options = EvalOptions(systems=tuple(systems), documents=documents, timed=0, seed=seed)
    with EvalProgress() as progress:
        return evaluate(data, options, bank=bank, backbone=backbone, watch=Watch(progress, progress.asking))


def measure(
    report: Report, backbone: Backbone, folder: Path, stem: str, rows: Sequence[Mapping[str, Any]], size: Size
) -> Result:
    """Evaluate one set and record its figures."""
    data = folder / f"{stem}.jsonl"
    write_rows(data, rows)
    gold = {doc["id"] for row in rows for doc in gold_of(row)}
    documents = max(size.documents, len(gold))
    result = ask_all(backbone, data, size.systems, report.meta["seed"], documents=documents)
    told = {name: figures for name, figures in result.systems.items() if figures.match is not None}
    report.meta["intervals"] |= {f"match_{n}_{stem}": [f.match_low, f.match_high] for n, f in told.items()}
    report.meta["verdicts"][stem] = verdicts(result)
    report.meta["sets"][stem] = {
        "questions": len(rows), "documents": result.meta["documents"], "chunks": result.meta["chunks"],
        "encode_seconds": result.meta["encode_seconds"],
    }  # fmt: skip
    report.add(**{f"match_{n}_{stem}": f.match for n, f in told.items() if f.match is not None})
    return result


def main() -> None:
    """Every set there is a file of."""
    asked = arguments(__doc__)
    report, data = Report(asked), data_folder(asked.data)
    size = QUICK if asked.quick else FULL
    there = [stem for stem in size.sets if find_rows(data, stem)]
    if not there:
        raise SystemExit(f"none of {', '.join(size.sets)} is in {data} (docs/data.md says how to get them)")
    if missing := [stem for stem in size.sets if stem not in there]:
        report.note(f"left out, since there is no such file: {', '.join(missing)}")
    report.note("left out: questions whose gold documents hold no accepted answer, or are among what was trained on")
    backbone = load_backbone()
    report.meta |= {"model": backbone.name, "dtype": str(backbone.dtype), "systems": list(size.systems)}
    report.meta |= {"sets": {}, "intervals": {}, "verdicts": {}}
    with own_cache(backbone, f"quality-{'quick' if asked.quick else 'full'}-{code_version()}") as folder:
        for stem in there:
            rows = answerable(read_rows(data, stem), size.questions, clean=stem in FILES)
            result = measure(report, backbone, folder, stem, rows, size)
            told = [(name, figures.n, figures.match, figures.errors) for name, figures in result.systems.items()]
            show(f"{stem}, {result.meta['documents']} documents", ("system", "asked", "match", "failed"), told)
    report.finish()


if __name__ == "__main__":
    main()
