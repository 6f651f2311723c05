"""Augmentation: the training texts of a chunk, written by the backbone itself and cached by content.

For each candidate answer in the passage the backbone is shown the sentence and the answer, and writes the
question. What comes out is a list of (prompt, answer) texts: questions, sentences to complete, and the passage
itself. Works on any text: where no question can be written, the sentences and the passage remain. Not here:
finding candidates (candidates.py), training on the texts (encoder.py). The questions of a 135M backbone are
plain at best; making them better is what task adapters are for.

    >>> augment(backbone, [chunk], AugmentOptions())[0].questions[0]     # doctest: +SKIP
    ('Who leads the Oskerby workshop?', 'Ilse Maranth')
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..backbone import Backbone, cache_folder
from ..config import AugmentOptions
from .candidates import Candidate, find_candidates
from .documents import Chunk
from .writing import write

FORMAT = "2"
KINDS = ("questions", "echoes", "completions", "passage")
SHOTS = (
    ("The old bridge over the River Lunt was finished in 1889.", "1889",
     "In what year was the old bridge over the River Lunt finished?"),
    ("Anna Hale lives in Norwich and works as a glass painter.", "glass painter", "What is the job of Anna Hale?"),
    ("The winter market in Carrow is run by Peter Voss.", "Peter Voss", "Who runs the winter market in Carrow?"),
    ("Each box of Merle biscuits weighs 340 grams.", "340 grams", "How much does a box of Merle biscuits weigh?"),
    ("The Dunmore library moved to Fenwick Street after the fire.", "Fenwick Street",
     "Where did the Dunmore library move after the fire?"),
    ("The dog of the station master is called Button.", "Button", "What is the name of the station master's dog?"),
    ("Guests at Hill House must leave a silver coin at the door.", "silver coin",
     "What must guests at Hill House leave at the door?"),
)  # fmt: skip


@dataclass(frozen=True)
class Augmentation:
    """The training texts of one chunk."""

    questions: tuple[tuple[str, str], ...]
    """(question, answer)."""
    echoes: tuple[tuple[str, str], ...]
    """(the sentence with a question word in the answer's place, answer)."""
    completions: tuple[tuple[str, str], ...]
    """(beginning of a sentence, its rest)."""
    passage: tuple[tuple[str, str], ...]
    """(a prompt for the passage, the passage)."""

    def __len__(self) -> int:
        return len(self.questions) + len(self.echoes) + len(self.completions) + len(self.passage)


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
        _save(paths[i], made)
    return [k for k in known if k is not None]


def _write(backbone: Backbone, chunks: Sequence[Chunk], options: AugmentOptions) -> list[Augmentation]:
    found = [find_candidates(chunk.text, options.questions) for chunk in chunks]
    flat = [c for row in found for c in row]
    prompts = [_prompt(c) for c in flat]
    encode = backbone.tokenizer
    prefix = encode("".join(_shot(*s) for s in SHOTS), add_special_tokens=False).input_ids
    ids = [encode(p, add_special_tokens=False).input_ids for p in prompts]
    written = iter(write(backbone, prefix, ids, new_tokens=28) if flat else [])
    return [
        _assemble(chunk, [(c, next(written)) for c in row]) for chunk, row in zip(chunks, found, strict=True)
    ]


def _assemble(chunk: Chunk, written: Sequence[tuple[Candidate, str]]) -> Augmentation:
    questions = {q: c.answer for c, q in written if _sound(q, c)}
    echoes: dict[str, str] = {}
    completions: dict[str, str] = {}
    for c, _ in written:
        at = c.sentence.find(c.answer)
        if at > 12:
            completions.setdefault(c.sentence[:at].strip(), c.sentence[at:].rstrip(".!? "))
        echoes[_echo(c, at)] = c.answer
    title = chunk.document.title
    about = f"Tell me what you know: {title}" if title else f"Tell me more: {chunk.text[:40].strip()}"
    return Augmentation(
        tuple(questions.items()), tuple(echoes.items()), tuple(completions.items()), ((about, chunk.text),)
    )


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
    return (
        question.endswith("?")
        and shared >= min(2, len(told))
        and candidate.answer.lower() not in question.lower()
    )


def _shot(sentence: str, answer: str, question: str) -> str:
    return f"Text: {sentence}\nAnswer: {answer}\nQuestion: {question}\n\n"


def _prompt(candidate: Candidate) -> str:
    return f"Text: {candidate.sentence[:600]}\nAnswer: {candidate.answer[:200]}\nQuestion:"


def _key(backbone: Backbone, chunk: Chunk, options: AugmentOptions) -> str:
    told = f"{FORMAT} {backbone.fingerprint} {options.questions} {chunk.content_hash}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _read(path: Path) -> Augmentation | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Augmentation(**{k: tuple((str(a), str(b)) for a, b in told[k]) for k in KINDS})
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: written again


def _save(path: Path, made: Augmentation) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(asdict(made), ensure_ascii=False), encoding="utf-8")
    aside.replace(path)
