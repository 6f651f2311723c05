"""Contexts of a question: the passages a model is shown with it, relevant, irrelevant, or mixed at a given noise.

Irrelevant ones come in three kinds: `random` (passages of other questions), `related` (near, without the answer:
labelled so, or found by a retriever) and `counterfactual` (the gold passage with another question's answer in place of
its own). No negative holds an accepted answer: those that do are dropped, whatever their label says. All is drawn from
the seed and the question's id, so a question's contexts do not depend on what else is asked for.
Not here: reading rows (evaluation/data.py), prompts (prompts.py).

    >>> asked = [Question("1", "Where is the mill?", ("Oskerby",), (Shown("Mill", "It is in Oskerby.", True),)),
    ...          Question("2", "Where is the kiln?", ("Tarnhow",), (Shown("Kiln", "It is in Tarnhow.", True),))]
    >>> Contexts(asked).irrelevant(asked[0], "counterfactual").passages
    (('Mill', 'It is in Tarnhow.'),)
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..config import UsageError
from ..words import holds, words

Place = Literal["first", "middle", "last", "random"]
KINDS = ("random", "related", "counterfactual")


@dataclass(frozen=True)
class Shown:
    """A passage that may be shown."""

    title: str
    text: str
    relevant: bool | None = None
    """Whether it is labelled to answer its question; None where nobody has said."""


@dataclass(frozen=True)
class Question:
    """A question, the answers that are accepted, and its passages."""

    id: str
    text: str
    answers: tuple[str, ...]
    passages: tuple[Shown, ...]


@dataclass(frozen=True)
class Context:
    """What is shown with a question."""

    passages: tuple[tuple[str, str], ...]
    """(title, text), in the order of the prompt."""
    gold: tuple[int, ...]
    """Places of those that are relevant; none in an irrelevant context."""


Retrieve = Callable[[str, int], Sequence[tuple[str, str]]]
"""(question, count) -> (title, text), best first; `retriever` makes one of an index of knowledge/."""


class Contexts:
    """Contexts for each of a set of questions, from the data's labels or from a retriever.

    With a retriever the passages of a question are those it finds: what holds an accepted answer is relevant. Without
    one they are the question's own: what is labelled relevant is, and what is not is near.
    """

    def __init__(self, questions: Sequence[Question], seed: int = 0, retrieve: Retrieve | None = None) -> None:
        self._seed, self._retrieve = seed, retrieve
        self._pool = [(q.id, p.title, p.text) for q in questions for p in q.passages]
        self._answers = [(q.id, q.answers[0]) for q in questions if q.answers]
        self._found: tuple[str, list[tuple[str, str]]] = ("", [])

    def relevant(self, question: Question, count: int | None = None) -> Context | None:
        """Up to `count` relevant passages, all without one; None where there are none."""
        gold = self._gold(question)[:count]
        return Context(tuple(gold), tuple(range(len(gold)))) if gold else None

    def irrelevant(self, question: Question, kind: str, count: int | None = None) -> Context | None:
        """`count` passages without an accepted answer (as many as are relevant, if not said); None where too few.

        Raises UsageError for a kind that is none.
        """
        wanted = len(self._gold(question)) if count is None else count
        found = self._negatives(question, kind, wanted)
        return Context(tuple(found), ()) if wanted and len(found) == wanted else None

    def mixed(
        self, question: Question, count: int, noise: float, kind: str = "related", place: Place = "random"
    ) -> Context | None:
        """`count` passages, a share `noise` of them negative, the relevant ones together at a place.

        Where fewer passages are relevant than asked for, negatives stand in; where negatives of a kind are too few,
        random ones do. None where a relevant passage is wanted and there is none, or where passages are too few.
        Raises UsageError for a share outside 0..1 and a kind that is none.
        """
        if not 0 <= noise <= 1:
            raise UsageError(f"the share of noise must be between 0 and 1, not {noise}")
        wanted = count - round(noise * count)
        gold = self._gold(question)[:wanted]
        if wanted and not gold:
            return None
        rest = count - len(gold)
        negative = self._negatives(question, kind, rest)
        if len(negative) < rest:
            more = (p for p in self._negatives(question, "random", count + rest) if p not in negative)
            negative += list(more)[: rest - len(negative)]
        return _placed(gold, negative, place, self._drawn(question, place)) if len(negative) == rest else None

    def _gold(self, question: Question) -> list[tuple[str, str]]:
        if self._retrieve:
            return [p for p in self._near(question) if holds_answer(p, question.answers)]
        return [(p.title, p.text) for p in question.passages if p.relevant]

    def _near(self, question: Question) -> list[tuple[str, str]]:
        if self._retrieve is None:
            return [(p.title, p.text) for p in question.passages if not p.relevant]
        if self._found[0] != question.id:  # all kinds of one question are asked for in a row
            self._found = (question.id, list(self._retrieve(question.text, RETRIEVED)))
        return self._found[1]

    def _negatives(self, question: Question, kind: str, count: int) -> list[tuple[str, str]]:
        """Up to `count` of a kind; each text once."""
        drawn = self._drawn(question, kind)
        told: Iterable[tuple[str, str]]
        if kind == "random":
            told = self._others(question, drawn)
        elif kind == "related":
            told = self._near(question)
        elif kind == "counterfactual":
            told = self._changed(question, drawn)
        else:
            raise UsageError(f"there is no kind of noise {kind!r}: choose among {', '.join(KINDS)}")
        kept: dict[tuple[str, str], None] = {}
        for passage in told:
            if len(kept) == count:
                break
            if not holds_answer(passage, question.answers):
                kept[passage] = None
        return list(kept)

    def _others(self, question: Question, drawn: random.Random) -> Iterable[tuple[str, str]]:
        own = set(self._gold(question)) | set(self._near(question))
        for place in _shuffled(len(self._pool), drawn):
            whose, title, text = self._pool[place]
            if whose != question.id and (title, text) not in own:
                yield title, text

    def _changed(self, question: Question, drawn: random.Random) -> Iterable[tuple[str, str]]:
        others = [a for whose, a in self._answers if whose != question.id and not _alike(a, question.answers)]
        shape = min((_shape(a) for a in question.answers), default=("", 0))
        ranked = sorted(drawn.sample(others, len(others)), key=lambda a: _distance(_shape(a), shape))
        for passage in self._gold(question):
            # a planted answer that stands in the passage anyway would contradict nothing
            new = next((a for a in ranked if not holds_answer(passage, [a])), None)
            if new is not None and holds_answer(passage, question.answers):
                yield replaced(passage[0], question.answers, new), replaced(passage[1], question.answers, new)

    def _drawn(self, question: Question, what: str) -> random.Random:
        return random.Random(f"{self._seed} {question.id} {what}")


RETRIEVED = 20
"""Passages that a retriever is asked for."""


def retriever(index: object) -> Retrieve:
    """Of an index with `search` (knowledge/retrieval.py: BM25; knowledge/embedding.py: dense, SPLADE)."""
    search = index.search  # type: ignore[attr-defined]
    return lambda question, count: [(found.title, found.text) for found in search(question, count)]


def holds_answer(passage: tuple[str, str], answers: Iterable[str]) -> bool:
    """Whether title or text holds an accepted answer as whole words (`evaluation.metrics.match`)."""
    said = [words(part) for part in passage]
    return any(holds(part, words(answer)) for answer in answers for part in said)


def replaced(text: str, answers: Iterable[str], new: str) -> str:
    """The text with another answer wherever an accepted one stands as whole words.

    >>> replaced("The mill opened in 1987, not 19871.", ["1987"], "2004")
    'The mill opened in 2004, not 19871.'
    """
    told = sorted({a.strip() for a in answers if a.strip()}, key=len, reverse=True)
    if not told:
        return text
    either = "|".join(map(re.escape, told))
    return re.sub(rf"(?<!\w)(?:{either})(?!\w)", lambda _: new, text, flags=re.IGNORECASE)


def _shuffled(count: int, drawn: random.Random) -> Iterator[int]:
    """What `drawn.sample(range(count), count)` gives, one by one: a few of a large pool cost little."""
    moved: dict[int, int] = {}
    for left in range(count, 0, -1):
        at = drawn.randrange(left)
        yield moved.get(at, at)
        moved[at] = moved.get(left - 1, left - 1)


def _alike(answer: str, answers: Iterable[str]) -> bool:
    """Whether one answer stands in another, so that swapping them might leave the question answered."""
    said = words(answer)
    return not said or any(holds(said, words(a)) or holds(words(a), said) for a in answers)


def _shape(answer: str) -> tuple[str, int]:
    """What an answer looks like: kind (year, number, name, words) and count of words."""
    plain = answer.strip()
    if re.fullmatch(r"[12]\d{3}", plain):
        return "year", 1
    if any(c.isdigit() for c in plain):
        return "number", len(plain.split())
    return "name" if plain[:1].isupper() else "words", len(plain.split())


def _distance(one: tuple[str, int], other: tuple[str, int]) -> tuple[bool, int]:
    return one[0] != other[0], abs(one[1] - other[1])


def _placed(
    gold: Sequence[tuple[str, str]], negative: Sequence[tuple[str, str]], place: Place, drawn: random.Random
) -> Context:
    last = len(negative)
    at = {"first": 0, "middle": last // 2, "last": last}.get(place, drawn.randint(0, last))
    told = (*negative[:at], *gold, *negative[at:])
    return Context(told, tuple(range(at, at + len(gold))))
