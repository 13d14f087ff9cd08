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
                for parameter in group["params"]:
                    self._step_orthogonally(parameter, group)
        self.param_groups = [group for group in groups if not group["orthogonal"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        return loss

    def _step_orthogonally(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad
        if gradient is None:
            return
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
            state["step"] = torch.tensor(0.0)  # unused; AdamW looks for it in whatever state it loads
        momentum: Tensor = state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        direction = orthogonalise(gradient.lerp(momentum, _MOMENTUM).flatten(1))
        size = 0.2 * max(direction.shape) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction.view(parameter.shape).to(parameter.dtype), alpha=-group["lr"] * size)


def orthogonalise(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The matrix with all singular values close to 1 (0.7 to 1.2), in bfloat16, by five Newton-Schulz iterations.

    A CPU without fast products of bfloat16 multiplies the same values in float32 and rounds each product: the sums are
    those of bfloat16, which adds in float32 too.
    """
    a, b, c = _COEFFICIENTS
    slow = matrix.device.type == "cpu" and not has_fast_bfloat16()

    def rounded(values: Tensor) -> Tensor:
        return values.bfloat16().float() if slow else values.bfloat16()

    tall = len(matrix) > matrix.shape[1]
    wide = rounded(matrix.T if tall else matrix)
    wide = rounded(wide / rounded(wide.norm()).clamp(min=1e-7))
    for _ in range(_ITERATIONS):
        gram = rounded(wide @ wide.T)
        wide = rounded(torch.addmm(wide, rounded(torch.addmm(gram, gram, gram, beta=b, alpha=c)), wide, beta=a))
    return (wide.T if tall else wide).bfloat16()


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
