"""The plots of an evaluation, as SVG for a page: match, match against time, paired differences, lines of a sweep.

Colours are CSS variables (`var(--rag)`) that the page defines for light and dark; texts stay texts. A family of
systems has one hue, controls are grey, and what is hollow is not a plain result: a system that was told the gold
documents, or a difference that may be chance.

Not here: the page around the plots (`page.py`). Needs matplotlib, imported only when something is drawn.

    page.write(charts(result)["match"].svg)
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from ..config import NeuragError
from ..knowledge.documents import clean_text
from .report import FAMILIES, family, groups, role
from .results import PairFigures, Result, SystemFigures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .sweep import Swept

_HUES = ("ink", "soft", "line", "paper", *FAMILIES, "other", "control")
# matplotlib knows no CSS: it draws in these colours, and the finished SVG has the variables in their place.
_DRAWN = {hue: f"#{place}{place}{place}" for place, hue in enumerate(_HUES, start=10)}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "neurag",  # the same ids, and so the same page, in every run
    "text.parse_math": False,  # a system may be called $a$
    "font.size": 10,
    "text.color": _DRAWN["ink"],
    "axes.edgecolor": _DRAWN["line"],
    "axes.labelcolor": _DRAWN["soft"],
    "xtick.color": _DRAWN["soft"],
    "ytick.color": _DRAWN["soft"],
    "grid.color": _DRAWN["line"],
    "grid.linewidth": 0.6,
}
_RATES = ("match", "em", "f1", "answer_recall", "recall_at_1", "recall_at_5", "citation_precision", "citation_recall")
# Inches; an inch is 72 units of the SVG, so that 10 points stay legible on a phone.
_WIDTH, _ROW = 5.2, 0.25
_LONGEST = 30  # characters of a label
# Where a name may stand from its dot, nearest first: right or left, and points up or down.
_OFFSETS = [(side, sign * rise) for rise in (0, 9, 18, 28, 40, 55, 75) for side in (1, -1) for sign in (1, -1)]
_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Chart:
    """One plot, and what to know to read it."""

    title: str
    note: str
    svg: str


@dataclass(frozen=True)
class _Row:
    """A labelled point with its interval, in percent."""

    label: str
    middle: float
    low: float
    high: float
    hue: str
    hollow: bool


def need_matplotlib() -> None:
    """Raise NeuragError where matplotlib is not installed; ask before work whose end is a page."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise NeuragError('the page needs matplotlib for its plots: pip install "neurag[report]"') from error


def charts(result: Result) -> dict[str, Chart]:
    """Draw what the result has figures for, by name: match, time and differences.

    Raises:
        NeuragError: matplotlib is not installed.
    """
    need_matplotlib()
    from matplotlib import rc_context

    judged = {name: one for name, one in result.systems.items() if _known(one.match)}
    timed = {name: one for name, one in judged.items() if (one.seconds_per_question or 0) > 0}
    pairs = [pair for pair in result.pairs if pair.metric in _RATES and pair.n and _known(pair.difference)]
    with rc_context(_STYLE):
        drawn = {"match": _match(judged)} if judged else {}
        drawn |= {"time": _time(timed)} if len(timed) > 1 else {}
        return drawn | ({"differences": _differences(pairs)} if pairs else {})


def sweep_chart(swept: Swept) -> Chart:
    """Draw a line for each system over the settings of a sweep. Raises NeuragError without matplotlib."""
    need_matplotlib()
    from matplotlib import rc_context

    known = [name for name, one in swept.results[0].systems.items() if _known(one.match)]
    with rc_context(_STYLE):
        axes = _axes(0.6, 0.3 + 0.075 * max((len(_short(name)) for name in known), default=0), 3.2)
        axes.set_xticks(range(len(swept.labels)), swept.labels)
        axes.set_xlim(-0.3, len(swept.labels) - 0.7)
        axes.set_ylim(0, 100)
        axes.grid(axis="y")
        axes.set_xlabel(swept.option)
        axes.set_ylabel("right answers, %")
        ends = {name: _sweep_line(axes, swept, name, place - (len(known) - 1) / 2) for place, name in enumerate(known)}
        _name_ends(axes, ends)
        note = "Match with its 95 % Wilson interval. Settings are evenly spaced."
        return Chart(f"Right answers by {swept.option}", note, _svg(axes, f"sweep-{swept.option}"))


