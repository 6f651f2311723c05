"""Hardening: a folded mask is a hooked one, only what is chosen moves, a stopped run ends the same, folders load."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch

from conftest import make_tiny
from neurag.app.cli import main
from neurag.config import NeuragError, UsageError
from neurag.loading import load_backbone
from neurag.prompts import question_prompt
from neurag.robust.asking import fluency, say
from neurag.robust.checking import check, parted
from neurag.robust.choice import choose_layers, choose_units
from neurag.robust.contexts import Contexts, Question, Shown
from neurag.robust.hardening import CHECKPOINTS, harden, plan
from neurag.robust.lessons import final_answer, lessons, mixed, target_of
from neurag.robust.options import HardenOptions
from neurag.robust.silencing import fold_silence, silenced
from neurag.robust.systems import MAIN, SYSTEMS, system
from neurag.robust.trained import Beside, Weights, count, equal_rank
from neurag.robust.tuning import batches_of, logits_of
from neurag.robust.units import Units
from neurag.segments import attending

WIDTH, DEPTH = 96, 6
SMALL = HardenOptions(steps=4, denoise_steps=3, batch_tokens=900, save_every=2, layer_count=2)
ASKED = [
    Question(
        f"q{n}",
        f"Where is mill {n}?",
        (town,),
        (
            Shown(f"Mill {n}", f"It stood. Mill {n} is in {town}.", True),
            *(Shown("Kiln", f"Kiln {n} {m} is far away.", False) for m in range(4)),
        ),
    )
    for n, town in enumerate(["Oskerby", "Tarnhow", "Velling", "Muir", "Hask"])
]
UNITS = Units(
    DEPTH,
    WIDTH,
    frozenset({4 * WIDTH + n for n in range(6)} | {2 * WIDTH + 1, 2 * WIDTH + 2, 7}),
    frozenset({7, 1 * WIDTH + 5, 1 * WIDTH + 6, 4 * WIDTH + 20}),
)


@pytest.fixture(scope="module", params=["llama", "mistral", "qwen2"])
def folder(request, tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def backbone(folder):
    return load_backbone(str(folder), device="cpu", dtype="float32")


@pytest.fixture
def llama(tiny_folder):
    return load_backbone(str(tiny_folder), device="cpu", dtype="float32")


def weights_of(backbone):
    return {name: x.clone() for name, x in backbone.model.state_dict().items()}


def moved(backbone, before):
    return {name for name, x in backbone.model.state_dict().items() if not torch.equal(x, before[name])}


def logits(backbone):
    ids = torch.tensor([question_prompt(backbone, "Where is the mill?").ids])
    with torch.no_grad():
        return backbone.model(input_ids=ids).logits


@pytest.mark.parametrize("factor", [0.0, 0.5, 3.0])
def test_a_folded_mask_is_a_hooked_one(backbone, factor):
    units = UNITS.only_irrelevant
    before = logits(backbone)
    with silenced(backbone, units, factor):
        hooked = logits(backbone)
    assert torch.equal(logits(backbone), before)
    fold_silence(backbone, units, factor)
    torch.testing.assert_close(logits(backbone), hooked, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(hooked, before, atol=1e-4)


def test_a_hook_on_the_last_position_leaves_the_others(llama):
    before = logits(llama)
    with silenced(llama, UNITS.only_irrelevant, last_only=True):
        hooked = logits(llama)
    torch.testing.assert_close(hooked[:, :-1], before[:, :-1])
    assert not torch.allclose(hooked[:, -1], before[:, -1], atol=1e-4)


def test_units_of_another_model_are_refused(llama):
    with pytest.raises(UsageError, match="another model"), silenced(llama, {DEPTH * WIDTH}):
        pass


def test_only_what_is_chosen_moves(backbone):
    before = weights_of(backbone)
    done = harden(backbone, UNITS, ASKED, SMALL)
    assert done.layers == (2, 4)
    assert done.units == UNITS.only_irrelevant
    ffn = {f"model.layers.{n}.mlp.{m}_proj.weight" for n in (2, 4) for m in ("gate", "up", "down")}
    assert moved(backbone, before) == ffn | {"model.layers.1.mlp.down_proj.weight"}
    assert done.trainable == 2 * 3 * 48 * WIDTH
    silent = backbone.down_projection(4).weight[:, 20]
    assert not silent.any()  # tuned all around it, and still silent
    untouched = [n for n in range(WIDTH) if n not in (5, 6)]
    now = backbone.down_projection(1).weight
    assert torch.equal(now[:, untouched], before["model.layers.1.mlp.down_proj.weight"][:, untouched])
    assert not any(p.requires_grad or p.grad is not None for p in backbone.model.parameters())


def test_trained_units_move_their_own_rows_and_columns_only(llama):
    before = weights_of(llama)
    done = harden(llama, UNITS, ASKED, replace(SMALL, denoise="train", layers="none"))
    changed = moved(llama, before)
    assert changed == {f"model.layers.{n}.mlp.{m}_proj.weight" for n in (1, 4) for m in ("gate", "up", "down")}
    rows = (llama.layers[1].mlp.gate_proj.weight != before["model.layers.1.mlp.gate_proj.weight"]).any(1)
    assert rows.nonzero()[:, 0].tolist() == [5, 6]
    columns = (llama.down_projection(4).weight != before["model.layers.4.mlp.down_proj.weight"]).any(0)
    assert columns.nonzero()[:, 0].tolist() == [20]
    assert done.trainable == 3 * 3 * 48
    assert set(done.losses) == {"denoising"}


@pytest.mark.parametrize("trains", ["lora", "full"])
def test_baselines_train_in_the_same_loop(backbone, trains):
    before = weights_of(backbone)
    done = harden(backbone, None, ASKED, replace(SMALL, units="none", trains=trains, steps=2))
    names = moved(backbone, before)
    if trains == "full":
        assert done.trainable == done.parameters
        assert len(names) > 40
    else:
        assert names == {n for n in before if "_proj.weight" in n}
        assert abs(done.trainable - 2 * 3 * 48 * WIDTH) < 0.1 * 2 * 3 * 48 * WIDTH


def test_the_loss_falls(llama):
    made = lessons(llama, ASKED[:1], replace(SMALL, noise=(0.0,)), 400)
    options = replace(SMALL, units="none", layers="last", steps=30, learning_rate=3e-3, loss="sft", noise=(0.0,))
    with torch.no_grad():
        first = logits_of(llama, [made[0].prompt], [made[0].target]).log_softmax(-1)
    done = harden(llama, None, ASKED[:1], options, made=made)
    said = torch.tensor(made[0].target)
    assert done.losses["distillation"] < float(-first.gather(1, said[:, None]).mean())


def test_kl_to_the_untuned_model_is_nothing_without_noise_at_the_start(llama):
    options = replace(SMALL, units="none", layers="last", loss="kl", noise=(1.0,), steps=1)
    seen = []
    made = [replace(lesson, clean=lesson.prompt) for lesson in lessons(llama, ASKED, options, 500)]
    harden(llama, None, ASKED, options, progress=seen.append, made=made)
    assert abs(seen[0].loss) < 1e-5


@pytest.mark.parametrize("trains", ["ffn", "lora"])
def test_a_stopped_run_ends_with_the_same_weights(llama, tmp_path, tiny_folder, trains):
    options = replace(SMALL, trains=trains)

    def stop(told):
        if told.step == 3:
            raise KeyboardInterrupt

    again, whole = (load_backbone(str(tiny_folder), device="cpu", dtype="float32") for _ in range(2))
    with pytest.raises(KeyboardInterrupt):
        harden(llama, UNITS, ASKED, options, tmp_path, stop)
    assert (tmp_path / CHECKPOINTS[1]).exists()
    seen = []
    harden(again, UNITS, ASKED, options, tmp_path, seen.append)
    assert [told.step for told in seen] == [3, 4]  # the checkpoint was written after two
    harden(whole, UNITS, ASKED, options)
    assert moved(again, weights_of(whole)) == set()
    other = []
    fresh = load_backbone(str(tiny_folder), device="cpu", dtype="float32")
    harden(fresh, UNITS, ASKED, replace(options, seed=1), tmp_path, other.append)
    assert other[0].step == 1  # not of this run


def test_micro_batches_change_rounding_only(llama, tiny_folder):
    other = load_backbone(str(tiny_folder), device="cpu", dtype="float32")
    options = replace(SMALL, steps=2, learning_rate=1e-3)
    harden(llama, UNITS, ASKED, options)
    harden(other, UNITS, ASKED, replace(options, micro_tokens=300))
    for name, x in other.model.state_dict().items():
        torch.testing.assert_close(x, llama.model.state_dict()[name], rtol=1e-2, atol=2e-3)


def test_a_bfloat16_model_learns_in_float32(tiny_folder):
    backbone = load_backbone(str(tiny_folder), device="cpu", dtype="bfloat16")
    trained = Weights.of_layers(backbone, [1])
    assert {x.dtype for x in trained.masters.values()} == {torch.float32}
    harden(backbone, UNITS, ASKED, SMALL)
    assert backbone.dtype == torch.bfloat16


def test_layers_and_units_are_chosen_by_sets_and_chance():
    assert choose_layers(UNITS, DEPTH, replace(SMALL, layers="irrelevant")) == [1, 4]
    assert choose_layers(None, DEPTH, replace(SMALL, layers="last")) == [4, 5]
    drawn = [choose_layers(None, DEPTH, replace(SMALL, layers="random", seed=seed)) for seed in range(9)]
    assert all(len(set(one)) == 2 for one in drawn)
    assert len({tuple(one) for one in drawn}) > 1
    random_units = choose_units(UNITS, replace(SMALL, units="random"))
    by_layer = [len(x) for x in UNITS.by_layer(random_units)]
    assert by_layer == [len(x) for x in UNITS.by_layer(UNITS.only_irrelevant)]
    assert not random_units & (UNITS.relevant | UNITS.irrelevant)
    assert choose_units(UNITS, replace(SMALL, units="relevant")) == UNITS.only_relevant


def test_lessons_say_what_the_context_allows(llama):
    options = replace(SMALL, noise=(0.8, 1.0), absent="not_stated", target="evidence")
    made = lessons(llama, ASKED, options, 4000)
    said = [llama.tokenizer.decode(lesson.target[:-1]) for lesson in made]
    assert {"not stated", "Mill 0 is in Oskerby.\nAnswer: Oskerby"} <= set(said)
    assert all(lesson.target[-1] == llama.tokenizer.eos_token_id for lesson in made)
    shown = {text: llama.tokenizer.decode(lesson.clean) for text, lesson in zip(said, made, strict=True)}
    assert "Kiln" not in "".join(shown.values())
    assert "It stood" not in shown["not stated"]
    assert made == lessons(llama, ASKED, options, 4000)


def test_an_answer_stands_behind_the_evidence():
    assert target_of("Muir", [("", "It is in Murano. It is in Muir.")], "evidence") == "It is in Muir.\nAnswer: Muir"
    assert final_answer("It is in Muir.\nAnswer: Muir") == "Muir"
    assert final_answer(" Muir ") == "Muir"


def test_noise_counts_passages_and_gold_fills_up():
    contexts = Contexts(ASKED)
    for share, size, gold in ((0.0, 1, 1), (0.4, 3, 1), (0.8, 5, 1), (1.0, 5, 0)):
        found = mixed(contexts, ASKED[0], 5, share, "random")
        assert (len(found.passages), len(found.gold)) == (size, gold)


def test_batches_hold_at_most_so_many_tokens_and_every_lesson(llama):
    made = lessons(llama, ASKED, SMALL, 5000)
    batches = batches_of(made, SMALL, 200)
    assert len(batches) == 200
    assert all(len(b) * max(len(made[n]) for n in b) <= SMALL.batch_tokens for b in batches if len(b) > 1)
    assert {n for b in batches for n in b} == set(range(len(made)))


def test_every_system_hardens(llama):
    start = copy.deepcopy(llama.model.state_dict())
    shares = {}
    for name in SYSTEMS:
        llama.model.load_state_dict(start)
        done = harden(llama, UNITS, ASKED, system(name, replace(SMALL, steps=1, denoise_steps=1)))
        shares[name] = done.trainable
    assert shares["plain"] == shares["stage1"] == shares["boosted"] == 0
    tuned = [shares[n] for n in ("ours", "stage2", "last_layers", "random_layers", "random_units", "swapped")]
    assert len(set(tuned)) == 1
    assert set(MAIN) <= set(SYSTEMS)
    with pytest.raises(UsageError, match="no system 'theirs'"):
        system("theirs", SMALL)


def test_a_lora_of_equal_size(llama):
    rank = equal_rank(llama, 3)
    trained, wanted = Beside(llama, rank, 0), Weights.of_layers(llama, [0, 1, 2])
    assert abs(count(trained) / count(wanted) - 1) < 0.1


def test_answers_do_not_hang_on_their_batch(llama):
    prompts = [question_prompt(llama, q.text, [(p.title, p.text) for p in q.passages[:n]]).ids
               for n, q in enumerate(ASKED)]  # fmt: skip
    alone = [say(llama, [prompt], 6)[0] for prompt in prompts]
    assert say(llama, prompts, 6) == alone
    assert say(llama, prompts, 6, tokens=1) == alone
    assert say(llama, [], 6) == []


def test_the_fused_attention_of_a_gpu_says_the_same(backbone):
    prompts = [question_prompt(backbone, q.text, [(p.title, p.text) for p in q.passages[:n]]).ids
               for n, q in enumerate(ASKED)]  # fmt: skip
    targets = [(5, 6, 7)] * len(prompts)
    with torch.no_grad():
        slow = say(backbone, prompts, 6), logits_of(backbone, prompts, targets)
        with attending(backbone, "sdpa"):
            fast = say(backbone, prompts, 6), logits_of(backbone, prompts, targets)
    assert fast[0] == slow[0]
    torch.testing.assert_close(fast[1], slow[1], rtol=1e-3, atol=1e-3)
    assert backbone.model.config._attn_implementation == "eager"


def test_fluency_is_that_of_the_model(llama):
    text = "Mill 3 is in Velling."
    ids = torch.tensor([llama.tokenizer(text).input_ids])
    with torch.no_grad():
        loss = llama.model(input_ids=ids, labels=ids).loss
    told = fluency(llama, [text, text])
    assert told.perplexity == pytest.approx(float(loss.exp()), rel=1e-4)
    assert 0 <= told.right <= 1


def test_held_out_passages_are_not_learned_from():
    told = [ASKED[n] for n in range(5)]
    learned, held = parted(told, 0.5)
    gold = {p.text for q in held for p in q.passages if p.relevant}
    assert held
    assert not gold & {p.text for q in learned for p in q.passages}
    assert parted(told, 0.0) == (told, [])


def test_a_check_counts_answers(llama):
    figures = check(llama, ASKED)
    assert figures["questions"] == 5
    assert 0 <= figures["match"] <= 1
    assert check(llama, []) == {}


def test_a_plan_changes_nothing(llama):
    before = weights_of(llama)
    cost = plan(llama, ASKED, SMALL)
    assert cost.trainable == 2 * 3 * 48 * WIDTH
    assert cost.bytes > 0 < cost.seconds
    assert moved(llama, before) == set()


def rows(path):
    lines = [
        {
            "id": q.id,
            "question": q.text,
            "answers": list(q.answers),
            "docs": [
                {"id": f"{q.id}-{n}", "title": p.title, "text": p.text, "relevant": p.relevant}
                for n, p in enumerate(q.passages)
            ],
        }
        for q in ASKED
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


FLAGS = ["--steps", "2", "--batch-tokens", "900", "--layer-count", "1", "--device", "cpu"]
MINING = ["--mine.steps", "2", "--mine.votes", "0.3", "--mine.keep", "150", "--mine.noise-target", "gold",
          "--mine.noise-sign", "negative"]  # fmt: skip


def test_a_hardened_folder_loads_with_transformers_and_carries_a_bank(folder, tmp_path, capsys):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import neurag

    out = tmp_path / "hardened"
    told = [str(rows(tmp_path / "rows.jsonl")), "--model", str(folder), "-o", str(out), *FLAGS, *MINING]
    assert main(["harden", *told, "--hold-out", "0.09"]) == 0, capsys.readouterr().err
    model = AutoModelForCausalLM.from_pretrained(out)
    assert AutoTokenizer.from_pretrained(out)("Mill").input_ids
    about = json.loads((out / "hardening.json").read_text())
    for unit in about["hardened"]["units"]:
        assert not model.model.layers[unit // WIDTH].mlp.down_proj.weight[:, unit % WIDTH].any()
    card = (out / "README.md").read_text()
    for words in (f"Base model: {folder}", "Stage 1", "layers tuned", "Seeds", "base_model"):
        assert words in card
    assert (out / "units" / "units.json").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hardened", "rows.jsonl"]
    assert main(["harden", *told, "--hold-out", "0.09"]) == 0  # over a hardened folder
    bank = tmp_path / "bank"
    neurag.encode(["Mill 9 is in Lund."], bank=bank, model=str(out))
    assert neurag.Model.load(bank=bank).answer("Where is mill 9?").mode == "neurag"


def test_a_dry_run_tells_and_writes_nothing(tiny_folder, tmp_path, capsys):
    out = tmp_path / "hardened"
    told = [str(rows(tmp_path / "rows.jsonl")), "--model", str(tiny_folder), "-o", str(out), *FLAGS]
    assert main(["harden", *told, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "trains 13,824 of" in said
    assert "memory" in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--steps", "-1"], "--steps must be at least 0"),
        (["--noise", "1.5"], "between 0 and 1"),
        (["--layer-count", "99", "--layers", "last", "--units", "none"], "the model has 6 layers"),
        (["--hold-out", "2"], "--hold-out"),
        (["--kinds", "odd", "--units", "none", "--layers", "last"], "no kind of noise 'odd'"),
        (["--mined", "nowhere"], "make one with `neurag mine`"),
        (["--loss", "odd"], "odd"),
    ],
)
def test_wrong_input_gives_one_line(tiny_folder, tmp_path, capsys, flags, words):
    told = [str(rows(tmp_path / "rows.jsonl")), "--model", str(tiny_folder), "-o", str(tmp_path / "out"), *flags]
    assert main(["harden", *told, "--device", "cpu"]) != 0
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(tiny_folder, tmp_path, capsys):
    told = [str(rows(tmp_path / "rows.jsonl")), "--model", str(tiny_folder), "-o", str(tmp_path), *FLAGS]
    assert main(["harden", *told]) == 2
    assert "holds something else" in capsys.readouterr().err


def test_sets_that_are_empty_say_what_to_do():
    with pytest.raises(NeuragError, match="mine more questions"):
        choose_units(Units(2, 4, frozenset({1}), frozenset({1})), SMALL)
