"""Routing: the question's hidden states choose neurons by token-level late interaction.

Every question token t is a query, every token of a document a key, all in the calibrated space of one layer.
With m_it the best similarity of t among neuron i's keys, chance is taken off first (knowledge/chance.py):

    r_it = max(0, (m_it - b_t(n_i)) / d_t - c)        b_t(n): what n neutral keys reach by chance, d_t: its spread
    S_i  = sum_t r_it / sum_t r*_t                     r*_t: the same for an exact match

so S_i in 0..1 is the share of the question's information that document i matches, whatever else is in the
bank. The top k are taken one by one, each scored partly on what the ones before it left unmatched, and a little on
being mentioned in the first (links.py): a second document is worth having for what the first does not say. Not
here: which rows of a large bank are scored at all (coarse.py), which of two versions speaks (conflicts.py), and what
the chosen neurons do (layer.py).

    >>> router.route(index, question_states(backbone, calibration, "Who ...?"))    # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..backbone import Backbone
from ..config import RouteOptions
from ..knowledge.bank import IndexBatch
from ..knowledge.calibration import Calibration
from ..knowledge.chance import NEUTRAL, Yardstick
from ..knowledge.key_codes import decoded
from ..knowledge.states import span_states
from ..packing import PackedMatrix
from ..prompts import question_prompt
from .coarse import CoarseKeys, block
from .conflicts import SIDES, Standing, competing, known_policy, settle
from .held_keys import HeldKeys
from .links import Openings


@dataclass(frozen=True)
class RoutingIndex:
    """What is known of a bank's N rows (chunks), laid out for scoring."""

    ids: list[str]
    document_ids: list[str]
    labels: list[frozenset[str]]
    timestamps: list[str]
    trusts: list[float | None]
    keys: HeldKeys
    coarse: CoarseKeys
    openings: Openings

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Routed:
    """What routing chose: row numbers best first, their scores S and attention weights a."""

    rows: tuple[int, ...]
    scores: tuple[float, ...]
    weights: tuple[float, ...]
    contest: tuple[int, ...] = ()
    """Rows that compete for the lead, one a document, the one that leads first; empty where nobody competes with it."""

    @property
    def abstained(self) -> bool:
        """True when nothing beat the null score."""
        return not self.weights or max(self.weights) < 1.0


