"""One run of training the routing projection: its loss, its steps, what was best, and when it is over.

The loss is InfoNCE over the router's own score S: the documents of all questions of a step compete for each of them,
with chance taken off as it is when a bank is searched (knowledge/chance.py). The order of the questions follows from
the seed and the step alone, so a stopped run goes on as if it had not been stopped. Not here: where the states come
from, what is written (routing.py).

    >>> course = Course(bench, RoutingOptions(), run="of these rows")              # doctest: +SKIP
    >>> course.step(); course.loss                                                 # doctest: +SKIP
    0.41
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from ..files import swapped
from ..knowledge.chance import Yardstick
from ..projection import Projection
from .held import Held
from .options import RoutingOptions

WARM_UP = 30
"""Steps in which the rate rises."""
WIDTH = 128
"""Axes that are learned; the last ones hold little and are cut when all is learned (routing.py)."""


@dataclass
class Bench:
    """All that a step needs: texts as states, and which belong to which question."""

    documents: Held
    questions: Held
    gold: list[list[int]]
    others: list[list[int]]
    neutral: Tensor
    """[n, D] states."""
    start: Projection
    learned: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)


def _best(asked: Tensor, keys: Tensor, lengths: Sequence[int]) -> Tensor:
    """[T, N] best similarity of each of T tokens among the keys [sum n_i, W] of each of N documents.

    Which key is best is looked up without gradients, so the backward pass goes through the best ones only.
    """
    count = torch.tensor(lengths)
    with torch.no_grad():
        rows = pad_sequence(list(torch.split(keys, list(lengths))), batch_first=True)
        found = [
            (asked @ part.flatten(0, 1).T).view(len(asked), *part.shape[:2]).argmax(2) for part in torch.split(rows, 16)
        ]
        places = torch.cat(found, 1).clamp(max=count - 1) + count.cumsum(0) - count
    return torch.einsum("tw,tnw->tn", asked, keys[places.flatten()].view(*places.shape, -1))


class Course:
    """One run: what is learned, what was best, and when it is over."""

    def __init__(self, bench: Bench, options: RoutingOptions, run: str) -> None:
        self.bench, self.options, self.run, self.done = bench, options, run, 0
        width = min(WIDTH, bench.start.matrix.shape[1])
        self.turn = torch.eye(bench.start.matrix.shape[1], width).requires_grad_()
        """[D, WIDTH], from whitened states; it begins as their leading axes."""
        self._optimiser = torch.optim.Adam([self.turn], lr=options.learning_rate, betas=(0.9, 0.98))
        self._recent: list[float] = []
        self.best, self.best_step = self.turn.detach().clone(), 0
        self.losses = [self._held_loss()]

    @property
    def over(self) -> bool:
        """After the last step, or when the held-out loss has not fallen for `patience` checks."""
        checks = self.done // self.options.check_every
        lag = checks - self.best_step // self.options.check_every
        return self.done >= self.options.steps or lag >= self.options.patience

    @property
    def loss(self) -> float | None:
        """Mean of the last steps, in nats."""
        return sum(self._recent) / len(self._recent) if self._recent else None

    def step(self) -> None:
        """One batch; the order follows from the seed and the step alone."""
        size = self.options.questions
        passes, at = divmod(self.done * size, len(self.bench.learned))
        order = [
            random.Random(f"routing {self.options.seed} {n}").sample(self.bench.learned, len(self.bench.learned))
            for n in (passes, passes + 1)
        ]
        share = 1 - self.done / self.options.steps
        self._optimiser.param_groups[0]["lr"] = self.options.learning_rate * min(1.0, (self.done + 1) / WARM_UP) * share
        with torch.enable_grad():
            loss = self._loss((order[0] + order[1])[at : at + size])
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._recent = [*self._recent[-19:], float(loss.detach())]
        self.done += 1

    def check(self) -> None:
        """Measure on what is held out, and keep what is best."""
        loss = self._held_loss()
        if loss < min(self.losses):
            self.best, self.best_step = self.turn.detach().clone(), self.done
        self.losses.append(loss)

    @torch.no_grad()
    def _held_loss(self) -> float:
        held, size = self.bench.held, self.options.questions
        parts = [held[at : at + size] for at in range(0, len(held), size)]
        return sum(float(self._loss(part)) * len(part) for part in parts) / len(held)

    def _loss(self, numbers: Sequence[int]) -> Tensor:
        """InfoNCE: each gold document of a question against all documents of the batch that are none."""
        bench = self.bench
        told = list(dict.fromkeys(n for q in numbers for n in (*bench.gold[q], *bench.others[q])))
        scores = self._scores(numbers, told) / self.options.temperature
        right = torch.zeros(scores.shape, dtype=torch.bool)
        for row, q in enumerate(numbers):
            right[row, [told.index(n) for n in bench.gold[q]]] = True
        wrong = scores.masked_fill(right, -torch.inf).logsumexp(1, keepdim=True)
        return (torch.logaddexp(scores, wrong) - scores)[right].mean()

    def _scores(self, questions: Sequence[int], documents: Sequence[int]) -> Tensor:
        """S [Q, N] of the router (hyper_layer/routing.py), with gradients."""
        asked, sizes = self._projected(self.bench.questions, questions)
        keys, lengths = self._projected(self.bench.documents, documents)
        neutral = self._project(self.bench.neutral)
        yardstick = Yardstick.of(asked @ neutral.T)
        matched = yardstick.surprise(_best(asked, keys, lengths), torch.tensor(lengths).float())
        owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        share = torch.zeros(len(sizes), len(documents)).index_add(0, owner, matched)
        whole = torch.zeros(len(sizes)).index_add(0, owner, yardstick.best)
        return share / whole.clamp(min=1e-3)[:, None]

    def _projected(self, held: Held, numbers: Sequence[int]) -> tuple[Tensor, list[int]]:
        states, lengths = held.of(numbers)
        return self._project(states), lengths

    def _project(self, states: Tensor) -> Tensor:
        """[M, D] -> [M, WIDTH]. The small product first: there are many more states than directions."""
        return normalize((states - self.bench.start.mean) @ (self.bench.start.matrix @ self.turn), dim=-1)

    def save(self, path: Path) -> None:
        """Write a checkpoint aside and swap it in."""
        told = {"turn": self.turn.detach(), "best": self.best, "best_step": self.best_step, "done": self.done}
        told |= {"optimiser": self._optimiser.state_dict(), "losses": self.losses, "run": self.run}
        with swapped(path) as aside:
            torch.save(told, aside)

    @torch.no_grad()
    def restore(self, path: Path) -> None:
        """Take up a checkpoint of the same run, if there is one."""
        told: dict[str, Any] = torch.load(path, weights_only=True) if path.exists() else {"run": None}
        if told["run"] == self.run:
            self.turn.copy_(told["turn"])
            self._optimiser.load_state_dict(told["optimiser"])
            self.best, self.best_step = told["best"], told["best_step"]
            self.done, self.losses = told["done"], told["losses"]
