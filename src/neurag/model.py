"""The model a user talks to: a backbone, a bank, and answers to one question or to many side by side.

Modes: `neurag` (neurons, nothing pasted), `closed` (the plain backbone), `rag` (BM25 passages pasted),
`hybrid` (both: passages are read, neurons asked alone, and the reader chooses, choosing.py). Not here: how neurons are
chosen and act (hyper_layer/), how they are made (knowledge/), which questions are worth asking in steps (chaining.py).

    >>> model = Model.load(bank="notes.bank")            # doctest: +SKIP
    >>> model.answer("Who leads the Oskerby workshop?").answer      # doctest: +SKIP
    'Ilse Maranth'
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from .answer import Answer, Conflict, Step, Timing, declines
from .backbone import Backbone
from .branching import begin, branches
from .chaining import Way, best_ways, worth_asking
from .choosing import prefers
from .config import BATCH, DEFAULT_MODEL, AnswerOptions, Mode, RouteOptions, UsageError
from .decoding import decode
from .hyper_layer.conflicts import conflict, stated
from .hyper_layer.layer import HyperLayer
from .hyper_layer.provenance import explain
from .hyper_layer.recall import Candidate, candidates, chosen, silent_reads
from .knowledge.bank import Bank
from .knowledge.calibration import bank_calibration
from .knowledge.retrieval import Passages
from .knowledge.spaces import open_space
from .loading import load_backbone
from .prompts import question_prompt
from .reply import Reply, fired, sources_of


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
        return next(self.answers([question], options))

    def answers(
        self, questions: Sequence[str], options: AnswerOptions | Sequence[AnswerOptions] = AnswerOptions(),
        batch: int = BATCH,
    ) -> Iterator[Answer]:  # fmt: skip
        """Answer many questions, `batch` of them side by side: several times faster than one after the other.

        Yields one Answer a question, in order, and raises what `answer` raises. `options` may be given for
        each question; all must then have the same mode, length and routing. An Answer's times run from the start
        of its batch, so its prefill holds the whole batch's.
        """
        if isinstance(questions, str) or batch < 1:
            raise UsageError("answers takes a list of questions, and a batch of at least 1")
        told = [options] * len(questions) if isinstance(options, AnswerOptions) else list(options)
        if len(told) != len(questions):
            raise UsageError(f"{len(questions)} questions came with {len(told)} options: give one each, or one for all")
        if len({(o.mode, o.max_new_tokens, o.route) for o in told}) > 1:
            raise UsageError("questions answered together need the same mode, max_new_tokens and route")
        for start in range(0, len(questions), batch):
            here = slice(start, start + batch)
            together = [self._reply(q, o) for q, o in zip(questions[here], told[here], strict=True)]
            self._complete(together)
            for reply in together:
                self.last = self._answer(reply)
                yield self.last

    def stream(self, question: str, options: AnswerOptions = AnswerOptions()) -> Iterator[str]:
        """Yield the answer in pieces as it is written; afterwards `last` holds the whole Answer.

        Where one of several answers is given (`weigh`, and the mode hybrid), it comes in one piece.
        """
        reply = self._reply(question, options)
        if reply.second or reply.weighed:
            self._complete([reply])
            yield reply.said
        else:
            yield from self._write([reply])
        self.last = self._answer(reply)

    def _reply(self, question: str, options: AnswerOptions) -> Reply:
        start = time.perf_counter()
        passages = self._retrieve(question, options) if options.mode in ("rag", "hybrid") else []
        prompt = question_prompt(self._speaker(options.mode), question, passages, options.max_new_tokens)
        firing = second = None
        if options.mode == "neurag":
            seed = zlib.crc32(question.encode())
            seen = options.labels, options.without
            firing = self._layer(options.route).firing(prompt.span_from_end, *seen, options.force, seed)
        spent = time.perf_counter() - start
        if options.mode == "hybrid":
            second = self._reply(question, replace(options, mode="neurag"))
        return Reply(question.strip(), options, prompt, firing, spent, second=second)

    def _speaker(self, mode: Mode) -> Backbone:
        """Who answers: passages in the prompt are read by the model that was trained to read."""
        return self.backbone.reader if mode in ("rag", "hybrid") else self.backbone

    def _complete(self, replies: Sequence[Reply]) -> None:
        """Answer side by side: what is read or said alone, what neurons say beside it, and which of them is given."""
        for together in (replies, [reply.second for reply in replies if reply.second]):
            self._say(together)
            self._chain(together)
        self._read_on(replies)
        self._choose(replies)

    def _say(self, replies: Sequence[Reply]) -> None:
        """An answer to each, weighed or written."""
        self._weigh([reply for reply in replies if reply.weighed])
        for _ in self._write([reply for reply in replies if not reply.weighed]):
            pass

    def _weigh(self, replies: Sequence[Reply]) -> None:
        """What the neurons begin to say, and what their nearest lessons answer; of these, the one with most worth."""
        if not replies:
            return
        options, start = replies[0].options, time.perf_counter()
        layer, firings = self._layer(options.route), [reply.firing for reply in replies if reply.firing]
        with layer.active(acting := list(firings)):
            begun = begin(self.backbone, [reply.prompt.ids for reply in replies])
            speaking = [not firing.first.abstained for firing in firings]
            acting.clear()
            reads = silent_reads(layer, begun) if any(speaking) else [None] * len(replies)
            acting[:] = firings
            told = branches(self.backbone, begun, options.max_new_tokens, acting, speaking.__getitem__)
        for reply, firing, read, made, speaks in zip(replies, firings, reads, told, speaking, strict=True):
            if speaks and read is not None:
                reply.considered = candidates(layer, firing, reply.question, read, made)
            tokens = made[0].tokens
            if reply.considered:
                best, reply.confidence = chosen(reply.considered, self.backbone.weigher, reply.score)
                tokens = best.tokens
            reply.give(tokens[: options.max_new_tokens], time.perf_counter() - start, self.backbone)
            firing.path = [firing.first] * (len(reply.tokens) + 1)  # all branches passed here

    def _chain(self, replies: Sequence[Reply]) -> None:
        """Ask for what the questions describe, then with the answers in place, and keep what is likelier right."""
        start = time.perf_counter()
        described = [(r, one) for r in replies if r.firing for one in worth_asking(self._layer(r.options.route), r)]
        firsts = self._alone([(one.asked, reply.options) for reply, one in described])
        ways = best_ways([Way(*told, first) for told, first in zip(described, firsts, strict=True) if first])
        lasts = self._alone([(way.question, way.options) for way in ways])
        for way, last in zip(ways, lasts, strict=True):
            if last:
                way.reply.follow((way.first, last), way.certainty(last))
        for reply in {id(reply): reply for reply, _ in described}.values():
            reply.wait(time.perf_counter() - start)

    def _alone(self, asked: Sequence[tuple[str, AnswerOptions]]) -> list[Reply | None]:
        """Questions that nobody put, answered side by side; None for one that is too long."""
        made: list[Reply | None] = []
        for question, options in asked:
            try:
                made.append(self._reply(question, options))
            except UsageError:
                made.append(None)
        there = [reply for reply in made if reply]
        for start in range(0, len(there), BATCH):
            self._say(there[start : start + BATCH])
        return made

    def _read_on(self, replies: Sequence[Reply]) -> None:
        """In the mode hybrid, where the neurons went in steps: read the passages of the last step's question instead,
        unless it was said which to read."""
        stepped = [(r, r.second) for r in replies if r.second and r.second.steps and r.options.paste is None]
        start = time.perf_counter()
        told = [(second.final.question, replace(reply.options, mode="rag")) for reply, second in stepped]
        for (reply, _), read in zip(stepped, self._alone(told), strict=True):
            if read:
                reply.prompt, reply.tokens, reply.shown = read.prompt, read.tokens, read.shown
            reply.wait(time.perf_counter() - start)

    def considered(
        self, questions: Sequence[str], options: Sequence[AnswerOptions], batch: int = BATCH
    ) -> Iterator[tuple[list[Candidate], float]]:
        """The answers that are weighed for each question in the mode neurag, and the best neuron's score: what a
        weigher is trained on. No answers where no neuron speaks."""
        for start in range(0, len(questions), batch):
            here = slice(start, start + batch)
            replies = [self._reply(*told) for told in zip(questions[here], options[here], strict=True)]
            self._weigh(replies)
            yield from ((reply.considered, reply.score) for reply in replies)

    def _write(self, replies: Sequence[Reply]) -> Iterator[str]:
        """Decode side by side; yields each row's pieces as they come."""
        if not replies:
            return
        options = replies[0].options
        firings = [reply.firing for reply in replies if reply.firing]
        layer = self._layer(options.route) if firings else None
        start = time.perf_counter()
        with layer.active(firings) if layer else nullcontext():
            prompts = [reply.prompt.ids for reply in replies]
            for step in decode(self._speaker(options.mode), prompts, options.max_new_tokens):
                now = time.perf_counter() - start
                for row, token in zip(step.rows, step.tokens, strict=True):
                    yield from replies[row].take(token, now, self.backbone)
                if firings:
                    firings[:] = [firing for row in step.going if (firing := replies[row].firing)]

    def _choose(self, replies: Sequence[Reply]) -> None:
        """In the mode hybrid: where both the passages and the neurons gave an answer, let the reader choose."""
        torn = [(reply, reply.second) for reply in replies if reply.second and reply.torn]
        if not torn:
            return
        start = time.perf_counter()
        told = [r.prompt.ids for r, _ in torn], [r.tokens for r, _ in torn], [second.tokens for _, second in torn]
        for (reply, _), known in zip(torn, prefers(self._speaker("hybrid"), *told), strict=True):
            reply.outdone, reply.choosing = known, time.perf_counter() - start

    def _retrieve(self, question: str, options: AnswerOptions) -> list[tuple[str, str]]:
        if options.paste is not None:
            return list(options.paste)
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
            calibration = bank_calibration(bank.path, self.backbone)
            space = open_space(calibration, bank.manifest)
            self._layers[route] = HyperLayer(self.backbone, calibration, space, bank, route)
        return self._layers[route]

    def _need_bank(self, mode: str) -> Bank:
        if self.bank is None:
            raise UsageError(f"mode '{mode}' needs a bank: name one with --bank DIR, or use --mode closed")
        return self.bank

    def _answer(self, reply: Reply) -> Answer:
        neural, options = reply.second or reply, reply.options
        last, firing = neural.final, neural.firing
        layer = self._layer(options.route) if firing else None
        checks = [self._checked(step, step.said if neural.steps else reply.said) for step in neural.steps or (neural,)]
        free = firing is not None and options.mode == "neurag" and not options.force
        why = None
        if layer and last.firing and options.explain:
            why = explain(layer, last.firing, last.prompt, last.question, last.tokens)
        return Answer(
            reply.said,
            options.mode,
            abstained=(free and (reply.silent or self._unsure(reply))) or declines(reply.said),
            neurons=fired(neural, layer) if layer else (),
            conflict=next((found for found, _ in checks if found), None),
            timing=_timing(reply, sum(seconds for _, seconds in checks)),
            ranked=layer.ranking(firing, options.ranked) if layer and firing and options.ranked else (),
            explanation=why,
            confidence=reply.confidence,
            steps=tuple(Step(one.question, one.said, one.confidence or 0.0) for one in neural.steps),
        )

    def _unsure(self, reply: Reply) -> bool:
        """Whether the answer is too likely wrong to be one."""
        weigher, wanted = self.backbone.weigher, reply.options.sure
        least = wanted if wanted is not None else weigher.sure if weigher else 0.0
        return reply.confidence is not None and reply.confidence < least

    def _checked(self, reply: Reply, said: str) -> tuple[Conflict | None, float]:
        """Whether the documents that compete for the lead disagree, and the seconds that asking them took."""
        firing, options = reply.firing, reply.options
        if firing is None or not options.check_conflicts or not firing.first.contest or firing.first.abstained:
            return None, 0.0
        start = time.perf_counter()
        sources, texts = sources_of(firing, self._layer(options.route))
        # each alone, and without pasted passages, which would speak for all of them
        plain = replace(options, mode="neurag", check_conflicts=False, explain=False, ranked=0)
        alone = [replace(plain, force=((source.doc_id, 1.0),)) for source in sources]
        told = [answer.answer for answer in self.answers([reply.question] * len(alone), alone)]
        answers = [answer if stated(answer, text) else "" for answer, text in zip(told, texts, strict=True)]
        found = conflict(answers, sources, said, options.route.conflict)
        return found, time.perf_counter() - start


def _timing(reply: Reply, checking: float) -> Timing:
    """Where the time of a question went; `checking`: seconds spent on asking each document that competes."""
    neural = reply.second or reply
    routing = neural.firing.seconds if neural.firing else 0.0
    before, after = reply.prepared + reply.first, reply.last - reply.first + checking
    if reply.second:  # the neurons are asked when the passages have been read
        after += neural.prepared + neural.last - routing + reply.choosing
    else:
        before -= routing
    return Timing(before, routing, after, len(reply.prompt.ids))
