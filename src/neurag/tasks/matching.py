"""Matching: the backbone learns to see a question and the sentence that answers it as alike, with no passage in view.

A neuron answers by what the units of its layers hold at the end of the question: the lesson nearest to it speaks
(docs/encoding.md). So for a passage, of its sentences asked back (knowledge/echoes.py) the one for the right answer
shall be nearest to the question a person asked: InfoNCE over the sentences of the same passage, on the cosine of the
units of the band's layers at the last prompt token, and of the few directions of them that neurons read (neurons.py).
Not here: reading and writing (examples.py), the loop (training.py).

    >>> examples = matches(backbone, rows, seed=0)                       # doctest: +SKIP
    >>> match_loss(backbone, UnitSpace.of(backbone), examples[:6])       # doctest: +SKIP
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..backbone import Backbone
from ..config import EncodeOptions
from ..hooks import read_input
from ..knowledge.asking import floored
from ..knowledge.calibration import calibrate_units, neutral_texts
from ..knowledge.candidates import Candidate, find_candidates
from ..knowledge.coverage import COVERS
from ..knowledge.echoes import ask_back
from ..knowledge.neurons import band_layers, drawn_rows
from ..packed import Columns, Piece, final_states
from ..prompts import question_prompt
from ..words import overlap, words
from .examples import TaskRow, asked_sentence

CANDIDATES, AROUND = 24, 9
"""Possible answers of a passage that are looked at, and words kept around one that is asked back."""
ECHOES, OTHERS, QUESTIONS = 9, 3, 5
"""Sentences asked back of a passage, the fewest wrong ones among them if there are any, and questions about it."""
SAME = 0.8
"""Share of words (F1) from which on a possible answer is the right one."""
SHARPNESS = 10.0
"""What cosines are multiplied by before the softmax."""
SEGMENTS, LONGEST = 14, 1024
"""Prompts that share a row and its beginning, and their tokens, at most; a longer prompt is left out."""


@dataclass(frozen=True)
class Match:
    """Prompts about one passage as token ids, and which belong together."""

    head: tuple[int, ...]
    """What all prompts begin with."""
    echoes: tuple[tuple[int, ...], ...]
    """The sentences asked back, without the head."""
    questions: tuple[tuple[int, ...], ...]
    """The questions of people, without the head."""
    right: tuple[tuple[int, ...], ...]
    """Of each question, the numbers of the sentences asked back for its answer; never empty."""

    def __len__(self) -> int:
        return sum(map(len, (*self.echoes, *self.questions)))


@dataclass(frozen=True)
class UnitSpace:
    """Where likeness is measured: layers, the usual mean and spread of their units [L, F], and what is read of them."""

    layers: tuple[int, ...]
    mean: Tensor
    spread: Tensor
    read: Tensor
    """[L, R, F] the drawn directions of a bank's neurons, if its options are the defaults."""

    @classmethod
    def of(cls, backbone: Backbone) -> UnitSpace:
        """The layers of the default band, calibrated on the backbone as it acts now."""
        _, scale, _, mean = calibrate_units(backbone, *neutral_texts())
        layers = band_layers(backbone.depth, EncodeOptions().band)
        rows, told = list(layers), EncodeOptions()
        read = drawn_rows(len(layers), told.rank, backbone.ffn_width, told.seed).to(mean.device)
        return cls(layers, mean[rows], floored(scale[rows]), read)


def matches(backbone: Backbone, rows: Iterable[TaskRow], seed: int) -> list[Match]:
    """One Match for every passage that a row asks about alone and whose answer is found in it, in the rows' order."""
    about: dict[tuple[str, str], list[TaskRow]] = {}
    for row in rows:
        if len(row.passages) == 1 and row.answer:
            about.setdefault(row.passages[0], []).append(row)
    drawn = random.Random(seed)
    made = [_match(backbone, passage[1], asked[:QUESTIONS], drawn) for passage, asked in about.items()]
    found = [one for one in made if one]
    return [one for one in found if one.head == found[0].head]


