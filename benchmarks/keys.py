"""How small may a document's keys be? Number, width and precision of the routing keys against recall.

The six sets of hyper_layer.py, each over a bank of its own passages, asked with the router as it ships; every variant
makes other keys of the same states, from float16 and all axes on. A variant is told by its words:

- most N: the N most telling keys of a chunk; alike C: keys with a cosine above C to a more telling one join it, and
  their mean stands for them;
- axes N: the N leading principal axes of the neutral keys, of queries, too;
- int8, int4: whole numbers and one scale a key; int4 alone is what banks hold (knowledge/key_codes.py).

recall_at_{1,5}_VARIANT: mean over the sets; keys_VARIANT and bytes_VARIANT: of a chunk, with positions.

    python benchmarks/keys.py [--quick] [--data DIR] [--json OUT]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean

import numpy as np
import torch

from common import Report, arguments, data_folder, read_rows, recall_at, show, tracked
from hyper_layer import CORPUS, SETS, Asked, asked_of, filled, found_by, laid_out
from neurag.backbone import Backbone
from neurag.knowledge.calibration import Calibration, load_calibration
from neurag.knowledge.documents import Chunk
from neurag.knowledge.key_codes import pack, unpack
from neurag.knowledge.keys import read_chunks
from neurag.knowledge.states import span_states
from neurag.loading import load_backbone
from neurag.projection import leading_axes
from neurag.prompts import question_prompt
from routing import GROUP, chunks_of

BANK_BITS = 4
Made = tuple[np.ndarray, np.ndarray]
"""Keys [n, key_width] of a chunk, most telling first, and positions [n]."""


@dataclass(frozen=True)
class Variant:
    """What is done to keys, in this order."""

    axes: int | None = None
    alike: float | None = None
    most: int | None = None
    bits: int = 16

    @property
    def name(self) -> str:
        """In words, "as they are" without any."""
        told = [f"axes {self.axes}"] if self.axes else []
        told += [f"alike {self.alike}"] if self.alike else []
        told += [f"most {self.most}"] if self.most else []
        told += [f"int{self.bits}"] if self.bits < 16 else []
        return ", ".join(told) or "as they are"

    def bytes(self, count: float, width: int) -> float:
        """Of `count` keys: numbers, the scale of whole ones, and the position."""
        return count * (width * self.bits / 8 + (2 if self.bits < 16 else 0) + 2)


ALONE = (
    *(Variant(most=n) for n in (128, 96, 64, 32)),
    *(Variant(alike=c) for c in (0.95, 0.9, 0.85, 0.8, 0.7)),
    *(Variant(axes=n) for n in (80, 64, 48)),
    *(Variant(bits=n) for n in (8, 4, 3)),
)
TOGETHER = (
    *(Variant(alike=c, bits=4) for c in (0.95, 0.9, 0.85)),
    *(Variant(axes=n, bits=4) for n in (80, 64, 48)),
    Variant(axes=64, alike=0.95, bits=4),
)


def read(backbone: Backbone, calibration: Calibration, chunks: Sequence[Chunk]) -> list[Made]:
    """Keys as exact as the states."""
    made = []
    for at in tracked(range(0, len(chunks), GROUP), "keys"):
        texts = [(chunk.document.title, chunk.text) for chunk in chunks[at : at + GROUP]]
        for states, positions in read_chunks(backbone, calibration.layer, texts):
            keys = calibration.project(states).cpu()
            order = calibration.salience(keys).argsort(descending=True, stable=True)
            made.append((keys[order].numpy(), positions.cpu()[order].numpy().astype(np.uint16)))
    return made


def joined(keys: np.ndarray, positions: np.ndarray, alike: float) -> Made:
    """The most telling key leads; those like it join, and their mean, of unit length, stands in its place."""
    near = (keys @ keys.T) > alike
    free, made, places = np.ones(len(keys), bool), [], []
    for lead in range(len(keys)):
        if free[lead]:
            group = near[lead] & free
            group[lead] = True
            free &= ~group
            made.append(keys[group].mean(0))
            places.append(lead)
    told = np.stack(made)
    return told / np.linalg.norm(told, axis=1, keepdims=True), positions[places]


def rounded(keys: np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers of so many bits, one scale a key; four as banks have them."""
    if bits == BANK_BITS:
        return unpack(pack(keys), keys.shape[1])
    scale = np.abs(keys).max(1, keepdims=True) / (2 ** (bits - 1) - 1)
    return np.rint(keys / scale) * scale


