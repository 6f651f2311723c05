"""What reading promises: the text of each format, and one clear line for each file that gives none."""

import gzip
import io
import json
import os
import sys
import time
from pathlib import Path

import pytest

from neurag.knowledge.documents import Document, document_id
from neurag.knowledge.readers import ReadOptions, Skipped, read_paths


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(*paths, **options):
    items = list(read_paths(paths, ReadOptions(**options)))
    skipped = [(Path(item.where).name, item.reason) for item in items if isinstance(item, Skipped)]
    return [item for item in items if isinstance(item, Document)], skipped


def read_one(path, content):
    (document,) = read_paths([write(path, content)])
    return document


def reason(path, content):
    documents, skipped = read(write(path, content))
    assert documents == [] and [name for name, _ in skipped] == [path.name]
    return skipped[0][1]


def pdf(text="", title=""):
    """Write the smallest PDF that shows a line of text, by hand; readers do without a table."""
    content = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET" if text else ""
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        f"<</Length {len(content)}>>stream\n{content}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        f"<</Title({title})>>",
    ]
    body = "".join(f"{number} 0 obj{text}endobj\n" for number, text in enumerate(objects, 1))
    return f"%PDF-1.4\n{body}trailer<</Size 7/Root 1 0 R/Info 6 0 R>>\nstartxref\n0\n%%EOF".encode()


def locked_pdf(user_password):
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf("Locked words"))))
    writer.encrypt(user_password, owner_password="owner", algorithm="RC4-128")
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


def test_plain_text_is_normalised_and_named_after_its_file(tmp_path):
    document = read_one(tmp_path / "notes.txt", b"\xef\xbb\xbfCafe\xcc\x81\r\nsecond\x07 line\r")
    source = str(tmp_path / "notes.txt")
    assert (document.text, document.title, document.source) == ("Café\nsecond line\n", "notes", source)
    assert document.id == document_id("", document.text)
    assert read_one(tmp_path / "renamed.txt", document.text).id == document.id


def test_utf16_is_read_only_with_a_mark(tmp_path):
    assert read_one(tmp_path / "a.txt", "Grüße".encode("utf-16")).text == "Grüße"
    assert reason(tmp_path / "b.txt", "Grüße".encode("utf-16-le")) == "looks binary"
    assert reason(tmp_path / "c.txt", b"\xff\xfea") == "is not UTF-16 (byte 0x61 at offset 2)"


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.pdf", "a.docx", "a.jsonl"])
@pytest.mark.parametrize("content", ["", " \n\t\n"])
def test_empty_files_are_named(tmp_path, name, content):
    assert reason(tmp_path / name, content) == "is empty"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"abc\x00def", "looks binary"),
        ("a.txt", b"caf\xe9 au lait", "is not UTF-8 (byte 0xe9 at offset 3)"),
        ("a.md", b"\xef\xbb\xbfcaf\xe9", "is not UTF-8 (byte 0xe9 at offset 6)"),
        ("a.html", "<script>only()</script>", "is empty"),
        ("a.md", "---\ntitle: T\n---\n", "is empty"),
        ("a.md", "---\ntrust: high\n---\ntext", "'trust' must be a number, not str"),
        ("a.md", "---\ntrust: -1\n---\ntext", "'trust' must lie in 0..1, not -1.0"),
        ("a.md", "---\ntimestamp: May\n---\ntext", "'timestamp' 'May' is not an ISO 8601 date or time"),
    ],
)
def test_unreadable_text_says_why(tmp_path, name, content, expected):
    assert reason(tmp_path / name, content) == expected


def test_markdown_title_is_its_first_heading(tmp_path):
    text = "```sh\n# a comment\n```\n# The *real* title #\n\n# Another\n"
    document = read_one(tmp_path / "a.md", text)
    assert document == Document(text, title="The *real* title", source=str(tmp_path / "a.md"))
    assert read_one(tmp_path / "plain.markdown", "## Only a section").title == "plain"


def test_markdown_front_matter_becomes_fields(tmp_path):
    front = (
        "id: doc-7\nTitle: 'A: b'\n# a remark\ntimestamp: 2024-05-01\ntrust: 0.5\n"
        'labels: [staff, "hr"]\nauthor: X: Y\ntags:\n  - one\n  - two\n'
    )
    document = read_one(tmp_path / "a.md", f"---\n{front}---\n# Heading\nBody.\n")
    fields = (document.text, document.id, document.title, document.timestamp, document.trust, document.labels)
    assert fields == ("# Heading\nBody.\n", "doc-7", "A: b", "2024-05-01", 0.5, ("staff", "hr"))
    assert document.metadata == {"author": "X: Y", "tags": "one, two"}


@pytest.mark.parametrize("text", ["---\nA sentence.\n---\nBody", "---\nkey: open\n", "text\n---\na: b\n---\n"])
def test_a_rule_is_not_front_matter(tmp_path, text):
    assert read_one(tmp_path / "a.md", text).text == text


