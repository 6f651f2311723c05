"""PRAG as a system: a LoRA for each passage BM25 finds, trained when first needed, fused, nothing pasted.

The published recipe (Su et al., SIGIR 2025): a rewrite and three question-answer pairs of each passage, two of the
pairs with the passage in the prompt, as it is and rewritten, and one without; rank 2, alpha 32, five AdamW steps at
3e-4, the sum of the first three passages' adapters. `prag-tuned` keeps the layout and trains for accuracy;
`dyprag-fusion` fuses the tuned adapters by DyPRAG's averages. Kinder than the original: the questions are written by
our augmentation, which a small model does far better than JSON on demand, and adapters are kept by passage. Not here:
the adapters themselves (lora.py), their fusion (fusing.py).

    >>> PragSystem("prag", world, PUBLISHED, fuse_sum).answer(rows)      # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..backbone import Backbone, cache_folder
from ..config import AugmentOptions, UsageError
from ..knowledge.augmentation import augment
from ..knowledge.documents import Chunk
from ..knowledge.retrieval import Passage
from ..lora import Lora, applied, start
from ..prompts import question_prompt, render
from ..stream import Stream, continue_all
from .data import Row
from .fusing import train
from .systems import Given, World, asked_alone, closed

RANK, ALPHA, PASSAGES = 2, 32.0, 3
REWRITE = "Rewrite this passage in other words. Keep every name, date and number.\n\n{}"
REWRITE_TOKENS = 256


@dataclass(frozen=True)
class Recipe:
    """How a passage becomes an adapter."""

    rate: float
    epochs: int
    questions: int
    """Question-answer pairs, at most."""
    with_passage: bool
    """Train some pairs with the passage and its rewrite in the prompt."""
    seed: int = 0


PUBLISHED = Recipe(rate=3e-4, epochs=1, questions=3, with_passage=True)
TUNED = Recipe(rate=1e-3, epochs=10, questions=11, with_passage=False)
"""What reached the accuracy of our neurons in benchmarks/encode.py: ten passes over pairs without the passage."""


class PragSystem:
    """PRAG's way of answering; questions are asked one by one, since each has adapters of its own."""

    def __init__(self, name: str, world: World, recipe: Recipe, fuse: Callable[[Sequence[Lora]], Lora]) -> None:
        self.name, self._world, self._recipe, self._fuse = name, world, recipe, fuse
        self._chunks = {chunk.id: chunk for chunk in world.collection.chunks}

    def takes(self, row: Row) -> bool:
        """Every row."""
        return True

    def answer(self, rows: Sequence[Row]) -> list[Given]:
        """Answer rows; adapters that are missing are trained before the clock starts."""
        return [self._one(row) for row in rows]

    def _one(self, row: Row) -> Given:
        found = self._world.bm25.search(row.question, PASSAGES)
        loras = [self._adapter(passage) for passage in found]
        backbone = self._world.model.backbone
        asked = replace(closed(self._world, row), used=tuple(dict.fromkeys(p.document_id for p in found)))
        try:
            if not loras:
                return asked_alone(self._world, row, asked)
            with applied(backbone, self._fuse(loras)):
                return asked_alone(self._world, row, asked)
        except UsageError as error:
            return Given(error=str(error))

    def _adapter(self, passage: Passage) -> Lora:
        backbone, chunk = self._world.model.backbone, self._chunks[passage.id]
        told = f"3 {backbone.fingerprint} {chunk.content_hash} {self._recipe} {RANK} {ALPHA}"
        path = cache_folder() / "eval" / "prag" / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.safetensors"
        if path.exists():
            return Lora.load(path)
        lora = make_adapter(backbone, chunk, self._recipe)
        lora.save(path)
        return lora


def make_adapter(backbone: Backbone, chunk: Chunk, recipe: Recipe) -> Lora:
    """Train the adapter of one passage."""
    fresh = start(backbone, RANK, recipe.seed)
    return train(backbone, fresh, sequences(backbone, chunk, recipe), recipe.rate, recipe.epochs, ALPHA / RANK)


def sequences(backbone: Backbone, chunk: Chunk, recipe: Recipe) -> list[tuple[int, ...]]:
    """Token ids of the training sequences of a passage, in order: prompt, answer, end."""
    pairs = augment(backbone, [chunk], AugmentOptions())[0].questions[: recipe.questions]
    pairs = pairs or (("What does the passage say?", chunk.text),)
    if not recipe.with_passage:
        return [_sequence(backbone, question, answer, ()) for question, answer in pairs]
    title = chunk.document.title
    shown = [(title, chunk.text), (title, _rewritten(backbone.reader, chunk.text))]
    near, far = pairs[: (len(pairs) + 1) // 2], pairs[(len(pairs) + 1) // 2 :]
    return [
        *(_sequence(backbone, question, answer, [text]) for question, answer in near for text in shown),
        *(_sequence(backbone, question, answer, ()) for question, answer in far),
    ]


def _sequence(backbone: Backbone, question: str, answer: str, passages: Sequence[tuple[str, str]]) -> tuple[int, ...]:
    ids = backbone.tokenizer(answer, add_special_tokens=False).input_ids
    return (*question_prompt(backbone, question, passages).ids, *ids, backbone.tokenizer.eos_token_id)


def _rewritten(backbone: Backbone, text: str) -> str:
    prompt = render(backbone, REWRITE.format(text), system=None).ids
    written = continue_all(Stream(backbone, [prompt[:1]]), [[prompt[1:]]], REWRITE_TOKENS)[0][0]
    return backbone.tokenizer.decode(written, skip_special_tokens=True).strip() or text
