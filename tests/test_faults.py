"""Ctrl-C and kill -9 while questions are written, neurons trained and answers given: the same command goes on.

Kill -9 between transactions is in test_pipeline.py, within one in test_bank.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from neurag.knowledge import calibration

SRC = Path(__file__).parents[1] / "src"
SABOTAGE = """
import importlib, os, signal, sys
sys.path.insert(0, {src!r})
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to Ctrl-C
module = importlib.import_module("neurag.{module}")
original, calls = module.{name}, []
def stop(*args, **kwargs):
    calls.append(1)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.{signal})
    return original(*args, **kwargs)
module.{name} = stop
from neurag.app.cli import main
sys.exit(main({arguments!r}))
"""
STAGES = {
    "augmentation": ("knowledge.augmentation", "write_whole", 2),
    "training": ("knowledge.pipeline", "train_neurons", 2),
}


@pytest.fixture
def run(tmp_path, tiny_folder, tiny_calibration):
    """Run the command line, stopped by a signal at the n-th call of a function."""
    # the texts are each test's own, so that no other test has cached their questions
    texts = [f"House {i} in {tmp_path.name} belongs to Ada Brindle number {i}." for i in range(4)]
    lines = [json.dumps({"id": f"d{i}", "text": text}) for i, text in enumerate(texts)]
    (tmp_path / "docs.jsonl").write_text("\n".join(lines))
    environment = os.environ | {"PYTHONPATH": str(SRC)}

    def go(command, stage=("config", "dataclass", 0), name="SIGKILL"):
        told = {
            "encode": ["encode", str(tmp_path / "docs.jsonl"), "--model", str(tiny_folder),
                       "--steps", "2", "--rank", "2", "--batch", "2", "--json"],
            "ask": ["ask", "Whose is house 2?", "--max-new-tokens", "4", "--json"],
        }[command]  # fmt: skip
        module, function, call = stage
        code = SABOTAGE.format(
            src=str(SRC), module=module, name=function, call=call, signal=name,
            arguments=[*told, "--bank", str(tmp_path / "bank")],
        )  # fmt: skip
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
        )

    return go


def test_encoding_that_was_killed_while_writing_questions_goes_on(run):
    assert run("encode", STAGES["augmentation"]).returncode == -signal.SIGKILL
    again = run("encode")
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    assert (told["documents"], told["encoded"], told["reused"]) == (4, 4, 0)


def test_calibrating_that_was_killed_starts_anew(tiny, tiny_calibration, tmp_path, monkeypatch):
    """What the kill leaves is a file aside, half-written."""

    class Killed(BaseException):
        pass

    def half(tensors, path, metadata):
        Path(path).write_bytes(b"half a file")
        raise Killed

    monkeypatch.setenv("NEURAG_CACHE", str(tmp_path))
    monkeypatch.setattr(calibration, "calibrate", lambda *_: tiny_calibration)
    with monkeypatch.context() as patched:
        patched.setattr(calibration, "save_file", half)
        with pytest.raises(Killed):
            calibration.load_calibration(tiny)
    again = calibration.load_calibration(tiny)
    assert torch.equal(again.whiten, tiny_calibration.whiten)


def test_ctrl_c_is_one_line_and_what_was_committed_stays(run):
    stopped = run("encode", STAGES["training"], "SIGINT")
    assert stopped.returncode == 1
    assert stopped.stdout == ""
    assert "what was committed stays" in stopped.stderr.splitlines()[-1]
    assert "Traceback" not in stopped.stderr
    assert json.loads(run("encode").stdout)["reused"] == 2
    asked = run("ask", ("model", "branches", 1), "SIGINT")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert asked.stderr.splitlines()[-1] == "neurag: stopped"
