"""Augmentation: the training texts of a chunk, written by the backbone itself and cached by content.

Candidate answers are found in the passage (candidates.py), questions written for each and answered from the passage
(questions.py); what is answered from elsewhere goes. The sentences of the likeliest answers are asked back as well.
What comes out is (prompt, answer) texts: questions, sentences asked back, and sentences to complete.
Works on any text: where no question can be written, its sentences remain. Not here: training on them (encoder.py).

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
from ..words import holds, words
from .candidates import Candidate, find_candidates
from .coverage import coverage, covers
from .documents import Chunk
from .echoes import apart, ask_back
from .questions import Asked, Written, write_questions

FORMAT = "16"
KINDS = ("questions", "echoes", "completions")
EACH = 4
"""Words of a text for each answer that is asked back though a question covers it: what is beyond that in a short text
are pieces of names, and a neuron that learned them says half a name."""


@dataclass(frozen=True)
class Augmentation:
    """The training texts of one chunk."""

    questions: tuple[tuple[str, str], ...]
    """(question, answer)."""
    echoes: tuple[tuple[str, str], ...]
    """(the sentence with a question word in the answer's place, answer)."""
    completions: tuple[tuple[str, str], ...]
    """(beginning of a sentence, its rest): the passage's own text, where no sound question is about it."""
    coverage: float = 0.0
    """Share of what may be asked that a question or a sentence asked back is answered by (coverage.py)."""

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
    found, written = ask(backbone, [(chunk.document.title, chunk.text) for chunk in chunks], options)
    return [_assemble(c.text, row, made, options) for c, row, made in zip(chunks, found, written, strict=True)]


def ask(
    backbone: Backbone, passages: Sequence[tuple[str, str]], options: AugmentOptions
) -> tuple[list[list[Candidate]], list[list[Written]]]:
    """Possible answers of each (title, text), and the questions written for them with what is answered."""
    found = [find_candidates(text, max(options.questions, options.asked_back)) for _, text in passages]
    asked = [list(_asked(row[: options.questions], options)) for row in found]
    return found, write_questions(backbone.reader, passages, asked)


def _asked(found: Sequence[Candidate], options: AugmentOptions) -> Iterator[Asked]:
    """Every candidate in as many wordings as it shall have; neighbours begin with different ones."""
    for turn in range(options.phrasings):
        for place, c in enumerate(found):
            yield Asked(c.answer, c.sentence, options.wordings[(place + turn) % len(options.wordings)])


def _assemble(
    text: str, found: Sequence[Candidate], written: Sequence[Written], options: AugmentOptions
) -> Augmentation:
    """Sound questions; the sentences of the likeliest answers, and those that nothing else is about, are asked back."""
    passage = words(text)
    sound = [w for w in written if is_sound(w, passage)]
    told = [words(w.told) for w in sound]
    covered = [c for c in found if covers(told, words(c.answer))]
    sentences = {c.sentence for c in covered}
    again = min(options.asked_back, len(passage) // EACH)
    echoes: dict[str, str] = {}
    completions: dict[str, str] = {}
    for place, c in enumerate(apart(found)):
        new, at = c.sentence not in sentences, c.sentence.find(c.answer)
        if place < again or (c not in covered and (new or place < options.asked_back)):
            echoes[ask_back(c, options.around)] = c.answer
        if new and at > 12:
            completions[c.sentence[:at].strip()] = c.sentence[at:].rstrip(".!? ")
        sentences.add(c.sentence)
    questions = tuple((w.question, w.told) for w in sound)
    share = coverage(text, [answer for _, answer in (*questions, *echoes.items())])
    return Augmentation(questions, tuple(echoes.items()), tuple(completions.items()), round(share, 4))


def is_sound(written: Written, passage: Sequence[str]) -> bool:
    """A question whose answer stands in the passage and not in the question itself."""
    told = words(written.told)
    return holds(passage, told) and not holds(words(written.question), told)


def _key(backbone: Backbone, chunk: Chunk, options: AugmentOptions) -> str:
    asked = options.questions, options.wordings, options.phrasings, options.asked_back, options.around
    told = f"{FORMAT} {backbone.reader.fingerprint} {asked} {chunk.content_hash}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _read(path: Path) -> Augmentation | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        texts = {k: tuple((str(a), str(b)) for a, b in told[k]) for k in KINDS}
        return Augmentation(**texts, coverage=float(told["coverage"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: written again
