"""The names of systems, and what makes each of them.

Not here: what they do (systems.py, prag.py, endpoint.py).

    >>> needs_bank("rag-bm25"), needs_bank("neurag")
    (False, True)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ..config import EvalOptions, UsageError
from .endpoint import PREFIXES, EndpointSystem
from .fusing import fuse_means, fuse_sum
from .prag import PUBLISHED, TUNED, PragSystem
from .systems import PLANS, ModelSystem, System, World

PRAG: Mapping[str, Callable[[World], System]] = {
    "prag": lambda world: PragSystem("prag", world, PUBLISHED, fuse_sum),
    "prag-tuned": lambda world: PragSystem("prag-tuned", world, TUNED, fuse_sum),
    "dyprag-fusion": lambda world: PragSystem("dyprag-fusion", world, TUNED, fuse_means),
}


def needs_bank(name: str) -> bool:
    """Whether a system works on neurons. Raises UsageError for a name that is none."""
    if name not in PLANS and name not in PRAG and not _endpoint(name):
        raise UsageError(f"there is no system {name!r}: choose among {', '.join([*PLANS, *PRAG])}, openai:MODEL")
    return name.startswith(("neurag", "hybrid"))


def asked_with(name: str, options: EvalOptions) -> EvalOptions:
    """The options of a system's answers: those that cannot change them are at their defaults.

    `documents` is among these, since it acts through the collection.
    """
    kind = name.partition(":")[0]
    pastes, oracle = kind.startswith(("rag-", "hybrid")) or kind == "openai-bm25", kind.endswith("-oracle")
    drawn = kind in ("rag-random", "neurag-wrong", "openai", "openai-bm25") or (pastes and options.noise > 0)
    counts = {
        "noise": pastes,
        "passages": pastes and not oracle,
        "distractors": pastes and oracle,
        "position": pastes and oracle and options.distractors > 0,
        "seed": drawn,
        "embedder": name == "rag-dense",
        "splade": name == "rag-splade",
    }
    idle = ["systems", "limit", "timed", "documents", *(option for option, does in counts.items() if not does)]
    plain = EvalOptions()
    return replace(options, **{option: getattr(plain, option) for option in idle})


def needs_documents(name: str) -> bool:
    """Whether what a system answers depends on the collection."""
    return name != "closed" and not name.startswith("openai:")


def make_system(name: str, world: World) -> System:
    """The system of that name. Raises UsageError for a name that is none."""
    needs_bank(name)
    if _endpoint(name):
        return EndpointSystem(name, world)
    if name in PRAG:
        return PRAG[name](world)
    plan, needs_gold = PLANS[name]
    return ModelSystem(name, world, plan, needs_gold)


def _endpoint(name: str) -> bool:
    return name.startswith(PREFIXES) and not name.endswith(":")
