"""The field's groups of classes by training-set size: many, medium and few shots."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

GROUPS = ("many", "medium", "few")
MANY_ABOVE, FEW_BELOW = 100, 20
OLTR, INCLUSIVE, THIRDS = "oltr", "inclusive", "thirds"
RULES = {
    OLTR: "more than 100 training images, 20 to 100, fewer than 20; the rule of most papers and of all tables here",
    INCLUSIVE: "100 training images or more, 21 to 99, 20 or fewer",
    THIRDS: "a third of the classes each, by their size; what is left over is with the smallest",
}
"""Which classes are many, medium and few, by the name of who or what says so."""


def group_masks(train_counts: ArrayLike, rule: str = OLTR) -> dict[str, np.ndarray]:
    """Which classes are many, medium and few by one of `RULES`, bool [C] each.

    `train_counts` [C] are the training images per class. OLTR is Liu et al., CVPR 2019; NCL has `inclusive`, TLC has
    `thirds`, where classes of one size count in their order.
    """
    n = np.asarray(train_counts)
    if rule == THIRDS:
        place = np.argsort(np.argsort(-n, kind="stable"))
        many, few = place < len(n) // 3, place >= 2 * (len(n) // 3)
    elif rule == INCLUSIVE:
        many, few = n >= MANY_ABOVE, n <= FEW_BELOW
    else:
        many, few = n > MANY_ABOVE, n < FEW_BELOW
    return {"many": many, "medium": ~many & ~few, "few": few}
