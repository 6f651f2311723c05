"""Shows on stderr how far encoding is: bars on a terminal, a line every ten seconds elsewhere.

Not here: the work and its estimates (knowledge/pipeline.py).

    with EncodeProgress() as progress:
        encode(documents, bank, progress=progress)
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from types import TracebackType

    from ..knowledge.pipeline import Progress


class EncodeProgress:
    """A callback for `encode`, used as a context manager so that the bars go away whatever happens."""

    def __init__(self, console: Console | None = None, every: float = 10.0) -> None:
        self._console = console or Console(stderr=True)
        self._every = every
        self._said = time.monotonic()
        self._tasks: dict[str, TaskID] = {}
        self._bars = Bars(
            TextColumn("{task.description:>17}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> EncodeProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, told: Progress) -> None:
        """Show one report."""
        if not self._console.is_terminal:
            self._line(told)
            return
        if told.stage not in self._tasks:
            self._tasks[told.stage] = self._bars.add_task(told.stage, speed="")
        # A total of 0 is one that is not known yet.
        self._bars.update(self._tasks[told.stage], completed=told.done, total=told.total or None, speed=speed(told))

    def _line(self, told: Progress) -> None:
        if time.monotonic() - self._said < self._every:
            return
        self._said = time.monotonic()
        text = f"{told.stage}: {told.done} of {told.total} chunks, {speed(told)}"
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)


def speed(told: Progress) -> str:
    """Say how fast it goes and how long it takes: '3.2 documents/s, 0:08 left'."""
    left = told.seconds_left
    known = math.isfinite(left) and left >= 0
    return f"{told.documents_per_second:.2g} documents/s, {clock(left) if known else 'unknown time'} left"


def clock(seconds: float) -> str:
    """Write seconds as m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
