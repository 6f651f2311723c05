"""Versions: two documents that contradict each other, one of them newer, and what a bank makes of it.

Invented companies (invented.py), each told twice: an older document, and a newer one in which some facts have changed.
Each fact is asked about in words that no lesson has by design, of the whole bank as a user asks it.
- newest_right: with the policy `newest`, changed facts that are answered as the newer document has them.
- oldest_told: the same answered as the older one has them.
- disagreement_reported: changed facts for which the answer names both documents as sides of a conflict.
- false_alarms: facts that have not changed, for which it names one.
- known: changed facts that the newer document's own neuron answers, alone; what newest_right can reach.
Not here: what people asked about documents in conflict (ramdocs: `neurag eval`).

    python benchmarks/versions.py [--quick] [--data DIR] [--json OUT]
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from common import Report, arguments, code_version
from invented import PHRASINGS, companies, told
from neurag.answer import Answer
from neurag.config import AnswerOptions
from neurag.evaluation.metrics import match
from neurag.knowledge.documents import Document
from neurag.loading import load_backbone
from quality import encoded, own_cache

FULL, QUICK = 24, 6
OLD, NEW = "2019-03-01", "2024-09-15"
CHANGED = (1, 5)
"""Facts that differ, by their place in `PHRASINGS`: the city, and the director."""


@dataclass(frozen=True)
class Asked:
    """A fact and what both versions say of it."""

    question: str
    old: str
    new: str
    older: str
    """The documents' ids."""
    newer: str

    @property
    def changed(self) -> bool:
        """Whether they contradict each other."""
        return self.old != self.new


def planted(count: int, seed: int) -> tuple[list[Document], list[Asked]]:
    """Both versions of every company, and all that is asked."""
    made = companies(2 * count, seed)
    documents, asked = [], []
    for company, other in zip(made[:count], made[count:], strict=True):
        old = [answer for _, answer in company.ask]
        new = [other.ask[place][1] if place in CHANGED else answer for place, answer in enumerate(old)]
        ids = f"{company.name} {OLD[:4]}", f"{company.name} {NEW[:4]}"
        for name, answers, date in zip(ids, (old, new), (OLD, NEW), strict=True):
            documents.append(Document(told(company.name, answers), name, company.name, timestamp=date))
        asked += [
            Asked(phrases[2].format(c=company.name), *facts, *ids)
            for phrases, *facts in zip(PHRASINGS, old, new, strict=True)
        ]
    return documents, asked


def reported(answer: Answer, one: Asked) -> bool:
    """Whether both documents are named, on different sides."""
    sides = answer.conflict.sides if answer.conflict else ()
    place = {source.doc_id: number for number, side in enumerate(sides) for source in side.documents}
    return one.older in place and one.newer in place and place[one.older] != place[one.newer]


def main() -> None:
    """Encode both versions, and ask."""
    asked = arguments(__doc__)
    report, backbone = Report(asked), load_backbone()
    count = QUICK if asked.quick else FULL
    documents, questions = planted(count, asked.seed)
    report.meta |= {"model": backbone.name, "documents": len(documents), "questions": len(questions)}
    with own_cache(backbone, f"versions-{count}-{asked.seed}-{code_version()}") as cache:
        model = encoded(backbone, documents, cache / "versions.bank")
        answers = list(zip(questions, model.answers([one.question for one in questions]), strict=True))
        differ = [one for one in questions if one.changed]
        own = [AnswerOptions(force=((one.newer, 1.0),)) for one in differ]
        known = list(model.answers([one.question for one in differ], own))
    report.add(
        newest_right=fmean([match(answer.answer, [one.new]) for one, answer in answers if one.changed]),
        oldest_told=fmean([match(answer.answer, [one.old]) for one, answer in answers if one.changed]),
        disagreement_reported=fmean([reported(answer, one) for one, answer in answers if one.changed]),
        false_alarms=fmean([answer.conflict is not None for one, answer in answers if not one.changed]),
        known=fmean([match(answer.answer, [one.new]) for one, answer in zip(differ, known, strict=True)]),
    )
    report.finish()


if __name__ == "__main__":
    main()
