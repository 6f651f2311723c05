"""Training a task adapter: LoRA on every matrix of every layer, with checkpoints.

Two losses are added up: of packed examples to read and write from (examples.py), and of passages to match with their
questions (matching.py). The order follows from the seed alone, so a stopped run goes on where it was and ends with the
same adapter. Not here: how an adapter is used (loading.py).

    >>> examples, passages = pack(backbone, rows), matches(backbone, rows, seed=0)           # doctest: +SKIP
    >>> train_task(backbone, examples, passages, TaskOptions(), Path("my-adapter"))          # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from ..backbone import Backbone
from ..config import NeuragError, UsageError
from ..files import swapped, write_whole
from ..loading import TASK_FILE
from ..lora import ALL, Lora, applied, start
from ..packed import Columns, Piece, final_states
from .batches import alike, rate_share
from .examples import Packed
from .matching import Match, UnitSpace, match_loss
from .options import TaskOptions

CHECKPOINT = "training.pt"
POOL = 64
"""Batches whose examples are sorted by length together, so that little is padding."""


@dataclass(frozen=True)
class TaskProgress:
    """Where a run stands."""

    step: int
    steps: int
    loss: float | None
    """Mean negative log likelihood a token of the last steps that read, in nats."""
    match_loss: float | None
    """The same a question, of the last steps that matched."""
    tokens_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class TaskReport:
    """What a run did."""

    examples: int
    matches: int
    steps: int
    tokens: int
    """Of the examples and matches, once each."""
    loss: float | None
    """Mean of the last steps, in nats a token; None where nothing was read."""
    match_loss: float | None
    """Mean of the last steps, in nats a question; None where nothing was matched."""
    seconds: float
    """Of this run; one that went on with a checkpoint does not know the earlier ones'."""


def train_task(
    backbone: Backbone,
    examples: Sequence[Packed],
    passages: Sequence[Match],
    options: TaskOptions,
    folder: Path,
    progress: Callable[[TaskProgress], None] | None = None,
    begin: Lora | None = None,
) -> TaskReport:
    """Train an adapter and write it to `folder`, beside what made it (`task.json`); `begin`: one to train further.

    A stopped run with the same examples and options goes on with its checkpoint. Raises UsageError when there is
    nothing to learn.
    """
    if not examples:
        raise UsageError("no example is short enough to be learned: give shorter passages")
    if options.matched < 1:
        raise UsageError(f"--matched must be at least 1, not {options.matched}")
    if begin:
        options = replace(options, rank=begin.rank)
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    lora, last = train_adapter(backbone, examples, passages, options, folder / CHECKPOINT, progress, begin)
    tokens = sum(map(len, examples)) + sum(map(len, passages))
    read, matched = (None if loss is None else round(loss, 4) for loss in (last.loss, last.match_loss))
    seconds = round(time.perf_counter() - begun, 1)
    report = TaskReport(len(examples), len(passages), last.steps, tokens, read, matched, seconds)
    lora.save(folder / TASK_FILE, small=True)
    told = {"model": backbone.name, "backbone": backbone.fingerprint} | asdict(options) | asdict(report)
    write_whole(folder / "task.json", json.dumps(told, indent=2) + "\n")
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return report


def train_adapter(
    backbone: Backbone,
    examples: Sequence[Packed],
    passages: Sequence[Match],
    options: TaskOptions,
    path: Path,
    progress: Callable[[TaskProgress], None] | None = None,
    begin: Lora | None = None,
) -> tuple[Lora, TaskProgress]:
    """The adapter, and where its training ended. Goes on with the checkpoint at `path` if it is of the same run."""
    run = f"{backbone.fingerprint} {options} {hash_of([*examples, *passages])} {begin.fingerprint if begin else ''}"
    steps = _dealt(_batches(examples, options), _matched(len(passages), options))
    if not steps:
        raise UsageError("there is nothing to learn: give more rows, or more --epochs or --matching")
    fresh = begin.unfinished(options.scale) if begin else start(backbone, options.rank, options.seed, ALL)
    parameters = [*fresh.down.values(), *fresh.up.values()]
    optimiser = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=0.0)
    with applied(backbone, fresh, options.scale, backbone.dtype), torch.enable_grad():
        # measured before a checkpoint is taken up: the same for a stopped run
        space = UnitSpace.of(backbone) if any(matched for _, matched in steps) else None
        first = _restore(path, fresh, optimiser, run)
        meter = _Meter(first, len(steps))
        for step in range(first, len(steps)):
            read, matched = [examples[i] for i in steps[step][0]], [passages[i] for i in steps[step][1]]
            optimiser.param_groups[0]["lr"] = options.learning_rate * rate_share(step, len(steps), options.warm_up)
            optimiser.zero_grad()
            losses = [
                _learned(batch_loss(backbone, read)) if read else None,
                _learned(match_loss(backbone, space, matched)) if matched and space else None,
            ]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            if (step + 1) % options.save_every == 0:
                _save(path, fresh, optimiser, step + 1, run)
            meter.add(losses, sum(map(len, read)) + sum(map(len, matched)))
            if progress:
                progress(meter.told())
    return fresh.finished(options.scale), meter.told()


def stopped(folder: Path, scale: float) -> Lora:
    """The adapter of a run that was stopped, as it was at its last checkpoint; `scale` is that of the run.

    Raises NeuragError where there is no checkpoint.
    """
    try:
        told = torch.load(folder / CHECKPOINT, weights_only=True)
    except (OSError, RuntimeError, UnpicklingError) as error:
        raise NeuragError(f"{folder} holds no adapter and no run to go on with ({error}): name another") from None
    return Lora(told["down"], told["up"]).finished(scale)


