"""How Lightning's Trainer is set up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from cellpatch.runtime.device import resolve_device
from cellpatch.training.trainer_arguments import check_passed

ACCELERATORS = ("auto", "cpu", "gpu", "cuda")
PRECISIONS = (None, "32-true", "bf16-mixed", "16-mixed")  # weights in 32 bits: crops come as such


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """Lightning's settings that cellpatch decides by, and `others` that Lightning's Trainer gets as they are.

    `max_epochs` passes and `max_steps` updates replace the budget of the adaptation (`plan_budget`); None leaves it.
    `resume` continues an interrupted training from its last validation. `precision` None is bf16-mixed on GPUs that
    have it, else 32 bits. Raises ValueError for a value out of range, more devices than there are, a setting that needs
    `max_epochs`, or an argument of Lightning's that cellpatch decides.
    """

    max_epochs: int | None
    max_steps: int | None
    accelerator: str
    devices: int
    resume: bool
    precision: str | None
    enable_progress_bar: bool
    others: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        limits = {"devices": self.devices, "max_epochs": self.max_epochs, "max_steps": self.max_steps}
        for name, value in limits.items():
            if value is not None and value < 1:
                raise ValueError(f"trainer.{name} must be a whole number >= 1, but got {value!r}")
        check_passed(self.others, self.max_epochs, self.max_steps)
        if self.accelerator not in ACCELERATORS:
            raise ValueError(f"trainer.accelerator must be of {list(ACCELERATORS)}, but got {self.accelerator!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"trainer.precision must be of {list(PRECISIONS)}, but got {self.precision!r}")
        if self.precision == "16-mixed" and self.device.type == "cpu":  # Lightning would take bf16
            raise ValueError("trainer.precision=16-mixed needs a GPU, but this trains on the CPU: use bf16-mixed")
        if self.device.type == "cuda" and self.devices > torch.cuda.device_count():
            raise ValueError(f"trainer.devices={self.devices}, but there are {torch.cuda.device_count()} GPUs")

    @property
    def device(self) -> torch.device:
        """The device that Lightning's Trainer takes for this accelerator."""
        return resolve_device(self.accelerator)

    @property
    def resolved_precision(self) -> str:
        """The precision that training takes on this device."""
        bf16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return self.precision or ("bf16-mixed" if bf16 else "32-true")

    def require_device(self) -> None:
        """Raise ValueError if a GPU is asked for and torch sees none: on the CPU a training would take days."""
        if self.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
            raise ValueError(
                f"trainer.accelerator={self.accelerator}, but torch sees no GPU here: auto takes one if there is one"
            )
