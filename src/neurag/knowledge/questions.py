"""Questions about passages: the backbone writes them, then answers them with the passage in view.

For each candidate answer it is asked for a question; then it reads the passage and answers, which tells what the
question really asks (a round trip, after Alberti et al. 2019). The passage is read once for both. Not here: which
answers to ask for (candidates.py), what is kept and cached (augmentation.py).

    >>> asked = Asked("Ilse Maranth", "It is run by Ilse Maranth.", "question")
    >>> write_questions(backbone, [("Oskerby", text)], [[asked]])[0]                  # doctest: +SKIP
    [Written(answer='Ilse Maranth', question='Who runs the mill?', told='Ilse Maranth')]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..backbone import Backbone
from ..prompts import question_prompt, writing_request
from ..stream import Stream, continue_all

QUESTION_TOKENS, ANSWER_TOKENS = 28, 16
TOGETHER, ON_A_GPU = 16, 128
"""Passages that are worked on side by side, and on a GPU, where a step costs the same however many there are."""


@dataclass(frozen=True)
class Asked:
    """An answer to write a question for, the sentence it stands in, and the wording (`prompts.WORDINGS`)."""

    answer: str
    sentence: str
    wording: str


@dataclass(frozen=True)
class Written:
    """A question, the answer it was written for, what the backbone answers to it, and the wording asked for."""

    answer: str
    question: str
    told: str
    wording: str = "question"


def write_questions(
    backbone: Backbone,
    passages: Sequence[tuple[str, str]],
    asked: Sequence[Sequence[Asked]],
) -> list[list[Written]]:
    """Questions about each (title, text), one for each of its answers; empty and repeated ones are left out."""
    made: list[list[Written]] = []
    size = ON_A_GPU if backbone.device.type == "cuda" else TOGETHER
    for first in range(0, len(passages), size):
        here = slice(first, first + size)
        made += _together(backbone, passages[here], asked[here])
    return made


def _together(
    backbone: Backbone,
    passages: Sequence[tuple[str, str]],
    asked: Sequence[Sequence[Asked]],
) -> list[list[Written]]:
    if not any(asked):
        return [[] for _ in passages]
    stream = Stream(backbone, [question_prompt(backbone, "?", [passage]).head for passage in passages])
    unique = _asked(stream, passages, asked)
    told = _continued(stream, passages, [list(row) for row in unique], ANSWER_TOKENS)
    return [
        [
            Written(one.answer, question, said.strip(), one.wording)
            for (question, one), said in zip(row.items(), replies, strict=True)
        ]
        for row, replies in zip(unique, told, strict=True)
    ]


def _asked(
    stream: Stream, passages: Sequence[tuple[str, str]], asked: Sequence[Sequence[Asked]]
) -> list[dict[str, Asked]]:
    """The questions about each passage, each once, with what they were written for."""
    wordings = list(dict.fromkeys(one.wording for row in asked for one in row))
    # requests of one wording share their beginning, so each wording has its own copy of every passage
    whose = [number for _ in wordings for number in range(len(passages))]
    ones = [[one for one in row if one.wording == wording] for wording in wordings for row in asked]
    requests = [[writing_request(one.answer, one.sentence, one.wording) for one in row] for row in ones]
    texts = _continued(stream.fork(whose), [passages[n] for n in whose], requests, QUESTION_TOKENS)
    unique: list[dict[str, Asked]] = [{} for _ in passages]
    for number, row, written in zip(whose, ones, texts, strict=True):
        unique[number] |= {text.strip(): one for one, text in zip(row, written, strict=True) if text.strip()}
    return unique


def _continued(
    stream: Stream, passages: Sequence[tuple[str, str]], asked: Sequence[Sequence[str]], limit: int
) -> list[list[str]]:
    """What the backbone says to each request behind its passage."""
    backbone = stream.backbone
    segments = [
        [question_prompt(backbone, request, [passage]).tail for request in row]
        for passage, row in zip(passages, asked, strict=True)
    ]
    decode = backbone.tokenizer.batch_decode
    return [decode(row, skip_special_tokens=True) if row else [] for row in continue_all(stream, segments, limit)]
