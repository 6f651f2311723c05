"""What the command line shows of conflicts and explanations, and the heat map."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest

from neurag.answer import Conflict, Explanation, NeuronTrace, Side, Source, Span
from neurag.app import heatmap
from neurag.config import AnswerOptions, NeuragError
from test_cli import FIRED, fake, run  # noqa: F401  (a fixture)

TEXT = "Since 2021 [red]Ilse Maranth leads it."
SPANS = (Span(11, 29, False, ("leads", "Who"), 0.31), Span(4, 12, True, ("workshop",), 0.2))
WHY = Explanation(
    ("Who ", "leads"),
    ("Il", "se"),
    -1.5,
    (
        NeuronTrace("oskerby", "The workshop", TEXT, (1.0, 0.0), (0.2, 0.31), SPANS, 4.0),
        NeuronTrace("inn", "", "The inn.", (0.1, 1.0), (0.0, 0.1), (), -0.7),
    ),
)
SIDES = (
    Side("Ada [b]", (Source("v1", "Old", "2023-01-01", None), Source("v2", "Old", "", 0.5))),
    Side("Ilse", (Source("v3", "New", "2026-01-01", None),), followed=True),
)


@pytest.fixture
def asked(fake, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    fake.reply = replace(FIRED, conflict=Conflict("newest", SIDES), explanation=WHY)
    return fake


def test_a_conflict_is_shown_with_its_sides_documents_and_who_was_followed(capsys, asked):
    out = run(capsys, "ask", "Who leads?", "--bank", "b")[1].splitlines()
    (start,) = [n for n, line in enumerate(out) if line == "the documents disagree (the newest speaks):"]
    assert [line.split() for line in out[start + 1 : start + 3]] == [
        ["Ada", "[b]", "v1", "(2023-01-01),", "v2", "(trust", "0.5)"],
        ["→", "Ilse", "v3", "(2026-01-01)"],
    ]


def test_an_explanation_names_places_effects_and_moves(capsys, asked):
    code, out, err = run(capsys, "ask", "Who leads?", "--bank", "b", "--explain")
    assert code == 0
    assert asked.calls[1] == ("Who leads?", AnswerOptions(explain=True))
    assert TEXT in out
    assert ["0.31", "leads,", "Who", "→", "[red]Ilse", "Maranth"] in [line.split() for line in out.splitlines()]
    assert ["0.20", "workshop", "→", "workshop"] in [line.split() for line in out.splitlines()]
    flat = " ".join(out.split())
    assert "matches 51% of the question; without it the answer would be 54.6 times less likely (-4.00 nats)" in flat
    assert "2.01 times more likely (+0.70 nats)" in flat
    moves = out[out.index("weight at each token") :].splitlines()
    assert [line.split()[-2:] for line in moves[:2]] == [["Il", "se"], ["workshop", "█"]]
    assert "heat map: neurag-explain.png" in err


def test_the_heat_map_is_a_picture_where_it_was_asked_for(capsys, asked, tmp_path):
    pytest.importorskip("matplotlib")
    code, out, _ = run(capsys, "ask", "Who costs $5$?", "--bank", "b", "--explain-png", "why/it.png", "--json")
    assert code == 0
    assert json.loads(out)["explanation"]["neurons"][0]["effect"] == 4.0
    assert json.loads(out)["conflict"]["sides"][1]["followed"] is True
    told = (tmp_path / "why" / "it.png").read_bytes()
    assert told.startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["why"]
    heatmap.write(tmp_path / "other.png", replace(WHY, neurons=WHY.neurons[::-1]), "Who costs $5$?")
    assert (tmp_path / "other.png").read_bytes() != told


def test_without_matplotlib_the_terminal_still_explains(capsys, asked, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = run(capsys, "ask", "Who?", "--bank", "b", "--explain")
    assert code == 0
    assert "54.6 times" in out
    assert 'pip install "neurag[report]"' in err
    asked.calls.clear()
    code, out, err = run(capsys, "ask", "Who?", "--bank", "b", "--explain-png", "why.png")
    assert (code, out, asked.calls) == (1, "", [])  # asked for by name: found out before the model is loaded
    assert 'needs matplotlib: pip install "neurag[report]"' in err
    assert list(tmp_path.iterdir()) == []


def test_a_heat_map_that_cannot_be_drawn_or_written_says_so(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(NeuragError, match="no neuron fired"):
        heatmap.write(tmp_path / "a.png", replace(WHY, neurons=()), "Who?")
    (tmp_path / "file").write_text("")
    with pytest.raises(NeuragError, match="name another file"):
        heatmap.write(tmp_path / "file" / "a.png", WHY, "Who?")
    heatmap.write(tmp_path / "b.png", replace(WHY, answer=()), "Who?")  # an empty answer has no tokens
