"""The encoder: many documents' neurons trained together, each position of a step with its own document's B.

Per document the loss is the mean negative log likelihood of its answers, weighted by lesson. In every second
step other documents' neurons of the batch are added at a fraction of their strength (and get no gradient), so
that a neuron learns to speak while weaker ones are active beside it. Two things keep a step cheap: it sees one
part of the lessons in turn, and its softmax runs over the tokens that can matter (every target, and what the
plain backbone finds likely at each position) instead of the whole vocabulary. Not here: the frozen-prefix arithmetic
(band.py), rates and stopping (course.py), the texts (augmentation.py), the bank.

    >>> neurons = train_neurons(backbone, space, lessons, count=12, options=EncodeOptions())  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from ..backbone import Backbone
from ..config import EncodeOptions
from ..segments import Rows
from .band import Delta, Lesson, Prepared, band_states, prepare
from .course import Course
from .neurons import InputSpace


def train_neurons(
    backbone: Backbone,
    space: InputSpace,
    lessons: Sequence[Lesson],
    count: int,
    options: EncodeOptions,
    seed: int | None = None,
    confine: Callable[[Tensor], Tensor] | None = None,
    heard: Callable[[Lesson, Tensor], object] | None = None,
) -> Tensor:
    """B of `count` documents, [count, L, R, D] in float32. A document without lessons keeps zeros.

    `confine` maps all B to what is allowed of them, in every step: a linear map that does nothing when done twice.
    `heard` is told of every lesson what a neuron reads at the end of its prompt while none acts, [L, R].
    """
    generator = torch.Generator().manual_seed(options.seed if seed is None else seed)
    allowed = confine or (lambda given: given)
    shape = len(space.layers), space.down.shape[1], backbone.width
    learned = [torch.zeros(shape, device=backbone.device, requires_grad=True) for _ in range(count)]
    if not lessons:
        return torch.stack(learned).detach()
    parts = [_Part(backbone, space, part, count, options) for part in _deal(lessons, options.parts)]
    if heard:
        for lesson, read in chain.from_iterable(part.reads() for part in parts):
            heard(lesson, read)
    taught = torch.zeros(count, dtype=torch.bool).index_fill(0, torch.tensor([x.document for x in lessons]), True)
    # a round is every part once clean and once with others active
    course = Course(taught, options, window=2 * len(parts))
    optimiser = torch.optim.Adam([{"params": [one], "lr": 0.0} for one in learned])
    while course.going.any():
        for group, rate in zip(optimiser.param_groups, course.rates.tolist(), strict=True):
            group["lr"] = rate
        optimiser.zero_grad()
        acting = allowed(torch.stack(learned)).to(backbone.dtype)
        if course.step % 2 and options.interference and count > 1:
            mix = interference(count, options.interferers, options.interference, generator)
            acting = acting + torch.einsum("ij,jlrd->ilrd", mix.to(acting), acting.detach())
        losses = parts[course.step // 2 % len(parts)].losses(acting)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if course.tell(losses.detach()).any():
            for part in parts:
                part.keep(course.going)
    return allowed(torch.stack(learned)).detach()


def _deal(lessons: Sequence[Lesson], parts: int) -> list[list[Lesson]]:
    """Deal each document's lessons out in turn; one with fewer lessons than parts gets them again."""
    hands: list[list[Lesson]] = [[] for _ in range(parts)]
    documents: dict[int, list[Lesson]] = {}
    for lesson in lessons:
        documents.setdefault(lesson.document, []).append(lesson)
    for own in documents.values():
        for turn in range(max(len(own), parts)):
            hands[turn % parts].append(own[turn % len(own)])
    return hands


