"""The systems that are compared, behind one protocol: rows in, answers with their provenance out.

All of them see the same prompt but for what they paste, decode alike and stop alike. Controls are systems too.
Not here: PRAG (prag.py), endpoints (endpoint.py), judging (judge.py), and the order of work (run.py).

    >>> system = make_system("rag-bm25", world)        # doctest: +SKIP
    >>> system.answer(rows[:8])[0].answer              # doctest: +SKIP
    'Ilse Maranth'
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from ..answer import Answer
from ..config import RANDOM, AnswerOptions, EvalOptions, UsageError
from ..knowledge.embedding import Embedded
from ..knowledge.retrieval import Passage, Passages
from ..model import Model
from .collection import Collection
from .data import Row
from .metrics import match

DEPTH = 5
"""Documents that are ranked for recall."""


@dataclass(frozen=True)
class Given:
    """What a system made of one row."""

    answer: str = ""
    abstained: bool = False
    ranked: tuple[str, ...] | None = None
    """Ids of the documents it found, best first, at least DEPTH of them where there are so many; None: it does not
    look for documents."""
    used: tuple[str, ...] = ()
    """Ids of the documents it pasted or fired."""
    fired: tuple[tuple[str, str, float], ...] = ()
    """(document id, title, weight) of the neurons that fired."""
    seconds: float = 0.0
    first_token_s: float = 0.0
    prompt_tokens: int = 0
    error: str = ""


class System(Protocol):
    """One way of answering."""

    name: str

    def takes(self, row: Row) -> bool:
        """Whether the system can be asked: an oracle needs to know the gold documents."""

    def answer(self, rows: Sequence[Row]) -> list[Given]:
        """Answer rows side by side; a row that cannot be answered has an `error`."""


class Finder(Protocol):
    """Retrieval over passages."""

    def search(self, question: str, count: int) -> list[Passage]:
        """The best passages, best first."""


@dataclass(frozen=True)
class World:
    """What the systems of one evaluation share."""

    model: Model
    """With the collection's bank, where a system needs one."""
    rows: tuple[Row, ...]
    collection: Collection
    options: EvalOptions
    encoders: Mapping[str, Any] = field(default_factory=dict)
    """By system, for those that retrieve by embeddings (`knowledge.embedding.encoders`)."""

    @cached_property
    def bm25(self) -> Finder:
        """BM25 over the collection."""
        return Passages(self.collection.passages)

    @cached_property
    def dense(self) -> Finder:
        """Dense retrieval over the collection."""
        return Embedded(self.collection.passages, self.encoders["rag-dense"])

    @cached_property
    def splade(self) -> Finder:
        """SPLADE over the collection."""
        return Embedded(self.collection.passages, self.encoders["rag-splade"])

    @cached_property
    def wrong(self) -> Mapping[str, str]:
        """For each row's id a document that is wrong for it."""
        return wrong_documents(self.rows, self.collection, self.options.seed)

    def gold(self, row: Row) -> tuple[str, ...]:
        """The row's gold documents that are in the collection."""
        return tuple(name for name in row.gold if name in self.collection.texts)

    def drawn(self, row: Row, salt: str) -> random.Random:
        """Random numbers of one row, the same in whatever order the rows are asked."""
        return random.Random(f"{self.options.seed} {salt} {row.id}")


@dataclass(frozen=True)
class Asked:
    """What a system does with one row."""

    options: AnswerOptions
    ranked: tuple[str, ...] | None = None
    used: tuple[str, ...] = ()
    seconds: float = 0.0
    """Time that finding passages took."""


