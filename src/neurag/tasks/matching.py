"""Matching: the backbone learns to see a question and the sentence that answers it as alike, with no passage in view.

A neuron answers by what the units of its layers hold at the end of the question: the lesson nearest to it speaks
(docs/encoding.md). So for a passage, of its sentences asked back (knowledge/echoes.py) the one for the right answer
shall be nearest to the question a person asked, and so shall, of these and of the questions that were written about it,
one with the right answer; and of the sentences asked back that for its own answer to a question that was written.
InfoNCE over the lessons of the same passage, on the cosine of the units of the band's layers at the last prompt token,
and of the few directions of them that neurons read (neurons.py). Not here: reading and writing (examples.py), the loop
(training.py).

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
from ..knowledge.calibration import neutral_texts, unit_statistics
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
OTHERS, QUESTIONS, WRITTEN = 3, 5, 10
"""The fewest sentences asked back for wrong answers, if any; the most questions of people, and written ones."""
SAME = 0.8
"""Share of words (F1) from which on a possible answer is the right one."""
SHARPNESS = 10.0
"""What cosines are multiplied by before the softmax."""
SEGMENTS, LONGEST = 14, 1024
"""Prompts that share a row and its beginning, and their tokens, at most; a longer prompt is left out."""

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Match:
    """Prompts about one passage as token ids, and which belong together."""

    head: Ids
    """What all prompts begin with."""
    echoes: tuple[Ids, ...]
    """The sentences asked back, without the head."""
    written: tuple[Ids, ...]
    """The questions written about it."""
    questions: tuple[Ids, ...]
    """The questions of people."""
    right: tuple[Ids, ...]
    """Of each question of people, the numbers of the lessons (echoes, then written) with its answer, of the echoes one
    at least; then of each question written, the numbers of the echoes, maybe none."""

    def __len__(self) -> int:
        return sum(map(len, self.prompts))

    @property
    def prompts(self) -> tuple[Ids, ...]:
        """All: the lessons, then the questions of people."""
        return (*self.echoes, *self.written, *self.questions)


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
        mean, scale = unit_statistics(backbone, neutral_texts()[0])
        told = EncodeOptions()
        layers = band_layers(backbone.depth, told.band)
        rows = list(layers)
        read = drawn_rows(len(layers), told.rank, backbone.ffn_width, told.seed).to(mean.device)
        return cls(layers, mean[rows], floored(scale[rows]), read)


def matches(
    backbone: Backbone, rows: Iterable[TaskRow], seed: int, lessons: Iterable[TaskRow] = (), echoes: int = 9
) -> list[Match]:
    """One Match for every passage that a row asks about alone and whose answer is found in it, and every passage that
    questions were written about, in this order. `lessons`: the questions written; `echoes`: sentences asked back of a
    passage, more only where more are right."""
    asked, written = _by_passage(rows), _by_passage(lessons)
    drawn = random.Random(seed)
    both = (
        (text, asked.get(text, [])[:QUESTIONS], written.get(text, [])) for text in dict.fromkeys((*asked, *written))
    )
    made = [_match(backbone, text, people, own, echoes, drawn) for text, people, own in both]
    found = [one for one in made if one]
    return [one for one in found if one.head == found[0].head]


def _by_passage(rows: Iterable[TaskRow]) -> dict[str, list[TaskRow]]:
    """The rows that are answered from one passage, by its text."""
    found: dict[str, list[TaskRow]] = {}
    for row in rows:
        if len(row.passages) == 1 and row.answer:
            found.setdefault(row.passages[0][1], []).append(row)
    return found


def _match(
    backbone: Backbone,
    text: str,
    people: Sequence[TaskRow],
    written: Sequence[TaskRow],
    echoes: int,
    drawn: random.Random,
) -> Match | None:
    found = find_candidates(text, CANDIDATES)
    written = drawn.sample(written, min(len(written), WRITTEN))
    taken = list(dict.fromkeys(c for row in people for c in _right(row, found)))
    taken += [c for c in found if c not in taken and any(_likeness(c.answer, row) >= SAME for row in written)]
    others = [c for c in found if c not in taken and not any(_likeness(c.answer, row) >= COVERS for row in people)]
    taken += drawn.sample(others, min(len(others), max(OTHERS, echoes - len(taken))))
    answers = [c.answer for c in taken]
    asked = [row for row in people if _alike(answers, row)]
    if len(taken) < 2 or not any(_alike(answers, row) for row in (*asked, *written)):
        return None
    told = [*(ask_back(c, AROUND) for c in taken), *(row.question for row in (*written, *asked))]
    prompts = [question_prompt(backbone, one) for one in told]
    tails = tuple(prompt.tail for prompt in prompts)
    # a tokenizer may join the head's last token with what follows; such a prompt cannot share it
    if max(map(len, tails)) > LONGEST or any(prompt.head != prompts[0].head for prompt in prompts):
        return None
    first, second = len(taken), len(taken) + len(written)
    lessons = [*answers, *(row.answer or "" for row in written)]
    right = (*(_alike(lessons, row) for row in asked), *(_alike(answers, row) for row in written))
    return Match(prompts[0].head, tails[:first], tails[first:second], tails[second:], right)


def _right(row: TaskRow, found: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that are a row's answer; where none is, its answer in the sentence it most likely comes from."""
    told = [c for c in found if _likeness(c.answer, row) >= SAME]
    sentence = asked_sentence(row)
    if told or not found or not sentence or row.answer is None:
        return told
    kind = "number" if row.answer.isdigit() else "name" if row.answer[0].isupper() else "phrase"
    return [replace(found[0], answer=row.answer, sentence=sentence, kind=kind)]


