"""Short texts compared as words: what two answers have in common.

SQuAD's normalisation (Rajpurkar et al. 2016, the official evaluation script): lower case, without ASCII punctuation,
without a/an/the, with single spaces. Not here: figures over questions (evaluation/metrics.py).

    >>> words("The mill of  Oskerby.")
    ['mill', 'of', 'oskerby']
    >>> overlap(words("the old mill"), words("mill"))
    0.6666666666666666
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Return the text as SQuAD compares it."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def words(text: str) -> list[str]:
    """The normalised words of a text."""
    return normalise(text).split()


def holds(said: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether the wanted words stand in what was said, one after the other; no words are in nothing."""
    starts = range(len(said) - len(wanted) + 1) if wanted else ()
    return any(said[start : start + len(wanted)] == wanted for start in starts)


def overlap(said: Sequence[str], wanted: Sequence[str]) -> float:
    """F1, the harmonic mean of word precision and recall, 0..1."""
    if not said or not wanted:
        return float(said == wanted)
    return 2 * (Counter(said) & Counter(wanted)).total() / (len(said) + len(wanted))
