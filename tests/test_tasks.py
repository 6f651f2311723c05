"""Task adapters: packing changes nothing, a stopped run ends the same, folding is applying, bad rows are named."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from conftest import make_tiny
from neurag.app.cli import main
from neurag.config import BASE_MODEL, NOT_STATED, NeuragError, UsageError
from neurag.loading import load_backbone
from neurag.lora import ALL, Lora, applied, fold, start
from neurag.prompts import question_prompt
from neurag.tasks.examples import Packed, TaskRow, pack, read_rows
from neurag.tasks.matching import UnitSpace, match_loss, matches
from neurag.tasks.options import TaskOptions
from neurag.tasks.training import CHECKPOINT, batch_loss, stopped, train_task

MILL = (("Oskerby", "The mill of Oskerby opened in 1987 and is run by Ilse Maranth."),)
BOTH = (*MILL, ("Carrow", "The market of Carrow is held on Sundays."))
ROWS = [
    TaskRow(MILL, "When did the mill open?", "1987"),
    TaskRow(MILL, "Who runs the mill?", "Ilse Maranth"),
    TaskRow(MILL, "Who built the bridge?", None),
    TaskRow(BOTH, "When is the market held?", "on Sundays"),
]
OPTIONS = TaskOptions(rank=4, epochs=6, batch_tokens=400, save_every=2, learning_rate=5e-3, matching=12)


def test_rows_about_the_same_passages_share_them(tiny):
    mill, both = pack(tiny, ROWS)
    assert len(mill.segments) == 5  # three questions to read, two of them to write
    assert len(both.segments) == 1  # several passages: reading only
    told = tiny.tokenizer.decode(mill.segments[4].ids[mill.segments[4].learn :])
    assert NOT_STATED in told
    whole = (*mill.prefix, *mill.segments[0].ids)
    assert whole[: len(mill.prefix) + mill.segments[0].learn] == question_prompt(tiny, ROWS[0].question, MILL).ids


def test_packed_segments_do_not_see_each_other(tiny):
    """The loss of a packed batch is that of its segments one by one."""
    packed = pack(tiny, ROWS)
    alone = [Packed(example.prefix, (segment,)) for example in packed for segment in example.segments]
    weight = torch.tensor([s.weight * (len(s.ids) - s.learn) for x in alone for s in x.segments])
    losses = torch.stack([batch_loss(tiny, [x]) for x in alone])
    assert batch_loss(tiny, packed) == pytest.approx(float((losses * weight).sum() / weight.sum()), rel=1e-4)


def test_an_adapter_learns_and_a_stopped_run_ends_the_same(tiny, tmp_path):
    packed, passages = pack(tiny, ROWS), matches(tiny, ROWS, seed=0)
    whole = train_task(tiny, packed, passages, OPTIONS, tmp_path / "whole")
    assert whole.loss < float(batch_loss(tiny, packed)) - 0.5
    only_read = train_task(tiny, packed, [], OPTIONS, tmp_path / "read")
    assert only_read.match_loss is None
    assert whole.match_loss < float(match_loss(tiny, UnitSpace.of(tiny), passages)) - 0.3

    class Stopped(Exception):
        pass

    def stop(told):
        if told.step == 5:
            raise Stopped

    with pytest.raises(Stopped):
        train_task(tiny, packed, passages, OPTIONS, tmp_path / "again", stop)
    assert (tmp_path / "again" / CHECKPOINT).exists()
    train_task(tiny, packed, passages, OPTIONS, tmp_path / "again")
    made, again = (Lora.load(tmp_path / name / "task.safetensors") for name in ("whole", "again"))
    for name in made.up:
        assert torch.equal(made.up[name], again.up[name])
    assert not (tmp_path / "again" / CHECKPOINT).exists()


def test_a_checkpoint_of_other_rows_is_not_taken_up(tiny, tmp_path):
    packed = pack(tiny, ROWS)

    def stop(told):
        if told.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_task(tiny, packed, [], OPTIONS, tmp_path, stop)
    steps = []
    train_task(tiny, packed[:1], [], OPTIONS, tmp_path, lambda told: steps.append(told.step))
    assert steps[0] == 1


def test_a_stopped_run_leaves_its_adapter(tiny, tmp_path):
    packed = pack(tiny, ROWS)

    def stop(told):
        if told.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(NeuragError, match="no run to go on with"):
        stopped(tmp_path, OPTIONS.scale)
    with pytest.raises(KeyboardInterrupt):
        train_task(tiny, packed, [], OPTIONS, tmp_path, stop)
    before = float(batch_loss(tiny, packed))
    with applied(tiny, stopped(tmp_path, OPTIONS.scale)):
        assert float(batch_loss(tiny, packed)) < before


@pytest.mark.parametrize(("options", "wrong"), [({"epochs": 0, "matching": 0}, "nothing"), ({"matched": 0}, "matched")])
def test_a_run_without_work_is_refused(tiny, tmp_path, options, wrong):
    with pytest.raises(UsageError, match=wrong):
        train_task(tiny, pack(tiny, ROWS), matches(tiny, ROWS, seed=0), replace(OPTIONS, **options), tmp_path)


def test_an_adapter_is_trained_further(tiny, tmp_path):
    packed, short = pack(tiny, ROWS), replace(OPTIONS, epochs=1)
    first = train_task(tiny, packed, [], short, tmp_path / "first")
    begun = Lora.load(tmp_path / "first" / "task.safetensors")
    more = train_task(tiny, packed, [], replace(short, rank=2), tmp_path / "more", begin=begun)
    assert more.loss < first.loss
    assert json.loads((tmp_path / "more" / "task.json").read_text())["rank"] == OPTIONS.rank
    same = begun.unfinished(2.0).finished(2.0)
    assert all(torch.allclose(same.up[name], begun.up[name]) for name in begun.up)


def test_a_small_file_says_nearly_the_same(tiny, tmp_path):
    drawn = torch.Generator().manual_seed(1)
    fresh = start(tiny, 3, 0, ALL)
    up = {name: torch.randn(x.shape, generator=drawn) for name, x in fresh.up.items()}
    lora = Lora({name: x.detach() for name, x in fresh.down.items()}, up)
    for small, within in ((False, 0.0), (True, 0.005)):
        lora.save(tmp_path / "a", small)
        back = Lora.load(tmp_path / "a")
        for one, other in ((lora.down, back.down), (lora.up, back.up)):
            for name, told in one.items():
                assert (other[name] - told).abs().max() <= within * told.abs().max()
    size = (tmp_path / "a").stat().st_size
    lora.save(tmp_path / "a")
    assert size < 0.5 * (tmp_path / "a").stat().st_size
    (tmp_path / "a").write_bytes(b"broken")
    with pytest.raises(NeuragError, match="train it again"):
        Lora.load(tmp_path / "a")


def test_folding_is_applying(tiny, tmp_path):
    drawn = torch.Generator().manual_seed(1)
    fresh = start(tiny, 3, 0, ALL)
    up = {name: torch.randn(x.shape, generator=drawn) * 0.05 for name, x in fresh.up.items()}
    lora = Lora({name: x.detach() for name, x in fresh.down.items()}, up)
    ids = torch.tensor([[5, 9, 40, 77, 3]])
    other = load_backbone(str(make_tiny(tmp_path / "same")), device="cpu", dtype="float32")
    with torch.no_grad():
        plain = other.model(input_ids=ids).logits
        with applied(other, lora):
            expected = other.model(input_ids=ids).logits
        fold(other, lora)
        torch.testing.assert_close(other.model(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
    assert (plain - expected).abs().max() > 1e-2


def test_a_model_is_named_with_its_adapter(tiny, tmp_path):
    folder, lora = make_tiny(tmp_path / "m"), start(tiny, 3, 0, ALL)
    up = {name: torch.ones_like(x) * 0.02 for name, x in lora.up.items()}
    Lora({name: x.detach() for name, x in lora.down.items()}, up).save(tmp_path / "a" / "task.safetensors")
    plain = load_backbone(str(folder), device="cpu", dtype="float32")
    made = load_backbone(f"{folder}+{tmp_path / 'a'}", device="cpu", dtype="float32")
    assert made.name == f"{folder}+{tmp_path / 'a'}"
    assert made.fingerprint != plain.fingerprint
    with pytest.raises(UsageError, match="has no adapter 'nothing'"):
        load_backbone(f"{BASE_MODEL}+nothing")
    shallow = make_tiny(tmp_path / "shallow", layers=4)
    with pytest.raises(UsageError, match="another model"):
        load_backbone(f"{shallow}+{tmp_path / 'a'}", device="cpu", dtype="float32")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2"),
        ('{"question": "Who?", "answer": "Ilse"}', "passage"),
        ('{"passage": "", "question": "Who?", "answer": "Ilse"}', "empty"),
        ('{"passage": [{"title": "x"}], "question": "Who?"}', "text"),
    ],
)
def test_a_broken_row_is_named(tmp_path, line, said):
    good = json.dumps({"passage": "The mill is old.", "question": "What is old?", "answer": "the mill"})
    (tmp_path / "rows.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(UsageError, match=said) as error:
        read_rows(tmp_path / "rows.jsonl")
    assert "line 2" in str(error.value)
    assert "\n" not in str(error.value)


def test_train_task_from_the_command_line(tmp_path, capsys):
    folder = make_tiny(tmp_path / "m")
    rows = [
        {"passage": t, "title": n, "question": r.question, "answer": r.answer} for r in ROWS for n, t in r.passages[:1]
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    told = [
        str(tmp_path / "rows.jsonl"),
        "-o",
        str(tmp_path / "a"),
        "--model",
        str(folder),
        "--rank",
        "2",
        "--epochs",
        "1",
    ]
    assert main(["train-task", *told]) == 0
    assert f"{folder}+{tmp_path / 'a'}" in capsys.readouterr().err.replace("\n", "")
    assert json.loads((tmp_path / "a" / "task.json").read_text())["rank"] == 2
    assert load_backbone(f"{folder}+{tmp_path / 'a'}", device="cpu").depth
    assert main(["train-task", *told[:2], str(tmp_path / "c"), *told[3:], "--from", str(tmp_path / "a")]) == 0
    assert main(["train-task", *told[:2], str(tmp_path / "d"), *told[3:], "--from", "nowhere"]) == 2
    matched = [*told[:2], str(tmp_path / "e"), *told[3:], "--matching", "1"]
    assert main(["train-task", *matched, "--lessons", told[0]]) == 0  # rows that were written look like those of people
    alone, both = (json.loads((tmp_path / n / "task.json").read_text())["matches"] for n in ("a", "e"))
    assert (alone, both > 0) == (0, True)
    assert main(["train-task", *matched, "--lessons", str(tmp_path / "nowhere.jsonl")]) == 1
    (tmp_path / "empty.jsonl").write_text("\n")
    assert main(["train-task", str(tmp_path / "empty.jsonl"), "-o", str(tmp_path / "b")]) == 2
