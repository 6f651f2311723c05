"""Where two adapters ship, one model is asked with nothing in the prompt, and another reads and writes."""

from __future__ import annotations

import pytest
import torch

from conftest import make_tiny
from neurag.config import BASE_MODEL, AnswerOptions, AugmentOptions, EncodeOptions
from neurag.knowledge import augmentation
from neurag.knowledge.asking import ASKED, floored
from neurag.knowledge.calibration import load_calibration
from neurag.knowledge.neurons import InputSpace
from neurag.knowledge.pipeline import encode
from neurag.loading import ASKING_FILE, TASK_FILE, load_backbone
from neurag.lora import ALL, Lora, start
from neurag.model import Model
from neurag.tasks.matching import UnitSpace

QUESTION = "Who runs the mill?"


def adapter(backbone, seed):
    fresh = start(backbone, 2, seed, ALL)
    drawn = torch.Generator().manual_seed(seed)
    up = {name: torch.randn(x.shape, generator=drawn) * 0.1 for name, x in fresh.up.items()}
    return Lora({name: x.detach() for name, x in fresh.down.items()}, up)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny):
    """A model, an adapter to read with, and the same with one to be asked with beside it."""
    folder = tmp_path_factory.mktemp("two")
    made = make_tiny(folder / "model")
    for name in ("one", "two"):
        (folder / name).mkdir()
        adapter(tiny, 1).save(folder / name / TASK_FILE)
    adapter(tiny, 2).save(folder / "two" / ASKING_FILE)
    return made, folder / "one", folder / "two"


@pytest.fixture(scope="module")
def both(folders):
    return load_backbone(f"{folders[0]}+{folders[2]}", device="cpu", dtype="float32")


def test_each_model_has_its_own_adapter(folders, both):
    names = f"{folders[0]}", f"{folders[0]}+{folders[1]}"
    plain, one = (load_backbone(name, device="cpu", dtype="float32") for name in names)
    assert one.reader is one
    assert both.reader.fingerprint == one.fingerprint
    assert len({both.fingerprint, one.fingerprint, plain.fingerprint}) == 3
    ids = torch.arange(20)[None]
    torch.testing.assert_close(both.reader.model(ids).logits, one.model(ids).logits)
    assert not torch.allclose(both.model(ids).logits, one.model(ids).logits, atol=1e-2)


def test_passages_are_read_and_asked_about_by_the_reader(folders, both, tmp_path, monkeypatch):
    one = load_backbone(f"{folders[0]}+{folders[1]}", device="cpu", dtype="float32")
    writers = []
    write = augmentation.write_questions
    monkeypatch.setattr(augmentation, "write_questions", lambda b, *rest: writers.append(b) or write(b, *rest))
    documents = [{"id": "mill", "text": "The mill in Oskerby is run by Ada Brindle."}]
    options = EncodeOptions(steps=2, rank=4)
    encode(documents, tmp_path / "bank", options=options, augment=AugmentOptions(questions=2), backbone=both)
    assert writers == [both.reader]
    model, reader = Model.load(bank=tmp_path / "bank", backbone=both), Model.load(backbone=one)
    paste = (("Mill", documents[0]["text"]),)
    rag = AnswerOptions(mode="rag", paste=paste, max_new_tokens=6)
    assert model.answer(QUESTION, rag).answer == reader.answer(QUESTION, rag).answer
    closed = AnswerOptions(mode="closed", max_new_tokens=6)
    assert model.answer(QUESTION, closed).answer == Model.load(backbone=both).answer(QUESTION, closed).answer
    hybrid = model.answer(QUESTION, AnswerOptions(mode="hybrid", paste=paste, max_new_tokens=6))
    assert hybrid.answer == model.answer(QUESTION, rag).answer
    assert [neuron.doc_id for neuron in hybrid.neurons] == ["mill"]


def test_neurons_read_the_very_directions_that_were_matched(both):
    space, told = UnitSpace.of(both.reader), EncodeOptions()
    calibration = load_calibration(both)
    bank = InputSpace.draw(calibration, space.layers, told.rank, told.input_scale, told.seed)
    drawn = bank.down * floored(calibration.unit_scale[list(space.layers)])[:, None]
    torch.testing.assert_close(
        torch.nn.functional.normalize(drawn, dim=-1), torch.nn.functional.normalize(space.read, dim=-1)
    )
    assert load_calibration(both.reader).asked.shape[1] == ASKED


def test_the_default_backbone_is_two_models(real):
    assert real.name == f"{BASE_MODEL}+task"
    assert real.reader is not real
    assert real.reader.fingerprint != real.fingerprint
