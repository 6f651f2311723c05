"""Pictures of a unit report: in which layers units are, how the sets overlap, how firm they are. SVG files.

Needs matplotlib, imported when something is drawn. Not here: the sets (units.py).

    draw(units, {"relevant": 0.4, "irrelevant": 0.3}, Path("report"))
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import NeuragError
from ..files import swapped
from .units import Units

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = (("only_relevant", "relevant only", "#2a7f62"), ("shared", "shared", "#9a9a9a"),
         ("only_irrelevant", "irrelevant only", "#b5482f"))  # fmt: skip
NAMES = {"relevant": "relevant", "irrelevant": "irrelevant"} | {name: told for name, told, _ in SHOWN}


def need_matplotlib() -> None:
    """Raise NeuragError where matplotlib is not installed; ask before the work."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise NeuragError('the plots need matplotlib: pip install "neurag[report]", or use --no-plots') from error


def draw(units: Units, stability: Mapping[str, float | None], folder: Path) -> list[Path]:
    """Write layers.svg, overlap.svg and stability.svg. Raises NeuragError without matplotlib."""
    need_matplotlib()
    from matplotlib.figure import Figure

    done = []
    for name in ("layers", "overlap", "stability"):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.add_subplot()
        if name == "layers":
            _layers(axes, units)
        elif name == "overlap":
            _overlap(axes, units)
        else:
            _stability(axes, stability)
        axes.spines[["top", "right"]].set_visible(False)
        done.append(folder / f"{name}.svg")
        with swapped(done[-1]) as aside:
            figure.savefig(aside, format="svg")
    return done


def _layers(axes: Axes, units: Units) -> None:
    below = [0] * units.depth
    for name, told, hue in SHOWN:
        counts = [len(found) for found in units.by_layer(getattr(units, name))]
        axes.bar(range(units.depth), counts, bottom=below, label=told, color=hue)
        below = [one + more for one, more in zip(below, counts, strict=True)]
    axes.set_xlabel("layer")
    axes.set_ylabel("units")
    axes.legend(frameon=False)


def _overlap(axes: Axes, units: Units) -> None:
    left = 0
    for name, told, hue in SHOWN:
        count = len(getattr(units, name))
        axes.barh(0, count, left=left, color=hue, label=f"{told}: {count}")
        left += count
    axes.set_yticks([])
    axes.set_xlabel("units")
    axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))


def _stability(axes: Axes, stability: Mapping[str, float | None]) -> None:
    axes.barh([NAMES[name] for name in stability], [value or 0.0 for value in stability.values()], color="#4a6fa5")
    axes.set_xlim(0, 1)
    axes.set_xlabel("Jaccard similarity of the sets of two halves of the contexts")
