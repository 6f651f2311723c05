"""Lessons: an augmentation as token sequences, ready for the encoder.

Not here: what the texts are (augmentation.py) and how they are learned (encoder.py).

    >>> lessons(backbone, augmentation, document=0, options=EncodeOptions())     # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..backbone import Backbone
from ..prompts import question_prompt
from .augmentation import Augmentation
from .band import Lesson

LONGEST_ANSWER = 192
WEIGHTS = {"questions": 1.0, "echoes": 1.0, "completions": 0.5}
"""Weight of one answer token by kind of text."""


def lessons(backbone: Backbone, augmentation: Augmentation, document: int) -> Iterator[Lesson]:
    """The lessons of one chunk, as document number `document` of its batch."""
    for kind, weight in WEIGHTS.items():
        yield from pair_lessons(backbone, getattr(augmentation, kind), document, weight)


def pair_lessons(
    backbone: Backbone, pairs: Iterable[tuple[str, str]], document: int, weight: float = 1.0
) -> Iterator[Lesson]:
    """(question, answer) pairs as lessons; an answer that is cut for its length gets no end token."""
    end = backbone.tokenizer.eos_token_id
    for question, answer in pairs:
        ids = backbone.tokenizer(answer, add_special_tokens=False).input_ids[:LONGEST_ANSWER]
        whole = (*ids, end) if len(ids) < LONGEST_ANSWER else tuple(ids)
        prompt = question_prompt(backbone, question)
        yield Lesson(document, prompt.ids, whole, weight, prompt.span[0])
