"""Mining: questions with contexts in, sets of units out; what `neurag mine` does.

Each question is probed twice: with its relevant passages, watching the accepted answer, and with irrelevant ones of a
kind that changes from question to question, watching what the options say. Of a probe only its top units are kept, so
memory does not grow with the questions but for those few numbers. A stopped run goes on with its checkpoint.
A warning about signs: a unit that raises the *accepted* answer with an irrelevant context helps against the noise.
Those that harm raise the model's own wrong answer (the default), or lower the accepted one. Not here: the command.

    >>> mined = mine(backbone, questions, MineOptions(), Path("units"))         # doctest: +SKIP
    >>> len(mined.units.only_irrelevant), mined.completeness_error              # doctest: +SKIP
    (72, 0.004)
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..backbone import Backbone
from ..config import NOT_STATED, MineOptions, NeuragError, UsageError, at_least
from ..decoding import decode
from ..files import swapped
from ..prompts import question_prompt
from ..words import holds, words
from .contexts import KINDS, Context, Contexts, Question, Retrieve
from .probe import Probe, Target
from .scores import SCORES
from .units import FILE, Units, save_units, sets_of, stability, top_units

CHECKPOINT = "mining.pt"
ROLES = ("relevant", "irrelevant")
TOO_LONG = "the prompt is too long"
ANSWER = 16
"""Tokens of the model's own answer, at most."""


@dataclass(frozen=True)
class MineProgress:
    """Where a run stands."""

    done: int
    questions: int
    completeness_error: float | None
    """So far; None for scores that promise nothing."""
    seconds_left: float


@dataclass(frozen=True)
class Mined:
    """What a run found."""

    units: Units
    contexts: dict[str, int]
    """Probes of each role."""
    skipped: dict[str, int]
    """Why probes were left out, and how many."""
    completeness_error: float | None
    """Sum of errors over sum of differences, over the layers of all probes."""
    stability: dict[str, float | None]
    seconds: float
    """Of this run; one that went on with a checkpoint does not know the earlier ones'."""


@dataclass
class _Tally:
    """What a run has gathered."""

    done: int = 0
    kept: dict[str, list[Tensor]] = field(default_factory=lambda: {role: [] for role in ROLES})
    error: float = 0.0
    difference: float = 0.0
    complete: bool = False
    """Whether any score promised to add up."""
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def completeness_error(self) -> float | None:
        return self.error / self.difference if self.complete and self.difference else None

    def lists(self, keep: int) -> dict[str, Tensor]:
        """Of each role the kept units [n, K]."""
        empty = torch.zeros(0, keep, dtype=torch.int32)
        return {role: torch.stack(kept) if kept else empty for role, kept in self.kept.items()}


def mine(
    backbone: Backbone,
    questions: Sequence[Question],
    options: MineOptions,
    folder: Path,
    progress: Callable[[MineProgress], None] | None = None,
    retrieve: Retrieve | None = None,
) -> Mined:
    """Find the units and write `units.json` to `folder`. `retrieve`: where contexts come from, in place of labels.

    Raises UsageError for options that are none, NeuragError when no question gave a probe.
    """
    _check(options)
    begun, path = time.perf_counter(), folder / CHECKPOINT
    run = _name_of(backbone, questions, options, retrieve is not None)
    tally = _restore(path, run)
    first, contexts = tally.done, Contexts(questions, options.seed, retrieve)
    for number in range(first, len(questions)):
        for role, told in _probes(backbone, contexts, questions[number], number, options):
            if isinstance(told, str):
                tally.skipped[f"{role}: {told}"] += 1
            else:
                _add(tally, role, told, options)
        tally.done = number + 1
        if tally.done % options.save_every == 0:
            _save(path, tally, run)
        if progress:
            left = (time.perf_counter() - begun) / (tally.done - first) * (len(questions) - tally.done)
            progress(MineProgress(tally.done, len(questions), tally.completeness_error, left))
    mined = _finish(backbone, tally, options, begun)
    about = {"model": backbone.name, "backbone": backbone.fingerprint, "options": asdict(options)}
    rest = {key: value for key, value in vars(mined).items() if key != "units"}
    save_units(mined.units, folder / FILE, about | {"questions": len(questions)} | rest)
    path.unlink(missing_ok=True)
    return mined


def _check(options: MineOptions) -> None:
    unknown = [kind for kind in options.noise if kind not in KINDS]
    if unknown or not options.noise:
        raise UsageError(f"--noise must name some of {', '.join(KINDS)}, not {', '.join(unknown) or 'nothing'}")
    at_least(options, keep=1, save_every=1, steps=1, chunk=1, passages=1)


