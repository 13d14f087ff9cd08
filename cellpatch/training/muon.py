"""Muon: steps of equal size in all directions, for matrices and kernels; AdamW for everything else."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cellpatch.runtime.device import has_fast_bfloat16

# Of the fifth-degree polynomial that five times brings singular values close to 1; Jordan et al., 2024, as in torch.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_MOMENTUM = 0.95


class MuonAdamW(torch.optim.AdamW):
    """AdamW, but groups with `orthogonal` take steps of Muon (Jordan et al., 2024).

    A kernel counts as a matrix of outputs x all else. A step is scaled to the size that one of AdamW has (Liu et al.,
    arXiv 2502.16982, section 2.2), so that one learning rate serves both. `torch.optim.Muon` takes matrices alone; on
    them both are equal.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all groups."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        for group in groups:
            if group["orthogonal"]:
                trained = [parameter for parameter in group["params"] if parameter.grad is not None]
                for alike in _stacks(trained):
                    self._step_orthogonally(alike, group)
        self.param_groups = [group for group in groups if not group["orthogonal"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        return loss

    def _step_orthogonally(self, alike: list[Tensor], group: dict[str, Any]) -> None:
        """Step parameters whose matrices have one shape."""
        for parameter in alike:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
                self.state[parameter]["step"] = torch.tensor(0.0)  # unused; AdamW looks for it in what it loads
        gradients = [parameter.grad for parameter in alike if parameter.grad is not None]
        momenta = [self.state[parameter]["momentum"] for parameter in alike]
        torch._foreach_lerp_(momenta, gradients, 1 - _MOMENTUM)
        mixed = [each.flatten(1) for each in torch._foreach_lerp(gradients, momenta, _MOMENTUM)]
        directions = orthogonalise(torch.stack(mixed)) if len(mixed) > 1 else orthogonalise(mixed[0])[None]
        steps = [new.view(old.shape).to(old.dtype) for new, old in zip(directions, alike, strict=True)]
        size = 0.2 * max(mixed[0].shape) ** 0.5
        torch._foreach_mul_(alike, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(alike, steps, alpha=-group["lr"] * size)


def _stacks(parameters: list[Tensor]) -> list[list[Tensor]]:
    """Parameters whose matrices have one shape, which a GPU steps together; one by one on a CPU.

    A network of many small matrices keeps a GPU waiting for its next product: customvit_s has 19 matrices of 7 shapes.
    """
    stacks: dict[object, list[Tensor]] = {}
    for number, parameter in enumerate(parameters):
        alone = number if parameter.device.type == "cpu" else None
        stacks.setdefault((parameter.flatten(1).shape, alone), []).append(parameter)
    return list(stacks.values())


def orthogonalise(matrices: Float[Tensor, "*stack rows columns"]) -> Float[Tensor, "*stack rows columns"]:
    """Matrices with all singular values close to 1 (0.7 to 1.2), in bfloat16, by five Newton-Schulz iterations.

    One matrix, or several of one shape. A CPU without fast products of bfloat16 multiplies the same values in float32
    and rounds each product: the sums are those of bfloat16, which adds in float32 too.
    """
    a, b, c = _COEFFICIENTS
    slow = matrices.device.type == "cpu" and not has_fast_bfloat16()
    multiply_add = torch.addmm if matrices.ndim == 2 else torch.baddbmm

    def rounded(values: Tensor) -> Tensor:
        return values.bfloat16().float() if slow else values.bfloat16()

    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = rounded(matrices.mT if tall else matrices)
    wide = rounded(wide / rounded(wide.norm(dim=(-2, -1), keepdim=True)).clamp(min=1e-7))
    for _ in range(_ITERATIONS):
        gram = rounded(wide @ wide.mT)
        wide = rounded(multiply_add(wide, rounded(multiply_add(gram, gram, gram, beta=b, alpha=c)), wide, beta=a))
    return (wide.mT if tall else wide).bfloat16()


def hidden_matrices(network: nn.Module, image_channels: int = 3) -> set[str]:
    """Names of the weights that Muon is made for: of linear layers and convolutions between hidden layers.

    Not those that read the image, not depthwise ones, whose kernels do not map between channels, and not the head.
    """
    hidden = [(name, each) for name, each in network.named_modules() if name != "head"]
    linear = {f"{name}.weight" for name, each in hidden if isinstance(each, nn.Linear)}
    kernels = {
        f"{name}.weight"
        for name, each in hidden
        if isinstance(each, nn.Conv2d) and each.groups == 1 and each.in_channels != image_channels
    }
    return linear | kernels
