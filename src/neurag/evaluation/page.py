"""An evaluation as one HTML page that needs nothing else: figures, plots, and the questions where systems disagree.

The frame with its style and its one script is `page.html`; the plots come from `charts.py`. Whatever the data,
the documents or the models say is shown as text, never as markup, and the page loads nothing.

Not here: any figure. Needs matplotlib for the plots (`pip install "neurag[report]"`).

    write_page(result, Path("report.html"))
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from ..files import write_whole
from ..knowledge.documents import clean_text
from .charts import Chart, charts, sweep_chart
from .disputes import Dispute, disputes
from .report import NONE, caption, columns, family, groups, role, sweep_caption, sweep_cells, verdicts
from .results import Fired, Judged, Result

if TYPE_CHECKING:
    from .sweep import Swept

MOST = 200
"""Questions that a page shows, at most."""


def write_page(result: Result, path: Path) -> None:
    """Write the page; the file is the old one or the whole new one, never a part.

    Raises:
        NeuragError: matplotlib is not installed.
        OSError: the place cannot be written.
    """
    drawn = {name: _chart(chart) for name, chart in charts(result).items()}
    said = _list("ul", map(_text, verdicts(result)), "verdicts")
    parts = {
        "figures": _section("Figures", _figures(result)),
        "comparisons": _section("Comparisons", _side_by_side(said, drawn.get("differences", ""))),
        "plots": _section("Plots", _side_by_side(drawn.get("match", ""), drawn.get("time", ""))),
        "questions": _questions(result),
    }
    _write(path, result.meta, parts)


def write_sweeps(swept: Sequence[Swept], path: Path) -> None:
    """Write a page of sweeps: a table and a plot for each. Raises what `write_page` raises."""
    sections = [_section(f"By {one.option}", f"{_sweep_figures(one)}\n{_chart(sweep_chart(one))}") for one in swept]
    parts = {"figures": "\n".join(sections), "comparisons": "", "plots": "", "questions": ""}
    _write(path, swept[0].results[0].meta, parts)


def _write(path: Path, meta: Mapping[str, Any], parts: Mapping[str, str]) -> None:
    frame = Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    data = meta.get("data")
    title = _text(f"NeuRAG evaluation: {data}" if data else "NeuRAG evaluation")
    write_whole(path, frame.substitute(title=title, meta="\n".join(map(_meta, meta, meta.values())), **parts))


def _text(value: object) -> str:
    """Escape for use as text or as an attribute; characters that HTML forbids are gone."""
    return escape(clean_text(str(value)))


def _section(head: str, inside: str) -> str:
    return f"<section>\n<h2>{head}</h2>\n{inside}\n</section>" if inside else ""


def _list(tag: str, items: Iterable[str], kind: str) -> str:
    inside = "\n".join(f"<li>{item}</li>" for item in items)
    return f'<{tag} class="{kind}">\n{inside}\n</{tag}>' if inside else ""


def _meta(name: str, value: Any) -> str:
    told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, float):
        told = f"{value:,.4g}"
    elif value is None:
        told = NONE
    return f"<div><dt>{_text(name.replace('_', ' '))}</dt><dd>{_text(told)}</dd></div>"


def _system(name: str, tag: str) -> str:
    return f'<{tag} class="system {role(name)} {family(name)}">{_text(name)}</{tag}>'


def _figures(result: Result) -> str:
    """The table, and below it what its columns mean."""
    shown = columns(result)
    if not result.systems:
        return "<p>No system was asked.</p>"
    cells = {name: [column.cell(one) or NONE for column in shown] for name, one in result.systems.items()}
    meanings = "; ".join(f"<b>{_text(column.head)}</b>: {_text(column.meaning)}" for column in shown)
    return (
        _table([column.head for column in shown], cells)
        + f'<p class="note">{_text(caption(result))}. {meanings}. A hollow mark: the system was told the gold '
        "documents. Grey: controls, which should do badly.</p>"
    )


def _sweep_figures(swept: Swept) -> str:
    cells = {name: sweep_cells(swept, name) for name in swept.results[0].systems}
    heads = [f"{swept.option} {label}" for label in swept.labels]
    return _table(heads, cells) + f'<p class="note">{_text(sweep_caption(swept))}</p>'


def _table(heads: Iterable[str], cells: Mapping[str, Iterable[str]]) -> str:
    """A row for each system, in groups."""
    bodies = []
    for group in groups(cells):
        rows = "\n".join(
            f"<tr>{_system(name, 'th')}" + "".join(f"<td>{_text(cell)}</td>" for cell in cells[name]) + "</tr>"
            for name in group
        )
        bodies.append(f'<tbody class="{role(group[0])}">\n{rows}\n</tbody>')
    named = "".join(f'<th scope="col">{_text(head)}</th>' for head in heads)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Figures of all systems">\n<table>\n'
        f'<thead><tr><th scope="col">system</th>{named}</tr></thead>\n' + "\n".join(bodies) + "\n</table>\n</div>\n"
    )


def _side_by_side(*parts: str) -> str:
    inside = "\n".join(part for part in parts if part)
    return f'<div class="beside">\n{inside}\n</div>' if inside else ""


def _chart(chart: Chart) -> str:
    named = chart.svg.replace("<svg", f'<svg role="img" aria-label="{chart.title}"', 1)
    told = f'<strong>{chart.title}</strong> <span class="note">{chart.note}</span>'
    return f"<figure>\n<figcaption>{told}</figcaption>\n{named}\n</figure>"


def _questions(result: Result) -> str:
    found = disputes(result)
    if not found:
        return _section("Where systems disagree", "<p>At no question was one system right and another wrong.</p>")
    told = dict.fromkeys([*result.systems, *(answer.system for answer in result.answers)])
    names = [name for group in groups(told) for name in group]
    count = f"{len(found)} of {len(result.questions)} questions divide the systems, controls aside"
    shown = f"; the first {MOST} of them are here" if len(found) > MOST else ""
    blocks = "\n".join(_question(dispute, names) for dispute in found[:MOST])
    return _section(
        "Where systems disagree",
        f"<p>{count}{shown}. First come those where NeuRAG and RAG are furthest apart.</p>\n"
        f'{_filter(names)}\n<div id="questions">\n{blocks}\n</div>',
    )


def _filter(names: Sequence[str]) -> str:
    """The form that the script shows and reads; without the script it stays hidden."""
    options = "".join(f'<option value="{place}">{_text(name)}</option>' for place, name in enumerate(names))
    chosen = "".join(
        f'<label>{side} is <select name="{side}"><option value="">anyone</option>{options}</select></label>\n'
        for side in ("right", "wrong")
    )
    return (
        f'<form id="filter" hidden>\n{chosen}<label>text <input type="search" name="text"></label>\n'
        '<output name="shown"></output>\n</form>'
    )


def _question(dispute: Dispute, names: Sequence[str]) -> str:
    """A question with its accepted answers, folded; the answers of all systems stand side by side below."""
    given, asked = dispute.answers, dispute.question
    sides = {True: dispute.right, False: dispute.wrong}
    told = "".join(f"<span>{_verdict(side)} {_text(', '.join(who))}</span>" for side, who in sides.items())
    # The script filters by all systems, controls included; a name may hold spaces, its place does not.
    judged = [(place, given[name].correct) for place, name in enumerate(names) if name in given]
    right, wrong = (" ".join(str(place) for place, correct in judged if correct is side) for side in sides)
    cards = "\n".join(_answer(given[name], asked.gold) for name in names if name in given)
    return (
        f'<details data-right="{right}" data-wrong="{wrong}">\n<summary>'
        f'<span class="question" dir="auto">{_text(asked.question)}</span><span class="sides">{told}</span></summary>\n'
        f'<p><small>accepted:</small> <span dir="auto">{_text(" · ".join(asked.answers) or NONE)}</span><br>\n'
        f"<small>gold documents:</small> {_text(' · '.join(asked.gold) or NONE)}</p>\n"
        f'<div class="answers">\n{cards}\n</div>\n</details>'
    )


def _verdict(correct: bool | None) -> str:
    if correct is None:
        return "<span>not judged</span>"
    return '<span class="right">✓ right</span>' if correct else '<span class="wrong">✗ wrong</span>'


def _answer(answer: Judged, gold: Sequence[str]) -> str:
    """What one system said, and from what: neurons with their weights, then the other documents."""
    side = "not-judged" if answer.correct is None else "is-right" if answer.correct else "is-wrong"
    said = f"failed: {answer.error}" if answer.error else answer.answer or "(nothing)"
    declined = "<p><small>declined to answer</small></p>\n" if answer.abstained else ""
    fired = {neuron.doc_id for neuron in answer.fired}
    neurons = _list("ol", (_neuron(neuron, gold) for neuron in answer.fired), "fired")
    others = _list("ol", (_document(id, id, gold) for id in answer.doc_ids if id not in fired), "documents")
    head = f"<header>{_system(answer.system, 'h3')}{_verdict(answer.correct)}</header>"
    return (
        f'<article class="{side} {family(answer.system)}">\n{head}\n'
        f'<p dir="auto">{_text(said)}</p>\n{declined}{neurons}{others}\n</article>'
    )


def _neuron(neuron: Fired, gold: Sequence[str]) -> str:
    full = 100 * min(1.0, max(0.0, neuron.weight))
    bar = f'<span class="bar"><i style="width: {full:.0f}%"></i></span>'
    return f"{bar} <span>{neuron.weight:.2f}</span> {_document(neuron.doc_id, neuron.title or neuron.doc_id, gold)}"


def _document(id: str, title: str, gold: Sequence[str]) -> str:
    mark = ' <span class="gold">★ gold</span>' if id in gold else ""
    return f'<span title="{_text(id)}">{_text(title)}{mark}</span>'
