"""Training a weigher: of several answers to a question, give the right one the most worth.

What is learned from are the answers that a bank's neurons considered for questions whose answers are known, a few
numbers about each (weigher.py). The loss is -log of the share that the right answers have in a softmax over the worths
of a question's answers. How good it is, folds tell: questions about a part of the documents are weighed by what was
learned from the others; what is kept was learned from all. Not here: what is considered (hyper_layer/recall.py).

    >>> weigher, report = train_weigher(choices, WeighingOptions())       # doctest: +SKIP
    >>> report.first, report.chosen, report.any                           # doctest: +SKIP
    (0.42, 0.51, 0.74)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import UsageError, WeighingOptions
from ..weigher import NUMBERS, Weigher

RATE, DECAY = 0.02, 0.01
"""AdamW's, over all questions at once."""


@dataclass(frozen=True)
class Choice:
    """A question's answers: what is told of each, whether it is right, and the document that the question is about."""

    told: tuple[tuple[float, ...], ...]
    right: tuple[bool, ...]
    document: str


@dataclass(frozen=True)
class WeighingReport:
    """Shares of the questions whose answer is right."""

    questions: int
    first: float
    """The likeliest one that neurons began."""
    chosen: float
    """The one with the most worth to a weigher that did not learn from its document."""
    any: float
    """Any of them."""


def train_weigher(choices: Sequence[Choice], options: WeighingOptions) -> tuple[Weigher, WeighingReport]:
    """The weigher of all choices, and how good others were on what they had not seen. Raises UsageError."""
    asked = [choice for choice in choices if choice.told]
    parts = torch.tensor([_part(choice.document, options) for choice in asked])
    told, there, right = _padded(asked)
    useful = right.any(1)
    learned = {choice.document for choice in asked if any(choice.right)}
    if len(learned) < options.folds:
        raise UsageError(f"{len(learned)} documents have a right answer, too few for {options.folds} folds: ask more")
    won = 0
    for part in range(options.folds):
        weigher = _learned(told, there, right, useful & (parts != part), options)
        for choice in (choice for choice, own in zip(asked, parts.tolist(), strict=True) if own == part):
            won += choice.right[int(weigher.worth(choice.told).argmax())]
    count = len(choices)
    first = sum(choice.right[0] for choice in asked)
    report = WeighingReport(count, first / count, won / count, int(useful.sum()) / count)
    return _learned(told, there, right, useful, options), report


def _part(document: str, options: WeighingOptions) -> int:
    return hashlib.sha256(f"{options.seed} {document}".encode()).digest()[0] % options.folds


def _padded(choices: Sequence[Choice]) -> tuple[Tensor, Tensor, Tensor]:
    """What is told [Q, n, F], what is there at all and what is right [Q, n]."""
    longest = max((len(choice.told) for choice in choices), default=0)
    told = torch.zeros(len(choices), longest, len(NUMBERS))
    there, right = (torch.zeros(len(choices), longest, dtype=torch.bool) for _ in range(2))
    for row, choice in enumerate(choices):
        count = len(choice.told)
        told[row, :count], there[row, :count] = torch.tensor(choice.told), True
        right[row, :count] = torch.tensor(choice.right)
    return told, there, right


def _learned(told: Tensor, there: Tensor, right: Tensor, rows: Tensor, options: WeighingOptions) -> Weigher:
    told, there, right = told[rows], there[rows], right[rows]
    generator = torch.Generator().manual_seed(options.seed)
    weight = nn.Parameter(torch.randn(options.hidden, len(NUMBERS), generator=generator) / len(NUMBERS) ** 0.5)
    bias = nn.Parameter(torch.zeros(options.hidden))
    out = nn.Parameter(torch.randn(options.hidden, generator=generator) / options.hidden**0.5)
    optimiser = torch.optim.AdamW([weight, bias, out], RATE, weight_decay=DECAY)
    for _ in range(options.steps):
        worth = (torch.tanh(told @ weight.T + bias) @ out).masked_fill(~there, -torch.inf).log_softmax(1)
        loss = -worth.masked_fill(~right, -torch.inf).logsumexp(1).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return Weigher(*(x.detach().double().numpy() for x in (weight, bias, out)))
