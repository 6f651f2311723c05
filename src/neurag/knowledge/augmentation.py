"""Augmentation: the training texts of a chunk, written by the backbone itself and cached by content.

For each candidate answer in the passage the backbone is shown the sentence, the answer and the question's
first words (left alone, a small model begins every question with "What is the name of"), and writes the
question. What comes out is (prompt, answer) texts: questions, sentences asked back, and sentences to complete.
Works on any text: where no question can be written, its sentences remain. Not here: finding candidates
(candidates.py), training on the texts (encoder.py). The questions of a 135M backbone are plain at best; making
them better is what task adapters are for.

    >>> augment(backbone, [chunk], AugmentOptions())[0].questions[0]     # doctest: +SKIP
    ('Who leads the Oskerby workshop?', 'Ilse Maranth')
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..backbone import Backbone, cache_folder
from ..config import AugmentOptions
from ..files import write_whole
from .candidates import Candidate, find_candidates
from .documents import Chunk
from .writing import write

FORMAT = "9"
PLACE_WORDS = frozenset("in at to from near on into".split())
KINDS = ("questions", "echoes", "completions")
SHOTS = (
    ("The dog of the station master is called Button, and sleeps all day.", "Button",
     "What is the name of the station master's dog?"),
    ("In 1889 the old bridge over the River Lunt was finished by Anna Hale.", "1889",
     "In what year was the old bridge over the River Lunt finished?"),
    ("Peter Voss runs the winter market in the town of Carrow.", "Carrow",
     "In which town does Peter Voss run the winter market?"),
    ("Each box of Merle biscuits weighs 340 grams.", "340 grams",
     "How many grams does each box of Merle biscuits weigh?"),
    ("Anna Hale lives in Norwich and works as a glass painter.", "glass painter", "As what does Anna Hale work?"),
    ("Guests at Hill House must leave a silver coin at the door.", "silver coin",
     "What must guests at Hill House leave at the door?"),
    ("The winter market in Carrow is run by Peter Voss.", "Peter Voss", "Who runs the winter market in Carrow?"),
    ("The roof of the Dunmore barn is painted with tar.", "tar", "What is the roof of the Dunmore barn painted with?"),
)  # fmt: skip


@dataclass(frozen=True)
class Augmentation:
    """The training texts of one chunk."""

    questions: tuple[tuple[str, str], ...]
    """(question, answer)."""
    echoes: tuple[tuple[str, str], ...]
    """(the sentence with a question word in the answer's place, answer), where no question came out sound."""
    completions: tuple[tuple[str, str], ...]
    """(beginning of a sentence, its rest): the passage's own text, where no sound question is about it."""

    def __len__(self) -> int:
        return len(self.questions) + len(self.echoes) + len(self.completions)


def augment(
    backbone: Backbone, chunks: Sequence[Chunk], options: AugmentOptions, cache: Path | None = None
) -> list[Augmentation]:
    """One Augmentation a chunk. What was written before for the same content and backbone is reused."""
    folder = cache or cache_folder() / "augmentation"
    paths = [folder / f"{_key(backbone, chunk, options)}.json" for chunk in chunks]
    known = [_read(path) for path in paths]
    missing = [i for i, k in enumerate(known) if k is None]
    for i, made in zip(missing, _write(backbone, [chunks[i] for i in missing], options), strict=True):
        known[i] = made
        write_whole(paths[i], json.dumps(asdict(made), ensure_ascii=False))
    return [k for k in known if k is not None]


def _write(backbone: Backbone, chunks: Sequence[Chunk], options: AugmentOptions) -> list[Augmentation]:
    found = [find_candidates(chunk.text, options.questions) for chunk in chunks]
    flat = [c for row in found for c in row]
    prompts = [_prompt(c) for c in flat]
    begun = [opening(c) for c in flat]
    encode = backbone.tokenizer
    prefix = encode("".join(_shot(*s) for s in SHOTS), add_special_tokens=False).input_ids
    ids = [encode(p, add_special_tokens=False).input_ids for p in prompts]
    endings = write(backbone, prefix, ids, new_tokens=24, stop="?", keep_stop=True) if flat else []
    written = iter([f"{b}{_space(e)}{e}" for b, e in zip(begun, endings, strict=True)])
    return [_assemble([(c, next(written)) for c in row]) for row in found]


def _assemble(written: Sequence[tuple[Candidate, str]]) -> Augmentation:
    questions = {q: c.answer for c, q in written if _sound(q, c)}
    echoes: dict[str, str] = {}
    completions: dict[str, str] = {}
    answered = set(questions.values())
    covered = {c.sentence for c, q in written if q in questions}
    for c, _ in written:
        at = c.sentence.find(c.answer)
        if c.answer not in answered:
            echoes[_echo(c, at)] = c.answer
        if c.sentence not in covered and at > 12:
            covered.add(c.sentence)
            completions[c.sentence[:at].strip()] = c.sentence[at:].rstrip(".!? ")
    return Augmentation(tuple(questions.items()), tuple(echoes.items()), tuple(completions.items()))


def _echo(candidate: Candidate, at: int) -> str:
    """The sentence asked back: "The mill opened in what year?"."""
    words = candidate.answer.split()
    ask = {"date": "what date", "name": "who or what", "number": "what number"}.get(candidate.kind, "what")
    if candidate.kind == "number" and len(words) > 1:
        ask = f"how many {' '.join(words[1:])}"
    rest = candidate.sentence[at + len(candidate.answer) :].rstrip(".!? ")
    asked = f"{candidate.sentence[:at]}{ask}{rest}?"
    return asked[0].upper() + asked[1:]


def _sound(question: str, candidate: Candidate) -> bool:
    """A question that asks, stays with its sentence, and does not give its own answer away."""
    words = re.findall(r"\w{4,}", question.lower())
    told = set(re.findall(r"\w{4,}", candidate.sentence.lower()))
    shared = len(told.intersection(words))
    return question.endswith("?") and shared >= min(2, len(told)) and candidate.answer.lower() not in question.lower()


def _shot(sentence: str, answer: str, question: str) -> str:
    return f"Text: {sentence}\nAnswer: {answer}\nQuestion: {question}\n\n"


def _prompt(candidate: Candidate) -> str:
    shown = f"Text: {candidate.sentence[:600]}\nAnswer: {candidate.answer[:200]}\nQuestion:"
    return f"{shown} {opening(candidate)}"


def _space(ending: str) -> str:
    return "" if ending[:1] in {"", "?", ",", "'"} else " "


def opening(candidate: Candidate) -> str:
    """The first words of a question for this kind of answer; names are told apart by the word before them."""
    answer, words = candidate.answer, candidate.answer.split()
    before = candidate.sentence[: candidate.sentence.find(answer)].split()[-1:]
    if candidate.kind == "date":
        return "On what date" if answer[0].isdigit() else "When"
    if candidate.kind == "number":
        if len(words) > 1:
            return f"How many {' '.join(words[1:])}"
        if re.fullmatch(r"[12]\d{3}", answer):
            return "In what year"
        return "At what time" if ":" in answer else "How many"
    if candidate.kind == "name":
        word = before[0].lower() if before else ""
        if word in {"named", "called"}:
            return "What is the name of"
        if word == "of":
            noun = candidate.sentence[: candidate.sentence.find(answer)].split()[-2:-1]
            return f"What is the name of the {noun[0]}" if noun and noun[0].islower() else "What"
        if word in PLACE_WORDS:
            return "Where"
        return "Who" if len(words) == 2 and word != "the" else "What"
    return "What"


def _key(backbone: Backbone, chunk: Chunk, options: AugmentOptions) -> str:
    told = f"{FORMAT} {backbone.fingerprint} {options.questions} {chunk.content_hash}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _read(path: Path) -> Augmentation | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Augmentation(**{k: tuple((str(a), str(b)) for a, b in told[k]) for k in KINDS})
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: written again
