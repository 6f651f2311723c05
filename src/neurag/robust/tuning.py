"""The loop that both stages and all baselines share: lessons in, a trained part of the backbone out.

Lessons of like length stand together, padded on the right, so no mask is needed and attention is causal. Gradients flow
only where something is trained. The order follows from the seed alone, and checkpoints hold masters and optimiser, so a
stopped run goes on where it was and ends with the same numbers. Not here: what is trained (trained.py), from what
(lessons.py), which stage (hardening.py).

    >>> train(backbone, Weights.of_layers(backbone, [16]), made, options, Schedule(300, 2e-4), path)   # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..backbone import Backbone
from ..config import UsageError
from ..files import swapped
from ..tasks.batches import alike, rate_share
from .lessons import Lesson
from .options import HardenOptions
from .trained import Trained

POOL = 32
"""Steps whose lessons are sorted by length together, so that little is padding."""


@dataclass(frozen=True)
class TuneProgress:
    """Where a stage stands."""

    stage: str
    step: int
    steps: int
    loss: float
    """Mean of the last steps, in nats a token."""
    tokens_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Schedule:
    """How long, how fast, and what for."""

    steps: int
    rate: float
    loss: str = "sft"
    stage: str = "distillation"
    begin: str = ""
    """What the model is before, so that a checkpoint of another start is not taken up."""


def train(
    backbone: Backbone,
    trained: Trained,
    made: Sequence[Lesson],
    options: HardenOptions,
    schedule: Schedule,
    path: Path | None = None,
    progress: Callable[[TuneProgress], None] | None = None,
) -> float:
    """Train and finish; the mean loss of the last steps. Goes on with the checkpoint at `path` if it is of this run.

    The checkpoint stays: whoever called knows when all is done.
    """
    parameters = list(trained.masters.values())
    if not parameters:
        raise UsageError("there is nothing to train: choose other --layers or --trains")
    fused = backbone.device.type == "cuda"
    optimiser = torch.optim.AdamW(parameters, lr=schedule.rate, weight_decay=0.0, fused=fused)
    run = f"{schedule} {options} {sorted(trained.masters)} {hash_of(made)}" if path else ""
    batches = batches_of(made, options, schedule.steps)
    first = _restore(path, trained, optimiser, run)
    recent: list[float] = []
    tokens, begun = 0, time.perf_counter()
    with trained.acting(), torch.enable_grad():
        for step in range(first, len(batches)):
            batch = [made[number] for number in batches[step]]
            optimiser.param_groups[0]["lr"] = schedule.rate * rate_share(step, len(batches), options.warm_up)
            optimiser.zero_grad()
            recent = [*recent[-19:], _step(backbone, trained, batch, options, schedule.loss)]
            trained.gather()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            trained.push()
            tokens += sum(map(len, batch))
            if path and ((step + 1) % options.save_every == 0 or step + 1 == len(batches)):
                _save(path, trained, optimiser, step + 1, run)
            if progress:
                spent, done = time.perf_counter() - begun, step + 1 - first
                left = spent / done * (len(batches) - step - 1)
                loss = sum(recent) / len(recent)
                progress(TuneProgress(schedule.stage, step + 1, len(batches), loss, tokens / spent, left))
    trained.finish()
    return sum(recent) / len(recent) if recent else math.nan


def batches_of(made: Sequence[Lesson], options: HardenOptions, steps: int) -> list[list[int]]:
    """Numbers of the lessons of each step: in the order they were made, sorted by length within a pool of steps."""
    drawn = random.Random(f"batches {options.seed}")
    lengths = list(map(len, made))
    mean = max(1, sum(lengths) // max(1, len(made)))
    size = max(1, POOL * options.batch_tokens // mean)
    batches: list[list[int]] = []
    at = 0
    while len(batches) < steps and made:
        pool = alike((number % len(made) for number in range(at, at + size)), lengths, options.batch_tokens)
        batches += drawn.sample(pool, len(pool))
        at += size
    return batches[:steps]


def hash_of(made: Sequence[Lesson]) -> str:
    """Hash of all that is learned."""
    digest = hashlib.sha256()
    for lesson in made:
        for ids in (lesson.prompt, lesson.target, lesson.clean):
            digest.update(array("q", (len(ids), *ids)).tobytes())
    return digest.hexdigest()[:16]


def logits_of(backbone: Backbone, prompts: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> Tensor:
    """[N, V] what is predicted at the places of all tokens of all targets, each behind its prompt."""
    longest = max(len(p) + len(t) for p, t in zip(prompts, targets, strict=True))
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    rows: list[int] = []
    columns: list[int] = []
    for row, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
        whole = torch.tensor([*prompt, *target])
        ids[row, : len(whole)] = whole
        rows += [row] * len(target)
        columns += range(len(prompt) - 1, len(prompt) + len(target) - 1)
    with _products(backbone):
        body = backbone.part(backbone.family.body)
        # padding stands on the right, where no token of a row looks
        states = body(input_ids=ids.to(backbone.device), use_cache=False)[0]
        at = torch.tensor([rows, columns], device=backbone.device)
        told: Tensor = backbone.part(backbone.family.head)(states[at[0], at[1]])
    return told.float()


def _step(backbone: Backbone, trained: Trained, batch: Sequence[Lesson], options: HardenOptions, loss: str) -> float:
    """Leave the gradients of a batch's mean loss a token; the loss."""
    whole = sum(len(lesson.target) for lesson in batch)
    total = torch.zeros((), device=backbone.device)
    for part in _micro(batch, options.micro_tokens):
        targets = [lesson.target for lesson in part]
        said = torch.tensor([token for target in targets for token in target], device=backbone.device)
        wanted = None
        if loss != "sft":
            with trained.aside(), torch.no_grad():
                wanted = logits_of(backbone, [lesson.clean for lesson in part], targets).log_softmax(-1)
        logits = logits_of(backbone, [lesson.prompt for lesson in part], targets)
        cost = logits.new_zeros(())
        if loss != "kl":
            cost = cost + torch.nn.functional.cross_entropy(logits, said, reduction="sum")
        if wanted is not None:
            weight = options.kl_weight if loss == "both" else 1.0
            apart = torch.nn.functional.kl_div(logits.log_softmax(-1), wanted, reduction="sum", log_target=True)
            cost = cost + weight * apart
        (cost / whole).backward()  # type: ignore[no-untyped-call]
        total += cost.detach() / whole
    return float(total)


