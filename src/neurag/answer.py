"""What an answer is: the text, the neurons that fired, who disagrees, why it came out so, and what it cost.

Not here: how it came about (model.py, hyper_layer/). `Answer.to_json` is the public JSON shape of `neurag ask --json`.

    >>> Answer("Ilse Maranth", "neurag").to_json()["answer"]
    'Ilse Maranth'
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .config import NOT_STATED
from .words import normalise


@dataclass(frozen=True)
class FiredNeuron:
    """One neuron that took part in an answer."""

    doc_id: str
    title: str
    weight: float
    """Attention weight a_i at the first generated token, 0..1."""
    text: str
    """The chunk the neuron was made from."""


@dataclass(frozen=True)
class Timing:
    """Seconds of each part, and the length of a prompt in tokens."""

    prefill_s: float = 0.0
    """All that comes before the first token but routing: finding passages, reading the index of a bank that is new or
    has changed, and the forward pass over the prompt; of a weighed answer, which comes in one piece, all of it."""
    routing_s: float = 0.0
    decode_s: float = 0.0
    """Writing; in the mode hybrid also asking the neurons, and where documents compete, each of them alone."""
    prompt_tokens: int = 0
    """Of the question's own prompt, with what was read last; the neurons' steps have prompts of their own."""

    @property
    def first_token_s(self) -> float:
        """From the question to the first token of the answer, in seconds."""
        return self.prefill_s + self.routing_s

    @property
    def total_s(self) -> float:
        """From the question to the last token, in seconds."""
        return self.first_token_s + self.decode_s


@dataclass(frozen=True)
class Source:
    """A document that takes part in a conflict."""

    doc_id: str
    title: str
    timestamp: str
    """As the document gave it; "" if it has none."""
    trust: float | None


@dataclass(frozen=True)
class Side:
    """One of the answers that compete, and the documents that give it when each speaks alone."""

    answer: str
    documents: tuple[Source, ...]
    followed: bool = False
    """Whether the answer given is this one."""


@dataclass(frozen=True)
class Conflict:
    """Documents that match the same of a question and answer it differently."""

    policy: str
    """Who was let speak: newest, trusted or all (`RouteOptions.conflict`)."""
    sides: tuple[Side, ...]


@dataclass(frozen=True)
class Span:
    """A place in a chunk's text whose tokens the question matched best."""

    start: int
    end: int
    """Characters of `NeuronTrace.text`, or of the title where `in_title`; half-open."""
    in_title: bool
    words: tuple[str, ...]
    """The question's words that were matched here."""
    share: float
    """What these matches add to the neuron's score, 0..1."""


@dataclass(frozen=True)
class NeuronTrace:
    """What one neuron was chosen for, and what it did."""

    doc_id: str
    title: str
    text: str
    weights: tuple[float, ...]
    """Its attention weight at each token of the answer."""
    matched: tuple[float, ...]
    """What each token of the question adds to its score; they sum to the score, 0..1."""
    spans: tuple[Span, ...]
    """Where in the text, the weightiest first."""
    effect: float
    """Log-likelihood of the answer with all neurons less that without this one, in nats: above 0 where it helped."""


@dataclass(frozen=True)
class Explanation:
    """Why an answer came out as it did."""

    question: tuple[str, ...]
    """The question's tokens, as they stand in it."""
    answer: tuple[str, ...]
    """The answer's tokens."""
    log_likelihood: float
    """Of the answer's tokens, with all that acted, in nats."""
    neurons: tuple[NeuronTrace, ...]


@dataclass(frozen=True)
class Step:
    """One of the questions that were asked one after the other in place of the one that was put."""

    question: str
    answer: str
    confidence: float


@dataclass(frozen=True)
class Answer:
    """An answer with its provenance."""

    answer: str
    mode: str
    abstained: bool = False
    """True when no neuron beat the null score or the answer is likely wrong (mode neurag), or it is "not stated"."""
    neurons: tuple[FiredNeuron, ...] = ()
    conflict: Conflict | None = None
    """None where no documents compete, where those that do agree, and where it was not asked."""
    timing: Timing = Timing()
    ranked: tuple[str, ...] = ()
    """Ids of the documents that routing puts first, as many as were asked for; not in the public JSON."""
    explanation: Explanation | None = None
    """Where it was asked for (`AnswerOptions.explain`) and neurons could take part."""
    confidence: float | None = None
    """How likely it is right, 0..1, as learned on other questions (weigher.py); None where nothing was weighed, or not
    by a trained weigher."""
    steps: tuple[Step, ...] = ()
    """Where the neurons were asked in steps (chaining.py): each of them. The last one's answer is given; in the mode
    hybrid the reader may prefer what it read."""

    def to_json(self) -> dict[str, Any]:
        """The public shape: answer, abstained, mode, neurons, conflict, timing; explanation, steps where there are."""
        out = asdict(self)
        del out["ranked"]
        out["neurons"] = [asdict(n) for n in self.neurons]
        if self.explanation is None:
            del out["explanation"]
        if not self.steps:
            del out["steps"]
        return out


def declines(text: str) -> bool:
    """Whether a text is the reader's way to say that it does not know.

    >>> declines("Not stated.")
    True
    """
    return normalise(text) == NOT_STATED
