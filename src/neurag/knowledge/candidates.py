"""Candidate answers in a passage: names, numbers, dates and phrases, found by surface form alone.

Every run of words that may be a phrase gets a score: the sum of the weights of what can be seen of it (the kinds
of its words and of their neighbours, length, capitals, place). The weights (clues.py) were fitted on real
questions by scripts/candidate_weights.py. No model and no language resource, so any text gets some. Not here:
writing questions (augmentation.py).

    >>> [c.answer for c in find_candidates("The mill opened in Oskerby on 9 April 1987.", 2)]
    ['9 April 1987', 'Oskerby']
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from .clues import WEIGHTS
from .phrases import Word, sentences_of, words_of

LONGEST = 9
"""Words of a phrase."""
LINKS = 4
"""Words of a phrase that can neither begin nor end one."""
MANY = 100
"""Sentences looked at in a text that has more, spread over it, unless more than half as many candidates are wanted."""
SHORTEST = 12
"""Characters of a sentence of one word that has a half worth asking for."""
BEGIN = frozenset(
    """
    about abstract adj adv cap caps ed from ing initial month noun num number opener ordinal plural poss quant unit
    verb year
    """.split()
)
ALONE = BEGIN - {"about", "from", "initial", "opener", "poss"}
END = ALONE - {"verb", "adv", "quant", "ed"}
CUTS = {("month", "number"), ("initial", "initial")}
"""Kinds of two words that no phrase begins between."""
SCALE = frozenset("hundred thousand million billion trillion percent %".split())
DATE = frozenset("month year number ordinal dash from to and , of in prep about".split())
CAPITAL = frozenset({"cap", "caps", "initial", "opener"})
LINKING = frozenset("the a in to from by prep be aux pron poss rel quant adv about called".split())
APART = frozenset("end ; : mark glue".split())
"""Kinds no phrase goes across."""
COARSE = {
    kind: group
    for group, kinds in {
        "N": "abstract plural noun unit", "A": "adj ed quant ordinal", "C": "cap caps initial",
        "D": "year number num month", "P": "in to by from prep about",
        "V": "verb ing be aux adv called", "R": "pron rel",
    }.items()
    for kind in kinds.split()
}  # fmt: skip
OVERLAP, AGAIN, TWICE = 0.5, 3.0, 2
"""What words shared with a chosen phrase cost, what having been chosen costs, and how often one may be."""
FLOOR = -6.0
"""Log odds below which a phrase is none."""
FIRST = 100.0
"""More than any score: every part of the text has its best phrase before any has two."""


@dataclass(frozen=True)
class Candidate:
    """A possible answer, and the sentence it stands in."""

    answer: str
    sentence: str
    kind: str
    """date, number, name, phrase, or tail (the second half of a sentence in which nothing else is found)."""
    score: float = 0.0
    """Log odds that somebody asks for it."""


class Span(NamedTuple):
    """Words `first` to `last` (exclusive) of a sentence, by number."""

    sentence: int
    first: int
    last: int


class Passage:
    """A text taken apart: its sentences, their words, and the spans that may be answers."""

    def __init__(self, text: str, most: int = MANY) -> None:
        sentences = list(sentences_of(text))
        step = max(1.0, len(sentences) / most)
        self.sentences = [sentences[int(n * step)] for n in range(min(most, len(sentences)))]
        read = [words_of(s) for s in self.sentences]
        names = {w.text for words in read for w in words[1:] if w.kind == "cap"}
        self.words = [_opened(words, names) for words in read]
        self.spans = [Span(n, i, j) for n, words in enumerate(self.words) for i, j in dict.fromkeys(_spans(words))]
        self.seen = Counter(w.text.lower() for words in read for w in words)
        self.counts = Counter(self.key(s) for s in self.spans)

    def key(self, span: Span) -> str:
        """What is the same answer, however it is spaced."""
        return " ".join(w.text for w in self.words[span.sentence][span.first : span.last])

    def answer(self, span: Span) -> str:
        """The span as it stands in its sentence."""
        words = self.words[span.sentence]
        return self.sentences[span.sentence][words[span.first].start : words[span.last - 1].end]

    def candidate(self, span: Span) -> Candidate:
        """The span, for whoever writes the question."""
        return Candidate(self.answer(span), self.sentences[span.sentence], self.kind(span), self.score(span))

    def clues(self, span: Span) -> list[str]:
        """What can be seen of a span, by the names of the weights."""
        number, i, j = span
        words = self.words[number]
        kinds = ["start", *(w.kind for w in words), "stop"]
        before, first, last, after = kinds[i], kinds[i + 1], kinds[j], kinds[j + 1]
        inside = set(kinds[i + 2 : j])
        looks = {k in CAPITAL for k in kinds[i + 1 : j + 1] if k in END}
        look = "mixed" if len(looks) > 1 else "capital" if True in looks else "small"
        seen = [f"before {before}", f"after {after}", f"first {first}", f"last {last}"]
        seen += [f"edge {_coarse(before)}|{_coarse(first)}", f"edge {_coarse(last)}|{_coarse(after)}|"]
        seen += [f"{'within' if look == 'capital' else 'inside'} {k}" for k in inside]
        if "," in inside and "and" in inside:
            seen.append("list yes")
        if before == after == "quote":
            seen.append("quoted yes")
        seen += [f"{look}-length {min(j - i, 7)}", f"{look}-times {min(self.counts[self.key(span)], 4)}"]
        seen += [f"{look}-quarter {4 * i // len(words)}", f"sentence {min(number, 3)}"]
        seen.append(f"{look}-last-times {min(self.seen[words[j - 1].text.lower()], 5)}")
        if j - i == 1:
            seen += [f"alone {first}", f"letters {min(len(words[i].text), 12)}"]
        return seen

    def score(self, span: Span) -> float:
        """Log odds that a question is asked about the span."""
        return WEIGHTS["always yes"] + sum(WEIGHTS.get(clue, 0.0) for clue in self.clues(span))

    def kind(self, span: Span) -> str:
        """What the answer is, for the question's first words."""
        words = self.words[span.sentence][span.first : span.last]
        kinds = [w.kind for w in words]
        if set(kinds) <= DATE and (len(kinds) > 1 or words[0].text[-1:] == "s") and {"year", "month"} & set(kinds):
            return "date"
        if words[-1].text.lower() in {"century", "centuries"} and "ordinal" in kinds:
            return "date"
        amount = kinds[1:] if kinds[0] == "about" else kinds
        if kinds == ["year"] or amount[:1] in (["number"], ["num"]):
            return "number"
        return "name" if kinds[0] in CAPITAL and kinds[-1] in CAPITAL else "phrase"


