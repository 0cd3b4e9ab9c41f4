"""A recipe that is whole but for what a test adds, and the one line in which that is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_bench.errors import UserError
from lt_bench.recipe import load_recipe

BASE = "extends: protocols/digits-demo\ndata: {name: digits-lt, factor: 10}\nmodel: {backbone: resnet8}\n"


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message
