"""A text transformer that is loaded, exported and run in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel


def write_text_model(folder: Path, words: Sequence[str]) -> Path:
    """A tiny BERT that knows the words, as save_pretrained writes it, and its tokenizer."""
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(words) + 4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            max_position_embeddings=16, initializer_range=0.2, hidden_dropout_prob=0, attention_probs_dropout_prob=0,
        )
    ).save_pretrained(folder)  # fmt: skip
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
