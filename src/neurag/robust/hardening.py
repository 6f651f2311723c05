"""Hardening a backbone in place: stage 1 on units that noise drives, stage 2 in layers that read evidence.

    stage 1 (denoising)    units exclusive to irrelevant contexts are multiplied by a factor, or trained themselves
    stage 2 (distillation) the FFN blocks of the layers densest in units exclusive to relevant contexts learn, from
                           mixed contexts, what the clean ones make the model say; silenced units stay silenced

All baselines are this with other options (systems.py). Not here: mining (mining.py), folders and cards (checkpoint.py).

    >>> hardened = harden(backbone, units, questions, HardenOptions())          # doctest: +SKIP
    >>> hardened.layers, len(hardened.units)                                    # doctest: +SKIP
    ([16, 17, 19], 72)
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..backbone import Backbone
from .choice import choose_layers, choose_units
from .contexts import Question
from .lessons import Lesson, lessons
from .options import HardenOptions
from .silencing import columns_of, fold_silence
from .trained import Beside, Trained, Weights, count, equal_rank, parameters_of
from .tuning import Schedule, TuneProgress, train
from .units import Units

CHECKPOINTS = "denoising.pt", "distillation.pt"
Report = Callable[[TuneProgress], None]


@dataclass(frozen=True)
class Hardened:
    """What was done to a backbone."""

    units: frozenset[int]
    """What stage 1 acted on."""
    layers: tuple[int, ...]
    """What stage 2 tuned; empty where that was all of them, or none."""
    trainable: int
    """Numbers that were trained, of both stages."""
    parameters: int
    """Numbers of the model."""
    losses: Mapping[str, float]
    """Mean of the last steps of each stage that trained, in nats a token."""
    seconds: float
    """Of this run; one that went on with a checkpoint does not know the earlier ones'."""

    @property
    def share(self) -> float:
        """Of the model that was trained."""
        return self.trainable / self.parameters


@dataclass(frozen=True)
class Cost:
    """What a run will take."""

    trainable: int
    parameters: int
    bytes: int
    """Weights, masters, optimiser and gradients; activations come on top."""
    activation_bytes: int
    """Of one step, about."""
    seconds: float
    """From one timed pass."""


def harden(
    backbone: Backbone,
    units: Units | None,
    questions: Sequence[Question],
    options: HardenOptions,
    folder: Path | None = None,
    progress: Report | None = None,
    made: Sequence[Lesson] | None = None,
) -> Hardened:
    """Change the backbone's weights as the options say; checkpoints go to `folder`. `made`: lessons made before.

    Raises UsageError for options that do not fit, NeuragError where there is nothing to act on or to learn from.
    """
    begun, begin = time.perf_counter(), backbone.fingerprint
    chosen = choose_units(units, options)
    layers = choose_layers(units, backbone.depth, options)  # refused before any work
    columns = columns_of(backbone, chosen)
    begin += hashlib.sha256(repr(sorted(chosen)).encode()).hexdigest()[:8]
    paths = [folder / name if folder else None for name in CHECKPOINTS]
    losses, trainable = {}, 0
    if options.units != "none" and options.denoise == "train":
        denoised = Weights.of_units(backbone, columns)
        role = replace(options, target="answer", absent="not_stated")
        own = lessons(backbone, questions, role, options.denoise_steps * options.batch_tokens)
        told = Schedule(options.denoise_steps, options.rate("units"), stage="denoising", begin=begin)
        losses["denoising"] = train(backbone, denoised, own, role, told, paths[0], progress)
        trainable += count(denoised)
        columns = {}  # they are not silenced, so stage 2 may move them
    else:
        fold_silence(backbone, chosen, options.factor)
    if options.distils:
        trained = _trained(backbone, layers, columns if options.factor == 0 else {}, options)
        made = made or lessons(backbone, questions, options, options.steps * options.batch_tokens)
        told = Schedule(options.steps, options.rate(options.trains), options.loss, begin=begin)
        losses["distillation"] = train(backbone, trained, made, options, told, paths[1], progress)
        trainable += count(trained)
    backbone.__dict__.pop("fingerprint", None)  # kept from before: the weights are others now
    seconds = round(time.perf_counter() - begun, 1)
    return Hardened(chosen, tuple(layers), trainable, parameters_of(backbone), losses, seconds)


def plan(backbone: Backbone, questions: Sequence[Question], options: HardenOptions) -> Cost:
    """What stage 2 will take; nothing is changed. Which layers are tuned makes no difference to it."""
    where = replace(options, layers="last" if options.layers != "none" else "none")
    trained = _trained(backbone, choose_layers(None, backbone.depth, where), {}, options) if options.distils else None
    size = next(backbone.model.parameters()).element_size()
    whole, own = parameters_of(backbone), count(trained) if trained else 0
    held = whole * size + own * (3 * 4 + size)  # master and two moments in float32, a gradient
    alive = min(options.batch_tokens, options.micro_tokens) * backbone.depth
    kept = alive * (8 * backbone.width + 4 * backbone.ffn_width) * size if trained else 0
    return Cost(own, whole, held, kept, _seconds(backbone, questions, options) if trained else 0.0)


def _trained(
    backbone: Backbone, layers: Sequence[int], silent: Mapping[int, Tensor], options: HardenOptions
) -> Trained:
    if options.trains == "lora":
        return Beside(backbone, options.rank or equal_rank(backbone, options.layer_count), options.seed)
    if options.trains == "full":
        return Weights.of_all(backbone, silent)
    return Weights.of_layers(backbone, layers, silent)


def _seconds(backbone: Backbone, questions: Sequence[Question], options: HardenOptions) -> float:
    """A forward pass of a few lessons, timed; a step is taken for three of them, and one for the clean prompts."""
    few = lessons(backbone, questions, options, min(2048, options.batch_tokens))
    body = backbone.part(backbone.family.body)
    taken = []
    for lesson in (few[0], *few):  # the first call of anything is slow
        begun = time.perf_counter()
        with torch.no_grad():
            states = body(input_ids=torch.tensor([lesson.prompt], device=backbone.device), use_cache=False)[0]
        float(states[0, 0, 0])  # waits for a GPU
        taken.append(time.perf_counter() - begun)
    pace = sum(taken[1:]) / sum(len(lesson.prompt) for lesson in few)
    return pace * options.steps * options.batch_tokens * (3 if options.loss == "sft" else 3.5)