def find_candidates(text: str, limit: int) -> list[Candidate]:
    """Up to `limit` candidates spread over the text: the best of every part first, then the best of the rest."""
    passage = Passage(text, max(MANY, 2 * limit))
    found = [passage.candidate(span) for span in _choose(passage, limit)]
    tails = _tails(passage.sentences, {c.sentence for c in found}, limit)
    if len(passage.sentences) <= limit:  # room for all of them: the last found give way
        found = found[: limit - len(tails)]
    return (found + tails)[:limit]


def _choose(passage: Passage, limit: int) -> list[Span]:
    """The best spans, each counted for less by what it shares with those chosen before."""
    parts = max(1, min(limit, len(passage.sentences)))
    scores = [passage.score(span) for span in passage.spans]
    heap = [(-score - FIRST, n, -FIRST) for n, score in enumerate(scores)]
    heapq.heapify(heap)
    served: set[int] = set()
    times: Counter[str] = Counter()
    near: dict[int, list[Span]] = defaultdict(list)
    chosen: list[Span] = []
    while heap and len(chosen) < limit:
        cost, n, paid = heapq.heappop(heap)
        span = passage.spans[n]
        key, part = passage.key(span), span.sentence * parts // len(passage.sentences)
        due = AGAIN * times[key] + OVERLAP * sum(_shared(span, other) for other in near[span.sentence])
        if scores[n] - due < FLOOR or times[key] >= TWICE:
            continue
        price = due if part in served else due - FIRST
        if price > paid:  # dearer than when it was queued: to its new place
            heapq.heappush(heap, (cost + price - paid, n, price))
            continue
        chosen.append(span)
        served.add(part)
        times[key] += 1
        near[span.sentence].append(span)
    return chosen