def _micro(batch: Sequence[Lesson], tokens: int) -> Iterator[list[Lesson]]:
    """The batch cut into parts of at most so many tokens, padding included."""
    held: list[Lesson] = []
    longest = 0
    for lesson in batch:
        longest = max(longest, len(lesson))
        if held and (len(held) + 1) * longest > tokens:
            yield held
            held, longest = [], len(lesson)
        held.append(lesson)
    if held:
        yield held


@contextmanager
def _products(backbone: Backbone) -> Iterator[None]:
    """bfloat16 autocast, where a float32 model is on a GPU."""
    wide = backbone.device.type == "cuda" and backbone.dtype == torch.float32
    with torch.autocast("cuda", torch.bfloat16) if wide else nullcontext():
        yield


def _save(path: Path, trained: Trained, optimiser: torch.optim.Optimizer, step: int, run: str) -> None:
    told = {"masters": dict(trained.masters), "optimiser": optimiser.state_dict(), "step": step, "run": run}
    with swapped(path) as aside:
        torch.save(told, aside)


@torch.no_grad()
def _restore(path: Path | None, trained: Trained, optimiser: torch.optim.Optimizer, run: str) -> int:
    """Take up a checkpoint of the same run; the step to go on with."""
    if path is None or not path.exists():
        return 0
    told = torch.load(path, weights_only=True, map_location="cpu")
    if told["run"] != run:
        return 0
    for name, master in trained.masters.items():
        master.copy_(told["masters"][name])
    optimiser.load_state_dict(told["optimiser"])
    return int(told["step"])
