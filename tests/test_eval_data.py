"""Rows are read line by line and never lose the rest to one bad line; public files become rows."""

import gzip
import json
import tracemalloc
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurag.config import UsageError
from neurag.evaluation import data, formats
from neurag.evaluation.data import Broken, Doc, Row, as_row, doc_id, documents_of, read_rows, sharing
from neurag.evaluation.formats import FORMATS, convert, guess

LOUVRE = {"id": "d1", "title": "Louvre", "text": "It is in Paris.", "relevant": True}
FULL = {
    "id": "q1",
    "question": "Where is the Louvre?",
    "answers": ["Paris", "City of Light"],
    "docs": [LOUVRE, {"title": "Prado", "text": "It is in Madrid.", "relevant": False, "doc_type": "noise"}],
    "wrong_answers": ["Madrid"],
    "type": "place",
    "source": "made up",
    "answer_sets": [["Paris", "City of Light"]],
    "unknown": 1,
}


def asked(number, **more):
    return {"id": f"q{number}", "question": f"Question {number}?", "answers": ["yes"], **more}


@pytest.fixture
def written(tmp_path):
    def write(*lines, name="rows.jsonl"):
        """Each line is bytes as they are, or a value to be written as JSON."""
        path = tmp_path / name
        whole = b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in lines)
        path.write_bytes(gzip.compress(whole) if name.endswith(".gz") else whole)
        return path

    return write


# Rows


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_a_full_row_keeps_every_field(written, name):
    prado = Doc(doc_id("Prado", "It is in Madrid."), "Prado", "It is in Madrid.", False, "noise")
    (row,) = read_rows(written(b"", FULL, name=name))
    assert row == Row(
        "q1",
        "Where is the Louvre?",
        ("Paris", "City of Light"),
        (Doc("d1", "Louvre", "It is in Paris.", True), prado),
        ("Madrid",),
        "place",
        "made up",
        2,
        (("Paris", "City of Light"),),
    )
    assert row.gold == ("d1",)


def test_what_is_left_out_or_null_gets_its_default(written):
    bare, null = read_rows(written({"question": "Why?", "answers": []}, asked(2, docs=None, type=None, id=None)))
    assert bare == Row("line-1", "Why?", (), (), line=1)
    assert (null.id, null.docs, null.type, null.answer_sets) == ("line-2", (), "", ())


def test_a_byte_order_mark_and_a_whole_number_as_id_do_no_harm(written):
    (row,) = read_rows(written(b"\xef\xbb\xbf" + json.dumps(asked(1) | {"id": 7}).encode()))
    assert row.id == "7"


def test_gold_is_what_is_relevant_in_order():
    labels = {"a": True, "b": None, "c": False, "d": True}
    row = Row("q", "?", (), tuple(Doc(name, "", name, label) for name, label in labels.items()))
    assert row.gold == ("a", "d")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "is not JSON"),
        (b"[1]", "is not a JSON object"),
        (b"\xff\xfe", "is not UTF-8 (byte 0xff at offset 0)"),
        (b"[" * 100_000, "is not JSON"),
        (b"1" * 5000, "is not JSON"),
        ({"answers": []}, "has no 'question'"),
        (asked(1, question="  "), "has no 'question'"),
        (asked(1, question=3), "'question' must hold text, not int"),
        ({"question": "Why?"}, "has no 'answers'"),
        (asked(1, answers="yes"), "'answers' must be a list, not str"),
        (asked(1, answers=[1]), "'answers' must hold text, not int"),
        (asked(1, wrong_answers={}), "'wrong_answers' must be a list"),
        (asked(1, answer_sets=["yes"]), "'answer_sets' must be a list of lists, not of str"),
        (asked(1, type=[]), "'type' must hold text"),
        (asked(1) | {"id": True}, "'id' must hold text, not bool"),
        (asked(1, docs={"a": 1}), "'docs' must be a list, not dict"),
        (asked(1, docs=["a"]), "document 1: is not an object"),
        (asked(1, docs=[LOUVRE, {"title": "x"}]), "document 2: has no 'text'"),
        (asked(1, docs=[{"text": " "}]), "document 1: has no 'text'"),
        (asked(1, docs=[LOUVRE | {"relevant": 1}]), "document 1: 'relevant' must be true, false or null"),
        (asked(1, question="\ud83d"), "'question' holds half a character"),
    ],
)
def test_a_bad_line_is_named_and_the_rest_is_read(written, line, reason):
    before, broken, after = read_rows(written(asked(8), line, asked(9)))
    assert isinstance(broken, Broken)
    assert broken.line == 2
    assert broken.reason.startswith(reason)
    assert (before.id, after.id) == ("q8", "q9")


