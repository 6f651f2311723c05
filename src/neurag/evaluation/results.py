"""What an evaluation found, as data: the judged answers, the figures of each system, and the JSON they are kept in.

Not here: how an answer is judged, how figures come from answers, and how they are shown (`report.py`, `page.py`).
Rates are fractions in 0..1; a figure that does not apply is None. In the JSON, None and numbers that are not
finite are null.

    save(result, Path("out.json"))
    Result.from_json(json.loads(Path("out.json").read_text())).systems["neurag"].match
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from ..config import NeuragError
from ..files import write_whole
from .statistics import clear

T = TypeVar("T")


@dataclass(frozen=True)
class Fired:
    """A neuron that took part in an answer."""

    doc_id: str
    title: str
    weight: float
    """Attention weight at the first generated token, 0..1."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One answer of one system to one question, and how it was judged."""

    id: str
    """Of the question."""
    system: str
    answer: str
    abstained: bool
    """Whether the system declined to answer."""
    correct: bool | None
    """Match: the answer holds an accepted one; None where the row has no answers."""
    em: float | None
    f1: float | None
    answer_recall: float | None
    """Share of the required answers that it holds."""
    adopted_wrong: bool | None
    """Whether it holds a wrong answer that a document gives, and no right one."""
    citation_precision: float | None
    citation_recall: float | None
    recall_at_1: float | None
    recall_at_5: float | None
    answer_words: int
    doc_ids: tuple[str, ...]
    """Documents retrieved or fired, best first."""
    fired: tuple[Fired, ...] = ()
    seconds: float | None
    """Of the same question asked alone; None where it was not timed."""
    first_token_s: float | None
    prompt_tokens: int
    error: str = ""
    """Why there is no answer, in one line."""


@dataclass(frozen=True, kw_only=True)
class SystemFigures:
    """What one system reached: means over its questions."""

    n: int
    """Questions asked; `match` counts those with accepted answers."""
    match: float | None
    match_low: float | None
    """Lower end of the 95 % Wilson interval of `match`."""
    match_high: float | None
    em: float | None
    f1: float | None
    answer_recall: float | None
    adopted_wrong: float | None
    citation_precision: float | None
    citation_recall: float | None
    recall_at_1: float | None
    recall_at_5: float | None
    abstained: float | None
    abstention_precision: float | None
    """Share of its abstentions that fell on unanswerable questions."""
    abstention_recall: float | None
    """Share of the unanswerable questions at which it abstained."""
    abstention_f1: float | None
    answer_words: float | None
    seconds_per_question: float | None
    first_token_s: float | None
    prompt_tokens: float | None
    errors: int
    """Questions at which the system failed."""


@dataclass(frozen=True)
class PairFigures:
    """How two systems differ on the same questions."""

    a: str
    b: str
    metric: str
    difference: float
    """Mean of a - b, a fraction."""
    low: float
    """Lower end of the paired 95 % interval; nan where the interval has no end."""
    high: float
    p: float
    n: int
    """Questions that both were judged on."""
    verdict: str
    """The same in a line: "neurag - rag-bm25: +4.1 [1.2, 7.0], n=500"."""

    @property
    def clear(self) -> bool:
        """Whether the systems can be told apart (`statistics.clear`)."""
        return clear(self.low, self.high, self.p)


@dataclass(frozen=True)
class Question:
    """A question as the data has it."""

    id: str
    question: str
    answers: tuple[str, ...]
    """Any of these is right; none where the question has no answer or nobody has said it."""
    gold: tuple[str, ...]
    """Ids of the documents that hold the answer."""


@dataclass(frozen=True)
class Result:
    """One evaluation, whole."""

    systems: Mapping[str, SystemFigures]
    answers: tuple[Judged, ...]
    pairs: tuple[PairFigures, ...]
    questions: tuple[Question, ...]
    meta: Mapping[str, Any]
    """JSON values; at least model, documents, encode_seconds, bytes_per_document, seed, version, data, commit,
    date and broken_rows."""

    def to_json(self) -> dict[str, Any]:
        """Return the public JSON shape: plain dicts and lists."""
        told = {
            "systems": {name: asdict(figures) for name, figures in self.systems.items()},
            "answers": [asdict(one) for one in self.answers],
            "pairs": [asdict(one) for one in self.pairs],
            "questions": [asdict(one) for one in self.questions],
            "meta": self.meta,
        }
        return {name: _plain(value) for name, value in told.items()}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Result:
        """Read back what `to_json` gave; keys that are not known are left out.

        Raises:
            NeuragError: it is something else, or a part is missing.
        """
        try:
            answers = [{**one, "fired": [_read(Fired, f) for f in one["fired"]]} for one in told["answers"]]
            return cls(
                systems={name: _read(SystemFigures, one) for name, one in told["systems"].items()},
                answers=tuple(_read(Judged, one) for one in answers),
                pairs=tuple(_read(PairFigures, one) for one in told["pairs"]),
                questions=tuple(_read(Question, one) for one in told["questions"]),
                meta=dict(told["meta"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise NeuragError(f"not the result of an evaluation ({why}): write it again") from error


def save(result: Result, path: Path) -> None:
    """Write the result as JSON; the file is the old one or the whole new one, never a part.

    Raises:
        OSError: the place cannot be written.
    """
    write_whole(path, json.dumps(result.to_json(), indent=1, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(kind: type[T], told: Mapping[str, Any]) -> T:
    values = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in told:
            value = told[field.name]
            if value is None and field.type == "float":  # a number that was not finite
                value = math.nan
            values[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)
