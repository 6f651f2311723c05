"""Several neurons at once: what is left of the right one beside others, and what two right ones know together.

Questions about unseen passages (of two documents, one at least; of 2WikiMultihopQA no row was trained on). Answers are
the fused neurons' own: greedy, nothing weighed, nothing in the prompt.
- alone: match with the right document's neurons. kept_at_kK_RULE: with those of K - 1 other documents at 0.3 beside
  them, over that; kept_at_k4 is that of the default rule. The others are those that routing finds next, so the hardest
  there are. `sum`, `mean` and `dyprag` give weights of their own.
- two_first, two_second, two_both: questions of HotpotQA and 2WikiMultihopQA about two documents, with the neurons of
  either, and with both at 1; two_document_gain: both, less the better of these two shares. two_either: one of the two
  answers is right, which of them nobody tells.
- reroute_off, reroute_on: the same questions to all of these neurons, chosen by routing, without and with choosing
  again while the answer is written; reroute_gain: the difference.
Not here: finding documents (hyper_layer.py), and the encoder's own rehearsal (encode.py).

    python benchmarks/several.py [--quick] [--only PART ...] [--passages N] [--data DIR] [--json OUT]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from common import Report, arguments, code_version, data_folder, gold_of, passages_of, read_rows, show, unseen
from hyper_layer import UNTRAINED_SETS
from knowledge import SETS, documents_of, passages
from neurag.config import AnswerOptions, RouteOptions
from neurag.evaluation.metrics import match
from neurag.hyper_layer.fusion import RULES
from neurag.loading import load_backbone
from neurag.model import Model
from quality import encoded, own_cache

PARTS = ("rules", "two")
ACTIVE, BESIDE = (2, 3, 4, 6, 8), 0.3
GREEDY = AnswerOptions(weigh=False, check_conflicts=False)
TWO = ("hotpotqa", "2wikimultihopqa")
FULL, QUICK = 40, 8
"""Passages of each of SETS, and questions of each of TWO."""
Rows = Sequence[Mapping[str, Any]]
Forced = tuple[tuple[str, float], ...]


def right(model: Model, rows: Rows, forced: Sequence[Forced], route: RouteOptions = RouteOptions()) -> list[bool]:
    """Whether each row is answered with these neurons; nothing forced: with those that routing chooses."""
    options = [replace(GREEDY, force=force, route=route) for force in forced]
    told = model.answers([row["question"] for row in rows], options)
    return [bool(match(answer.answer, row["answers"])) for answer, row in zip(told, rows, strict=True)]


def measure_rules(report: Report, model: Model, rows: Rows) -> None:
    """Every rule beside more and more others."""
    own = [row["docs"][0]["id"] for row in rows]
    ranked = model.answers([row["question"] for row in rows], replace(GREEDY, ranked=max(ACTIVE)))
    found = [answer.ranked for answer in ranked]
    others = [[name for name in names if name != gold] for names, gold in zip(found, own, strict=True)]
    alone = fmean(right(model, rows, [((gold, 1.0),) for gold in own]))
    report.add(alone=alone)
    table = []
    for rule in RULES:
        kept = []
        for count in ACTIVE:
            forced = [
                ((gold, 1.0), *((name, BESIDE) for name in names[: count - 1]))
                for gold, names in zip(own, others, strict=True)
            ]
            kept.append(fmean(right(model, rows, forced, RouteOptions(fusion=rule))) / alone if alone else 0.0)
            report.add(**{f"kept_at_k{count}_{rule}": kept[-1]})
        table.append((rule, *kept))
    report.add(kept_at_k4=report.figures[f"kept_at_k4_{RouteOptions().fusion}"])
    show(f"Kept of {alone:.3f}, {len(rows)} questions", ("rule", *(f"K = {k}" for k in ACTIVE)), table)


def two_documents(folder: Path, stem: str, count: int) -> list[dict[str, Any]]:
    """The first rows of a set about two documents, one of them at least unseen, with these documents only."""
    told = ({**row, "docs": gold_of(row)} for row in read_rows(folder, stem))
    free = stem in UNTRAINED_SETS
    two = (row for row in told if len(row["docs"]) == 2 and (free or any(map(unseen, row["docs"]))))
    return [row for row in two if any(match(doc["text"], row["answers"]) for doc in row["docs"])][:count]


def measure_two(report: Report, model: Model, rows: Rows) -> None:
    """One document, the other, both; then routing without and with choosing again."""
    names = [[doc["id"] for doc in row["docs"]] for row in rows]
    first, second = (right(model, rows, [((own[place], 1.0),) for own in names]) for place in (0, 1))
    both = right(model, rows, [tuple((name, 1.0) for name in own) for own in names])
    report.add(two_first=fmean(first), two_second=fmean(second), two_both=fmean(both))
    report.add(two_either=fmean([a or b for a, b in zip(first, second, strict=True)]))
    report.add(two_document_gain=fmean(both) - max(fmean(first), fmean(second)))
    off, on = (right(model, rows, [()] * len(rows), RouteOptions(reroute=again)) for again in (False, True))
    report.add(reroute_off=fmean(off), reroute_on=fmean(on), reroute_gain=fmean(on) - fmean(off))


def main() -> None:
    """Both parts, or those asked for."""
    asked = arguments(__doc__, only=PARTS, count="passages")
    report, folder, backbone = Report(asked), data_folder(asked.data), load_backbone()
    count = asked.passages or (QUICK if asked.quick else FULL)
    report.meta |= {"model": backbone.name, "sets": {}}
    every = {
        "rules": [row for stem in SETS for row in passages(folder, stem, count)],
        "two": [row for stem in TWO for row in two_documents(folder, stem, count)],
    }
    with own_cache(backbone, f"several-{count}-{code_version()}") as cache:
        for part in asked.only or PARTS:
            rows = every[part]
            report.meta["sets"][part] = {"questions": len(rows), "documents": len(passages_of(rows))}
            model = encoded(backbone, documents_of(rows), cache / f"{part}.bank")
            (measure_rules if part == "rules" else measure_two)(report, model, rows)
    report.finish()


if __name__ == "__main__":
    main()