def test_a_row_whose_id_was_seen_is_broken(written):
    _, second, third = read_rows(written(asked(3), asked(1), asked(3, question="Other?")))
    assert second.id == "q1"
    assert third == Broken(3, "id 'q3' was on line 1 already")


def test_one_id_for_two_texts_is_told_apart_and_the_same_text_is_not(written):
    other = LOUVRE | {"text": "It is in Lens."}
    rows = list(read_rows(written(asked(1, docs=[LOUVRE]), asked(2, docs=[other, LOUVRE]), asked(3, docs=[other]))))
    new = rows[1].docs[0].id
    assert new.startswith("d1-")
    assert len(new) == len("d1-") + 6
    assert [[doc.id for doc in row.docs] for row in rows] == [["d1"], [new, "d1"], [new]]
    assert [(doc.id, doc.text) for doc in documents_of(rows)] == [("d1", LOUVRE["text"]), (new, other["text"])]


def test_a_document_that_comes_twice_in_a_row_counts_once(written):
    (row,) = read_rows(written(asked(1, docs=[LOUVRE, LOUVRE | {"id": "d2"}, LOUVRE])))
    assert row.gold == ("d1", "d2")


def test_document_ids_are_a_hash_of_title_and_text():
    # sha1("Louvre\nIt is in Paris."): ids must not change, files out there hold them
    assert doc_id("Louvre", "It is in Paris.") == "4d19274e9ea2"
    assert doc_id("Louvre", "It is in Lens.") != doc_id("Louvre", "It is in Paris.") != doc_id("", "It is in Paris.")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*FULL, "text", "relevant", "title"]), inner, max_size=6)
        ),
        max_leaves=12,
    )
)
@settings(max_examples=150, deadline=None)
def test_no_json_at_all_raises(value):
    row = as_row(value, 1)
    assert isinstance(row, (Row, Broken))
    if isinstance(row, Row):
        assert row.question.strip()
        assert all(doc.id and doc.text.strip() for doc in row.docs)


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"{}", b'{"question": "?"}', b"[", b"\n"]), max_size=5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_line_at_all_raises(written, lines):
    items = list(read_rows(written(*lines, asked(1))))
    assert items[-1].id == "q1"
    assert all(isinstance(item, Broken) for item in items[:-1])


# Files


def test_no_more_is_read_than_asked_for(monkeypatch, tmp_path):
    read = []

    class Endless:
        def readline(self, _):
            read.append(1)
            return json.dumps(asked(len(read))).encode() + b"\n"

    @contextmanager
    def opened(_):
        yield Endless()

    monkeypatch.setattr(data, "opened", opened)
    assert len(list(read_rows(tmp_path / "endless.jsonl", limit=5))) == 5
    assert len(read) == 5


def test_limit_counts_sound_rows(written):
    items = list(read_rows(written(b"{", asked(1), b"{", asked(2), asked(3)), limit=2))
    assert [item.line for item in items] == [1, 2, 3, 4]


def test_a_large_file_is_not_held_in_memory(written):
    size = 200_000
    path = written(*(asked(n, docs=[{"text": f"{n} " + "x" * size}]) for n in range(60)), name="large.jsonl.gz")
    tracemalloc.start()
    try:
        assert sum(isinstance(row, Row) for row in read_rows(path)) == 60
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * size  # the file unpacked is 60 times that