def turned(calibration: Calibration, axes: torch.Tensor) -> Calibration:
    """The same space, seen along some axes only."""
    return replace(
        calibration,
        whiten=calibration.whiten @ axes.to(calibration.whiten),
        neutral=torch.nn.functional.normalize(calibration.neutral.float() @ axes, dim=-1).to(calibration.neutral),
    )


def changed(variant: Variant, axes: torch.Tensor | None, made: Made) -> Made:
    """The keys of one chunk after the variant."""
    keys, positions = made[0].astype(np.float32), made[1]
    if axes is not None:
        keys = keys @ axes.numpy()
        keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    if variant.alike:
        keys, positions = joined(keys, positions, variant.alike)
    if variant.most:
        keys, positions = keys[: variant.most], positions[: variant.most]
    if variant.bits < 16:
        keys = rounded(keys, variant.bits)
    return keys.astype(np.float16), positions


def measure(
    variant: Variant,
    calibration: Calibration,
    sets: Sequence[tuple[Asked, list[str], list[Made]]],
    states: Mapping[str, Sequence[torch.Tensor]],
) -> tuple[float, float, float, float]:
    """Recall@1 and @5, keys and bytes of a chunk."""
    axes = leading_axes(calibration.neutral.float(), variant.axes) if variant.axes else None
    space = calibration if axes is None else turned(calibration, axes)
    recalls: dict[int, list[float]] = {1: [], 5: []}
    counts = []
    for asked, owners, made in sets:
        keys = [changed(variant, axes, one) for one in made]
        counts += [len(positions) for _, positions in keys]
        router, index = laid_out(space, owners, keys)
        found = found_by(index, (router.route(index, space.project(x).cpu()) for x in states[asked.stem]))
        for k, told in recalls.items():
            told.append(mean(map(lambda r, g, k=k: recall_at(r, g, k), found, asked.gold)))
    width = variant.axes or calibration.whiten.shape[1]
    return mean(recalls[1]), mean(recalls[5]), mean(counts), variant.bytes(mean(counts), width)


def main() -> None:
    """Read once, then variant by variant."""
    asked = arguments(__doc__)
    report, folder = Report(asked), data_folder(asked.data)
    count, size = (40, 300) if asked.quick else (100, 1000)
    backbone = load_backbone()
    calibration = load_calibration(backbone)
    corpus = read_rows(folder, CORPUS, 2 * size)
    told, states = [], {}
    for stem in SETS:
        one = asked_of(folder, stem, count)
        chunks = chunks_of(backbone, filled(one, corpus, size).values())
        told.append((one, [chunk.document.id for chunk in chunks], read(backbone, calibration, chunks)))
        prompts = [question_prompt(backbone, question) for question in one.questions]
        states[stem] = list(span_states(backbone, prompts, calibration.layer))
    rows, names = [], {}
    for variant in tracked((Variant(), *ALONE, *TOGETHER), "variants"):
        one, five, keys, size_in_bytes = measure(variant, calibration, told, states)
        name = names[variant.name] = variant.name.replace(" ", "_").replace(",", "")
        report.add(**{f"recall_at_1_{name}": one, f"recall_at_5_{name}": five})
        report.add(**{f"keys_{name}": keys, f"bytes_{name}": size_in_bytes})
        rows.append((variant.name, round(keys), round(size_in_bytes), one, five))
    show(f"{count} questions a set", ("keys", "a chunk", "bytes", "recall@1", "recall@5"), rows)
    report.meta |= {"variants": names, "questions": count, "model": backbone.name}
    report.finish()


if __name__ == "__main__":
    main()
