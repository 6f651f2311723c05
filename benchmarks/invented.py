"""Invented companies with gold question-answer pairs: facts no model can know, for benchmarks.

Each fact has two phrasings to learn from and a third that is only asked, and can be asked about with yes or no. Not
here: any measuring.

    >>> companies(2, seed=0)[0].learn[0]
    ('Who founded ...?', '...')
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

PHRASINGS = (
    ("Who founded {c}?", "{c} was founded by whom?", "Name the person who founded {c}."),
    ("In which city is {c} based?", "Where is {c} located?", "In what city is the head office of {c}?"),
    ("In what year did {c} open?", "When was {c} opened?", "What is the opening year of {c}?"),
    ("What does {c} make?", "Which product comes from {c}?", "What product is made by {c}?"),
    ("How many people work at {c}?", "What is the staff size of {c}?", "How many workers does {c} have?"),
    ("Who is the director of {c}?", "{c} is directed by whom?", "What is the name of the director of {c}?"),
)
SENTENCES = (
    "{c} was founded by {a}.",
    "The company is based in {a}.",
    "It opened in {a}.",
    "It makes {a}.",
    "{a} people work there.",
    "The director is {a}.",
)
CHECKS = (
    "Was {c} founded by {a}?",
    "Is {c} based in {a}?",
    "Did {c} open in {a}?",
    "Does {c} make {a}?",
    "Do {a} people work at {c}?",
    "Is {a} the director of {c}?",
)
SYLLABLES = [
    "ba",
    "ker",
    "vo",
    "lin",
    "ta",
    "mar",
    "sel",
    "dor",
    "qui",
    "fen",
    "ru",
    "zan",
    "hol",
    "pe",
    "gri",
    "nov",
    "ash",
    "tel",
    "wick",
    "ora",
]


@dataclass(frozen=True)
class Company:
    """One document: its text, the pairs to learn, and the unseen paraphrases with the same answers."""

    name: str
    text: str
    learn: tuple[tuple[str, str], ...]
    ask: tuple[tuple[str, str], ...]


def checks(made: Sequence[Company]) -> list[list[tuple[str, str]]]:
    """Of each company: every fact asked about with its own value (yes) and with the next company's (no)."""
    asked = []
    for company, other in zip(made, (*made[1:], made[0]), strict=True):
        pairs = zip(CHECKS, company.ask, other.ask, strict=True)
        told = [(check, (own, "yes"), (theirs, "no")) for check, (_, own), (_, theirs) in pairs]
        asked.append([(check.format(c=company.name, a=a), said) for check, *values in told for a, said in values])
    return asked


def told(name: str, answers: Sequence[str]) -> str:
    """The text about a company: a sentence for each fact."""
    return " ".join(s.format(c=name, a=a) for s, a in zip(SENTENCES, answers, strict=True))


def companies(count: int, seed: int = 0) -> list[Company]:
    """`count` companies, the same for the same seed."""
    draw = random.Random(seed)

    def name(syllables: int) -> str:
        return "".join(draw.choice(SYLLABLES) for _ in range(syllables)).capitalize()

    made = []
    for _ in range(count):
        company = name(3)
        answers = (
            f"{name(2)} {name(2)}",
            name(3),
            str(draw.randint(1850, 2020)),
            f"{draw.choice(['copper', 'wooden', 'silver', 'paper', 'glass'])} "
            f"{draw.choice(['lamps', 'clocks', 'kites', 'boots', 'flutes', 'maps'])}",
            str(draw.randint(20, 900)),
            f"{name(2)} {name(2)}",
        )
        facts = list(zip(PHRASINGS, answers, strict=True))
        made.append(
            Company(
                company,
                told(company, answers),
                tuple((p.format(c=company), a) for phrases, a in facts for p in phrases[:2]),
                tuple((phrases[2].format(c=company), a) for phrases, a in facts),
            )
        )
    return made
