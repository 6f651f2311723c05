"""An explanation as a picture: which tokens chose which neuron, who acted at which token, and what leaving out does.

Three panels, a row for each neuron: what each token of the question adds to its score, its weight at each token of the
answer, and the effect on the answer's log-likelihood. Not here: how any of it is found (hyper_layer/provenance.py).
Needs matplotlib, imported only when something is drawn.

    write(Path("why.png"), answer.explanation, "Who runs the mill?")
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..answer import Explanation
from ..config import NeuragError
from ..files import swapped
from ..knowledge.documents import clean_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST = 28
"""Characters of a neuron's name."""
WIDEST = 40.0
"""Inches."""


def need_matplotlib() -> None:
    """Raise NeuragError where it is not installed; ask before the work."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise NeuragError('the heat map of --explain needs matplotlib: pip install "neurag[report]"') from error


def write(path: Path, explanation: Explanation, question: str) -> None:
    """Write the heat map as PNG, aside and then swapped in.

    Raises NeuragError where matplotlib is not installed, the file cannot be written, or nothing fired.
    """
    need_matplotlib()
    if not explanation.neurons:
        raise NeuragError("there is no heat map to draw: no neuron fired")
    drawn = _draw(explanation, question)
    try:
        with swapped(path) as aside:
            aside.write_bytes(drawn)
    except OSError as error:
        raise NeuragError(f"the heat map cannot be written to {path} ({error.strerror}): name another file") from error


def _draw(explanation: Explanation, question: str) -> bytes:
    from warnings import catch_warnings, simplefilter

    from matplotlib import rc_context
    from matplotlib.figure import Figure

    titles = [trace.title for trace in explanation.neurons]
    names = [_short(t.title if titles.count(t.title) == 1 and t.title else t.doc_id) for t in explanation.neurons]
    lengths = [max(len(explanation.question), 8), max(len(explanation.answer), 4), 8]
    size = (min(3.0 + 0.24 * sum(lengths), WIDEST), 1.6 + 0.35 * len(names))
    told = io.BytesIO()
    with rc_context({"text.parse_math": False, "font.size": 9}), catch_warnings():
        simplefilter("ignore", UserWarning)  # a glyph that the font lacks becomes a box
        figure = Figure(figsize=size, dpi=150, layout="constrained")
        asked, acted, effect = figure.subplots(1, 3, width_ratios=lengths, sharey=True)
        _cells(asked, [trace.matched for trace in explanation.neurons], explanation.question, "share of the score")
        _cells(acted, [trace.weights for trace in explanation.neurons], explanation.answer, "weight", top=1.0)
        asked.set_yticks(range(len(names)), names)
        effects = [trace.effect for trace in explanation.neurons]
        effect.barh(range(len(names)), effects, color=["#3b6fb6" if e > 0 else "#b65c3b" for e in effects])
        effect.axvline(0, color="black", linewidth=0.6)
        effect.set_title("helps the answer, nats", fontsize=9)
        effect.margins(x=0.15)
        figure.suptitle(_short(question, 4 * LONGEST), fontsize=10)
        figure.savefig(told, format="png", metadata={"Software": None})
    return told.getvalue()


def _cells(axes: Axes, rows: Sequence[Sequence[float]], tokens: Sequence[str], title: str, top: float = 0.0) -> None:
    """A grid of values with a colour bar, columns named by tokens; the scale ends at `top` or the highest value."""
    import numpy as np

    if not tokens:
        axes.set_axis_off()
        return
    values = np.array([list(row) for row in rows], float).reshape(len(rows), len(tokens))
    shown = axes.imshow(values, aspect="auto", cmap="Blues", vmin=0, vmax=max(top, float(values.max()), 1e-6))
    axes.set_xticks(range(len(tokens)), [_short(token.strip()) for token in tokens], rotation=90)
    axes.set_title(title, fontsize=9)
    axes.figure.colorbar(shown, ax=axes, shrink=0.8, aspect=12)


def _short(text: str, longest: int = LONGEST) -> str:
    text = " ".join(clean_text(text).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"
