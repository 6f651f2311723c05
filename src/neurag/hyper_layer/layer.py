"""The Hyper-Layer: a bank's neurons inside the backbone, for the length of a question, or of several side by side.

One hook reads a question's states at the routing layer, in the middle of the one forward pass over the
prompt, and chooses neurons; hooks on the band's down projections add what the chosen neurons say, at the last
position only (the last prompt token, then each new token). So all earlier keys and values stay the backbone's
own, and with nothing active no number changes. Not here: scoring (routing.py), decoding (decoding.py).

    >>> firing = hyper_layer.firing(prompt.span_from_end)   # doctest: +SKIP
    >>> with hyper_layer.active([firing]):                  # doctest: +SKIP
    ...     backbone.model(input_ids=ids)
    >>> firing.routed.weights                               # doctest: +SKIP
    (1.0, 0.21, 0.08, 0.03)
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..backbone import Backbone, processor_format
from ..config import RANDOM, RouteOptions
from ..hooks import on_each, read_output
from ..knowledge.bank import Bank
from ..knowledge.calibration import Calibration
from ..knowledge.neurons import InputSpace, dequantise
from .fusion import rule
from .routing import Routed, Router, RoutingIndex

HOT_NEURONS = 256


@dataclass
class Firing:
    """What one question asks of the Hyper-Layer, and what the Hyper-Layer did about it."""

    span: tuple[int, int]
    """The question's own tokens, counted from the prompt's end (negative), where padding does not reach."""
    index: RoutingIndex
    """The bank's rows as they were when the question came: `allowed` and `routed` count in them."""
    allowed: np.ndarray | None = None
    force: tuple[tuple[str, float], ...] = ()
    seed: int = 0
    routed: Routed = field(default_factory=lambda: Routed((), (), ()))
    path: list[Routed] = field(default_factory=list)
    """The choice at the last prompt token, then at each token written: they differ only when rerouting."""
    fixed: bool = False
    """The choice was made elsewhere, and stays."""
    fused: Tensor | None = None
    held: dict[str, Tensor] = field(default_factory=dict)
    """B of the chosen neurons by row id, [L, R, D], as far as they are in memory."""
    coming: Future[dict[str, tuple[np.ndarray, np.ndarray]]] | None = None
    """Neurons that are being read."""
    seconds: float = 0.0
    """Time spent on the first choice; later choices are part of writing."""
    states: Tensor | None = None
    importance: Tensor | None = None

    @property
    def first(self) -> Routed:
        """The choice at the last prompt token; nothing before it was made."""
        return self.path[0] if self.path else Routed((), (), ())


