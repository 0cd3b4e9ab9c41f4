"""Networks that make the masks by which two images are mixed, of the features of both and of the share of each.

A mask is float32 [B, 1, H, W] in (0, 1) and says how much of a pixel comes from the partner. Papers: Liu et al.,
AutoMix, ECCV 2022, arXiv 2103.13027; Li et al., SAMix, arXiv 2111.15454. The forms are those of the released code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lt_bench.data.types import generator
from lt_bench.mixing import Term

M = TypeVar("M", bound=nn.Module)


class Pairing(NamedTuple):
    """Whom the images of a batch are mixed with, and how much of them stays on average."""

    order: Tensor
    """int64 [B], the place of each image's partner in the batch."""
    share: float
    """In [0, 1], that of the image itself."""

    def mixed(self, images: Tensor, masks: Tensor | float) -> Tensor:
        """Images [B, 3, H, W], where the masks say so those of their partners."""
        partners = images[self.order]
        return images + masks * (partners - images)

    def terms(self, labels: Tensor) -> tuple[Term, ...]:
        """What such images are made of, by the share."""
        return (labels, self.share), (labels[self.order], 1 - self.share)


class MixBlock(nn.Module):
    """AutoMix's: attention between the features of the two images, one convolution for its queries and keys.

    Features are [B, C, h, w] of any type; with `concat` the shares are a channel more of them.
    """

    def __init__(self, channels: int, *, concat: bool = False) -> None:
        super().__init__()
        self.concat = concat
        self.query_key = nn.Conv2d(channels + concat, max(1, channels // 2), 1)
        self.value = nn.Conv2d(channels + concat, 1, 1)

    def forward(self, features: Tensor, pairing: Pairing, size: torch.Size) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            own, other = features.float(), features[pairing.order].float()
            if self.concat:
                own, other = with_channel(own, pairing.share), with_channel(other, 1 - pairing.share)
            attended = attention(self.query_key(own), self.query_key(other), self.value(other))
            return F.interpolate(attended, size, mode="nearest").sigmoid()


class Mixer(nn.Module):
    """SAMix's: queries and keys of both images' features at once, values by two layers of the partner's alone."""

    def __init__(self, channels: int, *, k: float | None = 0.25, dropout: float = 0.0) -> None:
        super().__init__()
        self.k, width = k, max(1, channels // 2)
        self.query, self.key = (nn.Conv2d(2 * channels, width, 1) for _ in range(2))
        self.value = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ELU(),
            nn.Conv2d(width, 1, 1, bias=False),
            nn.Dropout(dropout),
        )

    def forward(self, features: Tensor, pairing: Pairing, size: torch.Size) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            share = embedded(pairing.share, self.k)
            own, other = features.float() * (1 + share), features[pairing.order].float() * (2 - share)
            both = torch.cat([own, other], 1)
            attended = attention(self.query(both), self.key(both), self.value(other))
            # Before the sigmoid: between two pixels the mask is not their mean.
            return F.interpolate(attended, size, mode="bilinear", align_corners=False).sigmoid()


def attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(q k / sqrt(d)) v at every place: queries and keys are [B, d, h, w], values and result [B, 1, h, w]."""
    q, k, v = (maps.flatten(2).transpose(1, 2) for maps in (queries, keys, values))  # [B, h w, d or 1]
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape_as(values)


def with_channel(features: Tensor, value: float) -> Tensor:
    """Features [B, C, h, w] and a channel of one value."""
    return torch.cat([features, torch.full_like(features[:, :1], value)], 1)


def embedded(share: float, k: float | None) -> float:
    """SAMix's embedding of a share, an odd cubic around 1/2 the straighter the larger k; None: the share itself.

    g(l) = (4/3 l^3 - 2 l^2 + (k + 1) l) / (k + 1/3).
    """
    return share if k is None else (4 / 3 * share**3 - 2 * share**2 + (k + 1) * share) / (k + 1 / 3)


def excess(masks: Tensor, share: float, margin: float) -> Tensor:
    """max(|1 - mean(masks) - share| - margin, 0), a scalar: one mean of the whole batch, not of each image."""
    return F.relu((1 - masks.mean() - share).abs() - margin)


def excess_less_variance(masks: Tensor, share: float, margin: float) -> Tensor:
    """The same minus twice the biased variance over batch and pixels, which rewards contrast: may be negative."""
    return excess(masks, share, margin) - 2 * masks.var(correction=0)


def adjusted(masks: Tensor, share: float) -> Tensor:
    """Each mask stretched towards 0 or 1 until an image keeps exactly its share, on average over the pixels."""
    own = (1 - masks).clamp(1e-8, 1 - 1e-8)
    mean = own.mean((1, 2, 3), keepdim=True)
    lower, higher = own * share / mean, 1 - (1 - own) * (1 - share) / (1 - mean)
    return 1 - torch.where(mean > share, lower, higher)


def initialised(build: Callable[[], M]) -> M:
    """A fresh block whose masks are about 1/2: convolutions of N(0, 0.01^2), biases of 0, the same in every run.

    It leaves torch's global random state as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(0, "mix block").integers(2**63)))
        block = build()
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
    return block
