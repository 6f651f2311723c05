"""What docs/results.md shows of each benchmark: its figures in words, and its tables.

A sheet turns the figures and meta of one JSON into lines of Markdown. Not here: what has to be reached (targets.py),
where the lines go (results.py), and measuring.

    >>> markdown(("a", "b"), [("1", "2")])
    ['| a | b |', '| --- | --- |', '| 1 | 2 |']
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from targets import RANKERS, Figures, measured, target, written

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


@dataclass(frozen=True)
class Sheet:
    """How one benchmark is shown."""

    words: Mapping[str, str]
    """What each figure is, in words; figures that a run lacks are left out."""
    size: Callable[[Meta], str] = lambda meta: ""
    """How much the run did, in words."""
    detail: Callable[[Figures, Meta], list[str]] = lambda figures, meta: []
    """Tables before that of the figures."""


def lines(name: str, figures: Figures, meta: Meta) -> list[str]:
    """The tables of one run."""
    sheet = SHEETS[name]
    rows = []
    for figure, words in sheet.words.items():
        if figure in figures:
            value, wanted = figures[figure], target(figure, figures)
            told = measured(value, wanted) + (bound(meta) if figure == "ratio_to_prag_equal_accuracy" else "")
            rows.append((f"`{figure}`: {words}", told, wanted.verdict(value) if wanted else ""))
    detail = sheet.detail(figures, meta)
    told = markdown(("figure", "measured", "target"), rows) if rows else []
    return [*detail, *([""] if detail and told else []), *told]


def bound(meta: Meta) -> str:
    """What kind of figure the ratio to PRAG's layout is, where that never arrived."""
    return " (scaled, see the notes)" if meta.get("scaled") else " (a lower bound)" if meta.get("bound") else ""


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
    "bytes_per_document": "bytes of a neuron",
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
        *markdown(("asked with", *sets), rows), "", *markdown(("", *sets), costs),
    ]  # fmt: skip


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


ROBUSTNESS = Sheet(
    {
        "match_ours": "mean match over six sets, ours",
        "absent_ours": "match without a relevant passage, ours",
        "noise_loss_ratio": "lost from noise 0 to 0.8, ours over plain SFT",
        "trainable_share": "of the backbone trained, ours",
        "ability_change": "next tokens of neutral text predicted rightly, points, ours minus plain",
        "perplexity_plain": "of neutral text, plain",
        "perplexity_ours": "of neutral text, ours",
        "completeness_error": "of mining",
    },
    size=lambda meta: f"{meta['steps']} steps of {meta['batch_tokens']:,} tokens on {meta['learned']:,} questions",
    detail=robustness_table,
)

SHEETS: Mapping[str, Sheet] = {
    "encode": Sheet(
        {
            "own_exact": "exact on unseen paraphrases, own document",
            "other_exact": "the same with another document's neuron",
            "no_neuron_exact": "the same with no neuron",
            "prag_own_exact": "the same of PRAG's layout, trained until it reached ours",
            "prag_recipe_exact": "the same with PRAG's published 5 steps at 3e-4",
            "documents_per_second": "ours, wall time",
            "prag_documents_per_second": "PRAG's layout until it reached ours, training steps only",
            "ratio_to_prag_equal_accuracy": "how many times as fast as that",
            "ratio_to_prag_recipe": "how many times as fast as the published recipe",
            "bytes_per_document": "ours, as stored",
            "prag_bytes_per_document": "PRAG's layout",
            "four_active_kept": "right neuron at 1, three others at 0.3: accuracy kept",
            "two_right": "exact with two right neurons at 1",
        },
        size=lambda meta: f"{meta['documents']} invented companies, {meta['prag_documents']} of them by PRAG's layout",
    ),
    "answer": Sheet(
        {
            "first_token_vs_closed": "time to the first token, NeuRAG over closed book",
            "first_token_vs_closed_cold": "the same in the first round (neurons read from the bank)",
            "first_token_vs_rag5": "time to the first token, NeuRAG over RAG",
            "total_vs_rag5": "whole question, NeuRAG over RAG",
            "total_weighed_vs_rag5": "the same with weighed answers",
            "first_token_hybrid_vs_rag5": "time to the first token, hybrid over RAG",
        },
        size=lambda meta: (
            f"{meta['rows']:,} rows, {meta['rows_with_own_keys']:,} with keys of their own; "
            f"{meta['questions']} questions, {meta['repeats']} rounds"
        ),
        detail=answer_table,
    ),
    "routing": Sheet(
        {
            "routing_share": "routing among 5,000 rows over a closed-book question (64 tokens in, 16 out)",
            "routing_seconds": "of it routing",
            "closed_seconds": "the closed-book question",
            "own_exact": "exact on unseen paraphrases, own document, as in encode.py",
            "four_active_kept": "right neuron at 1, three others at 0.3: accuracy kept",
            "two_right": "exact with two right neurons at 1",
        },
        detail=recall_table,
    ),
    "hyper_layer": Sheet(
        {"null_f1": "F1 of noticing that a question's documents are not in the bank, by the best row's score alone"},
        detail=rankers_table,
    ),
    "harness": Sheet(
        {
            "harness_overhead": "all but the model's own time, over the model's own time",
            "seconds": "of the whole evaluation",
            "model_seconds": "of them the model's",
        },
        size=lambda meta: f"{meta['rows']} rows, {len(meta['systems'])} systems",
    ),
    "knowledge": Sheet({}, detail=knowledge_table),
    "quality": Sheet({}, detail=quality_table),
    "keys": Sheet(
        {},
        size=lambda meta: f"mean over six sets, {meta['questions']} questions each",
        detail=keys_table,
    ),
    "attribution": Sheet(
        {
            "relative_difference": "largest difference to one layer at a time in float64",
            "reference_rounding": "the same of one layer at a time in float32",
            "completeness_error": "sum of errors over sum of differences",
            "speedup_vs_reference": "times as fast as one layer at a time",
            "seconds": "of a prompt, all layers",
            "reference_seconds": "of the reference, scaled",
            "peak_memory_vs_forward": "peak memory over that of a forward pass, weights included",
            "default_score": "place of the default score by rank correlation",
        },
        size=lambda meta: f"{meta['probes']} prompts, {meta['units']:,} units silenced in each",
        detail=attribution_table,
    ),
    "robustness": ROBUSTNESS,
}
"""All benchmarks, in the order in which they run; NAME.py is the script of NAME."""
