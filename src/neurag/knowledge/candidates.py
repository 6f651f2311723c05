"""Candidate answers in a passage: names, numbers, dates and noun phrases, found by surface form alone.

No model and no language resource, so any text gets some: where capitals and digits say nothing (other
scripts), the second half of each clause stands in. Not here: writing questions (augmentation.py).

    >>> [c.answer for c in find_candidates("The mill opened in Oskerby on 9 April 1987.", 5)]
    ['9 April 1987', 'Oskerby', 'mill']
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass

MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
SENTENCE = re.compile(r"[^.!?。！？\n]*(?:[.!?](?=\S)[^.!?。！？\n]*)*[.!?。！？]?")
WORDS = r"[a-z][\w-]*(?: [a-z][\w-]*)"
PATTERNS = (
    (
        "date",
        rf"\b\d{{1,2}} (?:{MONTHS})(?: \d{{4}})?|\b(?:{MONTHS}) \d{{4}}|\b(?:{MONTHS}) \d{{1,2}}\b(?:, \d{{4}})?",
    ),
    ("number", r"[$€£]?\b\d(?:[\d.,:/]*\d)?\b%?(?: (?:thousand|million|billion))?"),
    ("name", r"\b[A-Z][\w'’.-]*(?:(?: (?:of|the|de|von|van|and) | )[A-Z][\w'’-]*)*"),
    ("phrase", rf"(?<=\b[Aa] ){WORDS}{{0,2}}|(?<=\b[Aa]n ){WORDS}{{0,2}}|(?<=\b[Tt]he ){WORDS}{{0,1}}"),
    ("ending", rf"\b{WORDS}{{0,9}}(?=[.!?]?$)"),
)
UNIT = re.compile(r" (?:[a-z]{2,}s|percent|kg|km|cm|mm|m)\b")
STOP = frozenset(
    """
    the a an and or but of in on at to for from with by as is are was were be been has have had that which who whom
    whose when where while than then it its his her their this these those not no can must may will would should
    still also only each every into after before during until since one two three four five six seven eight nine
    ten across along around over under near behind beside between through against about up down off out away all
    both more most very so because if made make makes named called like back again now there here upon without
    within above below
    """.split()
)
OPENERS = frozenset(
    """
    The A An In On At It He She They This That These Those There When While After Before Each Every Today If But And
    For From With By As Its His Her Their Since Until Only Also Both All Most Many Some One Two Three Four Five Six
    Seven Eight Nine Ten Everyone Nobody Anyone People
    """.split()
)
"""Words that have a capital for the sentence's sake."""


@dataclass(frozen=True)
class Candidate:
    """A possible answer, and the sentence it stands in."""

    answer: str
    sentence: str
    kind: str


def find_candidates(text: str, limit: int) -> list[Candidate]:
    """Up to `limit` candidates, spread over the sentences of the text, names and numbers first."""
    sentences = [m.group().strip() for m in SENTENCE.finditer(text)]
    names = {word for sentence in sentences for word in re.findall(r"(?<=\w )[A-Z][\w'’-]*", sentence)}
    rounds = [_in_sentence(sentence, names) for sentence in sentences if len(sentence) > 1]
    chosen: dict[str, Candidate] = {}
    counts = Counter(c.answer for row in rounds for c in row)
    # what is named again and again is the passage's subject: asked about last
    for row in rounds:
        row.sort(key=lambda c: (counts[c.answer] > 2, _is_subject(c), c.kind == "phrase", " " not in c.answer))
    for place in range(max((len(r) for r in rounds), default=0)):
        for row in rounds:
            if place < len(row) and len(chosen) < limit:
                chosen.setdefault(f"{row[place].answer}\n{row[place].sentence}", row[place])
    return list(chosen.values())


def _is_subject(candidate: Candidate) -> bool:
    """A common noun that opens its sentence: what the sentence is about, seldom what is asked for."""
    return candidate.kind == "phrase" and candidate.sentence.find(candidate.answer) < 5


def _in_sentence(sentence: str, names: Set[str]) -> list[Candidate]:
    taken: list[tuple[int, int]] = []
    found: list[tuple[int, Candidate]] = []
    for kind, pattern in PATTERNS:
        for match in re.finditer(pattern, sentence):
            start, answer = _trimmed(kind, match, names)
            if kind == "number" and (unit := UNIT.match(sentence, match.end())) and unit.group().strip() not in STOP:
                answer = sentence[start : unit.end()]
            answer = answer.rstrip(".,:;'’-")
            end = start + len(answer)
            if (len(answer) < 2 and not answer.isdigit()) or any(start < b and a < end for a, b in taken):
                continue
            taken.append((start, end))
            found.append((start, Candidate(answer, sentence, "phrase" if kind == "ending" else kind)))
    if not found and len(sentence) > 3:
        half = len(sentence) // 2
        cut = sentence.find(" ", half)
        tail = sentence[cut + 1 if cut > 0 else half :].rstrip(".!?。！？")
        return [Candidate(tail, sentence, "tail")] if tail else []
    return [c for _, c in sorted(found, key=lambda x: x[0])]


def _trimmed(kind: str, match: re.Match[str], names: Set[str]) -> tuple[int, str]:
    """Start and text of a match without the words that do not belong to the answer."""
    start, answer = match.start(), match.group()
    words = answer.split()
    if kind == "name":
        first, _, rest = answer.partition(" ")
        # a sentence's first word is a name if it has its capital elsewhere too, or another name follows
        if first in OPENERS or (start == 0 and not rest and first not in names):
            rest = re.sub(r"^(?:(?:of|the|de|von|van|and) )+", "", rest)
            return (match.end() - len(rest), rest) if rest else (start, "")
    if kind == "phrase":
        ends = (i for i, word in enumerate(words) if word in STOP or (i and len(word) > 5 and word.endswith("ed")))
        answer = " ".join(words[: next(ends, len(words))])
    if kind == "ending":
        kept = next((i for i in range(len(words), 0, -1) if words[i - 1] in STOP), 0)
        tail = words[kept:]
        answer = " ".join(tail) if 0 < len(tail) <= 3 else ""
        start = match.end() - len(answer)
    return start, answer
