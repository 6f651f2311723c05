"""Routing: the question's hidden states choose neurons by token-level late interaction.

Every question token t is a query, every token of a document a key, all in the calibrated space of one layer.
With m_it the best similarity of t among neuron i's keys, chance is taken off first:

    r_it = max(0, (m_it - b_t(n_i)) / d_t - c)        b_t(n): what n neutral keys reach by chance, d_t: its spread
    S_i  = sum_t r_it / sum_t r*_t                     r*_t: the same for an exact match

so S_i in 0..1 is the share of the question's information that document i matches, whatever else is in the
bank. The top k are taken one by one, each scored partly on what the ones before it left unmatched: a second
document is worth having for what the first does not say. Not here: what the chosen neurons do (layer.py).

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
from ..hooks import read_output
from ..knowledge.bank import IndexBatch
from ..knowledge.calibration import Calibration, run_layers
from ..prompts import question_prompt

MARGIN = 0.5
"""c, in deviations: matches nearer to chance than this say nothing."""
COARSE_KEYS = 128
COARSE_WIDTH = 32
COARSE_TOKENS = 12
"""Query tokens that the coarse pass looks at, those that can tell most. With 32 keys of 64 axes it lost 6 points of
recall@5 on SQuAD; with these, at twice the bytes, none (docs/fidelity.md)."""
COMPETING = 0.9
"""Share of the better match that two rows must have in common to be two versions of the same thing."""
REFERENCE_LENGTH = 120.0
"""Window length at which chance is measured (calibration.WINDOWS)."""


@dataclass(frozen=True)
class RoutingIndex:
    """The keys of a bank, laid out for scoring. N rows (chunks), keys concatenated in row order."""

    ids: list[str]
    document_ids: list[str]
    labels: list[frozenset[str]]
    timestamps: list[str]
    starts: np.ndarray
    """[N + 1] first key of each row."""
    keys: Tensor
    """[sum n_i, key_width] in the format of the products."""
    coarse: Tensor
    """[COARSE_KEYS, N, COARSE_WIDTH] the leading axes of the most salient keys."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Routed:
    """What routing chose: row numbers best first, their scores S and attention weights a."""

    rows: tuple[int, ...]
    scores: tuple[float, ...]
    weights: tuple[float, ...]

    @property
    def abstained(self) -> bool:
        """True when nothing beat the null score."""
        return not self.weights or max(self.weights) < 1.0


class Query:
    """The question's tokens with their yardsticks; kept so that generated tokens can join."""

    def __init__(self, calibration: Calibration, states: Tensor) -> None:
        self.states = states  # [T, key_width]
        self.base, self.deviation, self.growth = calibration.surprise(states)
        self.best = ((1 - self.base) / self.deviation - MARGIN).clamp(min=0)  # r* [T]

    def surprise(self, similar: Tensor, lengths: Tensor) -> Tensor:
        """r: [T, N] best similarities in rows of the given lengths -> [T, N]."""
        chance = self.base[:, None] + self.growth[:, None] * torch.log(lengths / REFERENCE_LENGTH)[None]
        return ((similar - chance) / self.deviation[:, None] - MARGIN).clamp(min=0)