class ModelSystem:
    """A system that is our model with options chosen for each row."""

    def __init__(self, name: str, world: World, plan: Callable[[World, Row], Asked], needs_gold: bool = False) -> None:
        self.name, self._world, self._plan, self._needs_gold = name, world, plan, needs_gold

    def takes(self, row: Row) -> bool:
        """False for an oracle without gold documents."""
        return not self._needs_gold or bool(self._world.gold(row))

    def answer(self, rows: Sequence[Row]) -> list[Given]:
        """Answer rows side by side; where that fails, one by one, so that only the culprit fails."""
        asked = [self._plan(self._world, row) for row in rows]
        questions = [row.question for row in rows]
        try:
            answers = list(self._world.model.answers(questions, [a.options for a in asked], len(rows)))
        except UsageError as error:
            if len(rows) == 1:
                return [Given(error=str(error))]
            return [self.answer([row])[0] for row in rows]
        return [_given(a, told) for a, told in zip(asked, answers, strict=True)]


def _given(asked: Asked, told: Answer) -> Given:
    fired = tuple((n.doc_id, n.title, n.weight) for n in told.neurons)
    used = tuple(dict.fromkeys((*(n[0] for n in fired), *asked.used)))
    total, first = (asked.seconds + s for s in (told.timing.total_s, told.timing.first_token_s))
    ranked = told.ranked if asked.options.ranked else asked.ranked
    return Given(told.answer, told.abstained, ranked, used, fired, total, first, told.timing.prompt_tokens)


def asked_alone(world: World, row: Row, asked: Asked) -> Given:
    """One question, with whatever else acts on the backbone. Raises UsageError for one that cannot be asked."""
    return _given(asked, world.model.answer(row.question, asked.options))


def base(world: World) -> AnswerOptions:
    """What all systems have in common. Conflicts are not reported here, so they are not looked for."""
    told = world.options
    return AnswerOptions(max_new_tokens=told.max_new_tokens, passages=told.passages, check_conflicts=False)


def closed(world: World, row: Row) -> Asked:
    """The plain backbone."""
    return Asked(replace(base(world), mode="closed"))


def rag(find: Callable[[World], Finder]) -> Callable[[World, Row], Asked]:
    """Paste what a retriever finds."""

    def plan(world: World, row: Row) -> Asked:
        finder = find(world)  # the index is made before the clock starts
        start = time.perf_counter()
        found = finder.search(row.question, max(world.options.passages, 3 * DEPTH))
        seconds = time.perf_counter() - start
        ranked = tuple(dict.fromkeys(p.document_id for p in found))
        return replace(_pasting(world, row, found[: world.options.passages], ranked), seconds=seconds)

    return plan


def rag_random(world: World, row: Row) -> Asked:
    """Paste passages drawn at random: what pasting anything does."""
    passages = world.collection.passages
    drawn = world.drawn(row, "random").sample(passages, min(world.options.passages, len(passages)))
    return _pasting(world, row, [Passage(*told, 0.0) for told in drawn], None)


def rag_oracle(world: World, row: Row) -> Asked:
    """Paste the gold documents, and distractors where the options ask for them."""
    return _pasting(world, row, oracle_passages(world, row), None)


def neurag(world: World, row: Row) -> Asked:
    """Nothing pasted, neurons chosen by routing."""
    return Asked(replace(base(world), ranked=DEPTH))


def neurag_oracle(world: World, row: Row) -> Asked:
    """The gold documents' neurons, forced."""
    return Asked(replace(base(world), force=tuple((name, 1.0) for name in world.gold(row))))


def but(plan: Callable[[World, Row], Asked], **changes: Any) -> Callable[[World, Row], Asked]:
    """The same with some options of answering changed: what these do."""

    def planned(world: World, row: Row) -> Asked:
        asked = plan(world, row)
        return replace(asked, options=replace(asked.options, **changes))

    return planned


def neurag_wrong(world: World, row: Row) -> Asked:
    """A wrong document's neuron, forced: what any neuron does."""
    return Asked(replace(base(world), force=((world.wrong[row.id], 1.0),)))


def neurag_random(world: World, row: Row) -> Asked:
    """Random weights of a neuron's norm: what any change does."""
    return Asked(replace(base(world), force=((RANDOM, 1.0),)))


