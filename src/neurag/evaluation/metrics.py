"""Is one answer right, wrong or withheld? Match, exact match and F1 against a list of accepted answers (aliases).

Texts are compared after SQuAD's normalisation (words.py). `match` is the accuracy of Mallen et al. 2023 (PopQA): the
answer holds an alias; here as whole words, so that 64 is not found in 640. Punctuation is removed before words are told
apart, as in the source: "5.8" and "58" count as equal.

Not here: whether the right documents were found, and rates over questions (rates.py). docs/metrics.md lists all.

    >>> match("It is called the Admiral Crumb.", ["Admiral Crumb"])
    True
    >>> exact_match("The parrot Admiral Crumb", ["Admiral Crumb"])
    False
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..words import holds, normalise, overlap, words

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")

# Both are compared with normalised text: no articles, no punctuation, "don't" as "do not".
_DECLINES_ALONE = frozenset(
    "|i do not know|sorry i do not know|im sorry i do not know|im sorry but i do not know|i am not sure|im not sure"
    "|unknown|unanswerable|no answer|no information|not stated|not mentioned|not given|not specified|not provided"
    "|insufficient information".split("|")
)
_SOURCE = r"(?:passage|text|context|document|source)s?"
_DECLINES_WITHIN = re.compile(
    "|".join(
        (
            r"\bi do not (?:know answer|have (?:enough )?information)\b",
            r"\b(?:cannot|can not) be (?:determined|answered)\b",
            r"\b(?:is|are|was|were) unanswerable$",
            r"\b(?:is|are|was|were) not (?:stated|mentioned|given|specified|provided)"
            rf"(?: in (?:(?:any|these|this|given|provided|of) )*{_SOURCE})?$",
            rf"\b{_SOURCE} (?:does|do) not (?:say|state|mention|specify|provide|give|contain)\b",
            r"(?:^|\bthere is |\b(?:contain|provide|give|have)s? )(?:no|not enough|insufficient) information\b",
        )
    )
)


def match(answer: str, aliases: Iterable[str]) -> bool:
    """Whether any alias stands in the answer as a sequence of whole words."""
    said = words(answer)
    # An alias of articles alone normalises to nothing, which every answer would hold.
    return any(holds(said, words(alias)) for alias in aliases)


def exact_match(answer: str, aliases: Iterable[str]) -> bool:
    """Whether the answer is an alias and nothing else."""
    said = normalise(answer)
    return any(said == normalise(alias) for alias in aliases)


def f1(answer: str, aliases: Iterable[str]) -> float:
    """Harmonic mean of word precision and recall, 0..1, for the alias where it is best."""
    said = words(answer)
    return max((overlap(said, words(alias)) for alias in aliases), default=0.0)


def answer_recall(answer: str, answer_sets: Sequence[Iterable[str]]) -> float:
    """Share, 0..1, of the required answers, each a list of aliases, that the answer holds; 0 where none is required.

    STR-EM of ASQA (Stelmakh et al. 2022) as ALCE (Gao et al. 2023) computes it, with `match` in place of substrings.
    """
    return sum(match(answer, aliases) for aliases in answer_sets) / len(answer_sets) if answer_sets else 0.0


def adopted_wrong(answer: str, wrong_answers: Iterable[str], answers: Iterable[str]) -> bool:
    """Whether the answer holds a wrong (planted) answer and no right one, both as `match` finds them.

    With planted answers this is the success of the attack in PoisonedRAG (Zou et al. 2025), where the answer
    holds the wrong text; here an answer that names both does not count.
    """
    return match(answer, wrong_answers) and not match(answer, answers)


def says_no_answer(answer: str) -> bool:
    """Whether a written answer declines: it is empty, or its first sentence says that the answer is not known.

    Our own rule, kept narrow: a sentence that is a stock phrase ("I don't know", "Not stated.") or that holds one
    ("cannot be determined", "the passage does not mention ..."), unless it goes on with "but" or "however".
    "No", "none" and "0" are answers; what follows the first sentence is not read. English only.
    """
    plain = answer.replace("’", "'").lower().replace("can't", "cannot").replace("n't", " not")
    first = normalise(_SENTENCE_END.split(plain.strip())[0])
    if first in _DECLINES_ALONE:
        return True
    found = _DECLINES_WITHIN.search(first)
    return bool(found) and not re.search(r"\b(?:but|however)\b", first[found.end() :] if found else "")


def answer_words(answer: str) -> int:
    """How many words the answer has, split at white space: a long answer holds an alias more easily."""
    return len(answer.split())
