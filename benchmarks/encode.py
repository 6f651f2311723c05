"""Encoding: our encoder against PRAG's layout trained by PEFT one document at a time.

Same documents (invented companies), same backbone and number format, same augmentation (gold question-answer
pairs), same criterion: on phrasings neither has seen, every answer token and the end token is the most likely
one, teacher-forced. Ours is measured as stored (int8). PRAG's layout is rank 2 on gate, up and down of every
layer, A and B trained, AdamW, the loss over the whole sequence, batch 1; its time counts training steps only.
Not measured: augmentation by the backbone, keys, routing, free-running generation.

    python benchmarks/encode.py [--quick] [--json OUT]
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common import Report, arguments, tracked
from invented import Company, companies
from neurag.backbone import Backbone
from neurag.config import EncodeOptions
from neurag.knowledge.band import Lesson, Prepared, band_logits, prepare
from neurag.knowledge.calibration import load_calibration
from neurag.knowledge.encoder import interference, own_delta, train_neurons
from neurag.knowledge.neurons import InputSpace, dequantise, quantise
from neurag.knowledge.spaces import new_space
from neurag.loading import load_backbone
from prag import measure_prag, prag_bytes, prag_recipe, texts


@dataclass(frozen=True)
class Ours:
    """The neurons of all documents as they come back from the bank, and what making them took."""

    space: InputSpace
    neurons: Tensor
    """[N, L, R, D] in the backbone's number format."""
    tests: Prepared
    bytes_each: float
    batches: Tensor
    """[N] number of the training batch of each document."""


def open_space(backbone: Backbone, options: EncodeOptions) -> InputSpace:
    """The shared input side, drawn once per bank."""
    return new_space(backbone, load_calibration(backbone), options)


def train_ours(
    backbone: Backbone, space: InputSpace, documents: Sequence[Company], options: EncodeOptions
) -> tuple[list[Tensor], float]:
    """Neurons of every batch, [n, L, R, D] each, and the wall seconds of all of it."""
    made = []
    start = time.perf_counter()
    for first in tracked(range(0, len(documents), options.batch), "our encoder, batches"):
        group = documents[first : first + options.batch]
        lessons = [Lesson(i, *t) for i, company in enumerate(group) for t in texts(backbone, company.learn)]
        made.append(train_neurons(backbone, space, lessons, len(group), options, options.seed + first))
    return made, time.perf_counter() - start


def as_stored(backbone: Backbone, space: InputSpace, documents: Sequence[Company], made: Sequence[Tensor]) -> Ours:
    """Quantise, read back, and prepare the unseen questions."""
    values, scales = quantise(torch.cat(list(made)))
    shape = made[0].shape[1:]  # L, R, D
    stored = zip(values, scales, strict=True)
    back = [dequantise(v.reshape(shape), s.reshape(shape[:2])) for v, s in stored]
    lessons = [Lesson(i, *t) for i, company in enumerate(documents) for t in texts(backbone, company.ask)]
    return Ours(
        space,
        torch.stack(back).to(backbone.device, backbone.dtype),
        prepare(backbone, lessons, space.layers),
        (values.nbytes + scales.nbytes) / len(documents),
        torch.cat([torch.full((len(batch),), i) for i, batch in enumerate(made)]),
    )


@torch.no_grad()
def exact(backbone: Backbone, ours: Ours, acting: Tensor, first: int | None = None) -> float:
    """Share of the unseen questions answered exactly when document i's questions meet `acting[i]`.

    `first` limits the questions to the first so many documents.
    """
    tests = ours.tests
    logits = band_logits(backbone, tests, ours.space.layers, own_delta(ours.space, acting, tests.documents))
    taken = tests.documents < (first if first is not None else len(acting))
    numbers, missed = tests.lessons, logits.argmax(-1) != tests.targets
    asked = len(numbers[taken].unique())
    return (asked - len(numbers[taken & missed].unique())) / asked


def fused_figures(backbone: Backbone, ours: Ours, own: float, seed: int) -> dict[str, float]:
    """What is left when other neurons are active beside the right one.

    The three others come from other training batches where there are any, so that the encoder's own
    rehearsal with its batch does not help; two_right pairs document i with i + N/2.
    """
    count = len(ours.neurons)
    generator = torch.Generator().manual_seed(seed)
    mix = interference(count, 3, 0.3, generator)
    if len(ours.batches.unique()) > 1:
        draw = torch.rand(count, count, generator=generator)
        draw[ours.batches[:, None] == ours.batches] = -1.0
        mix = torch.zeros(count, count).scatter_(1, draw.topk(3).indices, 0.3)
    mix = mix.to(ours.neurons)
    four = exact(backbone, ours, ours.neurons + torch.einsum("ij,jlrd->ilrd", mix, ours.neurons))
    both = exact(backbone, ours, ours.neurons + ours.neurons.roll(-(count // 2), 0))
    return {"four_active_kept": four / own if own else 0.0, "two_right": both}


def measure_ours(report: Report, backbone: Backbone, documents: Sequence[Company], seed: int) -> tuple[Ours, float]:
    """All figures of ours, and the neurons and the wall seconds of this first timing."""
    options = EncodeOptions(seed=seed)
    space = open_space(backbone, options)
    train_ours(backbone, space, documents[:2], EncodeOptions(seed=seed, steps=2))  # warm up
    made, seconds = train_ours(backbone, space, documents, options)
    ours = as_stored(backbone, space, documents, made)
    own = exact(backbone, ours, ours.neurons)
    other = exact(backbone, ours, ours.neurons.roll(-1, 0))
    report.add(own_exact=own, other_exact=other, bytes_per_document=ours.bytes_each)
    report.add(no_neuron_exact=exact(backbone, ours, torch.zeros_like(ours.neurons)))
    report.add(documents_per_second=len(documents) / seconds, **fused_figures(backbone, ours, own, seed))
    return ours, seconds


def main() -> None:
    """Ours, PRAG's published recipe, PRAG's layout to equal accuracy, ours again."""
    asked = arguments(__doc__)
    report = Report(asked)
    backbone = load_backbone()
    count, peers = (12, 2) if asked.quick else (24, 4)
    documents = companies(count, seed=asked.seed)
    report.meta |= {"model": backbone.name, "dtype": str(backbone.dtype)}
    report.meta |= {"documents": count, "prag_documents": peers}
    report.note(
        f"both on {backbone.dtype} weights; PRAG's adapters are float32, PEFT's default (as fast as "
        "bf16 here, and small steps are not lost to rounding); its tests after every epoch are not timed"
    )
    ours, seconds = measure_ours(report, backbone, documents, asked.seed)
    target = min(report.figures["own_exact"], exact(backbone, ours, ours.neurons, first=peers))
    report.meta["target_exact"] = target
    report.add(prag_bytes_per_document=prag_bytes(backbone.depth, backbone.width, backbone.ffn_width))
    recipe = prag_recipe(report, backbone, documents[:peers], asked.seed)
    equal = measure_prag(report, backbone, documents[:peers], target, asked.seed)
    _, again = train_ours(backbone, ours.space, documents, EncodeOptions(seed=asked.seed))
    each = (seconds + again) / 2 / count  # ours before and after the reference: the machine may have drifted
    report.meta["our_seconds"] = [seconds, again]
    report.add(
        documents_per_second=1 / each,
        prag_seconds_per_document=equal,
        prag_documents_per_second=1 / equal,
        ratio_to_prag_equal_accuracy=equal / each,
        ratio_to_prag_recipe=recipe / each,
    )
    report.finish()


if __name__ == "__main__":
    main()