def _sweep_line(axes: Axes, swept: Swept, name: str, aside: float) -> float:
    """Draw one system's line, a little aside of the others, and return where it ends."""
    told = [_percent(one.match, one.match_low, one.match_high) for one in (r.systems[name] for r in swept.results)]
    places = [place + 0.03 * aside for place in range(len(told))]
    hue = family(name)
    axes.plot(places, [middle for middle, _, _ in told], color=_DRAWN[hue], linewidth=1.6)
    for place, (middle, low, high) in zip(places, told, strict=True):
        axes.plot([place, place], [low, high], color=_DRAWN[hue], linewidth=1, solid_capstyle="round")
        _dot(axes, place, middle, hue, role(name) == "oracle")
    return told[-1][0]


def _name_ends(axes: Axes, ends: Mapping[str, float]) -> None:
    """Write each name right of its line's end; names that would cover each other move up."""
    free = -math.inf
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        place = max(end, free)
        free = place + 5.5  # percent that a line of text takes
        told: dict[str, Any] = {
            "color": _DRAWN[family(name)],
            "va": "center",
            "fontsize": 9,
            "transform": axes.get_yaxis_transform(),
        }
        axes.text(1.02, place, _short(name), **told)


def _match(systems: Mapping[str, SystemFigures]) -> Chart:
    rows = []
    for group in groups(systems):
        best_first = sorted(group, key=lambda name: -(systems[name].match or 0))
        rows.append([_system_row(name, systems[name]) for name in best_first])
    axes = _intervals(rows, "right answers, %", ".1f")
    axes.set_xlim(0, 100)
    note = "Match with its 95 % Wilson interval. Hollow: told the gold documents. Grey: controls."
    return Chart("Right answers", note, _svg(axes, "match"))


def _system_row(name: str, one: SystemFigures) -> _Row:
    return _Row(name, *_percent(one.match, one.match_low, one.match_high), family(name), role(name) == "oracle")


def _differences(pairs: Sequence[PairFigures]) -> Chart:
    rows = [_pair_row(pair) for pair in sorted(pairs, key=lambda pair: -pair.difference)]
    axes = _intervals([rows], "difference, percentage points", "+.1f")
    axes.axvline(0, color=_DRAWN["soft"], linewidth=1, zorder=1)
    note = "With paired 95 % intervals, in the colour of the better one. Hollow: no clear difference."
    return Chart("Differences on the same questions", note, _svg(axes, "differences"))


def _pair_row(pair: PairFigures) -> _Row:
    label = f"{pair.a} − {pair.b}" + ("" if pair.metric == "match" else f" ({pair.metric})")
    hue = family(pair.a if pair.difference > 0 else pair.b) if pair.clear else "control"
    return _Row(label, *_percent(pair.difference, pair.low, pair.high), hue, not pair.clear)


def _percent(middle: float | None, low: float | None, high: float | None) -> tuple[float, float, float]:
    """Scale to percent; an end of the interval that is not known is the middle."""
    known = middle or 0.0
    return 100 * known, 100 * (low if _known(low) else known), 100 * (high if _known(high) else known)


