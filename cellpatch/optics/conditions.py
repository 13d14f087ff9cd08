"""Conditions: the blur or other fault that a run is evaluated under, and the blur that it is trained under."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log2
from typing import Literal

STUDY_PX = 40  # sigma is in pixels of the study's 40x40 input
Resize = Literal["bilinear", "bicubic", "area"]
MAX_PX = 4096  # of a side or a sigma: no cell is larger
_LEVELS = 8  # sigmas per kind that training draws from


@dataclass(frozen=True)
class BlurKind:
    """A kind of blur: where it is applied, and the radius of its kernel in sigmas.

    `native`: Gaussian on the crop's own pixels, before the resize. `resized`: Gaussian on the resized image.
    `kernel`: a two-dimensional convolution of native pixels.
    """

    applied: Literal["nowhere", "native", "resized", "kernel"]
    radius_sigmas: float


# Scores that exist keep the radius they were taken with: docs/recipes.md, "Change the radius of a blur".
KINDS: dict[str, BlurKind] = {
    "none": BlurKind("nowhere", radius_sigmas=0),
    "pre": BlurKind("native", radius_sigmas=4),  # of ceil(4 sigma) px: no tail above 7e-5 is cut
    "post": BlurKind("resized", radius_sigmas=4),
    "defocus": BlurKind("kernel", radius_sigmas=2),  # a disc of radius 2 sigma
    "motion": BlurKind("kernel", radius_sigmas=3**0.5),  # a line of half length sqrt(3) sigma
}


@dataclass(frozen=True)
class Fault:
    """A fault of the image other than blur: the unit of its strength, in words for people, and its largest strength.

    Strength 0 is the clean image.
    """

    unit: str
    most: float


# What each does: `cellpatch.optics.faults`; larger and smaller are steps of the optics (`magnified_matrix`).
FAULTS: dict[str, Fault] = {
    "jpeg": Fault("100 - quality", most=99),
    "noise": Fault("grey levels of 255", most=255),
    "darker": Fault("% of the intensity", most=99),
    "brighter": Fault("% of the intensity", most=1000),
    "pale_stain": Fault("% of the optical density", most=99),
    "strong_stain": Fault("% of the optical density", most=1000),
    "hue": Fault("degrees", most=180),
    "larger": Fault("% of the size", most=900),
    "smaller": Fault("% of the size", most=50),  # so that the window is at most two crops wide
    "chromatic": Fault("px of 40", most=STUDY_PX / 4),
    "bubble": Fault("% of the area", most=75),  # a disc of 78 % is as wide as the crop
    "dust": Fault("% of the area", most=75),
}


@dataclass(frozen=True)
class Condition:
    """What a crop went through: a `kind` of KINDS (none has sigma 0) or of FAULTS.

    `sigma` is a blur's standard deviation, in pixels of the 40x40 input. Of a fault it is the strength, in the fault's
    own unit: every stored run has one column for both.
    """

    kind: str
    sigma: float

    @property
    def blur(self) -> BlurKind:
        """How the kind blurs, a fault not at all; raises ValueError for an unknown one."""
        if self.kind not in KINDS | FAULTS:
            raise ValueError(f"kind must be one of {', '.join(KINDS | FAULTS)}, but got {self.kind!r}")
        return KINDS["none"] if self.is_fault else KINDS[self.kind]

    @property
    def is_clean(self) -> bool:
        return self == CLEAN

    @property
    def is_fault(self) -> bool:
        """Whether it is a fault other than blur."""
        return self.kind in FAULTS

    @property
    def is_blur(self) -> bool:
        """Whether it blurs the crop: neither clean nor a fault."""
        return not self.is_clean and not self.is_fault

    @property
    def most(self) -> float:
        """The largest strength of the kind."""
        return FAULTS[self.kind].most if self.is_fault else MAX_PX

    @property
    def magnification(self) -> float:
        """How many times its size the crop's content appears: 1 but for larger and smaller."""
        return {"larger": 1 + self.sigma / 100, "smaller": 1 - self.sigma / 100}.get(self.kind, 1.0)

    def sigma_px(self, side_px: int) -> float:
        """Sigma in pixels of an image of the crop that is `side_px` wide."""
        return self.sigma * side_px / STUDY_PX

    @property
    def words(self) -> str:
        """What it is, with the unit of a fault: `post sigma 1.6`, `jpeg 30 (100 - quality)`."""
        return f"{self} ({FAULTS[self.kind].unit})" if self.is_fault else f"{self.kind} sigma {self.sigma:g}"

    def __str__(self) -> str:
        return "clean" if self.is_clean else f"{self.kind} {self.sigma:g}"


