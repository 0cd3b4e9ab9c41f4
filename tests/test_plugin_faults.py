"""What a component of one's own gives that it must not: the training ends in a line before it is recorded."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_cases import STRANGER

pytestmark = pytest.mark.usefixtures("working_folder", "registry")

LtBench = Callable[..., Any]
SAMPLER = """
import numpy as np
from lt_bench.data.samplers import Sampler
from lt_bench.registry import Info

class Mine(Sampler):
    name, info = "mine", Info("positions")

    def order(self, epoch, rng):
        n = len(self.labels)
        return {order}
"""
MIX = """
from lt_bench.mixing import Mix, Mixed
from lt_bench.registry import Info

class Mine(Mix):
    name, info = "mine", Info("shares")
    {of_two_labels}
    def forward(self, batch, partner, step):
        return Mixed(batch.images, ((batch.labels, 0.5), (batch.labels.flip(0), {share})))
"""


def run(lt_bench: LtBench, code: str, *given: str) -> Any:
    Path("mine.py").write_text(code)
    return lt_bench("run", "digits-lt/ce", *STRANGER, *given, "--plugin", "mine.py", "--device", "cpu")


@pytest.mark.parametrize("looked_at", [(), ("--try",)], ids=["run", "try"])
@pytest.mark.parametrize(
    "order, said",
    [
        ("np.arange(2 * n).reshape(n, 2)", r"found int64 \[\d+, 2\]"),
        ("np.arange(n) / 2", r"found float64 \[\d+\]"),
        ("np.arange(n) - 1", r"found int64 \[\d+\], from -1 to \d+"),
        ("np.arange(n) + 1", r"found int64 \[\d+\], from 1 to \d+"),
        ("np.arange(0)", r"found int64 \[0\]"),
        ("list(range(n))", "found list"),
    ],
)
def test_an_order_that_is_none(lt_bench: LtBench, order: str, said: str, looked_at: tuple[str, ...]) -> None:
    done = run(lt_bench, SAMPLER.format(order=order), "sampler=mine", *looked_at)
    assert done.code == 1
    assert re.search(rf"stream main: expected integer positions \[N\] in 0\.\.\d+, {said}\n", done.out + done.err), done
    assert not [*Path().rglob("seed*.json")]


def test_an_order_may_be_shorter(lt_bench: LtBench) -> None:
    done = run(lt_bench, SAMPLER.format(order="np.arange(9)"), "sampler=mine", "--try")
    assert done.code == 0, done.err
    assert float(re.findall(r"([-\d,.]+) images/s", done.out)[0].replace(",", "")) > 0


@pytest.mark.parametrize("share", ["0.7", "batch.labels / 9"])
@pytest.mark.parametrize("looked_at", [(), ("--try",)], ids=["run", "try"])
def test_shares_that_do_not_sum_to_1(lt_bench: LtBench, share: str, looked_at: tuple[str, ...]) -> None:
    done = run(lt_bench, MIX.format(share=share, of_two_labels=""), "mix=mine", *looked_at)
    assert done.code == 1
    assert re.search(
        r"mix mine: the shares of an image sum to [\d.]+ and not to 1; a mix that means it says", done.out + done.err
    )
    assert not [*Path().rglob("seed*.json")]


@pytest.mark.parametrize("share, of_two_labels", [("0.5", ""), ("0.7", "of_two_labels = False")])
def test_shares_that_are_meant(lt_bench: LtBench, share: str, of_two_labels: str) -> None:
    done = run(lt_bench, MIX.format(share=share, of_two_labels=of_two_labels), "mix=mine", "--try")
    assert done.code == 0, done.err


LOSS = """
from lt_bench.losses import Loss
from lt_bench.registry import Info

class Mine(Loss):
    name, info = "mine", Info("a loss")

    def per_sample(self, logits, labels):
        return {loss}
"""


@pytest.mark.parametrize("looked_at", [(), ("--try",)], ids=["run", "try"])
@pytest.mark.parametrize(
    "code, chosen, said",
    [
        (MIX.replace("return Mixed", "Mixed"), "mix=mine", "mix mine: forward should return a Mixed, found NoneType"),
        (LOSS.replace("{loss}", "'much'"), "loss=mine", "loss mine: per_sample should return a Tensor, found str"),
        (LOSS.replace("{loss}", "logits.there"), "loss=mine", "no attribute 'there' (mine.py, line 9)"),
    ],
    ids=["no mixture", "a text", "its own error"],
)
def test_what_a_component_gives(
    lt_bench: LtBench, code: str, chosen: str, said: str, looked_at: tuple[str, ...]
) -> None:
    done = run(lt_bench, code.format(share=0.5, of_two_labels=""), chosen, *looked_at)
    assert (done.code, said in done.out + done.err) == (1, True), done
