"""The harness: what `neurag eval` costs beside the model's own time, with a bank that is there already.

The rows are questions about invented companies with their documents; the bank is made before the clock starts. The
model's own time is what is spent inside `Model.answers` (ranking documents for recall among it, some milliseconds a
question); all else (reading rows, retrieval, judging, bootstrap, keeping answers) is overhead. Timed questions are off:
they would be model time only.

    python benchmarks/harness.py [--quick] [--json OUT]
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from common import Report, arguments
from invented import companies
from neurag.app.progress import EncodeProgress
from neurag.config import EvalOptions
from neurag.evaluation.run import evaluate
from neurag.evaluation.watch import Watch
from neurag.loading import load_backbone
from neurag.model import Model

SYSTEMS = ("closed", "rag-bm25", "neurag", "neurag-wrong")
ROWS, QUICK_ROWS, COMPANIES = 200, 48, 12


def write_rows(path: Path, count: int) -> None:
    """Rows in the format of docs/data.md, one for each gold pair of the companies, in turn."""
    told = companies(COMPANIES, seed=0)
    docs = [
        {"id": f"c{n}", "title": company.name, "text": company.text, "relevant": None} for n, company in enumerate(told)
    ]
    pairs = [(n, q, a) for n, company in enumerate(told) for q, a in (*company.ask, *company.learn)]
    rows = [
        {
            "id": f"r{i}",
            "question": q,
            "answers": [a],
            "docs": [docs[n] | {"relevant": True}, docs[(n + 1) % len(docs)]],
        }
        for i, (n, q, a) in enumerate(pairs[:count])
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")


@contextmanager
def timed_model(taken: list[float]) -> Iterator[None]:
    """Add up the seconds inside `Model.answers`."""
    answers = Model.answers

    def watched(self: Model, *args, **kwargs):
        told = answers(self, *args, **kwargs)
        while True:
            start = time.perf_counter()
            try:
                answer = next(told)
            except StopIteration:
                return
            finally:
                taken.append(time.perf_counter() - start)
            yield answer

    Model.answers = watched
    try:
        yield
    finally:
        Model.answers = answers


def main() -> None:
    """Evaluate once to make the bank, once more to measure."""
    asked = arguments(__doc__)
    report = Report(asked)
    backbone = load_backbone()
    count = QUICK_ROWS if asked.quick else ROWS
    report.meta |= {"model": backbone.name, "rows": count, "systems": list(SYSTEMS)}
    options = EvalOptions(systems=SYSTEMS, timed=0, seed=asked.seed)
    with TemporaryDirectory() as folder:
        os.environ["NEURAG_CACHE"] = str(Path(folder) / "cache")  # answers kept by an earlier run would cost nothing
        data = Path(folder) / "rows.jsonl"
        write_rows(data, count)
        # the same documents, so the same bank; other answers, so none of them is kept for the run that is measured
        with EncodeProgress() as progress:
            first = EvalOptions(systems=("neurag",), timed=0, max_new_tokens=1)
            evaluate(data, first, backbone=backbone, watch=Watch(progress))
        taken: list[float] = []
        start = time.perf_counter()
        with timed_model(taken):
            result = evaluate(data, options, backbone=backbone)
        whole = time.perf_counter() - start
    report.meta["match"] = {name: told.match for name, told in result.systems.items()}
    report.add(harness_overhead=(whole - sum(taken)) / sum(taken), seconds=whole, model_seconds=sum(taken))
    report.finish()


if __name__ == "__main__":
    main()
