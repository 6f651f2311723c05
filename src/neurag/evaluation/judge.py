"""Judging: what a system gave for a row becomes a judged answer, judged answers become figures and comparisons.

Not here: the definitions (metrics.py, rates.py, statistics.py), and asking the systems (run.py).

    >>> judge(row, "neurag", Given(answer="Ilse Maranth")).correct       # doctest: +SKIP
    True
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean

from .data import Row
from .metrics import adopted_wrong, answer_recall, answer_words, exact_match, f1, match, says_no_answer
from .rates import abstention, citation, recall_at
from .results import Fired, Judged, PairFigures, SystemFigures
from .statistics import compare, holm, wilson
from .systems import Given


def judge(row: Row, system: str, given: Given) -> Judged:
    """One answer against its row. An answer that says in words that it does not know counts as abstaining."""
    said, failed = given.answer, bool(given.error)
    answerable = bool(row.answers)
    precision, recall = citation(_cited(given), row.gold) if given.fired else (None, None)
    ranked = given.ranked or ()
    sought = given.ranked is not None and bool(row.gold)
    return Judged(
        id=row.id,
        system=system,
        answer=said,
        abstained=not failed and (given.abstained or says_no_answer(said)),
        correct=match(said, row.answers) if answerable else None,
        em=float(exact_match(said, row.answers)) if answerable else None,
        f1=f1(said, row.answers) if answerable else None,
        answer_recall=answer_recall(said, row.answer_sets) if row.answer_sets else None,
        adopted_wrong=adopted_wrong(said, row.wrong_answers, row.answers) if row.wrong_answers else None,
        citation_precision=precision,
        citation_recall=recall,
        recall_at_1=recall_at(ranked, row.gold, 1) if sought else None,
        recall_at_5=recall_at(ranked, row.gold, 5) if sought else None,
        answer_words=answer_words(said),
        doc_ids=given.used,
        fired=tuple(Fired(*told) for told in given.fired),
        seconds=None,
        first_token_s=None,
        prompt_tokens=given.prompt_tokens,
        error=given.error,
    )


def timed(answer: Judged, alone: Given) -> Judged:
    """The answer with the times of the same question asked alone."""
    return replace(answer, seconds=alone.seconds, first_token_s=alone.first_token_s)


def _cited(given: Given) -> list[str]:
    """A document whose neuron has at least half of the leader's weight is cited; pasting is not citing."""
    strongest = max(weight for _, _, weight in given.fired)
    return [name for name, _, weight in given.fired if weight >= strongest / 2]


def figures(answers: Sequence[Judged]) -> SystemFigures:
    """The means of one system over its questions; questions at which it failed count as wrong."""
    right = [one.correct for one in answers if one.correct is not None]
    low, high = wilson(sum(right), len(right)) if right else (None, None)
    # a data set without open questions says nothing about abstaining
    open_ones = any(one.correct is None for one in answers)
    declined = abstention((one.abstained, one.correct is not None) for one in answers) if open_ones else None
    return SystemFigures(
        n=len(answers),
        match=fmean(right) if right else None,
        match_low=low,
        match_high=high,
        em=_mean(one.em for one in answers),
        f1=_mean(one.f1 for one in answers),
        answer_recall=_mean(one.answer_recall for one in answers),
        adopted_wrong=_mean(one.adopted_wrong for one in answers),
        citation_precision=_mean(one.citation_precision for one in answers),
        citation_recall=_mean(one.citation_recall for one in answers),
        recall_at_1=_mean(one.recall_at_1 for one in answers),
        recall_at_5=_mean(one.recall_at_5 for one in answers),
        abstained=_mean(one.abstained for one in answers),
        abstention_precision=declined.precision if declined else None,
        abstention_recall=declined.recall if declined else None,
        abstention_f1=declined.f1 if declined else None,
        answer_words=_mean(one.answer_words for one in answers),
        seconds_per_question=_mean(one.seconds for one in answers),
        first_token_s=_mean(one.first_token_s for one in answers),
        prompt_tokens=_mean(one.prompt_tokens for one in answers if not one.error),
        errors=sum(bool(one.error) for one in answers),
    )


def comparisons(answers: Mapping[str, Sequence[Judged]], seed: int, metric: str = "match") -> tuple[PairFigures, ...]:
    """Every pair of systems on the questions both were judged on; p is Holm's over all pairs of the data set."""
    values = {
        name: {one.id: float(one.correct) for one in told if one.correct is not None} for name, told in answers.items()
    }
    # the systems named later are compared with those named earlier: "neurag - rag-bm25" where rag-bm25 comes first
    pairs = [
        compare(b, values[b], a, values[a], metric, seed)
        for a, b in combinations(values, 2)
        if values[a].keys() & values[b].keys()
    ]
    adjusted = [replace(pair, p=p) for pair, p in zip(pairs, holm([pair.p for pair in pairs]), strict=True)]
    return tuple(PairFigures(p.a, p.b, p.metric, p.difference, p.low, p.high, p.p, p.n, p.verdict()) for p in adjusted)


def _mean(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return fmean(told) if told else None
