"""Training the routing projection: where in the model's states a question is like the document that answers it.

The backbone is frozen. Its states of all passages and questions are read once (held.py); what is learned is one matrix,
[D, key_width], that begins as the whitening. The loss is InfoNCE over the router's own score: the passages of all
questions of a step compete for each of them, with chance taken off as it is when a bank is searched
(knowledge/chance.py). Nothing is learned about any document, so what is added to a bank later needs no training.
Documents are held out by their hash; training ends when the loss on them no longer falls, and the best matrix is kept.
Not here: how a bank is searched (hyper_layer/routing.py).

    >>> train_routing(backbone, rows, RoutingOptions(), Path("my-adapter"))          # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from ..backbone import Backbone
from ..config import RoutingOptions, UsageError
from ..files import swapped, write_whole
from ..knowledge.calibration import KEY_WIDTH, neutral_states, neutral_texts, routing_layer, whitening
from ..knowledge.chance import Yardstick
from ..knowledge.keys import read_chunks
from ..knowledge.states import span_states
from ..loading import ROUTING_FILE
from ..projection import Projection
from ..prompts import question_prompt
from .held import Held, hold

CHECKPOINT, PARTS = "routing.pt", "states"
NEUTRAL = 8192
"""Neutral keys that tell chance, as in the router."""
WARM_UP = 30
"""Steps in which the rate rises."""
Text = tuple[str, str]


@dataclass(frozen=True)
class RoutingRow:
    """A question with the documents that answer it, and some that look as if they did: (title, text) each."""

    question: str
    gold: tuple[Text, ...]
    others: tuple[Text, ...] = ()


@dataclass(frozen=True)
class RoutingProgress:
    """Where a run stands: reading texts, then training steps."""

    stage: str
    done: int
    total: int
    loss: float | None = None
    """Mean of the last steps, in nats."""
    held_loss: float | None = None
    """On documents held out, at the last check."""
    seconds_left: float = math.nan


@dataclass(frozen=True)
class RoutingReport:
    """What a run did."""

    questions: int
    documents: int
    held_out: int
    """Questions."""
    steps: int
    """Of the matrix that was kept."""
    held_loss_before: float
    held_loss: float
    seconds: float


@dataclass
class _Bench:
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

    def whitened(self, states: Tensor) -> Tensor:
        """[M, D] with unit spread in every direction, so that one learning rate suits all."""
        return (states - self.start.mean) @ self.start.matrix


def train_routing(
    backbone: Backbone,
    rows: Sequence[RoutingRow],
    options: RoutingOptions,
    folder: Path,
    progress: Callable[[RoutingProgress], None] | None = None,
) -> RoutingReport:
    """Train the projection and write it to `folder`, beside what made it (`routing.json`).

    A stopped run with the same rows and options goes on where it was. Raises UsageError when there is too little to
    learn from.
    """
    begun = time.perf_counter()
    bench = _prepared(backbone, rows, options, folder, progress or (lambda _: None))
    best, steps, losses = _trained(bench, rows, options, folder / CHECKPOINT, progress or (lambda _: None))
    Projection(bench.start.layer, bench.start.mean, best).save(folder / ROUTING_FILE)
    seconds = round(time.perf_counter() - begun, 1)
    count = len(bench.documents.lengths)
    report = RoutingReport(len(bench.learned), count, len(bench.held), steps, *losses, seconds)
    told = {"model": backbone.name, "backbone": backbone.fingerprint} | asdict(options) | asdict(report)
    write_whole(folder / "routing.json", json.dumps(told, indent=2) + "\n")
    for path in [folder / CHECKPOINT, *(folder / PARTS).glob("*.pt")]:
        path.unlink(missing_ok=True)
    return report


def _prepared(
    backbone: Backbone,
    rows: Sequence[RoutingRow],
    options: RoutingOptions,
    folder: Path,
    progress: Callable[[RoutingProgress], None],
) -> _Bench:
    layer = options.layer or routing_layer(backbone)
    told = f"{backbone.fingerprint} {layer}"

    def reading(what: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(RoutingProgress(f"reading {what}", done, total))

    def of_chunks(part: Sequence[Text]) -> Iterator[Tensor]:
        return (states for states, _ in read_chunks(backbone, layer, part))

    def of_questions(part: Sequence[str]) -> Iterator[Tensor]:
        return span_states(backbone, [question_prompt(backbone, question) for question in part], layer)

    texts = list(dict.fromkeys(text for row in rows for text in (*row.gold, *row.others)))
    number = {text: n for n, text in enumerate(texts)}
    asked = [row.question for row in rows]
    neutral = neutral_states(backbone, neutral_texts()[0], layer)
    bench = _Bench(
        hold(folder / PARTS, "documents", texts, of_chunks, told, reading("documents")),
        hold(folder / PARTS, "questions", asked, of_questions, told, reading("questions")),
        [[number[text] for text in dict.fromkeys(row.gold)] for row in rows],
        [[number[text] for text in dict.fromkeys(row.others) if text not in row.gold] for row in rows],
        neutral[:NEUTRAL],
        whitening(neutral, layer, backbone.width),
    )
    held_texts = {text for row in rows for text in row.gold if _place(text) < options.hold_out}
    for n, row in enumerate(rows):
        inside = [text in held_texts for text in row.gold]
        if any(inside):
            bench.held += [n] if all(inside) else []
        else:  # nor may a document that is held out be pushed away from anything
            bench.learned.append(n)
            bench.others[n] = [number[text] for text in row.others if text not in held_texts and text not in row.gold]
    if len(bench.learned) < 2 or not bench.held:
        raise UsageError(
            f"{len(rows)} rows are too few to learn routing from: give hundreds, about different documents"
        )
    return bench


def _place(text: Text) -> float:
    """In 0..1, by what it says."""
    return hashlib.sha256(text[1].encode()).digest()[0] / 256


def _trained(
    bench: _Bench,
    rows: Sequence[RoutingRow],
    options: RoutingOptions,
    path: Path,
    progress: Callable[[RoutingProgress], None],
) -> tuple[Tensor, int, tuple[float, float]]:
    """The best matrix [D, key_width], its step, and the loss on held-out documents before and with it."""
    course = Course(
        bench, options, hashlib.sha256(f"{options} {bench.start.fingerprint} {rows!r}".encode()).hexdigest()
    )
    course.restore(path)
    begun, first = time.perf_counter(), course.done
    while not course.over:
        course.step()
        if course.done % options.check_every == 0 or course.done == options.steps:
            course.check()
            course.save(path)
        pace = (time.perf_counter() - begun) / (course.done - first)
        left = pace * (options.steps - course.done)
        progress(RoutingProgress("training", course.done, options.steps, course.loss, course.losses[-1], left))
    return bench.start.matrix @ course.best, course.best_step, (course.losses[0], min(course.losses))


class Course:
    """One run: what is learned, what was best, and when it is over."""

    def __init__(self, bench: _Bench, options: RoutingOptions, run: str) -> None:
        self.bench, self.options, self.run, self.done = bench, options, run, 0
        width = min(KEY_WIDTH, bench.start.matrix.shape[1])
        self.turn = torch.eye(bench.start.matrix.shape[1], width).requires_grad_()
        """[D, key_width], from whitened states; it begins as their leading axes."""
        self._neutral = bench.whitened(bench.neutral)
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
        neutral = normalize(self._neutral @ self.turn, dim=-1)
        yardstick = Yardstick.of(asked @ neutral.T)
        rows = pad_sequence(list(torch.split(keys, lengths)), batch_first=True)  # zeros match no better than chance
        similar = (asked @ rows.flatten(0, 1).T).view(len(asked), *rows.shape[:2]).amax(2)
        matched = yardstick.surprise(similar, torch.tensor(lengths).float())
        owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        share = torch.zeros(len(sizes), len(documents)).index_add(0, owner, matched)
        whole = torch.zeros(len(sizes)).index_add(0, owner, yardstick.best)
        return share / whole.clamp(min=1e-3)[:, None]

    def _projected(self, held: Held, numbers: Sequence[int]) -> tuple[Tensor, list[int]]:
        states, lengths = held.of(numbers)
        return normalize(self.bench.whitened(states) @ self.turn, dim=-1), lengths

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
