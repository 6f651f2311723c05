"""The model a user talks to: a backbone, a bank, and greedy decoding in one forward pass over the prompt.

Modes: `neurag` (neurons, nothing pasted), `closed` (the plain backbone), `rag` (BM25 passages pasted),
`hybrid` (both). Not here: how neurons are chosen and act (hyper_layer/), how they are made (knowledge/).

    >>> model = Model.load(bank="notes.bank")            # doctest: +SKIP
    >>> model.answer("Who leads the Oskerby workshop?").answer      # doctest: +SKIP
    'Ilse Maranth'
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from .answer import Answer, FiredNeuron, Timing
from .backbone import Backbone, load_backbone
from .config import DEFAULT_MODEL, AnswerOptions, RouteOptions, UsageError
from .hyper_layer.layer import Firing, HyperLayer
from .knowledge.bank import Bank
from .knowledge.calibration import load_calibration
from .knowledge.pipeline import open_space
from .knowledge.retrieval import Passages
from .prompts import Prompt, question_prompt


class Model:
    """A backbone with, optionally, a bank attached. Without a bank it is the plain backbone, bit for bit."""

    def __init__(self, backbone: Backbone, bank: Bank | None = None) -> None:
        self.backbone = backbone
        self.bank = bank
        self.last: Answer | None = None
        self._layers: dict[RouteOptions, HyperLayer] = {}
        self._passages: tuple[int, Passages] | None = None

    @classmethod
    def load(cls, bank: str | Path | None = None, model: str | None = None, backbone: Backbone | None = None) -> Model:
        """Open a bank and the backbone it was made on (or `model`, which must be the same weights).

        Raises BankError for a missing, broken or foreign bank, NeuragError when the backbone cannot be loaded.
        """
        # the bank is opened before the slow load, so that a wrong path fails at once
        opened = Bank.open(bank) if bank is not None else None
        if backbone is None:
            backbone = load_backbone(model or (opened.manifest.model if opened else DEFAULT_MODEL))
        if bank is not None:
            opened = Bank.open(bank, backbone.fingerprint, backbone.tokenizer_fingerprint)
        return cls(backbone, opened)

    def answer(self, question: str, options: AnswerOptions = AnswerOptions()) -> Answer:
        """Answer one question. Raises UsageError for an empty or too long question, or a mode without a bank."""
        for _ in self.stream(question, options):
            pass
        assert self.last is not None
        return self.last

    def stream(self, question: str, options: AnswerOptions = AnswerOptions()) -> Iterator[str]:
        """Yield the answer in pieces as it is written; afterwards `last` holds the whole Answer."""
        passages = self._retrieve(question, options) if options.mode in ("rag", "hybrid") else []
        prompt = question_prompt(self.backbone, question, passages, options.max_new_tokens)
        layer = self._layer(options.route) if options.mode in ("neurag", "hybrid") else None
        context: AbstractContextManager[Firing | None] = nullcontext(None)
        if layer:
            mask = layer.allowed(options.labels, options.without)
            context = layer.firing(prompt.span, mask, options.force, zlib.crc32(question.encode()))
        clock = _Clock()
        tokens: list[int] = []
        shown = ""
        with context as firing:
            for token in self._decode(prompt, options.max_new_tokens, clock):
                tokens.append(token)
                text = self.backbone.tokenizer.decode(tokens, skip_special_tokens=True)
                if not text.endswith("�"):  # half a character: wait for its rest
                    yield text[len(shown) :]
                    shown = text
        self.last = self._answer(shown.strip(), options, prompt, clock, firing, layer)

    @torch.no_grad()
    def _decode(self, prompt: Prompt, limit: int, clock: _Clock) -> Iterator[int]:
        """Greedy token ids; the prompt is processed once."""
        from transformers import DynamicCache

        cache = DynamicCache()
        ids = torch.tensor([prompt.ids], device=self.backbone.device)
        for _ in range(limit):
            out = self.backbone.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            token = int(out.logits[0, -1].argmax())
            clock.tick()
            if token in self.backbone.stop_ids:
                return
            yield token
            ids = torch.tensor([[token]], device=self.backbone.device)

    def _retrieve(self, question: str, options: AnswerOptions) -> list[tuple[str, str]]:
        bank = self._need_bank(options.mode)
        if self._passages is None or self._passages[0] != bank.version:
            self._passages = (bank.version, Passages(bank.passages()))
        allowed = None
        if options.labels is not None or options.without:
            held = frozenset(options.labels or ())
            allowed = {
                d.id
                for d in bank.documents()
                if d.id not in options.without
                and (options.labels is None or not d.labels or held & frozenset(d.labels))
            }
        found = self._passages[1].search(question, options.passages, allowed)
        return [(p.title, p.text) for p in found]

    def _layer(self, route: RouteOptions) -> HyperLayer:
        if route not in self._layers:
            bank = self._need_bank("neurag")
            calibration = load_calibration(self.backbone)
            space = open_space(calibration, bank.manifest)
            self._layers[route] = HyperLayer(self.backbone, calibration, space, bank, route)
        return self._layers[route]

    def _need_bank(self, mode: str) -> Bank:
        if self.bank is None:
            raise UsageError(f"mode '{mode}' needs a bank: name one with --bank DIR, or use --mode closed")
        return self.bank

    def _answer(
        self, text: str, options: AnswerOptions, prompt: Prompt, clock: _Clock, firing: Firing | None,
        layer: HyperLayer | None,
    ) -> Answer:  # fmt: skip
        routing = firing.seconds if firing else 0.0
        timing = Timing(
            prefill_s=clock.first - (routing if firing else 0.0),
            routing_s=routing,
            decode_s=clock.last - clock.first,
            prompt_tokens=len(prompt.ids),
            first_token_s=clock.first,
        )
        neurons = _fired(firing, layer) if firing and layer else ()
        abstained = bool(firing and options.mode == "neurag" and firing.routed.abstained and not options.force)
        return Answer(text, options.mode, abstained, neurons, None, timing)


class _Clock:
    """Seconds from its making to the first and the last tick."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.first = self.last = 0.0

    def tick(self) -> None:
        self.last = time.perf_counter() - self._start
        self.first = self.first or self.last


def _fired(firing: Firing, layer: HyperLayer) -> tuple[FiredNeuron, ...]:
    """The neurons of the first choice that had a say, with their texts."""
    routed = firing.first or firing.routed
    chosen = [(r, w) for r, w in zip(routed.rows, routed.weights, strict=True) if w > 1e-3 and r >= 0]
    told = layer.bank.texts([layer.index.ids[row] for row, _ in chosen])
    out = []
    for row, weight in chosen:
        title, text = told.get(layer.index.ids[row], ("", ""))
        out.append(FiredNeuron(layer.index.document_ids[row], title, round(weight, 4), text))
    return tuple(out)
