"""A check on questions held out by document: what a backbone answers with mixed contexts, and with noise alone.

A question is held out by the hash of its relevant passages, and no passage that answers a held-out question is learned
from, so the same rows always part in the same way. Figures for a card, not a benchmark: that is
benchmarks/robustness.py.

    >>> learned, held = parted(questions, 0.1)                                 # doctest: +SKIP
    >>> check(backbone, held)                                                  # doctest: +SKIP
    {'match': 0.31, 'match_noise_only': 0.04, 'answer_words': 3.2}
"""

from __future__ import annotations

from collections.abc import Sequence

from ..backbone import Backbone
from ..config import UsageError
from ..prompts import question_prompt
from ..tasks.batches import place_of
from ..words import holds, words
from .asking import say
from .contexts import Context, Contexts, Question
from .lessons import final_answer

LIMIT = 32
"""Tokens of an answer."""


def parted(questions: Sequence[Question], share: float) -> tuple[list[Question], list[Question]]:
    """Questions to learn from, and a share held out. Raises UsageError for a share outside 0..1."""
    if not 0 <= share < 1:
        raise UsageError(f"--hold-out must be at least 0 and below 1, not {share}")
    held = [question for question in questions if (told := _gold(question)) and place_of(told[0]) < share]
    kept_out = {text for question in held for text in _gold(question)}
    asked = {question.text for question in held}
    learned = [q for q in questions if q.text not in asked and not kept_out & {p.text for p in q.passages}]
    return learned, held


def check(
    backbone: Backbone, questions: Sequence[Question], passages: int = 5, limit: int = LIMIT, seed: int = 0
) -> dict[str, float]:
    """Match with all relevant passages among noise and with noise alone, and words of an answer; nothing of nothing."""
    contexts = Contexts(questions, seed)
    figures: dict[str, float] = {}
    for name, noise in (("match", 0.0), ("match_noise_only", 1.0)):
        asked = [(q, contexts.mixed(q, passages, noise)) for q in questions if q.answers]
        shown = [(q, prompt) for q, context in asked if context and (prompt := _prompt(backbone, q, context))]
        said = [final_answer(text) for text in say(backbone, [prompt for _, prompt in shown], limit)]
        if said:
            right = [_right(text, q.answers) for text, (q, _) in zip(said, shown, strict=True)]
            figures[name] = sum(right) / len(right)
            if noise == 0:
                figures |= {"questions": len(said), "answer_words": sum(len(s.split()) for s in said) / len(said)}
    return figures


def _right(said: str, answers: Sequence[str]) -> bool:
    return any(holds(words(said), words(answer)) for answer in answers)


def _prompt(backbone: Backbone, question: Question, context: Context) -> tuple[int, ...] | None:
    try:
        return question_prompt(backbone, question.text, context.passages).ids
    except UsageError:  # longer than the model reads
        return None


def _gold(question: Question) -> list[str]:
    return [passage.text for passage in question.passages if passage.relevant]
