"""Lessons: an augmentation as token sequences, ready for the encoder.

Not here: what the texts are (augmentation.py) and how they are learned (encoder.py).

    >>> lessons(backbone, augmentation, ("Mill", text), document=0, options=EncodeOptions())     # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..backbone import Backbone
from ..config import EncodeOptions
from ..prompts import question_prompt
from .augmentation import Augmentation
from .band import Lesson
from .learned import NOTHING, Learned

LONGEST_ANSWER = 192
WEIGHTS = {"questions": 1.0, "echoes": 1.0, "checks": 1.0, "completions": 0.5}
"""Weight of one answer token by kind of text."""


def lessons(
    backbone: Backbone, augmentation: Augmentation, passage: tuple[str, str], document: int, options: EncodeOptions
) -> Iterator[Lesson]:
    """The lessons of one (title, text), as document number `document` of its batch."""
    for kind, weight in WEIGHTS.items():
        teacher = passage if options.distils and kind == "questions" else None
        yield from pair_lessons(backbone, getattr(augmentation, kind), document, weight, teacher=teacher)


def pair_lessons(
    backbone: Backbone,
    pairs: Iterable[tuple[str, str]],
    document: int,
    weight: float = 1.0,
    teacher: tuple[str, str] | None = None,
) -> Iterator[Lesson]:
    """(question, answer) pairs as lessons, with a passage in their prompts if there is one; an answer that is cut for
    its length gets no end token."""
    end = backbone.tokenizer.eos_token_id
    for question, answer in pairs:
        ids = backbone.tokenizer(answer, add_special_tokens=False).input_ids[:LONGEST_ANSWER]
        whole = (*ids, end) if len(ids) < LONGEST_ANSWER else tuple(ids)
        prompt = question_prompt(backbone, question)
        lesson = Lesson(document, prompt.ids, whole, weight, len(prompt.head))
        if teacher:
            view = question_prompt(backbone, question, [teacher])
            lesson = replace(lesson, view=view.ids, view_shared=len(view.head))
        yield lesson


def learned(augmentation: Augmentation, lessons: Sequence[Lesson], reads: Mapping[Lesson, Tensor]) -> Learned:
    """The questions and the sentences asked back of a chunk's `lessons`, which begin with them, and their places in
    what was read [L, R] of each."""
    told = [*augmentation.questions, *augmentation.echoes]
    if not told:
        return NOTHING
    read = places(torch.stack([reads[lesson] for lesson in lessons[: len(told)]]))
    questions, answers = zip(*told, strict=True)
    written = [place < len(augmentation.questions) for place in range(len(told))]
    return Learned(questions, answers, tuple(written), read.half().cpu().numpy())


def places(reads: Tensor) -> Tensor:
    """[n, L, R] readings -> [n, L R] unit vectors in which every layer counts alike."""
    told = torch.nn.functional.normalize(reads.float(), dim=-1).flatten(1)
    scaled: Tensor = told / max(1, reads.shape[1]) ** 0.5
    return scaled
