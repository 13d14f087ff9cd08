"""Optimisers and schedule of trainings by gradients."""

from collections.abc import Iterable, Mapping
from math import cos, pi
from typing import Any, Literal

import torch
from torch import nn

from cellpatch.training.muon import MuonAdamW, hidden_matrices

OptimizerName = Literal["adamw", "muon"]  # values of adapt.optimizer
Schedule = torch.optim.lr_scheduler.LambdaLR


def make_optimizer(
    network: nn.Module,
    name: OptimizerName,
    lr: float,
    weight_decay: float,
    lr_factors: Mapping[str, float] | None = None,
    adamw_rate: float = 1.0,
) -> torch.optim.Optimizer:
    """The optimiser of a network's trained parameters.

    `lr_factors` are factors of the learning rate by the parameter's name, 1 where there is none. With Muon, what AdamW
    trains has `adamw_rate` times that rate. Vectors (norms, biases) have no weight decay.
    """
    muon = name == "muon"
    matrices = hidden_matrices(network) if muon else set()
    factors = lr_factors or {}
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for parameter_name, parameter in network.named_parameters():
        if parameter.requires_grad:
            orthogonal = parameter_name in matrices
            factor = factors.get(parameter_name, 1.0) * (adamw_rate if muon and not orthogonal else 1.0)
            key = (factor, parameter.ndim > 1, orthogonal)
            groups.setdefault(key, []).append(parameter)
    members: Iterable[dict[str, Any]] = [
        {"params": parameters, "lr": factor * lr, "weight_decay": weight_decay * decayed, "orthogonal": orthogonal}
        for (factor, decayed, orthogonal), parameters in groups.items()
    ]
    return MuonAdamW(members) if muon else torch.optim.AdamW(members)


def cosine_schedule(optimizer: torch.optim.Optimizer, updates: int, warmup: float) -> Schedule:
    """A linear warm-up over the share `warmup` of the updates, then a cosine to zero."""
    return Schedule(optimizer, lambda step: cosine_with_warmup(step, updates, warmup))


def cosine_with_warmup(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate, in [0, 1]: linear over the share `warmup` of the steps, then a cosine to zero.

    torch's `SequentialLR` of `LinearLR` and `CosineAnnealingLR` computes each factor from the one before. So they
    differ by rounding from these. It also needs a whole number of warm-up steps, and rises again after the last step.
    """
    warmup_steps = warmup * steps
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return 0.5 * (1 + cos(pi * min(1.0, (step - warmup_steps) / max(1.0, steps - warmup_steps))))