CLEAN = Condition("none", 0.0)


def faults_among(conditions: Iterable[Condition]) -> list[Condition]:
    """The faults other than blur, in the order of FAULTS, each with rising strength."""
    order = list(FAULTS)
    found = [condition for condition in conditions if condition.is_fault]
    return sorted(found, key=lambda condition: (order.index(condition.kind), condition.sigma))


@dataclass(frozen=True)
class OpticsSettings:
    """The conditions that a run is evaluated under, and what it is trained under.

    They are clean, each kind of blur at each sigma, and each of `faults` at each of its strengths, in the fault's unit.
    `unit` of sigma is px40 (pixels of the 40x40 input) or um. `via_px` is a side that every crop is resized to first,
    as the study's 40 px; null goes straight to the input. `train` is null, or the lowest and highest of the sigmas that
    each training cell's blur is drawn from, of the kinds `train_kind`. Raises ValueError for an unknown kind, a
    sigma that is not a number from 0 to 4096, or a strength out of the range of its fault.
    """

    kind: str | list[str]
    sigma: float | list[float]
    faults: dict[str, float | list[float]]
    unit: Literal["px40", "um"]
    via_px: int | None
    resize: Resize
    train: list[float] | None
    train_kind: list[Literal["pre", "post"]]

    def __post_init__(self) -> None:
        if self.via_px is not None and not 4 <= self.via_px <= MAX_PX:
            raise ValueError(f"optics.via_px must be null or 4 to {MAX_PX}, but got {self.via_px}")
        if not self._kinds or not set(self._kinds) <= set(KINDS):
            raise ValueError(f"optics.kind must be of {', '.join(KINDS)}, but got {self.kind}")
        if not self._sigmas or not all(0 <= sigma <= MAX_PX for sigma in self._sigmas):
            raise ValueError(f"optics.sigma must be 0 to {MAX_PX}, but got {self.sigma}")
        if unknown := sorted(set(self.faults) - set(FAULTS)):
            raise ValueError(f"optics.faults must be of {', '.join(FAULTS)}, but got {', '.join(unknown)}")
        for condition in self._faulty:
            if not 0 <= condition.sigma <= condition.most:
                allowed = f"0 to {condition.most:g} ({FAULTS[condition.kind].unit})"
                raise ValueError(f"optics.faults.{condition.kind} must be {allowed}, but got {condition.sigma:g}")
        train = self.train
        if train is not None and (len(train) != 2 or not 0 <= train[0] < train[1] <= MAX_PX):
            allowed = f"[LOW, HIGH] with 0 <= LOW < HIGH <= {MAX_PX}"
            raise ValueError(f"optics.train must be null or {allowed}, but got {train}")
        if not self.train_kind or len(set(self.train_kind)) < len(self.train_kind):
            raise ValueError(f"optics.train_kind must be of pre and post, each once, but got {self.train_kind}")

    @property
    def _kinds(self) -> list[str]:
        return self.kind if isinstance(self.kind, list) else [self.kind]

    @property
    def _sigmas(self) -> list[float]:
        return self.sigma if isinstance(self.sigma, list) else [self.sigma]

    @property
    def _faulty(self) -> list[Condition]:
        strengths = {kind: found if isinstance(found, list) else [found] for kind, found in self.faults.items()}
        return [Condition(kind, float(strength)) for kind, found in strengths.items() for strength in found]

    def evaluated(self, field_um: float | None) -> list[Condition]:
        """Clean first, then every other condition once, by kind and sigma: blur, then faults.

        `field_um` is the width of a crop; raises ValueError if sigma is in micrometres and it is None.
        """
        asked = {(kind, self._in_px40(sigma, field_um)) for kind in self._kinds for sigma in self._sigmas}
        blurred = [Condition(kind, sigma) for kind, sigma in sorted(asked) if sigma > 0 and kind != "none"]
        return [CLEAN, *blurred, *faults_among({each for each in self._faulty if each.sigma > 0})]

    def trained(self, field_um: float | None) -> list[Condition]:
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


def optics_label(
    via_px: int | None, resize: Resize, train: Sequence[float] | None, train_kind: Sequence[str], unit: str
) -> str:
    """What lies between the crops and a model, in words: `via 40 px` as in the study."""
    words = [f"via {via_px} px" if via_px else "straight"]
    words += [resize] if resize != "bilinear" else []
    if train is not None:
        low, high = (f"{sigma:g}" for sigma in train)
        words.append(f"trained on {' and '.join(sorted(train_kind))} {low} to {high}{' um' * (unit == 'um')}")
    return ", ".join(words)
