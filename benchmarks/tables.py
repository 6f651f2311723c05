"""Tables of docs/results.md: the figures and meta of one benchmark's JSON as lines of Markdown.

Not here: which benchmark shows which table (sheets.py), what has to be reached (targets.py), where the lines go
(results.py), and measuring.

    >>> markdown(("a", "b"), [("1", "2")])
    ['| a | b |', '| --- | --- |', '| 1 | 2 |']
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from targets import RANKERS, Figures, measured, target, target_of_set, written

Meta = Mapping[str, Any]

CURVES = ("spearman", "overlap", "deletion", "insertion")
"""What a score of units is judged by in attribution.py."""
TOLD_PAIRS = (
    "neurag - rag-bm25:",
    "neurag - prag:",
    "neurag-oracle - rag-oracle:",
    "neurag-wrong - neurag:",
    "hybrid - rag-bm25:",
    "hybrid - neurag:",
)
"""How the verdicts begin that are shown; the JSON has all."""


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]


def recall_table(figures: Figures, meta: Meta) -> list[str]:
    """Recall of the router and of BM25, set by set, the better one in bold; then what a question takes."""
    rows, sets = [], meta.get("sets", {})
    for stem, told in sets.items():
        cells = []
        for k in (1, 5):
            ours, theirs = (figures[f"{system}recall_at_{k}_{stem}"] for system in ("", "bm25_"))
            best = max(ours, theirs)
            cells += [f"**{x:.3f}**" if x == best else f"{x:.3f}" for x in (ours, theirs)]
        name = f"recall_at_5_{stem}"
        wanted = target(name, figures)
        verdict = wanted.verdict(figures[name]).rpartition(": ")[2] if wanted else "no target"
        rows.append((stem, f"{told['questions']:,}", f"{told['documents']:,}", *cells, verdict))
    columns = ("set", "questions", "documents", "recall@1", "BM25", "recall@5", "BM25", "recall@5 at least BM25's")
    taken = [sorted(1000 * s[key] for s in sets.values() if key in s) for key in SECONDS]
    if not rows or not all(taken):
        return markdown(columns, rows) if rows else []
    ours, theirs = (f"{written(ms[0], 2)} to {written(ms[-1], 2)} ms" for ms in taken)
    return [
        *markdown(columns, rows), "",
        f"A question takes {ours}, its own forward pass up to the routing layer included; BM25 takes {theirs}.",
    ]  # fmt: skip


def rankers_table(figures: Figures, meta: Meta) -> list[str]:
    """Recall of all systems, set by set and bank by bank, the best in bold."""
    rows = []
    for size, found in meta.get("by_bank", {}).items():
        for stem, told in meta["sets"].items():
            cells, reached = [], []
            for k in (1, 5):
                values = [found[f"recall_at_{k}_{stem}_{name}"] for name in RANKERS]
                cells += [f"**{x:.3f}**" if x == max(values) else f"{x:.3f}" for x in values]
                reached.append(values[0] == max(values))
            bank = f"{max(int(size), told['own']):,}"
            rows.append(
                (stem, bank, f"{told['questions']}", *cells, " and ".join("no yes".split()[x] for x in reached))
            )
    heads = [f"{name} @{k}" for k in (1, 5) for name in ("NeuRAG", "untrained", "BM25", "MiniLM")]
    return markdown(("set", "documents", "questions", *heads, "best @1 and @5"), rows) if rows else []


def fusion_table(figures: Figures, meta: Meta) -> list[str]:
    """What is left of the right document's neurons, rule by rule, beside those of more and more others."""
    kept = [name.removeprefix("kept_at_k").partition("_") for name in figures if name.startswith("kept_at_k")]
    counts = list(dict.fromkeys(count for count, _, rule in kept if rule))
    rules = dict.fromkeys(rule for _, _, rule in kept if rule)
    rows = [(rule, *(written(figures[f"kept_at_k{k}_{rule}"]) for k in counts)) for rule in rules]
    return markdown(("fusion rule", *(f"{k} documents" for k in counts)), rows) if rows else []


