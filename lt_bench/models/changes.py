"""What a regulariser does to a tensor inside of a network, whose parameters and their names it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

Act = Callable[[Tensor], Tensor]


class Change(NamedTuple):
    """What is done to a tensor in training, and in evaluation if anything."""

    training: Act
    evaluation: Act | None = None

    def of(self, part: nn.Module) -> Act | None:
        """What is to be done now, in a part of a network that trains or does not; None: nothing."""
        return self.training if part.training else self.evaluation

    def __call__(self, part: nn.Module, x: Tensor) -> Tensor:
        act = self.of(part)
        return x if act is None else act(x)


def before(part: nn.Module, change: Change) -> None:
    """Change what a part of a network is given."""

    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return change(module, inputs[0]), *inputs[1:]

    part.register_forward_pre_hook(hook)


def behind(part: nn.Module, change: Change) -> None:
    """Change what a part of a network gives."""

    def hook(module: nn.Module, _: tuple[Any, ...], output: Tensor) -> Tensor:
        return change(module, output)

    part.register_forward_hook(hook)
