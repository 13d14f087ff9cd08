"""A W&B workspace and report of uploaded runs: scaling curves, blur, cost, the table of runs, confusion, errors.

    wandb sync runs/*/wandb/offline-run-*          # upload; runs are offline until then
    cellpatch dashboard ENTITY [PROJECT]          # or: make dashboard ENTITY=...
    cellpatch dashboard --spec dashboard.json      # the workspace as JSON: needs no account

Needs an account: `wandb login`. Without one, `wandb leet` shows offline runs in a terminal, and `make report` makes a
page of all that matters here.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from omegaconf import OmegaConf

from cellpatch.config.conf import CONF
from cellpatch.runtime.atomic_io import atomic_write

NAME = "cellpatch"
SIGMAS = OmegaConf.load(CONF / "experiment" / "paper.yaml").optics.sigma  # a level that no run has leaves a bar out
KINDS = ("post", "pre")  # those of the study
TABLES = ("tables/per_class", "tables/confusion", "tables/blur", "tables/latency")
COLUMNS = ("test/macro_f1", "test/balanced_accuracy", "best/val_macro_f1", "slope/post/macro_f1", "seconds/train")
ABOUT = """Scores are of test cells. Training used none of their specimens. Intervals, paired comparisons and the
recommendation are in `make report`: W&B shows runs, it resamples nothing. Bands are the spread over seeds."""
WITHOUT = """not logged in to W&B, so nothing was made. With an account:
    wandb login
    wandb sync runs/*/wandb/offline-run-*
    cellpatch dashboard ENTITY
Without one: `wandb leet` shows offline runs in a terminal, `make report` makes one page of them."""


def panels() -> dict[str, list[Any]]:
    """Panels by section, of the keys that runs log."""
    return {
        "Scaling: score against annotations per class": [_scaling("test/macro_f1"), _scaling("test/balanced_accuracy")],
        "Blur": [
            *(_bars(f"macro-F1 under {kind} blur", [f"blur/{kind}/{s:g}/macro_f1" for s in SIGMAS]) for kind in KINDS),
            _bars("slope against log2(1 + sigma)", [f"slope/{kind}/macro_f1" for kind in KINDS]),
        ],
        "Cost": [_cost(*axis) for axis in _COSTS],
        "Runs": [
            wr.RunComparer(diff_only="split"),
            wr.ParallelCoordinatesPlot(
                title="what goes with a high macro-F1",
                columns=[
                    wr.ParallelCoordinatesPlotColumn(metric)
                    for metric in (wr.Config("flag_limit"), wr.Config("seed"), wr.SummaryMetric("test/macro_f1"))
                ],
            ),
        ],
        "Confusion and errors of the best run": [
            *(wr.MediaBrowser(title=key, media_keys=[key]) for key in ("confusion", "cells/wrong", "cells/correct")),
            *(wr.WeavePanelSummaryTable(table_name=key) for key in TABLES),
        ],
        "Training": [
            wr.LinePlot(title=key, x="update", y=[key])
            for key in ("val_macro_f1", "train_accuracy", "val_loss", "train_loss", "lr")
        ],
    }


def _scaling(score: str) -> wr.LinePlot:
    """A curve a model: mean and standard deviation over seeds at each limit."""
    return wr.LinePlot(
        title=score,
        x="flag_limit",
        y=[score],
        log_x=True,
        groupby=wr.Config("label"),
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
    )


def _bars(title: str, metrics: list[str]) -> wr.BarPlot:
    return wr.BarPlot(
        title=title,
        metrics=[wr.SummaryMetric(metric) for metric in metrics],
        groupby=wr.Config("label"),
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        max_bars_to_show=50,
    )


_COSTS = (
    ("million multiply-accumulates a cell", wr.Config("mmac")),
    ("seconds of training", wr.SummaryMetric("seconds/train")),
    ("milliseconds a cell", wr.SummaryMetric("latency/eager_ms")),
)


def _cost(title: str, axis: wr.Config | wr.SummaryMetric) -> wr.ScatterPlot:
    return wr.ScatterPlot(title=f"macro-F1 against {title}", x=axis, y=wr.SummaryMetric("test/macro_f1"), log_x=True)


def workspace(entity: str, project: str) -> ws.Workspace:
    """What `make dashboard` saves: a section each, the run of the highest macro-F1 first."""
    sections = [ws.Section(name=name, panels=found, is_open=True) for name, found in panels().items()]
    best_first = [ws.Ordering(ws.Summary("test/macro_f1"), ascending=False)]
    runs = ws.RunsetSettings(order=best_first, pinned_columns=[f"summary:{key}" for key in COLUMNS])
    return ws.Workspace(entity=entity, project=project, name=NAME, sections=sections, runset_settings=runs)


def report(entity: str, project: str) -> wr.Report:
    """The same as a page that can be shared."""
    order = [wr.OrderBy(wr.SummaryMetric("test/macro_f1"), ascending=False)]
    blocks: list[Any] = [wr.MarkdownBlock(ABOUT)]
    for name, found in panels().items():
        runs = [wr.Runset(entity=entity, project=project, order=order)]
        blocks += [wr.H2(name), wr.PanelGrid(runsets=runs, panels=found)]
    return wr.Report(entity=entity, project=project, title=NAME, blocks=blocks)


def specification(entity: str, project: str) -> dict[str, Any]:
    """The workspace as W&B's servers get it; the report has the same panels, but asks the server for its project."""
    return dict(json.loads(workspace(entity, project)._to_model().model_dump_json(by_alias=True)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="cellpatch dashboard", description="Make a W&B dashboard.")
    parser.add_argument("entity", nargs="?", help="your W&B user or team; without one: your default")
    parser.add_argument("project", nargs="?", default="cellpatch")
    parser.add_argument("--spec", type=Path, metavar="FILE", help="write the workspace as JSON, and make nothing")
    options = parser.parse_args()
    if options.spec:
        with atomic_write(options.spec) as temporary:
            temporary.write_text(json.dumps(specification(options.entity or "entity", options.project), indent=1))
        print(options.spec)
        return
    if not wandb.api.api_key:
        sys.exit(WITHOUT)
    entity = options.entity or str(wandb.Api().default_entity)
    for made in (workspace(entity, options.project), report(entity, options.project)):
        made.save()
        print(made.url)


if __name__ == "__main__":
    main()
