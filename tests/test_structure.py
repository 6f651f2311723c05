"""The house: imports go one way, files stay small, hooks leave nothing behind."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "neurag"
# a module may import from its own floor and from those below it
FLOORS = [
    {"config", "answer", "descriptions", "files", "words"},
    {"hooks", "packing", "backbone", "lora", "projection", "weigher", "loading"},
    {"prompts", "decoding", "packed", "segments", "stream", "choosing", "branching"},
    {"knowledge"},
    {"tasks"},
    {"hyper_layer"},
    {"reply"},
    {"chaining"},
    {"model", "robust"},
    {"evaluation"},
    {"demo"},
    {"app"},
]
FILES = sorted(SRC.rglob("*.py"))


def floor(part: str) -> int:
    return next((i for i, names in enumerate(FLOORS) if part in names), -1)


def imported(path: Path) -> set[str]:
    """First parts, below neurag, of everything a file imports."""
    package = path.relative_to(SRC).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            parts = (*base, *(node.module or "").split("."))
            found.add(next((p for p in parts if p), ""))
            if not any(parts):
                found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("neurag."):
            found.add((node.module or "").split(".")[1])
    return found - {""}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_never_go_back(path: Path):
    own = floor(path.relative_to(SRC).parts[0].removesuffix(".py"))
    if own < 0:  # __init__, __main__: the front door may name everything
        return
    assert {p for p in imported(path) if floor(p) > own} == set()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_files_open_with_a_docstring_and_stay_short(path: Path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 330


def test_every_module_has_a_floor():
    tops = {p.relative_to(SRC).parts[0].removesuffix(".py") for p in FILES}
    assert {t for t in tops if floor(t) < 0} == {"__init__", "__main__"}
