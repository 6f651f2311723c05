"""The demo's invented world: 36 documents about Tolbrisk Weather Works, and 40 questions with gold answers.

No model can know these facts, so a right answer comes from the documents. Questions and answers are for
judging only: the neurons are made from the documents' texts alone. Not here: what is asked of which system
(`run.py`).

    >>> len(load_documents()), len(load_questions())
    (36, 40)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from ..knowledge.documents import Document, document_from_mapping

QuestionType = Literal["single", "two_documents", "conflict", "unanswerable"]


@dataclass(frozen=True)
class Question:
    """One question and what a right answer to it is."""

    id: str
    question: str
    answers: tuple[str, ...]
    """Accepted answers, the best one first; none if the documents do not tell."""
    docs: tuple[str, ...]
    """Ids of the documents that hold the answer, all of which are needed."""
    type: QuestionType


def load_documents() -> tuple[Document, ...]:
    """Read the documents in their order in the package."""
    return tuple(document_from_mapping(row, source="neurag demo") for row in _rows("documents.jsonl"))


def load_questions() -> tuple[Question, ...]:
    """Read the questions in their order in the package."""
    return tuple(
        Question(**row | {"answers": tuple(row["answers"]), "docs": tuple(row["docs"])})
        for row in _rows("questions.jsonl")
    )


def _rows(name: str) -> list[dict[str, Any]]:
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
