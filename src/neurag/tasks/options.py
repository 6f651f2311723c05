"""Every option of training what all documents share, written once: flags and Python share these frozen dataclasses.

Not here: what the options do (training.py, routing.py, weighing.py), options of one document's training (config.py).

    >>> TaskOptions(rank=8).rank
    8
"""

from __future__ import annotations

from dataclasses import dataclass

from ..config import UsageError, at_least


@dataclass(frozen=True)
class TaskOptions:
    """How a task adapter is trained."""

    rank: int = 16
    """Rank of the adapter in every matrix."""
    learning_rate: float = 1e-3
    """AdamW's rate at its highest."""
    epochs: float = 1
    """Passes over the rows to read and write from; may be a fraction."""
    matching: float = 0
    """Passes over the passages whose sentences are matched with their questions (tasks/matching.py)."""
    matched: int = 6
    """Passages matched in a step."""
    echoes: int = 9
    """Sentences asked back of a passage, in matching: the right ones and, up to so many, others."""
    batch_tokens: int = 2048
    """Tokens to read and write from in a step, padding included."""
    warm_up: float = 0.03
    """Share of the steps in which the rate rises; then it falls linearly to zero."""
    scale: float = 2.0
    """What the adapter's output is multiplied by while it is trained (alpha / rank)."""
    save_every: int = 50
    """Steps between checkpoints."""
    seed: int = 0


@dataclass(frozen=True)
class RoutingOptions:
    """How the routing projection is trained (tasks/routing.py)."""

    layer: int | None = None
    """rho, behind how many layers questions and documents are compared; left out: a third of the depth."""
    steps: int = 600
    """Optimiser steps, at most."""
    questions: int = 48
    """Questions of a step, whose documents compete with one another."""
    learning_rate: float = 1e-3
    """Adam's rate at its highest; it falls linearly to zero."""
    temperature: float = 0.03
    """What scores, 0..1, are divided by."""
    hold_out: float = 0.1
    """Share of the documents that training is judged by, by their hash."""
    check_every: int = 50
    """Steps between checks on them, and between checkpoints."""
    patience: int = 4
    """Checks without a lower loss on them after which training ends."""
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, steps=1, questions=1, check_every=1, patience=1)
        if not 0 < self.hold_out < 1:
            raise UsageError(f"--hold-out must be between 0 and 1, not {self.hold_out}")


@dataclass(frozen=True)
class WeighingOptions:
    """How a weigher is trained (tasks/weighing.py)."""

    hidden: int = 16
    """Its hidden units."""
    steps: int = 90
    """Optimiser steps, over all questions at once."""
    folds: int = 5
    """Parts, by document, of which each is judged by a weigher of the others."""
    lost: float = 0.02
    """Share of the questions whose right answer may count as none, so that wrong ones do."""
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, hidden=1, steps=1, folds=2)
