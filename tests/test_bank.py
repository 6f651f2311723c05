"""What the bank promises: rows come back as written, writes are whole, and what is removed is gone."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from neurag.config import NeuragError
from neurag.knowledge.bank import Bank, BankError, Manifest, NeuronRow
from neurag.knowledge.key_codes import code_bytes, decoded, pack, unpack
from neurag.knowledge.learned import Learned

MANIFEST = Manifest(
    backbone="backbone-1",
    tokenizer="tokenizer-1",
    model="tiny",
    rank=2,
    layers=(4, 5, 6),
    width=8,
    key_width=6,
    keys_version="keys-1",
    input_version="input-1",
)
AWKWARD = ["it's", 'a "b"', "x' OR '1'='1", "日本語 😀", "%_\\", "a\nb\x00c", "--", " ", "e\u0301"]


def make_row(document_id="louvre", index=0, *, seed=0, count=3, text="It opened in 1793.", **more):
    rng = np.random.default_rng([seed, index, *document_id.encode()])
    taught = unpack(pack(rng.standard_normal((2, 3 * 2))), 3 * 2)
    values = {
        "id": f"{document_id}#{index}",
        "document_id": document_id,
        "chunk_index": index,
        "title": f"About {document_id}",
        "text": text,
        "start": 10 * index,
        "end": 10 * index + len(text),
        "source": "notes.txt",
        "timestamp": "2024-05",
        "trust": 0.5,
        "labels": ("staff", "press"),
        "metadata": {"page": "3", "quote'": '"'},
        "content_hash": f"hash-{seed}",
        "recipe": "recipe-1",
        "keys": unpack(pack(rng.standard_normal((count, MANIFEST.key_width))), MANIFEST.key_width),
        "positions": rng.integers(0, 65536, count, dtype=np.uint16),
        "neuron": rng.integers(-127, 128, 3 * 2 * 8, dtype=np.int8),
        "scale": rng.random(3 * 2, dtype=np.float32),
        "learned": Learned(("Who?", "It is by what?"), ("Ada", "bus"), (True, False), taught),
        "pairs": 7,
    }
    return NeuronRow(**(values | more))


def assert_same(row, other):
    for name in NeuronRow.__dataclass_fields__:
        one, two = getattr(row, name), getattr(other, name)
        if isinstance(one, np.ndarray):
            assert one.dtype == two.dtype
            np.testing.assert_allclose(one, two, rtol=2e-3 if name == "keys" else 0)  # their scales are float16
        elif name != "created":
            assert one == two, name


def files_with(folder, marker):
    return [file for file in folder.rglob("*") if file.is_file() and marker in file.read_bytes()]


def assert_one_line(error, *words):
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.fixture
def bank(tmp_path):
    return Bank.create(tmp_path / "bank", MANIFEST)


def test_a_new_bank_is_empty_and_opens(bank):
    assert len(bank) == 0
    again = Bank.open(bank.path, backbone="backbone-1", tokenizer="tokenizer-1")
    assert again.manifest == replace(MANIFEST, created=again.manifest.created)
    assert again.manifest.created
    assert again.documents() == again.passages() == again.verify() == list(again.index()) == []
    assert again.known() == again.neurons([]) == {}
    assert again.info()["rows"] == again.info()["documents"] == 0
    again.add([])
    again.compact()
    assert len(again) == 0


def test_rows_come_back_as_they_were_written(bank):
    rows = [
        make_row("louvre", 1),
        make_row("louvre", 0, trust=None, labels=(), metadata={}),
        make_row("met", 0, count=0, text="Zoë\n\x00", timestamp=""),
    ]
    bank.add(rows)
    for store in (bank, Bank.open(bank.path)):
        chunks = store.get("louvre")
        assert [chunk.chunk_index for chunk in chunks] == [0, 1]
        for chunk, row in zip([*chunks, *store.get("met")], [rows[1], rows[0], rows[2]], strict=True):
            assert_same(chunk, row)
            assert chunk.created
        assert store.known() == {row.id: (row.content_hash, row.recipe) for row in rows}
        assert store.passages() == [(row.id, row.document_id, row.title, row.text) for row in rows]
        assert store.verify() == []


@pytest.mark.parametrize("document_id", AWKWARD)
def test_an_id_may_be_any_text(bank, document_id):
    bank.add([make_row("other"), make_row(document_id), make_row(document_id, 1)])
    bank.add([make_row(document_id, seed=1)])
    assert len(bank) == 3
    assert [row.content_hash for row in bank.get(document_id)] == ["hash-1", "hash-0"]
    assert list(bank.neurons([f"{document_id}#1"])) == [f"{document_id}#1"]
    assert bank.remove([document_id]) == 2
    assert list(bank.known()) == ["other#0"]


def test_an_id_that_is_no_utf8_is_refused(bank):
    with pytest.raises(BankError) as error:
        bank.add([make_row(title="\ud800")])
    assert_one_line(error, "nothing was added")
    with pytest.raises(BankError):
        bank.add([make_row(id="")])
    assert len(bank) == 0


def test_a_row_replaces_the_one_with_its_id(bank):
    bank.add([make_row(seed=0), make_row("met")])
    new = make_row(seed=2, text="It opened on 10 August 1793.")
    bank.add([make_row(seed=1), new])  # of two in one write, the last stays, as with two writes
    assert len(bank) == 2
    assert_same(bank.get("louvre")[0], new)
    np.testing.assert_array_equal(bank.neurons([new.id])[new.id][0].ravel(), new.neuron)


def test_a_settled_version_costs_no_question_and_no_write_is_missed(bank, monkeypatch):
    other = Bank.open(bank.path)
    folder = bank.path / "rows.lance" / "_versions"
    bank.add([make_row("inn")])
    assert other.version == bank.version  # just written: asked every time
    os.utime(folder, ns=(1_700_000_000_000_000_000,) * 2)
    before = other.version
    with monkeypatch.context() as inside:
        inside.setattr(other, "_table", None)  # asking would fail
        assert other.version == before
    bank.add([make_row("fair")])
    assert other.version == bank.version > before


@pytest.mark.parametrize(
    "wrong",
    [
        {"neuron": np.zeros(47, np.int8)},
        {"neuron": np.zeros(48, np.int16)},
        {"scale": np.zeros(6, np.float64)},
        {"scale": np.full(6, np.nan, np.float32)},
        {"keys": np.zeros((3, 5), np.float16)},
        {"keys": np.zeros((3, 6), np.float32)},
        {"keys": np.full((3, 6), np.inf, np.float16)},
        {"keys": np.zeros((), np.float16)},
        {"positions": np.zeros(2, np.uint16)},
        {"positions": np.zeros(3, np.int64)},
    ],
)
def test_a_row_that_does_not_fit_adds_nothing(bank, wrong):
    before = bank.version
    with pytest.raises(BankError) as error:
        bank.add([make_row("met"), make_row("louvre", **wrong)])
    assert_one_line(error, next(iter(wrong)), "louvre#0", "nothing was added")
    assert (len(bank), bank.version) == (0, before)


def test_a_bank_may_hold_float16(tmp_path, bank):
    wide = Bank.create(tmp_path / "wide", replace(MANIFEST, precision="float16"))
    row = make_row(neuron=np.linspace(-1, 1, 48).astype(np.float16))
    wide.add([row])
    assert_same(wide.get("louvre")[0], row)
    assert wide.neurons([row.id])[row.id][0].dtype == np.float16
    assert wide.verify() == []
    bank.add([make_row()])
    sizes = [one.info()["neuron_bytes_per_row"] for one in (wide, bank)]
    assert sizes[0] - sizes[1] == 48
    with pytest.raises(BankError, match="float16"):
        wide.add([make_row("met")])


def test_documents_sum_up_their_chunks(bank):
    assert isinstance(BankError("x"), NeuragError)
    bank.add([make_row("b", 1, count=2), make_row("b", 0, title="First"), make_row("a", title="First")])
    first, second = bank.documents()
    assert (first.id, second.id) == ("a", "b")
    assert (second.title, second.chunks, second.pairs, second.labels) == ("First", 2, 14, ("staff", "press"))
    taught = sum(len(row.learned.packed()[0]) + len(row.learned.packed()[1]) for row in bank.get("b"))
    assert second.bytes == 2 * (48 + 6 * 4) + 5 * (6 // 2 + 2 + 2) + taught
    assert (second.source, second.timestamp) == ("notes.txt", "2024-05")
    info = bank.info()
    assert (info["documents"], info["rows"], info["neuron_bytes_per_row"]) == (2, 3, 72)
    assert info["key_bytes_per_row"] == pytest.approx(8 * 7 / 3)
    assert info["bytes_on_disk"] == sum(f.stat().st_size for f in bank.path.rglob("*") if f.is_file())
    assert (info["model"], info["backbone"], info["version"]) == ("tiny", "backbone-1", bank.version)


def test_the_index_streams_all_keys(bank):
    rows = [make_row(f"d{i}", count=i % 4, trust=None if i % 2 else 0.25) for i in range(25)]
    bank.add(rows[:20])
    bank.add(rows[20:])
    batches = list(bank.index(batch_rows=7))
    assert all(len(batch.ids) <= 7 for batch in batches)
    assert [id for batch in batches for id in batch.ids] == [row.id for row in rows]
    assert [id for batch in batches for id in batch.document_ids] == [row.document_id for row in rows]
    assert [trust for batch in batches for trust in batch.trusts] == [row.trust for row in rows]
    assert {labels for batch in batches for labels in batch.labels} == {("staff", "press")}
    assert {stamp for batch in batches for stamp in batch.timestamps} == {"2024-05"}
    for batch in batches:
        assert (batch.lengths.dtype, batch.keys.dtype, batch.positions.dtype) == (
            np.int64,
            np.uint8,
            np.uint16,
        )
        assert batch.keys.shape == (batch.lengths.sum(), code_bytes(MANIFEST.key_width))
        assert batch.positions.shape == (batch.lengths.sum(),)
    np.testing.assert_allclose(
        np.concatenate([decoded(batch.keys, MANIFEST.key_width) for batch in batches]),
        np.concatenate([row.keys for row in rows]),
        rtol=2e-3,
    )
    np.testing.assert_array_equal(
        np.concatenate([batch.positions for batch in batches]),
        np.concatenate([row.positions for row in rows]),
    )


def test_neurons_follow_rows_that_move(bank):
    other = Bank.open(bank.path)
    bank.add([make_row(f"d{i}") for i in range(30)])
    assert list(other.neurons(["d3#0", "d1#0", "d3#0"])) == ["d3#0", "d1#0"]
    moved = make_row("d3", seed=1)
    bank.add([moved])
    bank.remove(["d0"])
    bank.compact()
    for store in (bank, other):
        found = store.neurons([f"d{i}#0" for i in range(1, 30)])
        for i in range(1, 30):
            row = moved if i == 3 else make_row(f"d{i}")
            neuron, scale = found[row.id]
            assert neuron.shape == (3, 2, 8)
            np.testing.assert_array_equal(neuron.ravel(), row.neuron)
            np.testing.assert_array_equal(scale, row.scale.reshape(3, 2))
            neuron[0] = 0  # the caller's own copy
        with pytest.raises(BankError) as error:
            store.neurons(["d1#0", "d0#0"])
        assert_one_line(error, "d0#0")


def test_neurons_are_found_after_all_rows_were_written_anew(bank):
    bank.add([make_row(f"d{i}") for i in range(30)])
    other = Bank.open(bank.path)
    bank.remove(["d0"])
    bank.compact()  # one dead row in thirty: all others are written anew
    for i in range(1, 30):
        ((neuron, _),) = other.neurons([f"d{i}#0"]).values()
        np.testing.assert_array_equal(neuron.ravel(), make_row(f"d{i}").neuron)


def test_neurons_are_read_quickly(bank):
    bank.add([make_row(f"d{i}") for i in range(500)])
    rng, times = np.random.default_rng(0), []
    for _ in range(20):
        ids = [f"d{i}#0" for i in rng.choice(500, 4, replace=False)]
        start = time.perf_counter()
        assert list(bank.neurons(ids)) == ids
        times.append(time.perf_counter() - start)
    assert np.median(times) < 0.05


def test_an_unknown_document_is_named_with_near_misses(bank):
    bank.add([make_row("louvre"), make_row("met")])
    with pytest.raises(BankError) as error:
        bank.get("louvres")
    assert_one_line(error, "'louvres'", "did you mean 'louvre'")
    before = bank.version
    with pytest.raises(BankError):
        bank.remove(["met", "no such thing"])
    with pytest.raises(BankError):
        bank.get("\ud800")
    assert (len(bank), bank.version) == (2, before)
    assert bank.remove(["met", "met"]) == 1
    assert bank.remove([]) == 0


@pytest.mark.parametrize("count", [1, 3, 300])
def test_after_compaction_removed_text_and_weights_are_gone(bank, count):
    neuron = np.frombuffer(b"NEURONMARK" * 4 + b"12345678", np.int8)
    secret = make_row("secret", text="The TEXTMARK lies here.", title="TITLEMARK", neuron=neuron)
    bank.add([*(make_row(f"d{i}") for i in range(count)), secret, make_row("kept", text="KEPTMARK")])
    marks = (b"TEXTMARK", b"TITLEMARK", b"NEURONMARK", b"secret#0")
    assert all(files_with(bank.path, mark) for mark in marks)
    # What a killed writer leaves behind goes as well.
    (bank.path / "rows.lance" / "data" / "stray.lance").write_bytes(b"TEXTMARK")
    bank.remove(["secret"])
    bank.compact()
    assert not any(files_with(bank.path, mark) for mark in marks)
    assert files_with(bank.path, b"KEPTMARK")
    assert len(bank) == len(Bank.open(bank.path)) == count + 1
    assert bank.verify() == []


def test_after_compaction_replaced_text_is_gone(bank):
    bank.add([make_row(f"d{i}", text="OLDMARK" if i == 7 else "text") for i in range(100)])
    bank.add([make_row("d7", text="NEWMARK")])
    bank.compact()
    assert not files_with(bank.path, b"OLDMARK")
    assert files_with(bank.path, b"NEWMARK")
    assert len(bank) == 100


def test_a_damaged_neuron_is_found(bank):
    marked = make_row("marked", neuron=np.frombuffer(b"NEURONMARK" * 4 + b"12345678", np.int8))
    bank.add([make_row("a"), marked, make_row("b")])
    (file,) = files_with(bank.path, b"NEURONMARK")
    file.write_bytes(file.read_bytes().replace(b"NEURONMARK", b"neuronmark"))
    assert Bank.open(bank.path).verify() == ["marked#0"]


@pytest.mark.parametrize("name", ["backbone", "tokenizer"])
def test_another_fingerprint_is_refused(bank, name):
    with pytest.raises(BankError) as error:
        Bank.open(bank.path, **{name: "another"})
    assert_one_line(error, str(bank.path), name, "another", "'tiny'", "encode the documents again")


def test_create_opens_the_same_bank_and_refuses_another(bank, tmp_path):
    bank.add([make_row()])
    assert len(Bank.create(bank.path, replace(MANIFEST, model="/models/tiny", created="2020"))) == 1
    for change in ({"rank": 3}, {"layers": (4, 5)}, {"keys_version": "keys-2"}, {"backbone": "x"}):
        with pytest.raises(BankError) as error:
            Bank.create(bank.path, replace(MANIFEST, **change))
        assert_one_line(error, *change)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("dear")
    (tmp_path / "file").write_text("")
    for name in ("full", "file"):
        with pytest.raises(BankError) as error:
            Bank.create(tmp_path / name, MANIFEST)
        assert_one_line(error, name)
    assert (tmp_path / "full" / "thesis.doc").read_text() == "dear"


def test_what_is_no_bank_says_so(tmp_path):
    with pytest.raises(BankError) as error:
        Bank.open(tmp_path / "nowhere")
    assert_one_line(error, "no bank at", "nowhere", "neurag encode")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(BankError) as error:
        Bank.open(tmp_path)
    assert_one_line(error, "is no bank")


def test_a_half_made_folder_is_named_and_made_anew(tmp_path, monkeypatch):
    path = tmp_path / "bank"
    with monkeypatch.context() as patched:
        patched.setattr(json, "dump", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Bank.create(path, MANIFEST)
    with pytest.raises(BankError) as error:
        Bank.open(path)
    assert_one_line(error, "half made", "bank.json")
    shutil.rmtree(path / "rows.lance" / "_versions")
    bank = Bank.create(path, MANIFEST)
    bank.add([make_row()])
    # A bank that lost its bank.json is no half-made folder: its rows are not thrown away.
    (path / "bank.json").unlink()
    with pytest.raises(BankError) as error:
        Bank.create(path, MANIFEST)
    assert_one_line(error, "holds rows")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "x"}', '{"format": 4, "layers": 3}'])
def test_an_unreadable_manifest_says_so(bank, text):
    (bank.path / "bank.json").write_text(text)
    with pytest.raises(BankError) as error:
        Bank.open(bank.path)
    assert_one_line(error, "bank.json", "restore")


def test_another_format_is_refused(bank):
    told = json.loads((bank.path / "bank.json").read_text())
    (bank.path / "bank.json").write_text(json.dumps(told | {"format": 5}))
    with pytest.raises(BankError) as error:
        Bank.open(bank.path)
    assert_one_line(error, "newer format 5", "update NeuRAG")
    (bank.path / "bank.json").write_text(json.dumps(told | {"format": 2}))
    with pytest.raises(BankError) as error:
        Bank.open(bank.path)
    assert_one_line(error, "old format 2", "encode its documents again")


def test_a_broken_table_says_so(bank):
    bank.add([make_row()])
    (data,) = (bank.path / "rows.lance" / "data").glob("*")
    whole = data.read_bytes()

    def assert_broken():
        with pytest.raises(BankError) as error:
            Bank.open(bank.path)
        assert_one_line(error, str(bank.path), "restore")

    data.write_bytes(whole[: len(whole) // 2])
    assert_broken()
    data.unlink()
    assert_broken()
    shutil.rmtree(bank.path / "rows.lance")
    assert_broken()
    with pytest.raises(BankError):
        bank.passages()


def test_two_banks_on_one_folder_see_each_other(bank):
    other = Bank.open(bank.path)
    bank.add([make_row("a")])
    other.add([make_row("b"), make_row("a", seed=1)])
    bank.add([make_row("c")])
    assert set(bank.known()) == set(other.known()) == {"a#0", "b#0", "c#0"}
    assert bank.version == other.version
    assert bank.known()["a#0"] == ("hash-1", "recipe-1")


@pytest.mark.parametrize(
    "cause",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("lance error: LanceError(IO): No space left on device (os error 28), /root/.cargo/w.rs:1:9"),
    ],
)
def test_a_full_disk_is_one_line_and_adds_nothing(bank, monkeypatch, cause):
    from lancedb.merge import LanceMergeInsertBuilder

    bank.add([make_row("a")])
    with monkeypatch.context() as patched:
        patched.setattr(LanceMergeInsertBuilder, "execute", lambda *_: (_ for _ in ()).throw(cause))
        with pytest.raises(BankError) as error:
            bank.add([make_row("b")])
    assert_one_line(error, "no space left", str(bank.path), "nothing was added")
    bank.add([make_row("c")])
    assert set(bank.known()) == {"a#0", "c#0"}


WRITER = """
import sys
sys.path[:0] = sys.argv[3:]
from test_bank import make_row
from neurag.knowledge.bank import Bank