def _learned(loss: Tensor) -> float:
    """Add a loss's gradients, and let go of what it held."""
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


class _Meter:
    """How far a run is, how fast, and its last losses."""

    def __init__(self, first: int, steps: int) -> None:
        self.first, self.steps, self.done, self.tokens = first, steps, first, 0
        self.begun = time.perf_counter()
        self.recent: tuple[list[float], list[float]] = [], []

    def add(self, losses: Sequence[float | None], tokens: int) -> None:
        """One step more."""
        for recent, loss in zip(self.recent, losses, strict=True):
            recent += [] if loss is None else [loss]
            del recent[:-20]
        self.done, self.tokens = self.done + 1, self.tokens + tokens

    def told(self) -> TaskProgress:
        """For whoever watches."""
        loss, match = (sum(x) / len(x) if x else None for x in self.recent)
        spent, done = time.perf_counter() - self.begun, self.done - self.first
        left = spent / done * (self.steps - self.done) if done else math.nan
        return TaskProgress(self.done, self.steps, loss, match, self.tokens / max(spent, 1e-9), left)


def _dealt(read: Sequence[list[int]], matched: Sequence[list[int]]) -> list[tuple[list[int], list[int]]]:
    """What is read and what is matched in each step: the shorter list is spread over the longer one."""
    steps = max(len(read), len(matched))

    def spread(batches: Sequence[list[int]]) -> list[list[int]]:
        turns = [(step * len(batches) // steps, (step + 1) * len(batches) // steps) for step in range(steps)]
        return [batches[a] if b > a else [] for a, b in turns]

    return list(zip(spread(read), spread(matched), strict=True))


def _matched(count: int, options: TaskOptions) -> list[list[int]]:
    """Numbers of the passages matched in each step, in an order of their own."""
    drawn = random.Random(f"matching {options.seed}")
    order = _passes(count, options.matching, drawn)
    return [order[at : at + options.matched] for at in range(0, len(order), options.matched)]


def _passes(count: int, passes: float, drawn: random.Random) -> list[int]:
    """The numbers below `count` in as many random orders; of the last one a part."""
    rest = round(count * passes)
    order: list[int] = []
    while rest > 0 and count:
        order += drawn.sample(range(count), count)[:rest]
        rest -= count
    return order


def hash_of(examples: Sequence[Packed | Match]) -> str:
    """Hash of all that is learned."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr(example).encode())
    return digest.hexdigest()[:16]


def batch_loss(backbone: Backbone, batch: Sequence[Packed]) -> Tensor:
    """Weighted mean negative log likelihood of the tokens to learn."""
    columns = Columns.of([_pieces(example) for example in batch], backbone.device)
    targets, weights = (x.to(backbone.device) for x in _targets(batch, columns.ids.shape[1]))
    learned = targets != -100
    logits = backbone.part(backbone.family.head)(final_states(backbone, columns)[learned]).float()
    losses = torch.nn.functional.cross_entropy(logits, targets[learned], reduction="none")
    return (losses * weights[learned]).sum() / weights[learned].sum()


def _pieces(example: Packed) -> list[Piece]:
    at = len(example.prefix)
    return [Piece(0, 0, example.prefix), *(Piece(n, at, s.ids) for n, s in enumerate(example.segments, 1))]


def _targets(batch: Sequence[Packed], longest: int) -> tuple[Tensor, Tensor]:
    """What each position predicts (-100: nothing) and its weight, [B, T]."""
    targets, weights = torch.full((len(batch), longest), -100), torch.zeros(len(batch), longest)
    for row, example in enumerate(batch):
        at = len(example.prefix)
        for segment in example.segments:
            first, end = at + segment.learn - 1, at + len(segment.ids) - 1
            targets[row, first:end] = torch.tensor(segment.ids[segment.learn :])
            weights[row, first:end] = segment.weight
            at += len(segment.ids)
    return targets, weights


def _batches(examples: Sequence[Packed], options: TaskOptions) -> list[list[int]]:
    """Numbers of the examples of each step: every epoch its own order, alike lengths together."""
    if not examples:
        return []
    drawn = random.Random(options.seed)
    made: list[list[int]] = []
    order = _passes(len(examples), options.epochs, drawn)
    lengths = list(map(len, examples))
    size = max(1, POOL * options.batch_tokens * len(examples) // max(1, sum(lengths)))
    for first in range(0, len(order), len(examples)):
        epoch: list[list[int]] = []
        for at in range(first, min(first + len(examples), len(order)), size):
            epoch += alike(order[at : min(at + size, first + len(examples))], lengths, options.batch_tokens)
        made += drawn.sample(epoch, len(epoch))
    return made


def _save(path: Path, lora: Lora, optimiser: torch.optim.Optimizer, step: int, run: str) -> None:
    told = {"down": dict(lora.down), "up": dict(lora.up), "optimiser": optimiser.state_dict(), "step": step}
    with swapped(path) as aside:
        torch.save(told | {"run": run}, aside)


@torch.no_grad()
def _restore(path: Path, lora: Lora, optimiser: torch.optim.Optimizer, run: str) -> int:
    """Take up a checkpoint of the same run; the step to go on with."""
    if not path.exists():
        return 0
    told = torch.load(path, weights_only=True)
    if told["run"] != run:
        return 0
    for held, kept in ((lora.down, told["down"]), (lora.up, told["up"])):
        for name, tensor in held.items():
            tensor.copy_(kept[name])
    optimiser.load_state_dict(told["optimiser"])
    return int(told["step"])
