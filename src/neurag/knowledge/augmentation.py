"""Augmentation: the training texts of a chunk; what the backbone writes of them is cached by content.

Candidate answers are found in the passage (candidates.py), questions written for each and answered from the passage
(questions.py); what is answered from elsewhere goes. The sentences of the likeliest answers are asked back as well, and
some of what they say is asked about with yes or no. What comes out is (prompt, answer) texts: questions, sentences
asked back, checks, and sentences to complete.
Works on any text: where no question can be written, its sentences remain. Not here: training on them (encoder.py).

    >>> augment(backbone, [chunk], AugmentOptions())[0].questions[0]     # doctest: +SKIP
    ('Who leads the Oskerby workshop?', 'Ilse Maranth')
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from ..backbone import Backbone, cache_folder
from ..config import AugmentOptions
from ..files import write_whole
from ..words import holds, words
from .candidates import Candidate, find_candidates
from .checks import checks
from .coverage import coverage, covers
from .documents import Chunk
from .echoes import apart, ask_back
from .phrases import sentences_of
from .questions import Asked, Written, write_questions

FORMAT = "17"
KINDS = ("questions", "echoes", "checks", "completions")
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
    checks: tuple[tuple[str, str], ...]
    """(whether something is so, "yes" or "no")."""
    completions: tuple[tuple[str, str], ...]
    """(beginning of a sentence, its rest): the passage's own text, where no sound question is about it."""
    coverage: float = 0.0
    """Share of what may be asked that a question or a sentence asked back is answered by (coverage.py)."""

    def __len__(self) -> int:
        return sum(len(getattr(self, kind)) for kind in KINDS)


def augment(
    backbone: Backbone, chunks: Sequence[Chunk], options: AugmentOptions, cache: Path | None = None
) -> list[Augmentation]:
    """One Augmentation a chunk. Questions written before for the same content and backbone are reused."""
    folder = cache or cache_folder() / "augmentation"
    paths = [folder / f"{_key(backbone, chunk, options)}.json" for chunk in chunks]
    known = [_read(path) for path in paths]
    missing = [i for i, k in enumerate(known) if k is None]
    _, written = ask(backbone, [(chunks[i].document.title, chunks[i].text) for i in missing], options)
    for i, made in zip(missing, written, strict=True):
        known[i] = made
        write_whole(paths[i], json.dumps([asdict(one) for one in made], ensure_ascii=False))
    return [
        _assemble(chunk.text, candidates(chunk.text, options), made, options)
        for chunk, made in zip(chunks, known, strict=True)
        if made is not None
    ]


def ask(
    backbone: Backbone, passages: Sequence[tuple[str, str]], options: AugmentOptions
) -> tuple[list[list[Candidate]], list[list[Written]]]:
    """Possible answers of each (title, text), and the questions written for them with what is answered."""
    found = [candidates(text, options) for _, text in passages]
    asked = [list(_asked(row[: options.questions], options)) for row in found]
    return found, write_questions(backbone.reader, passages, asked)


def candidates(text: str, options: AugmentOptions) -> list[Candidate]:
    """What may be asked of a text, the first `options.questions` by a question that is written."""
    return find_candidates(text, max(options.questions, options.asked_back))


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
    earlier = {now: before for before, now in pairwise(sentences_of(text))} if options.lead_in else {}
    echoes: dict[str, str] = {}
    completions: dict[str, str] = {}
    for place, c in enumerate(apart(found)):
        new, at = c.sentence not in sentences, c.sentence.find(c.answer)
        if place < again or (c not in covered and (new or place < options.asked_back)):
            echoes[ask_back(c, options.around, earlier.get(c.sentence, ""))] = c.answer
        if new and at > 12:
            completions[c.sentence[:at].strip()] = c.sentence[at:].rstrip(".!? ")
        sentences.add(c.sentence)
    questions = tuple((w.question, w.told) for w in sound)
    share = coverage(text, [answer for _, answer in (*questions, *echoes.items())])
    checked = checks(found, min(options.checks, len(passage) // EACH), options.around)
    return Augmentation(
        questions, tuple(echoes.items()), tuple(checked.items()), tuple(completions.items()), round(share, 4)
    )


def is_sound(written: Written, passage: Sequence[str]) -> bool:
    """A question whose answer stands in the passage and not in the question itself."""
    told = words(written.told)
    return holds(passage, told) and not holds(words(written.question), told)


def _key(backbone: Backbone, chunk: Chunk, options: AugmentOptions) -> str:
    asked = options.questions, options.wordings, options.phrasings, max(options.questions, options.asked_back)
    told = f"{FORMAT} {backbone.reader.fingerprint} {asked} {chunk.content_hash}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _read(path: Path) -> list[Written] | None:
    try:
        return [Written(**{k: str(v) for k, v in one.items()}) for one in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, AttributeError):
        return None  # absent or damaged: written again
