"""Optical conditions: what a run is evaluated under, and what it is trained under."""

from dataclasses import dataclass
from math import log2
from typing import Any, Literal

STUDY_PX = 40  # sigma is in pixels of the study's 40x40 input
KINDS = ("none", "pre", "post", "defocus", "motion")
Resize = Literal["bilinear", "bicubic", "area"]
_LARGEST_PX = 4096  # of a side or a sigma: beyond it is no cell
_LEVELS = 8  # sigmas per kind that training draws from


@dataclass(frozen=True)
class Condition:
    """What a crop went through: `kind` of KINDS (none has sigma 0); sigma in pixels of the 40x40 input."""

    kind: str
    sigma: float


CLEAN = Condition("none", 0.0)


@dataclass(frozen=True)
class Conditions:
    """The conditions that a run is evaluated under, clean and each kind at each sigma, and what it is trained under.

    `unit` of sigma is px40 (pixels of the 40x40 input) or um. `via_px` is a side that every crop is resized to first,
    as the study's 40 px; null goes straight to the input. `train` is null, or the lowest and highest of the sigmas that
    each training cell's blur is drawn from, of the kinds `train_kind`. Raises ValueError for an unknown kind, or a
    sigma that is no number from 0 to 4096.
    """

    kind: str | list[str]
    sigma: float | list[float]
    unit: Literal["px40", "um"]
    via_px: int | None
    resize: Resize
    train: list[float] | None
    train_kind: list[Literal["pre", "post"]]

    def __post_init__(self) -> None:
        if self.via_px is not None and not 4 <= self.via_px <= _LARGEST_PX:
            raise ValueError(f"optics.via_px must be null or 4 to {_LARGEST_PX}, but got {self.via_px}")
        unknown = [kind for kind in _listed(self.kind) if kind not in KINDS]
        if unknown or not _listed(self.kind):
            raise ValueError(f"optics.kind must be of {', '.join(KINDS)}, but got {self.kind}")
        if not all(0 <= sigma <= _LARGEST_PX for sigma in _listed(self.sigma)) or not _listed(self.sigma):
            raise ValueError(f"optics.sigma must be 0 to {_LARGEST_PX}, but got {self.sigma}")
        train = self.train
        if train is not None and (len(train) != 2 or not 0 <= train[0] < train[1] <= _LARGEST_PX):
            told = f"[LOW, HIGH] with 0 <= LOW < HIGH <= {_LARGEST_PX}"
            raise ValueError(f"optics.train must be null or {told}, but got {train}")
        if not self.train_kind or len(set(self.train_kind)) < len(self.train_kind):
            raise ValueError(f"optics.train_kind must be of pre and post, each once, but got {self.train_kind}")

    def each(self, field_um: float | None) -> list[Condition]:
        """Clean first, then every other condition once, by kind and sigma.

        `field_um` is the width of a crop; raises ValueError if sigma is in micrometres and it is None.
        """
        asked = {(kind, self._in_px40(sigma, field_um)) for kind in _listed(self.kind) for sigma in _listed(self.sigma)}
        return [CLEAN, *(Condition(kind, sigma) for kind, sigma in sorted(asked) if sigma > 0 and kind != "none")]

    def drawn(self, field_um: float | None) -> list[Condition]:
        """What a training cell's condition is drawn from: each kind at sigmas evenly spaced in log2(1 + sigma)."""
        if self.train is None:
            return []
        low, high = (log2(1 + self._in_px40(sigma, field_um)) for sigma in self.train)
        sigmas = [2 ** (low + (high - low) * i / (_LEVELS - 1)) - 1 for i in range(_LEVELS)]
        return [Condition(kind, sigma) for kind in sorted(self.train_kind) for sigma in sigmas]

    def _in_px40(self, sigma: float, field_um: float | None) -> float:
        if self.unit == "px40":
            return float(sigma)
        if field_um is None:
            raise ValueError("optics.unit=um needs the scale of the crops: set data.um_per_px, or give sigma in px40")
        return round(sigma * STUDY_PX / field_um, 6)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
