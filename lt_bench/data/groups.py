"""The field's groups of classes by training-set size: many, medium and few shots."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

GROUPS = ("many", "medium", "few")
MANY_ABOVE, FEW_BELOW = 100, 20


def group_masks(train_counts: ArrayLike) -> dict[str, np.ndarray]:
    """Which classes are many (n > 100), medium (20..100) and few (n < 20), bool [C] each.

    The rule of OLTR (Liu et al., CVPR 2019) on `train_counts` [C], the training images per class.
    """
    n = np.asarray(train_counts)
    many, few = n > MANY_ABOVE, n < FEW_BELOW
    return {"many": many, "medium": ~many & ~few, "few": few}