def _alike(answers: Sequence[str], row: TaskRow) -> Ids:
    """The numbers of the answers that are the row's."""
    return tuple(n for n, answer in enumerate(answers) if _likeness(answer, row) >= SAME)


def _likeness(answer: str, row: TaskRow) -> float:
    return overlap(words(answer), words(row.answer or ""))


def match_loss(backbone: Backbone, space: UnitSpace, batch: Sequence[Match]) -> Tensor:
    """Mean of -log of the share that the right lessons of its passage have in a question: over people's questions and
    sentences asked back, over people's and all lessons, and over written questions and sentences asked back, these
    counting alike where there are any; of all units, and of what neurons read of them, half each."""
    units = _units(backbone, space, [tail for one in batch for tail in one.prompts], batch[0].head)
    read = torch.einsum("nlf,lrf->nlr", units, space.read)
    terms = _terms(batch, units.device)
    losses = [_info_nce(_unit_length(states), term) for states in (units, read) for term in terms]
    return torch.stack(losses).mean()


@dataclass(frozen=True)
class _Term:
    """Which of a batch's prompts choose [Q], among which [M], and what each sees and should choose, [Q, M]."""

    choosing: Tensor
    among: Tensor
    seen: Tensor
    right: Tensor

    @classmethod
    def of(
        cls, asking: Sequence[tuple[int, int, Ids]], among: Sequence[tuple[int, int]], device: torch.device
    ) -> _Term:
        """`asking`: prompt, passage and the right prompts; `among`: prompt and passage. Who has no right one is left
        out."""
        places = {row: n for n, (row, _) in enumerate(among)}
        told = [(row, passage, [places[r] for r in right if r in places]) for row, passage, right in asking]
        kept = [one for one in told if one[2]]
        right = torch.zeros(len(kept), len(among), dtype=torch.bool)
        for n, (_, _, columns) in enumerate(kept):
            right[n, columns] = True
        passages = torch.tensor([passage for _, passage in among])
        seen = torch.tensor([passage for _, passage, _ in kept])[:, None] == passages
        rows = torch.tensor([row for row, _, _ in kept], dtype=torch.long), torch.tensor([row for row, _ in among])
        return cls(*(x.to(device) for x in (*rows, seen, right)))


def _terms(batch: Sequence[Match], device: torch.device) -> list[_Term]:
    """The terms of the loss that the batch has questions for."""
    people: list[tuple[int, int, Ids]] = []
    written: list[tuple[int, int, Ids]] = []
    echoes: list[tuple[int, int]] = []
    lessons: list[tuple[int, int]] = []
    at = 0
    for passage, one in enumerate(batch):
        first, second, last = at + len(one.echoes), at + len(one.echoes) + len(one.written), at + len(one.prompts)
        echoes += [(row, passage) for row in range(at, first)]
        lessons += [(row, passage) for row in range(at, second)]
        right = iter(tuple(at + n for n in told) for told in one.right)
        people += [(row, passage, next(right)) for row in range(second, last)]
        written += [(row, passage, next(right)) for row in range(first, second)]
        at = last
    pairs = [(people, echoes), (written, echoes), *([(people, lessons)] if written else [])]
    terms = [_Term.of(asking, among, device) for asking, among in pairs]
    return [term for term in terms if len(term.choosing)]


def _info_nce(states: Tensor, term: _Term) -> Tensor:
    alike = SHARPNESS * states[term.choosing] @ states[term.among].T  # [Q, M]
    seen, right = (torch.logsumexp(alike.masked_fill(~told, -math.inf), 1) for told in (term.seen, term.right))
    return (seen - right).mean()


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
