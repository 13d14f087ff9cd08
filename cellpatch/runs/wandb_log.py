"""What a person sees of a run: the closing table, the W&B page. Nothing here is read back."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cellpatch.config.instantiate import build
from cellpatch.data.dataset import CellDataset

_ERRORS_SHOWN = 32


@contextmanager
def logger_of(
    settings: dict[str, Any], config: dict[str, Any], folder: Path, name: str, group: str | None
) -> Iterator[Any]:
    """The configured logger for one run, finished on the way out; None without one."""
    if not settings:
        yield None
        return
    import wandb  # a second to import, and logger=none does without

    quiet = wandb.Settings(silent=True)
    logger = build(settings, name=name, save_dir=str(folder), group=group, settings=quiet)
    try:
        logger.log_hyperparams(config)
        yield logger
    finally:
        wandb.finish()


def log_review(
    logger: Any, metrics: Sequence[dict[str, Any]], study: CellDataset, probabilities: Float[np.ndarray, "n classes"]
) -> None:
    """Send to W&B: metrics of clean test cells, tables of all conditions and of classes, the confusion matrix, cells.

    `metrics` are those of each condition, the clean one first; cells are the surest errors and one right of each class.
    """
    if logger is None:
        return
    import wandb

    clean, classes, labels = metrics[0], study.classes, study.test_labels
    predicted, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-sure[wrong])][:_ERRORS_SHOWN]
    right = [np.flatnonzero((predicted == code) & (labels == code))[:1] for code in range(len(classes))]
    taken = [f"{classes[labels[i]]} taken for {classes[predicted[i]]} ({sure[i]:.2f})" for i in worst]
    examples = np.concatenate(right)
    confusion = wandb.plot.confusion_matrix(y_true=labels.tolist(), preds=predicted.tolist(), class_names=list(classes))
    of_class = pd.DataFrame.from_dict(clean["per_class"], orient="index").rename_axis("class").reset_index()
    logger.experiment.log(
        {f"test/{key}": value for key, value in clean.items() if isinstance(value, float)}
        | {"blur": _blur(metrics), "per_class": wandb.Table(dataframe=of_class), "confusion": confusion}
        | {"misclassified": _images(study, worst, taken)}
        | {"examples": _images(study, examples, [classes[labels[i]] for i in examples])}
    )


def _blur(metrics: Sequence[dict[str, Any]]) -> Any:
    import wandb

    return wandb.Table(
        dataframe=pd.DataFrame(metrics)[["kind", "sigma", "accuracy", "balanced_accuracy", "macro_f1", "ece"]]
    )


def log_conditions(run: Path, config: dict[str, Any], metrics: Sequence[dict[str, Any]]) -> None:
    """Send the table of all conditions of a run that was evaluated under more, as a run beside it of job type blur."""
    with _beside(run, config, "blur", {}) as logger:
        if logger is not None:
            logger.experiment.log({"blur": _blur(metrics)})


@contextmanager
def _beside(run: Path, config: dict[str, Any], job_type: str, facts: dict[str, Any]) -> Iterator[Any]:
    """The logger of what is told of a stored run later, under its name; None without one."""
    settings = config["logger"]
    about = {"run": run.name, "model": config["model"]["name"]}
    with logger_of(settings and settings | {"job_type": job_type}, about | facts, run, run.name, None) as logger:
        yield logger


def log_latency(run: Path, config: dict[str, Any], card: dict[str, Any]) -> None:
    """Send a stored run's latency card to where the run logged, as a run beside it: its name, job type latency."""
    with _beside(run, config, "latency", {"hardware": card["hardware"]}) as logger:
        if logger is None:
            return
        import wandb

        rows = pd.DataFrame([{"engine": engine} | row for engine, rows in card["engines"].items() for row in rows])
        least = rows.groupby("engine")["ms"].min()
        logger.experiment.log({f"latency/{engine}_ms": ms for engine, ms in least.items()})
        logger.experiment.log({"latency": wandb.Table(dataframe=rows)})


def _images(study: CellDataset, cells: Int[np.ndarray, " n"], captions: Sequence[str]) -> list[Any]:
    import wandb

    margin, side = study.store.geometry.margin_px, study.store.geometry.side_px
    crops = study.store.crops(study.split.test[cells])[:, margin : side - margin, margin : side - margin]
    return [wandb.Image(crop, caption=caption) for crop, caption in zip(crops, captions, strict=True)]
