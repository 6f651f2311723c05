"""Is an answer right? Match, exact match and F1 against a list of accepted answers (aliases).

Texts are compared after SQuAD's normalisation (Rajpurkar et al. 2016, the official evaluation script):
lower case, without ASCII punctuation, without a/an/the, with single spaces. `match` is the accuracy of Mallen
et al. 2023 (PopQA): the answer holds an alias; here as whole words, so that 64 is not found in 640.
Punctuation is removed before words are told apart, as in the source: "5.8" and "58" count as equal.

Not here: whether the right documents were found, and averages over questions.

    >>> match("It is called the Admiral Crumb.", ["Admiral Crumb"])
    True
    >>> exact_match("The parrot Admiral Crumb", ["Admiral Crumb"])
    False
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Return the text as SQuAD compares it."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def match(answer: str, aliases: Iterable[str]) -> bool:
    """Whether any alias stands in the answer as a sequence of whole words."""
    words = normalise(answer).split()
    return any(_holds(words, normalise(alias).split()) for alias in aliases)


def exact_match(answer: str, aliases: Iterable[str]) -> bool:
    """Whether the answer is an alias and nothing else."""
    said = normalise(answer)
    return any(said == normalise(alias) for alias in aliases)


def f1(answer: str, aliases: Iterable[str]) -> float:
    """Harmonic mean of word precision and recall, 0..1, for the alias where it is best."""
    words = normalise(answer).split()
    return max((_overlap(words, normalise(alias).split()) for alias in aliases), default=0.0)


def _holds(words: Sequence[str], wanted: Sequence[str]) -> bool:
    # An alias of articles alone normalises to nothing, which every answer would hold.
    starts = range(len(words) - len(wanted) + 1) if wanted else ()
    return any(words[start : start + len(wanted)] == wanted for start in starts)


def _overlap(words: Sequence[str], wanted: Sequence[str]) -> float:
    if not words or not wanted:
        return float(words == wanted)
    return 2 * (Counter(words) & Counter(wanted)).total() / (len(words) + len(wanted))
