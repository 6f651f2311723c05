"""What the backbone is shown: the chat prompt of a question, with the place of the question's own tokens.

Not here: generation. Every mode and every baseline builds its prompts here, so they differ only in what
they are meant to differ in.

    >>> question_prompt(backbone, "Who runs the mill?").ids[prompt.span[0]]      # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .backbone import Backbone
from .config import UsageError

SYSTEM = "Answer the question with a few words."
WORDINGS = {
    "question": "Write a question whose answer is in brackets: {}",
    "search": "Write a search query whose answer is in brackets: {}",
    "quiz": "Write a quiz question whose answer is in brackets: {}",
}
"""How a question writer is asked for a question, by its style."""
AROUND = 5
"""Words on each side of the answer that it is shown."""


@dataclass(frozen=True)
class Prompt:
    """Token ids, and the half-open range of the tokens that carry the user's own text."""

    ids: tuple[int, ...]
    span: tuple[int, int]
    offsets: tuple[tuple[int, int], ...] = ()
    """Where each token of the span stands in the user's own text, in characters."""

    @property
    def head(self) -> tuple[int, ...]:
        """What stands before the user's own text."""
        return self.ids[: self.span[0]]

    @property
    def tail(self) -> tuple[int, ...]:
        """The user's own text and all behind it."""
        return self.ids[self.span[0] :]

    @property
    def span_from_end(self) -> tuple[int, int]:
        """The span counted from the end (negative): the same whatever padding stands in front."""
        return self.span[0] - len(self.ids), self.span[1] - len(self.ids)


def render(backbone: Backbone, user: str, own: str | None = None, system: str | None = SYSTEM) -> Prompt:
    """The chat prompt for one user message, ready for the answer's first token.

    `own` is the last part of `user` whose tokens the span covers (default: all of it). Tokenizers without a
    chat template get a plain "Question: ... Answer:" form.
    """
    own = user if own is None else own
    text = _chat(backbone.tokenizer, user, system)
    start = text.rfind(own)
    encoded = backbone.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    inside = [i for i, (a, b) in enumerate(encoded.offset_mapping) if b > start and a < start + len(own)]
    span = (inside[0], inside[-1] + 1) if inside else (0, 0)
    offsets = ((max(0, a - start), b - start) for a, b in encoded.offset_mapping[slice(*span)])
    return Prompt(tuple(encoded.input_ids), span, tuple(offsets))


def question_prompt(
    backbone: Backbone, question: str, passages: Sequence[tuple[str, str]] = (), room: int = 64
) -> Prompt:
    """The prompt of a question, with (title, text) passages pasted in front when there are any.

    `room` tokens are kept free for the answer. Raises UsageError for an empty question and for one that is
    longer than the backbone's context.
    """
    question = question.strip()
    if not question:
        raise UsageError("the question is empty: ask something, for example `neurag ask --bank DIR 'Who ...?'`")
    shown = bool(passages)
    prompt = render(backbone, user_message(question, passages), own=question)
    if len(prompt.ids) + room > backbone.context:
        what = "the passages and the question are" if shown else "the question is"
        raise UsageError(
            f"{what} {len(prompt.ids)} tokens long, and {backbone.name} takes {backbone.context - room}: "
            "shorten it" + (" or use fewer --passages" if shown else "")
        )
    return prompt


def writing_request(answer: str, sentence: str = "", style: str = "question") -> str:
    """What a question writer is asked, behind the passage: the answer in brackets, with some words around it.

    >>> writing_request("1987", "The mill of Oskerby opened in 1987 and is run by Ilse Maranth.")
    'Write a question whose answer is in brackets: mill of Oskerby opened in [1987] and is run by Ilse'

    Raises UsageError for a style that is none.
    """
    if style not in WORDINGS:
        raise UsageError(f"there is no style {style!r} of questions: choose among {', '.join(WORDINGS)}")
    before, _, after = sentence.partition(answer) if answer in sentence else ("", "", "")
    shown = [*before.split()[-AROUND:], f"[{answer}]", *after.split()[:AROUND]]
    return WORDINGS[style].format(" ".join(shown))


def user_message(question: str, passages: Sequence[tuple[str, str]] = ()) -> str:
    """What the user says: the passages, one after the other, and then the question."""
    return "\n\n".join([*(f"{title}\n{text}" if title else text for title, text in passages), question])


def _chat(tokenizer: Any, user: str, system: str | None) -> str:
    messages = [{"role": "user", "content": user}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    if not tokenizer.chat_template:
        return f"{system}\n\nQuestion: {user}\nAnswer:" if system else f"Question: {user}\nAnswer:"
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
