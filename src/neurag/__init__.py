"""NeuRAG: documents become neurons inside a language model.

Retrieval and reasoning happen in one forward pass, with nothing pasted into the prompt.

    import neurag

    neurag.encode(["The Oskerby workshop is led by Ilse Maranth."], bank="notes.bank")
    model = neurag.Model.load(bank="notes.bank")
    print(model.answer("Who leads the Oskerby workshop?").answer)

Names are imported when they are first used, so `import neurag` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answer import Answer
    from .config import AnswerOptions, AugmentOptions, EncodeOptions, NeuragError, RouteOptions, UsageError
    from .knowledge.bank import Bank
    from .knowledge.documents import Document
    from .knowledge.pipeline import encode
    from .knowledge.readers import read_paths
    from .model import Model

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AnswerOptions",
    "AugmentOptions",
    "Bank",
    "Document",
    "EncodeOptions",
    "Model",
    "NeuragError",
    "RouteOptions",
    "UsageError",
    "encode",
    "read_paths",
]

_HOMES = {
    "Answer": "answer",
    "AnswerOptions": "config",
    "AugmentOptions": "config",
    "EncodeOptions": "config",
    "NeuragError": "config",
    "RouteOptions": "config",
    "UsageError": "config",
    "Bank": "knowledge.bank",
    "Document": "knowledge.documents",
    "encode": "knowledge.pipeline",
    "read_paths": "knowledge.readers",
    "Model": "model",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"neurag.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'neurag' has no attribute {name!r}")
