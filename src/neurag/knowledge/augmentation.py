"""Augmentation: the training texts of a chunk, written by the backbone itself and cached by content.

Candidate answers are found in the passage (candidates.py), questions written for each and checked (questions.py); where
none came out sound, the sentence is asked back. What comes out is (prompt, answer) texts: questions, sentences asked
back, and sentences to complete. Works on any text: where no question can be written, its sentences remain. Not here:
training on the texts (encoder.py).

    >>> augment(backbone, [chunk], AugmentOptions())[0].questions[0]     # doctest: +SKIP
    ('Who leads the Oskerby workshop?', 'Ilse Maranth')
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..backbone import Backbone, cache_folder
from ..config import AugmentOptions
from ..files import write_whole
from ..words import holds, overlap, words
from .candidates import Candidate, find_candidates
from .documents import Chunk
from .questions import Asked, Written, write_questions

FORMAT = "10"
KINDS = ("questions", "echoes", "completions")
AGREES = 0.5
"""Share of words (F1) that the answer given and the answer meant must have in common."""


@dataclass(frozen=True)
class Augmentation:
    """The training texts of one chunk."""

    questions: tuple[tuple[str, str], ...]
    """(question, answer)."""
    echoes: tuple[tuple[str, str], ...]
    """(the sentence with a question word in the answer's place, answer), where no question came out sound."""
    completions: tuple[tuple[str, str], ...]
    """(beginning of a sentence, its rest): the passage's own text, where no sound question is about it."""
    coverage: float = 0.0
    """Share of the candidate answers that a sound question asks for."""

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
    shown = [(chunk.document.title, chunk.text) for chunk in chunks]
    written = write_questions(backbone, shown, [list(_asked(row, options)) for row in found])
    return [_assemble(row, made) for row, made in zip(found, written, strict=True)]


def _asked(found: Sequence[Candidate], options: AugmentOptions) -> Iterator[Asked]:
    """Every candidate in as many wordings as it shall have; neighbours begin with different ones."""
    for turn in range(options.phrasings):
        for place, c in enumerate(found):
            yield Asked(c.answer, c.sentence, options.wordings[(place + turn) % len(options.wordings)])


def _assemble(found: Sequence[Candidate], written: Sequence[Written]) -> Augmentation:
    sound = [w for w in written if _sound(w)]
    asked = {w.answer for w in sound}
    covered = {c.sentence for c in found if c.answer in asked}
    echoes: dict[str, str] = {}
    completions: dict[str, str] = {}
    for c in found:
        at = c.sentence.find(c.answer)
        if c.answer not in asked:
            echoes[_echo(c, at)] = c.answer
        if c.sentence not in covered and at > 12:
            covered.add(c.sentence)
            completions[c.sentence[:at].strip()] = c.sentence[at:].rstrip(".!? ")
    share = len(asked) / max(1, len({c.answer for c in found}))
    questions = tuple((w.question, w.told) for w in sound)
    return Augmentation(questions, tuple(echoes.items()), tuple(completions.items()), round(share, 4))


def _sound(written: Written) -> bool:
    """A question whose answer the passage gives back, and that does not give it away itself."""
    meant, told = words(written.answer), words(written.told)
    return bool(told) and overlap(told, meant) >= AGREES and not holds(words(written.question), told)


def _echo(candidate: Candidate, at: int) -> str:
    """The sentence asked back: "The mill opened in what year?"."""
    parts = candidate.answer.split()
    ask = {"date": "what date", "name": "who or what", "number": "what number"}.get(candidate.kind, "what")
    if candidate.kind == "number" and len(parts) > 1:
        ask = f"how many {' '.join(parts[1:])}"
    rest = candidate.sentence[at + len(candidate.answer) :].rstrip(".!? ")
    asked = f"{candidate.sentence[:at]}{ask}{rest}?"
    return asked[0].upper() + asked[1:]


def _key(backbone: Backbone, chunk: Chunk, options: AugmentOptions) -> str:
    asked = options.questions, options.wordings, options.phrasings
    told = f"{FORMAT} {backbone.fingerprint} {asked} {chunk.content_hash}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _read(path: Path) -> Augmentation | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        texts = {k: tuple((str(a), str(b)) for a, b in told[k]) for k in KINDS}
        return Augmentation(**texts, coverage=float(told["coverage"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: written again
