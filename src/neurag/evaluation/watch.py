"""Who is told how far an evaluation is, and how far it is: questions are counted over all systems and the timing.

Not here: the work (run.py), and how progress looks (app/progress.py).

    >>> Watch(asking=lambda told: print(told.system, told.done, told.total))     # doctest: +SKIP
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..knowledge.pipeline import Progress
from .data import Broken

TIMING = "timing"
"""What stands for a system while times are taken."""


@dataclass(frozen=True)
class Asking:
    """Where an evaluation is: `done` of `total` questions of one system, or rounds of the timing."""

    system: str
    done: int
    total: int
    asked: int
    """Questions behind us, over all systems and the timing."""
    planned: int
    """All questions there are."""
    questions_per_second: float
    """Over those answered since the start, not those kept from before; nan until there is one."""
    part: str = ""
    """The setting of a sweep, where there is one."""

    @property
    def seconds_left(self) -> float:
        """At the speed so far; infinite where that is not known."""
        speed = self.questions_per_second
        return (self.planned - self.asked) / speed if speed > 0 else math.inf


@dataclass(frozen=True)
class Watch:
    """Who is told how far things are."""

    encoding: Callable[[Progress], None] | None = None
    asking: Callable[[Asking], None] | None = None
    broken: Callable[[Broken], None] | None = None


class Counter:
    """Counts the questions of an evaluation and tells a watch."""

    def __init__(self, watch: Watch, planned: int) -> None:
        self._watch, self._planned, self._start = watch, planned, time.monotonic()
        self._asked = self._fresh = 0

    def at(self, system: str, done: int, total: int) -> None:
        """Tell where a system is."""
        if self._watch.asking:
            taken = time.monotonic() - self._start
            speed = self._fresh / taken if self._fresh and taken else math.nan
            self._watch.asking(Asking(system, done, total, self._asked, self._planned, speed))

    def add(self, questions: int, kept: bool = False) -> None:
        """Count questions that are behind us; kept ones took no time."""
        self._asked += questions
        self._fresh += 0 if kept else questions
