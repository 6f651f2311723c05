"""Sentences, words and what each word does in them, by word lists and endings alone.

A word's kind is a guess ("of", "be", "month", "cap", "ed"), good enough to tell where a phrase may begin and end.
The lists are English; in other scripts capitals, digits and runs of one script still tell words apart. Not here:
which phrases are worth asking about (candidates.py).

    >>> [(w.text, w.kind) for w in words_of("It opened in May 1987.")]
    [('It', 'pron'), ('opened', 'ed'), ('in', 'in'), ('May', 'month'), ('1987', 'year'), ('.', 'end')]
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

LONGEST = 600
"""Characters of a sentence: what has no full stop for longer than that (a table, a log) is cut."""
LISTS = {
    "the": "the",
    "a": "a an",
    "of": "of",
    "in": "in on at",
    "to": "to",
    "from": "from between",
    "by": "by with for as into",
    "prep": """
        above across after against along alongside amid among before behind below beneath beside beyond despite down
        during inside near off onto out outside past per since through throughout till toward towards under until
        upon via within without like unlike than versus vs.
        """,
    "and": "and or & nor plus",
    "be": "is are was were be been being am 're",
    "aux": "has have had having do does did can could may might will would shall should must cannot 've 'd 'll",
    "pron": """
        he she it they we i you him them us me himself herself itself themselves there here who whom this these those
        something anything nothing everything someone anyone everyone
        """,
    "poss": "his her its their my our your whose",
    "owner": "'s ’s",
    "called": "called named titled entitled dubbed termed nicknamed known",
    "rel": """
        that which where when while what how why if because although though whereas whether unless so but yet then
        thus hence therefore however moreover furthermore instead also rather
        """,
    "quant": """
        some many most all both several few each every any no more less other such same another various certain
        fewer much own only either neither numerous different
        """,
    "adv": """
        not n't never very too often usually later ever always still already again just almost even once sometimes
        now today soon together away back well far ago originally first
        """,
    "about": "about approximately nearly roughly around circa c. ca. over estimated up",
    "num": """
        one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
        eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion
        trillion dozen half third quarter second fourth fifth sixth seventh eighth ninth tenth hundreds thousands
        millions twice
        """,
    "unit": """
        percent % years year months month weeks week days day hours hour minutes minute seconds centuries century
        decades decade kg km cm mm m ft mi kilometers kilometres kilometer kilometre kilograms grams meters metres
        miles mile feet foot inches inch pounds dollars euros tons tonnes acres degrees people times members km2 square
        km/h mph ° °c °f
        """,
    "month": """
        january february march april may june july august september october november december jan feb mar apr jun
        jul aug sep sept oct nov dec
        """,
    "verb": """
        became become becomes began begin begins begun made make makes said says say used use uses
        found gave give given gives got went go goes gone left led lead leads held hold holds came come comes took
        take takes taken wrote write written saw see seen seem seems set put kept keep keeps brought built won win
        met meet meets ran run runs rose rise rises fell fall falls sold sell sells told tell grew grow grown spent
        spend paid pay lost lose sent send stood stand stands lay lie lies lived live lives worked works work bore
        born felt feel thought think knew know chose chosen drew drawn drove broke broken caught taught fought sought
        bought buys buy cut hit let read shot sang sung spoke spoken flew flown wore worn provide provides provided
        include includes included including contain contains remain remains remained allow allows produce produces
        help helped refer refers play plays appear appears consist consists occur occurs require requires cause
        causes create creates form forms describe describes serve serves show shows start starts follow follows
        receive receives need needs want wants using according based located due involves connects weighs costs
        """,
    "quote": "\" “ ” « » 「 」 『 』 《 》",
    "dash": "– — - −",
    "end": ". ! ? 。 ！ ？",
    # what Chinese and Japanese put between nouns
    "glue": "的 了 是 在 和 与 與 及 有 为 為 于 於 被 把 从 從 到 对 對 也 都 就 而 或 我 他 她 们 們 这 這 那",
}  # fmt: skip
KINDS = {word: kind for kind, words in LISTS.items() for word in words.split()}
KINDS.update({mark: mark for mark in ",;:()"})
ENDINGS = {
    "adv": "ly",
    "ed": "ed",
    "ing": "ing",
    "adj": "ous ive ful less able ible ic ical al ary ish ese ian ean ant ent ar",
    "abstract": "tion tions sion sions ment ments ness ity ism ance ence ship",
    "plural": "s",
}
SUFFIXES = [(suffix, kind) for kind, suffixes in ENDINGS.items() for suffix in suffixes.split()]
TITLES = "Dr|Mr|Mrs|Ms|St|Jr|Sr|No|Mt|Ft|Lt|Gen|Col|Rev|Prof|vs|ca?"
CURRENCY = frozenset("$€£¥₹")
GLUE = "".join(LISTS["glue"].split())
LETTER = r"(?:[^\W_]|[\u0300-\u036f\u064b-\u065f\u0900-\u0963\u0966-\u0dff\u0e00-\u109f\u1780-\u17ff])"
"""A letter or digit, or a mark that stands on one: Python counts the vowels of Hindi or Thai as no letters."""
TOKEN = re.compile(
    rf"""(?x)
    (?:(?:US|[AC])?[$€£¥₹]\ ?)?\d+(?:[.,:]\d+)*(?:st|nd|rd|th|s)?(?![a-zA-Z])[%年月日人]? # $4.5, 1920s, 19th
    | (?:[^\W\d_]\.){{2,}}                                              # U.S.
    | [A-Z]\.(?=\s?[^\W\d_])                                            # J. Smith
    | (?:{TITLES})\.(?=\s)
    | ['’]s\b
    | [\u30a0-\u30ff]+ | [{GLUE}] | [\u3041-\u309f]+                   # Japanese and Chinese
    | (?:(?![{GLUE}])[\u3400-\u9fff])+
    | {LETTER}+(?:(?!['’]s\b)[.'’&+/-]{LETTER}+)*
    | °[CF]?
    | \S
    """
)
ABBREVIATED = re.compile(rf"(?:^|[\s(\"“])(?:[A-Z]|{TITLES})\.$")
STOP = re.compile(r"[.!?][\"”'’)\]]{0,3}(?:\[[^\]\s]{1,12}\]){0,5}\s+|[。！？।]+|\n")


class Word(NamedTuple):
    """A word or mark, its kind, and where it stands in its sentence."""

    text: str
    kind: str
    start: int
    end: int


def sentences_of(text: str) -> Iterator[str]:
    """The sentences of a text, without their margins; a point after an initial or a title ends none."""
    start = 0
    for stop in STOP.finditer(text):
        mark, after = stop.group()[0], text[stop.end() : stop.end() + 1]
        short = mark == "." and ABBREVIATED.search(text[max(start, stop.start() - 6) : stop.start() + 1])
        if short or (mark in ".!?" and after.islower()):
            continue
        yield from _pieces(text[start : stop.end()])
        start = stop.end()
    yield from _pieces(text[start:])


def _pieces(sentence: str) -> Iterator[str]:
    sentence = sentence.strip()
    while len(sentence) > LONGEST:
        cut = sentence.rfind(" ", LONGEST // 2, LONGEST)
        cut = cut if cut > 0 else LONGEST
        yield sentence[:cut]
        sentence = sentence[cut:].lstrip()
    if sentence:
        yield sentence


def words_of(sentence: str) -> list[Word]:
    """The words and marks of a sentence with their kinds."""
    return [Word(m.group(), kind_of(m.group()), m.start(), m.end()) for m in TOKEN.finditer(sentence)]


def kind_of(word: str) -> str:
    """The kind of one word."""
    low, first = word.lower(), word[0]
    kind = KINDS.get(low, "")
    if kind == "month" and first.islower():
        return "aux" if low == "may" else "noun"
    if kind:
        return "cap" if first.isupper() and kind in {"verb", "unit"} else kind
    if first.isdigit() or (word[-1].isdigit() and CURRENCY.intersection(word[:3])):
        if word[-1] in "tdh":
            return "ordinal"
        return "year" if re.fullmatch(r"[12]\d{3}s?年?", word) else "number"
    if first.isupper() and word[-1] == "." and word.count(".") == 1 and low not in {"jr.", "sr."}:
        return "initial"
    if first.isupper():
        return "caps" if len(word) > 1 and word.isupper() else "cap"
    if not first.isalpha():
        return "mark"
    if "\u3041" <= first <= "\u309f":
        return "glue"
    return next((kind for suffix, kind in SUFFIXES if len(low) > len(suffix) + 2 and low.endswith(suffix)), "noun")
