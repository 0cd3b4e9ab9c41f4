"""TransMix: CutMix or mixup, and labels of pasted boxes by where a vision transformer looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, Step
from lt_bench.errors import UserError
from lt_bench.mixing import Mix, Mixed, Objective, Share, backwards, sent
from lt_bench.mixing.boxes import Box, draw_box, paste
from lt_bench.mixing.feature_maps import uncompiled
from lt_bench.mixing.mixup import draw_share, mixup_pair
from lt_bench.models.backbones.cutting import Tokens
from lt_bench.models.network import Network
from lt_bench.registry import Info


class TransMix(Mix):
    """The share of a box is half its area and half the attention that the class token pays it, as in the released code.

    That of the last block, mean over the heads, in the training pass of the mixed image itself, without gradient; the
    paper's formula has the attention alone (`attention: 1`). One box, or by a coin one share of mixup, for a batch;
    partners stand in it in opposite order, the middle one of an odd batch being its own. All labels are smoothed.
    Paper: Chen et al., CVPR 2022, arXiv 2111.09833.
    """

    name = "transmix"
    info = Info("CutMix or mixup, boxes labelled by a transformer's attention", "Chen et al., CVPR 2022", 2022)
    of_two_labels = False

    class Config(Mix.Config):
        """As the authors' for DeiT-S."""

        attention: float = Field(default=0.5, ge=0, le=1)
        """Weight of the attention in the share of a box; 0 is CutMix."""
        switch_probability: float = Field(default=0.8, ge=0, le=1)
        """Of a box; the other batches are mixed by mixup."""
        cutmix_alpha: FiniteFloat = Field(default=1.0, ge=0)
        """Both parameters of the Beta law of CutMix's share before clipping. 0 is no mixing."""
        mixup_alpha: FiniteFloat = Field(default=0.8, ge=0)
        """Both parameters of the Beta law of mixup's share. 0 is no mixing."""
        label_smoothing: float = Field(default=0.1, ge=0, lt=1)
        """Share of every target that is of all classes alike."""

    config: Config

    def attach(self, network: Network) -> None:
        class_attentions(network)

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        """By area: attention is `loss`'s, which has the network."""
        mixed, _ = self.drawn(batch, partner, step)
        return self.smoothed(mixed)

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        mixed, box = self.drawn(batch, partner, step)
        if box is None:
            return objective.of(self.smoothed(mixed))
        with watched(objective.network) as attentions:
            answer = objective.answer(mixed.images)
        (own, _), (other, area) = mixed.terms
        share = self.moved(area, torch.stack(attentions).mean(0), cells_in(box, mixed.images, objective.network))
        return objective.loss(answer, self.smoothed(Mixed(mixed.images, ((own, 1 - share), (other, share)))).terms)

    def drawn(self, batch: Batch, partner: Batch | None, step: Step) -> tuple[Mixed, Box | None]:
        """The batch mixed, with labels by area, and the box, of a mixture by boxes."""
        partner = partner or backwards(batch)
        if step.rng.random() >= self.config.switch_probability:
            return mixup_pair(batch, partner, self.config.mixup_alpha, step.rng), None
        height, width = batch.images.shape[2:]
        box = draw_box(height, width, draw_share(self.config.cutmix_alpha, step.rng), step.rng)
        share = box.share_outside(height, width)
        images = paste(batch.images, partner.images, box)
        return Mixed(images, ((batch.labels, share), (partner.labels, 1 - share))), box

    def moved(self, area: Share, attention: Tensor, cells: Tensor) -> Tensor:
        """The share [B] of a box by its area and by attention [B, N], of which it gets that to its cells [N]."""
        seen = (attention * cells).sum(1) / attention.sum(1)
        return self.config.attention * seen + (1 - self.config.attention) * area

    def smoothed(self, mixed: Mixed) -> Mixed:
        smoothing = self.config.label_smoothing
        terms = tuple((labels, (1 - smoothing) * share) for labels, share in mixed.terms)
        return Mixed(mixed.images, (*terms, (None, smoothing)) if smoothing else terms)


def class_attentions(network: Network) -> tuple[Any, list[Any]]:
    """The patch layer of a vision transformer, and the last attention of each branch.

    Raises UserError for any other network.
    """
    tokens: Any = next((part.model for part in network.modules() if isinstance(part, Tokens)), None)
    every = [[part for part in branch.modules() if hasattr(part, "qkv")] for branch in network.branches]
    if tokens is None or tokens.global_pool != "token" or not all(every):
        raise UserError(
            "mix: transmix weighs labels by the attention of a class token, and this backbone has none that is "
            "classified by; take a vision transformer, such as model.backbone=deit-tiny"
        )
    return tokens, [attentions[-1] for attentions in every]


@contextmanager
def watched(network: Network) -> Iterator[list[Tensor]]:
    """What class tokens attend to, [B, N] a branch, of what the network is given inside, where it is not compiled."""
    tokens, attentions = class_attentions(network)
    first, seen = tokens.num_prefix_tokens, list[Tensor]()
    with ExitStack() as stack:
        for attention in attentions:
            hook = attention.register_forward_pre_hook(
                lambda layer, given: seen.append(class_attention(layer, given[0])[:, first:])
            )
            stack.callback(hook.remove)
        stack.enter_context(uncompiled(network))
        yield seen


@torch.no_grad()
def class_attention(layer: Any, tokens: Tensor) -> Tensor:
    """How much the first of tokens [B, T, D] attends to each, [B, T], the mean over the heads of timm's attention."""
    size, count, _ = tokens.shape
    queries, keys, _ = layer.qkv(tokens).view(size, count, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    query, keys = layer.q_norm(queries[:, :, :1]).float(), layer.k_norm(keys).float()
    with torch.autocast(tokens.device.type, enabled=False):
        attention: Tensor = (query @ keys.transpose(2, 3) * layer.scale).softmax(-1)
    return attention.mean(1).squeeze(1)


def cells_in(box: Box, images: Tensor, network: Network) -> Tensor:
    """Which patches of images [B, 3, H, W] lie in a box by their first pixel: 1 or 0, [N]."""
    tokens, _ = class_attentions(network)
    mask = torch.zeros(images.shape[2:])
    mask[box.top : box.bottom, box.left : box.right] = 1
    cells = F.interpolate(mask[None, None], tokens.patch_embed.grid_size, mode="nearest")
    return sent(cells.flatten().numpy(), images.device)