class Router:
    """Scores a bank's rows for a question and picks the active ones."""

    def __init__(self, calibration: Calibration, options: RouteOptions) -> None:
        """Raises UsageError for a policy on conflicts that is none."""
        known_policy(options.conflict)
        self.calibration = calibration
        self.options = options
        self._neutral = PackedMatrix(calibration.neutral[:NEUTRAL])

    def build(self, batches: Iterable[IndexBatch], dtype: torch.dtype = torch.float32) -> RoutingIndex:
        """Lay out a bank's keys; `dtype` is the format of the products (backbone.processor_format is fastest)."""
        ids: list[str] = []
        documents: list[str] = []
        labels: list[frozenset[str]] = []
        timestamps: list[str] = []
        trusts: list[float | None] = []
        lengths: list[np.ndarray] = []
        keys: list[np.ndarray] = []
        coarse: list[PackedMatrix] = []
        width = self.calibration.whiten.shape[1]
        openings = [Openings.none(width)]
        for batch in batches:
            ids += batch.ids
            documents += batch.document_ids
            labels += [frozenset(x) for x in batch.labels]
            timestamps += batch.timestamps
            trusts += batch.trusts
            lengths.append(batch.lengths)
            keys.append(batch.keys.copy())  # a view would keep all that was read with it in memory
            unpacked = torch.from_numpy(decoded(keys[-1], width))
            starts = np.concatenate([[0], np.cumsum(batch.lengths)])
            coarse.append(block(unpacked, starts, dtype))
            openings.append(Openings.of(unpacked.half(), batch.positions, starts))
        held = HeldKeys.of(keys, lengths, width, dtype, whole=len(ids) <= self.options.exact_below)
        columns = (ids, documents, labels, timestamps, trusts)
        return RoutingIndex(*columns, held, CoarseKeys(tuple(coarse)), Openings.joined(openings))

    @torch.no_grad()
    def route(
        self,
        index: RoutingIndex,
        states: Tensor,
        allowed: np.ndarray | None = None,
        importance: Tensor | None = None,
        top_k: int | None = None,
    ) -> Routed:
        """Choose up to K rows (`top_k`, by default that of the options).

        `states` is [T, key_width], `allowed` [N] masks rows before they are scored, `importance` [T] weighs
        the tokens (1 each by default; rerouting lets older ones fade).
        """
        rows = np.arange(len(index)) if allowed is None else np.flatnonzero(allowed)
        if not len(rows) or not len(states):
            return Routed((), (), ())
        states = states.float().cpu()
        yardstick = self.yardstick(states)
        best, weights = yardstick.best, torch.ones(len(states)) if importance is None else importance
        if len(rows) > self.options.exact_below:
            rows = index.coarse.candidates(states, best * weights, rows, self.options.candidates)
        matched = self._exact(index, states, yardstick, rows)  # r: [T, M]
        weights = weights / (weights @ best).clamp(min=1e-6)
        shares, covers = matched * weights[:, None], yardstick.covered(matched) * weights[:, None]
        return self._choose(index, rows, shares.numpy(), covers.numpy(), top_k or self.options.top_k)

    def yardstick(self, states: Tensor) -> Yardstick:
        """Chance for the tokens of a question, [T, key_width] on the CPU."""
        return Yardstick.of(self._neutral(states))

    def _exact(self, index: RoutingIndex, states: Tensor, yardstick: Yardstick, rows: np.ndarray) -> Tensor:
        """r for every query token and every row in `rows`: [T, M]."""
        lengths = index.keys.starts[rows + 1] - index.keys.starts[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        keys = index.keys.rows(rows)
        similar = (states.to(keys.dtype) @ keys.T).float().numpy()
        best = np.maximum.reduceat(similar, offsets, axis=1)
        return yardstick.surprise(torch.from_numpy(best), torch.from_numpy(lengths).float())

    def _choose(
        self, index: RoutingIndex, rows: np.ndarray, shares: np.ndarray, covers: np.ndarray, top_k: int
    ) -> Routed:
        """Greedy choice with coverage and links. `shares` [T, M]: r / sum r*, so that S is its sum over tokens;
        `covers` [T, M]: how much of that counts as said when the row has been chosen. In numpy: many small steps."""
        scores, covered = shares.sum(0), np.zeros(len(shares), np.float32)
        chosen: list[int] = [int(scores.argmax())]
        linked = self._linked(index, rows, chosen[0]) if self.options.link and top_k > 1 else 0.0
        while len(chosen) < min(top_k, len(rows)):
            covered = np.maximum(covered, covers[:, chosen[-1]])
            fresh = np.maximum(shares - covered[:, None], 0).sum(0)
            value = (1 - self.options.coverage) * scores + self.options.coverage * fresh + linked
            value[chosen] = -1.0
            chosen.append(int(value.argmax()))
        chosen, contest = self._settled(index, rows, shares, chosen)
        own = scores[chosen]
        weights = np.exp((own - max(own.max(), self.options.null)) / self.options.temperature)
        routed = tuple(int(rows[c]) for c in chosen)
        return Routed(routed, tuple(own.tolist()), tuple(weights.tolist()), contest)

    def _settled(
        self, index: RoutingIndex, rows: np.ndarray, shares: np.ndarray, chosen: list[int]
    ) -> tuple[list[int], tuple[int, ...]]:
        """The choice after the policy on conflicts, and the contest for the lead, which all of `rows` may join."""
        joined = competing(shares, chosen[0], self.options.competing).tolist()
        standing = self._standing(index, rows, {*chosen, *joined})
        lead = standing.get(chosen[0])
        above = [c for c in joined if lead is not None and c in standing and standing[c] > lead]
        pool = list(dict.fromkeys([*chosen, *sorted(above, key=standing.__getitem__)[-1:]]))
        kept = settle(pool, shares, standing, self.options.competing)[: len(chosen)] if standing else chosen
        order = sorted(joined, key=lambda c: (c != kept[0], -shares[:, c].sum()))
        one_each = {index.document_ids[rows[c]]: int(rows[c]) for c in reversed(order)}
        contest = tuple(int(rows[c]) for c in order if one_each[index.document_ids[rows[c]]] == rows[c])[:SIDES]
        return kept, contest if len(contest) > 1 else ()

    def _standing(self, index: RoutingIndex, rows: np.ndarray, places: Iterable[int]) -> Standing:
        """What the policy knows of the documents at some places of `rows`. ISO 8601 sorts as text."""
        if self.options.conflict == "newest":
            return {c: told for c in places if (told := index.timestamps[rows[c]])}
        if self.options.conflict == "trusted":
            return {c: trust for c in places if (trust := index.trusts[rows[c]]) is not None}
        return {}

    def _linked(self, index: RoutingIndex, rows: np.ndarray, first: int) -> np.ndarray:
        """What being mentioned in the row chosen first adds to each row's value, [M]; other documents only."""
        lead = int(rows[first])
        other = np.array([index.document_ids[row] != index.document_ids[lead] for row in rows], np.float32)
        linked: np.ndarray = self.options.link * other * index.openings.mentioned(index.keys.row(lead), rows)
        return linked


@torch.no_grad()
def question_states(backbone: Backbone, calibration: Calibration, question: str) -> Tensor:
    """[T, key_width] queries of a question's own tokens inside its prompt."""
    return calibration.project(next(span_states(backbone, [question_prompt(backbone, question)], calibration.layer)))
