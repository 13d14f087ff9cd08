"""A W&B workspace and report of uploaded runs: curves, macro-F1 by limit, blur, confusion, latency, errors.

    wandb sync runs/*/wandb/offline-run-*          # upload; runs are offline until then
    cellpatch dashboard ENTITY [PROJECT]          # or: make dashboard ENTITY=...

Needs an account: `wandb login`. Without one, `wandb leet` shows offline runs in a terminal, and `make report` makes a
page of all that matters here.
"""

import argparse
import sys
from typing import Any

import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

NAME = "cellpatch"
TABLES = ("blur", "per_class", "confusion_table", "latency")
ABOUT = """Scores are of test cells. Training used none of their specimens. Intervals, paired comparisons and the
recommendation are in `make report`: W&B shows runs, it resamples nothing."""
WITHOUT = """not logged in to W&B, so nothing was made. With an account:
    wandb login
    wandb sync runs/*/wandb/offline-run-*
    cellpatch dashboard ENTITY
Without one: `wandb leet` shows offline runs in a terminal, `make report` makes one page of them."""


def panels() -> dict[str, list[Any]]:
    """Panels by section, of the keys that runs log."""
    limit, score = wr.Config("flag_limit"), wr.SummaryMetric("test/macro_f1")
    axes = [wr.ParallelCoordinatesPlotColumn(metric) for metric in (limit, wr.Config("seed"), score)]
    return {
        "Test": [
            wr.BarPlot(title="macro-F1, test", metrics=[score], max_bars_to_show=50),
            wr.ScatterPlot(title="macro-F1 against flag_limit", x=limit, y=score, log_x=True),
            wr.ParallelCoordinatesPlot(title="what correlates with macro-F1", columns=axes),
        ],
        "Training": [wr.LinePlot(title=key, x="epoch", y=[key]) for key in ("train_loss", "val_loss", "val_macro_f1")],
        "Blur, classes, confusions, latency": [wr.WeavePanelSummaryTable(table_name=key) for key in TABLES],
        "Cells": [wr.MediaBrowser(title=key, media_keys=[key]) for key in ("misclassified", "examples")],
    }


def workspace(entity: str, project: str) -> ws.Workspace:
    """What `make dashboard` saves: a section each."""
    sections = [ws.Section(name=name, panels=found, is_open=True) for name, found in panels().items()]
    return ws.Workspace(entity=entity, project=project, name=NAME, sections=sections)


def report(entity: str, project: str) -> wr.Report:
    """The same as a page that can be shared."""
    runs = [wr.Runset(entity=entity, project=project)]
    blocks: list[Any] = [wr.MarkdownBlock(ABOUT)]
    for name, found in panels().items():
        blocks += [wr.H2(name), wr.PanelGrid(runsets=runs, panels=found)]
    return wr.Report(entity=entity, project=project, title=NAME, blocks=blocks)


def main() -> None:
    parser = argparse.ArgumentParser(prog="cellpatch dashboard", description="Make a W&B dashboard.")
    parser.add_argument("entity", nargs="?", help="your W&B user or team; without one: your default")
    parser.add_argument("project", nargs="?", default="cellpatch")
    options = parser.parse_args()
    if not wandb.api.api_key:
        sys.exit(WITHOUT)
    entity = options.entity or str(wandb.Api().default_entity)
    for made in (workspace(entity, options.project), report(entity, options.project)):
        made.save()
        print(made.url)


if __name__ == "__main__":
    main()