def _match(backbone: Backbone, text: str, rows: Sequence[TaskRow], drawn: random.Random) -> Match | None:
    found = find_candidates(text, CANDIDATES)
    taken = list(dict.fromkeys(c for row in rows for c in _right(row, found)))
    others = list(dict.fromkeys(c for c in found if not any(_likeness(c, row) >= COVERS for row in rows)))
    taken += drawn.sample(others, min(len(others), max(OTHERS, ECHOES - len(taken))))
    right = [tuple(n for n, c in enumerate(taken) if _same(c, row)) for row in rows]
    asked = [row.question for row, told in zip(rows, right, strict=True) if told]
    if not asked or len(taken) < 2:
        return None
    prompts = [question_prompt(backbone, one) for one in (*(ask_back(c, AROUND) for c in taken), *asked)]
    tails = tuple(prompt.tail for prompt in prompts)
    # a tokenizer may join the head's last token with what follows; such a prompt cannot share it
    if max(map(len, tails)) > LONGEST or any(prompt.head != prompts[0].head for prompt in prompts):
        return None
    return Match(prompts[0].head, tails[: len(taken)], tails[len(taken) :], tuple(told for told in right if told))


def _right(row: TaskRow, found: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that are a row's answer; where none is, its answer in the sentence it most likely comes from."""
    told = [c for c in found if _same(c, row)]
    sentence = asked_sentence(row)
    if told or not found or not sentence or row.answer is None:
        return told
    kind = "number" if row.answer.isdigit() else "name" if row.answer[0].isupper() else "phrase"
    return [replace(found[0], answer=row.answer, sentence=sentence, kind=kind)]


def _same(candidate: Candidate, row: TaskRow) -> bool:
    return _likeness(candidate, row) >= SAME


def _likeness(candidate: Candidate, row: TaskRow) -> float:
    return overlap(words(candidate.answer), words(row.answer or ""))


def match_loss(backbone: Backbone, space: UnitSpace, batch: Sequence[Match]) -> Tensor:
    """Mean over the questions of -log of the share that the right sentences of their passage have; of all units, and of
    what neurons read of them, half each."""
    units = _units(backbone, space, [tail for one in batch for tail in (*one.echoes, *one.questions)], batch[0].head)
    read = torch.einsum("nlf,lrf->nlr", units, space.read)
    return (_info_nce(_unit_length(units), batch) + _info_nce(_unit_length(read), batch)) / 2


def _info_nce(states: Tensor, batch: Sequence[Match]) -> Tensor:
    losses, at = [], 0
    for one in batch:
        echoes, questions = states[at : at + len(one.echoes)], states[at + len(one.echoes) :][: len(one.questions)]
        at += len(one.echoes) + len(one.questions)
        alike = SHARPNESS * questions @ echoes.T  # [questions, echoes]
        for told, right in zip(alike, one.right, strict=True):
            losses.append(torch.logsumexp(told, 0) - torch.logsumexp(told[list(right)], 0))
    return torch.stack(losses).mean()


def _groups(tails: Sequence[Sequence[int]]) -> list[list[int]]:
    """The numbers of the prompts of each row, alike in length."""
    groups: list[list[int]] = []
    tokens = 0
    for number in sorted(range(len(tails)), key=lambda n: len(tails[n])):
        if not groups or len(groups[-1]) == SEGMENTS or tokens + len(tails[number]) > LONGEST:
            groups.append([])
            tokens = 0
        groups[-1].append(number)
        tokens += len(tails[number])
    return groups


def _units(backbone: Backbone, space: UnitSpace, tails: Sequence[tuple[int, ...]], head: tuple[int, ...]) -> Tensor:
    """[n, L, F] what the units hold at the end of each prompt, in usual spreads from the usual mean."""
    groups = _groups(tails)
    pieces = [[Piece(0, 0, head), *(Piece(s, len(head), tails[n]) for s, n in enumerate(g, 1))] for g in groups]
    columns = Columns.of(pieces, backbone.device)
    ends = {n: (row, len(head) + sum(len(tails[m]) for m in group[: place + 1]) - 1)
            for row, group in enumerate(groups) for place, n in enumerate(group)}  # fmt: skip
    rows, places = ([ends[n][side] for n in range(len(tails))] for side in (0, 1))
    seen: list[Tensor] = []
    with ExitStack() as stack:
        for layer in space.layers:
            stack.enter_context(read_input(backbone.down_projection(layer), lambda x: seen.append(x[rows, places])))
        final_states(backbone, columns)
    return (torch.stack(seen, 1).float() - space.mean) / space.spread


def _unit_length(states: Tensor) -> Tensor:
    """[n, L, F] -> [n, L F] unit vectors in which every layer counts alike."""
    told: Tensor = torch.nn.functional.normalize(states, dim=-1).flatten(1)
    return told / math.sqrt(states.shape[1])
