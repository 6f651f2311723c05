"""Encoding end to end on a tiny model: resume, replacement, faults, and what the bank then holds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import make_tiny
from neurag.config import AugmentOptions, EncodeOptions, NeuragError, UsageError
from neurag.knowledge import calibration, pipeline
from neurag.knowledge.bank import Bank, BankError
from neurag.knowledge.documents import Document
from neurag.knowledge.pipeline import encode, plan
from neurag.knowledge.readers import Skipped, read_paths
from neurag.loading import load_backbone
from neurag.model import Model

TINY = EncodeOptions(steps=2, rank=2, batch=2)
TEXTS = [
    {"id": f"d{i}", "title": f"House {i}", "text": f"House {i} in Oskerby belongs to Ada Brindle number {i}."}
    for i in range(5)
]


@pytest.fixture
def go(tiny, tmp_path):
    def run(documents, options=TINY, **kwargs):
        return encode(documents, tmp_path / "bank", options=options, backbone=tiny, **kwargs)

    run.path = tmp_path / "bank"
    return run


def rows(path):
    bank = Bank.open(path)
    return {r.id: r for d in bank.documents() for r in bank.get(d.id)}


def test_encode_stores_what_it_was_given(go):
    report = go([*TEXTS, "A plain string about geese."])
    assert (report.documents, report.chunks, report.encoded, report.reused) == (6, 6, 6, 0)
    held = rows(go.path)
    one = held["d3#0"]
    assert one.text == TEXTS[3]["text"] == TEXTS[3]["text"][one.start : one.end]
    assert one.neuron.any()
    assert one.pairs > 0
    assert len(one.keys) == len(one.positions)
    assert Bank.open(go.path).verify() == []


def test_what_a_document_says_again_is_learned_once(go):
    report = go([{"id": "ferry", "text": "The ferry to Oslo leaves at noon. " * 500}])
    assert report.chunks <= 3
    assert "leaves at noon" in rows(go.path)["ferry#0"].text


def test_a_second_run_encodes_nothing_and_new_documents_only_themselves(go):
    go(TEXTS)
    before = rows(go.path)
    assert go(TEXTS).encoded == 0
    report = go([*TEXTS, "Another text about a mill."])
    assert (report.encoded, report.reused) == (1, 5)
    after = rows(go.path)
    assert all((after[i].neuron == before[i].neuron).all() for i in before)


def test_changed_text_replaces_the_document_and_drops_its_old_tail(go):
    long = {"id": "d0", "title": "Long", "text": " ".join(f"Sentence {i} is here." for i in range(60))}
    options = replace(TINY, chunk_tokens=200)
    go([long, TEXTS[1]], options)
    assert len(Bank.open(go.path).get("d0")) > 1
    go([{**long, "text": "Short now."}], options)
    assert [r.text for r in Bank.open(go.path).get("d0")] == ["Short now."]
    assert len(Bank.open(go.path).get("d1")) == 1


def test_same_seed_same_bank_also_after_an_interruption(go, tiny, tmp_path, monkeypatch):
    encode(TEXTS, tmp_path / "whole", options=TINY, backbone=tiny)
    real_rows = pipeline._rows
    calls = []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real_rows(*args)

    monkeypatch.setattr(pipeline, "_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go(TEXTS)
    assert len(rows(go.path)) == 2  # the first group is committed, nothing of the second
    monkeypatch.setattr(pipeline, "_rows", real_rows)
    assert go(TEXTS).encoded == 3
    whole, resumed = rows(tmp_path / "whole"), rows(go.path)
    assert whole.keys() == resumed.keys()
    assert all((whole[i].neuron == resumed[i].neuron).all() for i in whole)


def test_kill_minus_nine_leaves_a_bank_that_goes_on(tiny_folder, tmp_path, tiny):
    many = [{"id": f"k{i}", "text": f"House {i} belongs to Ada Brindle number {i}."} for i in range(24)]
    code = f"""
import sys; sys.path.insert(0, {str(Path(pipeline.__file__).parents[2])!r})
from neurag.loading import load_backbone
from neurag.config import EncodeOptions
from neurag.knowledge.pipeline import encode
encode({many!r}, {str(tmp_path / "bank")!r}, options=EncodeOptions(steps=2, rank=2, batch=2),
       backbone=load_backbone({str(tiny_folder)!r}, device="cpu", dtype="float32"))
