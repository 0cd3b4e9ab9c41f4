"""What tells one recipe, protocol, split and run from another, as digests of what is written down of them.

Recipes have them before they are run, and records are held against them after; so nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

NOT_IDENTITY = ("name", "reported", "notes", "overrides", "first_stage")
"""Fields of a resolved recipe that say something about a run without changing it."""


def digest(content: Any) -> str:
    """sha256 of plain data as sorted JSON without spaces."""
    return _sha256(json.dumps(content, sort_keys=True, separators=(",", ":")))


def recipe_sha256(resolved: Mapping[str, Any]) -> str:
    """Of a resolved recipe."""
    return digest({key: value for key, value in resolved.items() if key not in NOT_IDENTITY})


def first_stage_sha256(resolved: Mapping[str, Any]) -> str:
    """Of the recipe whose trained network the second stage of this resolved one starts from."""
    first = {key: value for key, value in resolved.items() if key != "second_stage"}
    return recipe_sha256({**first, "plugins": resolved["first_stage"]["plugins"]})


def protocol_sha256(protocol: Mapping[str, Any]) -> str:
    """Of a resolved protocol."""
    return _spaced_digest(protocol)


def split_sha256(facts: Sequence[object]) -> str:
    """Of what `data.split.Split.digest` lists of a split."""
    return _spaced_digest(facts)


def run_identity(recipe_sha256: str, split_sha256: str, seed: int) -> str:
    """Of a run: resolved recipe, split and seed."""
    # The digest of the list, spelled out: a board needs ten thousand of them.
    return _sha256(f'["{recipe_sha256}","{split_sha256}",{seed}]')


def _spaced_digest(content: Any) -> str:
    return _sha256(json.dumps(content, sort_keys=True))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