def test_html_gives_visible_text_only(tmp_path):
    page = """<!DOCTYPE html><html><head><title> The
      page </title><style>p {color: red}</style></head><body><!-- remark -->
      <script>alert("no")</script><h1>Head</h1><p>One <b>bo</b>ld
      word.<br>Next</p><p hidden>secret</p><p style="color:red; display:none">secret</p>
      <ul><li>first</li><li>second</li></ul><table><tr><td>a</td><td>b</td></tr></table>
      <pre><code>if x:\n    y &lt; 1</code></pre></body></html>"""
    document = read_one(tmp_path / "a.htm", page)
    assert " ".join(document.text.split()) == "Head One bold word. Next first second a b if x: y < 1"
    assert "One bold word.\nNext\n\n" in document.text
    assert "first\nsecond" in document.text and "a\tb" in document.text
    assert document.text.endswith("if x:\n    y < 1") and document.title == "The page"


PAGES = {"<p>open <b>bo": 2, "plain text": 2, "<div>" * 3000 + "deep": 1, "<p>a <b>b</b></p>" * 10000: 20000}


@pytest.mark.parametrize("page", PAGES, ids=["unclosed", "plain", "deep", "long"])
def test_sloppy_deep_and_long_html_is_read_in_time(tmp_path, page):
    start = time.perf_counter()
    assert len(read_one(tmp_path / "a.html", page).text.split()) == PAGES[page]
    assert time.perf_counter() - start < 4


def test_pdf_text_and_title(tmp_path):
    document = read_one(tmp_path / "a.pdf", pdf("Words in a PDF", "The title"))
    assert (document.text, document.title) == ("Words in a PDF", "The title")
    assert read_one(tmp_path / "stem.pdf", pdf("Other words")).title == "stem"


def test_pdf_that_cannot_be_read_says_why(tmp_path):
    whole = pdf("Words in a PDF")
    assert reason(tmp_path / "blank.pdf", pdf()) == "has no text (scanned pages need OCR first)"
    assert reason(tmp_path / "locked.pdf", locked_pdf("secret")) == "is encrypted"
    assert reason(tmp_path / "junk.pdf", b"%PDF-1.4\nnothing").startswith("is not a readable PDF file (")
    assert read_one(tmp_path / "open.pdf", locked_pdf("")).text == "Locked words"
    for cut in range(1, len(whole), 40):
        assert len(list(read_paths([write(tmp_path / "cut.pdf", whole[:cut])]))) == 1


def test_docx_keeps_paragraphs_and_tables_in_order(tmp_path):
    docx = pytest.importorskip("docx")
    file = docx.Document()
    file.add_paragraph("First.")
    table = file.add_table(rows=2, cols=2)
    table.cell(0, 0).merge(table.cell(0, 1)).text = "both"
    table.cell(1, 0).text, table.cell(1, 1).text = "left", "right"
    file.add_paragraph("Last.")
    file.core_properties.title = "Report"
    file.save(str(tmp_path / "a.docx"))
    (document,), _ = read(tmp_path / "a.docx")
    assert (document.text, document.title) == ("First.\n\nboth\nleft\tright\n\nLast.", "Report")


def test_docx_without_the_library_or_broken(tmp_path, monkeypatch):
    pytest.importorskip("docx")
    assert reason(tmp_path / "a.docx", b"PK\x03\x04 broken").startswith("is not a readable Word file (")
    monkeypatch.setitem(sys.modules, "docx", None)
    assert reason(tmp_path / "a.docx", b"PK") == "needs python-docx: pip install 'neurag[docx]'"


@pytest.mark.parametrize("name", ["rows.jsonl", "ROWS.JSONL.GZ"])
def test_json_lines_give_documents_and_name_bad_lines(tmp_path, name):
    good = {"text": "One", "id": "1", "title": "T", "timestamp": "2024", "trust": 0.2, "labels": ["a"]}
    bad = {
        b"{broken": "is not JSON: ",
        b'["a list"]': "is not a JSON object",
        b'{"docs": [], "question": "?"}': "has no 'text' but 'docs': a question row, not a document",
        b'{"text": "  "}': "is empty",
        b'{"text": 5}': "'text' must be a string, not int",
        b'{"text": "x", "labels": "a"}': "'labels' must be a list of strings",
        b'{"text": "caf\xe9"}': "is not UTF-8 (byte 0xe9 at offset 13)",
        b"[" * 100_000: "is not JSON: ",
        b'{"text": "x", "trust": ' + b"9" * 5000 + b"}": "is not JSON: ",
    }
    first = b"\xef\xbb\xbf" + json.dumps(good | {"metadata": {"k": "v"}}).encode()
    data = b"\n".join([first, b'{"text": "Two \\ud83d x\\u0000"}', b"", *bad, b'{"text": "Three"}'])
    path = write(tmp_path / name, gzip.compress(data) if name.endswith("GZ") else data)
    (one, two, three), skipped = read(path)
    assert one == Document("One", "1", "T", str(path), "2024", 0.2, ("a",), {"k": "v"})
    assert (two.text, three.text) == ("Two  x", "Three")
    for line, ((where, why), expected) in enumerate(zip(skipped, bad.values(), strict=True), 4):
        assert where == f"{name}:{line}" and why.startswith(expected)


