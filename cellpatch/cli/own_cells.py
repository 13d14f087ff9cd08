"""Finished runs on their own test cells again: test-time augmentation, ensembles, prediction sets, referral."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cellpatch.cli.each_run import for_each_run
from cellpatch.cli.overrides import prepare_overrides
from cellpatch.runtime.plain_text import plain

if TYPE_CHECKING:
    from cellpatch.analysis.groups import SeedGroup

LEVEL = 0.9  # of prediction sets, as in figures and tables
_SETTINGS = ("optics=", "optics.", "optics/", "trainer.accelerator=")


def evaluate_own_cells(runs: Sequence[Path], settings: Sequence[str], options: Namespace) -> None:
    """Do what the options ask for and print it; ends with status 1 if a run could not be evaluated.

    Raises ValueError for settings that do not count here, and for runs that do not allow what is asked for.
    """
    other = [each for each in settings if not each.startswith(_SETTINGS) or not options.tta]
    other += ["--classes"] if options.classes else []
    if other:
        allowed = "of optics and trainer.accelerator, with --tta" if options.tta else "left out"
        raise ValueError(f"settings for the runs' own cells must be {allowed}, but got {', '.join(other)}")
    if not 0 < options.level < 1:
        raise ValueError(f"--level must be between 0 and 1, but got {options.level:g}")
    if options.tta:
        _turn(runs, settings, options.weights)
    if options.ensemble or options.sets or options.referral:
        for line in _lines(runs, options):
            print(plain(line))


def _turn(runs: Sequence[Path], settings: Sequence[str], weights: Path | None) -> None:
    from cellpatch.config.schema import compose_config
    from cellpatch.config.validate import check

    config = compose_config(prepare_overrides(settings))
    asked = check(config, "optics").build("optics")
    from cellpatch.inference.turned import evaluate_turned  # seconds to import: mistakes above come first

    def turn(folder: Path) -> bool:
        record = evaluate_turned(folder, asked, str(config.trainer.accelerator), weights).record
        assert record.turned is not None
        own = {row.condition: row.scores.macro_f1 for row in record.metrics}
        for row in record.turned.metrics:
            now = f"macro-F1 {row.scores.macro_f1:.3f}, {own[row.condition]:.3f} without"
            print(f"{folder.name}: test-time augmentation, {row.condition}: {now} ({record.turned.views} views a cell)")
        return True

    for_each_run(runs, turn)


def _lines(runs: Sequence[Path], options: Namespace) -> Iterator[str]:
    from cellpatch.analysis.groups import data_sets, group_by_seed
    from cellpatch.analysis.results import read_results

    for data, groups in data_sets(group_by_seed(read_results(*runs))).items():
        if options.ensemble:
            yield from _averages(data, groups)
        if options.sets:
            yield from _sets(data, groups, options.level)
        if options.referral:
            yield from _referral(data, groups)


def _averages(data: str, groups: Sequence["SeedGroup"]) -> Iterator[str]:
    from cellpatch.analysis.ensembles import summarise_averages

    for _, row in summarise_averages(groups).iterrows():
        cost = f", {row['mmac']:.4g} MMAC a cell" if pd.notna(row["mmac"]) else ""
        yield (
            f"{_place(data, row)}: {row['by']}: macro-F1 {_ci(row, 'macro_f1')}, change {_ci(row, 'change', '+')}, "
            f"accuracy {row['accuracy']:.3f}, ECE {row['ece']:.3f}, NLL {row['nll']:.3f}, "
            f"{row['passes']} pass{'es' * (row['passes'] > 1)}{cost}"
        )


def _sets(data: str, groups: Sequence["SeedGroup"], level: float) -> Iterator[str]:
    from cellpatch.analysis.sets import summarise_sets

    for _, row in summarise_sets(groups, level).iterrows():
        yield (
            f"{_place(data, row)}: sets of {100 * level:g} % by {row['calibrated_by']}: coverage "
            f"{_ci(row, 'coverage')} (mean over specimens), {row['classes']:.2f} classes, "
            f"{100 * row['single']:.1f} % single, {100 * row['empty']:.1f} % empty"
        )


def _referral(data: str, groups: Sequence["SeedGroup"]) -> Iterator[str]:
    from cellpatch.analysis.referral import TARGET, summarise_referral

    for _, row in summarise_referral(groups).iterrows():
        yield (
            f"{_place(data, row)}: send {_ci(row, 'share_to_send')} of the cells for accuracy {TARGET} of the rest; "
            f"area under risk and coverage {_ci(row, 'risk_area')}"
        )


def _place(data: str, row: pd.Series) -> str:
    from cellpatch.optics.conditions import Condition

    at = f"{data}, {row['model']}, {row['adapt']}, {row['input_px']} px, {row['flag_limit']}"
    return f"{at}, {Condition(row['kind'], row['sigma'])}"


def _ci(row: pd.Series, name: str, sign: str = "") -> str:
    from cellpatch.figures.tables import format_ci

    return format_ci(row[name], row[f"{name}_low"], row[f"{name}_high"], sign=sign)
