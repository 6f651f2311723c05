"""What documents and chunks promise: clean texts, ids from content, and chunks that quote exactly."""

import pickle
import re
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurag.knowledge.documents import (
    Chunk,
    Document,
    DocumentError,
    as_documents,
    chunk_document,
    clean_text,
    document_from_mapping,
    document_id,
)

WORD = re.compile(r"\w+|[^\w\s]")

# Few letters and many kinds of white space: the texts that break offsets.
AWKWARD = st.text(
    st.sampled_from("ab é。😀.,!?\"'-/()\n\n\n\t  \u00a0\u2003\u3000\u200b\x1c\x85\x00\ud800"), max_size=300
)


def words(text):
    return len(WORD.findall(text))


def squeezed(text):
    return "".join(text.split())


@settings(max_examples=150, deadline=None)
@given(text=AWKWARD | st.text(max_size=200), max_tokens=st.integers(1, 12), per_character=st.booleans())
def test_chunks_quote_every_character_once(text, max_tokens, per_character):
    count = len if per_character else words
    document = Document(text)
    chunks = chunk_document(document, count, max_tokens)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    position = 0
    for chunk in chunks:
        assert position <= chunk.start < chunk.end <= len(document.text)
        assert document.text[position : chunk.start].strip() == ""
        assert document.text[chunk.start : chunk.end] == chunk.text == chunk.text.strip() != ""
        assert count(chunk.text) <= max_tokens
        position = chunk.end
    assert document.text[position:].strip() == ""
    assert squeezed("".join(chunk.text for chunk in chunks)) == squeezed(document.text)


@given(AWKWARD | st.text(st.characters(), max_size=100))
def test_cleaning_is_final_and_writable(text):
    clean = clean_text(text)
    assert clean_text(clean) == clean
    assert unicodedata.is_normalized("NFC", clean)
    assert not [c for c in clean if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
    clean.encode()


def test_cleaning_keeps_words_apart():
    assert clean_text("a\r\nb\rc\fd\u2028e\tf\x00g\ufeffh\ud83di") == "a\nb\nc\nd\ne\tfghi"
    assert clean_text("Cafe\u0301") == "Café"


def test_short_document_is_one_chunk_and_long_one_breaks_at_paragraphs():
    assert [c.text for c in chunk_document(Document("  One line.\n"), words)] == ["One line."]
    document = Document("The first paragraph has words.\n\nThe second has some too.")
    assert [c.text for c in chunk_document(document, words, 7)] == document.text.split("\n\n")


@pytest.mark.parametrize("text", ["汉字" * 4000, "QUJD" * 2000 + "==", "😀" * 5000])
def test_text_without_spaces_is_cut(text):
    chunks = chunk_document(Document(text), lambda part: len(part.encode()), 64)
    assert "".join(chunk.text for chunk in chunks) == text
    assert all(32 < len(chunk.text.encode()) <= 64 for chunk in chunks[:-1])


def test_a_character_above_the_limit_stands_alone():
    chunks = chunk_document(Document("ab😀c"), lambda part: 3 * len(part), 2)
    assert [chunk.text for chunk in chunks] == ["a", "b", "😀", "c"]


@pytest.mark.parametrize("text", ["", " \n\t \u3000", "\x00\ufeff"])
def test_blank_document_has_no_chunks(text):
    assert chunk_document(Document(text), words) == ()


def test_hundreds_of_different_gaps_do_not_exhaust_the_stack():
    kinds = [f"{number:012b}".replace("0", " ").replace("1", "\u3000") for number in range(1500)]
    text = "".join(f"w{number}{gap}" for number, gap in enumerate(kinds))
    chunks = chunk_document(Document(text), words, 20)
    assert squeezed("".join(chunk.text for chunk in chunks)) == squeezed(text)


@pytest.mark.parametrize("text", ["The quick brown fox jumps over it. " * 30_000, "ab\n\ncd e\n" * 110_000])
def test_a_megabyte_takes_seconds(text):
    start = time.perf_counter()
    chunks = chunk_document(Document(text), words)
    assert time.perf_counter() - start < 5
    assert sum(words(chunk.text) for chunk in chunks) == words(text)


def test_max_tokens_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        chunk_document(Document("text"), words, 0)


def test_ids_and_hashes_come_from_content():
    document = Document("It opened in 1793.", title="Louvre", source="a.txt")
    assert document.id == document_id("Louvre", "It opened in 1793.") and len(document.id) == 16
    assert Document("It opened in 1793.", title=" Louvre\n", source="b.txt").id == document.id
    assert Document("It opened in 1793.").id != document.id
    assert Document("It opened in 1793.", id="louvre").id == "louvre"
    chunk = chunk_document(document, words)[0]
    assert chunk.id == f"{document.id}#0"
    assert chunk.content_hash[:16] == document.id and len(chunk.content_hash) == 64
    assert Chunk(document, 1, 0, 2).content_hash != chunk.content_hash


def test_documents_can_be_pickled_and_hashed():
    chunk = chunk_document(Document("text", labels=("staff",), metadata={"page": "1"}), words)[0]
    assert pickle.loads(pickle.dumps(chunk)) == chunk
    assert len({chunk, chunk}) == 1


@pytest.mark.parametrize("timestamp", ["2024", "2024-05", "2024-05-01", "2024-05-01T12:00:00Z"])
def test_iso_timestamps_are_kept(timestamp):
    assert Document("text", timestamp=timestamp).timestamp == timestamp


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"timestamp": "last May"}, "'last May' is not an ISO 8601"),
        ({"trust": 1.5}, "must lie in 0..1"),
        ({"trust": float("nan")}, "must lie in 0..1"),
    ],
)
def test_impossible_values_are_refused(fields, message):
    with pytest.raises(DocumentError, match=message):
        Document("text", **fields)