class Router:
    """Scores a bank's rows for a question and picks the active ones."""

    def __init__(self, calibration: Calibration, options: RouteOptions) -> None:
        self.calibration = calibration
        self.options = options

    def build(self, batches: Iterable[IndexBatch], dtype: torch.dtype = torch.float32) -> RoutingIndex:
        """Lay out a bank's keys; `dtype` is the format of the products (backbone.processor_format is fastest)."""
        ids: list[str] = []
        documents: list[str] = []
        labels: list[frozenset[str]] = []
        timestamps: list[str] = []
        lengths: list[np.ndarray] = []
        keys: list[Tensor] = []
        for batch in batches:
            ids += batch.ids
            documents += batch.document_ids
            labels += [frozenset(x) for x in batch.labels]
            timestamps += batch.timestamps
            lengths.append(batch.lengths)
            keys.append(torch.from_numpy(batch.keys.copy()).to(dtype))
        starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]) if lengths else np.zeros(1, np.int64)
        width = self.calibration.whiten.shape[1]
        joined = torch.cat(keys) if keys else torch.zeros(0, width, dtype=dtype)
        return RoutingIndex(
            ids, documents, labels, timestamps, starts.astype(np.int64), joined, _coarse(joined, starts, dtype)
        )

    @torch.no_grad()
    def route(
        self,
        index: RoutingIndex,
        states: Tensor,
        allowed: np.ndarray | None = None,
        importance: Tensor | None = None,
    ) -> Routed:
        """Choose up to K rows.

        `states` is [T, key_width], `allowed` [N] masks rows before they are scored, `importance` [T] weighs
        the tokens (1 each by default; rerouting lets older ones fade).
        """
        rows = np.arange(len(index)) if allowed is None else np.flatnonzero(allowed)
        if not len(rows) or not len(states):
            return Routed((), (), ())
        query = Query(self.calibration, states.float().cpu())
        if importance is not None:
            query.best = query.best * importance
        if len(rows) > self.options.exact_below:
            rows = self._candidates(index, query, rows)
        matched = self._exact(index, query, rows)  # r: [T, M]
        if importance is not None:
            matched = matched * importance[:, None]
        return self._choose(index, rows, matched / query.best.sum().clamp(min=1e-6))

    def _candidates(self, index: RoutingIndex, query: Query, rows: np.ndarray) -> np.ndarray:
        """The rows that score best on their few most salient keys in the leading axes."""
        wanted = torch.from_numpy(rows)
        coarse = index.coarse if len(rows) == len(index) else index.coarse[:, wanted]
        telling = query.best.topk(min(COARSE_TOKENS, len(query.best))).indices
        leading = torch.nn.functional.normalize(query.states[telling, :COARSE_WIDTH], dim=-1).to(coarse.dtype)
        # weighting the tokens by r* here stands in for the chance correction
        best = _maximum((coarse.reshape(-1, coarse.shape[-1]) @ leading.T).reshape(*coarse.shape[:2], -1))
        scores = best.float().clamp(min=0) ** 2 @ query.best[telling]
        count = min(self.options.candidates, len(rows))
        best_rows: np.ndarray = rows[scores.topk(count).indices.sort().values.numpy()]
        return best_rows

    def _exact(self, index: RoutingIndex, query: Query, rows: np.ndarray) -> Tensor:
        """r for every query token and every row in `rows`: [T, M]."""
        lengths = index.starts[rows + 1] - index.starts[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        keys = index.keys
        if len(rows) < len(index):  # whole rows are copied faster than single keys are gathered
            keys = torch.cat([keys[a:b] for a, b in zip(index.starts[rows], index.starts[rows + 1], strict=True)])
        similar = (query.states.to(keys.dtype) @ keys.T).float().numpy()
        best = np.maximum.reduceat(similar, offsets, axis=1)
        return query.surprise(torch.from_numpy(best), torch.from_numpy(lengths).float().clamp(min=1))

    def _choose(self, index: RoutingIndex, rows: np.ndarray, shares: Tensor) -> Routed:
        """Greedy choice with coverage. `shares` [T, M]: r / sum r*; S is its sum over tokens."""
        scores, covered = shares.sum(0), torch.zeros(len(shares))
        chosen: list[int] = []
        for _ in range(min(self.options.top_k, len(rows))):
            fresh = (shares - covered[:, None]).clamp(min=0).sum(0)
            value = (1 - self.options.coverage) * scores + self.options.coverage * fresh
            value[chosen] = -1.0
            chosen.append(int(value.argmax()))
            covered = torch.maximum(covered, shares[:, chosen[-1]])
        if self.options.conflict == "newest":
            chosen = _newest(chosen, shares, [index.timestamps[rows[c]] for c in chosen])
        own = scores[chosen]
        top = torch.maximum(own.max(), torch.tensor(self.options.null))
        weights = torch.exp((own - top) / self.options.temperature)
        return Routed(tuple(int(rows[c]) for c in chosen), tuple(own.tolist()), tuple(weights.tolist()))


def _newest(chosen: list[int], shares: Tensor, timestamps: list[str]) -> list[int]:
    """Of rows that match the same words equally well, keep those with the latest timestamp.

    Two rows compete when what they match in common is nearly all that either matches. Rows without a
    timestamp do not compete. ISO 8601 sorts as text.
    """
    dates = {c: t for c, t in zip(chosen, timestamps, strict=True) if t}
    dated = sorted(dates, key=lambda c: dates[c], reverse=True)
    dropped: set[int] = set()
    for place, newer in enumerate(dated):
        for older in dated[place + 1 :]:
            common = torch.minimum(shares[:, newer], shares[:, older]).sum()
            either = torch.maximum(shares[:, newer].sum(), shares[:, older].sum())
            same_day = dates[newer] == dates[older]
            if newer not in dropped and not same_day and float(common) >= COMPETING * float(either):
                dropped.add(older)
    return [c for c in chosen if c not in dropped]


def _coarse(keys: Tensor, starts: np.ndarray, dtype: torch.dtype) -> Tensor:
    """[COARSE_KEYS, N, width]: keys are stored most salient first, so these are the first few of each row."""
    width = min(COARSE_WIDTH, keys.shape[1])
    made = torch.zeros(COARSE_KEYS, len(starts) - 1, width, dtype=dtype)
    for row in range(len(starts) - 1):
        first = keys[starts[row] : min(starts[row] + COARSE_KEYS, starts[row + 1]), :width].float()
        made[: len(first), row] = torch.nn.functional.normalize(first, dim=-1).to(dtype)
    return made


def _maximum(values: Tensor) -> Tensor:
    """Maximum over the first axis, halving it: ten times as fast as `amax` on a CPU."""
    while len(values) > 1:
        half = (len(values) + 1) // 2
        values = torch.maximum(values[:half], values[-half:])
    return values[0]


@torch.no_grad()
def question_states(backbone: Backbone, calibration: Calibration, question: str) -> Tensor:
    """[T, key_width] queries of a question's own tokens inside its prompt."""
    prompt = question_prompt(backbone, question)
    kept: list[Tensor] = []
    with read_output(backbone.layers[calibration.layer - 1], kept.append):
        run_layers(backbone, torch.tensor([prompt.ids], device=backbone.device), calibration.layer)
    return calibration.project(kept[0][0, prompt.span[0] : prompt.span[1]])
