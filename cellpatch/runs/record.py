"""A finished run's record: what its record.json states, read and checked once."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cellpatch.data.split_copies import LeftOut
from cellpatch.data.splitter import HeldOutFold
from cellpatch.data.store.intake import Intake
from cellpatch.data.store.reader import Geometry
from cellpatch.metrics.classification import Scores
from cellpatch.metrics.prior import ClassPrior
from cellpatch.metrics.validations import BestValidation
from cellpatch.optics.conditions import CLEAN
from cellpatch.pretraining.facts import PretrainingFacts
from cellpatch.runs import legacy
from cellpatch.runs.cards import FeatureCard, Hardware, LatencyCard
from cellpatch.runs.cohorts import Cohort, nested_cohorts
from cellpatch.runs.condition_scores import ConditionScores, nested_rows
from cellpatch.runs.record_checks import check_cohorts, check_json, check_parts, check_turned
from cellpatch.runs.settings import Settings, first_problem, parse_settings
from cellpatch.runs.turned import TurnedScores, nested_turned
from cellpatch.runtime.json_types import Json


@dataclass(frozen=True)
class SourceFacts:
    """Where the cells come from; `layout` is that of their annotations, where there is one."""

    synthetic: bool
    licence: str | None = None
    layout: str | None = None


@dataclass(frozen=True)
class DataFacts:
    """The cells of a run: a fingerprint of all of them, their source, their crops' geometry, what was left out."""

    fingerprint: str
    source: SourceFacts
    geometry: Geometry | None = None  # versions before 0.3.0 did not state it
    intake: Intake | None = None  # None: the version did not count


@dataclass(frozen=True)
class TrainingCode:
    """The code that trained a run: its number, and a fingerprint of its source files.

    Models have fingerprints of their own. `shared` is that of the files that all trainings of a kind share (by
    gradients, or of probes); None in runs before 0.4.0. Two codes are equal by the others.
    """

    number: int
    fingerprint: str
    shared: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class AuditFacts:
    """What readers of a run ask of its split: what assigned the cells, and near copies of test cells by part.

    `held_out_fold` is None for a split without folds. `val_limit` is the most validation cells a class,
    `train_available` the training cells by class before the flag_limit. `near_copies_of_test_crops` are in the part,
    `left_out_as_near_copies` are not.
    """

    by: str
    val_limit: int | None = None
    train_available: dict[str, int] | None = None
    held_out_fold: HeldOutFold | None = None
    near_copies_of_test_crops: dict[str, int] | None = None
    left_out_as_near_copies: dict[str, LeftOut] | None = None


@dataclass(frozen=True)
class NetworkSize:
    """Parameters of a network, and millions of multiply-accumulates of its backbone for one cell."""

    parameters: int
    mmac: float


@dataclass(frozen=True)
class Seconds:
    """Seconds of a run's parts; `all` is None for what was not timed as a whole."""

    train: float
    evaluate: float = 0.0
    embed: float | None = None
    all: float | None = None


