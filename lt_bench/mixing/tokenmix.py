"""TokenMix: many blocks of tokens of another image, labels by what a teacher sees in the parts."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, FiniteFloat, model_validator
from torch import Tensor

from lt_bench.data.types import Batch, Step, Views
from lt_bench.errors import UserError
from lt_bench.mixing import Mixed, Share, Term, backwards, sent
from lt_bench.mixing.mixup import mixup_pair
from lt_bench.mixing.teachers import GivenTeacher, Taught
from lt_bench.models.backbones.cutting import Tokens
from lt_bench.models.network import Network
from lt_bench.registry import Info

ASPECT = 0.3
"""Least height over width of a block; the greatest is its inverse."""
ATTEMPTS = 10

Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


class TokenMix(Taught):
    """One mask of tokens per batch, or mixup, by a coin; y_i = sum over its visible cells of image i's own map.

    Maps are a teacher's, sum to 1 over what the augmented image shows, and follow its crop and mirroring. The two
    shares need not sum to 1: what is hidden in both images counts for neither. Both branches smooth their labels, half
    of it taken from either share. Whatever share mixup would draw, half of the tokens are the partner's and a
    fourteenth of the grid more, as in the released code. Partners stand in the batch in opposite order, the middle
    one of an odd batch being its own.

    `labels: area` gives every cell the same worth, where there is no teacher: it is not TokenMix.
    The paper's grid is 14 x 14, on images of 224 pixels; that of other images is this project's choice.
    Paper: Liu et al., ECCV 2022, arXiv 2207.08409.
    """

    name = "tokenmix"
    info = Info("blocks of tokens pasted, labels by a teacher's maps", "Liu et al., ECCV 2022", 2022)
    of_two_labels = False
    kind = "own-class"

    class Config(Taught.Config):
        """As in the authors' command for DeiT-S."""

        labels: Literal["teacher", "area"] = "area"
        """What the labels of mixed tokens follow."""
        teacher: GivenTeacher = None
        """The network that makes the maps: a file of weights of a run of this suite, or a file and timm's name."""
        switch_probability: float = Field(default=0.5, ge=0, le=1)
        """Of tokens; the other batches are mixed by mixup."""
        mixup_alpha: FiniteFloat = Field(default=0.8, ge=0)
        """Both parameters of the Beta law of mixup's share. 0 is no mixing."""
        mask: Literal["block", "random"] = "block"
        """Rectangles, until there are enough tokens, or tokens one by one."""
        label_smoothing: float = Field(default=0.1, ge=0, lt=1)
        """Share of every target that is of all classes alike."""
        patch_size: int | None = Field(default=None, ge=1)
        """Pixels on a token's side; None: those of a vision transformer that is trained, and for any other network 16
        from 128 pixels on, an eighth of the side of smaller images."""

        @model_validator(mode="after")
        def _a_teacher_teaches(self) -> TokenMix.Config:
            if self.teacher is not None and self.labels == "area":
                raise ValueError("a teacher has no effect on labels by area; set labels to teacher")
            return self

    config: Config
    of_network: int | None = None
    """Pixels on the side of the network's own tokens, if it has some."""

    def attach(self, network: Network) -> None:
        embedding: Any = next((part.model.patch_embed for part in network.modules() if isinstance(part, Tokens)), None)
        size = getattr(embedding, "patch_size", None)  # which some of timm's embeddings do not tell
        self.of_network = None if size is None else min(size)

    @classmethod
    def check_given(cls, config: Config) -> None:
        if config.labels == "teacher" and config.teacher is None:
            raise UserError(
                "mix.teacher: tokenmix weighs labels by the maps of a trained network: name the weights.safetensors of "
                "a run, mix.teacher=FILE, or take mix.labels=area, which is another method"
            )

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        partner = partner or backwards(batch)
        if step.rng.random() < self.config.switch_probability:
            return self.tokens(batch, partner, step.rng)
        mixed = mixup_pair(batch, partner, self.config.mixup_alpha, step.rng)
        kept = 1 - self.config.label_smoothing
        return self.smoothed(mixed.images, *((labels, kept * share) for labels, share in mixed.terms))

    def tokens(self, batch: Batch, partner: Batch, rng: np.random.Generator) -> Mixed:
        """The partner's tokens where the mask says so."""
        height, width = batch.images.shape[2:]
        side = self.patch_side(min(height, width))
        mask = self.draw_mask(math.ceil(height / side), math.ceil(width / side), rng)
        drawn = sent(mask, batch.images.device)
        pixels = drawn.bool().repeat_interleave(side, 0).repeat_interleave(side, 1)[:height, :width]
        shares = self.shares(batch.views, partner.views, drawn)
        half = self.config.label_smoothing / 2
        pairs = zip((batch.labels, partner.labels), shares, strict=True)
        images = torch.where(pixels, partner.images, batch.images)
        return self.smoothed(images, *((labels, share - half) for labels, share in pairs))

    def shares(self, views: Views | None, partner: Views | None, mask: Tensor) -> tuple[Share, Share]:
        """How much of the class of either image is to be seen; mask [h, w] is 1 where it is the partner that is."""
        if self.config.labels == "area":
            return 1 - mask.mean(), mask.mean()
        assert views is not None, "batches come from an image set"
        assert partner is not None, "and so do partners"
        own, other = (self.seen(which, *mask.shape) for which in (views, partner))
        return visible(own, 1 - mask), visible(other, mask)

    def smoothed(self, images: Tensor, *terms: Term) -> Mixed:
        smoothing = self.config.label_smoothing
        return Mixed(images, (*terms, (None, smoothing)) if smoothing else terms)

    def patch_side(self, side: int) -> int:
        """Pixels on a token's side, of images of so many."""
        return self.config.patch_size or self.of_network or (16 if side >= 128 else max(1, side // 8))

    def draw_mask(self, rows: int, columns: int, rng: np.random.Generator) -> Mask:
        """Which tokens are the partner's."""
        cells = rows * columns
        wanted = min(cells, cells // 2 + cells // 14)
        return (block_mask if self.config.mask == "block" else random_mask)(rows, columns, wanted, rng)


def visible(maps: Tensor, mask: Tensor) -> Tensor:
    """The part [B] of maps [B, h, w] that lies where a mask [h, w] is 1."""
    part: Tensor = (maps * mask).sum((1, 2)) / (maps.sum((1, 2)) + 1e-8)
    return part


def random_mask(rows: int, columns: int, wanted: int, rng: np.random.Generator) -> Mask:
    """A mask with as many cells as wanted, one by one."""
    mask = np.zeros(rows * columns, dtype=np.bool_)
    mask[rng.permutation(len(mask))[:wanted]] = True
    return mask.reshape(rows, columns)


def block_mask(rows: int, columns: int, wanted: int, rng: np.random.Generator) -> Mask:
    """A mask of rectangles, which may overlap, that ends at the number of cells wanted or, seldom, a few before."""
    mask = np.zeros((rows, columns), dtype=np.bool_)
    while (left := wanted - int(mask.sum())) > 0:
        if not any(_add_block(mask, left, rng) for _ in range(ATTEMPTS)):
            break
    return mask


def _add_block(mask: Mask, most: int, rng: np.random.Generator) -> bool:
    """Add a block to the mask unless it adds nothing, or more cells than `most`; whether it was added."""
    area, aspect = rng.uniform(1, most), math.exp(rng.uniform(math.log(ASPECT), -math.log(ASPECT)))
    height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if height >= mask.shape[0] or width >= mask.shape[1]:
        return False
    top, left = (int(rng.integers(side - own + 1)) for side, own in zip(mask.shape, (height, width), strict=True))
    block = mask[top : top + height, left : left + width]
    if not 0 < block.size - block.sum() <= most:
        return False
    block[:] = True
    return True
