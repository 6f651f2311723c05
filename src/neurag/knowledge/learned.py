"""What a neuron was taught: the questions, their answers, and where each of them lies in what neurons read.

A neuron is asked at the end of a question, where it reads A (x - mu) in every layer of its band (neurons.py). The place
of a lesson is that reading with no neuron acting, each layer brought to length 1 / sqrt(L), so that two places compare
by their product, which is a cosine. Four bits a number: 82 bytes a question. Not here: how questions come about
(augmentation.py), and what nearness is good for (hyper_layer/recall.py).

    >>> told = Learned(("Who runs the mill?",), ("Ilse Maranth",), (True,), np.full((1, 4), 0.5, np.float16))
    >>> Learned.unpacked(*told.packed(), width=4).answers
    ('Ilse Maranth',)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .key_codes import code_bytes, pack, unpack

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Learned:
    """m lessons of one chunk: questions that were written and sentences asked back."""

    questions: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    written: tuple[bool, ...] = ()
    """Whether the backbone wrote it; else it is a sentence asked back."""
    reads: Array = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    """float16 [m, L R] unit vectors."""

    def __len__(self) -> int:
        return len(self.questions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Learned) and self.packed() == other.packed()

    def __hash__(self) -> int:
        return hash(self.packed())

    def packed(self) -> tuple[str, bytes]:
        """As a bank stores it: JSON, and codes."""
        told = list(zip(self.questions, self.answers, self.written, strict=True))
        return json.dumps(told, ensure_ascii=False), pack(self.reads).tobytes() if len(self.reads) else b""

    @classmethod
    def unpacked(cls, lessons: str, reads: bytes, width: int) -> Learned:
        """From what `packed` made; `width` is L R."""
        told = json.loads(lessons)
        codes = np.frombuffer(reads, np.uint8).reshape(-1, code_bytes(width))
        questions, answers, written = zip(*told, strict=True) if told else ((), (), ())
        return cls(tuple(questions), tuple(answers), tuple(written), unpack(codes, width))


NOTHING = Learned()
