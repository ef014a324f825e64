"""Fine-tuning of the text transformer on the shop's own log: items that users visit in a row get similar vectors.

sentence-transformers' `MultipleNegativesRankingLoss` with both directions is `PairLoss` without its mask: it takes a
text that occurs twice in a batch for its own negative. The package also adds three seconds to every import, so the loss
is written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.data.event_log import EventLog
from models.data.sequences import Positions, Sequences
from models.networks.text_transformer import MeanPoolingTransformer, TextConfig, TextTransformer
from models.stages import Done


def adapt(
    transformer: TextTransformer,
    texts: Sequence[str],
    log: EventLog,
    config: TextConfig,
    random_seed: int,
    done: Done = lambda share: None,
) -> TextTransformer:
    """Fine-tune on pairs of consecutive items of a user; `texts` [C] are the items'. It consumes `transformer`.

    Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022; Zhang et al., AdaLoRA: Adaptive Budget
    Allocation for Parameter-Efficient Fine-Tuning, ICLR 2023. The adapter is merged into the weights at the end, so the
    transformer has the same size and speed as before. Without an adapter, or without pairs, it is returned unchanged.
    """
    number = np.full(len(texts), -1) if config.adapter == "none" else transformer.numbers(texts)
    pairs = item_pairs(log, number)
    if not len(pairs):
        done(1.0)
        return transformer
    from peft import get_peft_model  # takes more than a second to import, and most releases adapt nothing

    torch.manual_seed(random_seed)
    random = np.random.default_rng(random_seed)
    model = get_peft_model(PairLoss(transformer.module, config.temperature), _peft_config(transformer.module, config))
    trained = (weight for weight in model.parameters() if weight.requires_grad)
    optimiser = torch.optim.AdamW(trained, config.learning_rate)
    model.train()
    for step in range(config.steps):
        drawn = pairs[random.integers(len(pairs), size=config.pairs_per_step)]  # [n, 2]
        tokens = (transformer.tokens([texts[item] for item in side]) for side in drawn.T)
        with torch.autocast("cpu", torch.bfloat16, enabled=_has_fast_bfloat16()):
            loss = model(*tokens, torch.from_numpy(number[drawn])).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if config.adapter == "adalora":
            model.base_model.update_and_allocate(step)
        done(1 / config.steps)
    return TextTransformer(model.merge_and_unload().text.eval(), transformer.tokenizer_json)


def item_pairs(log: EventLog, text: NDArray[np.int64]) -> Positions:
    """Pairs [n, 2] of items with different texts in consecutive events of a user.

    `text` [C] numbers the items' texts: items of one number have one text, and those of -1 none. One vector for two
    items teaches nothing.
    """
    sequences = Sequences.from_log(log)
    pairs = np.stack([sequences.item[:-1], sequences.item[1:]], axis=1).astype(np.int64)
    texts = text[pairs]
    differ: NDArray[np.bool_] = (texts[:, 0] != texts[:, 1]) & (texts >= 0).all(axis=1)
    taught: Positions = pairs[(sequences.user[:-1] == sequences.user[1:]) & differ]
    return taught


class PairLoss(nn.Module):
    """Symmetric InfoNCE loss: each text of a pair must find the other one among the texts of all pairs in the batch.

    No text is a negative of itself, whichever items have it: neither where it is right for two pairs, nor where one
    pair's text is the other side of another pair.

    Van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018.
    """

    def __init__(self, text: MeanPoolingTransformer, temperature: float) -> None:
        super().__init__()
        self.text = text
        self.temperature = temperature

    def forward(self, left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], texts: Tensor) -> SimpleNamespace:
        """Token ids and masks [n, L] of both sides, and the numbers of their texts [n, 2], which differ within a pair →
        an object with `loss`, as peft expects."""
        left_vector, right_vector = (F.normalize(self.text(*tokens).float(), dim=-1) for tokens in (left, right))
        one, other = texts[:, None], texts[None, :]
        same = (
            (one[..., 0] == other[..., 0]) | (one[..., 1] == other[..., 1]) | (one[..., 0] == other[..., 1])
        )  # [n, n]
        false_negative = same & ~torch.eye(len(texts), dtype=torch.bool)
        logits = (left_vector @ right_vector.T / self.temperature).masked_fill(false_negative, -torch.inf)  # [n, n]
        target = torch.arange(len(texts))
        return SimpleNamespace(loss=(F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2)


def _has_fast_bfloat16() -> bool:
    """Whether this processor has bfloat16 matrix instructions, with which a step takes a third of the time."""
    return any(able for name, able in torch.cpu.get_capabilities().items() if name.endswith("bf16"))


def _peft_config(text: MeanPoolingTransformer, config: TextConfig) -> Any:
    from peft import AdaLoraConfig, LoraConfig

    # mean pooling does not use the pooler that some transformers have
    linear = [name for name, part in text.named_modules() if isinstance(part, nn.Linear) and "pooler" not in name]
    common: dict[str, Any] = {"target_modules": linear, "lora_alpha": 2 * config.rank}
    if config.adapter == "lora":
        return LoraConfig(r=config.rank, **common)
    tenth = config.steps // 10
    return AdaLoraConfig(
        init_r=config.rank + config.rank // 2,
        target_r=config.rank,
        total_step=config.steps,
        tinit=tenth,
        tfinal=5 * tenth,
        **common,
    )
