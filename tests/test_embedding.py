"""rag-dense and rag-splade: tiny random encoders through `neurag eval`, checked against their own vectors."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from conftest import fresh_cache
from neurag.app.cli import main
from neurag.config import NeuragError
from neurag.knowledge.embedding import Embedded, dense_encoder, splade_encoder

pytest.importorskip("sentence_transformers", reason='needs pip install "neurag[dense]"')

PLACES = ["oskerby", "lathenport", "carrow", "dunmore", "saltpan", "merle"]
WORDS = [*PLACES, "the", "mill", "of", "is", "run", "by", "who", "runs", "ada", "bo", "ilse", "peter", "anna", "tom"]
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "?", ".", *WORDS]
PEOPLE = ["Ada", "Bo", "Ilse", "Peter", "Anna", "Tom"]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Folders of a tiny dense and a tiny sparse encoder with random weights."""
    from sentence_transformers import SentenceTransformer, SparseEncoder
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoders")
    (folder / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCAB), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder / "bert")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    bert = str(folder / "bert")
    SentenceTransformer(modules=[Transformer(bert), Pooling(32)], device="cpu").save(str(folder / "dense"))
    SparseEncoder(modules=[MLMTransformer(bert), SpladePooling()], device="cpu").save(str(folder / "splade"))
    return folder


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("NEURAG_CACHE", fresh_cache(tmp_path / "cache"))
    docs = [
        {"id": f"d{i}", "title": f"Mill of {p}", "text": f"The mill of {p} is run by {n}.", "relevant": None}
        for i, (p, n) in enumerate(zip(PLACES, PEOPLE, strict=True))
    ]
    rows = [
        {"id": f"q{i}", "question": f"Who runs the mill of {p}?", "answers": [PEOPLE[i]],
         "docs": [docs[i] | {"relevant": True}, docs[(i + 1) % 6]]}
        for i, p in enumerate(PLACES)
    ]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def ranked(kind, folder, data):
    """For each row all documents, best first, by a loop over the encoder's own vectors of single texts."""
    encoder = kind(str(folder), device="cpu")
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    docs = {doc["id"]: f"{doc['title']}\n{doc['text']}" for row in rows for doc in row["docs"]}

    def vector(text):
        told = encoder.encode([text], convert_to_tensor=True)[0]
        return told.to_dense() if told.is_sparse else told

    vectors = {name: vector(text) for name, text in docs.items()}
    order = {}
    for row in rows:
        asked = vector(row["question"])
        if kind.__name__ == "SentenceTransformer":
            scores = {name: float(asked @ x / (asked.norm() * x.norm())) for name, x in vectors.items()}
        else:
            scores = {name: float((asked * x).sum()) for name, x in vectors.items()}
        order[row["id"]] = sorted(scores, key=scores.__getitem__, reverse=True)
    return order


def test_both_answer_and_rank_as_their_own_vectors_do(encoders, data, tiny, tmp_path, monkeypatch, capsys):
    from sentence_transformers import SentenceTransformer, SparseEncoder

    monkeypatch.setattr("neurag.model.load_backbone", lambda *_: tiny)
    out = tmp_path / "out.json"
    code = main(
        ["eval", str(data), "--systems", "rag-dense,rag-splade", "--embedder", str(encoders / "dense"), "--splade",
         str(encoders / "splade"), "--json", str(out), "--timed", "1", "--max-new-tokens", "4", "--passages", "3"]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    told = json.loads(out.read_text(encoding="utf-8"))
    expected = {
        "rag-dense": ranked(SentenceTransformer, encoders / "dense", data),
        "rag-splade": ranked(SparseEncoder, encoders / "splade", data),
    }
    assert len({tuple(order) for order in expected["rag-dense"].values()}) > 1  # so there is something to agree on
    assert expected["rag-dense"] != expected["rag-splade"]
    for system, orders in expected.items():
        assert told["systems"][system]["errors"] == 0
        pasted = {a["id"]: a["doc_ids"] for a in told["answers"] if a["system"] == system}
        assert pasted == {name: order[:3] for name, order in orders.items()}
        first = sum(order[0] == f"d{name[1:]}" for name, order in orders.items()) / len(orders)
        assert told["systems"][system]["recall_at_1"] == first


def test_only_what_is_allowed_is_found_and_scores_fall(encoders):
    rows = [(f"d{i}#0", f"d{i}", "", f"The mill of {p}.") for i, p in enumerate(PLACES)]
    for index in (
        Embedded(rows, dense_encoder(str(encoders / "dense"))),
        Embedded(rows, splade_encoder(str(encoders / "splade"))),
    ):
        found = index.search("Who runs the mill?", 6)
        assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
        assert [p.document_id for p in index.search("Who?", 6, allowed={"d4"})] == ["d4"]


def failing(data, tiny, monkeypatch, capsys, *arguments):
    """The one line that `neurag eval` ends with."""
    monkeypatch.setattr("neurag.model.load_backbone", lambda *_: tiny)
    assert main(["eval", str(data), *arguments]) in (1, 2)
    told = capsys.readouterr().err.strip().splitlines()
    assert not any("Traceback" in line for line in told)
    return told[-1]


def test_no_splade_model_is_one_line(data, tiny, monkeypatch, capsys):
    told = failing(data, tiny, monkeypatch, capsys, "--systems", "rag-splade")
    assert "rag-splade needs a model: name one with --splade" in told


@pytest.mark.parametrize(("system", "flag"), [("rag-dense", "--embedder"), ("rag-splade", "--splade")])
def test_a_folder_that_is_no_model_is_one_line(data, tiny, tmp_path, monkeypatch, capsys, system, flag):
    (tmp_path / "empty").mkdir()
    told = failing(data, tiny, monkeypatch, capsys, "--systems", system, flag, str(tmp_path / "empty"))
    assert f"the embedding model '{tmp_path / 'empty'}' cannot be loaded" in told


def test_a_dense_model_is_no_splade_model(encoders):
    """sentence-transformers would put a random layer on top of it, and search with that."""
    with pytest.raises(NeuragError, match="is no SPLADE model"):
        splade_encoder(str(encoders / "dense"))


def test_a_plain_masked_language_model_is_one(encoders):
    """SPLADE models are published in that form too."""
    splade_encoder(str(encoders / "bert"))


def test_loading_writes_nothing(encoders, capfd):
    dense_encoder(str(encoders / "dense"))
    splade_encoder(str(encoders / "splade"))
    assert capfd.readouterr() == ("", "")


def test_nothing_is_found_in_nothing(encoders):
    assert Embedded([], dense_encoder(str(encoders / "dense"))).search("Who?", 3) == []


@pytest.mark.parametrize("system", ["rag-dense", "rag-splade"])
def test_a_missing_library_is_found_out_before_any_question(data, tiny, monkeypatch, capsys, system):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.setattr("neurag.evaluation.run.Model.load", lambda *_: pytest.fail("the backbone was loaded first"))
    told = failing(data, tiny, monkeypatch, capsys, "--systems", f"closed,{system}", "--splade", "any")
    assert 'pip install "neurag[dense]"' in told
