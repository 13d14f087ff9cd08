"""One screen before a training: what is trained, on which cells, how long, and where it will be stored."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from cellpatch.data.dataset import CellDataset
from cellpatch.data.splitter import SplitAudit
from cellpatch.probing.probes import Probe
from cellpatch.runs.experiment import Experiment
from cellpatch.runs.size import network_size
from cellpatch.runtime.device import has_fast_bfloat16
from cellpatch.runtime.numbers import rounded
from cellpatch.training.budget import plan_budget


def print_preview(experiment: Experiment, dataset: CellDataset, folder: Path) -> None:
    """Print the screen; `folder` is the run's."""
    console = Console()
    console.print(_cells_table(folder.name, dataset.split.audit), markup=False)
    lines = [
        f"cells: {_source(dataset)}",
        f"model: {_network(experiment)}",
        f"training: {_budget(experiment, len(dataset.split.train))}",
        *_unreached(experiment.flag_limit, dataset.split.audit),
        *_slow_precision(experiment),
        f"will be stored in {folder}",
    ]
    console.print("\n".join(lines), markup=False, soft_wrap=True, highlight=False)


def _cells_table(title: str, audit: SplitAudit) -> Table:
    """Cells by class and part, and specimens by part."""
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for part in audit.cells:
        table.add_column(part, justify="right")
    for label in audit.cells["train"]:
        table.add_row(label, *(str(counts[label]) for counts in audit.cells.values()))
    table.add_section()
    table.add_row("all cells", *(str(sum(counts.values())) for counts in audit.cells.values()))
    table.add_row("specimens", *(str(audit.specimens[part]) for part in audit.cells))
    return table


def _unreached(limit: int, audit: SplitAudit) -> list[str]:
    """A line if no class has as many training cells as the limit allows."""
    most = max(audit.cells["train"].values())
    if most >= limit:
        return []
    return [f"flag_limit: no class has {limit} training cells, so every limit from {most} on trains on the same cells"]


def _slow_precision(experiment: Experiment) -> list[str]:
    """A line if the training multiplies in 16 bits on a CPU that does so slowly."""
    trainer = experiment.trainer
    on_cpu = trainer.device.type == "cpu" and not isinstance(experiment.adaptation, Probe)
    if not on_cpu or trainer.resolved_precision != "bf16-mixed" or has_fast_bfloat16():
        return []
    return ["precision: this CPU has no fast bf16: trainer.precision=32-true may be ten times as fast"]


def _source(dataset: CellDataset) -> str:
    manifest = dataset.store.manifest
    totals = manifest.intake.totals().items()
    doubts = "".join(f"; {count} {name.replace('_', ' ')}" for name, count in totals if count)
    return f"{manifest.cells} of {len(manifest.classes)} classes{doubts}, in {dataset.store.root}"


def _network(experiment: Experiment) -> str:
    model = experiment.model
    size = f"{rounded(network_size(model, {}).parameters / 1e6)} M parameters, input {model.input_px} px"
    return f"{model.name} by {experiment.settings.adapt.label}, {size}"


def _budget(experiment: Experiment, n_train: int) -> str:
    adaptation = experiment.adaptation
    if isinstance(adaptation, Probe):
        return "a probe on features of the frozen backbone"
    budget = plan_budget(adaptation, experiment.trainer, n_train)
    return (
        f"{budget.updates} updates of {adaptation.batch_size} cells ({rounded(budget.epochs)} passes), validated "
        f"{budget.rounds} times; ends after {adaptation.patience} validations without a better one"
    )
