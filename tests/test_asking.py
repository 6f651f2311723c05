"""The asked directions know what an unseen wording asks for, where random directions do not."""

from __future__ import annotations

from importlib.resources import files

import torch

from neurag.knowledge import asking
from neurag.knowledge.asking import NAMES, asked_directions
from neurag.knowledge.calibration import neutral_texts, unit_statistics

LINES = files("neurag.knowledge").joinpath("neutral/questions.tsv").read_text(encoding="utf-8").strip().split("\n")


def test_every_line_has_three_wordings_for_a_name():
    assert len(LINES) > 20
    assert all(line.count("\t") == 2 and line.count("{}") == 3 for line in LINES)


def test_directions_have_unit_size_on_the_questions(tiny, tiny_calibration):
    directions, mean = asked_directions(tiny, LINES[:12], tiny_calibration.unit_scale)
    assert directions.shape == (tiny.depth, asking.ASKED, tiny.ffn_width)
    units = asking._last_units(tiny, [w.format(n) for line in LINES[:12] for w in line.split("\t") for n in NAMES])
    reads = torch.einsum("ndf,drf->ndr", units - mean, directions)
    torch.testing.assert_close(reads.pow(2).mean(0).sqrt(), torch.ones(reads.shape[1:]), rtol=1e-3, atol=1e-3)


def test_an_unseen_wording_about_an_unseen_name_is_told_apart(plain):
    # the plain backbone: with the task adapter a question without a passage is mostly one of not being answered
    layer = plain.depth - 6
    _, spread = unit_statistics(plain, neutral_texts()[0])
    known = ["\t".join(line.split("\t")[:2]) for line in LINES]
    directions, mean = asked_directions(plain, known, spread)
    random = torch.randn(8, plain.ffn_width, generator=torch.Generator().manual_seed(0))
    random /= asking.floored(spread)[layer]
    wordings = [w.format(n) for line in known for w in line.split("\t") for n in NAMES]
    units = asking._last_units(plain, [*wordings, *(line.split("\t")[2].format("Veldenbrook") for line in LINES)])
    learned, asked = (units[:, layer] - mean[layer]).split([len(wordings), len(LINES)])

    def told_apart(rows):
        read = (learned @ rows.T).view(len(LINES), -1, len(rows)).mean(1)
        nearest = torch.cdist(asked @ rows.T, read).argmin(1)
        return float((nearest == torch.arange(len(LINES))).float().mean())

    found = told_apart(directions[layer])
    assert found >= 0.5
    assert found >= told_apart(random) + 0.2, told_apart(random)
