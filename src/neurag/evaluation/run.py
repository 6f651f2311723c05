"""The evaluation itself: rows in, every system asked, figures and comparisons out; stops and goes on.

Answers are kept, group by group, beside the bank in the cache, by what they depend on: a run that was stopped goes on
where it was, and one with more systems or another setting asks only what is new. Not here: what systems do
(systems.py), how answers are judged (judge.py).

    >>> result = evaluate("questions.jsonl", EvalOptions(limit=100))      # doctest: +SKIP
    >>> result.systems["neurag"].match                                    # doctest: +SKIP
    0.31
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from .. import __version__
from ..backbone import Backbone, cache_folder
from ..config import EvalOptions, Position, UsageError
from ..files import write_whole
from ..knowledge.bank import Bank
from ..knowledge.embedding import encoders
from ..model import Model
from .collection import Collection, collect, open_bank
from .data import Broken, Row, read_rows, sharing
from .judge import comparisons, figures, judge, timed
from .registry import asked_with, make_system, needs_bank, needs_documents
from .results import Judged, Question, Result
from .systems import Given, System, World
from .watch import TIMING, Counter, Watch


def evaluate(
    data: Path | str,
    options: EvalOptions = EvalOptions(),
    model: str | None = None,
    bank: Path | str | None = None,
    watch: Watch = Watch(),
    backbone: Backbone | None = None,
) -> Result:
    """Ask every system every question and compare. Without a `bank` one is made of the rows' documents and kept.

    Raises UsageError for data without a sound row or an unknown system, NeuragError where a bank or a model fails.
    """
    check(options)
    # Wrong names and missing encoders show before the slow parts.
    needed = {name for name in options.systems if needs_bank(name)}
    found = encoders(options.systems, options.embedder, options.splade)
    rows, broken = _rows(data, options.limit, watch)
    loaded = Model.load(bank, model, backbone)
    backbone, opened = loaded.backbone, loaded.bank
    collection = collect(rows, backbone, options.documents)
    if needed and not collection.chunks and opened is None:
        raise UsageError("the rows have no documents: name a bank with --bank, or only systems that need none")
    seconds = None
    if needed and opened is None:
        opened, seconds = open_bank(collection, backbone, progress=watch.encoding)
    world = World(Model(backbone, opened), rows, collection, options, found)
    systems = [make_system(name, world) for name in options.systems]
    kept = _Kept({name: _key(name, backbone, collection, opened, options) for name in options.systems})
    counter = Counter(watch, _planned(systems, rows, options.timed))
    answers = {system.name: _ask_all(system, rows, options.batch, kept, counter) for system in systems}
    _time_all(systems, _rounds(rows, options.timed), answers, counter)
    told = {name: tuple(given.values()) for name, given in answers.items()}
    return Result(
        systems={name: figures(given) for name, given in told.items()},
        answers=tuple(one for given in told.values() for one in given),
        pairs=comparisons(told, options.seed),
        questions=tuple(Question(row.id, row.question, row.answers, row.gold) for row in rows),
        meta=_meta(data, options, backbone, collection, opened, seconds, broken),
    )


def check(options: EvalOptions) -> None:
    """Raise UsageError, in one line, for a value that is impossible."""
    if not 0 <= options.noise <= 1:
        raise UsageError(f"--noise is a share: it must be within 0 and 1, not {options.noise}")
    if options.position not in (places := get_args(Position)):
        raise UsageError(f"--position must be one of {', '.join(places)}, not {options.position!r}")
    least = {"distractors": 0, "timed": 0, "documents": 1, "passages": 1, "batch": 1, "max_new_tokens": 1}
    for name, lowest in least.items():
        value = getattr(options, name)
        if value is not None and value < lowest:
            raise UsageError(f"--{name.replace('_', '-')} must be at least {lowest}, not {value}")


def _rows(data: Path | str, limit: int | None, watch: Watch) -> tuple[tuple[Row, ...], list[Broken]]:
    rows, broken = [], []
    for item in sharing(read_rows(data, limit)):
        if isinstance(item, Row):
            rows.append(item)
            continue
        broken.append(item)
        if watch.broken:
            watch.broken(item)
    return tuple(rows), broken


def _ask_all(system: System, rows: Sequence[Row], batch: int, kept: _Kept, counter: Counter) -> dict[str, Judged]:
    """Every row the system takes, `batch` at a time; always the same groups, so that answers do not depend on stops."""
    taken = [row for row in rows if system.takes(row)]
    answers: dict[str, Judged] = {}
    for first in range(0, len(taken), batch):
        counter.at(system.name, first, len(taken))
        group = taken[first : first + batch]
        given = told = kept.read(system.name, group)
        if given is None:
            given = system.answer(group)
            kept.write(system.name, group, given)
        counter.add(len(group), kept=told is not None)
        answers |= {row.id: judge(row, system.name, one) for row, one in zip(group, given, strict=True)}
    counter.at(system.name, len(taken), len(taken))
    return answers


def _time_all(
    systems: Sequence[System], rounds: Sequence[Row], answers: dict[str, dict[str, Judged]], counter: Counter
) -> None:
    """The row of each round once more, alone, the systems taking turns; the first round does not count."""
    for number, row in enumerate(rounds):
        counter.at(TIMING, number, len(rounds))
        for system in systems[:: 1 if number % 2 else -1]:
            if system.takes(row):
                alone = system.answer([row])[0]
                answers[system.name][row.id] = timed(answers[system.name][row.id], alone)
                counter.add(1)
    counter.at(TIMING, len(rounds), len(rounds))


def _rounds(rows: Sequence[Row], count: int) -> list[Row]:
    """The rows whose times are taken, the first of them twice: it warms up."""
    return [*rows[: min(1, count)], *rows[:count]]


def _planned(systems: Sequence[System], rows: Sequence[Row], timed: int) -> int:
    return sum(system.takes(row) for row in [*rows, *_rounds(rows, timed)] for system in systems)


class _Kept:
    """Answers kept on disk, a file for each group of each system, written aside and swapped in."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._folder, self._keys = cache_folder() / "eval", keys

    def read(self, system: str, rows: Sequence[Row]) -> list[Given] | None:
        """What the system said before, or None."""
        try:
            told = json.loads(self._path(system, rows).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return [_given(one) for one in told]

    def write(self, system: str, rows: Sequence[Row], given: Sequence[Given]) -> None:
        """Keep what the system said; a group in which something failed is asked again next time."""
        if any(one.error for one in given):
            return
        write_whole(self._path(system, rows), json.dumps([asdict(one) for one in given]))

    def _path(self, system: str, rows: Sequence[Row]) -> Path:
        told = "\n".join(f"{row.id}\t{row.question}\t{row.gold}" for row in rows)
        folder = self._folder / f"{self._keys[system]}.answers"
        return folder / f"{system.replace('/', '_')}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"


def _given(told: dict[str, Any]) -> Given:
    ranked = None if told["ranked"] is None else tuple(told["ranked"])
    fired = tuple((name, title, weight) for name, title, weight in told["fired"])
    return Given(**told | {"ranked": ranked, "used": tuple(told["used"]), "fired": fired})


def _key(name: str, backbone: Backbone, collection: Collection, bank: Bank | None, options: EvalOptions) -> str:
    """Hash of all that a system's answers depend on, but for the question."""
    found = collection.key if needs_documents(name) else ""
    at = f"{bank.path.resolve()} {bank.version}" if bank is not None and needs_bank(name) else ""
    beside = [one.fingerprint for one in (backbone.routing, backbone.weigher) if one]
    told = f"{__version__} {backbone.fingerprint} {beside} {found} {at} {asked_with(name, options)}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _meta(
    data: Path | str,
    options: EvalOptions,
    backbone: Backbone,
    collection: Collection,
    bank: Bank | None,
    seconds: float | None,
    broken: Sequence[Broken],
) -> dict[str, Any]:
    return {
        "model": backbone.name,
        "data": Path(data).name,
        "documents": len(collection.documents),
        "chunks": len(collection.chunks),
        "encode_seconds": seconds,
        "bytes_per_document": _bytes_each(bank),
        "seed": options.seed,
        "version": __version__,
        "options": asdict(options),
        "timed_questions": options.timed,
        "broken_rows": len(broken),
        "broken": [asdict(one) for one in broken[:20]],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _bytes_each(bank: Bank | None) -> float | None:
    """What a document takes in the bank: neurons, keys and lessons of all its chunks, text left out."""
    sizes = [document.bytes for document in bank.documents()] if bank is not None else []
    return sum(sizes) / len(sizes) if sizes else None