def _shared(a: Span, b: Span) -> float:
    """The share of words of two spans that both have."""
    both = min(a.last, b.last) - max(a.first, b.first)
    return both / (max(a.last, b.last) - min(a.first, b.first)) if both > 0 else 0.0


def _tails(sentences: Sequence[str], covered: Set[str], limit: int) -> list[Candidate]:
    """The second halves of sentences in which nothing was found; of a text of one word, the word."""
    bare = [s for s in dict.fromkeys(sentences) if s not in covered and (" " in s or len(s) >= SHORTEST)]
    if not bare and not covered:
        bare = list(sentences[:1])
    step = max(1.0, len(bare) / max(limit, 1))
    picked = [bare[int(n * step)] for n in range(min(limit, len(bare)))]
    return [Candidate(tail, s, "tail") for s in picked if any(map(str.isalnum, tail := _half(s)))]


def _half(sentence: str) -> str:
    if " " not in sentence and len(sentence) < SHORTEST:
        return sentence
    half = len(sentence) // 2
    cut = sentence.find(" ", half)
    return sentence[cut + 1 if cut > 0 else half :].rstrip(".!?。！？।")


def _coarse(kind: str) -> str:
    return COARSE.get(kind, kind)


def _opened(words: list[Word], names: Set[str]) -> list[Word]:
    """The words; the first, if its capital is only the sentence's, is an opener; any later capital is a name's."""
    named = [w._replace(kind="cap") if w.kind in LINKING and w.text[0].isupper() else w for w in words[1:]]
    if words and words[0].kind == "cap" and words[0].text not in names and (len(words) < 2 or words[1].kind != "cap"):
        return [words[0]._replace(kind="opener"), *named]
    return words[:1] + named


def _spans(words: Sequence[Word]) -> Iterator[tuple[int, int]]:
    """Every run of words that may be a phrase, and what stands in quotation marks; never the whole sentence."""
    told = sum(word.kind not in APART for word in words)
    for i, word in enumerate(words):
        before = words[i - 1].kind if i else ""
        after = words[i + 1].kind if i + 1 < len(words) else ""
        cut_off = (before, word.kind) in CUTS or (word.kind, after) == ("quant", "of")
        if word.kind not in BEGIN or cut_off:
            continue
        links = brackets = marks = 0
        for j in range(i, min(len(words), i + LONGEST)):
            kind = words[j].kind
            links += kind not in BEGIN
            brackets += (kind == "(") - (kind == ")")
            marks += kind == "quote"
            if kind in APART or links > LINKS or brackets < 0:
                break
            ends = kind in END if j > i else kind in ALONE or (kind == "opener" and _is_subject(words))
            if ends and not brackets and marks % 2 == 0 and j + 1 - i < told and not _goes_on(words, j):
                yield i, j + 1
    quotes = [n for n, word in enumerate(words) if word.kind == "quote"]
    for a, b in pairwise(quotes):
        opens, closes = words[a].end == words[a + 1].start, words[b].start == words[b - 1].end
        if opens and closes and 0 < b - a - 1 <= LONGEST:
            yield a + 1, b


def _is_subject(words: Sequence[Word]) -> bool:
    """Whether the sentence says something of its first word alone."""
    return words[1:2] != [] and words[1].kind in {"be", "aux", "ed", "owner", "(", ","}


def _goes_on(words: Sequence[Word], last: int) -> bool:
    """Whether a number or date is only the beginning of one, as 4.5 of 4.5 million, or 9 April of 9 April 1987."""
    if words[last].kind not in {"number", "num", "month"} or last + 1 == len(words):
        return False
    after = words[last + 1]
    if words[last].kind == "month":
        return after.kind in {"number", "year"}
    return after.kind == "month" or after.text.lower() in SCALE
