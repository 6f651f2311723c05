"""Answers of robustness.py, judged: rates by system, condition and set, figures, verdicts.

A figure is the mean over questions, of the mean over seeds of each. Not here: asking (robustness.py).

    >>> results = Results()
    >>> results.add("plain", "mixed", [Asked("nq", "1", ("Oskerby",), ())], ["It is in Oskerby."])
    >>> results.rate("plain", "mixed", ["nq"])
    1.0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import mean

from common import Report, show
from neurag.evaluation.metrics import match
from neurag.evaluation.statistics import compare, holm
from neurag.robust.lessons import final_answer
from robust_sets import SIX, Asked

OURS, PLAIN, SFT = "ours", "plain", "sft_lora"


@dataclass
class Results:
    """What was right, system by system."""

    right: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    """By system, condition, and set and question: one value for each seed."""
    words: dict[str, list[int]] = field(default_factory=dict)

    def add(self, name: str, condition: str, asked: Sequence[Asked], said: Sequence[str]) -> None:
        """Judge the answers of one system."""
        told = self.right.setdefault(name, {}).setdefault(condition, {})
        for one, text in zip(asked, said, strict=True):
            told.setdefault(f"{one.set}/{one.id}", []).append(float(match(final_answer(text), one.answers)))
            if condition == "mixed":
                self.words.setdefault(name, []).append(len(text.split()))

    def values(self, name: str, condition: str, sets: Sequence[str] = SIX) -> dict[str, float]:
        """By question, the mean of its seeds."""
        told = self.right.get(name, {}).get(condition, {})
        return {key: mean(x) for key, x in told.items() if key.partition("/")[0] in sets}

    def rate(self, name: str, condition: str, sets: Sequence[str] = SIX) -> float:
        """Mean over questions; nan of none."""
        values = self.values(name, condition, sets).values()
        return mean(values) if values else float("nan")

    def main(self, name: str) -> float:
        """Mean over the six sets that there are."""
        sets = [one for one in SIX if self.values(name, "mixed", [one])]
        return mean(self.rate(name, "mixed", [one]) for one in sets)

    def table(self, sets: Sequence[str]) -> None:
        """Print match by system and set."""
        rows = [(name, self.main(name), *(self.rate(name, "mixed", [one]) for one in sets)) for name in self.right]
        show("Match", ("system", "six sets", *sets), rows)

    def told(self, name: str) -> dict[str, dict[str, list[float]]]:
        """By condition, which were right, in the order of `asked`."""
        return {
            condition: [round(mean(x), 3) for x in by_question.values()]
            for condition, by_question in self.right[name].items()
        }

    def asked(self) -> dict[str, list[str]]:
        """By condition, set and question."""
        return {condition: list(x) for by_condition in self.right.values() for condition, x in by_condition.items()}


def tell(report: Report, results: Results, name: str, sets: Sequence[str]) -> None:
    """Figures of a system, and the answers behind them."""
    figures = {f"match_{name}_{one}": results.rate(name, "mixed", [one]) for one in sets}
    figures |= {
        f"match_{name}": results.main(name),
        f"absent_{name}": results.rate(name, "noise_1.0"),
        f"closed_{name}": results.rate(name, "closed"),
        f"words_{name}": mean(results.words[name]),
    }
    figures |= {
        f"match_{name}_{condition}": results.rate(name, condition)
        for condition in results.right[name]
        if condition not in ("mixed", "closed")
    }
    report.meta.setdefault("right", {})[name] = results.told(name)
    report.meta["asked"] = results.asked()
    report.add(**{key: value for key, value in figures.items() if value == value})


def compared(report: Report, results: Results) -> None:
    """Ours against every other system, over the questions of the six sets, Holm over all."""
    others = [name for name in results.right if name != OURS]
    if OURS not in results.right or not others:
        return
    ours = results.values(OURS, "mixed")
    pairs = [compare(OURS, ours, name, results.values(name, "mixed"), "match") for name in others]
    adjusted = holm([pair.p for pair in pairs])
    report.meta["verdicts"] = [replace(pair, p=p).verdict() for pair, p in zip(pairs, adjusted, strict=True)]
    lost = {n: results.rate(n, "noise_0.0") - results.rate(n, "noise_0.8") for n in (OURS, SFT)}
    if lost[SFT] > 0 and lost[OURS] == lost[OURS]:
        report.add(noise_loss_ratio=lost[OURS] / lost[SFT])
    known = report.figures
    if f"ability_{PLAIN}" in known and f"ability_{OURS}" in known:
        report.add(ability_change=known[f"ability_{OURS}"] - known[f"ability_{PLAIN}"])
