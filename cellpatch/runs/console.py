"""What a run prints."""

from typing import Any

from rich.console import Console
from rich.table import Table


def print_table(name: str, metrics: dict[str, Any], audit: dict[str, Any]) -> None:
    """Each class with its cells and scores, then the run's totals."""
    table = Table(title=name, title_justify="left")
    table.add_column("class")
    for column in ("n_train", "n_test", "precision", "recall", "f1"):
        table.add_column(column, justify="right")
    for label, row in metrics["per_class"].items():
        scores = ["-" if row[key] is None else f"{row[key]:.3f}" for key in ("precision", "recall", "f1")]
        table.add_row(label, str(audit["cells"]["train"][label]), str(row["n_test"]), *scores)
    table.add_section()
    n_train = sum(audit["cells"]["train"].values())
    table.add_row("all", str(n_train), str(metrics["n_test"]), "", "", f"{metrics['macro_f1']:.3f} macro")
    console = Console()
    console.print(table, markup=False)
    console.print(
        f"accuracy {metrics['accuracy']:.4f}  balanced accuracy {metrics['balanced_accuracy']:.4f}  "
        f"macro-F1 {metrics['macro_f1']:.4f}  ECE {metrics['ece']:.4f}"
    )


def print_conditions(name: str, metrics: list[dict[str, Any]]) -> None:
    """One line a condition beside the clean one."""
    for row in metrics:
        Console().print(
            f"{name}  {row['kind']} sigma {row['sigma']:g}: accuracy {row['accuracy']:.4f}  "
            f"balanced accuracy {row['balanced_accuracy']:.4f}  macro-F1 {row['macro_f1']:.4f}",
            markup=False,
            soft_wrap=True,
        )
