"""Evaluate finished runs anew: on another cohort, as ensembles, with test-time augmentation, as prediction sets.

cellpatch evaluate RUN ... data=NAME data.name=COHORT [KEY=VALUE ...]
cellpatch evaluate RUN ... [--tta] [--ensemble] [--sets] [--referral]
"""

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cellpatch.cli.each_run import for_each_run, runs_of
from cellpatch.cli.overrides import prepare_overrides
from cellpatch.cli.own_cells import LEVEL, evaluate_own_cells
from cellpatch.metrics.classification import Scores
from cellpatch.runs.condition_scores import ConditionScores
from cellpatch.runtime.logs import log_to_terminal
from cellpatch.runtime.plain_text import plain

if TYPE_CHECKING:
    from cellpatch.inference.evaluate import CohortTask

log = logging.getLogger(__name__)

_SETTING = re.compile(r"\+{0,2}(data|optics)[=./]|trainer\.accelerator=")
_EPILOG = """\
Settings describe the cohort as those of cellpatch train do; data.name names it in figures, tables and the report.
optics=blur evaluates under blur too, trainer.accelerator=cpu keeps a GPU free. All of its labelled cells are tested:
data.split has no effect. An evaluation of the same name is replaced.

    cellpatch evaluate runs data=points data.root=DIR data.points=FILE data.name=hospital_b
    cellpatch evaluate runs data=folder data.root=DIR data.name=hospital_b --classes classes.yaml

--tta predicts the runs' own test cells eight times each, turned and flipped, and adds the scores to their records;
optics=blur does so under blur too.
--ensemble, --sets and --referral print what stored predictions give: averages over the seeds of each place, prediction
sets, and scores of the rest where the least sure cells are sent to a human.

    cellpatch evaluate runs --tta --ensemble --sets --referral

classes.yaml has a line for each class that has another name there, `tumour: adenocarcinoma`, or `artefact: null` for
cells to leave out. Classes of the same name need no line; others are left out and counted."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate the runs that the arguments name; ends with status 1 if one could not be."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="cellpatch evaluate",
        description="Score finished runs on other labelled cells, or on their own in other ways.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", metavar="RUN|KEY=VALUE", nargs="+", help="runs, folders of runs, and settings")
    parser.add_argument("--classes", metavar="FILE", type=Path, help="YAML: the run's class for each of the cohort")
    parser.add_argument("--weights", metavar="FILE", type=Path, help="the published weights, if they have moved")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation of the own test cells")
    parser.add_argument("--ensemble", action="store_true", help="averages over the seeds of each place")
    parser.add_argument("--sets", action="store_true", help="prediction sets, calibrated by specimen")
    parser.add_argument("--level", type=float, default=LEVEL, help="of prediction sets, such as 0.95 (%(default)s)")
    parser.add_argument("--referral", action="store_true", help="send the least sure cells to a human")
    options = parser.parse_intermixed_args(words)
    settings = [word for word in options.words if "=" in word and not Path(word).exists()]
    runs = runs_of([Path(word) for word in options.words if word not in settings])
    log_to_terminal()
    own_cells = options.tta or options.ensemble or options.sets or options.referral
    try:
        if own_cells:
            return evaluate_own_cells(runs, settings, options)
        task, accelerator = _task(settings, options.classes)
    except ValueError as error:
        sys.exit(plain(f"error: {error}"))
    from cellpatch.inference.evaluate import evaluate_cohort  # seconds to import: mistakes above come first

    def evaluate(folder: Path) -> bool:
        run = evaluate_cohort(folder, task, accelerator, options.weights)
        cohort = next(each for each in run.record.cohorts if each.name == task.name)
        own = {row.condition: row.scores for row in run.record.metrics}
        for row in cohort.metrics:
            print(plain(_line(folder.name, task.name, row, own.get(row.condition), cohort.specimens)))
        if cohort.left_out:
            counts = ", ".join(f"{name} ({n})" for name, n in cohort.left_out.items())
            log.info("left out, of classes that the run does not have: %s", counts)
        return True

    return for_each_run(runs, evaluate)


def _line(run: str, name: str, row: ConditionScores, own: Scores | None, specimens: int) -> str:
    """A condition's macro-F1 on the cohort, and over the same classes on the run's own test cells."""
    classes = [each for each, scores in row.scores.per_class.items() if scores.n_test]
    f1 = [] if own is None else [f1 for each in classes if (f1 := own.per_class[each].f1) is not None]
    before = f", {sum(f1) / len(f1):.3f} on its own test cells" if f1 else ""
    return (
        f"{run}: {name}, {row.condition}: macro-F1 {row.scores.macro_f1:.3f}{before} ({row.scores.n_test} cells of "
        f"{len(classes)} classes, {specimens} specimen{'s' * (specimens != 1)})"
    )


def _task(settings: Sequence[str], classes: Path | None) -> tuple["CohortTask", str]:
    """What to evaluate on, and the accelerator; prepares the cohort's store if it is absent."""
    from cellpatch.config.assemble_data import assemble_data
    from cellpatch.config.schema import compose_config
    from cellpatch.config.validate import check
    from cellpatch.data.cohort import read_class_map
    from cellpatch.data.dataset import open_store
    from cellpatch.inference.evaluate import CohortTask

    if other := [each for each in settings if not _SETTING.match(each)]:
        raise ValueError(f"settings must be of data, optics and trainer.accelerator, but got {', '.join(other)}")
    if not any(each.startswith("data.name=") for each in settings):
        raise ValueError("data=NAME ... data.name=COHORT must state the cohort's cells and its name")
    config = compose_config(prepare_overrides(settings))
    class_map = {} if classes is None else read_class_map(classes)
    data = assemble_data(config)
    optics = check(config, "optics").build("optics")
    store = open_store(data)
    conditions = optics.evaluated(store.geometry.field_um)
    return CohortTask(data.name, store, class_map, conditions), str(config.trainer.accelerator)


if __name__ == "__main__":
    main()
