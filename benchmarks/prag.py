"""PRAG's layout trained by PEFT, one document at a time: the reference of encode.py.

Rank 2 on gate, up and down of every layer, A and B trained from the same random start for every document,
AdamW, batch 1, the loss over the whole sequence (Su et al., SIGIR 2025). Not here: our encoder.

    >>> prag_bytes(depth=30, width=576, ffn_width=1536)
    760320
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from common import Report, show, tracked
from invented import Company
from neurag.backbone import Backbone
from neurag.prompts import question_prompt

RANK, ALPHA, RATES, EPOCHS = 2, 32, (1e-3, 3e-3, 3e-4), 60
RECIPE_STEPS, RECIPE_RATE = 5, 3e-4
QUICK_SECONDS = 130
"""Training time in a quick run, all rates and documents together."""

Pairs = Sequence[tuple[str, str]]
Text = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids of a prompt and of its answer."""


def texts(backbone: Backbone, pairs: Pairs) -> list[Text]:
    """Prompts and answers with their end token: the same for both systems."""
    end = backbone.tokenizer.eos_token_id
    return [
        (question_prompt(backbone, q).ids, (*backbone.tokenizer(a, add_special_tokens=False).input_ids, end))
        for q, a in pairs
    ]


def prag_bytes(depth: int, width: int, ffn_width: int, rank: int = RANK) -> int:
    """Bytes of one document in PRAG's layout, 2 a number: A and B of gate, up and down in every layer."""
    return depth * 3 * rank * (width + ffn_width) * 2


@dataclass
class Learner:
    """One document's adapter while it is trained."""

    name: str
    learn: list[Text]
    ask: list[Text]
    optimiser: torch.optim.Optimizer
    seconds: float = 0.0


@dataclass
class Race:
    """What one learning rate reached: (epochs, seconds a document, exact), best of all, where it arrived."""

    rate: float
    curve: list[tuple[int, float, float]] = field(default_factory=list)
    reached: tuple[int, float, float] | None = None

    @property
    def best(self) -> float:
        """Highest share of exact answers seen."""
        return max((e for _, _, e in self.curve), default=0.0)


