"""What a finished run prints."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from cellpatch.metrics.classification import Scores
from cellpatch.metrics.scores import WIDESPREAD
from cellpatch.metrics.validations import BestValidation
from cellpatch.runs.condition_scores import ConditionScores


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


def print_few_specimens(name: str, scores: Scores, specimens: int) -> None:
    """Report that the test specimens are few; nothing if there are at least WIDESPREAD."""
    if specimens < WIDESPREAD:
        few = f"{scores.n_test} test cells of {specimens} specimen{'s' * (specimens != 1)} are few"
        text = f"{name}: {few}, so models may differ by chance: cellpatch report RUNS gives intervals"
        Console().print(text, markup=False, soft_wrap=True)


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
            f"{name}  {row.condition.words}: accuracy {scores.accuracy:.4f}  "
            f"balanced accuracy {scores.balanced_accuracy:.4f}  macro-F1 {scores.macro_f1:.4f}",
            markup=False,
            soft_wrap=True,
        )
