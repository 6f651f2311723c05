"""Shows on stderr how far encoding and asking are: bars on a terminal, a line every ten seconds elsewhere.

Not here: the work and its estimates (knowledge/pipeline.py, evaluation/watch.py).

    with EncodeProgress() as progress:
        encode(documents, bank, progress=progress)
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from types import TracebackType

    from ..evaluation.watch import Asking
    from ..knowledge.pipeline import Progress
    from ..robust.mining import MineProgress
    from ..robust.tuning import TuneProgress
    from ..tasks.routing import RoutingProgress
    from ..tasks.training import TaskProgress


class Meter:
    """Bars or lines, used as a context manager so that the bars go away whatever happens."""

    def __init__(self, console: Console | None = None, every: float = 10.0) -> None:
        self._console = console or Console(stderr=True)
        self._every = every
        self._said = time.monotonic()
        self._tasks: dict[str, TaskID] = {}
        self._bars = Bars(
            TextColumn("{task.description:>17}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, name: str, done: int, total: int, unit: str, pace: str) -> None:
        """Show that `name` is at `done` of `total`; a total of 0 is one that is not known yet."""
        if not self._console.is_terminal:
            self._line(f"{name}: {done} of {total} {unit}, {pace}")
            return
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, pace="")
        self._bars.update(self._tasks[name], completed=done, total=total or None, pace=pace)

    def _line(self, text: str) -> None:
        if time.monotonic() - self._said < self._every:
            return
        self._said = time.monotonic()
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)


class EncodeProgress(Meter):
    """A callback for `encode`."""

    def __call__(self, told: Progress) -> None:
        """Show one report."""
        self.show(told.stage, told.done, told.total, "chunks", speed(told))


class EvalProgress(EncodeProgress):
    """A callback for the encoding of an evaluation, and with `asking` one for its questions."""

    def asking(self, told: Asking) -> None:
        """Show one report; the bar counts all systems."""
        pace = f"{told.system} {told.done}/{told.total}, {asking_speed(told)}"
        self.show(f"asking {told.part}".strip(), told.asked, told.planned, "questions", pace)


class TaskMeter(Meter):
    """A callback for `train_task`."""

    def __call__(self, told: TaskProgress) -> None:
        """Show one report."""
        both = ("loss", told.loss), ("matching", told.match_loss)
        losses = [f"{name} {loss:.2f}" for name, loss in both if loss is not None]
        pace = ", ".join([*losses, f"{told.tokens_per_second:.0f} tokens/s", _left(told.seconds_left)])
        self.show("training", told.step, told.steps, "steps", pace)


class RoutingMeter(Meter):
    """A callback for `train_routing`."""

    def __call__(self, told: RoutingProgress) -> None:
        """Show one report."""
        losses = [f"{name} {loss:.2f}" for name, loss in (("loss", told.loss), ("held out", told.held_loss)) if loss]
        unit = "steps" if told.stage == "training" else "texts"
        self.show(told.stage, told.done, told.total, unit, ", ".join([*losses, _left(told.seconds_left)]))


class MineMeter(Meter):
    """A callback for `mine`."""

    def __call__(self, told: MineProgress) -> None:
        """Show one report."""
        error = told.completeness_error
        parts = [] if error is None else [f"completeness error {error:.1%}"]
        self.show("mining", told.done, told.questions, "questions", ", ".join([*parts, _left(told.seconds_left)]))


class HardenMeter(Meter):
    """A callback for `harden`."""

    def __call__(self, told: TuneProgress) -> None:
        """Show one report."""
        pace = f"loss {told.loss:.2f}, {told.tokens_per_second:.0f} tokens/s, {_left(told.seconds_left)}"
        self.show(told.stage, told.step, told.steps, "steps", pace)


def speed(told: Progress) -> str:
    """Say how fast it goes and how long it takes: '3.2 documents/s, 0:08 left'."""
    return f"{told.documents_per_second:.2g} documents/s, {_left(told.seconds_left)}"


def asking_speed(told: Asking) -> str:
    """The same of questions; kept answers have no speed."""
    known = math.isfinite(told.questions_per_second)
    return (f"{told.questions_per_second:.2g} questions/s, " if known else "") + _left(told.seconds_left)


def _left(seconds: float) -> str:
    known = math.isfinite(seconds) and seconds >= 0
    return f"{clock(seconds) if known else 'unknown time'} left"


def clock(seconds: float) -> str:
    """Write seconds as m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