def test_sixty_megabytes_are_read_in_a_few(tmp_path):
    """Many rows, and one that is far larger than the others."""
    path, text = tmp_path / "large.jsonl", "A sentence about the mill of Oskerby. " * 250
    largest = 4_000_000
    with path.open("w", encoding="utf-8") as file:
        for number in range(6000):
            doc = {"text": f"{number} {text}" if number != 3000 else "x" * largest}
            file.write(json.dumps(asked(number, docs=[doc])) + "\n")
    assert path.stat().st_size > 60_000_000
    tracemalloc.start()
    try:
        count = sum(isinstance(row, Row) for row in read_rows(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 6000
    assert peak < 4 * largest + 4_000_000  # its line, the text decoded, parsed and encoded for its hash; and the ids


def test_a_document_of_many_rows_is_held_once(written):
    size = 200_000
    path = written(*(asked(n, docs=[{"text": "x" * size}, {"text": f"{n} of its own"}]) for n in range(60)))
    tracemalloc.start()
    try:
        rows = list(sharing(read_rows(path)))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert rows == list(read_rows(path))
    assert held < 3 * size


def test_a_limit_ends_the_reading_of_a_gigabyte_early(tmp_path):
    path = tmp_path / "huge.jsonl"
    with path.open("wb") as file:
        for number in range(3):
            file.write(json.dumps(asked(number)).encode() + b"\n")
        file.truncate(1_000_000_000)  # a hole: it takes no room on the disk, and reading it would take memory
    tracemalloc.start()
    try:
        assert [row.id for row in read_rows(path, limit=3)] == ["q0", "q1", "q2"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_a_line_without_end_is_passed_over(written, monkeypatch):
    monkeypatch.setattr(data, "_LONGEST", 100)
    long, after = read_rows(written(asked(1, type="x" * 450), asked(2)))
    assert (long.line, after.id, after.line) == (1, "q2", 2)
    assert "longer than" in long.reason


def test_what_stands_before_a_break_in_gzip_is_kept(tmp_path, written):
    whole = written(*(asked(n, source=doc_id("", str(n))) for n in range(2000)), name="whole.jsonl.gz").read_bytes()
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    *rows, last = read_rows(path)
    assert len(rows) > 100
    assert all(isinstance(row, Row) for row in rows)
    assert last.line == len(rows) + 1
    assert "gzip file is broken" in last.reason


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.jsonl", None, "cannot be read: No such file"),
        (".", None, "cannot be read: Is a directory"),
        ("empty.jsonl", b"", "it is empty"),
        ("blank.jsonl", b"\n \n", "it is empty"),
        ("plain.jsonl.gz", b"{}", "line 1 cannot be unpacked"),
        ("corpus.jsonl", b'{"text": "a"}\n{"text": "b"}', "line 1 has no 'question'"),
    ],
)
def test_a_file_without_rows_is_one_clear_error(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        list(read_rows(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_limit_below_one_is_refused(written):
    with pytest.raises(UsageError, match="at least 1, not 0"):
        list(read_rows(written(asked(1)), limit=0))


# Public formats


def lines(*records):
    return "\n".join(json.dumps(record) for record in records)


HOTPOT = {
    "_id": "5a8",
    "question": "Which is older?",
    "answer": "Oskerby",
    "supporting_facts": [["Oskerby", 0], ["Tarn", 1]],
    "context": [
        ["Oskerby", ["Built in 1902.", " It is small."]],
        ["Tarn", ["A lake."]],
        ["Empty", []],
        ["Ash", ["Ha."]],
    ],
    "type": "comparison",
    "level": "hard",
}
MUSIQUE = {
    "id": "2hop__1_2",
    "question": "Who wed the founder?",
    "answer": "Ilse",
    "answer_aliases": ["Ilse M."],
    "answerable": True,
    "paragraphs": [
        {"idx": 0, "title": "A", "paragraph_text": "The founder wed Ilse.", "is_supporting": True},
        {"idx": 1, "title": "B", "paragraph_text": "Other.", "is_supporting": False},
    ],
}
CONTEXTS = [f"Paragraph {n} of the article." for n in range(6)]
SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Ilse_Maranth",
            "paragraphs": [
                {
                    "context": text,
                    "qas": [
                        {
                            "id": f"s{n}",
                            "question": f"Which is paragraph {n}?",
                            "answers": [{"text": f"Paragraph {n}", "answer_start": 0}] * 3,
                            "is_impossible": False,
                        }
                    ],
                }
                for n, text in enumerate(CONTEXTS)
            ],
        }
    ],
}
SQUAD["data"][0]["paragraphs"][5]["qas"][0] |= {
    "answers": [],
    "is_impossible": True,
    "plausible_answers": [{"text": "article", "answer_start": 1}],
}
TRIVIA = {
    "Domain": "unfiltered-web",
    "Data": [
        {
            "Question": "Which street?",
            "QuestionId": "tc_33",
            "Answer": {"Value": "Sunset Boulevard", "Aliases": ["Sunset Blvd", "Sunset Boulevard"]},
            "EntityPages": [{"Title": "Street", "Filename": "Street.txt"}],
            "SearchResults": [{"Title": "Musicals", "Description": "It ran on ...", "Filename": "1/1.txt"}],
        }
    ],
}
POPQA = (
    "id\tsubj\tprop\ts_wiki_title\tquestion\tpossible_answers\n"
    '42\tIlse Maranth\toccupation\tIlse Maranth\tWhat is her job?\t"[""weaver"", ""textile artist""]"\n'
)
POPQA_PAGES = {
    "id": 42,
    "prop": "occupation",
    "s_wiki_title": "Ilse",
    "question": "What is her job?",
    "possible_answers": '["weaver"]',
    "paragraphs": [
        {"title": "Ilse", "text": "A weaver.", "is_supporting": True},
        {"title": "Weaver", "text": "Weaves."},
    ],
}
RGB_FACT = {
    "id": 0,
    "query": "Where was it played?",
    "answer": "Tampa",
    "fakeanswer": "Glendale",
    "positive": ["In Tampa."],
    "positive_wrong": ["In Glendale."],
    "negative": ["Tickets."],
}
RGB_INT = {
    "id": 1,
    "query": "When and where?",
    "answer": [["2 May", "May 2"], "Tampa"],
    "positive": [["On 2 May."], ["In Tampa."]],
    "negative": [],
}
RAMDOCS = {
    "question": "What is Broken Bow?",
    "documents": [
        {"text": "A town.", "type": "correct", "answer": "a town"},
        {"text": "A river.", "type": "misinfo", "answer": "a river"},
        {"text": "Bows.", "type": "noise", "answer": "unknown"},
    ],
    "gold_answers": ["a town", "a film"],
    "wrong_answers": ["a river"],
}
NQ = {"question": "who won", "answer": ["Curie", "Marie Curie"]}
ORACLE = {
    "question": "who won",
    "answers": ["Curie"],
    "ctxs": [
        {"title": "Prize", "text": "Curie won. ", "hasanswer": True, "isgold": True},
        {"title": "Other", "text": "Curie too.", "hasanswer": True, "isgold": False},
    ],
}
DPR = {
    "question": "who won",
    "answers": ["Curie"],
    "positive_ctxs": [{"title": "Prize", "text": "Curie won.", "passage_id": "1"}],
    "negative_ctxs": [{"title": "N", "text": "No."}],
    "hard_negative_ctxs": [{"title": "H", "text": "Nearly."}],
}
FILES = {
    "hotpotqa": ("hotpot_dev_distractor_v1.json", json.dumps([HOTPOT])),
    "2wikimultihopqa": ("dev.json", json.dumps([HOTPOT | {"evidences": [["a", "b", "c"]]}], indent=1)),
    "musique": ("musique_full_v1.0_dev.jsonl", lines(MUSIQUE, MUSIQUE | {"answerable": False})),
    "nq": ("NQ-open.dev.jsonl", lines(NQ, NQ | {"question": "who lost"})),
    "triviaqa": ("unfiltered-web-dev.json", json.dumps(TRIVIA, indent=4)),
    "popqa": ("popQA.tsv", POPQA),
    "squad": ("dev-v2.0.json", json.dumps(SQUAD)),
    "rgb": ("en_fact.json", lines(RGB_FACT, RGB_INT)),
    "ramdocs": ("RAMDocs_test.jsonl", lines(RAMDOCS)),
}


@pytest.fixture
def published(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


def labelled(row):
    return {doc["text"]: (doc["relevant"], doc.get("doc_type", "")) for doc in row["docs"]}


def test_every_format_has_a_file_here():
    assert FILES.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", FILES)
def test_a_published_file_is_known_by_its_fields_and_its_rows_are_sound(published, tmp_path, name):
    path = published(*FILES[name])
    assert guess(path) == name
    rows = list(convert(path))
    assert rows == list(convert(path, name)) == list(FORMATS[name](path))
    (tmp_path / "rows.jsonl").write_text(lines(*rows), encoding="utf-8")
    back = list(read_rows(tmp_path / "rows.jsonl"))
    assert [row["id"] for row in rows] == [row.id for row in back]
    assert {row.source for row in back} == {name}


@pytest.mark.parametrize("name", ["hotpotqa", "2wikimultihopqa"])
def test_hotpot_joins_sentences_and_labels_by_title(published, name):
    (row,) = convert(published(*FILES[name]))
    assert row["id"] == f"{name}-5a8"
    assert (row["question"], row["answers"], row["type"]) == ("Which is older?", ["Oskerby"], "comparison")
    relevant = {"Built in 1902. It is small.": (True, ""), "A lake.": (True, ""), "Ha.": (False, "")}
    assert labelled(row) == relevant
    assert row["docs"][0]["id"] == doc_id("Oskerby", "Built in 1902. It is small.")


@pytest.mark.parametrize("name", ["hotpotqa", "2wikimultihopqa"])
def test_hotpot_is_also_read_where_pairs_are_columns(published, name):
    """So the library `datasets` writes it; some copies have `id`, some none at all."""
    (plain,) = convert(published(*FILES[name]))
    columns = {key: value for key, value in json.loads(FILES[name][1])[0].items() if key != "_id"} | {
        "supporting_facts": {"title": ["Oskerby", "Tarn"], "sent_id": [0, 1]},
        "context": {
            "title": [title for title, _ in HOTPOT["context"]],
            "sentences": [sentences for _, sentences in HOTPOT["context"]],
        },
    }
    named, bare = convert(published("dev.jsonl", lines(columns | {"id": "5a8"}, columns)))
    assert named == plain
    assert bare == plain | {"id": f"{name}-2"}
    uneven = columns | {"context": {"title": ["Oskerby"], "sentences": []}}
    broken, _ = convert(published("dev.jsonl", lines(uneven, columns)))
    assert broken.reason.startswith(f"is not as in {name}: ")


def test_musique_says_which_questions_have_no_answer(published):
    known, lacks = convert(published(*FILES["musique"]))
    assert (known["id"], known["answers"], known["type"]) == ("musique-2hop__1_2", ["Ilse", "Ilse M."], "2hop")
    assert labelled(known) == {"The founder wed Ilse.": (True, ""), "Other.": (False, "")}
    assert (lacks["id"], lacks["answers"]) == ("musique-2hop__1_2-unanswerable", [])
    assert lacks["type"] == "2hop unanswerable"


def test_natural_questions_come_with_and_without_passages(published):
    plain, _ = convert(published(*FILES["nq"]))
    assert (plain["id"], plain["answers"], plain["docs"]) == ("nq-1", ["Curie", "Marie Curie"], [])
    (oracle,) = convert(published("nq-open-oracle.jsonl.gz", lines(ORACLE)))
    assert labelled(oracle) == {"Curie won.": (True, ""), "Curie too.": (False, "")}
    (dpr,) = convert(published("biencoder-nq-dev.json.gz", json.dumps([DPR], indent=2)))
    assert labelled(dpr) == {"Curie won.": (True, ""), "No.": (False, "negative"), "Nearly.": (False, "hard_negative")}
    (retrieved,) = convert(published("ctxs.jsonl", lines({**NQ, "ctxs": [{"text": "Curie.", "has_answer": True}]})))
    assert labelled(retrieved) == {"Curie.": (None, "")}  # holding the answer's words is no label
    efficient = {"question": "who won", "answer": ["Curie"], "def_correct_predictions": ["Marie Curie"]}
    (judged,) = convert(published("NQ-open.efficientqa.test.1.1.jsonl", lines(efficient)))
    assert judged["answers"] == ["Curie"]


def test_a_set_that_only_has_questions_and_answers_like_nq_is_not_taken_for_it(published):
    path = published("other.json", json.dumps([{**NQ, "evidence_list": [{"fact": "Curie won."}]}]))
    with pytest.raises(UsageError, match="which fit no known format"):
        guess(path)
    assert len(list(convert(path, "nq"))) == 1  # whoever says so gets it


def test_triviaqa_takes_aliases_and_snippets(published):
    (row,) = convert(published(*FILES["triviaqa"]))
    assert (row["id"], row["answers"]) == ("triviaqa-tc_33", ["Sunset Boulevard", "Sunset Blvd"])
    assert labelled(row) == {"It ran on ...": (None, "snippet")}


def test_popqa_reads_the_table_and_the_file_with_pages(published):
    (row,) = convert(published(*FILES["popqa"]))
    assert (row["id"], row["answers"], row["type"]) == ("popqa-42", ["weaver", "textile artist"], "occupation")
    assert row["docs"] == []
    (paged,) = convert(published("popqa.json", json.dumps([POPQA_PAGES])))
    assert labelled(paged) == {"A weaver.": (True, ""), "Weaves.": (None, "")}


def test_squad_adds_paragraphs_of_the_article_without_the_answer(published):
    rows = list(convert(published(*FILES["squad"])))
    assert rows[1]["answers"] == ["Paragraph 1"]
    assert rows[1]["docs"][0]["title"] == "Ilse Maranth"
    assert labelled(rows[1]) == {
        CONTEXTS[1]: (True, ""),
        **{CONTEXTS[n]: (False, "same_article") for n in (2, 3, 4)},
    }
    asked_of_all = SQUAD["data"][0]["paragraphs"][0]["qas"][0] | {"answers": [{"text": "OF the"}]}
    article = {
        "title": "A",
        "paragraphs": [{"context": CONTEXTS[0], "qas": [asked_of_all]}, {"context": CONTEXTS[1], "qas": []}],
    }
    (row,) = convert(published("v1.json", json.dumps({"data": [article]})))
    assert labelled(row) == {CONTEXTS[0]: (True, "")}  # the other paragraph holds the answer, in other case


def test_squad_2_has_questions_without_answer(published):
    *_, row = convert(published(*FILES["squad"]))
    assert (row["answers"], row["wrong_answers"], row["type"]) == ([], ["article"], "unanswerable")
    assert labelled(row) == {CONTEXTS[5]: (False, "")}


def test_rgb_tells_required_answers_from_aliases(published):
    fact, both = convert(published(*FILES["rgb"]))
    assert (fact["id"], fact["type"], fact["answer_sets"]) == ("rgb-0", "counterfactual", [["Tampa"]])
    assert fact["wrong_answers"] == ["Glendale"]
    assert labelled(fact) == {
        "In Tampa.": (True, "positive"),
        "In Glendale.": (False, "positive_wrong"),
        "Tickets.": (False, "negative"),
    }
    assert (both["id"], both["type"]) == ("rgb-1", "integration")
    assert both["answers"] == ["2 May", "May 2", "Tampa"]
    assert both["answer_sets"] == [["2 May", "May 2"], ["Tampa"]]
    assert labelled(both) == {"On 2 May.": (True, "positive"), "In Tampa.": (True, "positive")}


def test_ramdocs_wants_every_reading_answered(published):
    (row,) = convert(published(*FILES["ramdocs"]))
    assert (row["answers"], row["wrong_answers"]) == (["a town", "a film"], ["a river"])
    assert row["answer_sets"] == [["a town"], ["a film"]]
    (odd,) = convert(published("odd.jsonl", lines(RAMDOCS | {"wrong_answers": ["a film", "a river", "a river"]})))
    assert odd["wrong_answers"] == ["a river"]  # what is right in another reading is not wrong
    assert labelled(row) == {"A town.": (True, "correct"), "A river.": (False, "misinfo"), "Bows.": (False, "noise")}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        (json.dumps({"question": "who"}), "has no 'answer', which nq has"),
        (json.dumps(NQ | {"question": ""}), "has no 'question'"),
        (json.dumps(NQ | {"answer": [3]}), "'answers' must hold text, not int"),
        (json.dumps(NQ | {"answer": [{}]}), "is not as in nq: "),
        (json.dumps(NQ | {"ctxs": 5}), "is not as in nq: "),
        (json.dumps(NQ | {"ctxs": [{"text": None}]}), "is not as in nq: "),
    ],
)
def test_a_record_that_gives_no_row_is_named_and_the_rest_is_read(published, bad, reason):
    first, broken, last = convert(published("nq.jsonl", "\n".join([lines(NQ), bad, lines(NQ)])), "nq")
    assert isinstance(broken, Broken)
    assert broken.line == 2
    assert broken.reason.startswith(reason)
    assert (first["id"], last["id"]) == ("nq-1", "nq-3")