class HyperLayer:
    """A bank attached to a backbone. Holds hot neurons in memory; the bank stays on disk."""

    def __init__(
        self,
        backbone: Backbone,
        calibration: Calibration,
        space: InputSpace,
        bank: Bank,
        options: RouteOptions,
    ) -> None:
        self.backbone, self.bank, self.options = backbone, bank, options
        # one position is too little work for the half-precision kernels of a CPU: in float32 it is four times as fast
        self.space = replace(space, down=space.down.float(), shift=space.shift.float())
        self.router = Router(calibration, options)
        self._fuse = rule(options.fusion)
        self._index: RoutingIndex | None = None
        self._version = -1
        self._hot: OrderedDict[str, Tensor] = OrderedDict()
        self._reader = ThreadPoolExecutor(1, "neurons")

    @property
    def index(self) -> RoutingIndex:
        """The bank's keys, read again when the bank has changed."""
        if self._index is None or self._version != self.bank.version:
            self._version = self.bank.version
            self._index = self.router.build(self.bank.index(), processor_format())
            self._hot.clear()
        return self._index

    def firing(
        self,
        span: tuple[int, int],
        labels: Sequence[str] | None = None,
        without: Sequence[str] = (),
        force: tuple[tuple[str, float], ...] = (),
        seed: int = 0,
    ) -> Firing:
        """A question for `active`, with what it may see; the arguments are those of `AnswerOptions`."""
        index = self.index
        return Firing(span, index, _allowed(index, labels, without), force, seed)

    @contextmanager
    def active(self, firings: list[Firing]) -> Iterator[None]:
        """Let the neurons act on the forward passes inside, whose rows are `firings`, in this order.

        The list is read at every pass: take a firing out when its row leaves the batch. While it is empty none acts.
        """
        layers = self.backbone.layers
        rho = self.router.calibration.layer
        with ExitStack() as stack:
            stack.enter_context(read_output(layers[rho - 1], lambda hidden: self._attend(firings, hidden)))
            modules = [self.backbone.down_projection(n) for n in self.space.layers]
            stack.enter_context(on_each(modules, lambda place, x, y: self._speak(firings, place, x, y)))
            yield

    def _attend(self, firings: Sequence[Firing], hidden: Tensor) -> None:
        """Choose neurons: once for a prompt, and again for every new token when rerouting."""
        for firing, own in zip(firings, hidden, strict=True) if firings else ():
            if firing.fixed:
                continue
            if not firing.path:
                start = time.perf_counter()
                first, last = (len(own) + place for place in firing.span)
                firing.states = self.router.calibration.project(own[first:last]).cpu()
                firing.importance = torch.ones(len(firing.states))
                firing.routed = self._first_choice(firing)
                self._fetch(firing)
                firing.seconds = time.perf_counter() - start
            elif self.options.reroute and not firing.force:
                self._move_on(firing, own[-1:])
            firing.path.append(firing.routed)

    def fix(self, firing: Firing, routed: Routed) -> None:
        """Let these rows act at these weights from now on, whatever routing would choose."""
        firing.fixed = True
        if firing.routed != routed:
            firing.routed = routed
            self._fetch(firing)

    def ranking(self, firing: Firing, count: int) -> tuple[str, ...]:
        """Ids of the `count` documents that routing puts first for a question that has been answered."""
        assert firing.states is not None
        states = firing.states[: firing.span[1] - firing.span[0]]  # of the question, not of tokens rerouted by
        routed = self.router.route(firing.index, states, firing.allowed, top_k=3 * count)
        return tuple(dict.fromkeys(firing.index.document_ids[row] for row in routed.rows))[:count]

    def _first_choice(self, firing: Firing) -> Routed:
        assert firing.states is not None
        if not firing.force:
            return self.router.route(firing.index, firing.states, firing.allowed)
        rows, weights = [], []
        documents = np.array(firing.index.document_ids)
        seen = np.ones(len(documents), bool) if firing.allowed is None else firing.allowed
        for document, weight in firing.force:
            if document == RANDOM:
                if seen.any():
                    rows.append(~int(seen.argmax()))  # as strong as a neuron that the request may see
                    weights.append(weight)
            else:
                own = self.router.route(firing.index, firing.states, seen & (documents == document))
                rows += own.rows
                weights += [weight * share / max(own.weights) for share in own.weights]
        return Routed(tuple(rows), tuple(weights), tuple(weights))

    def _move_on(self, firing: Firing, hidden: Tensor) -> None:
        """S over the question and the answer so far; the lead changes only for a clearly better neuron."""
        assert firing.states is not None
        assert firing.importance is not None
        firing.states = torch.cat([firing.states, self.router.calibration.project(hidden).cpu()])
        firing.importance = torch.cat([firing.importance * self.options.decay, torch.ones(1)])
        routed = self.router.route(firing.index, firing.states, firing.allowed, firing.importance)
        if not routed.rows or (firing.routed.rows and routed.rows[0] == firing.routed.rows[0]):
            return
        now = dict(zip(routed.rows, routed.scores, strict=True))
        if routed.scores[0] > now.get(firing.routed.rows[0], 0.0) + self.options.hysteresis:
            firing.routed = routed
            self._fetch(firing)

    def _fetch(self, firing: Firing) -> None:
        """Begin to read the chosen neurons; the layers up to the band go on meanwhile."""
        ids = list(dict.fromkeys(firing.index.ids[_stored(row)] for row, _ in acting(firing.routed)))
        firing.fused, firing.coming = None, None
        firing.held = {name: self._hot[name] for name in ids if name in self._hot}
        if missing := [name for name in ids if name not in firing.held]:
            firing.coming = self._reader.submit(self.bank.neurons, missing)
        elif ids:
            self._take_in(firing)

    def _take_in(self, firing: Firing) -> None:
        """Fuse the chosen neurons, those that had to be read among them, and keep them in memory."""
        if firing.coming is not None:
            read, firing.coming = firing.coming.result(), None
            firing.held |= {name: dequantise(*told) for name, told in read.items()}
        rows, weights = zip(*acting(firing.routed), strict=True)
        neurons = [firing.held[firing.index.ids[_stored(row)]] for row in rows]
        drawn = [b if row >= 0 else random_like(b, firing.seed) for row, b in zip(rows, neurons, strict=True)]
        firing.fused = self._fuse(drawn, weights).to(self.backbone.device)
        for name, neuron in firing.held.items():
            self._hot[name] = neuron
            self._hot.move_to_end(name)
        while len(self._hot) > HOT_NEURONS:
            self._hot.popitem(last=False)

    def _speak(self, firings: Sequence[Firing], place: int, units: Tensor, output: Tensor) -> Tensor | None:
        """y = W x + sum_i a_i B_i A (x - mu) at the last position; None, and no change, when nothing fires."""
        for firing in firings:
            if firing.coming is not None:
                self._take_in(firing)
        speaking = [firing.fused for firing in firings if firing.fused is not None]
        if not speaking:
            return None
        read = self.space.read(place, units[:, -1].float())  # [B, R]
        if len(firings) == 1:
            said = read @ speaking[0][place]
        else:
            silent = torch.zeros_like(speaking[0][place])
            fused = torch.stack([silent if f.fused is None else f.fused[place] for f in firings])
            said = (read[:, None] @ fused)[:, 0]
        changed: Tensor = output.clone()  # never in place: other hooks may hold the output
        changed[:, -1].add_(said)
        return changed


def acting(routed: Routed) -> list[tuple[int, float]]:
    """(row, weight) of the chosen neurons that have a say; a row below 0 is a random neuron like that of row ~row."""
    return [(r, w) for r, w in zip(routed.rows, routed.weights, strict=True) if w > 1e-3]


def _stored(row: int) -> int:
    return row if row >= 0 else ~row


def _allowed(index: RoutingIndex, labels: Sequence[str] | None, without: Sequence[str]) -> np.ndarray | None:
    """[N] mask of the rows a request may see, or None for all."""
    if labels is None and not without:
        return None
    held, hidden = frozenset(labels or ()), frozenset(without)
    told = zip(index.document_ids, index.labels, strict=True)
    return np.array(
        [doc not in hidden and (labels is None or not own or bool(own & held)) for doc, own in told], dtype=bool
    )


def random_like(neuron: Tensor, seed: int) -> Tensor:
    """A random neuron with the same norm in every layer: the control for "any perturbation helps"."""
    drawn = torch.randn(neuron.shape, generator=torch.Generator().manual_seed(seed))
    scaled: Tensor = drawn * (neuron.norm(dim=(1, 2), keepdim=True) / drawn.norm(dim=(1, 2), keepdim=True))
    return scaled
