"""Training a weigher: of several answers to a question, give the right one the most worth; and know when it is wrong.

What is learned from are the answers that a bank's neurons considered for questions whose answers are known, a few
numbers about each (weigher.py). The loss is -log of the share that the right answers have in a softmax over the worths
of a question's answers. How good it is, folds tell: questions about a part of the documents are weighed by what was
learned from the others; what is kept was learned from all. Whether to trust an answer is learned from what these folds
chose, from questions whose document was there and from others: a logistic regression. Questions about documents that an
adapter was trained on (`Choice.seen`) teach to choose only: a weigher that learned trust from them would be too sure of
itself with a user's documents. Not here: what is considered (hyper_layer/recall.py).

    >>> weigher, report = train_weigher(choices, WeighingOptions())       # doctest: +SKIP
    >>> report.first, report.chosen, report.any                           # doctest: +SKIP
    (0.42, 0.51, 0.74)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from ..config import UsageError
from ..weigher import NUMBERS, Weigher, likely, trusted
from .options import WeighingOptions

RATE, DECAY = 0.02, 0.01
"""AdamW's, over all questions at once."""
TRUSTING = 400
"""Steps of the logistic regression, at a tenth of that decay."""


@dataclass(frozen=True)
class Choice:
    """A question's answers, what is told of each and whether it is right, and the document it is about."""

    told: tuple[tuple[float, ...], ...]
    right: tuple[bool, ...]
    document: str
    there: bool = True
    """Whether the document was."""
    score: float | None = None
    """S of the best neuron; None where neurons were forced, which says nothing about whether to trust an answer."""
    seen: bool = False
    """Whether an adapter of the backbone was trained on the document."""


@dataclass(frozen=True)
class WeighingReport:
    """Shares of the questions whose document was there, and no adapter saw; and how many these are."""

    questions: int
    first: float
    """The likeliest answer that neurons began is right."""
    chosen: float
    """The one with the most worth is, to a weigher that did not learn from its document."""
    any: float
    """Any of them is."""
    lost: float = 0.0
    """Of the questions that were not forced: rightly answered, and not sure."""
    noticed: float = 0.0
    """Of those whose document was not there: not sure."""


@dataclass(frozen=True)
class _Judged:
    """A question, and the worth of its answers to a weigher that did not learn from its document."""

    choice: Choice
    worth: np.ndarray

    @property
    def best(self) -> int:
        """The answer given."""
        return int(self.worth.argmax())

    @property
    def right(self) -> bool:
        """Whether that answer is."""
        return self.choice.right[self.best]

    @property
    def trusted(self) -> np.ndarray | None:
        """What tells whether it is; nothing where neurons were forced."""
        score = self.choice.score
        return None if score is None else trusted(self.choice.told[self.best], self.worth, score)


def train_weigher(choices: Sequence[Choice], options: WeighingOptions) -> tuple[Weigher, WeighingReport]:
    """The weigher of all choices, and how good others were on what they had not seen. Raises UsageError."""
    asked = [choice for choice in choices if choice.told]
    learned = {choice.document for choice in asked if any(choice.right) and not choice.seen}
    if len(learned) < options.folds:
        raise UsageError(f"{len(learned)} documents have a right answer, too few for {options.folds} folds: ask more")
    parts = [_part(choice.document, options) for choice in asked]
    told, there, right = _padded(asked)
    useful = right.any(1) & torch.tensor([choice.there for choice in asked])
    others = [useful & (torch.tensor(parts) != part) for part in range(options.folds)]
    folds = [_learned(told, there, right, rows, options) for rows in others]
    judged = [
        _Judged(choice, folds[part].worth(choice.told))
        for choice, part in zip(asked, parts, strict=True)
        if not choice.seen
    ]
    unseen = [choice for choice in choices if not choice.seen]
    trust = _trusting(judged)
    sure, lost, noticed = _threshold(unseen, judged, trust, options)
    weigher = replace(_learned(told, there, right, useful, options), trust=trust, sure=sure)
    known = [one for one in judged if one.choice.there]
    count = sum(choice.there for choice in unseen)
    won = [(one.choice.right[0], one.right, any(one.choice.right)) for one in known]
    first, chosen, able = (sum(one[place] for one in won) / count for place in range(3))
    return weigher, WeighingReport(count, first, chosen, able, lost, noticed)


def _trusting(judged: Sequence[_Judged]) -> np.ndarray:
    """u, by logistic regression on the answers given where neurons were not forced."""
    free = [(known, one.right) for one in judged if (known := one.trusted) is not None]
    if not free:
        return np.zeros(len(NUMBERS) + 3)
    rows = torch.tensor(np.array([row for row, _ in free]))
    right = torch.tensor([float(one) for _, one in free]).double()
    trust = nn.Parameter(torch.zeros(rows.shape[1], dtype=torch.float64))
    optimiser = torch.optim.AdamW([trust], RATE, weight_decay=DECAY / 10)
    for _ in range(TRUSTING):
        loss = nn.functional.binary_cross_entropy_with_logits(rows @ trust, right)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    told: np.ndarray = trust.detach().numpy()
    return told


def _threshold(
    choices: Sequence[Choice], judged: Sequence[_Judged], trust: np.ndarray, options: WeighingOptions
) -> tuple[float, float, float]:
    """The highest confidence to be sure from that costs no more right answers than wanted, what it costs, and what it
    notices."""
    free = [choice for choice in choices if choice.score is not None]
    answerable, absent = (sum(choice.there is kind for choice in free) for kind in (True, False))
    told = [(one, likely(known, trust)) for one in judged if (known := one.trusted) is not None]
    right = sorted(share for one, share in told if one.choice.there and one.right)
    allowed = int(options.lost * answerable)
    if len(right) <= allowed:
        return 0.0, 0.0, 0.0
    sure = right[allowed]
    below = sum(share < sure for one, share in told if not one.choice.there)
    silent = absent - sum(not one.choice.there for one, _ in told)
    return sure, sum(share < sure for share in right) / answerable, (below + silent) / absent if absent else 0.0


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
    weights, biases, outs = (x.detach().double().numpy() for x in (weight, bias, out))
    return Weigher(weights, biases, outs, np.zeros(len(NUMBERS) + 3), 0.0)