def steps_table(figures: Figures, meta: Meta) -> list[str]:
    """Match of every system on every set, and how many questions were answered in steps."""
    rows = []
    for stem, count in meta.get("sets", {}).items():
        told = (f"{figures[name]:.2f}" for name in (*(f"match_{s}_{stem}" for s in meta["systems"]), f"taken_{stem}"))
        rows.append((stem, f"{count}", *told))
    return markdown(("set", "questions", *meta["systems"], "in steps"), rows) if rows else []


def growth_table(figures: Figures, meta: Meta) -> list[str]:
    """Match by size of the bank."""
    rows = [
        (f"{size:,}", *(f"{figures[f'{what}_{size}']:.3f}" for what in ("match", "found")))
        for size in meta.get("sizes", ())
        if f"match_{size}" in figures
    ]
    return markdown(("documents", "match", "own neuron first"), rows) if rows else []


SECONDS = ("seconds_per_question", "bm25_seconds_per_question")


def keys_table(figures: Figures, meta: Meta) -> list[str]:
    """Every variant of keys with its size and what is found with it."""
    rows = []
    for words, name in meta.get("variants", {}).items():
        found = (f"{figures[f'recall_at_{k}_{name}']:.3f}" for k in (1, 5))
        rows.append((words, *(written(round(figures[f"{what}_{name}"])) for what in ("keys", "bytes")), *found))
    return markdown(("keys", "of a chunk", "bytes", "recall@1", "recall@5"), rows)


def answer_table(figures: Figures, meta: Meta) -> list[str]:
    """Medians of each system."""
    names = {
        "closed": "closed book", "rag": "RAG, five 100-word passages", "neurag": "NeuRAG", "hybrid": "hybrid",
        "neurag weighed": "NeuRAG, weighed",
    }  # fmt: skip
    quantities = ("first_token_s", "routing_s", "total_s", "prompt_tokens")
    rows = [
        (names.get(system, system), *(written(told[q]) if told[q] else "" for q in quantities))
        for system, told in meta.get("medians", {}).items()
    ]
    return markdown(("system", "first token, s", "of it routing, s", "whole question, s", "prompt tokens"), rows)


def cell(name: str, figures: Figures, meta: Meta) -> str:
    """A rate in per cent, with its interval if it has one."""
    if name not in figures:
        return ""
    interval = meta["intervals"].get(name)
    told = f" [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]" if interval else ""
    return f"{100 * figures[name]:.0f}{told}"


KNOWLEDGE = {
    "closed_plain": "plain backbone, closed book",
    "prompt_plain": "plain backbone, passage in the prompt",
    "closed": "with task adapter, closed book",
    "prompt_reader": "with task adapter, passage in the prompt",
    "own": "own neuron, nothing in the prompt",
    "own_greedy": "the same with the likeliest first token, whatever follows",
    "wrong": "another document's neuron",
    "random": "random weights of the same norm",
    "hybrid": "own neuron and passage",
    "long": "questions about long documents (3,000 words), the document's neurons",
    "long_own": "the same questions, each passage's own neuron",
}
COSTS = {
    "coverage": "of what may be asked, answered by the lessons (estimate)",
    "asked_covered": "questions whose answer is among those learned",
    "pipeline_documents_per_second": "documents of 100 words a second, whole pipeline",
    "bytes_per_document": "bytes of a document in the bank: neurons, keys, lessons",
    "int8_loss": "match lost by int8 storage",
    "routed": "match of all neurons of the set at once",
    "abstention_f1": "F1 of abstaining where the document is missing",
    "answered_loss": "right answers that do not count for it",
    "noticed": "missing documents noticed",
}


def knowledge_table(figures: Figures, meta: Meta) -> list[str]:
    """Match of every way of asking on every set in per cent, with its interval; then what it takes."""
    sets = meta.get("sets", {})
    rows = [
        (words, *(cell(f"{name}_{stem}", figures, meta) for stem in sets))
        for name, words in KNOWLEDGE.items()
        if any(f"{name}_{stem}" in figures for stem in sets)
    ]
    costs = [
        (words, *(written(figures[f"{name}_{stem}"]) for stem in sets))
        for name, words in COSTS.items()
        if all(f"{name}_{stem}" in figures for stem in sets)
    ]
    sizes = (f"{stem} {s['questions']} questions about {s['documents']} passages" for stem, s in sets.items())
    return [
        f"Match in per cent, [95 % interval]. {'; '.join(sizes)}.", "",
        *markdown(("asked with", *sets), rows), "", *markdown(("", *sets), costs), "",
        *knowledge_verdicts(figures, sets),
    ]  # fmt: skip


