"""The targets that figures of benchmarks have to reach, and how figures are written beside them.

Whether a target is reached is computed here and nowhere typed. Not here: tables (tables.py), and measuring.

    >>> target("routing_share", {}).verdict(0.013)
    'at most 0.15: reached'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Figures = Mapping[str, float]

RECALL_TARGETS = ("popqa", "squad_same_article", "nq_open_oracle", "hotpotqa")
"""The sets on which recall@5 has to be at least BM25's."""
RIVALS = ("plain", "sft_lora", "rationale_lora", "last_layers", "random_layers", "random_units", "swapped", "boosted")
"""The baselines that hardening has to beat with no more trained parameters than they have."""
RANKERS = ("neurag", "untrained", "bm25", "minilm")
"""Systems that rank documents in hyper_layer.py, ours first."""


@dataclass(frozen=True)
class Target:
    """What a figure has to be."""

    bound: float
    least: bool
    """At least `bound`, else at most."""
    words: str = ""

    def reached(self, value: float) -> bool:
        """Whether the figure is there."""
        return value >= self.bound if self.least else value <= self.bound

    def verdict(self, value: float) -> str:
        """The target, and whether the figure reached it."""
        bound = written(self.bound) + (f" ({self.words})" if self.words else "")
        return f"at {'least' if self.least else 'most'} {bound}: {'reached' if self.reached(value) else '**missed**'}"


TARGETS: Mapping[str, Target] = {
    "own_exact": Target(0.90, least=True),
    "other_exact": Target(0.02, least=False),
    "ratio_to_prag_equal_accuracy": Target(10, least=True),
    "four_active_kept": Target(0.9, least=True),
    "first_token_vs_closed": Target(1.15, least=False),
    "first_token_vs_rag5": Target(0.35, least=False),
    "routing_share": Target(0.15, least=False),
    "harness_overhead": Target(0.03, least=False),
    "relative_difference": Target(1e-4, least=False),
    "completeness_error": Target(0.01, least=False),
    "speedup_vs_reference": Target(100, least=True),
    "peak_memory_vs_forward": Target(1.5, least=False),
    "default_score": Target(1, least=False, words="the best"),
    "trainable_share": Target(0.066, least=False),
    "ability_change": Target(-1, least=True),
    "noise_loss_ratio": Target(0.5, least=False),
    "kept_at_k4": Target(0.97, least=True),
    "two_document_gain": Target(0, least=True),
    "kept_at_10000": Target(0.95, least=True),
    "time_10000_vs_10": Target(1.2, least=False),
    "routing_share_10000": Target(0.1, least=False),
    "memory_10000_vs_10": Target(1.1, least=False),
    "newest_right": Target(0.95, least=True),
    "disagreement_reported": Target(0.9, least=True),
}

OF_SETS: Mapping[str, Target] = {
    "pipeline_documents_per_second": Target(0.35, least=True),
    "int8_loss": Target(0.01, least=False),
    "abstention_f1": Target(0.85, least=True),
    "answered_loss": Target(0.02, least=False),
}
"""Of every set of knowledge.py."""
BESIDE: Mapping[str, tuple[str, bool, tuple[tuple[str, float, float], ...]]] = {
    "own": ("0.85 of the reader, and the plain backbone", True, (("prompt_reader", 0.85, 0), ("prompt_plain", 1, 0))),
    "wrong": ("three points over closed book", False, (("closed", 1, 0.03),)),
    "random": ("closed book", False, (("closed", 1, 0),)),
    "hybrid": ("own neuron and reader", True, (("own", 1, 0), ("prompt_reader", 1, 0))),
    "long": ("each passage's own neuron", True, (("long_own", 1, 0),)),
}
"""The same, where a target hangs on other figures of the set: its words, whether it is a least, and (figure, share of
it, what is added), of which the largest counts."""


def target(name: str, figures: Figures) -> Target | None:
    """The target of a figure, which may hang on another figure of the same run; None where it has none."""
    if name == "bytes_per_document" and "prag_bytes_per_document" in figures:
        return Target(figures["prag_bytes_per_document"] / 5, least=False, words="a fifth of PRAG's")
    if name.removeprefix("recall_at_5_") in RECALL_TARGETS and f"bm25_{name}" in figures:
        return Target(figures[f"bm25_{name}"], least=True)
    if name.startswith("recall_at_") and name.endswith("_neurag"):
        others = [figures[told] for system in RANKERS[1:] if (told := f"{name[:-6]}{system}") in figures]
        return Target(max(others), least=True, words="the best of the others") if others else None
    if name == "match_ours" and (rivals := [figures[f"match_{r}"] for r in RIVALS if f"match_{r}" in figures]):
        return Target(max(rivals), least=True, words="the best baseline of equal size")
    if name == "absent_ours" and "closed_plain" in figures:
        return Target(figures["closed_plain"], least=True, words="plain, closed book")
    return TARGETS.get(name)


def target_of_set(name: str, stem: str, figures: Figures) -> Target | None:
    """The target of a figure of knowledge.py on one set; None where it has none, or hangs on what is missing."""
    if name not in BESIDE:
        return OF_SETS.get(name)
    words, least, bounds = BESIDE[name]
    if any(f"{other}_{stem}" not in figures for other, _, _ in bounds):
        return None
    return Target(max(share * figures[f"{other}_{stem}"] + more for other, share, more in bounds), least, words)


def written(value: float, digits: int = 3) -> str:
    """A number as people write it."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def measured(value: float, wanted: Target | None) -> str:
    """A figure in three digits, or in more where three would be on the other side of its target."""
    if wanted is None:
        return written(value)
    told = (f"{value:.{digits}g}" for digits in (3, 4, 5))
    honest = next((x for x in told if wanted.reached(float(x)) == wanted.reached(value)), repr(value))
    return f"**{written(value) if honest == f'{value:.3g}' else honest}**"
