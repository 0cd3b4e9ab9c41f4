"""The optimizer that a protocol asks for, over all that a job learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from lt_bench.protocol import SGD, AdamW, Lamb, Optimizer

if TYPE_CHECKING:
    from lt_bench.training.loop import Job

Group = dict[str, Any]
OURS = ("name", "decay_norms_and_biases", "decay_norms")
"""Settings that are no arguments of an optimizer."""
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
"""Layers whose parameters scale and shift what they have normalised."""


def build_optimizer(job: Job) -> torch.optim.Optimizer:
    """The protocol's optimizer over all that the network and the method learn; where it says so it clips gradients."""
    groups, norm = parameter_groups(job), job.protocol.clip_gradients
    optimizer = _made(job.protocol.optimizer, groups or [{"params": []}])
    if norm is not None:
        parameters = [parameter for group in groups for parameter in group["params"]]

        def clip(*_: Any) -> None:
            nn.utils.clip_grad_norm_(parameters, norm)

        optimizer.register_step_pre_hook(clip)
    return optimizer


def _made(settings: Optimizer, groups: list[Group]) -> torch.optim.Optimizer:
    arguments: Any = {name: value for name, value in settings if name not in OURS}
    match settings:
        case SGD():
            return torch.optim.SGD(groups, **arguments, fused=True)
        case AdamW():
            return torch.optim.AdamW(groups, **arguments, fused=True)
        case Lamb():
            from timm.optim.lamb import Lamb as TimmLamb  # noqa: PLC0415 (slow to import)

            return TimmLamb(groups, **arguments)


def parameter_groups(job: Job) -> list[Group]:
    """All that learns, apart by its factor on the learning rate and by whether weight decay acts on it."""
    rates: dict[Tensor, float] = {**job.network.rates(), **dict.fromkeys(job.method.parameters(), 1.0)}
    spared = undecayed(job.network, job.protocol.optimizer) | undecayed(job.method, job.protocol.optimizer)
    groups: dict[tuple[float, bool], Group] = {}
    for parameter, rate in rates.items():
        without = {"weight_decay": 0.0} if parameter in spared else {}
        group = groups.setdefault((rate, parameter in spared), {"params": [], "lr_factor": rate, **without})
        group["params"].append(parameter)
    return list(groups.values())


def undecayed(module: nn.Module, settings: Optimizer) -> set[Tensor]:
    """The parameters of a module that weight decay leaves alone."""
    if not settings.decay_norms_and_biases:
        return norms_and_biases(module)
    if settings.decay_norms:
        return set()
    return {one for part in module.modules() if isinstance(part, NORMS) for one in part.parameters()}


def norms_and_biases(module: nn.Module) -> set[Tensor]:
    """Parameters of one dimension or none, biases, and what a part of the module names in `no_weight_decay`."""
    found: set[Tensor] = {one for name, one in module.named_parameters() if one.ndim <= 1 or name.endswith("bias")}
    for part in module.modules():
        names: set[str] = getattr(part, "no_weight_decay", set)()
        found |= {one for name, one in part.named_parameters() if name in names}
    return found
