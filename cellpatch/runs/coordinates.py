"""Where a run stands in a grid: on which data, which model, how adapted, at which limit and seed."""

from dataclasses import dataclass, fields


def method_of(adapt: str) -> str:
    """An adaptation without its teacher: `distil` of `distil dinov2_s`."""
    return adapt.partition(" ")[0]


def learns_all_weights(adapt: str) -> bool:
    """Whether an adaptation takes no published weights into the network: what the property `own_weights` states."""
    return method_of(adapt) in ("scratch", "mim", "distil")


@dataclass(frozen=True, order=True)
class CurveCoordinates:
    """What the runs of one learning curve share.

    `field_um` is the side of a crop that was asked for, 0 where the source of the cells takes no `data.field_um`.
    """

    data: str
    field_um: float
    model: str
    adapt: str  # with the teacher's name after `distil`
    input_px: int
    optics: str  # as `OpticsSettings.label`

    @property
    def method(self) -> str:
        """The adaptation without its teacher."""
        return method_of(self.adapt)

    @property
    def from_scratch(self) -> bool:
        """Whether training starts from random values, with labels alone."""
        return self.adapt == "scratch"

    @property
    def own_weights(self) -> bool:
        """Whether all weights were learnt on the study's cells: from scratch, or after pretraining on their crops.

        A distilled network is of these: its teacher has published weights, it has none.
        """
        return learns_all_weights(self.adapt)


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


FIELD = "field_um"  # a column of its own only where runs of several fields meet
GRID_KEYS = [field.name for field in fields(RunCoordinates) if field.name != FIELD]
