"""The figures of the demo, and what they mean in words.

Not here: asking (`run.py`) and tables on a screen (app/show.py). Rates are fractions in 0..1.

    trials = [Trial(question, model.answer(question.question), seconds=0.4)]
    score("NeuRAG", trials).match
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ..answer import Answer
from ..evaluation.metrics import match
from .corpus import Question

NEURAG, RAG, CLOSED, HYBRID = "NeuRAG", "RAG (BM25 top-3)", "closed book", "hybrid (both)"
KINDS = {"single": "one document", "two_documents": "two documents", "conflict": "documents that disagree"}


@dataclass(frozen=True)
class Trial:
    """One question put to one system."""

    question: Question
    answer: Answer
    seconds: float

    @property
    def right(self) -> bool:
        """Whether the answer holds an accepted one."""
        return match(self.answer.answer, self.question.answers)

    @property
    def gold_place(self) -> int | None:
        """Place of the first gold document among the fired neurons, strongest first; None if none fired."""
        fired = sorted(self.answer.neurons, key=lambda neuron: -neuron.weight)
        places = (place for place, neuron in enumerate(fired) if neuron.doc_id in self.question.docs)
        return next(places, None)


@dataclass(frozen=True)
class SystemScore:
    """What one system reached on the questions that have answers."""

    name: str
    questions: int
    match: float
    seconds_per_question: float
    prompt_tokens: float
    """Mean over the questions."""


@dataclass(frozen=True)
class KindScore:
    """Match of three systems on the questions of one kind."""

    kind: str
    questions: int
    neurag: float
    rag: float
    hybrid: float


@dataclass(frozen=True)
class RoutingScore:
    """Which neurons fired for the questions that have answers, and what went wrong where."""

    first: float
    """Share of questions whose strongest neuron was of a gold document."""
    among_fired: float
    """The same for any neuron that fired."""
    wrong_unfired: int
    """Wrong answers where no gold document's neuron fired."""
    wrong_fired: int
    """Wrong answers although one fired."""


@dataclass(frozen=True)
class DemoResult:
    """All figures of one demo; rates are fractions in 0..1."""

    model: str
    documents: int
    chunks: int
    encode_seconds: float
    scores: tuple[SystemScore, ...]
    kinds: tuple[KindScore, ...]
    unanswerable: int
    abstained: float
    """Share of the unanswerable questions at which no neuron fired, or the answer was that it is not stated."""
    routing: RoutingScore
    seconds: float
    """The whole demo, loading the model included."""

    def score(self, name: str) -> SystemScore:
        """The line of the table that has this name."""
        return next(score for score in self.scores if score.name == name)


def score(name: str, trials: Sequence[Trial]) -> SystemScore:
    """Sum up what one system reached."""
    return SystemScore(
        name=name,
        questions=len(trials),
        match=fmean(trial.right for trial in trials),
        seconds_per_question=fmean(trial.seconds for trial in trials),
        prompt_tokens=fmean(trial.answer.timing.prompt_tokens for trial in trials),
    )


def kinds(neurag: Sequence[Trial], rag: Sequence[Trial], hybrid: Sequence[Trial]) -> tuple[KindScore, ...]:
    """Compare three systems by kind of question."""
    scores = []
    for kind, name in KINDS.items():
        right = [[t.right for t in trials if t.question.type == kind] for trials in (neurag, rag, hybrid)]
        if right[0]:
            scores.append(KindScore(name, len(right[0]), *map(fmean, right)))
    return tuple(scores)


def routing(trials: Sequence[Trial]) -> RoutingScore:
    """Sum up which neurons fired."""
    wrong = [trial for trial in trials if not trial.right]
    return RoutingScore(
        first=fmean(trial.gold_place == 0 for trial in trials),
        among_fired=fmean(trial.gold_place is not None for trial in trials),
        wrong_unfired=sum(trial.gold_place is None for trial in wrong),
        wrong_fired=sum(trial.gold_place is not None for trial in wrong),
    )


def _controls(result: DemoResult) -> list[SystemScore]:
    return [score for score in result.scores if score.name not in (NEURAG, RAG, CLOSED, HYBRID)]


def closing(result: DemoResult) -> str:
    """Say in a paragraph what the figures mean, above all where NeuRAG fails."""
    ours, rag, closed = (result.score(name) for name in (NEURAG, RAG, CLOSED))
    routing, worst = result.routing, min(result.kinds, key=lambda kind: kind.neurag)
    wrong = routing.wrong_unfired + routing.wrong_fired
    control = max(_controls(result), key=lambda score: score.match)
    leads = ours.match - rag.match
    versus = "as often as" if leads == 0 else "more often than" if leads > 0 else "less often than"
    said = [
        f"NeuRAG was right in {ours.match:.0%} of {ours.questions} questions, {versus} RAG "
        f"({rag.match:.0%}), with {ours.prompt_tokens:.0f} prompt tokens instead of {rag.prompt_tokens:.0f}; "
        f"without the documents the model was right in {closed.match:.0%}.",
        f"With passages in the prompt and the neurons beside them (hybrid) it was {result.score(HYBRID).match:.0%}.",
        f"The best control ({control.name}) reached {control.match:.0%}"
        + (": the answers come from the right neurons." if control.match <= 0.1 else ", more than it should."),
    ]
    if wrong:
        said.append(
            f"Of its {wrong} wrong answers, {routing.wrong_unfired} had no right neuron firing, and in "
            f"{routing.wrong_fired} the right one fired but the model did not say the answer."
        )
        said.append(f"It was weakest on questions about {worst.kind}: {worst.neurag:.0%} of {worst.questions}.")
    said.append(
        f"The documents leave {result.unanswerable} questions open: it declined to answer "
        f"{result.abstained:.0%} of them; at the others the answer is made up."
        if result.abstained < 1
        else f"It declined to answer all {result.unanswerable} questions that the documents leave open."
    )
    return " ".join([*said, f"The demo took {result.seconds / 60:.1f} minutes."])
