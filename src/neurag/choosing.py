"""Choosing between two answers to a question: what was read in passages, and what the neurons say alone.

The reader, which sees the passages, judges: the neurons' answer is given where it is nearly as likely to the reader as
its own. Both err, but differently, so an answer that both find likely is right more often than either's alone
(docs/fidelity.md). Not here: how the two come about (model.py).

    >>> prefers(reader, [prompt.ids], [read_ids], [known_ids])           # doctest: +SKIP
    [True]
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .backbone import Backbone
from .packed import Columns, Piece, final_states

NEARLY = 2.0
"""Nats by which the neurons' answer may be less likely to the reader than its own. From 1 to 4 it makes no difference
of more than two questions in 108."""

Ids = Sequence[int]


def prefers(reader: Backbone, prompts: Sequence[Ids], read: Sequence[Ids], known: Sequence[Ids]) -> list[bool]:
    """Of each prompt, whether `known` shall be said in place of `read`; both are token ids without an end."""
    pairs = likelihoods(reader, prompts, list(zip(read, known, strict=True)))
    return [other > own - NEARLY for own, other in pairs]


@torch.no_grad()
def likelihoods(backbone: Backbone, prompts: Sequence[Ids], answers: Sequence[Sequence[Ids]]) -> list[list[float]]:
    """Log-likelihood in nats of each of a prompt's answers, and that it ends there. A prompt is read once for all."""
    rows: list[list[Piece]] = []
    places: list[tuple[int, int]] = []
    targets: list[int] = []
    for row, (prompt, told) in enumerate(zip(prompts, answers, strict=True)):
        at = len(prompt) - 1
        rows.append([Piece(0, 0, prompt[:-1])])
        for segment, answer in enumerate(told, 1):
            rows[-1].append(Piece(segment, len(prompt) - 1, [prompt[-1], *answer]))
            places += [(row, at + n) for n in range(len(answer) + 1)]
            targets += [*answer, backbone.tokenizer.eos_token_id]
            at += len(answer) + 1
    states = final_states(backbone, Columns.of(rows, backbone.device))
    which, column = zip(*places, strict=True)
    logits = backbone.part(backbone.family.head)(states[list(which), list(column)]).float().log_softmax(-1)
    scores = iter(logits.gather(1, torch.tensor(targets, device=logits.device)[:, None])[:, 0].tolist())
    return [[sum(next(scores) for _ in range(len(answer) + 1)) for answer in told] for told in answers]
