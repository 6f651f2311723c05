"""Training the routing projection: its score is the router's own, it learns, stops and goes on, and is used."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from neurag.app.cli import main
from neurag.config import RouteOptions, UsageError
from neurag.hyper_layer.routing import Router, question_states
from neurag.knowledge.bank import IndexBatch
from neurag.knowledge.calibration import load_calibration, neutral_states
from neurag.knowledge.keys import read_chunks
from neurag.loading import ROUTING_FILE, load_backbone
from neurag.projection import Projection
from neurag.tasks import routing
from neurag.tasks.held import hold
from neurag.tasks.options import RoutingOptions
from neurag.tasks.routing import RoutingRow, train_routing
from neurag.tasks.routing_course import Course

PEOPLE = ("Ilse", "Bo", "Ada", "Rut", "Per", "Eva", "Ole", "Kim", "Liv", "Jan", "Mia", "Tor")
FEW = RoutingOptions(steps=12, questions=6, check_every=4, hold_out=0.3, learning_rate=0.02, patience=9)


def made_rows(count=24):
    names = [f"{PEOPLE[n % 12]} {'Hask' if n < 12 else 'Maranth'}" for n in range(count)]
    texts = [(f"House {n}", f"House {n} was built by {name}.") for n, name in enumerate(names)]
    return [
        RoutingRow(f"what did {name} build", (texts[n],), (texts[(n + 1) % count],)) for n, name in enumerate(names)
    ]


@pytest.fixture(scope="module", autouse=True)
def neutral_once():
    """All runs here are of one model, and to one whose tokens are characters the neutral text is long."""
    kept = {}

    def read(backbone, text, layer):
        if layer not in kept:
            kept[layer] = neutral_states(backbone, text, layer)
        return kept[layer]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routing, "neutral_states", read)
        yield


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("routing")
    return folder, train_routing(tiny, made_rows(), FEW, folder)


def test_the_loss_on_documents_held_out_falls(trained):
    folder, report = trained
    assert report.held_out > 0
    assert report.questions + report.held_out == 24
    assert report.held_loss < report.held_loss_before
    told = json.loads((folder / "routing.json").read_text())
    assert (told["held_loss"], told["steps"]) == (report.held_loss, report.steps)
    assert sorted(path.name for path in folder.iterdir()) == ["routing.json", ROUTING_FILE, "states"]
    assert list((folder / "states").iterdir()) == []


def test_what_is_learned_from_is_the_routers_own_score(tiny, tmp_path):
    rows = made_rows()
    bench = routing._prepared(tiny, rows, FEW, tmp_path, lambda _: None)
    course = Course(bench, FEW, "run")
    scores = course._scores(range(4), range(6))
    calibration = load_calibration(replace(tiny, routing=None))
    texts = list(dict.fromkeys(text for row in rows for text in (*row.gold, *row.others)))[:6]
    states, positions = zip(*read_chunks(tiny, calibration.layer, texts), strict=True)
    keys = [calibration.project(told).half().numpy() for told in states]  # before a bank rounds them
    batch = IndexBatch(
        ids=list("abcdef"), document_ids=list("abcdef"), labels=[()] * 6, timestamps=[""] * 6, trusts=[None] * 6,
        lengths=np.array(list(map(len, keys))), keys=np.concatenate(keys),
        positions=np.concatenate(positions).astype(np.uint16),
    )  # fmt: skip
    router = Router(calibration, RouteOptions(top_k=6))
    index = router.build([batch])
    for row, told in zip(rows[:4], scores, strict=True):
        routed = router.route(index, question_states(tiny, calibration, row.question))
        found = dict(zip(routed.rows, routed.scores, strict=True))
        assert [found[n] for n in range(6)] == pytest.approx(told.tolist(), abs=4e-3)


def _untrained(tiny):
    layer = routing.routing_layer(tiny)
    return routing.whitening(routing.neutral_states(tiny, routing.neutral_texts()[0], layer), layer)


def test_a_stopped_run_ends_with_the_same_matrix(tiny, trained, tmp_path):
    class Stopped(Exception):
        pass

    def stop(told):
        if told.stage == "training" and told.done == 9:
            raise Stopped

    with pytest.raises(Stopped):
        train_routing(tiny, made_rows(), FEW, tmp_path, stop)
    steps = []
    train_routing(tiny, made_rows(), FEW, tmp_path, lambda told: steps.append((told.stage, told.done)))
    assert next(done for stage, done in steps if stage == "training") == 9  # from the checkpoint at 8
    states = torch.randn(60, tiny.width, generator=torch.Generator().manual_seed(0))
    # cosines: sums are taken in an order of their own in every run, and axes that hold equally much may change places
    one, other, plain = (
        found(states) @ found(states).T
        for found in (*(Projection.load(folder / ROUTING_FILE) for folder in (trained[0], tmp_path)), _untrained(tiny))
    )
    torch.testing.assert_close(one, other, rtol=0, atol=2e-3)
    assert (one - plain).abs().max() > 0.05


def test_turning_a_space_changes_no_cosine_and_puts_most_in_front():
    drawn = torch.Generator().manual_seed(0)
    states = torch.randn(200, 12, generator=drawn) * torch.linspace(0.1, 2, 12)
    one = Projection(3, torch.zeros(12), torch.randn(12, 8, generator=drawn))
    other = routing.ordered(one, states)
    torch.testing.assert_close(one(states) @ one(states).T, other(states) @ other(states).T, rtol=1e-4, atol=1e-5)
    held = other(states).square().mean(0)
    assert (held[1:] <= held[:-1] + 1e-6).all()
    cut = routing.ordered(one, states, 5)
    assert torch.equal(cut.matrix, other.matrix[:, :5])
    assert held[:4].sum() > one(states).square().mean(0)[:4].sum()


def test_it_ends_early_where_nothing_gets_better(tiny, tmp_path):
    options, steps = replace(FEW, learning_rate=900.0, patience=2, steps=400), []
    report = train_routing(tiny, made_rows(), options, tmp_path, lambda told: steps.append(told.done))
    assert steps[-1] < 400
    assert report.held_loss <= report.held_loss_before
    assert steps[-1] - report.steps == 2 * FEW.check_every


def test_a_backbone_takes_what_lies_in_its_adapters_folder(tiny_folder, trained):
    folder, _ = trained
    backbone = load_backbone(f"{tiny_folder}+{folder}", device="cpu", dtype="float32")
    projection = Projection.load(folder / ROUTING_FILE)
    calibration = load_calibration(backbone)
    assert torch.equal(calibration.whiten, projection.matrix)
    assert calibration.layer == projection.layer
    plain = load_calibration(replace(backbone, routing=None))
    assert not torch.equal(calibration.whiten, plain.whiten)
    assert calibration.version != plain.version


def test_a_projection_of_another_model_is_refused(tiny_folder, tmp_path):
    Projection(1, torch.zeros(7), torch.zeros(7, 4)).save(tmp_path / ROUTING_FILE)
    with pytest.raises(UsageError, match="another model"):
        load_backbone(f"{tiny_folder}+{tmp_path}", device="cpu", dtype="float32")


def test_texts_are_read_once(tmp_path):
    calls = []

    def read(part):
        calls.append(list(part))
        return [torch.full((len(text), 2), float(len(text))) for text in part]

    texts = ["one", "three", "seven"]
    for _ in range(2):
        held = hold(tmp_path, "texts", texts, read)
        states, lengths = held.of([2, 0])
        assert lengths == [5, 3]
        assert states.tolist() == [[5.0, 5.0]] * 5 + [[3.0, 3.0]] * 3
    assert calls == [texts]
    hold(tmp_path, "texts", texts, read, told="another model")
    assert len(calls) == 2


def test_from_the_command_line(tiny_folder, tmp_path, capsys):
    def labelled(row):
        pairs = [*((text, True) for text in row.gold), *((text, False) for text in row.others)]
        return [{"title": title, "text": text, "relevant": right} for (title, text), right in pairs]

    rows = [{"question": row.question, "answers": [], "docs": labelled(row)} for row in made_rows()]
    data, out = tmp_path / "rows.jsonl", tmp_path / "out"
    data.write_text("\n".join(map(json.dumps, [*rows, {"question": ""}])))
    flags = ["--model", str(tiny_folder), "--steps", "2", "--questions", "6", "--hold-out", "0.3"]
    assert main(["train-routing", str(data), "-o", str(out), *flags]) == 0
    said = capsys.readouterr().err
    assert "the row is left out" in said
    assert f"use it as --model {tiny_folder}+{out}" in " ".join(said.split())
    data.write_text(json.dumps(rows[0]))
    assert main(["train-routing", str(data), "-o", str(out), *flags]) == 2
    assert "too few" in capsys.readouterr().err
    data.write_text(json.dumps(rows[0] | {"docs": []}))
    assert main(["train-routing", str(data), "-o", str(out), *flags]) == 2
    assert "labelled relevant" in capsys.readouterr().err
