"""Write the neutral text that calibration reads: short paragraphs by the default backbone itself.

Its facts are made up and do not matter; only what ordinary English looks like to a backbone does. The file in
the package was made by this recipe (seed 0) and is not remade on every change, because every bank depends on it.

    python scripts/neutral_text.py > neutral.tsv
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch

from neurag.loading import load_backbone

FORMS = (
    "Write one encyclopedia paragraph about {}.",
    "Write a short factual article with names, dates and numbers about {}.",
    "Write a short news report about {}.",
    "Write five different questions someone might ask about {}.",
)
BATCH = 64


def main() -> None:
    """Sample a paragraph for every topic and print topic, tab, paragraph."""
    backbone = load_backbone()
    tokenizer = backbone.tokenizer
    tokenizer.padding_side = "left"
    torch.manual_seed(0)
    topics = (Path(__file__).parent / "neutral_topics.txt").read_text(encoding="utf-8").strip().split("\n")
    for start in range(0, len(topics), BATCH):
        part = list(enumerate(topics))[start : start + BATCH]
        chats = [[{"role": "user", "content": FORMS[i % 4].format(topic)}] for i, topic in part]
        shown = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        inputs = tokenizer(shown, return_tensors="pt", padding=True)
        made = backbone.model.generate(
            **inputs, max_new_tokens=130, do_sample=True, temperature=0.8, top_p=0.95, repetition_penalty=1.1
        )
        texts = tokenizer.batch_decode(made[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
        for (_, topic), text in zip(part, texts, strict=True):
            plain = re.sub(r"\s+", " ", re.sub(r"[^\x20-\x7e\n]", "", text)).strip()
            if len(plain.split()) >= 15:
                sys.stdout.write(f"{topic}\t{plain}\n")


if __name__ == "__main__":
    main()
