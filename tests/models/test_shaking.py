"""ShakeDrop and Shake-Shake, whose gradients are not those of what they compute."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from network_cases import SmallPyramidNet, SmallShakeShake, images, without_memory
from torch import Tensor

from lt_bench.errors import UserError
from lt_bench.models import build_network
from lt_bench.models.backbones.shake_shake import Join
from lt_bench.models.changes import Change
from lt_bench.models.residual import residual_branches
from lt_bench.models.shaking import mixed, scaled, uniform
from lt_bench.regularisers import ShakeDrop, ShakeShake, place_all
from lt_bench.regularisers.shake_drop import shaken

BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def ones(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(count, 2, 3, 3, dtype=dtype, requires_grad=True)


def factors(x: Tensor) -> Tensor:
    """The one value of each image of x [B, C, H, W]."""
    values = x.detach().flatten(1)
    assert (values == values[:, :1]).all()
    return values[:, 0].float()


# --- what both are made of ---------------------------------------------------------------------------


@BOTH
def test_the_gradient_has_a_factor_of_its_own(dtype: torch.dtype) -> None:
    x, a, b = ones(3, dtype), torch.tensor([-0.5, 0.0, 1.0]), torch.tensor([0.25, 1.0, 0.0])
    y = scaled(x, a.view(3, 1, 1, 1), b.view(3, 1, 1, 1))
    y.backward(torch.full_like(y, 2))
    assert x.grad is not None
    assert (y.dtype, x.grad.dtype) == (dtype, dtype)
    assert torch.equal(factors(y), a)
    assert torch.equal(factors(x.grad), 2 * b)


@BOTH
def test_shares_of_two_sum_to_one_in_both_directions(dtype: torch.dtype) -> None:
    first, second = ones(4, dtype), ones(4, dtype)
    a, b = (uniform(first, "image") for _ in range(2))
    y = mixed(first, second * 3, a, b)
    y.backward(torch.ones_like(y))
    assert first.grad is not None
    assert second.grad is not None
    torch.testing.assert_close(factors(y), (a + 3 * (1 - a)).flatten().to(dtype).float(), rtol=0.01, atol=0)
    assert torch.equal(factors(first.grad), b.flatten().to(dtype).float())
    torch.testing.assert_close(factors(first.grad) + factors(second.grad) / 3, torch.ones(4), rtol=0.01, atol=0)


@pytest.mark.parametrize(("per", "shape"), [("image", (5, 1, 1, 1)), ("batch", (1, 1, 1, 1))])
def test_draws_are_per_image_or_per_batch(per: str, shape: tuple[int, ...]) -> None:
    drawn = uniform(torch.zeros(5, 2, 3, 3, dtype=torch.bfloat16), per)
    assert (drawn.shape, drawn.dtype) == (shape, torch.float32)
    assert len(set(drawn.flatten().tolist())) == len(drawn)


# --- ShakeDrop ---------------------------------------------------------------------------------------


def test_the_probabilities_of_54_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    monkeypatch.setattr(ShakeDrop, "change", lambda _, rate: given.append(rate) or Change(shaken))
    with without_memory():
        ShakeDrop().place(build_network("pyramidnet-110-a270", "linear", 100))
    assert len(given) == 54
    assert [given[place - 1] for place in (1, 27, 54)] == pytest.approx([0.00926, 0.25, 0.5], abs=5e-6)


@pytest.mark.parametrize(("rate", "scale"), [(0.5 / 54, 0.99074), (0.25, 0.75), (0.5, 0.5)])
def test_in_evaluation_a_branch_is_scaled_by_what_is_kept(rate: float, scale: float) -> None:
    evaluation = ShakeDrop().change(rate).evaluation
    assert evaluation is not None
    assert float(evaluation(torch.ones(()))) == pytest.approx(scale, abs=5e-6)


@BOTH
def test_a_batch_is_left_as_it_is_or_multiplied_image_by_image(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    kept = 0
    for _ in range(200):
        x = ones(16, dtype)
        y = shaken(x, rate=0.25)
        y.backward(torch.ones_like(y))
        assert x.grad is not None
        forward, backward = factors(y), factors(x.grad)
        if (forward == 1).all():
            kept += 1
            assert (backward == 1).all()
        else:  # a in (-1, 1) and b in (0, 1), one for each image, independent
            assert len(set(forward.tolist())) > 8
            assert len(set(backward.tolist())) > 8
            assert forward.abs().max() <= 1
            assert (backward >= 0).all()
            assert forward.min() < 0
            assert abs(float(torch.corrcoef(torch.stack((forward, backward)))[0, 1])) < 0.9
    assert kept / 200 == pytest.approx(0.75, abs=0.07)


def test_the_mean_factor_of_the_training_is_that_of_the_evaluation() -> None:
    torch.manual_seed(1)
    found = [factors(shaken(ones(8), rate=0.5)).mean() for _ in range(2000)]
    assert float(torch.stack(found).mean()) == pytest.approx(0.5, abs=0.03)


# --- Shake-Shake -------------------------------------------------------------------------------------


def shares(shake: ShakeShake, count: int = 6) -> tuple[Tensor, Tensor]:
    """Those of the first of two branches for every image, forward and backward."""
    torch.manual_seed(0)
    first, second = ones(count), torch.zeros(count, 2, 3, 3, requires_grad=True)
    y = shake.shaken(first, second)
    y.backward(torch.ones_like(y))
    assert first.grad is not None
    assert second.grad is not None
    torch.testing.assert_close(first.grad + second.grad, torch.ones_like(first))
    return factors(y), factors(first.grad)


def test_an_image_has_shares_of_its_own_and_others_backward() -> None:
    forward, backward = shares(ShakeShake())
    assert len({*forward.tolist(), *backward.tolist()}) == 12
    assert ((forward > 0) & (forward < 1) & (backward > 0) & (backward < 1)).all()


def test_a_batch_may_share_them() -> None:
    forward, backward = shares(ShakeShake(per="batch"))
    assert len(set(forward.tolist())) == len(set(backward.tolist())) == 1
    assert not torch.equal(forward, backward)


def test_an_even_backward_pass_takes_halves() -> None:
    forward, backward = shares(ShakeShake(backward="even"))
    assert len(set(forward.tolist())) == 6
    assert (backward == 0.5).all()


def test_equal_branches_give_the_branch_itself() -> None:
    x = torch.randn(4, 2, 3, 3)
    torch.testing.assert_close(ShakeShake().shaken(x, x), x)


def test_in_evaluation_it_is_the_mean_and_without_it_always() -> None:
    first, second = torch.randn(2, 4, 2, 3, 3).unbind()
    for join in (Join().train(), Join().eval()):
        torch.testing.assert_close(join(first, second), (first + second) / 2)
    shaking = Join()
    shaking.shake = ShakeShake().shaken
    assert not torch.allclose(shaking(first, second), (first + second) / 2)
    torch.testing.assert_close(shaking.eval()(first, second), (first + second) / 2)


def test_every_block_draws_by_itself() -> None:
    network, shake = build_network(SmallShakeShake, "linear", 7), ShakeShake()
    place_all([shake], network)
    seen = Counter(part.shake == shake.shaken for part in network.modules() if isinstance(part, Join))
    assert seen == {True: 4}
    assert len(residual_branches(network)) == 4
    assert not torch.equal(network(images()), network(images()))


def test_other_networks_have_no_two_branches() -> None:
    with pytest.raises(UserError, match=r"^regularise\.shake-shake: needs blocks of two residual branches, such as"):
        place_all([ShakeShake()], build_network(SmallPyramidNet, "linear", 7))
