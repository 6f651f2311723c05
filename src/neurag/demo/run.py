"""The demo: encode an invented world live, ask about it, and compare with other ways of answering.

Everything runs offline on the machine at hand. The neurons are made from the documents' texts alone; the
gold answers only judge. Not here: how it looks on a screen (`Show` is implemented in app/show.py), and
comparisons on public data (evaluation/); what the figures are (`figures.py`).

    result = run_demo(None, show)
    result.score(NEURAG).match  # 0..1
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

from ..answer import Answer
from ..config import BATCH, DEFAULT_MODEL, RANDOM, AnswerOptions, NeuragError
from ..evaluation.metrics import match
from .corpus import Question, load_documents, load_questions
from .figures import CLOSED, HYBRID, NEURAG, RAG, DemoResult, Trial, closing, kinds, routing, score

if TYPE_CHECKING:
    from ..backbone import Backbone
    from ..knowledge.documents import Document
    from ..knowledge.pipeline import Progress
    from ..model import Model

STREAMED = ("first-loan", "hanne-bird", "valve-leader", "tour-start")
LONGEST = 32
"""Tokens an answer may have, the same for every system. At 16 the answers of RAG, which come in sentences, are cut."""


@dataclass(frozen=True)
class System:
    """One way of answering: the options it takes for a question."""

    name: str
    options: Callable[[Question], AnswerOptions]


class Show(Protocol):
    """What the demo needs of whoever shows it."""

    def say(self, text: str) -> None:
        """Show a paragraph."""

    def progress(self) -> AbstractContextManager[Callable[[Progress], None]]:
        """Show how far encoding is."""

    def asked(self, question: Question, pieces: Iterator[str]) -> None:
        """Show a question, then its answer as the pieces come."""

    def fired(self, question: Question, answer: Answer) -> None:
        """Show the neurons behind an answer, and the gold answer."""

    def judging(self, name: str, done: int, total: int) -> None:
        """Show how far the comparison is."""

    def result(self, result: DemoResult) -> None:
        """Show the table of systems and the kinds of questions."""


def run_demo(keep: Path | None, show: Show, model: str = DEFAULT_MODEL) -> DemoResult:
    """Run the whole demo; the bank is a temporary folder unless `keep` names one."""
    from ..knowledge.pipeline import encode
    from ..loading import load_backbone
    from ..model import Model

    start = time.perf_counter()
    documents, questions = load_documents(), load_questions()
    backbone = load_backbone(model)
    show.say(_opening(backbone, len(documents), keep))
    with _folder(keep) as bank:
        with show.progress() as progress:
            report = encode(documents, bank, model=model, progress=progress, backbone=backbone)
        show.say(f"{report.chunks} neurons from {report.documents} documents in {report.seconds:.0f} s.")
        asked = Model.load(bank=bank, backbone=backbone)
        _stream(asked, questions, show)
        answerable = [question for question in questions if question.answers]
        trials = {s.name: _try(asked, s, answerable, show) for s in systems(documents, answerable)}
        silent = [asked.answer(q.question).abstained for q in questions if not q.answers]
    result = DemoResult(
        model=backbone.name,
        documents=report.documents,
        chunks=report.chunks,
        encode_seconds=report.seconds,
        scores=tuple(score(name, tried) for name, tried in trials.items()),
        kinds=kinds(trials[NEURAG], trials[RAG], trials[HYBRID]),
        unanswerable=len(silent),
        abstained=fmean(silent),
        routing=routing(trials[NEURAG]),
        seconds=time.perf_counter() - start,
    )
    show.result(result)
    show.say(closing(result))
    return result


def systems(documents: Sequence[Document], answerable: Sequence[Question]) -> tuple[System, ...]:
    """The rows of the table; the last three are controls, which should know nothing."""
    everything = tuple(document.id for document in documents)
    wrong = wrong_documents(documents, answerable)
    return (
        System(CLOSED, lambda question: AnswerOptions(mode="closed", max_new_tokens=LONGEST)),
        System(RAG, lambda question: AnswerOptions(mode="rag", passages=3, max_new_tokens=LONGEST)),
        System(NEURAG, lambda question: AnswerOptions(mode="neurag", max_new_tokens=LONGEST)),
        System(HYBRID, lambda question: AnswerOptions(mode="hybrid", passages=3, max_new_tokens=LONGEST)),
        System(
            "wrong-document neuron",
            lambda question: AnswerOptions(force=((wrong[question.id], 1.0),), max_new_tokens=LONGEST),
        ),
        System("random neuron", lambda question: AnswerOptions(force=((RANDOM, 1.0),), max_new_tokens=LONGEST)),
        System("empty bank", lambda question: AnswerOptions(without=everything, max_new_tokens=LONGEST)),
    )


def wrong_documents(documents: Sequence[Document], answerable: Sequence[Question]) -> dict[str, str]:
    """For each question id, the gold document of another question, one that does not hold the answer.

    It is the question five places further, or the next one after it whose document fits.
    """
    texts = {document.id: document.text for document in documents}
    chosen: dict[str, str] = {}
    for place, question in enumerate(answerable):
        further = [answerable[(place + 5 + step) % len(answerable)] for step in range(len(answerable))]
        fits = (
            other.docs[0]
            for other in further
            if not set(other.docs) & set(question.docs) and not match(texts[other.docs[0]], question.answers)
        )
        if (wrong := next(fits, None)) is None:
            raise NeuragError(f"no document is wrong for the demo question {question.id!r}: add questions")
        chosen[question.id] = wrong
    return chosen


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep
        return
    with TemporaryDirectory(prefix="neurag-demo-") as folder:
        yield Path(folder) / "bank"


def _opening(backbone: Backbone, documents: int, keep: Path | None) -> str:
    size = sum(weights.numel() for weights in backbone.model.parameters()) / 1e6
    return (
        f"Model: {backbone.name}, {size:.0f} million parameters, on {backbone.device}. It is small: expect "
        f"mistakes. {documents} documents about an invented company become neurons now, in "
        f"{keep or 'a temporary folder'}; no question or gold answer is shown to the model while it learns. "
        "Then it answers from the neurons, without any document in its prompt. A few minutes on 2 cores."
    )


def _stream(model: Model, questions: Sequence[Question], show: Show) -> None:
    known = {question.id: question for question in questions}
    for question in (known[name] for name in STREAMED):
        show.asked(question, model.stream(question.question))
        if model.last is not None:
            show.fired(question, model.last)


def _try(model: Model, system: System, questions: Sequence[Question], show: Show) -> tuple[Trial, ...]:
    """Every question to one system, BATCH at a time; a question's seconds are its share of its group's."""
    trials: list[Trial] = []
    for first in range(0, len(questions), BATCH):
        show.judging(system.name, first, len(questions))
        group = questions[first : first + BATCH]
        start = time.perf_counter()
        answers = list(model.answers([q.question for q in group], [system.options(q) for q in group], BATCH))
        seconds = (time.perf_counter() - start) / len(group)
        trials += [Trial(q, answer, seconds) for q, answer in zip(group, answers, strict=True)]
    show.judging(system.name, len(questions), len(questions))
    return tuple(trials)
