"""What a task adapter is trained on: a passage with everything that is to be read from it or asked about it.

A row is a question about one or several passages with its answer. Rows about the same passages become one packed
example: the passages are read once, and each question (reading) and each answer to ask for (writing) is a segment that
sees the passages and itself only. Prompts are those of the product (prompts.py), so what is learned is what is used.
Not here: training (training.py).

    >>> row = TaskRow((("Oskerby", "The mill opened in 1987."),), "When did the mill open?", "1987")
    >>> pack(backbone, [row])[0].segments               # doctest: +SKIP
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backbone import Backbone
from ..config import NOT_STATED, NeuragError, UsageError
from ..knowledge.echoes import place_of
from ..knowledge.phrases import sentences_of
from ..prompts import question_prompt, writing_request
from ..words import words

LONGEST = 1600
"""Tokens of a packed example; what is longer is left out."""
READING, WRITING = 1.0, 0.4
"""Weight of one token to learn. Questions are longer than answers."""


@dataclass(frozen=True)
class TaskRow:
    """A question about passages, and its answer; None where they do not say."""

    passages: tuple[tuple[str, str], ...]
    """(title, text)."""
    question: str
    answer: str | None
    style: str | None = "question"
    """How the question is worded (`prompts.WORDINGS`), for writing; None: for reading only."""


@dataclass(frozen=True)
class Segment:
    """Token ids behind the shared passages; those from `learn` on are to be learned."""

    ids: tuple[int, ...]
    learn: int
    weight: float


@dataclass(frozen=True)
class Packed:
    """Passages as token ids, and segments that each see them and nothing of one another."""

    prefix: tuple[int, ...]
    segments: tuple[Segment, ...]

    def __len__(self) -> int:
        return len(self.prefix) + sum(len(s.ids) for s in self.segments)


def pack(backbone: Backbone, rows: Iterable[TaskRow]) -> list[Packed]:
    """Packed examples in the order of each passage's first row."""
    groups: dict[tuple[int, ...], dict[Segment, None]] = {}
    for row in rows:
        for prefix, segment in _segments(backbone, row):
            groups.setdefault(prefix, {})[segment] = None
    return [part for prefix, segments in groups.items() for part in _cut(prefix, list(segments))]


def _segments(backbone: Backbone, row: TaskRow) -> Iterator[tuple[tuple[int, ...], Segment]]:
    yield _segment(backbone, row.passages, row.question, row.answer or NOT_STATED, READING)
    if row.style and row.answer and len(row.passages) == 1:
        request = writing_request(row.answer, asked_sentence(row), row.style)
        yield _segment(backbone, row.passages, request, row.question, WRITING)


def asked_sentence(row: TaskRow) -> str:
    """Of the sentences that hold the answer, the one most like the question."""
    asked = set(words(row.question))
    held = [s for s in sentences_of(row.passages[0][1]) if row.answer and place_of(row.answer, s) >= 0]
    return max(held, key=lambda s: len(asked & set(words(s))), default="")


def _segment(
    backbone: Backbone, passages: Sequence[tuple[str, str]], asked: str, told: str, weight: float
) -> tuple[tuple[int, ...], Segment]:
    prompt = question_prompt(backbone, asked, passages)
    learned = backbone.tokenizer(told, add_special_tokens=False).input_ids
    whole = (*prompt.tail, *learned, backbone.tokenizer.eos_token_id)
    return prompt.head, Segment(whole, len(prompt.tail), weight)


def _cut(prefix: tuple[int, ...], segments: Sequence[Segment]) -> Iterator[Packed]:
    room = LONGEST - len(prefix)
    held: list[Segment] = []
    for segment in segments:
        if held and sum(len(s.ids) for s in (*held, segment)) > room:
            yield Packed(prefix, tuple(held))
            held = []
        if len(segment.ids) <= room:
            held.append(segment)
    if held:
        yield Packed(prefix, tuple(held))


def read_rows(path: Path) -> list[TaskRow]:
    """Rows of a JSONL file: `passage` (a text, or a list of {title, text}), `question`, `answer` (a text, or null where
    the passage does not say), and if you like `title` and `style`. Raises UsageError naming the first broken line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise NeuragError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise NeuragError(f"{path} cannot be read: it is not UTF-8 text") from None
    rows = [_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise UsageError(f"{path} holds no row: write one JSON object a line, with passage, question and answer")
    return rows


def _row(path: Path, number: int, line: str) -> TaskRow:
    try:
        told: Mapping[str, Any] = json.loads(line)
        passage, answer = told["passage"], told.get("answer")
        shown = [{"title": told.get("title"), "text": passage}] if isinstance(passage, str) else passage
        passages = tuple((str(p.get("title") or ""), str(p["text"])) for p in shown)
        row = TaskRow(passages, str(told["question"]), None if answer is None else str(answer),
                      told.get("style", "question"))  # fmt: skip
        if not (row.question.strip() and all(text.strip() for _, text in passages) and passages):
            raise ValueError("a text is empty")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}, line {number}: not a row of passage, question and answer ({error})") from None
    return row
