"""Lessons: a question with a mixed context, what is to be said, and the clean prompt; what both stages learn from.

The prompt is the product's (prompts.py). Shares and kinds of noise take turns, and each pass over the questions draws
its contexts anew, from the seed alone. The clean prompt has the relevant passages only; where no relevant passage is
shown, it is the question alone: what the model says when nothing disturbs it. Not here: training (tuning.py).

    >>> target_of("Oskerby", [("Mill", "It stood. It is in Oskerby now.")], "evidence")
    'It is in Oskerby now.\\nAnswer: Oskerby'
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..backbone import Backbone
from ..config import NOT_STATED, NeuragError, UsageError
from ..knowledge.phrases import sentences_of
from ..prompts import question_prompt
from ..words import holds, words
from .contexts import Context, Contexts, Question
from .options import HardenOptions

ANSWER = "Answer:"
"""Stands between evidence and answer."""
PASSES = 1000
"""Passes over the questions, at most: where this few lessons come of them, none do."""


@dataclass(frozen=True)
class Lesson:
    """Token ids."""

    prompt: tuple[int, ...]
    target: tuple[int, ...]
    """What is to be said, with the end token."""
    clean: tuple[int, ...]
    """The prompt without noise."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.target)


def lessons(backbone: Backbone, questions: Sequence[Question], options: HardenOptions, tokens: int) -> list[Lesson]:
    """Lessons of `tokens` tokens in all, or a few more. Raises NeuragError where the questions give none."""
    made: list[Lesson] = []
    spent = 0
    for number in range(PASSES):
        before = len(made)
        for lesson in _one_pass(backbone, questions, options, number):
            made.append(lesson)
            spent += len(lesson)
            if spent >= tokens:
                return made
        if len(made) == before:
            break
    if not made:
        raise NeuragError(
            "no question can be learned from: rows need answers and passages labelled relevant (docs/data.md)"
        )
    return made


def mixed(contexts: Contexts, question: Question, count: int, noise: float, kind: str) -> Context | None:
    """A context of at most `count` passages, round(noise count) of them noise, the others relevant.

    Questions have fewer relevant passages than that as a rule: the context is then shorter, and its share of noise is
    higher than said. None where there is no such context.
    """
    negative = round(noise * count)
    relevant = contexts.relevant(question, count - negative) if negative < count else None
    if negative < count and relevant is None:
        return None
    whole = negative + (len(relevant.passages) if relevant else 0)
    return contexts.mixed(question, whole, negative / whole, kind)


def target_of(answer: str, passages: Sequence[tuple[str, str]], target: str) -> str:
    """What is to be said: the answer, or the sentence of the passages that holds it and then the answer."""
    if target != "evidence":
        return answer
    wanted = words(answer)
    found = (" ".join(s.split()) for _, text in passages for s in sentences_of(text) if holds(words(s), wanted))
    sentence = next(found, "")
    return f"{sentence}\n{ANSWER} {answer}" if sentence else f"{ANSWER} {answer}"


def final_answer(said: str) -> str:
    """What stands behind the last "Answer:", or all of it."""
    return said.rpartition(ANSWER)[2].strip()


def _one_pass(
    backbone: Backbone, questions: Sequence[Question], options: HardenOptions, number: int
) -> Iterator[Lesson]:
    drawn = random.Random(f"lessons {options.seed} {number}")
    contexts = Contexts(questions, seed=1000 * options.seed + number)
    for place, at in enumerate(drawn.sample(range(len(questions)), len(questions))):
        turn = number + place
        noise = options.noise[turn % len(options.noise)]
        kind = options.kinds[turn // len(options.noise) % len(options.kinds)]
        lesson = _lesson(backbone, contexts, questions[at], noise, kind, options)
        if lesson is not None:
            yield lesson


def _lesson(
    backbone: Backbone, contexts: Contexts, question: Question, noise: float, kind: str, options: HardenOptions
) -> Lesson | None:
    if not question.answers:
        return None
    context = mixed(contexts, question, options.passages, noise, kind)
    if context is None:
        return None
    gold = [context.passages[place] for place in context.gold]
    answer = said_in(question.answers, gold)
    if gold:
        said = target_of(answer, gold, options.target)
    else:
        said = NOT_STATED if options.absent == "not_stated" else target_of(answer, [], options.target)
    try:
        shown = question_prompt(backbone, question.text, context.passages)
        clean = question_prompt(backbone, question.text, gold)
    except UsageError:  # longer than the model reads
        return None
    ids = backbone.tokenizer(said, add_special_tokens=False).input_ids
    lesson = Lesson(shown.ids, (*ids, backbone.tokenizer.eos_token_id), clean.ids)
    return lesson if len(lesson) <= min(options.micro_tokens, backbone.context) else None


def said_in(answers: Sequence[str], passages: Sequence[tuple[str, str]]) -> str:
    """The first accepted answer that the passages hold, else the first."""
    texts = [words(text) for _, text in passages]
    return next((a for a in answers if any(holds(text, words(a)) for text in texts)), answers[0])
