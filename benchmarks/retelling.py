"""Neurons that learn more than questions, or less freely: other training objectives, for recipes.py.

Beside the pairs of question and answer a neuron may learn its passage, a summary and a rewrite of it (these two by the
plain backbone; PRAG trains on passage, rewrite and pairs), each as the answer to a request for it. Or what it writes
may be kept orthogonal to what the task adapter writes (OSD-PRAG). The neurons take the places of a bank's own. Not
here: which way answers more (recipes.py).

    >>> retold(load_backbone(BASE_MODEL), chunks, "summary")                     # doctest: +SKIP
    ['The mill of Oskerby opened in 1987 and is run by Ilse Maranth.']
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from neurag.backbone import Backbone
from neurag.config import BASE_MODEL, AugmentOptions, EncodeOptions
from neurag.knowledge.augmentation import augment
from neurag.knowledge.bank import Bank
from neurag.knowledge.calibration import bank_calibration
from neurag.knowledge.documents import Chunk, Document, chunk_document
from neurag.knowledge.encoder import train_neurons
from neurag.knowledge.lessons import pair_lessons
from neurag.knowledge.neurons import quantise
from neurag.knowledge.pipeline import group_lessons, group_seed
from neurag.knowledge.spaces import new_space
from neurag.loading import ADAPTERS, ASKING_FILE
from neurag.lora import Lora
from neurag.prompts import render
from neurag.stream import Stream, continue_all

REQUESTS = {
    "passage": "What is written about {}?",
    "summary": "Summarize what is known about {}.",
    "rewrite": "Tell what is known about {} in other words.",
}
"""How a text is asked for, of the neuron."""
WRITING = {"summary": "Summarize the text above in two sentences.", "rewrite": "Rewrite the text above in other words."}
"""How it is asked for, of the plain backbone, behind the passage."""
LONGEST = {"summary": 72, "rewrite": 144}
"""Tokens."""
WEIGHT = 0.25
"""Of a token of such a text; an answer's is 1."""
Told = Mapping[str, Sequence[str]]
"""By kind, a text for each chunk."""


def chunks_of(backbone: Backbone, documents: Sequence[Document]) -> list[Chunk]:
    """All chunks, as `encode` cuts them."""
    most = EncodeOptions().chunk_tokens
    return [chunk for document in documents for chunk in chunk_document(document, backbone.count_tokens, most)]


def tell(backbone: Backbone, plain: Backbone, documents: Sequence[Document]) -> dict[str, list[str]]:
    """Every kind of text about every chunk."""
    chunks = chunks_of(backbone, documents)
    return {"passage": [chunk.text for chunk in chunks], **{kind: retold(plain, chunks, kind) for kind in WRITING}}


def retold(plain: Backbone, chunks: Sequence[Chunk], kind: str) -> list[str]:
    """What the plain backbone writes when it sees each chunk, greedily."""
    asked = [render(plain, f"{c.document.title}\n{c.text}\n\n{WRITING[kind]}", system=None).ids for c in chunks]
    said: list[str] = []
    for first in range(0, len(asked), 16):
        some = asked[first : first + 16]
        stream = Stream(plain, [ids[:-1] for ids in some])
        rows = continue_all(stream, [[ids[-1:]] for ids in some], LONGEST[kind])
        said += plain.tokenizer.batch_decode([row[0] for row in rows], skip_special_tokens=True)
    return [text.strip() for text in said]


def beside_adapter(layers: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Takes out of B [., L, R, D] what lies in the directions that the shipped adapter writes to the stream."""
    written = Lora.load(ADAPTERS / BASE_MODEL / ASKING_FILE).up
    bases = torch.stack([torch.linalg.qr(written[f"{n}.mlp.down_proj"]).Q for n in layers])  # [L, D, adapter's rank]
    return lambda given: given - given @ bases @ bases.mT


def retrain(
    backbone: Backbone, bank: Path, documents: Sequence[Document], told: Told, kinds: Sequence[str], confined: bool
) -> None:
    """Train the neurons of a bank again, as `encode` does, with texts of these kinds or confined."""
    store, options = Bank.open(bank), EncodeOptions()
    space = new_space(backbone, bank_calibration(bank, backbone), options)
    confine = beside_adapter(space.layers) if confined else None
    chunks = chunks_of(backbone, documents)
    for first in range(0, len(chunks), options.batch):
        group = chunks[first : first + options.batch]
        taught = group_lessons(backbone, group, augment(backbone, group, AugmentOptions()), options)
        for place, chunk in enumerate(group):
            title = chunk.document.title or "this"
            more = [(REQUESTS[kind].format(title), told[kind][first + place]) for kind in kinds]
            taught += pair_lessons(backbone, more, place, WEIGHT)
        made = train_neurons(backbone, space, taught, len(group), options, group_seed(group, options), confine)
        values, scales = quantise(made, options.precision)
        rows = [row for document in dict.fromkeys(c.document.id for c in group) for row in store.get(document)]
        places = {chunk.id: place for place, chunk in enumerate(group)}
        kept = [row for row in rows if row.id in places]
        store.add([replace(r, neuron=values[places[r.id]], scale=scales[places[r.id]]) for r in kept])
