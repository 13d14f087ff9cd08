"""What trackers show of a record: its settings and facts, its scores as numbers with one name each."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from cellpatch.metrics.degradation import slope
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.condition_scores import ConditionScores
from cellpatch.runs.record import Record
from cellpatch.runtime.json_types import Json

BLURRED = ("accuracy", "balanced_accuracy", "macro_f1", "ece")  # scores that are shown of each condition


def hyperparameters(record: Record) -> Json:
    """The settings of a run as its config has them, and beside them facts that runs are compared by."""
    counts = {part: sum(cells.values()) for part, cells in record.counts.items()}
    facts: Json = {
        "label": f"{record.settings.model.name} {record.settings.adapt.label}",
        "run": record.run,
        "identity": record.identity,
        "cellpatch": record.cellpatch,
        "training_code": None if record.training_code is None else record.training_code.number,
        "data_fingerprint": record.data.fingerprint,
        "synthetic": record.data.source.synthetic,
        "weights_fingerprint": record.weights,
        "n_classes": len(record.classes),
        **{f"n_{part}": n for part, n in counts.items()},
        "split_by": None if record.audit is None else record.audit.by,
        "parameters": None if record.size is None else record.size.parameters,
        "mmac": None if record.size is None else record.size.mmac,
        "precision": record.precision,
        "hardware": None if record.hardware is None else str(record.hardware),
        "commit": None if record.git is None else record.git.commit,
    }
    return {**record.settings.config, **{key: value for key, value in facts.items() if value is not None}}


def numbers(record: Record) -> dict[str, float]:
    """Every number of a finished run: scores of test cells under each condition, of the kept validation, costs.

    Names are such as test/macro_f1, blur/post/1.6/macro_f1, slope/post/macro_f1, best/val_macro_f1, seconds/train,
    latency/eager_ms. What a run does not have is left out.
    """
    found = {f"test/{name}": value for name, value in asdict(record.clean).items() if isinstance(value, int | float)}
    for row in record.metrics:
        if row.condition != CLEAN:
            sort = "fault" if row.condition.is_fault else "blur"
            at = f"{sort}/{row.condition.kind}/{row.condition.sigma:g}"
            found |= {f"{at}/{name}": getattr(row.scores, name) for name in BLURRED}
    found |= slopes(record)
    best = {
        "val_macro_f1": record.val_macro_f1,
        "epoch": record.best_epoch,
        "update": record.best_update,
        "updates": record.updates,
    }
    found |= {f"best/{name}": value for name, value in best.items() if value is not None}
    found |= {f"seconds/{name}": value for name, value in asdict(record.seconds).items() if value is not None}
    if record.latency is not None:
        found |= {f"latency/{name}_ms": min(row.ms for row in rows) for name, rows in record.latency.engines.items()}
    return found | {"temperature": record.temperature}


def slopes(record: Record) -> dict[str, float]:
    """Slopes of scores against log2(1 + sigma), by kind of blur, the clean score included."""
    by_kind: dict[str, list[ConditionScores]] = {}
    for row in record.metrics:
        if row.condition.is_blur:
            by_kind.setdefault(row.condition.kind, []).append(row)
    found = {}
    for kind, rows in by_kind.items():
        rising = sorted(rows, key=lambda row: row.condition.sigma)
        sigmas = [0.0, *(row.condition.sigma for row in rising)]
        for name in BLURRED[:3]:
            scores = [getattr(record.clean, name), *(getattr(row.scores, name) for row in rising)]
            found[f"slope/{kind}/{name}"] = float(slope(sigmas, np.array(scores)))
    return found


def curve_row(row: Mapping[str, float]) -> dict[str, float]:
    """A row of a training's history without `update`, which is the axis, and `epochs`, which rise with it."""
    return {name: value for name, value in row.items() if name not in ("update", "epochs")}
