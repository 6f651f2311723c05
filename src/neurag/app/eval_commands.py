"""The commands `neurag eval` and `neurag rows`: compare systems on questions, and turn public data into rows.

Not here: the evaluation (evaluation/run.py), how it looks (evaluation/report.py and page.py).

    $ neurag eval questions.jsonl --systems closed,rag-bm25,neurag --limit 100 --json out.json --page out.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..config import EvalOptions, UsageError
from ..files import swapped
from .bank_commands import BankFolder, errors, output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..evaluation.data import Broken, Row
    from ..evaluation.results import Result
    from ..evaluation.sweep import Swept

EvalFlags = Annotated[EvalOptions, Parameter(name="*")]
RowsFile = Annotated[Path, Parameter(name=["--output", "-o"], help="The .jsonl file to write.")]
EVAL = EvalOptions()
SHOWN = 5
"""Broken rows that are named one by one; the others are counted."""


def evaluate(
    data: Path,
    /,
    *,
    options: EvalFlags = EVAL,
    model: str | None = None,
    bank: BankFolder | None = None,
    sweep: tuple[str, ...] = (),
    json: Path | None = None,
    page: Path | None = None,
) -> None:
    """Ask several systems the same questions and compare their answers.

    Where no bank is named, one is made of the rows' documents, and kept for the next time.

    Args:
        data: Rows as in docs/data.md: .jsonl or .jsonl.gz.
        model: A hub name or a folder; by default the bank's own backbone.
        sweep: Do so at each of several settings: noise=0,0.2,0.4; also distractors, position, documents, seed.
        json: Where to write figures, answers and comparisons.
        page: Where to write a page with plots and the questions where systems disagree.
    """
    from ..evaluation.charts import need_matplotlib
    from ..evaluation.results import Result
    from ..evaluation.run import evaluate
    from ..evaluation.sweep import parse
    from ..evaluation.sweep import sweep as sweep_all
    from ..evaluation.watch import Watch
    from .progress import EvalProgress

    options = replace(options, systems=tuple(name.strip() for told in options.systems for name in told.split(",")))
    sweeps = [parse(told) for told in sweep]
    for path in (json, page):  # found out before hours of work, not after
        if path is not None and path.is_dir():
            raise UsageError(f"{path} is a folder: name a file to write to")
    if page is not None:
        need_matplotlib()
    console = errors()  # one for all: two would write over each other
    said = BrokenRows(console)
    with EvalProgress(console) as progress:
        watch = Watch(progress, progress.asking, said)
        asked = (options, model, bank, watch)
        found = sweep_all(data, sweeps, *asked) if sweeps else evaluate(data, *asked)
    said.close()
    if isinstance(found, Result):
        _show(found, json, page)
    else:
        _show_sweeps(found, json, page)


def _show(result: Result, json: Path | None, page: Path | None) -> None:
    from ..evaluation.page import write_page
    from ..evaluation.report import table, verdicts
    from ..evaluation.results import save

    _print(table(result), verdicts(result))
    if json is not None:
        save(result, json)
    if page is not None:
        write_page(result, page)


def _show_sweeps(swept: Sequence[Swept], json: Path | None, page: Path | None) -> None:
    from ..evaluation.page import write_sweeps
    from ..evaluation.report import sweep_failures, sweep_table
    from ..evaluation.sweep import save_sweeps

    for one in swept:
        _print(sweep_table(one), sweep_failures(one))
    if json is not None:
        save_sweeps(swept, json)
    if page is not None:
        write_sweeps(swept, page)


def _print(table: Table, lines: Sequence[str]) -> None:
    from .show import show_line

    output().print(table)
    for line in lines:
        show_line(output(), line)


def rows(file: Path, /, *, output: RowsFile, format: str | None = None) -> None:
    """Turn a public data set's own file into rows for `neurag eval`.

    Args:
        file: The file as its makers publish it (docs/data.md says where).
        format: hotpotqa, 2wikimultihopqa, musique, nq, triviaqa, popqa, squad, rgb or ramdocs; guessed if not named.
    """
    from ..evaluation.data import Broken
    from ..evaluation.formats import convert
    from .show import show_line

    said, count = BrokenRows(errors()), 0
    with swapped(output) as aside, aside.open("w", encoding="utf-8") as written:
        for item in convert(file, format):
            if isinstance(item, Broken):
                said(item)
                continue
            written.write(json.dumps(item, ensure_ascii=False) + "\n")
            count += 1
        if not count:
            raise UsageError(f"{file} gave no row: name its format with --format")
    said.close()
    show_line(errors(), f"{count} rows in {output}")


def sound_rows(data: Path, limit: int | None) -> list[Row]:
    """The first so many sound rows of a file; broken ones are named on stderr."""
    from ..evaluation.data import Row, read_rows, sharing

    said = BrokenRows(errors())
    rows = []
    for item in sharing(read_rows(data, limit)):
        if isinstance(item, Row):
            rows.append(item)
        else:
            said(item)
    said.close()
    return rows


class BrokenRows:
    """Names the first broken rows, and counts the others."""

    def __init__(self, console: Console) -> None:
        self._console, self._count = console, 0

    def __call__(self, told: Broken) -> None:
        """Name one, or count it."""
        from .show import show_line

        self._count += 1
        if self._count <= SHOWN:
            show_line(self._console, f"line {told.line}: {told.reason}; the row is left out")

    def close(self) -> None:
        """Say how many there were."""
        from .show import show_line

        if self._count > SHOWN:
            show_line(self._console, f"{self._count} rows are broken and were left out; the first {SHOWN} are above")