class Prag:
    """PEFT adapters on the backbone, one a document, all from the same random start; undone on leaving."""

    def __init__(self, backbone: Backbone, documents: Sequence[Company], rate: float, seed: int) -> None:
        self.backbone, self.documents, self.rate, self.seed = backbone, documents, rate, seed

    def __enter__(self) -> Prag:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=["gate_proj", "up_proj", "down_proj"],
            task_type="CAUSAL_LM",
        )  # fmt: skip
        self.learners: list[Learner] = []
        self.model: Any = None
        for number, company in enumerate(self.documents):
            torch.manual_seed(self.seed)
            name = f"document{number}"
            if self.model is None:
                self.model = get_peft_model(self.backbone.model, config, adapter_name=name)
            else:
                self.model.add_adapter(name, config)
            self.model.set_adapter(name)
            trained = [p for n, p in self.model.named_parameters() if f".{name}." in n]
            self.learners.append(
                Learner(
                    name, texts(self.backbone, company.learn), texts(self.backbone, company.ask),
                    torch.optim.AdamW(trained, lr=self.rate),
                )
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self.model.unload()

    def train(self, learner: Learner, lessons: Sequence[Text]) -> None:
        """One optimiser step for each lesson, labels = input ids."""
        self.model.set_adapter(learner.name)
        start = time.perf_counter()
        for prompt, answer in lessons:
            ids = torch.tensor([[*prompt, *answer]], device=self.backbone.device)
            learner.optimiser.zero_grad()
            self.model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
            learner.optimiser.step()
        learner.seconds += time.perf_counter() - start

    @torch.no_grad()
    def exact(self) -> float:
        """Share of the unseen questions answered exactly, each with its own document's adapter."""
        right = []
        for learner in self.learners:
            self.model.set_adapter(learner.name)
            for prompt, answer in learner.ask:
                ids = torch.tensor([[*prompt, *answer[:-1]]], device=self.backbone.device)
                out = self.model(input_ids=ids, use_cache=False, logits_to_keep=len(answer))
                right.append(out.logits[0].argmax(-1).tolist() == list(answer))
        return sum(right) / len(right)

    @property
    def seconds(self) -> float:
        """Training seconds a document so far."""
        return sum(x.seconds for x in self.learners) / len(self.learners)


def race(prag: Prag, target: float, epochs: int, budget: float) -> Race:
    """Train all documents epoch by epoch until their exact answers reach the target."""
    run = Race(prag.rate)
    for epoch in tracked(range(1, epochs + 1), f"PRAG's layout at {prag.rate:g}, epochs"):
        for learner in prag.learners:
            order = random.Random(epoch).sample(learner.learn, len(learner.learn))
            prag.train(learner, order)
        run.curve.append((epoch, prag.seconds, prag.exact()))
        if run.curve[-1][2] >= target:
            run.reached = run.curve[-1]
            break
        if prag.seconds * len(prag.learners) >= budget:
            break
    return run


def prag_recipe(report: Report, backbone: Backbone, documents: Sequence[Company], seed: int) -> float:
    """The published recipe: five sequences, once each, in order; returns its seconds a document."""
    with Prag(backbone, documents, RECIPE_RATE, seed) as prag:
        prag.train(prag.learners[0], prag.learners[0].learn[:1])  # warm up
    with Prag(backbone, documents, RECIPE_RATE, seed) as prag:
        for learner in tracked(prag.learners, "PRAG's published recipe, documents"):
            prag.train(learner, learner.learn[::2][:RECIPE_STEPS])
        report.add(prag_recipe_exact=prag.exact(), prag_recipe_seconds=prag.seconds)
        return prag.seconds


def measure_prag(report: Report, backbone: Backbone, documents: Sequence[Company], target: float, seed: int) -> float:
    """Seconds a document at which PRAG's layout reaches the target, or a lower bound of them."""
    quick, races, limit = report.meta["quick"], list[Race](), EPOCHS
    left = QUICK_SECONDS if quick else float("inf")
    for place, rate in enumerate(RATES):
        with Prag(backbone, documents, rate, seed) as prag:
            races.append(race(prag, target, limit, left / (len(RATES) - place)))
            left -= prag.seconds * len(documents)
        if quick and races[-1].reached:  # a slower rate cannot be the best any more
            limit = min(limit, races[-1].reached[0])
        report.meta["prag_curves"] = {f"{r.rate:g}": r.curve for r in races}
        report.add(prag_own_exact=max(r.best for r in races))
    told = [(f"{r.rate:g}", *r.curve[-1][:2], r.best, "yes" if r.reached else "no") for r in races]
    columns = ("rate", "epochs", "s/document", "best exact", "reached")
    show(f"PRAG's layout, target {target:.3f} exact", columns, told)
    return best_seconds(report, races)


def best_seconds(report: Report, races: Sequence[Race]) -> float:
    """Fewest seconds a document to the target; where no rate reached it, those of 60 epochs."""
    arrived = [r.reached for r in races if r.reached]
    soonest = min((epoch for epoch, _, _ in arrived), default=EPOCHS)
    open_rates = [f"{r.rate:g}" for r in races if not r.reached and r.curve[-1][0] < soonest]
    scaled = not arrived and bool(open_rates)
    report.meta |= {"bound": not arrived, "scaled": scaled}
    report.meta["prag_seconds_measured"] = min(r.curve[-1][1] for r in races)
    best = max(r.best for r in races)
    if arrived and open_rates:
        report.note(f"quick: out of time at rate {', '.join(open_rates)}, so one of these may arrive sooner")
    elif scaled:
        told = ", ".join(f"{r.curve[-1][0]} epochs at {r.rate:g}" for r in races)
        report.note(
            f"quick: PRAG's layout was measured for {told} (best exact {best:.3f}) and its time is scaled to "
            f"{EPOCHS} epochs: not a measured bound; the full run measures it"
        )
    elif not arrived:
        report.note(
            f"PRAG's layout never reached our accuracy (best exact {best:.3f}): ratio_to_prag_equal_accuracy "
            f"is a lower bound, from its seconds at {EPOCHS} epochs"
        )
    if arrived:
        return min(seconds for _, seconds, _ in arrived)
    return min(r.curve[-1][1] * EPOCHS / r.curve[-1][0] for r in races)
