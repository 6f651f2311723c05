"""What `neurag ask --explain` draws in the terminal: the places each neuron was chosen for, and what it did.

Not here: how any of it is found (hyper_layer/provenance.py), the same as a picture (heatmap.py).

    show_explanation(Console(), model.answer("Who runs the mill?", AnswerOptions(explain=True)).explanation)
"""

from __future__ import annotations

from math import exp

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..answer import Explanation, NeuronTrace, Span
from ..knowledge.documents import clean_text

SHADES = " ▁▂▃▄▅▆▇█"
"""From nothing to the most that any token of the answer or question has."""
CITED = 5
"""Places that are named for each neuron, the weightiest first; all of them are marked in the text."""


def show_explanation(console: Console, explanation: Explanation) -> None:
    """For each neuron: weight and effect, its text with the matched words marked, and what they were matched with."""
    for trace in explanation.neurons:
        _show_neuron(console, trace)
    moving = [trace for trace in explanation.neurons if len(set(trace.weights)) > 1]
    if moving:
        console.print(_moves(explanation, moving))
    said = len(explanation.answer)
    told = f"the answer's {said} tokens have log-likelihood {explanation.log_likelihood:.2f} with all that acted"
    console.print(Text(told, style="dim"), soft_wrap=True)


def _show_neuron(console: Console, trace: NeuronTrace) -> None:
    weight = max(trace.weights, default=0.0)
    title = Text(clean_text(trace.title or trace.doc_id), style="bold")
    for span in (s for s in trace.spans if s.in_title):
        title.stylize(_shade(span), span.start, span.end)
    console.print(title, Text(f"{trace.doc_id}, weight {weight:.2f}"), soft_wrap=True)
    without = f"without it the answer would be {_times(trace.effect)} ({-trace.effect:+.2f} nats)"
    matched = f"matches {sum(trace.matched):.0%} of the question; {without}"
    console.print(Padding(Text(matched), (0, 0, 0, 2)))
    text = Text(clean_text(trace.text), style="dim")
    for span in (s for s in trace.spans if not s.in_title):
        text.stylize(_shade(span), span.start, span.end)
    console.print(Padding(text, (0, 0, 0, 2)))
    table = Table(box=None, show_header=False, pad_edge=False)
    for span in trace.spans[:CITED]:
        place = trace.title if span.in_title else trace.text
        asked = ", ".join(dict.fromkeys(span.words))
        table.add_row(f"{span.share:.2f}", *(Text(clean_text(t)) for t in (asked, "→", place[span.start : span.end])))
    console.print(Padding(table, (0, 0, 1, 2)))


def _times(effect: float) -> str:
    """The effect in nats as a ratio of likelihoods."""
    if abs(effect) < 0.05:
        return "just as likely"
    ratio = f"{exp(min(abs(effect), 13.8)):,.3g} times"
    more = "over " if abs(effect) > 13.8 else ""
    return f"{more}{ratio} {'less' if effect > 0 else 'more'} likely"


def _shade(span: Span) -> str:
    return "bold not dim underline" if span.share >= 0.1 else "not dim underline"


def _moves(explanation: Explanation, traces: list[NeuronTrace]) -> Table:
    """A row for each neuron whose weight changed while the answer was written, a column for each token."""
    table = Table(box=None, pad_edge=False)
    table.add_column("weight at each token", overflow="fold")
    for token in explanation.answer:
        table.add_column(Text(clean_text(token.strip())))
    for trace in traces:
        cells = (SHADES[round(min(max(weight, 0.0), 1.0) * (len(SHADES) - 1))] for weight in trace.weights)
        table.add_row(Text(clean_text(trace.title or trace.doc_id)), *cells)
    return table
