"""Any OpenAI-compatible endpoint as a system: compare with what you run.

`openai:MODEL` sends the question alone (a server that retrieves by itself needs no more), `openai-bm25:MODEL` pastes
the passages BM25 finds, as rag-bm25 does. The address is OPENAI_BASE_URL (default https://api.openai.com/v1), the key
OPENAI_API_KEY. Not here: serving.

    >>> EndpointSystem("openai:llama3.2", world).answer(rows)[0].answer        # doctest: +SKIP
    'Ilse Maranth'
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

from ..prompts import SYSTEM, user_message
from .data import Row
from .systems import Given, World, closed, rag

PREFIXES = ("openai:", "openai-bm25:")
ADDRESS = "https://api.openai.com/v1"
SECONDS, TRIES = 120, 3
"""Longest wait for a piece of an answer, and how often a busy server is asked."""


class EndpointSystem:
    """A server that answers chat completions."""

    def __init__(self, name: str, world: World) -> None:
        self.name, self._world = name, world
        kind, _, self._model = name.partition(":")
        self._plan = rag(lambda world: world.bm25) if kind == "openai-bm25" else closed
        self._address = os.environ.get("OPENAI_BASE_URL", ADDRESS).rstrip("/") + "/chat/completions"
        self._key = os.environ.get("OPENAI_API_KEY", "")

    def takes(self, row: Row) -> bool:
        """Every row."""
        return True

    def answer(self, rows: Sequence[Row]) -> list[Given]:
        """Answer rows one by one; a row the server fails at has an `error`."""
        return [self._one(row) for row in rows]

    def _one(self, row: Row) -> Given:
        asked = self._plan(self._world, row)
        began, first, pieces, tokens = time.perf_counter(), 0.0, list[str](), 0
        try:
            for event in self._events(user_message(row.question, asked.options.paste or ())):
                tokens = (event.get("usage") or {}).get("prompt_tokens", tokens)
                for choice in event.get("choices", ()):
                    pieces.append(choice.get("delta", {}).get("content") or "")
                    first = first or (time.perf_counter() - began if pieces[-1] else 0.0)
        except (OSError, ValueError, AttributeError) as error:
            told = " ".join(str(error).split())[:200]
            return Given(error=f"{self._address} did not answer: {told} (OPENAI_BASE_URL and OPENAI_API_KEY say where)")
        taken = asked.seconds + time.perf_counter() - began
        return Given("".join(pieces).strip(), False, asked.ranked, asked.used, (), taken, asked.seconds + first, tokens)

    def _events(self, user: str) -> Iterator[dict[str, Any]]:
        """The events of a streamed answer (server-sent events, one JSON object each)."""
        body = {
            "model": self._model,
            "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}],
            "max_tokens": self._world.options.max_new_tokens,
            "temperature": 0,
            "seed": self._world.options.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        request = urllib.request.Request(self._address, json.dumps(body).encode(), headers)
        with _opened(request) as answer:
            for line in answer:
                told = line.decode("utf-8").strip()
                if told.startswith("data:") and (event := told[5:].strip()) != "[DONE]":
                    yield json.loads(event)


def _opened(request: urllib.request.Request) -> Any:
    """The open answer; a server that is busy (429, 5xx) is asked again after a while."""
    for attempt in range(1, TRIES + 1):
        try:
            return urllib.request.urlopen(request, timeout=SECONDS)
        except urllib.error.HTTPError as error:
            if attempt == TRIES or (error.code != 429 and error.code < 500):
                raise
            time.sleep(2**attempt)
    raise AssertionError("unreachable")