def _probes(
    backbone: Backbone, contexts: Contexts, question: Question, number: int, options: MineOptions
) -> Iterator[tuple[str, Probe | str]]:
    """Role and probe, or why there is none."""
    if not question.answers:
        yield "relevant", "the question has no answer"
        return
    turn = number % len(options.noise)
    kinds = options.noise[turn:] + options.noise[:turn]
    relevant = contexts.relevant(question, options.passages)
    count = len(relevant.passages) if relevant else options.passages
    noisy = (contexts.irrelevant(question, kind, count) for kind in kinds)
    yield "relevant", _probe(backbone, question, relevant, options.target, options)
    irrelevant = next((context for context in noisy if context), None)
    yield "irrelevant", _probe(backbone, question, irrelevant, options.noise_target, options)


def _probe(
    backbone: Backbone, question: Question, context: Context | None, target: str, options: MineOptions
) -> Probe | str:
    if context is None:
        return "no such passages"
    try:
        alone = question_prompt(backbone, question.text)
        shown = question_prompt(backbone, question.text, context.passages)
    except UsageError:
        return TOO_LONG
    said = backbone.tokenizer(question.answers[0], add_special_tokens=False).input_ids
    if target == "wrong":
        own = own_answer(backbone, shown.ids)
        if (why := _unfit(backbone, own, said, question.answers)) is not None:
            return why
        said = own
    try:
        return Probe.of(backbone, shown.ids, alone.ids, Target(tuple(said), whole=target == "answer"), options)
    except UsageError:  # a sliding window
        return TOO_LONG


def own_answer(backbone: Backbone, prompt: Sequence[int]) -> list[int]:
    """Tokens of what the model answers, greedily, without the end token."""
    steps = decode(backbone, [prompt], ANSWER)
    return [step.tokens[0] for step in steps if step.tokens[0] not in backbone.stop_ids]


def _unfit(backbone: Backbone, own: Sequence[int], gold: Sequence[int], answers: Sequence[str]) -> str | None:
    """Why the model's own answer is not one that noise made it give."""
    said = words(backbone.tokenizer.decode(own))
    if not said or said == words(NOT_STATED):
        return "the model gives no answer"
    if any(holds(said, words(answer)) for answer in answers):
        return "the model is right all the same"
    return "the wrong answer begins like the right one" if own[0] == gold[0] else None


def _add(tally: _Tally, role: str, probe: Probe, options: MineOptions) -> None:
    scored = SCORES[options.score](probe, options)
    sign = options.noise_sign if role == "irrelevant" else "positive"
    tally.kept[role].append(top_units(scored.units, options.keep, sign))
    if scored.difference is not None and scored.added is not None:
        tally.complete = True
        tally.error += float((scored.added - scored.difference).abs().sum())
        tally.difference += float(scored.difference.abs().sum())


def _finish(backbone: Backbone, tally: _Tally, options: MineOptions, begun: float) -> Mined:
    lists = tally.lists(options.keep)
    if not any(map(len, lists.values())):
        why = "; ".join(f"{reason} ({count})" for reason, count in tally.skipped.most_common(3)) or "there is none"
        raise NeuragError(f"no question could be probed: {why}; docs/data.md says what rows need")
    sizes = backbone.depth, backbone.ffn_width
    return Mined(
        sets_of(lists, options.votes, *sizes),
        {role: len(kept) for role, kept in lists.items()},
        dict(tally.skipped),
        tally.completeness_error,
        stability(lists, options.votes, *sizes),
        round(time.perf_counter() - begun, 1),
    )


def _name_of(backbone: Backbone, questions: Sequence[Question], options: MineOptions, retrieved: bool) -> str:
    digest = hashlib.sha256()
    for question in questions:
        digest.update(repr(question).encode())
    same = replace(options, save_every=1, chunk=1, votes=0.0)  # these change no list
    return f"{backbone.fingerprint} {same} {digest.hexdigest()[:16]} {retrieved}"


def _save(path: Path, tally: _Tally, run: str) -> None:
    told: dict[str, Any] = vars(tally) | {"skipped": dict(tally.skipped), "run": run}
    with swapped(path) as aside:
        torch.save(told, aside)


def _restore(path: Path, run: str) -> _Tally:
    """Take up a checkpoint of the same run, or begin."""
    if not path.exists():
        return _Tally()
    told = torch.load(path, weights_only=True)
    if told.pop("run") != run:
        return _Tally()
    return _Tally(**told | {"skipped": Counter(told["skipped"])})
