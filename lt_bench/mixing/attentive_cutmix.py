"""Attentive CutMix: what a trained network looks at in one image, pasted into another."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor

from lt_bench.data.types import Batch, Step
from lt_bench.errors import UserError
from lt_bench.mixing import Mixed, permuted
from lt_bench.mixing.teachers import GivenTeacher, Taught
from lt_bench.registry import Info


class AttentiveCutMix(Taught):
    """The cells of the partner that a teacher is most active in are pasted at the same place; labels by area.

    The map is that of the pasted image, which is the paper's first one, and its six best cells of 49 are an eighth of
    the pixels, always. A public toolbox keeps cells of the image that is not the partner's, as many as a share drawn
    from a Beta law says (AttentiveMix+): another method. Activity is the mean over all channels of the teacher's last
    maps; another public code reads the last channel alone. Maps are made once, of whole images, and follow crop and
    mirroring. On images that no grid of 7 x 7 divides, cells differ by a pixel and so do the shares.
    Paper: Walawalkar et al., ICASSP 2020, arXiv 2003.13048.
    """

    name = "attentive-cutmix"
    info = Info("pasted is what a teacher looks at, labels by area", "Walawalkar et al., ICASSP 2020", 2020)
    kind = "activation"

    class Config(Taught.Config):
        """As in the paper, whose teacher is a ResNet-50 trained on ImageNet."""

        teacher: GivenTeacher = None
        """The network that looks: a file of weights of a run of this suite, or a file and timm's name."""
        cells: int = Field(default=6, ge=1)
        """How many cells are pasted."""
        grid: int = Field(default=7, ge=1)
        """Cells on a side of the image."""

        @model_validator(mode="after")
        def _in_the_grid(self) -> AttentiveCutMix.Config:
            if self.cells > self.grid**2:
                raise ValueError(f"cells {self.cells} are more than the {self.grid**2} of the grid")
            return self

    config: Config

    @classmethod
    def check_given(cls, config: Config) -> None:
        if config.teacher is None:
            raise UserError(
                "mix.teacher: attentive-cutmix pastes what a trained network looks at: name the weights.safetensors of "
                "a run, mix.teacher=FILE, or a network of timm, 'mix.teacher={weights: FILE, model: NAME}'"
            )

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        partner = partner or permuted(batch, step.rng)
        assert partner.views is not None, "batches come from an image set"
        mask = highest(self.seen(partner.views, self.config.grid, self.config.grid), self.config.cells)
        pixels = enlarged(mask, *batch.images.shape[2:])
        share = pixels.float().mean((1, 2))
        images = torch.where(pixels[:, None], partner.images, batch.images)
        return Mixed(images, ((batch.labels, 1 - share), (partner.labels, share)))


def highest(maps: Tensor, count: int) -> Tensor:
    """The highest cells of each map [B, h, w], so many, as a mask bool [B, h, w]."""
    flat = maps.flatten(1)
    return torch.zeros_like(flat, dtype=torch.bool).scatter(1, flat.topk(count).indices, True).view(maps.shape)


def enlarged(mask: Tensor, height: int, width: int) -> Tensor:
    """The mask [B, height, width] of the pixels that lie in the cells of a mask [B, h, w]."""
    sides = zip((height, width), mask.shape[1:], strict=True)
    rows, columns = (torch.arange(side, device=mask.device) * cells // side for side, cells in sides)
    return mask[:, rows][:, :, columns]