@dataclass(frozen=True)
class GitState:
    """Commit of the code, and whether it was changed since."""

    commit: str
    dirty: bool


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything that a run's record states.

    `counts` are cells by part (train, validation, test) and class. `weights` is the fingerprint of the published
    weights. `best_epoch`, `epochs`, `best_update`, `updates` and `history` are None for probes, `probe` is what was
    chosen for one. `pretraining` is None without pretraining on the study's own crops. Versions before 0.4.0 did not
    count updates. `best_validation` states whether the best validation was the first or last; None if it was neither,
    or is not known. `prior` holds the class frequencies that the stored network's probabilities presume; None for
    versions before 0.4.0. `training_code` is None for runs of 0.3.0 and before. `logged` names the trackers that show
    the run, `warnings` what failed beside it, such as a tracker; `size` and `logged` are None for runs before 0.6.0.
    `cohorts` are other labelled cells that the run was evaluated on, `turned` its scores with test-time augmentation.
    """

    run: str
    identity: str
    cellpatch: str
    settings: Settings
    classes: list[str]
    data: DataFacts
    weights: str | None
    counts: dict[str, dict[str, int]]
    temperature: float
    metrics: Sequence[ConditionScores]
    seconds: Seconds
    files: dict[str, str] = field(default_factory=dict)
    val_macro_f1: float | None = None
    best_epoch: int | None = None
    epochs: float | None = None
    best_update: int | None = None
    updates: int | None = None
    best_validation: BestValidation | None = None
    prior: ClassPrior | None = None
    precision: str | None = None
    history: list[dict[str, float]] | None = None
    probe: Json | None = None
    pretraining: PretrainingFacts | None = None
    audit: AuditFacts | None = None
    training_code: TrainingCode | None = None
    hardware: Hardware | None = None
    git: GitState | None = None
    size: NetworkSize | None = None
    logged: list[str] | None = None
    warnings: list[str] = field(default_factory=list)
    latency: LatencyCard | None = None
    features: FeatureCard | None = None
    cohorts: list[Cohort] = field(default_factory=list)
    turned: TurnedScores | None = None

    @property
    def pretrain_seconds(self) -> float | None:
        """Seconds that the pretraining took, also if an earlier run did it; None without one."""
        return None if self.pretraining is None else self.pretraining.cost.all_seconds

    @property
    def n_train(self) -> int:
        """Training cells of all classes."""
        return sum(self.counts["train"].values())

    @property
    def states_best_validation(self) -> bool:
        """Whether it is a training by gradients of a version that records which validation was the best."""
        return self.updates is not None or self.best_validation is not None

    @property
    def divides_specimens(self) -> bool:
        """Whether cells were split at random, so that those of one specimen are in training and test."""
        return self.audit is not None and self.audit.by == "cell"

    @property
    def clean(self) -> Scores:
        """The scores on clean test cells."""
        return next(row.scores for row in self.metrics if row.condition == CLEAN)


def parse_record(stored: Json, where: str) -> Record:
    """Check a whole record and give it typed, whichever version wrote it; nothing that it names is built or imported.

    Raises ValueError that names `where`, the key and what came.
    """
    config = stored.get("config")
    if not isinstance(config, dict):
        raise ValueError(f"{where}: config must be an object, but got {type(config).__name__}")
    if "training_code" not in stored:
        config = legacy.to_current(config)
    settings = parse_settings(config, where)
    try:
        record: Record = _ADAPTER.validate_python(
            stored
            | {"settings": settings, "metrics": nested_rows(stored.get("metrics"))}
            | {"cohorts": nested_cohorts(stored.get("cohorts", [])), "turned": nested_turned(stored.get("turned"))}
        )
        geometry = [] if record.data.geometry is None else [record.data.geometry.side_px]
        sides_px = [*geometry, settings.model.backbone.input_px]
        rows = [(row.condition, row.scores) for row in record.metrics]
        check_parts(record.classes, record.counts, record.temperature, sides_px, rows)
        check_cohorts(record.cohorts, record.classes, record.files)
        if record.turned is not None:
            check_turned(record.turned, record.metrics, record.classes, record.files)
    except ValidationError as error:
        raise ValueError(f"{where}: {first_problem(error)}") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return record


def seal(record: Mapping[str, Any]) -> str:
    """A record as JSON with its checksum."""
    return json.dumps({**record, "sha256": _checksum(record)}, indent=1, ensure_ascii=False)


def unseal(text: str, where: str) -> Json:
    """The record in a sealed text; raises ValueError with `where` if it was changed since."""
    try:
        record = json.loads(text)
        check_json(record)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} cannot be read ({error})") from error
    if not isinstance(record, dict) or record.pop("sha256", None) != _checksum(record):
        raise ValueError(f"{where} is not as it was written: it was changed, or an older version wrote it")
    return record


def _checksum(record: Mapping[str, Any]) -> str:
    """sha256 of the content, whatever the order of its keys: it finds accidents, it does not stop a forger."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


_ADAPTER = TypeAdapter(Record)  # a schema, built once
