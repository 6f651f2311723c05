"""The question sets of robustness.py, parted by document, and the prompts of every condition.

NQ, TriviaQA and WebQuestions are training families: a quarter of their titles is held out (common.held_out), questions
about these are asked, and no passage that answers an asked question of any set is trained on. PopQA, HotpotQA, 2Wiki,
RAMDocs and PoisonedRAG are never trained on. Passages are cut to 120 words first, and only questions whose relevant
passages then hold an accepted answer count. Not here: asking (robustness.py).

    >>> found = parted(Path("data"), asked=128)                                # doctest: +SKIP
    >>> len(found.learned), {name: len(qs) for name, qs in found.sets.items()} # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import gold_of, held_out, plain, read_rows
from neurag.backbone import Backbone
from neurag.config import UsageError
from neurag.prompts import question_prompt
from neurag.robust.contexts import Context, Contexts, Question, Shown, holds_answer, retriever
from neurag.robust.lessons import mixed

TRAINED = {"nq": "nq", "triviaqa": "triviaqa", "webq": "webq"}
"""Set and type of its rows."""
TRAINING_FILES = ("ragbench_nq_tqa_webq", "nq_open_oracle")
OTHERS = {
    "popqa": "popqa",
    "hotpotqa": "hotpotqa",
    "2wiki": "2wikimultihopqa",
    "ramdocs": "ramdocs",
    "poisonedrag": "poisonedrag",
}
"""Set and file."""
SIX = ("nq", "triviaqa", "webq", "popqa", "hotpotqa", "2wiki")
WORDS = 120
"""Of a passage that are shown."""
PASSAGES = 5
RATES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
DISTRACTORS = (0, 2, 4, 8)
PLACES = ("first", "middle", "last")
KINDS = ("random", "related", "counterfactual")


@dataclass(frozen=True)
class Parted:
    """Questions to learn from, and those of every set."""

    learned: list[Question]
    sets: Mapping[str, list[Question]]


@dataclass(frozen=True)
class Asked:
    """One prompt of a condition."""

    set: str
    id: str
    answers: tuple[str, ...]
    prompt: tuple[int, ...]


def parted(folder: Path, asked: int) -> Parted:
    """All training rows that are clean, and up to `asked` questions a set, in file order."""
    rows = [row for stem in TRAINING_FILES for row in read_rows(folder, stem)]
    sets = {name: list(_asked((r for r in rows if r["type"] == kind), asked, True)) for name, kind in TRAINED.items()}
    sets |= {name: list(_asked(read_rows(folder, stem), asked, False)) for name, stem in OTHERS.items()}
    known = [row for told in sets.values() for row in told]
    texts = {plain(doc["text"]) for row in known for doc in gold_of(row)}
    questions = {plain(row["question"]) for row in known}
    learned: dict[str, Question] = {}
    for row in rows:
        clean = not any(held_out(doc["title"]) for doc in gold_of(row)) and plain(row["question"]) not in questions
        shown = [d for d in row["docs"] if not held_out(d["title"]) and plain(d["text"]) not in texts]
        if clean and answerable(row | {"docs": shown}):
            learned.setdefault(plain(row["question"]), _question(row | {"docs": shown}))
    return Parted(list(learned.values()), {name: [_question(row) for row in told] for name, told in sets.items()})


def _asked(rows: Any, count: int, apart: bool) -> Iterator[dict[str, Any]]:
    """The first rows that can be asked, each question once; `apart`: only about held-out documents."""
    seen: set[str] = set()
    for row in rows:
        key = plain(row["question"])
        fits = not apart or all(held_out(doc["title"]) for doc in gold_of(row))
        if key not in seen and fits and answerable(row):
            seen.add(key)
            yield row
            if len(seen) == count:
                return


def answerable(row: Mapping[str, Any]) -> bool:
    """Whether what is shown of a relevant passage holds an accepted answer."""
    return any(holds_answer((doc["title"], cut(doc["text"])), row["answers"]) for doc in gold_of(row))


def cut(text: str) -> str:
    """Its first words."""
    return " ".join(text.split()[:WORDS])


def _question(row: Mapping[str, Any]) -> Question:
    docs = tuple(Shown(doc["title"], cut(doc["text"]), doc["relevant"]) for doc in row["docs"])
    return Question(row["id"], row["question"], tuple(row["answers"]), docs)


Make = Callable[[Contexts, Question], Context | None]


def mixed_context(contexts: Contexts, question: Question) -> Context | None:
    """All relevant passages, up to five, filled up to five with related ones."""
    return contexts.mixed(question, PASSAGES, 0.0)


def closed(contexts: Contexts, question: Question) -> Context:
    """Nothing."""
    return Context((), ())


def beside(contexts: Contexts, question: Question, count: int) -> Context | None:
    """All relevant passages among a number of others."""
    relevant = contexts.relevant(question)
    whole = count + (len(relevant.passages) if relevant else 0)
    return contexts.mixed(question, whole, count / whole) if relevant else None


CONDITIONS: Mapping[str, Make] = {
    "mixed": mixed_context,
    "closed": closed,
    **{
        f"noise_{rate}": partial(lambda c, q, rate: mixed(c, q, PASSAGES, rate, "related"), rate=rate) for rate in RATES
    },
    **{f"distractors_{n}": partial(beside, count=n) for n in DISTRACTORS},
    **{f"gold_{place}": partial(lambda c, q, p: c.mixed(q, PASSAGES, 0.0, place=p), p=place) for place in PLACES},
    **{f"kind_{kind}": partial(lambda c, q, k: c.mixed(q, PASSAGES, 0.0, k), k=kind) for kind in KINDS},
}
"""What is shown with a question."""
ALWAYS = ("closed", "noise_1.0")
"""Conditions of every system beside the main one."""
SWEPT = tuple(name for name in CONDITIONS if name not in ("mixed", *ALWAYS))


def retrieved(kind: str, questions: Sequence[Question]) -> Make:
    """The five passages that a search over all passages of the questions finds, best first."""
    texts = {(p.title, p.text): None for question in questions for p in question.passages}
    rows = [(str(number), str(number), *passage) for number, passage in enumerate(texts)]
    if kind == "bm25":
        from neurag.knowledge.retrieval import Passages

        search = retriever(Passages(rows))
    else:
        from neurag.knowledge.embedding import Embedded, dense_encoder

        search = retriever(Embedded(rows, dense_encoder(None)))

    def make(contexts: Contexts, question: Question) -> Context:
        found = tuple(search(question.text, PASSAGES))
        return Context(found, tuple(n for n, passage in enumerate(found) if holds_answer(passage, question.answers)))

    return make


def prompts(
    backbone: Backbone, sets: Mapping[str, Sequence[Question]], condition: str, count: int, seed: int
) -> list[Asked]:
    """Of the first `count` questions of each set that have such a context."""
    told = []
    for name, questions in sets.items():
        contexts, held = Contexts(questions, seed), 0
        kind = condition.removeprefix("retrieved_")
        make = CONDITIONS[condition] if condition in CONDITIONS else retrieved(kind, questions)
        for question in questions:
            context = make(contexts, question) if held < count else None
            if context is None:
                continue
            try:
                prompt = question_prompt(backbone, question.text, context.passages)
            except UsageError:  # longer than the model reads
                continue
            held += 1
            told.append(Asked(name, question.id, question.answers, prompt.ids))
    return told
