"""What a question asks for: directions in the units of every layer that tell questions apart by it.

A neuron must say its founder when asked for the founder, in whatever words. Of everything the units hold at the
last prompt token, the directions kept here vary with what is asked and little with the wording or with what it
is asked about: Fisher's linear discriminant over neutral questions that ship with the package
(`neutral/questions.tsv`: a line for what is asked, its wordings, asked about each of NAMES). Our inference; with
these in the place of half the random directions unseen wordings are answered more often (docs/fidelity.md).
Not here: the input space built from them (neurons.py).

    >>> directions, mean = asked_directions(backbone, lines, unit_scale)     # doctest: +SKIP
    >>> directions.shape                                # [depth, ASKED, F]  # doctest: +SKIP
    torch.Size([30, 8, 1536])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..backbone import Backbone
from ..prompts import question_prompt
from .states import last_units

NAMES = ("Marlow", "the Dunmore barn", "Anna Hale")
ASKED = 8
"""Directions a layer. Twelve or sixteen did worse: the further ones tell more about the wording."""
AXES = 100
"""Leading principal axes in which the discriminant is computed, so that it has more questions than axes."""
RIDGE = 0.1
"""Share of the mean variance within a class that is added to every axis."""


def asked_directions(backbone: Backbone, lines: Sequence[str], unit_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Directions [depth, ASKED, F] with a root mean square of one over the questions, and the units' mean
    there, [depth, F]. `lines` are tab-separated wordings with {} for a name; `unit_scale` is [depth, F]."""
    asked = [(number, wording.format(name)) for number, line in enumerate(lines)
             for wording in line.split("\t") for name in NAMES]  # fmt: skip
    kinds = torch.tensor([number for number, _ in asked])
    units = _last_units(backbone, [question for _, question in asked]).transpose(0, 1).cpu()  # [depth, n, F]
    floor = floored(unit_scale.cpu())
    found = [_discriminant((x - x.mean(0)) / f, kinds) / f for x, f in zip(units, floor, strict=True)]
    return torch.stack(found).to(backbone.device), units.mean(1).to(backbone.device)


def floored(spread: Tensor) -> Tensor:
    """The spread of each unit, [depth, F], raised a little so that a unit that hardly ever fires is not blown up."""
    return spread + 0.1 * spread.mean(1, keepdim=True)


def _discriminant(units: Tensor, kinds: Tensor) -> Tensor:
    """[n, F] centred units and their classes [n] -> [ASKED, F]."""
    axes = torch.linalg.svd(units, full_matrices=False)[2][:AXES]  # [k, F]
    states = units @ axes.T
    means = torch.stack([states[kinds == kind].mean(0) for kind in range(int(kinds.max()) + 1)])
    within = states - means[kinds]
    spread = within.T @ within / len(within)
    spread = spread + RIDGE * spread.diag().mean() * torch.eye(len(axes))
    whiten = torch.linalg.cholesky(torch.linalg.inv(spread))  # spread^-1 = whiten whiten^T
    between = (means - means.mean(0)) @ whiten
    directions: Tensor = torch.linalg.svd(between, full_matrices=False)[2][:ASKED] @ whiten.T @ axes
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    size = largest.sign() * (units @ directions.T).pow(2).mean(0).sqrt()[:, None]
    return directions / size  # with a fixed sign: a singular vector's is arbitrary


def _last_units(backbone: Backbone, questions: Sequence[str]) -> Tensor:
    """[n, depth, F] inputs of every down projection at the last prompt token."""
    prompts = [question_prompt(backbone, question).ids for question in questions]
    return torch.stack([units[:, 0].cpu() for units in last_units(backbone, prompts, [1] * len(prompts))])
