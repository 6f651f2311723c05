"""What docs/results.md shows of each benchmark: its figures in words, beside their targets, and its tables.

Not here: the tables themselves (tables.py), what has to be reached (targets.py), where the lines go (results.py), and
measuring.

    >>> lines("harness", {"seconds": 177.0}, {})[-1]
    '| `seconds`: of the whole evaluation | 177 |  |'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tables import (
    Meta,
    answer_table,
    attribution_table,
    fusion_table,
    growth_table,
    keys_table,
    knowledge_table,
    markdown,
    quality_table,
    rankers_table,
    recall_table,
    robustness_table,
    steps_table,
)
from targets import Figures, measured, target


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
            "bytes_per_document": "our neuron, as stored",
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
    "several": Sheet(
        {
            "alone": "match with the right document's neurons alone",
            "kept_at_k4": "with three other documents' at 0.3 beside them, over that",
            "two_first": "questions about two documents: match with the first one's neurons",
            "two_second": "with the second one's",
            "two_either": "with one of them",
            "two_both": "with both",
            "two_document_gain": "both, less the better of first and second",
            "reroute_off": "the same questions to all neurons, by routing",
            "reroute_on": "routing again while the answer is written",
            "reroute_gain": "what that adds",
        },
        detail=fusion_table,
    ),
    "steps": Sheet(
        {
            "gained": "questions that only steps answer",
            "lost": "questions that only asking at once answers",
            "seconds_vs_direct": "a question's time with steps over that without (median)",
        },
        size=lambda meta: f"{sum(meta['sets'].values())} questions, {meta['documents']} documents",
        detail=steps_table,
    ),
    "growth": Sheet(
        {
            name.format(size): words.format(f"{size:,}")
            for size in (1000, 10_000)
            for name, words in {
                "kept_at_{}": "match among {} documents over that among 100",
                "time_{}_vs_10": "a question's time among {} documents over that among ten",
                "routing_share_{}": "routing among {} documents over a closed-book question",
                "memory_{}_vs_10": "peak memory with {} documents over that with ten",
            }.items()
        },
        size=lambda meta: f"{meta['questions']} questions, {meta['real']} real neurons",
        detail=growth_table,
    ),
    "versions": Sheet(
        {
            "newest_right": "changed facts answered as the newest document has them",
            "oldest_told": "as the older one has them",
            "known": "what the newer document's own neuron answers, alone",
            "disagreement_reported": "changed facts for which both documents are named as sides",
            "false_alarms": "unchanged facts for which a conflict is named",
        },
        size=lambda meta: f"{meta['questions']} questions about {meta['documents']} documents",
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
