"""What trainings cost: updates, core or GPU seconds, and how often the last validation was the best one."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.run_result import RunResult
from cellpatch.runs.record import Record

# Seconds per cell below which features were read, not computed. Runs on EndoNuke read them in 7e-6 s; the fastest pass
# there, efficientnet_lite0 at 64 px on one core, takes 7e-4 s.
_READ = 1e-4


@dataclass(frozen=True)
class TrainingCost:
    """What a run of a group costs, as medians over its seeds; None where a record does not state it.

    `core_seconds` are wall seconds times threads: of the fit with its pretraining, and for a probe of the one pass that
    made its features too, `pass_core_seconds`. `gpu_seconds` are wall seconds of a fit on one GPU, whatever else it did
    meanwhile. `trainings` are the runs that state their best validation, `best_at_last` those where it was the last.
    """

    updates: float | None
    core_seconds: float | None
    gpu_seconds: float | None
    pass_core_seconds: float | None
    trainings: int
    best_at_last: int


def training_cost(group: SeedGroup, groups: Sequence[SeedGroup]) -> TrainingCost:
    """The cost of a group among all `groups` of its data set, whose probes share the passes that make features."""
    updates = [run.record.updates for run in group.trainings if run.record.updates is not None]
    fit = _median_of_all([_fit_core_seconds(run.record) for run in group.trainings])
    features = _pass_core_seconds(group, groups) if group.of_probes else 0.0
    return TrainingCost(
        updates=median(updates) if updates else None,
        core_seconds=None if fit is None or features is None else fit + features,
        gpu_seconds=_median_of_all([_fit_gpu_seconds(run.record) for run in group.trainings]),
        pass_core_seconds=features if group.of_probes else None,
        trainings=sum(run.record.states_best_validation for run in group.trainings),
        best_at_last=group.best_validations["last"],
    )


def _median_of_all(values: Sequence[float | None]) -> float | None:
    """None if one is not known: a median of some seeds is none of the group."""
    known = [value for value in values if value is not None]
    return median(known) if len(known) == len(values) else None


def machines(runs: Sequence[RunResult]) -> list[str]:
    """The machines, with their threads, that the runs name."""
    return sorted({str(run.record.hardware) for run in runs if run.record.hardware is not None})


def _fit_core_seconds(record: Record) -> float | None:
    """Of the training, and of the pretraining without labels before it, whether this run or another one did that."""
    training, before = _core_seconds(record, record.seconds.train), record.pretraining
    if training is None or before is None:
        return training
    return training + before.cost.all_seconds * before.cost.threads if before.cost.device == "cpu" else None


def _fit_gpu_seconds(record: Record) -> float | None:
    """Wall seconds of a training on one GPU; None on a CPU, for probes, and after a pretraining without labels."""
    hardware, trainer = record.hardware, record.settings.trainer
    on_one = hardware is not None and hardware.gpu is not None and trainer.devices == 1 and trainer.accelerator != "cpu"
    whole = not record.settings.is_probe and record.pretraining is None
    return record.seconds.train if on_one and whole else None


def _core_seconds(record: Record, seconds: float) -> float | None:
    """Seconds times threads; None where the record does not state the threads, and for GPUs and several processes."""
    hardware, trainer = record.hardware, record.settings.trainer
    if hardware is None or trainer.devices != 1 or (hardware.gpu is not None and trainer.accelerator != "cpu"):
        return None
    return seconds * hardware.threads


def _pass_core_seconds(group: SeedGroup, groups: Sequence[SeedGroup]) -> float | None:
    """The longest pass of any run with the same features: the others read what it left. None if all only read."""
    sharing = [run for other in groups if _features_key(other) == _features_key(group) for run in other.trainings]
    passes = [
        seconds
        for run in sharing
        if (embed := run.record.seconds.embed) is not None
        and embed > _READ * sum(sum(part.values()) for part in run.record.counts.values())
        and (seconds := _core_seconds(run.record, embed)) is not None
    ]
    return max(passes, default=None)


def _features_key(group: SeedGroup) -> tuple[object, ...]:
    place = group.coordinates
    copies = group.runs[0].record.settings.adapt.augmented_copies
    return place.data, place.field_um, place.model, place.input_px, place.optics, copies