def test_a_file_whose_first_line_is_broken_is_still_read_by_lines(published):
    broken, row = convert(published("nq.jsonl", "{\n" + lines(NQ)))
    assert (broken.line, row["id"]) == (1, "nq-2")


def test_a_test_set_without_answers_gives_no_rows(published):
    hidden = {key: value for key, value in HOTPOT.items() if key != "answer"}
    with pytest.raises(UsageError, match=r"no question of the format hotpotqa .record 1 has no 'answer'"):
        list(convert(published("test.json", json.dumps([hidden])), "hotpotqa"))


def test_a_broken_table_is_named_where_it_breaks(tmp_path):
    (tmp_path / "popQA.tsv").write_bytes(POPQA.encode() + b"43\tcut\n44\t\xff\n45\n")
    row, short, broken = convert(tmp_path / "popQA.tsv")
    assert (row["id"], short.line, broken.line) == ("popqa-42", 3, 4)
    assert "nor can what follows" in broken.reason


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (lines(NQ), "nqq", "no format 'nqq': choose from 2wikimultihopqa, hotpotqa"),
        (lines(NQ), "squad", "no question of the format squad .record 1 has no 'title'"),
        (lines({"a": 1, "b": 2}), None, "has the fields a, b, which fit no known format: choose from"),
        (lines(FULL), None, "holds rows already"),
        ("", None, "holds no JSON object"),
        ("", "nq", "it is empty"),
        ("not JSON", None, "holds no JSON object"),
    ],
)
def test_a_file_that_cannot_be_converted_is_one_clear_error(published, text, name, message):
    with pytest.raises(UsageError, match=message) as caught:
        list(convert(published("file.jsonl", text), name))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_clear_error(tmp_path):
    for name in ("missing.json", "missing.tsv"):
        with pytest.raises(UsageError, match="cannot be read"):
            list(convert(tmp_path / name))


def test_converting_streams_files_with_a_record_a_line(published, monkeypatch):
    taken = []
    real = formats.json_lines

    def counted(path):
        for item in real(path):
            taken.append(item)
            yield item

    monkeypatch.setattr(formats, "json_lines", counted)
    rows = convert(published("nq.jsonl", lines(*[NQ] * 50)), "nq")
    next(rows), next(rows)
    assert len(taken) <= 4
