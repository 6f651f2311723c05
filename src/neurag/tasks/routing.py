"""Training the routing projection: where in the model's states a question is like the document that answers it.

The backbone is frozen. Its states of all passages and questions are read once (held.py); what is learned is one matrix,
[D, key_width], that begins as the whitening (routing_course.py) and is somewhat wider while it is learned. Nothing is
learned about any document, so what is added to a bank later needs no training. Documents are held out by their hash;
training ends when the loss on them no longer falls, and the best matrix is kept. Not here: how a bank is searched
(hyper_layer/routing.py).

    >>> train_routing(backbone, rows, RoutingOptions(), Path("my-adapter"))          # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor

from ..backbone import Backbone
from ..config import UsageError
from ..files import write_whole
from ..knowledge.calibration import KEY_WIDTH, neutral_states, neutral_texts, routing_layer, whitening
from ..knowledge.chance import NEUTRAL
from ..knowledge.keys import read_chunks
from ..knowledge.states import span_states
from ..loading import ROUTING_FILE
from ..projection import Projection, leading_axes
from ..prompts import question_prompt
from .batches import place_of
from .held import hold
from .options import RoutingOptions
from .routing_course import Bench, Course

CHECKPOINT, PARTS = "routing.pt", "states"
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
    """Of that matrix, before its last axes are cut."""
    seconds: float


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
    ordered(Projection(bench.start.layer, bench.start.mean, best), bench.neutral).save(folder / ROUTING_FILE)
    seconds = round(time.perf_counter() - begun, 1)
    count = len(bench.documents.lengths)
    report = RoutingReport(len(bench.learned), count, len(bench.held), steps, *losses, seconds)
    told = {"model": backbone.name, "backbone": backbone.fingerprint, "options": asdict(options)} | asdict(report)
    write_whole(folder / "routing.json", json.dumps(told, indent=2) + "\n")
    for path in [folder / CHECKPOINT, *(folder / PARTS).glob("*.pt")]:
        path.unlink(missing_ok=True)
    return report


def ordered(found: Projection, states: Tensor, width: int = KEY_WIDTH) -> Projection:
    """The same space turned so that its first axes hold most of the keys of some states [T, D], cut to `width` axes.
    Turning changes no cosine, and the coarse pass reads the first axes only (hyper_layer/coarse.py)."""
    return replace(found, matrix=found.matrix @ leading_axes(found(states), width))


def _prepared(
    backbone: Backbone,
    rows: Sequence[RoutingRow],
    options: RoutingOptions,
    folder: Path,
    progress: Callable[[RoutingProgress], None],
) -> Bench:
    layer = options.layer or routing_layer(backbone)
    told = f"{backbone.fingerprint} {layer}"

    def reading(what: str) -> Callable[[int, int], None]:
        begun = time.perf_counter()

        def tell(done: int, total: int) -> None:
            left = (time.perf_counter() - begun) / done * (total - done)
            progress(RoutingProgress(f"reading {what}", done, total, seconds_left=left))

        return tell

    def of_chunks(part: Sequence[Text]) -> Iterator[Tensor]:
        return (states for states, _ in read_chunks(backbone, layer, part))

    def of_questions(part: Sequence[str]) -> Iterator[Tensor]:
        return span_states(backbone, [question_prompt(backbone, question) for question in part], layer)

    learned, held, kept_out = _parted(rows, options.hold_out)  # before the long reading: there may be too few
    texts = list(dict.fromkeys(text for row in rows for text in (*row.gold, *row.others)))
    number = {text: n for n, text in enumerate(texts)}
    others = [  # what is held out is not pushed away from anything that is learned from
        [text for text in dict.fromkeys(row.others) if text not in row.gold and (n in held or text not in kept_out)]
        for n, row in enumerate(rows)
    ]
    neutral = neutral_states(backbone, neutral_texts()[0], layer)
    return Bench(
        hold(folder / PARTS, "documents", texts, of_chunks, told, reading("documents")),
        hold(folder / PARTS, "questions", [row.question for row in rows], of_questions, told, reading("questions")),
        [[number[text] for text in dict.fromkeys(row.gold)] for row in rows],
        [[number[text] for text in part] for part in others],
        neutral[:NEUTRAL],
        whitening(neutral, layer, backbone.width),
        learned,
        held,
    )


def _parted(rows: Sequence[RoutingRow], share: float) -> tuple[list[int], list[int], set[Text]]:
    """Numbers of the rows to learn from and of those to judge by, and the documents held out. Raises UsageError."""
    kept_out = {text for row in rows for text in row.gold if place_of(text[1]) < share}
    inside = [[text in kept_out for text in row.gold] for row in rows]
    learned = [n for n, told in enumerate(inside) if not any(told)]
    held = [n for n, told in enumerate(inside) if all(told)]
    if len(learned) < 2 or not held:
        raise UsageError(
            f"{len(rows)} rows are too few to learn routing from: give hundreds, about different documents"
        )
    return learned, held, kept_out


def _trained(
    bench: Bench,
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
