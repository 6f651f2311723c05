"""A reply: one question on its way to an answer, and what is told of the neurons that had a say.

Not here: who answers, and in which order (model.py); what an answer is (answer.py).

    >>> reply = Reply("Who runs the mill?", AnswerOptions(), prompt, None, 0.0)        # doctest: +SKIP
    >>> "".join(reply.take(token, now, backbone))                                      # doctest: +SKIP
    'Ilse'
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .answer import FiredNeuron, Source, declines
from .backbone import Backbone
from .config import AnswerOptions
from .hyper_layer.layer import Firing, HyperLayer, acting
from .hyper_layer.recall import Candidate
from .prompts import Prompt


@dataclass
class Reply:
    """One question on its way to an answer."""

    question: str
    options: AnswerOptions
    prompt: Prompt
    firing: Firing | None
    prepared: float
    """Seconds that `_reply` took."""
    tokens: list[int] = field(default_factory=list)
    shown: str = ""
    first: float = 0.0
    last: float = 0.0
    second: Reply | None = None
    """In the mode hybrid: what the neurons say alone."""
    outdone: bool = False
    """Whether the reader prefers that."""
    choosing: float = 0.0
    """Seconds that choosing took."""
    considered: list[Candidate] = field(default_factory=list)
    """The answers that were weighed."""
    confidence: float | None = None
    """How likely the one that was chosen is right, if that was learned."""
    steps: tuple[Reply, ...] = ()
    """The questions that were asked in its place (chaining.py): the last one's answer is given."""

    @property
    def said(self) -> str:
        """The answer: what was read, or what the neurons know where that is not stated or the reader prefers it."""
        read = self.shown.strip()
        return self.known if self.known and (self.outdone or declines(read)) else read

    @property
    def known(self) -> str:
        """What the neurons say alone, if they do."""
        return self.second.shown.strip() if self.second and not self.second.silent else ""

    @property
    def torn(self) -> bool:
        """Whether there are two answers that differ."""
        read = self.shown.strip()
        return bool(self.known) and not declines(self.known) and not declines(read) and read != self.known

    @property
    def weighed(self) -> bool:
        """Whether several answers are looked at; not while rerouting, where each would call neurons of its own."""
        return self.firing is not None and self.options.weigh and not self.options.route.reroute

    @property
    def score(self) -> float:
        """S of the best neuron, 0..1."""
        return max(self.firing.first.scores, default=0.0) if self.firing else 0.0

    @property
    def final(self) -> Reply:
        """The question whose answer is given: this one, or its last step."""
        return self.steps[-1] if self.steps else self

    @property
    def leader(self) -> str:
        """Id of the best neuron's document; "" where there is none."""
        firing = self.firing
        return firing.index.document_ids[firing.first.rows[0]] if firing and firing.first.rows else ""

    @property
    def silent(self) -> bool:
        """Whether no neuron had anything to say."""
        return self.firing is None or self.firing.routed.abstained

    def take(self, token: int, now: float, backbone: Backbone) -> Iterator[str]:
        """Add a token; yields the text it completes."""
        self.first, self.last = self.first or now, now
        if token in backbone.stop_ids:
            return
        self.tokens.append(token)
        text = backbone.tokenizer.decode(self.tokens, skip_special_tokens=True)
        if not text.endswith("\ufffd"):  # half a character: wait for its rest
            yield text[len(self.shown) :]
            self.shown = text

    def give(self, tokens: Sequence[int], now: float, backbone: Backbone) -> None:
        """Take a whole answer, without its end token, that is there now."""
        self.first = self.last = now
        self.tokens = list(tokens)
        self.shown = backbone.tokenizer.decode(self.tokens, skip_special_tokens=True).rstrip("\ufffd")

    def wait(self, seconds: float) -> None:
        """The answer came so much later, all of it at once."""
        self.first += seconds
        self.last += seconds

    def follow(self, steps: tuple[Reply, ...], confidence: float) -> None:
        """Give the answer of the last of these steps, if it is likelier right than what there is."""
        if confidence > (self.confidence or 0.0):
            self.steps, self.confidence = steps, confidence
            self.tokens, self.shown = steps[-1].tokens, steps[-1].shown


def fired(reply: Reply, layer: HyperLayer) -> tuple[FiredNeuron, ...]:
    """The neurons of the first choice that had a say, with their texts; of an answer in steps those of every step, each
    once, at its strongest."""
    found: dict[str, FiredNeuron] = {}
    for firing in (step.firing for step in reply.steps or (reply,) if step.firing):
        index = firing.index
        chosen = [(row, weight) for row, weight in acting(firing.first) if row >= 0]
        told = layer.bank.texts([index.ids[row] for row, _ in chosen])
        for row, weight in chosen:
            name = index.ids[row]
            title, text = told[name][:2] if name in told else ("", "")
            if name not in found or weight > found[name].weight:
                found[name] = FiredNeuron(index.document_ids[row], title, round(weight, 4), text)
    return tuple(found.values())


def sources_of(firing: Firing, layer: HyperLayer) -> tuple[list[Source], list[str]]:
    """The documents that compete for the lead, the one that leads first, and their texts."""
    index, rows = firing.index, firing.first.contest
    held = layer.bank.texts([index.ids[row] for row in rows])
    told = [held[index.ids[row]][:2] if index.ids[row] in held else ("", "") for row in rows]
    sources = [
        Source(index.document_ids[row], title, index.timestamps[row], index.trusts[row])
        for row, (title, _) in zip(rows, told, strict=True)
    ]
    return sources, [text for _, text in told]