def _intervals(groups: Sequence[Sequence[_Row]], unit: str, form: str) -> Axes:
    """Draw a line for each row: label, interval and number; a gap parts the groups."""
    rows = [row for group in groups for row in group]
    gaps = [place for place, group in enumerate(groups) for _ in group]
    places = [place + 0.6 * gap for place, gap in enumerate(gaps)]
    axes = _axes(0.15 + 0.085 * max(len(_short(row.label)) for row in rows), 0.6, (places[-1] + 1) * _ROW)
    axes.set_ylim(places[-1] + 0.6, -0.6)
    axes.set_yticks(places, [_short(row.label) for row in rows], color=_DRAWN["ink"])
    axes.grid(axis="x")
    axes.set_xlabel(unit)
    for place, row in zip(places, rows, strict=True):
        axes.plot([row.low, row.high], [place, place], color=_DRAWN[row.hue], linewidth=2, solid_capstyle="round")
        _dot(axes, row.middle, place, row.hue, row.hollow)
        number = format(row.middle, form).replace("-", "−")
        axes.text(1.03, place, number, transform=axes.get_yaxis_transform(), va="center_baseline")
    return axes


def _time(systems: Mapping[str, SystemFigures]) -> Chart:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    points = {name: (one.seconds_per_question or 0, 100 * (one.match or 0)) for name, one in systems.items()}
    times = [time for time, _ in points.values()]
    axes = _axes(0.5, 0.2, 3.6)
    axes.set_xscale("log")
    axes.set_xlim(min(times) / 1.8, max(times) * 1.8)
    axes.set_ylim(0, min(100, 1.1 * max(place for _, place in points.values()) + 5))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid()
    axes.set_xlabel("seconds per question, log scale")
    axes.set_ylabel("right answers, %")
    for name, (time, place) in points.items():
        _dot(axes, time, place, family(name), role(name) == "oracle")
    _name(axes, points)
    return Chart("Right answers against time", "Further up and to the left is better.", _svg(axes, "time"))


def _name(axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Write each name beside its dot, at the nearest place where it covers neither a dot nor another name."""
    scale = 72 / axes.figure.dpi  # pixels to points
    places = {name: axes.transData.transform(point) * scale for name, point in points.items()}
    frame = [end * scale for end in axes.bbox.extents]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places.values()]
    for name, (x, y) in sorted(places.items(), key=lambda item: -item[1][1]):
        text = _short(name)
        for side, rise in _OFFSETS:
            ends = sorted((x + 8 * side, x + (8 + 5.2 * len(text)) * side))
            box = (ends[0], y + rise - 5, ends[1], y + rise + 5)
            if _inside(box, frame) and not any(_overlap(box, other) for other in taken):
                break
        else:
            side, rise = _OFFSETS[0]
        taken.append(box)
        axes.annotate(
            text,
            points[name],
            xytext=(8 * side, rise),
            textcoords="offset points",
            fontsize=9,
            ha="left" if side > 0 else "right",
            va="center",
            arrowprops=None if abs(rise) < 12 else {"arrowstyle": "-", "color": _DRAWN["line"], "shrinkB": 4},
        )


def _inside(box: _Box, frame: Sequence[float]) -> bool:
    return box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _short(label: str) -> str:
    text = clean_text(label)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _dot(axes: Axes, x: float, y: float, hue: str, hollow: bool) -> None:
    face = _DRAWN["paper" if hollow else hue]
    axes.plot([x], [y], "o", markersize=7, color=_DRAWN[hue], markerfacecolor=face, markeredgewidth=1.6)


def _axes(left: float, right: float, height: float) -> Axes:
    """Make empty axes of this height with these margins, all in inches."""
    from matplotlib.figure import Figure

    below, above = 0.5, 0.1
    total = below + height + above
    figure = Figure(figsize=(_WIDTH, total))
    axes = figure.add_axes((left / _WIDTH, below / total, 1 - (left + right) / _WIDTH, height / total))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.set_axisbelow(True)
    return axes


def _svg(axes: Axes, name: str) -> str:
    """Return the figure as an <svg> element whose ids, kept apart by `name`, are unique in a page."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    axes.figure.get_figure(root=True).savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # in a page it would be about all elements
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for hue, colour in _DRAWN.items():
        svg = svg.replace(colour, f"var(--{hue})")
    return svg
