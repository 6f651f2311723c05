"""How wrong answers about a passage are wrong: near the right one, or far from it.

Not here: what counts as right (neurag.evaluation.metrics).

    >>> how_wrong("Bo", ["Ada Pell"], "Ada Pell runs the mill with Bo. It is in Sund.")
    'same sentence'
"""

from __future__ import annotations

from collections.abc import Sequence

from neurag.knowledge.phrases import sentences_of
from neurag.words import holds, words

KINDS = ("overlapping", "same sentence", "another sentence", "not in the passage")


def how_wrong(said: str, accepted: Sequence[str], passage: str) -> str:
    """Which of `KINDS`: shares words with an accepted answer, or else stands in a sentence that has one, in
    another one, or nowhere."""
    told = words(said)
    sentences = [words(sentence) for sentence in sentences_of(passage)]
    places = {n for n, sentence in enumerate(sentences) if holds(sentence, told)}
    right = {n for n, sentence in enumerate(sentences) if any(holds(sentence, words(one)) for one in accepted)}
    if not places:
        return KINDS[3]
    if any(set(words(one)) & set(told) for one in accepted):
        return KINDS[0]
    return KINDS[1] if places & right else KINDS[2]
