"""docs/results.md: prose by hand, and blocks between markers that are rewritten from the benchmarks' JSON.

    <!-- routing:begin -->          what the last full run of routing.py found
    <!-- routing:end -->
    <!-- routing-quick:begin -->    what the last quick one found
    <!-- routing-quick:end -->

A quick run never touches a full run's block, and a run that is not complete touches none. Not here: what is in a
table (sheets.py, tables.py), and running benchmarks (bench.py).

    >>> refresh(Path("docs/results.md"), [Path("benchmarks/figures/quick/routing.json")])     # doctest: +SKIP
    ['routing-quick']
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from neurag.files import write_whole
from sheets import SHEETS, lines


def refresh(page: Path, runs: Iterable[Path]) -> list[str]:
    """Rewrite the blocks of the runs that are complete, and return their names."""
    text, changed = page.read_text(encoding="utf-8"), []
    for path in runs:
        if (told := finished(path)) is not None:
            name = block_name(path.stem, quick=told["meta"]["quick"])
            text = with_block(text, name, block(path.stem, told))
            changed.append(name)
    if changed:
        write_whole(page, text)
    return changed


def check(page: Path, names: Iterable[str]) -> None:
    """End the program with one line where the page lacks a block of one of the benchmarks."""
    text = page.read_text(encoding="utf-8")
    for name in names:
        for quick in (False, True):
            with_block(text, block_name(name, quick), [])


def finished(path: Path) -> dict[str, Any] | None:
    """The JSON of a run that went to its end; None where there is none."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return told if told["meta"]["complete"] is True else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def block_name(benchmark: str, quick: bool) -> str:
    """The block that a run of the benchmark belongs to."""
    return f"{benchmark}-quick" if quick else benchmark


def block(benchmark: str, told: Mapping[str, Any]) -> list[str]:
    """The lines of a run: how it came about, its tables, its notes."""
    meta = told["meta"]
    notes = [f"- {note}" for note in meta.get("notes", ())]
    tables = lines(benchmark, told["figures"], meta)
    return [provenance(benchmark, meta), "", *tables, *([""] if notes else []), *notes]


def provenance(benchmark: str, meta: Mapping[str, Any]) -> str:
    """Command, commit, machine and date, then how long it took and how much was done."""
    minutes = f"{meta['minutes']:.1f} minutes" if "minutes" in meta else ""
    told = (
        f"`python benchmarks/{shown(meta['command'])}`", f"commit {meta['commit']}", meta["machine"],
        meta["date"][:10], minutes, SHEETS[benchmark].size(meta),
    )  # fmt: skip
    return " · ".join(part for part in told if part)


def shown(command: str) -> str:
    """The command without flags that name places of one machine."""
    kept, words = [], iter(shlex.split(command))
    for word in words:
        flag, given, _ = word.partition("=")
        if flag not in ("--json", "--data"):
            kept.append(word)
        elif not given:
            next(words, None)
    return shlex.join(kept)


def with_block(text: str, name: str, told: Iterable[str]) -> str:
    """The text with other lines between the markers of a block."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed or text.count(begin) + text.count(end) != 2:
        raise SystemExit(f"docs/results.md must have {begin} and then {end}, once each: write them where they belong")
    inside = "".join(f"{line}\n" for line in told)
    return f"{before}{begin}\n{inside}{end}{after}"