"""
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ.copy())
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if (tmp_path / "bank" / "bank.json").exists() and len(Bank.open(tmp_path / "bank")) >= 4:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(Bank.open(tmp_path / "bank"))
    assert kept >= 4
    assert kept % 2 == 0
    report = encode(many, tmp_path / "bank", options=TINY, backbone=tiny)
    assert (report.reused, report.encoded) == (kept, 24 - kept)


def test_disk_full_while_storing_is_one_line_and_keeps_what_was_there(go, monkeypatch):
    go(TEXTS[:2])

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("neurag.knowledge.bank.columns.table", full, raising=False)
    real_add = Bank.add

    def add(self, batch):
        self._table = _Full(self._table)
        return real_add(self, batch)

    monkeypatch.setattr(Bank, "add", add)
    with pytest.raises(BankError, match=r"(?i)no space") as error:
        go(TEXTS)
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    assert len(rows(go.path)) == 2


class _Full:
    """A table that has no room."""

    def __init__(self, table):
        self._real = table

    def __getattr__(self, name):
        if name in {"merge_insert", "add"}:
            raise OSError(28, "No space left on device")
        return getattr(self._real, name)


def test_nothing_readable_is_a_failure_and_skips_are_reported(go, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "good.txt").write_text("The mill is in Oskerby.")
    (tmp_path / "docs" / "bad.bin").write_bytes(b"\0\1")
    report = go(read_paths([tmp_path / "docs"]))
    assert (report.documents, len(report.skipped)) == (1, 1)
    with pytest.raises(NeuragError, match="no document could be read"):
        go([Skipped("x.pdf", "is encrypted")])
    with pytest.raises(NeuragError, match="no document could be read"):
        go([])


def test_bank_of_another_backbone_or_other_options_is_refused(go, tmp_path):
    go(TEXTS[:1])
    other = load_backbone(str(make_tiny(tmp_path / "other", seed=3)), device="cpu", dtype="float32")
    shallow = load_backbone(str(make_tiny(tmp_path / "shallow", layers=4)), device="cpu", dtype="float32")
    for wrong in (other, shallow):
        with pytest.raises(BankError):
            encode(TEXTS[:1], go.path, options=TINY, backbone=wrong)
    with pytest.raises(BankError, match="backbone"):
        Model.load(bank=go.path, backbone=other)
    with pytest.raises(BankError):
        go(TEXTS[:1], replace(TINY, rank=3))
    with pytest.raises(BankError):
        Model.load(bank=tmp_path / "nowhere")


def test_dry_run_writes_nothing_and_counts_what_encode_does(go, tiny):
    told = plan(TEXTS, go.path, options=TINY, backbone=tiny)
    assert (told.documents, told.chunks, told.todo) == (5, 5, 5)
    assert told.seconds > 0
    assert told.bytes > 0
    assert not go.path.exists()
    go(TEXTS[:2])
    assert plan(TEXTS, go.path, options=TINY, backbone=tiny).todo == 3


def test_progress_counts_up_to_the_total(go):
    seen = []
    go(TEXTS, progress=seen.append)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert (seen[-1].done, seen[-1].total) == (5, 5)
    assert {p.stage for p in seen} == {"writing questions", "training"}


def test_odd_texts_encode_without_a_crash(go):
    odd = [
        "水星是太阳系的八大行星中最小的。",
        "x",
        "1 2 3 4",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "def f():\n    return 1",
        "A b. " * 80,
    ]
    report = go([Document(text=t) for t in odd], augment=AugmentOptions(recite=True))
    assert report.encoded >= len(odd)


def test_a_bank_keeps_its_calibration_when_it_moves(go, tiny, tmp_path, monkeypatch):
    go(TEXTS[:2])
    asked = Model.load(bank=go.path, backbone=tiny).answer("Who runs the mill?")
    moved = tmp_path / "moved"
    shutil.copytree(go.path, moved)
    real = calibration.load_calibration(tiny)
    # another machine's rounding, far exaggerated
    other = replace(real, whiten=real.whiten.flip(1), asked=-real.asked, version="elsewhere")
    monkeypatch.setattr(calibration, "load_calibration", lambda _: other)
    there = Model.load(bank=moved, backbone=tiny)
    assert there.answer("Who runs the mill?").neurons == asked.neurons
    assert encode(TEXTS, moved, options=TINY, backbone=tiny).encoded == 3  # and it can grow there
    (moved / calibration.CALIBRATION).unlink()
    with pytest.raises(NeuragError, match="another calibration"):
        Model.load(bank=moved, backbone=tiny).answer("Who runs the mill?")
    (moved / calibration.CALIBRATION).write_bytes(b"half")
    with pytest.raises(NeuragError, match="cannot be read"):
        Model.load(bank=moved, backbone=tiny).answer("Who runs the mill?")


def test_options_that_teach_nothing_are_refused():
    with pytest.raises(UsageError, match="--around must be at least 1"):
        AugmentOptions(around=0)
    with pytest.raises(UsageError, match="nothing would be learned"):
        AugmentOptions(questions=0, asked_back=0, recite=False)