def test_limits_hold_for_files_and_for_lines(tmp_path):
    write(tmp_path / "big.txt", "x" * 1001), write(tmp_path / "fits.txt", "y" * 1000)
    rows = '{"text": "a"}\n' * 100 + '{"text": "' + "b" * 5000 + '"}\n{"text": "c"}\n'
    write(tmp_path / "rows.jsonl", rows)
    documents, skipped = read(tmp_path, max_megabytes=0.001)
    assert [document.text[0] for document in documents] == ["y", "a", "c"]
    assert skipped[0] == ("big.txt", "is larger than 0.001 MB")
    assert skipped[-1] == ("rows.jsonl:101", "is longer than 0.001 MB")


def test_rows_before_the_break_in_a_gzip_file_are_kept(tmp_path):
    rows = "".join(json.dumps({"text": f"{number} {os.urandom(40).hex()}"}) + "\n" for number in range(500))
    data = gzip.compress(rows.encode())
    documents, skipped = read(write(tmp_path / "a.jsonl.gz", data[: len(data) // 2]))
    assert len(documents) > 10 and skipped[-1][1].startswith("is broken gzip: ")
    _, skipped = read(write(tmp_path / "b.jsonl.gz", b'{"text": "not packed"}'))
    assert [where for where, _ in skipped] == ["b.jsonl.gz:1"] and "is broken gzip: " in skipped[0][1]


def test_folder_is_walked_in_order_without_hidden_names(tmp_path):
    for name in ("b.txt", "a/z.md", "a/b.txt.bak", "c.TXT", ".hidden.txt", ".git/x.txt", "a/README"):
        write(tmp_path / name, f"text of {name}")
    documents, skipped = read(tmp_path)
    assert [document.text for document in documents] == ["text of a/z.md", "text of b.txt", "text of c.TXT"]
    assert skipped == [("README", "unknown file type (no suffix)"), ("b.txt.bak", "unknown file type .bak")]


def test_a_named_file_is_read_whatever_its_name(tmp_path):
    assert read_one(tmp_path / "settings.cfg", "key = value").text == "key = value"
    assert read_one(tmp_path / ".hidden.txt", "hidden").text == "hidden"
    assert reason(tmp_path / "image.png", b"\x89PNG\x00") == "looks binary"
    assert len(list(read_paths(str(tmp_path / "settings.cfg")))) == 1


def test_missing_and_odd_paths_are_named(tmp_path):
    (tmp_path / "dangling.txt").symlink_to("nowhere")
    (tmp_path / "self.txt").symlink_to("self.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    _, skipped = read(tmp_path / "absent.txt", tmp_path)
    absent = dict.fromkeys(("absent.txt", "dangling.txt", "self.txt"), "does not exist")
    assert dict(skipped) == {**absent, "pipe.txt": "is not a regular file"}


def test_links_that_lead_back_end(tmp_path):
    write(tmp_path / "in/a.txt", "text")
    (tmp_path / "in/up").symlink_to(tmp_path)
    (tmp_path / "in/here").symlink_to(tmp_path / "in")
    documents, skipped = read(tmp_path)
    assert [document.text for document in documents] == ["text"] and skipped == []


def test_unreadable_file_is_named(tmp_path, monkeypatch):
    locked, fine = write(tmp_path / "a.txt", "locked"), write(tmp_path / "b.txt", "fine")

    opened = Path.open

    def refuse(path, mode):
        if path == locked:
            raise PermissionError(13, "Permission denied")
        return opened(path, mode)

    monkeypatch.setattr(Path, "open", refuse)  # a mode of 0 would not stop root
    (document,), skipped = read(tmp_path)
    assert (document.source, skipped) == (str(fine), [("a.txt", "cannot be read: Permission denied")])


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take no such names")
def test_file_names_that_are_not_utf8_can_be_written(tmp_path):
    document = read_one(tmp_path / os.fsdecode(b"caf\xe9.txt"), "text")
    (document.source + document.title).encode()


def test_the_same_text_is_read_once(tmp_path):
    write(tmp_path / "a.txt", "The same.")
    write(tmp_path / "b.md", "The same.")
    texts = [("First.", "x"), ("First.", "x"), ("Second.", "x"), ("First.", "y")]
    rows = [{"text": text, "id": name} for text, name in texts]
    rows += [{"text": "First.", "title": title} for title in "AB"]
    write(tmp_path / "c.jsonl", "\n".join(map(json.dumps, rows)))
    first, rows_path = tmp_path / "a.txt", tmp_path / "c.jsonl"
    items = list(read_paths([tmp_path, first]))
    skipped = [(item.where, item.reason) for item in items if isinstance(item, Skipped)]
    assert skipped == [
        (str(tmp_path / "b.md"), f"same text as {first}"),
        (f"{rows_path}:2", f"same text as {rows_path}:1"),
        (f"{rows_path}:3", f"id 'x' already used by {rows_path}:1"),
        (str(first), f"same text as {first}"),
    ]
    assert len({item.id for item in items if isinstance(item, Document)}) == len(items) - 4 == 5