def test_as_documents_takes_strings_mappings_and_documents():
    given_document = Document("third")
    row = {
        "text": "second",
        "id": 7,
        "title": "Two",
        "timestamp": None,
        "trust": 1,
        "labels": ["a", "b"],
        "metadata": {"year": 1999, "gone": None, "by": "x"},
        "unknown": object(),
    }
    first, second, third = as_documents(["first", row, given_document])
    assert (first.text, first.id) == ("first", document_id("", "first"))
    assert (second.id, second.title, second.trust, second.labels) == ("7", "Two", 1.0, ("a", "b"))
    assert second.timestamp == "" and second.metadata == {"year": "1999", "by": "x"}
    assert third is given_document


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("  \n", "document 1: is empty"),
        (Document(" "), "document 1: is empty"),
        (None, "not NoneType"),
        ({}, "has no 'text'"),
        ({"docs": []}, "a question row, not a document"),
        ({"text": "\x00 \ud800"}, "is empty"),
        ({"text": 3}, "'text' must be a string, not int"),
        ({"text": "t", "id": True}, "'id' must be a string, not bool"),
        ({"text": "t", "title": ["x"]}, "'title' must be a string, not list"),
        ({"text": "t", "timestamp": 1714521600}, "'timestamp' must be a string"),
        ({"text": "t", "trust": "high"}, "'trust' must be a number"),
        ({"text": "t", "trust": 10**400}, "must lie in 0..1"),
        ({"text": "t", "labels": "staff"}, "'labels' must be a list"),
        ({"text": "t", "labels": [1]}, "'labels' must be a list"),
        ({"text": "t", "metadata": {"a": []}}, "'metadata' must be an object"),
    ],
)
def test_unusable_items_are_named(item, message):
    with pytest.raises(DocumentError, match=re.escape(message)):
        list(as_documents(["fine", item]))


@pytest.mark.parametrize("items", ["one text", {"text": "one"}])
def test_a_single_document_is_not_a_list(items):
    with pytest.raises(DocumentError, match="as a list, not as one"):
        list(as_documents(items))


def test_mapping_keeps_its_source():
    assert document_from_mapping({"text": "t"}, "corpus.jsonl:3").source == "corpus.jsonl:3"
