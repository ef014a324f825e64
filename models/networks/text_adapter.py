"""Adapting the text transformer to a shop: texts of items that follow each other come to lie close together."""

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
from models.data.sequences import Sequences
from models.networks.text_transformer import MeanOfTokens, TextConfig, TextTransformer
from models.stages import Done


def adapt(
    transformer: TextTransformer,
    texts: Sequence[str],
    log: EventLog,
    config: TextConfig,
    random_seed: int,
    done: Done = lambda share: None,
) -> TextTransformer:
    """Learn from pairs of consecutive items of a user, `texts` [C] being the items'. The given one is used up.

    Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022; Zhang et al., AdaLoRA: Adaptive Budget
    Allocation for Parameter-Efficient Fine-Tuning, ICLR 2023. What the adapter learned is added to the weights in the
    end, so that the transformer is as large and as fast as before. Without an adapter it comes back as it was.
    """
    pairs = item_pairs(log, np.array([bool(text) for text in texts]))
    if config.adapter == "none" or not len(pairs):
        done(1.0)
        return transformer
    from peft import get_peft_model  # takes more than a second, and most releases adapt nothing

    torch.manual_seed(random_seed)
    random = np.random.default_rng(random_seed)
    model = get_peft_model(PairLoss(transformer.module, config.temperature), _peft_config(transformer.module, config))
    optimiser = torch.optim.AdamW((one for one in model.parameters() if one.requires_grad), config.learning_rate)
    model.train()
    for step in range(config.steps):
        drawn = pairs[random.integers(len(pairs), size=config.pairs_per_step)]  # [n, 2]
        tokens = (transformer.tokens([texts[item] for item in side]) for side in drawn.T)
        with torch.autocast("cpu", torch.bfloat16, enabled=_bfloat16_is_fast()):
            loss = model(*tokens, torch.from_numpy(drawn)).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if config.adapter == "adalora":
            model.base_model.update_and_allocate(step)
        done(1 / config.steps)
    return TextTransformer(model.merge_and_unload().text.eval(), transformer.tokenizer_json)


def item_pairs(log: EventLog, told: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pairs of different items [n, 2] that have texts (`told` [C]), one right after the other in a user's events."""
    sequences = Sequences.from_log(log)
    pairs = np.stack([sequences.item[:-1], sequences.item[1:]], axis=1).astype(np.int64)
    follow: NDArray[np.bool_] = (sequences.user[:-1] == sequences.user[1:]) & (pairs[:, 0] != pairs[:, 1])
    return pairs[follow & told[pairs].all(axis=1)]


class PairLoss(nn.Module):
    """Each text of a pair is to find the other among those of the whole step.

    Van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018, with the step's other pairs
    as negatives, both ways.
    """

    def __init__(self, text: MeanOfTokens, temperature: float) -> None:
        super().__init__()
        self.text = text
        self.temperature = temperature

    def forward(self, ones: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor], items: Tensor) -> SimpleNamespace:
        """Tokens and masks [n, L] of both sides, and their items [n, 2] → an output with `loss`, as peft expects."""
        one, other = (F.normalize(self.text(*tokens).float(), dim=-1) for tokens in (ones, others))  # [n, T]
        same = (items[:, None, 1] == items[None, :, 1]) | (items[:, None, 0] == items[None, :, 0])
        wrong = same & ~torch.eye(len(items), dtype=torch.bool)  # an item that is right for both is no negative
        logits = (one @ other.T / self.temperature).masked_fill(wrong, -torch.inf)  # [n, n]
        right = torch.arange(len(items))
        return SimpleNamespace(loss=(F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2)


def _bfloat16_is_fast() -> bool:
    """Whether this processor multiplies bfloat16 matrices itself: a step takes a third of the time then."""
    return any(able for name, able in torch.cpu.get_capabilities().items() if name.endswith("bf16"))


def _peft_config(text: MeanOfTokens, config: TextConfig) -> Any:
    from peft import AdaLoraConfig, LoraConfig

    # a pooler, where there is one, has no part in the mean over tokens
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