bank = Bank.open(sys.argv[1])
print("open", flush=True)
for turn in range(int(sys.argv[2])):
    bank.add([make_row(f"{turn}-{i}", seed=turn) for i in range(40)])
    print(turn, flush=True)
"""


def start_writer(path, turns):
    here = Path(__file__).parent
    arguments = [sys.executable, "-c", WRITER, path, str(turns), here, here.parent / "src"]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("delay", [0.0, 0.004, 0.012])
def test_a_killed_writer_leaves_whole_writes(bank, delay):
    bank.add([make_row("earlier")])
    with start_writer(bank.path, 10_000) as writer:
        while writer.stdout.readline().strip() not in ("2", ""):
            pass
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
    again = Bank.open(bank.path)
    assert "earlier#0" in again.known()
    assert len(again) % 40 == 1
    assert len(again) >= 121
    assert again.verify() == []
    again.add([make_row("later")])  # the killed writer's turn is over
    again.compact()
    assert len(again) % 40 == 2


def test_two_processes_that_write_the_same_rows_make_no_doubles(bank):
    with start_writer(bank.path, 6) as one, start_writer(bank.path, 6) as two:
        assert "5\n" in one.communicate()[0]
        assert "5\n" in two.communicate()[0]
    assert len(bank) == len(bank.known()) == 240


def test_importing_the_bank_stays_cheap():
    heavy = "{'lancedb', 'pyarrow', 'torch'}"
    code = f"import sys, neurag.knowledge.bank; assert not {heavy} & set(sys.modules)"
    source = Path(__file__).parent.parent / "src"
    subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(source)!r}); {code}"], check=True)


DOCUMENTS = st.sampled_from(["a", "b'", "c😀"])


class BankMachine(RuleBasedStateMachine):
    """Whatever is done in whatever order, the bank holds what a dict would."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.bank = Bank.create(Path(self.folder.name) / "bank", MANIFEST)
        self.model = {}

    def teardown(self):
        self.folder.cleanup()

    @rule(
        chunks=st.lists(st.tuples(DOCUMENTS, st.integers(0, 2), st.integers(0, 9)), max_size=4),
    )
    def add(self, chunks):
        rows = [make_row(document, index, seed=seed) for document, index, seed in chunks]
        self.bank.add(rows)
        self.model |= {row.id: row for row in rows}

    @rule(document=DOCUMENTS)
    def remove(self, document):
        gone = [id for id, row in self.model.items() if row.document_id == document]
        if gone:
            assert self.bank.remove([document]) == len(gone)
        else:
            with pytest.raises(BankError):
                self.bank.remove([document])
        for id in gone:
            del self.model[id]

    @rule()
    def reopen(self):
        self.bank = Bank.open(self.bank.path)

    @rule()
    def compact(self):
        self.bank.compact()

    @rule()
    def verify(self):
        assert self.bank.verify() == []
        assert {summary.id for summary in self.bank.documents()} == {row.document_id for row in self.model.values()}

    @invariant()
    def holds_what_a_dict_would(self):
        assert len(self.bank) == len(self.model)
        assert self.bank.known() == {id: (row.content_hash, row.recipe) for id, row in self.model.items()}
        for id, (neuron, scale) in self.bank.neurons(list(self.model)).items():
            np.testing.assert_array_equal(neuron.ravel(), self.model[id].neuron)
            np.testing.assert_array_equal(scale.ravel(), self.model[id].scale)


TestBankMachine = BankMachine.TestCase
TestBankMachine.settings = settings(
    max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_texts_survive_another_process_moving_the_rows(tmp_path):
    bank = Bank.create(tmp_path / "bank", MANIFEST)
    bank.add([make_row(f"d{i}", text=f"text {i}") for i in range(6)])
    Bank.open(tmp_path / "bank").remove(["d0", "d2"])
    Bank.open(tmp_path / "bank").compact()
    assert {id: told.text for id, told in bank.texts(["d1#0", "d5#0", "d0#0"]).items()} == {
        "d1#0": "text 1",
        "d5#0": "text 5",
    }
