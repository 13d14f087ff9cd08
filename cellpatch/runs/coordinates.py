"""Where a run stands in a grid: on which data, which model, how adapted, at which limit and seed."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, order=True)
class CurveCoordinates:
    """What the runs of one learning curve share."""

    data: str
    model: str
    adapt: str
    input_px: int
    optics: str  # as `OpticsSettings.label`

    @property
    def from_scratch(self) -> bool:
        """Whether no published weights are used."""
        return self.adapt == "scratch"


@dataclass(frozen=True, order=True)
class GroupCoordinates(CurveCoordinates):
    """What runs that differ in their seed alone share."""

    flag_limit: int

    @property
    def curve(self) -> CurveCoordinates:
        """The same without the limit."""
        return CurveCoordinates(*(getattr(self, field.name) for field in fields(CurveCoordinates)))


@dataclass(frozen=True, order=True)
class RunCoordinates(GroupCoordinates):
    """One run's place in a grid."""

    seed: int

    @property
    def group(self) -> GroupCoordinates:
        """The same without the seed."""
        return GroupCoordinates(*(getattr(self, field.name) for field in fields(GroupCoordinates)))


GRID_KEYS = [field.name for field in fields(RunCoordinates)]
