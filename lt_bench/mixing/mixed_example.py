"""VH-Mixup: the best of fourteen ways of making mixed examples."""

from __future__ import annotations

import torch

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, permuted, sent
from lt_bench.ranks.division import for_images
from lt_bench.registry import Info


class MixedExample(Mix):
    """x = u v + (1 - u) h: v is the top of i over the bottom of j, h the left of i beside the right of j.

    The rows and columns of the cuts and u ~ U(0, 1) are drawn for every pair; labels likewise, by the share of the rows
    in v and of the columns in h. Paper: Summers and Dinneen, WACV 2019, arXiv 1805.11272.
    """

    name = "mixed-example"
    info = Info("VH-Mixup: mixup of a vertical and a horizontal concatenation", "Summers and Dinneen, WACV 2019", 2019)

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        partner = partner or permuted(batch, step.rng)
        size, _, height, width = batch.images.shape
        device = batch.images.device
        row = sent(for_images(size, lambda n: step.rng.integers(height, size=n)), device)
        column = sent(for_images(size, lambda n: step.rng.integers(width, size=n)), device)
        weight = sent(for_images(size, step.rng.random), device)
        # The part of image i in every pixel: its rows above the cut in the one, its columns left of it in the other.
        above = (torch.arange(height, device=device) < row[:, None]).float()[:, None, :, None]
        before = (torch.arange(width, device=device) < column[:, None]).float()[:, None, None, :]
        u = weight[:, None, None, None]
        images = torch.lerp(partner.images, batch.images, u * above + (1 - u) * before)
        share = weight * row / height + (1 - weight) * column / width
        return Mixed(images, ((batch.labels, share), (partner.labels, 1 - share)))
