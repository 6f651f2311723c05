"""An evaluation on a terminal: one table, and one line for each comparison.

Also what the table and the page (`page.py`) share: which columns have something to say, how figures are
written, and which systems compete, which are told the gold documents, and which are controls.

Not here: how figures are computed; printing.

    Console().print(table(result))
    for line in verdicts(result):
        print(line)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.box import HORIZONTALS
from rich.table import Table
from rich.text import Text

from ..knowledge.documents import clean_text
from .results import Result, SystemFigures

if TYPE_CHECKING:
    from .sweep import Swept

Role = Literal["compared", "oracle", "control"]
ROLES: tuple[Role, ...] = ("compared", "oracle", "control")
NONE = "-"
FAMILIES = ("neurag", "rag", "prag", "hybrid")
_CONTROLS = ("wrong", "random", "empty", "closed")


@dataclass(frozen=True)
class Column:
    """One figure of a system: its heading, what it means, and how it is written."""

    head: str
    meaning: str
    cell: Callable[[SystemFigures], str | None]
    """None where the figure does not apply."""


ASKED = Column("asked", "questions put to the system", lambda s: str(s.n))
COLUMNS = (
    ASKED,
    Column("match", "the answer holds an accepted one; in brackets the 95 % Wilson interval", lambda s: _match(s)),
    Column("em", "exact match: the answer is an accepted one and nothing else", lambda s: _rate(s.em)),
    Column("f1", "words shared with the accepted answer", lambda s: _rate(s.f1)),
    Column("recall\n@5", "gold documents among the first five", lambda s: _rate(s.recall_at_5)),
    Column("abstained", "the system declined to answer", lambda s: _rate(s.abstained)),
    Column("s per\nquestion", "seconds a question", lambda s: _written(s.seconds_per_question, ".2f")),
    Column("first\ntoken", "seconds to the first token of the answer", lambda s: _written(s.first_token_s, ".2f")),
    Column("prompt\ntokens", "mean length of the prompt", lambda s: _written(s.prompt_tokens, ".0f")),
)


def role(system: str) -> Role:
    """Whether a system competes, is told the gold documents, or is a control that should do badly."""
    last = system.removesuffix("-greedy").rpartition("-")[2]
    return "oracle" if last == "oracle" else "control" if last in _CONTROLS else "compared"


def family(system: str) -> str:
    """Name what a system belongs to: neurag, rag, prag, hybrid, other or control."""
    first = system.partition("-")[0].replace("dyprag", "prag")
    return "control" if role(system) == "control" else first if first in FAMILIES else "other"


def groups(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Sort systems into those that compete, oracles and controls, in this order; no group is empty."""
    known = tuple(names)
    sorted_out = (tuple(name for name in known if role(name) == wanted) for wanted in ROLES)
    return [group for group in sorted_out if group]


def columns(result: Result) -> tuple[Column, ...]:
    """Choose the columns that tell something."""
    cells = {column: {column.cell(figures) for figures in result.systems.values()} for column in COLUMNS}
    # Where all systems were asked the same number of questions, the caption says it once.
    return tuple(c for c in COLUMNS if not cells[c] <= {None} and not (c is ASKED and len(cells[c]) == 1))


def caption(result: Result) -> str:
    """Say how many questions there were and in what unit the rates are."""
    asked = {figures.n for figures in result.systems.values()}
    counted = f"{asked.pop()} questions; " if len(asked) == 1 else ""
    return counted + "rates in %, times in seconds; [95 % interval]"


def table(result: Result) -> Table:
    """Build the table of all systems; oracles and controls are set apart below a rule."""
    shown = columns(result)
    cells = {name: [column.cell(result.systems[name]) or NONE for column in shown] for name in result.systems}
    return _grouped("system", [column.head for column in shown], cells, caption(result))


def sweep_table(swept: Swept) -> Table:
    """Build the table of a sweep: systems down, settings across, match in each cell."""
    cells = {name: sweep_cells(swept, name) for name in swept.results[0].systems}
    return _grouped("match", [f"{swept.option}\n{label}" for label in swept.labels], cells, sweep_caption(swept))


def _grouped(corner: str, heads: Sequence[str], cells: Mapping[str, Sequence[str]], below: str) -> Table:
    """Systems down, in their groups with a rule between; controls are dim."""
    # One space between columns: with it the table of the usual figures fits into 80 characters.
    made = Table(box=HORIZONTALS, show_edge=False, padding=0, caption=Text(below), caption_justify="left")
    made.add_column(corner, no_wrap=True)
    for head in heads:
        made.add_column(Text(head), justify="right", overflow="fold")
    for group in groups(cells):
        for name in group:
            made.add_row(
                Text(clean_text(name)), *map(Text, cells[name]), style="dim" if role(name) == "control" else ""
            )
        made.add_section()
    return made


def sweep_cells(swept: Swept, system: str) -> list[str]:
    """The match of a system at each setting, with its interval."""
    return [_match(result.systems[system]) or NONE for result in swept.results]


def sweep_caption(swept: Swept) -> str:
    """Say how many questions there were and what the cells are."""
    return f"{len(swept.results[0].questions)} questions; right answers in %; [95 % interval]"


def verdicts(result: Result) -> list[str]:
    """Say in lines how the systems compare, and what went wrong."""
    lines = [("" if pair.metric == "match" else f"{pair.metric}: ") + pair.verdict for pair in result.pairs]
    return lines + _failures(result)


def sweep_failures(swept: Swept) -> list[str]:
    """Say in lines what went wrong at which setting."""
    told = {label: _failures(result) for label, result in zip(swept.labels, swept.results, strict=True)}
    return [f"{swept.option} {label}: {line}" for label, lines in told.items() for line in lines]


def _failures(result: Result) -> list[str]:
    lines = [
        f"{name} failed at {figures.errors} of {figures.n} questions"
        for name, figures in result.systems.items()
        if figures.errors
    ]
    if broken := result.meta.get("broken_rows"):
        lines.append(f"{broken} broken rows of the data were left out")
    return lines


def _match(figures: SystemFigures) -> str | None:
    match, low, high = (_rate(value) for value in (figures.match, figures.match_low, figures.match_high))
    # No space inside the brackets, so that a narrow terminal breaks the line before them.
    return f"{match} [{low}–{high}]" if match and low and high else match


def _rate(value: float | None) -> str | None:
    return _written(None if value is None else 100 * value, ".1f")


def _written(value: float | None, form: str) -> str | None:
    return None if value is None or math.isnan(value) else format(value, form)
