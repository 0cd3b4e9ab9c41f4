"""Whose scores are no probabilities, so that a calibration error says nothing of them.

The components say it themselves; a table is made without importing them, so their names stand here once more, and a
test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STAGES = frozenset({"ncm", "max-norm", "tau-norm"})
"""Stages whose logits are distances, or have a scale that a norm sets and no likelihood."""
LOSSES: Mapping[str, frozenset[str]] = {
    "binary-cross-entropy": frozenset(),
    "sigmoid-focal": frozenset(),
    "class-balanced": frozenset({"sigmoid", "focal"}),
}
"""Losses on a sigmoid for each class, with the values of `form` for which they are that; empty: always."""

WHY = "the softmax of distances, of logits of a set scale or of one sigmoid a class is no probability"


def are_probabilities(recipe: Mapping[str, Any]) -> bool:
    """Whether the softmax of what a resolved recipe ends in is meant as probabilities of the classes."""
    second = _mapping(recipe.get("second_stage"))
    stage = _mapping(second.get("stage"))
    if stage.get("name") in STAGES:
        return False
    phases = recipe.get("phases")
    last = _mapping(phases[-1]) if isinstance(phases, list) and phases else {}
    loss = _mapping((second if stage.get("epochs") else last).get("loss"))
    if loss.get("name") not in LOSSES:
        return True
    forms = LOSSES[loss["name"]]
    return bool(forms) and loss.get("form") not in forms


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
