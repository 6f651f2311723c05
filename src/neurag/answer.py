"""What an answer is: the text, the neurons that fired, and what it cost.

Not here: how it came about (model.py). `Answer.to_json` is the public JSON shape of `neurag ask --json`.

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
    """Seconds of each part, and the length of the prompt in tokens."""

    prefill_s: float = 0.0
    """All that comes before the first token but routing: finding passages, reading the index of a bank that is new or
    has changed, and the forward pass over the prompt."""
    routing_s: float = 0.0
    decode_s: float = 0.0
    prompt_tokens: int = 0

    @property
    def first_token_s(self) -> float:
        """From the question to the first token of the answer, in seconds."""
        return self.prefill_s + self.routing_s

    @property
    def total_s(self) -> float:
        """From the question to the last token, in seconds."""
        return self.first_token_s + self.decode_s


@dataclass(frozen=True)
class Answer:
    """An answer with its provenance."""

    answer: str
    mode: str
    abstained: bool = False
    """True when no neuron beat the null score (mode neurag), or the answer is "not stated"."""
    neurons: tuple[FiredNeuron, ...] = ()
    conflict: tuple[str, ...] | None = None
    timing: Timing = Timing()
    ranked: tuple[str, ...] = ()
    """Ids of the documents that routing puts first, as many as were asked for; not in the public JSON."""

    def to_json(self) -> dict[str, Any]:
        """The public shape: answer, abstained, mode, neurons, conflict, timing."""
        out = asdict(self)
        del out["ranked"]
        out["neurons"] = [asdict(n) for n in self.neurons]
        return out


def declines(text: str) -> bool:
    """Whether a text is the reader's way to say that it does not know.

    >>> declines("Not stated.")
    True
    """
    return normalise(text) == NOT_STATED
