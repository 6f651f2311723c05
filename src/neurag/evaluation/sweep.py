"""Sweeps: the same rows and systems at several settings of one option.

Each setting is an evaluation of its own; answers are kept by what they depend on, so a system that a setting cannot
change is not asked again. No times are taken. Not here: the evaluation (run.py), tables and plots (report.py,
charts.py, page.py).

    >>> parse("noise=0,0.2,0.4")
    Sweep(option='noise', values=(0.0, 0.2, 0.4))
    >>> sweep("questions.jsonl", [parse("noise=0,0.2")], EvalOptions(limit=100))[0].results       # doctest: +SKIP
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..backbone import Backbone
from ..config import EvalOptions, UsageError
from ..files import write_whole
from ..model import Model
from .results import Result
from .run import check, evaluate
from .watch import Watch

Value = float | int | str
SWEPT: Mapping[str, Callable[[str], Value]] = {
    "noise": float,
    "distractors": int,
    "position": str,
    "documents": int,
    "seed": int,
}
"""Options that can be swept, and what reads their values."""


@dataclass(frozen=True)
class Sweep:
    """One option and the values it takes in turn."""

    option: str
    values: tuple[Value, ...]

    def settings(self, options: EvalOptions) -> list[EvalOptions]:
        """The options at each value. Raises UsageError for a value that is impossible."""
        # Made as a dict, since mypy cannot tell which option a name is.
        told = [replace(options, timed=0, **{self.option: value}) for value in self.values]  # type: ignore[arg-type]
        for one in told:
            check(one)
        return told


@dataclass(frozen=True)
class Swept:
    """What a sweep found: a result for each value."""

    option: str
    values: tuple[Value, ...]
    results: tuple[Result, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The values as they are shown."""
        return tuple(value if isinstance(value, str) else f"{value:g}" for value in self.values)

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists; each result in its public JSON shape."""
        pairs = zip(self.values, self.results, strict=True)
        return {"option": self.option, "settings": [{"value": v, "result": r.to_json()} for v, r in pairs]}


def parse(told: str) -> Sweep:
    """Read `noise=0,0.2,0.4`. Raises UsageError, in one line, for anything else."""
    option, equals, values = (part.strip() for part in told.partition("="))
    if not equals or option not in SWEPT:
        raise UsageError(f"--sweep {told!r} names no sweep: write OPTION=VALUE,VALUE with one of {', '.join(SWEPT)}")
    read = []
    for value in (value.strip() for value in values.split(",")):
        try:
            read.append(SWEPT[option](value))
        except ValueError:
            raise UsageError(f"--sweep {told!r}: {value!r} is no value of {option}") from None
        if read.count(read[-1]) > 1:
            raise UsageError(f"--sweep {told!r} names {value} twice")
    sweep = Sweep(option, tuple(read))
    sweep.settings(EvalOptions())
    return sweep


def sweep(
    data: Path | str,
    sweeps: Sequence[Sweep],
    options: EvalOptions = EvalOptions(),
    model: str | None = None,
    bank: Path | str | None = None,
    watch: Watch = Watch(),
    backbone: Backbone | None = None,
) -> tuple[Swept, ...]:
    """Evaluate at every setting of every sweep; all other options stay as they are. Raises what `evaluate` raises."""
    twice = [one.option for one in sweeps if sum(one.option == other.option for other in sweeps) > 1]
    if twice:
        raise UsageError(f"--sweep {twice[0]} comes twice: write all its values after one another")
    plans = [(one, one.settings(options)) for one in sweeps]
    loaded = backbone or Model.load(bank, model).backbone
    found = list[Swept]()
    for one, settings in plans:
        results = list[Result]()
        for value, setting in zip(one.values, settings, strict=True):
            told = _part(watch, f"{one.option}={value}", first=not (found or results))
            results.append(evaluate(data, setting, model, bank, told, loaded))
        found.append(Swept(one.option, one.values, tuple(results)))
    return tuple(found)


def save_sweeps(swept: Iterable[Swept], path: Path) -> None:
    """Write all results as JSON; the file is the old one or the whole new one. Raises OSError."""
    told = {"sweeps": [one.to_json() for one in swept]}
    write_whole(path, json.dumps(told, indent=1, allow_nan=False) + "\n")


def _part(watch: Watch, part: str, first: bool) -> Watch:
    """The same watch, told which setting it is; broken rows are told once."""
    tell = watch.asking
    asking = None if tell is None else lambda told: tell(replace(told, part=part))
    return replace(watch, asking=asking, broken=watch.broken if first else None)