class _Part:
    """Lessons that are learned in the same step, with their frozen prefixes and their vocabulary."""

    def __init__(
        self, backbone: Backbone, space: InputSpace, lessons: Sequence[Lesson], count: int, options: EncodeOptions
    ) -> None:
        self.backbone, self.space, self.count, self._lessons = backbone, space, count, lessons
        self.prepared = _shared_out(prepare(backbone, lessons, space.layers), count)
        self.distil, self.distil_states = options.distil, options.distil_states
        self.taught = teacher_states(backbone.reader, lessons, space.layers) if options.distils else {}
        self._read: list[Tensor] = []
        self.vocabulary = torch.unique(self._likely())
        self.head = backbone.part(backbone.family.head).weight[self.vocabulary]

    def keep(self, going: Tensor) -> None:
        """Leave out the positions of the documents that have ended; `going` is [N]."""
        kept = going.to(self.prepared.documents.device)[self.prepared.documents]
        if kept.any():
            self.prepared = self.prepared.only(kept)

    @torch.no_grad()
    def _likely(self, best: int = 16) -> Tensor:
        """The targets, and the tokens the plain backbone, or its teacher, finds likeliest at any position."""
        states = band_states(self.backbone, self.prepared, self.space.layers, self._listen)
        states = torch.cat([states, *self.taught.values()])
        logits = self.backbone.part(self.backbone.family.head)(states)
        return torch.cat([self.prepared.targets, logits.topk(best).indices.flatten()])

    def _listen(self, place: int, units: Tensor, _: Tensor) -> None:
        """Take down what is read at the M positions."""
        self._read.append(self.space.read(place, units)[0])

    def reads(self) -> Iterator[tuple[Lesson, Tensor]]:
        """Each lesson, and what is read at the end of its prompt, [L, R]; once."""
        read, self._read = torch.stack(self._read, 1), []
        at = self.prepared.lessons.tolist()
        for number, first in {number: place for place, number in reversed(list(enumerate(at)))}.items():
            yield self._lessons[number], read[first]

    def losses(self, acting: Tensor) -> Tensor:
        """The mean negative log likelihood of each document's answers, [N]; zero where it has none."""
        told = self.prepared
        delta = own_delta(self.space, acting, told.documents)
        states = band_states(self.backbone, told, self.space.layers, delta)
        said = torch.nn.functional.log_softmax((states @ self.head.T).float(), -1)
        losses = -said.gather(1, torch.searchsorted(self.vocabulary, told.targets)[:, None])[:, 0]
        losses = self._distilled(states, said, losses) if self.taught else losses
        total = torch.zeros(self.count, device=self.head.device)
        return total.index_add(0, told.documents, losses * told.weights)

    def _distilled(self, states: Tensor, said: Tensor, losses: Tensor) -> Tensor:
        """Losses [M] in which the distances from a teacher's words and states have their shares, where it is."""
        at = self.prepared.lessons
        has = torch.isin(at, torch.tensor(list(self.taught), device=at.device))
        if not has.any():
            return losses
        seen = torch.cat([self.taught[n] for n in _numbers(self.prepared) if n in self.taught])
        told = torch.nn.functional.log_softmax((seen @ self.head.T).float(), -1)
        words_apart = (told.exp() * (told - said[has])).sum(-1)
        states_apart = 1 - torch.nn.functional.cosine_similarity(states[has].float(), seen.float(), dim=-1)
        apart = self.distil * words_apart + self.distil_states * states_apart
        losses = torch.where(has, (1 - self.distil) * losses, losses)
        return losses.index_add(0, has.nonzero()[:, 0], apart)


def _numbers(prepared: Prepared) -> list[int]:
    """The numbers of the lessons, in the order of their positions."""
    return list(dict.fromkeys(prepared.lessons.tolist()))


def teacher_states(backbone: Backbone, lessons: Sequence[Lesson], layers: Sequence[int]) -> dict[int, Tensor]:
    """By number of the lesson: final states [answer, D] of a teacher with the passage in its prompt."""
    numbers = [n for n, lesson in enumerate(lessons) if lesson.view]
    if not numbers:
        return {}
    viewed = [replace(lessons[n], prompt=lessons[n].view, shared=lessons[n].view_shared) for n in numbers]
    prepared = prepare(backbone, viewed, layers)
    with torch.no_grad():
        states = band_states(backbone, prepared, layers, lambda *_: None)
    return {numbers[n]: states[prepared.lessons == n] for n in _numbers(prepared)}


def interference(count: int, others: int, weight: float, generator: torch.Generator) -> Tensor:
    """[N, N] with `weight` at `others` randomly drawn other documents in every row, zero elsewhere."""
    draw = torch.rand(count, count, generator=generator).fill_diagonal_(-1.0)
    chosen = draw.topk(min(others, count - 1), dim=1).indices
    return torch.zeros(count, count).scatter_(1, chosen, weight)


def own_delta(space: InputSpace, acting: Tensor, documents: Tensor) -> Delta:
    """Each position m gets its document's neuron `acting[documents[m]]`: [1, M, F] -> + [1, M, D]."""
    rows = Rows.of(documents, len(acting))

    def delta(place: int, units: Tensor, output: Tensor) -> Tensor:
        read = rows.spread(space.read(place, units)[0])  # [N, T, R]
        return output + rows.gather(torch.bmm(read, acting[:, place].to(read.dtype)))

    return delta


def _shared_out(prepared: Prepared, count: int) -> Prepared:
    """The same with weights that add up to one for each document."""
    total = torch.zeros(count, device=prepared.weights.device).index_add_(0, prepared.documents, prepared.weights)
    return replace(prepared, weights=prepared.weights / total[prepared.documents])