def hybrid(world: World, row: Row) -> Asked:
    """Routed neurons, and the passages BM25 finds."""
    found = rag(lambda w: w.bm25)(world, row)
    return replace(found, options=replace(found.options, mode="hybrid", ranked=DEPTH))


def hybrid_oracle(world: World, row: Row) -> Asked:
    """The gold documents as neurons and as passages."""
    found = rag_oracle(world, row)
    force = tuple((name, 1.0) for name in world.gold(row))
    return replace(found, options=replace(found.options, mode="hybrid", force=force))


PLANS: Mapping[str, tuple[Callable[[World, Row], Asked], bool]] = {
    "closed": (closed, False),
    "rag-bm25": (rag(lambda world: world.bm25), False),
    "rag-dense": (rag(lambda world: world.dense), False),
    "rag-splade": (rag(lambda world: world.splade), False),
    "rag-oracle": (rag_oracle, True),
    "rag-random": (rag_random, False),
    "neurag": (neurag, False),
    "neurag-direct": (but(neurag, chain=False), False),
    "neurag-greedy": (but(neurag, weigh=False), False),
    "neurag-oracle": (neurag_oracle, True),
    "neurag-oracle-greedy": (but(neurag_oracle, weigh=False), True),
    "neurag-wrong": (neurag_wrong, False),
    "neurag-random": (neurag_random, False),
    "hybrid": (hybrid, False),
    "hybrid-oracle": (hybrid_oracle, True),
}
"""What a system does with a row, and whether it needs gold documents."""


def oracle_passages(world: World, row: Row) -> list[Passage]:
    """The gold documents' passages, with the distractors BM25 likes best around them."""
    texts = world.collection.texts
    gold = [Passage("", name, *told, 0.0) for name in world.gold(row) for told in texts[name]]
    if not (wanted := world.options.distractors):
        return gold
    found = world.bm25.search(row.question, wanted + len(gold) + 20)
    wrong = [p for p in found if p.document_id not in row.gold and not match(p.text, row.answers)][:wanted]
    place = {"first": 0, "middle": len(wrong) // 2, "last": len(wrong)}[world.options.position]
    return [*wrong[:place], *gold, *wrong[place:]]


def _pasting(world: World, row: Row, found: Sequence[Passage], ranked: tuple[str, ...] | None) -> Asked:
    """Paste passages, a share of them replaced by others where the options ask for noise."""
    chosen, every = list(found), world.collection.passages
    drawn = world.drawn(row, "noise")
    for place in drawn.sample(range(len(chosen)), round(world.options.noise * len(chosen))):
        others = [told for told in (drawn.choice(every) for _ in range(20)) if told[1] not in row.gold]
        chosen[place] = Passage(*others[0], 0.0) if others else chosen[place]
    paste = tuple((p.title, p.text) for p in chosen)
    used = tuple(dict.fromkeys(p.document_id for p in chosen))
    return Asked(replace(base(world), mode="rag", paste=paste), ranked, used)


def wrong_documents(rows: Sequence[Row], collection: Collection, seed: int) -> dict[str, str]:
    """For each row's id a document that is not gold for it and does not hold its answer.

    Gold documents of other rows come first, so that a wrong document is like a right one.
    """
    golden = [name for row in rows for name in row.gold if name in collection.texts]
    every = golden or [document.id for document in collection.documents]
    chosen: dict[str, str] = {}
    for row in rows:
        drawn = random.Random(f"{seed} wrong {row.id}")
        tried = [*(drawn.choice(every) for _ in range(50)), *(document.id for document in collection.documents)]
        fits = (
            name
            for name in tried
            if name not in row.gold and not any(match(text, row.answers) for _, text in collection.texts[name])
        )
        if (name := next(fits, None)) is None:
            raise UsageError(f"no document is wrong for row {row.id!r}: leave neurag-wrong out, or take more rows")
        chosen[row.id] = name
    return chosen