def knowledge_verdicts(figures: Figures, sets: Iterable[str]) -> list[str]:
    """A line for every figure with a target, on every set."""
    told = []
    for name, words in (KNOWLEDGE | COSTS).items():
        for stem in sets:
            wanted = target_of_set(name, stem, figures)
            if wanted and (value := figures.get(f"{name}_{stem}")) is not None:
                told.append(f"- {stem}, {words}: {measured(value, wanted)}, {wanted.verdict(value)}")
    return told


def quality_table(figures: Figures, meta: Meta) -> list[str]:
    """Match of every system on every set in per cent, with its interval; then the verdicts."""
    sets = meta.get("sets", {})
    rows = [
        (system, *(cell(f"match_{system}_{stem}", figures, meta) for stem in sets))
        for system in meta.get("systems", ())
    ]
    sizes = (
        f"{stem} {s['questions']} questions, {s['documents']} documents ({s['encode_seconds']:.0f} s to encode)"
        for stem, s in sets.items()
    )
    told = [
        f"- {stem}: {line}"
        for stem, verdicts in meta.get("verdicts", {}).items()
        for line in verdicts
        if line.startswith(TOLD_PAIRS) or " failed at " in line
    ]
    head = f"Match in per cent, [95 % interval]. {'; '.join(sizes)}."
    return [head, "", *markdown(("system", *sets), rows), *([""] if told else []), *told]


def attribution_table(figures: Figures, meta: Meta) -> list[str]:
    """Every score of units beside what silencing them does, best first."""
    seconds = meta.get("score_seconds", {})
    rows = [
        (
            f"`{name}`" + (" (default)" if name == meta["default"] else ""),
            *(written(figures[f"{what}_{name}"]) for what in CURVES),
            written(seconds[name], 2),
        )
        for name in meta.get("by_spearman", ())
    ]
    if not rows:
        return []
    chance = [written(figures[f"{what}_random"]) for what in ("deletion", "insertion")]
    columns = ("score", "rank correlation", "of the 50 strongest", "left without the highest", "with them alone", "s")
    return markdown(columns, [*rows, ("random units of the same layers", "", "", *chance, "")])


def robustness_table(figures: Figures, meta: Meta) -> list[str]:
    """Match of every system on every set in per cent; then the conditions, then the verdicts."""
    sets, systems = meta.get("sets", {}), meta.get("systems", {})
    rows = [
        (
            f"`{name}`: {told['words']}",
            f"{told['trainable']:,}",
            *(percent(figures.get(f"match_{name}{one}")) for one in ("", *(f"_{stem}" for stem in sets))),
            *(percent(figures.get(f"{what}_{name}")) for what in ("absent", "closed")),
            written(figures.get(f"words_{name}", 0.0), 2),
        )
        for name, told in systems.items()
    ]
    asked = "; ".join(f"{stem} {count}" for stem, count in sets.items())
    columns = ("system", "trained", "six sets", *sets, "evidence absent", "closed book", "words")
    names = [name for name in systems if f"match_{name}_noise_0.0" in figures]
    prefix = f"match_{names[0]}_" if names else ""
    conditions = [n.removeprefix(prefix) for n in figures if prefix and n.startswith(prefix)]
    swept = [c for c in conditions if c.startswith(("noise_", "distractors_", "gold_", "kind_", "retrieved_"))]
    cells = [(c.replace("_", " "), *(percent(figures.get(f"match_{n}_{c}")) for n in names)) for c in swept]
    return [
        f"Match in per cent. Questions: {asked}; {meta.get('swept', 0)} in every other condition.", "",
        *markdown(columns, rows), *(["", *markdown(("condition", *names), cells)] if cells else []),
        *(["", *(f"- {line}" for line in meta.get("verdicts", ()))] if meta.get("verdicts") else []),
    ]  # fmt: skip


def percent(value: float | None) -> str:
    """A share in per cent; nothing of nothing."""
    return "" if value is None else f"{100 * value:.1f}"
