"""What a run prints before and after its training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cellpatch.metrics.classification import Scores
from cellpatch.metrics.validations import BestValidation
from cellpatch.runs.record import ConditionScores


@dataclass(frozen=True)
class TrainingPlan:
    """What is trained, on which cells, and where it will lie.

    `source`, `model` and `budget` are words: where the cells come from, the network, how long the training lasts.
    `cells` are by part and class, `specimens` by part.
    """

    folder: Path
    source: str
    cells: Mapping[str, Mapping[str, int]]
    specimens: Mapping[str, int]
    model: str
    budget: str


def print_plan(plan: TrainingPlan) -> None:
    """One screen before a training."""
    table = Table(title=plan.folder.name, title_justify="left")
    table.add_column("class")
    for part in plan.cells:
        table.add_column(part, justify="right")
    for label in next(iter(plan.cells.values())):
        table.add_row(label, *(str(counts[label]) for counts in plan.cells.values()))
    table.add_section()
    table.add_row("all cells", *(str(sum(counts.values())) for counts in plan.cells.values()))
    table.add_row("specimens", *(str(plan.specimens[part]) for part in plan.cells))
    console = Console()
    console.print(table, markup=False)
    lines = [f"cells: {plan.source}", f"model: {plan.model}", f"training: {plan.budget}", f"stored in {plan.folder}"]
    console.print("\n".join(lines), markup=False, soft_wrap=True, highlight=False)


def print_table(name: str, scores: Scores, n_train: Mapping[str, int]) -> None:
    """Each class with its training cells and scores, then the run's totals."""
    table = Table(title=name, title_justify="left")
    table.add_column("class")
    for column in ("n_train", "n_test", "precision", "recall", "f1"):
        table.add_column(column, justify="right")
    for label, row in scores.per_class.items():
        cells = ["-" if value is None else f"{value:.3f}" for value in (row.precision, row.recall, row.f1)]
        table.add_row(label, str(n_train[label]), str(row.n_test), *cells)
    table.add_section()
    table.add_row("all", str(sum(n_train.values())), str(scores.n_test), "", "", f"{scores.macro_f1:.3f} macro")
    console = Console()
    console.print(table, markup=False)
    console.print(
        f"accuracy {scores.accuracy:.4f}  balanced accuracy {scores.balanced_accuracy:.4f}  "
        f"macro-F1 {scores.macro_f1:.4f}  ECE {scores.ece:.4f}"
    )


def print_best_validation(name: str, best: BestValidation | None) -> None:
    """Report that a training kept its last or first validation; nothing if it kept another, or had none."""
    words = {
        "last": "its best validation was the last: it may be undertrained, more adapt.updates may score higher",
        "first": "its best validation was the first: training did not improve on it, a lower adapt.lr may",
    }
    if best is not None:
        Console().print(f"{name}: {words[best]}", markup=False, soft_wrap=True)


def print_conditions(name: str, rows: Sequence[ConditionScores]) -> None:
    """One line a condition."""
    for row in rows:
        scores = row.scores
        Console().print(
            f"{name}  {row.condition.kind} sigma {row.condition.sigma:g}: accuracy {scores.accuracy:.4f}  "
            f"balanced accuracy {scores.balanced_accuracy:.4f}  macro-F1 {scores.macro_f1:.4f}",
            markup=False,
            soft_wrap=True,
        )
