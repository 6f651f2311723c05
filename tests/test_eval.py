"""`neurag eval`: figures that an independent script finds too, PRAG's fusion, controls, stops, bad data."""

from __future__ import annotations

import json
import re
import string
import sys
from dataclasses import replace

import pytest
import torch

from conftest import fresh_cache
from neurag.app.cli import main
from neurag.config import EncodeOptions, EvalOptions, UsageError
from neurag.decoding import decode
from neurag.evaluation.collection import collect
from neurag.evaluation.data import Row, read_rows
from neurag.evaluation.fusing import fuse_means, fuse_sum
from neurag.evaluation.prag import PUBLISHED, TUNED, make_adapter, sequences
from neurag.evaluation.run import evaluate
from neurag.evaluation.systems import ModelSystem, World, oracle_passages, wrong_documents
from neurag.evaluation.watch import Watch
from neurag.knowledge.documents import Chunk, Document
from neurag.lora import Lora, applied, start, targets
from neurag.model import Model

PLACES = ["Oskerby", "Lathenport", "Carrow", "Dunmore", "Saltpan", "Merle"]
PEOPLE = ["Ada Brindle", "Bo Hask", "Ilse Maranth", "Peter Voss", "Anna Hale", "Tom Pim"]


def made_rows(count=6):
    docs = [
        {"id": f"d{i}", "title": f"The mill of {p}", "text": f"The mill of {p} is run by {n}.", "relevant": None}
        for i, (p, n) in enumerate(zip(PLACES, PEOPLE, strict=True))
    ]
    return [
        {
            "id": f"q{i}",
            "question": f"Who runs the mill of {PLACES[i]}?",
            "answers": [PEOPLE[i]],
            "wrong_answers": [PEOPLE[(i + 1) % 6]],
            "docs": [docs[i] | {"relevant": True}, docs[(i + 1) % 6], docs[(i + 2) % 6]],
        }
        for i in range(count)
    ]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in made_rows()) + "\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path, tiny_calibration):
    """A cache of one's own, and neurons that are made fast: what they know does not matter here."""
    from neurag.evaluation import collection

    monkeypatch.setenv("NEURAG_CACHE", fresh_cache(tmp_path / "cache"))
    monkeypatch.setattr(collection, "EncodeOptions", lambda: EncodeOptions(steps=2, rank=4))
    defaults = list(collection.open_bank.__defaults__)
    defaults[0] = EncodeOptions(steps=2, rank=4)
    monkeypatch.setattr(collection.open_bank, "__defaults__", tuple(defaults))


def options(*systems, **more):
    return EvalOptions(**({"systems": systems, "max_new_tokens": 8, "timed": 1, "passages": 2, "batch": 4} | more))


def test_closed_rag_and_oracle_agree_with_an_independent_script(data, real):
    """All that follows is written here again, on nothing but the tokenizer, the model and bm25s."""
    import bm25s
    import Stemmer

    def say(passages, question):
        user = "\n\n".join([*(f"{t}\n{x}" for t, x in passages), question])
        chat = [
            {"role": "system", "content": "Answer the question with a few words."},
            {"role": "user", "content": user},
        ]
        text = real.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids = real.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        out = real.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        return real.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()

    def plain(text):
        text = "".join(c for c in text.lower() if c not in string.punctuation)
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())

    rows = made_rows()
    docs = {d["id"]: (d["title"], d["text"]) for row in rows for d in row["docs"]}
    stemmer, names = Stemmer.Stemmer("english"), list(docs)
    index = bm25s.BM25()
    index.index(
        bm25s.tokenize(["\n".join(docs[n]) for n in names], stopwords="en", stemmer=stemmer, show_progress=False),
        show_progress=False,
    )
    expected = {"closed": [], "rag-bm25": [], "rag-oracle": []}
    for row in rows:
        asked = bm25s.tokenize(row["question"], stopwords="en", stemmer=stemmer, show_progress=False)
        best = index.retrieve(asked, k=1, show_progress=False, sorted=True).documents[0]
        for system, paste in {
            "closed": [], "rag-bm25": [docs[names[i]] for i in best], "rag-oracle": [docs[row["docs"][0]["id"]]],
        }.items():  # fmt: skip
            said = say(paste, row["question"])
            right = f" {plain(row['answers'][0])} " in f" {plain(said)} "
            expected[system].append((said, right))
    result = evaluate(data, options(*expected, batch=1, passages=1, max_new_tokens=12), backbone=real)
    for system, told in expected.items():
        given = [(a.answer, a.correct) for a in result.answers if a.system == system]
        assert given == told
        assert result.systems[system].match == sum(right for _, right in told) / len(told)
    assert result.systems["rag-bm25"].recall_at_1 == 1.0
    assert result.systems["closed"].match < result.systems["rag-oracle"].match  # so there was something to agree on


