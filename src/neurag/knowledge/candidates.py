"""Candidate answers in a passage: names, numbers, dates and noun phrases, found by surface form alone.

No model and no language resource, so any text gets some: where capitals and digits say nothing (other
scripts), the second half of each clause stands in. Not here: writing questions (augmentation.py).

    >>> [c.answer for c in find_candidates("The mill opened in Oskerby on 9 April 1987.", 5)]
    ['Oskerby', '9 April 1987', 'mill']
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
SENTENCE = re.compile(r"[^.!?。！？\n]*(?:[.!?](?=\S)[^.!?。！？\n]*)*[.!?。！？]?")
PATTERNS = (
    (
        "date",
        rf"\b\d{{1,2}} (?:{MONTHS})(?: \d{{4}})?|\b(?:{MONTHS}) \d{{1,2}}(?:, \d{{4}})?|\b(?:{MONTHS}) \d{{4}}",
    ),
    ("number", r"[$€£]?\b\d[\d.,:/]*\d\b%?|[$€£]?\b\d\b%?"),
    ("name", r"\b[A-Z][\w'’.-]*(?:(?: (?:of|the|de|von|van|and) | )[A-Z][\w'’-]*)*"),
    (
        "phrase",
        r"(?<=\b[Aa] )[a-z][\w-]*(?: [a-z][\w-]*){0,2}|(?<=\b[Aa]n )[a-z][\w-]*(?: [a-z][\w-]*){0,2}|"
        r"(?<=\b[Tt]he )[a-z][\w-]*(?: [a-z][\w-]*){0,1}",
    ),
)
UNIT = re.compile(r" (?:[a-z]{3,}|kg|km|cm|mm|m)\b")
STOP = frozenset(
    [
        "the",
        "a",
        "an",
        "and",
        "or",
        "but",
        "of",
        "in",
        "on",
        "at",
        "to",
        "for",
        "from",
        "with",
        "by",
        "as",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "has",
        "have",
        "had",
        "that",
        "which",
        "who",
        "whom",
        "whose",
        "when",
        "where",
        "while",
        "than",
        "then",
        "it",
        "its",
        "his",
        "her",
        "their",
        "this",
        "these",
        "those",
        "not",
        "no",
        "can",
        "must",
        "may",
        "will",
        "would",
        "should",
        "still",
        "also",
        "only",
        "each",
        "every",
        "into",
        "after",
        "before",
        "during",
        "until",
        "since",
        "one",
        "two",
        "three",
        "for",
    ]
)
SMALL = frozenset(
    [
        "The",
        "A",
        "An",
        "In",
        "On",
        "At",
        "It",
        "He",
        "She",
        "They",
        "This",
        "That",
        "These",
        "Those",
        "There",
        "When",
        "While",
        "After",
        "Before",
        "Each",
        "Every",
        "Today",
        "At",
        "If",
        "But",
        "And",
        "For",
        "From",
        "With",
        "By",
        "As",
        "Its",
        "His",
        "Her",
        "Their",
        "Since",
        "Until",
        "Only",
        "Also",
        "Both",
    ]
)


@dataclass(frozen=True)
class Candidate:
    """A possible answer, and the sentence it stands in."""

    answer: str
    sentence: str
    kind: str


def find_candidates(text: str, limit: int) -> list[Candidate]:
    """Up to `limit` candidates, spread over the sentences of the text, names and numbers first."""
    rounds: list[list[Candidate]] = []
    for match in SENTENCE.finditer(text):
        sentence = match.group().strip()
        if len(sentence) > 1:
            rounds.append(_in_sentence(sentence))
    chosen: dict[str, Candidate] = {}
    counts: dict[str, int] = {}
    for row in rounds:
        for c in row:
            counts[c.answer] = counts.get(c.answer, 0) + 1
    # what is named again and again is the passage's subject: asked about last
    for row in rounds:
        row.sort(key=lambda c: (counts[c.answer] > 2, c.kind == "phrase", " " not in c.answer))
    for place in range(max((len(r) for r in rounds), default=0)):
        for row in rounds:
            if place < len(row) and len(chosen) < limit:
                chosen.setdefault(f"{row[place].answer}\n{row[place].sentence}", row[place])
    return list(chosen.values())


def _in_sentence(sentence: str) -> list[Candidate]:
    taken: list[tuple[int, int]] = []
    found: list[tuple[int, Candidate]] = []
    for kind, pattern in PATTERNS:
        for match in re.finditer(pattern, sentence):
            start, end = match.span()
            answer = match.group()
            if kind == "name":
                start, answer = _trim_name(start, answer)
            if kind == "number" and (unit := UNIT.match(sentence, end)) and unit.group().strip() not in STOP:
                end = unit.end()
                answer = sentence[start:end]
            if kind == "phrase":
                answer = _trim_phrase(answer)
            answer = answer.rstrip(".,:;'’-")
            end = start + len(answer)
            if not answer or any(start < b and a < end for a, b in taken):
                continue
            taken.append((start, end))
            found.append((start, Candidate(answer, sentence, kind)))
    if not found and len(sentence) > 3:
        half = len(sentence) // 2
        cut = sentence.find(" ", half)
        tail = sentence[cut + 1 if cut > 0 else half :].rstrip(".!?。！？")
        return [Candidate(tail, sentence, "tail")] if tail else []
    return [c for _, c in sorted(found, key=lambda x: x[0])]


def _trim_name(start: int, name: str) -> tuple[int, str]:
    """Drop a capitalised function word at the start of a sentence."""
    first, _, rest = name.partition(" ")
    if first not in SMALL:
        return start, name
    return (start + len(first) + 1, rest) if rest else (start, "")


def _trim_phrase(phrase: str) -> str:
    kept: list[str] = []
    for word in phrase.split():
        if word in STOP:
            break
        kept.append(word)
    return " ".join(kept)
