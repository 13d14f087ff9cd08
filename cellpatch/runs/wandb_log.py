"""What Weights & Biases shows of a run. Nothing here is read back."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cellpatch.data.dataset import CellDataset
from cellpatch.runs.cards import LatencyCard
from cellpatch.runs.record import ConditionScores
from cellpatch.runs.settings import Settings

_ERRORS_SHOWN = 32


@dataclass(frozen=True)
class WandbSettings:
    """Arguments of Lightning's WandbLogger, as conf/logger states them."""

    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, settings: Settings) -> "WandbSettings | None":
        """Those of a stored run; None if it had no logger."""
        arguments = {key: value for key, value in settings.logger.items() if key != "component"}
        return cls(arguments) if settings.logger else None


@contextmanager
def wandb_logger(
    logger: WandbSettings | None,
    folder: Path,
    name: str,
    hyperparameters: Mapping[str, Any],
    **more: str | None,
) -> Iterator[Any]:
    """A WandbLogger that writes into `folder`, finished on the way out; None without settings.

    `more` are further arguments: `group`, `job_type`.
    """
    if logger is None:
        yield None
        return
    import wandb  # a second to import, and logger=none does without
    from pytorch_lightning.loggers import WandbLogger

    quiet = wandb.Settings(silent=True)
    arguments = {**logger.arguments, **more, "name": name, "save_dir": str(folder), "settings": quiet}
    try:
        opened = WandbLogger(**arguments)
        opened._wandb_init.pop("anonymous", None)  # Lightning passes None on, and W&B warns of it in each run
        opened.log_hyperparams(dict(hyperparameters))
        yield opened
    finally:
        wandb.finish()


def log_review(
    logger: Any,
    metrics: Sequence[ConditionScores],
    dataset: CellDataset,
    probabilities: Float[np.ndarray, "n classes"],
) -> None:
    """Send scores of clean test cells, tables of all conditions and of classes, the confusion matrix, example cells.

    `metrics` are those of each condition, the clean one first; the cells are the errors of highest confidence and one
    correct cell of each class.
    """
    if logger is None:
        return
    import wandb

    clean, classes, labels = metrics[0].scores, dataset.classes, dataset.test_labels
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong])][:_ERRORS_SHOWN]
    correct = [np.flatnonzero((predicted == code) & (labels == code))[:1] for code in range(len(classes))]
    captions = [f"{classes[labels[i]]} taken for {classes[predicted[i]]} ({confidence[i]:.2f})" for i in worst]
    examples = np.concatenate(correct)
    confusion = wandb.plot.confusion_matrix(y_true=labels.tolist(), preds=predicted.tolist(), class_names=list(classes))
    per_class = pd.DataFrame([{"class": name} | asdict(row) for name, row in clean.per_class.items()])
    numbers = {name: value for name, value in asdict(clean).items() if isinstance(value, float)}
    logger.experiment.log(
        {f"test/{name}": value for name, value in numbers.items()}
        | {"blur": _blur_table(metrics), "per_class": wandb.Table(dataframe=per_class), "confusion": confusion}
        | {"misclassified": _images(dataset, worst, captions)}
        | {"examples": _images(dataset, examples, [classes[labels[i]] for i in examples])}
    )


def log_conditions(folder: Path, model: str, logger: WandbSettings | None, metrics: Sequence[ConditionScores]) -> None:
    """Send the table of all conditions of a run that was evaluated under more, as a run beside it of job type blur."""
    with _beside(folder, logger, "blur", {"model": model}) as opened:
        if opened is not None:
            opened.experiment.log({"blur": _blur_table(metrics)})


def log_latency(folder: Path, model: str, logger: WandbSettings | None, card: LatencyCard) -> None:
    """Send a stored run's latency card to where the run logged, as a run beside it of job type latency."""
    with _beside(folder, logger, "latency", {"model": model, "hardware": asdict(card.hardware)}) as opened:
        if opened is None:
            return
        import wandb

        rows = [{"engine": engine} | asdict(row) for engine, timings in card.engines.items() for row in timings]
        table = pd.DataFrame(rows).dropna(axis="columns", how="all")
        fastest = table.groupby("engine")["ms"].min()
        opened.experiment.log({f"latency/{engine}_ms": ms for engine, ms in fastest.items()})
        opened.experiment.log({"latency": wandb.Table(dataframe=table)})


@contextmanager
def _beside(folder: Path, logger: WandbSettings | None, job_type: str, facts: Mapping[str, Any]) -> Iterator[Any]:
    """The logger of a later measurement of a stored run, under the run's name; None without one."""
    about = {"run": folder.name, **facts}
    with wandb_logger(logger, folder, folder.name, about, group=None, job_type=job_type) as opened:
        yield opened


def _blur_table(metrics: Sequence[ConditionScores]) -> Any:
    import wandb

    columns = ("accuracy", "balanced_accuracy", "macro_f1", "ece")
    rows = [asdict(row.condition) | {name: getattr(row.scores, name) for name in columns} for row in metrics]
    return wandb.Table(dataframe=pd.DataFrame(rows))


def _images(dataset: CellDataset, cells: Int[np.ndarray, " n"], captions: Sequence[str]) -> list[Any]:
    import wandb

    margin, side = dataset.store.geometry.margin_px, dataset.store.geometry.side_px
    crops = dataset.store.crops(dataset.split.test[cells])[:, margin : side - margin, margin : side - margin]
    return [wandb.Image(crop, caption=caption) for crop, caption in zip(crops, captions, strict=True)]