def test_every_system_answers_every_row_and_the_json_is_the_published_one(data, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("neurag.model.load_backbone", lambda *_: tiny)
    names = "closed,rag-bm25,rag-oracle,rag-random,prag,neurag,neurag-oracle,neurag-wrong,neurag-random,hybrid"
    names += ",hybrid-oracle"
    out, page = tmp_path / "deep" / "out.json", tmp_path / "page.html"
    code = main(
        ["eval", str(data), "--systems", names, "--json", str(out), "--page", str(page), "--timed", "1", "--limit", "4",
         "--max-new-tokens", "4", "--passages", "2"]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    told = json.loads(out.read_text(encoding="utf-8"))
    assert list(told["systems"]) == names.split(",")
    public = {
        "n", "match", "em", "f1", "answer_words", "abstained", "recall_at_1", "recall_at_5", "seconds_per_question",
        "first_token_s", "prompt_tokens",
    }  # fmt: skip
    for system, figures in told["systems"].items():
        assert public <= set(figures)
        assert figures["n"] == 4
        assert figures["errors"] == 0
        assert (figures["recall_at_5"] is None) == (system not in ("rag-bm25", "neurag", "hybrid"))
        assert 0 < figures["first_token_s"] <= figures["seconds_per_question"]
    assert {(a["id"], a["system"]) for a in told["answers"]} == {
        (f"q{i}", s) for i in range(4) for s in told["systems"]
    }
    assert {"a", "b", "metric", "difference", "low", "high", "p"} <= set(told["pairs"][0])
    assert {"model", "documents", "encode_seconds", "bytes_per_document", "seed", "version"} <= set(told["meta"])
    assert told["meta"]["documents"] == 6
    fired = {s: {f["doc_id"] for a in told["answers"] if a["system"] == s for f in a["fired"]} for s in told["systems"]}
    assert fired["neurag-oracle"] == {"d0", "d1", "d2", "d3"}
    wrong = {a["id"]: a["doc_ids"] for a in told["answers"] if a["system"] == "neurag-wrong"}
    assert all(f"d{q[1:]}" not in docs and docs for q, docs in wrong.items())
    assert fired["closed"] == set()
    assert "neurag-oracle" in page.read_text(encoding="utf-8")


def test_a_stopped_run_goes_on_and_a_second_one_asks_nothing_again(data, tiny, monkeypatch):
    asked = []
    answer = ModelSystem.answer

    def watched(self, rows):
        asked.append((self.name, [row.id for row in rows]))
        if self.name == "neurag" and len(asked) == 4:
            raise KeyboardInterrupt
        return answer(self, rows)

    monkeypatch.setattr(ModelSystem, "answer", watched)
    both = options("closed", "neurag", timed=0)
    with pytest.raises(KeyboardInterrupt):
        evaluate(data, both, backbone=tiny)
    stopped = len(asked)
    assert asked[:3] == [
        ("closed", ["q0", "q1", "q2", "q3"]),
        ("closed", ["q4", "q5"]),
        ("neurag", ["q0", "q1", "q2", "q3"]),
    ]
    result = evaluate(data, both, backbone=tiny)
    assert asked[stopped:] == [("neurag", ["q4", "q5"])]
    again = evaluate(data, both, backbone=tiny)
    assert len(asked) == stopped + 1
    assert again.answers == result.answers
    drawn = options("closed", "rag-random", timed=0)
    evaluate(data, drawn, backbone=tiny)
    asked.clear()
    fresh = evaluate(data, replace(drawn, seed=1), backbone=tiny)  # another seed, for what is drawn
    assert [name for name, _ in asked] == ["rag-random", "rag-random"]
    fresh = evaluate(data, options("closed", timed=0, max_new_tokens=7), backbone=tiny)  # other answers altogether
    assert [name for name, _ in asked[2:]] == ["closed", "closed"]
    assert [a.answer for a in fresh.answers] != [a.answer for a in result.answers if a.system == "closed"]


def test_broken_rows_are_named_counted_and_left_out(data, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("neurag.model.load_backbone", lambda *_: tiny)
    lines = data.read_text(encoding="utf-8").splitlines()
    data.write_text("\n".join([lines[0], "{half", *lines[1:], lines[2], '{"answers": []}']), encoding="utf-8")
    out = tmp_path / "out.json"
    assert main(["eval", str(data), "--systems", "closed", "--json", str(out), "--timed", "0"]) == 0
    told = json.loads(out.read_text(encoding="utf-8"))
    assert told["systems"]["closed"]["n"] == 6
    assert told["meta"]["broken_rows"] == 3
    said = capsys.readouterr().err
    assert all(f"line {n}: " in said for n in (2, 8, 9))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--systems", "closed,telepathy"], "there is no system 'telepathy': choose among closed,"),
        (["--systems", "neurag,telepathy"], "there is no system 'telepathy'"),
        (["--systems", "openai:"], "there is no system 'openai:'"),
        (["--systems", "rag-splade"], "rag-splade needs a model: name one with --splade"),
        (["--documents", "2"], "the rows need 6 documents and --documents says 2"),
        (["--limit", "0"], "limit must be at least 1"),
        (["--json", "."], ". is a folder: name a file to write to"),
    ],
)
def test_a_wrong_request_is_one_line(data, tiny, tmp_path, monkeypatch, capsys, arguments, expected):
    monkeypatch.setattr("neurag.model.load_backbone", lambda *_: tiny)
    assert main(["eval", str(data), *arguments]) in (1, 2)
    told = capsys.readouterr().err.strip().splitlines()
    assert expected in told[-1]
    assert not (tmp_path / "cache" / "eval").exists()  # found out before any bank was made
    assert "Traceback" not in "".join(told)


def test_a_page_without_matplotlib_is_found_out_before_the_work(data, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("neurag.evaluation.run.evaluate", lambda *_: pytest.fail("the work began"))
    assert main(["eval", str(data), "--systems", "closed", "--page", str(tmp_path / "page.html")]) == 1
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert 'pip install "neurag[report]"' in told


def test_rows_without_documents_can_be_asked_closed_book_only(tmp_path, tiny):
    path = tmp_path / "bare.jsonl"
    path.write_text('{"id": "a", "question": "Who?", "answers": ["X"]}\n', encoding="utf-8")
    assert evaluate(path, options("closed"), backbone=tiny).systems["closed"].n == 1
    with pytest.raises(UsageError, match="the rows have no documents"):
        evaluate(path, options("neurag"), backbone=tiny)


def test_a_question_that_does_not_fit_fails_alone(data, tiny):
    rows = made_rows(3)
    rows[1]["question"] = "Who " * 700
    data.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    result = evaluate(data, options("closed"), backbone=tiny)
    assert [bool(a.error) for a in result.answers] == [False, True, False]
    assert result.systems["closed"].errors == 1
    assert result.systems["closed"].n == 3


@pytest.fixture
def world(data, tiny):
    def make(**more):
        rows = tuple(r for r in read_rows(data) if isinstance(r, Row))
        return World(Model(tiny), rows, collect(rows, tiny, more.pop("size", None)), options("closed", **more))

    return make


@pytest.mark.parametrize(("position", "place"), [("first", 0), ("middle", 1), ("last", 2)])
def test_the_oracle_puts_distractors_around_the_gold_passage(world, position, place):
    told = world(distractors=2, position=position)
    for row in told.rows:
        passages = oracle_passages(told, row)
        assert [p.document_id in row.gold for p in passages] == [i == place for i in range(3)]
        assert not any(row.answers[0] in p.text for p in passages if p.document_id not in row.gold)


def test_noise_replaces_its_share_and_never_by_gold(world):
    from neurag.evaluation.systems import rag

    told, clean = world(noise=0.5), world()
    plan = rag(lambda w: w.bm25)
    for row in told.rows:
        noisy, pure = plan(told, row).options.paste, plan(clean, row).options.paste
        assert len(noisy) == len(pure) == 2
        assert sum(a != b for a, b in zip(noisy, pure, strict=True)) <= 1
        assert plan(told, row).options.paste == noisy  # the same in another order of asking
    assert any(plan(told, r).options.paste != plan(clean, r).options.paste for r in told.rows)


def test_a_collection_of_a_size_keeps_the_gold_documents(world):
    rows = made_rows(2)
    told = collect([Row(r["id"], r["question"], tuple(r["answers"]), world().rows[i].docs) for i, r in enumerate(rows)],
                   world().model.backbone, 3)  # fmt: skip
    assert {"d0", "d1"} <= {d.id for d in told.documents}
    assert len(told.documents) == 3


def test_wrong_documents_never_hold_the_answer(world):
    told = world()
    wrong = wrong_documents(told.rows, told.collection, 0)
    assert all(wrong[row.id] not in row.gold for row in told.rows)
    with pytest.raises(UsageError, match="no document is wrong"):
        wrong_documents(told.rows[:1], collect(told.rows[:1], told.model.backbone, 1), 0)


CHUNK = Chunk(Document("The mill of Oskerby is run by Ada Brindle. It was built in 1889.", "d", "Mill"), 0, 0, 64)


def test_fusion_is_pefts_cat(tiny, tiny_folder):
    """PRAG's sum of three documents against PEFT's `add_weighted_adapter(combination_type="cat")`."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    loras = [_random(tiny, seed) for seed in range(3)]
    config = LoraConfig(r=2, lora_alpha=32, target_modules=["gate_proj", "up_proj", "down_proj"], lora_dropout=0.0)
    peft = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32), config, "a0")
    for number in (1, 2):
        peft.add_adapter(f"a{number}", config)
    with torch.no_grad():
        for number, lora in enumerate(loras):
            for key in lora.down:
                layer, _, matrix = key.split(".")
                module = getattr(peft.base_model.model.model.layers[int(layer)].mlp, matrix)
                module.lora_A[f"a{number}"].weight.copy_(lora.down[key])
                module.lora_B[f"a{number}"].weight.copy_(lora.up[key] / 16)  # alpha / R is in ours
        peft.add_weighted_adapter(["a0", "a1", "a2"], [1.0, 1.0, 1.0], "all", combination_type="cat")
        peft.set_adapter("all")
        ids = torch.tensor([[5, 9, 40, 77, 3]])
        expected = peft(input_ids=ids).logits
        plain = tiny.model(input_ids=ids).logits
        with applied(tiny, fuse_sum(loras)):
            ours = tiny.model(input_ids=ids).logits
        after = tiny.model(input_ids=ids).logits
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (ours - plain).abs().max() > 1e-2
    assert torch.equal(after, plain)


def test_dyprags_means_are_not_the_mean_of_the_products(tiny):
    loras = [_random(tiny, seed) for seed in range(2)]
    fused, key = fuse_means(loras), "0.mlp.up_proj"
    mean_of_products = sum(x.up[key] @ x.down[key] for x in loras) / 2
    cross = sum(a.up[key] @ b.down[key] for a in loras for b in loras) / 4
    assert torch.allclose(fused.up[key] @ fused.down[key], cross, atol=1e-6)
    assert not torch.allclose(cross, mean_of_products, atol=1e-3)


def test_an_adapter_learns_its_passage_and_survives_saving(tiny, tmp_path):
    made = make_adapter(tiny, CHUNK, TUNED)
    texts = sequences(tiny, CHUNK, TUNED)
    made.save(tmp_path / "a.safetensors")
    kept = Lora.load(tmp_path / "a.safetensors")

    def loss():
        with torch.no_grad():
            ids = [torch.tensor([list(t)]) for t in texts]
            return sum(float(tiny.model(input_ids=i, labels=i).loss) for i in ids) / len(ids)

    before = loss()
    with applied(tiny, kept):
        assert loss() < before - 0.2
    assert loss() == before


def test_the_published_recipe_has_five_sequences(tiny):
    texts = [tiny.tokenizer.decode(t) for t in sequences(tiny, CHUNK, PUBLISHED)]
    count = min(3, len(set(texts)))
    assert len(texts) <= 5
    assert sum("The mill of Oskerby is run by" in t for t in texts) >= count - 1
    fresh = start(tiny, 2, 0)
    assert set(fresh.down) == set(targets(tiny))
    assert all(not x.any() for x in fresh.up.values())


def _random(tiny, seed):
    fresh = start(tiny, 2, seed)
    drawn = torch.Generator().manual_seed(100 + seed)
    up = {name: torch.randn(x.shape, generator=drawn) * 0.05 for name, x in fresh.up.items()}
    return Lora({name: x.detach() for name, x in fresh.down.items()}, up)


def test_an_endpoint_is_asked_as_the_others_are(data, tiny, monkeypatch):
    """A small server of our own that streams, and is busy the first time."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, self.headers["Authorization"], body))
            self.send_response(503 if len(seen) == 1 else 200)
            self.end_headers()
            if len(seen) > 1:
                for piece in ("Ada ", "Brindle"):
                    self.wfile.write(f"data: {json.dumps({'choices': [{'delta': {'content': piece}}]})}\n\n".encode())
                self.wfile.write(b'data: {"choices": [], "usage": {"prompt_tokens": 21}}\n\ndata: [DONE]\n\n')

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setattr("time.sleep", lambda _: None)
    result = evaluate(data, options("openai-bm25:some/model", timed=0), backbone=tiny)
    server.shutdown()
    figures = result.systems["openai-bm25:some/model"]
    assert figures.match == pytest.approx(1 / 6)
    assert (figures.prompt_tokens, figures.errors, figures.recall_at_1) == (21, 0, 1.0)
    path, key, body = seen[1]
    assert (path, key, body["model"]) == ("/v1/chat/completions", "Bearer secret", "some/model")
    assert "The mill of Oskerby is run by Ada Brindle." in body["messages"][1]["content"]
    assert "secret" not in json.dumps(result.to_json())
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    failed = evaluate(data, options("openai:m", timed=0), backbone=tiny)
    assert failed.systems["openai:m"].errors == 6
    assert "did not answer" in failed.answers[0].error


def test_progress_is_told(data, tiny):
    told = []
    evaluate(data, options("closed"), watch=Watch(asking=told.append), backbone=tiny)
    assert [(t.system, t.done) for t in told if t.system == "closed"] == [("closed", 0), ("closed", 4), ("closed", 6)]
    assert any(t.system == "timing" for t in told)
    assert [t.asked for t in told] == sorted(t.asked for t in told)
    assert {t.planned for t in told} == {6 + 2}  # six questions, and one of them alone, twice
    assert told[0].seconds_left == float("inf")
    assert told[2].questions_per_second > 0
    told.clear()
    evaluate(data, options("closed", "rag-oracle"), watch=Watch(asking=told.append), backbone=tiny)
    assert {t.planned for t in told} == {2 * (6 + 2)}
    # kept answers are counted, and are no measure of the speed
    assert [(t.asked, t.questions_per_second > 0) for t in told if t.system == "closed"][-1] == (6, False)
    assert told[-1].asked == told[-1].planned


def test_generate_is_what_decode_does(tiny):
    """The independent script above uses transformers' generate; our decoding must be the same thing."""
    ids = torch.tensor([[5, 9, 40, 77]])
    expected = tiny.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)[0, 4:]
    ours = [step.tokens[0] for step in decode(tiny, [[5, 9, 40, 77]], 6)]
    assert ours == expected.tolist()


def test_recall_is_of_the_order_in_which_routing_finds_documents(data, tiny):
    result = evaluate(data, EvalOptions(systems=("neurag", "neurag-oracle"), timed=0, max_new_tokens=2), backbone=tiny)
    assert result.systems["neurag"].recall_at_5 is not None
    assert result.systems["neurag-oracle"].recall_at_5 is None  # nothing was looked for
