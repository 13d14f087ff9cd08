"""What limits the results of a study: its test specimens, seeds and scarce classes, in sentences."""

from collections.abc import Sequence

import pandas as pd

from cellpatch.analysis.groups import SeedGroup, at_one_limit, redrawn
from cellpatch.figures.captions import specimen_unit_note
from cellpatch.metrics.scores import WIDESPREAD, class_f1
from cellpatch.metrics.validations import count_best_validations
from cellpatch.optics.conditions import CLEAN
from cellpatch.runtime.resources import resource_dir

FEW = 20  # test specimens below which the page states how often intervals cover the true value
UNLEARNT = 0.1  # F1 of a class
RARE = 50  # test cells of a class below which it is named
_OF_SCARCEST = "F1 of the class in the fewest specimens, three seeds"  # an interval of coverage.csv


def caveats(groups: Sequence[SeedGroup]) -> list[str]:
    """Sentences about the runs of one data set."""
    sentences = []
    if groups[0].no_interval:
        sentences.append(f"No number on this page has an interval: {groups[0].no_interval}.")
    else:
        sentences += _coverage(groups)
    if min(len(group.seeds) for group in groups) == 1:
        sentences.append("Some models were trained with one seed: their intervals do not cover the spread over seeds.")
    sentences += _best_validations(groups)
    sentences += _scarce_test_classes(groups)
    sentences += _unlearnt_classes(groups)
    sentences += _near_copies(groups)
    if groups[0].runs[0].record.divides_specimens:
        sentences.append(
            "Cells were split at random, not by specimen. Cells of one specimen are in training and test, so scores "
            "are too good. Compare only with studies that split the same way."
        )
    again = redrawn(groups[0])
    if again > 0.01:
        sentences.append(f"{100 * again:.0f} % of the draws of specimens missed a class and were drawn again.")
    sentences += _scarce_training_classes(groups)
    if specimen_unit_note(groups):
        sentences.append(
            f"Of the specimens {specimen_unit_note(groups)}: cells of one patient may be in training and test, so "
            "scores may be too good. Other patients may differ more than the intervals suggest."
        )
    return sentences


def _covers(file: str) -> pd.Series:
    """Shares of simulated studies in which an interval covered the true value, by specimens and interval."""
    table = pd.read_csv(resource_dir("experiments") / "studies" / file)
    return table.set_index(["specimens", "interval"])["covers"]


def _coverage(groups: Sequence[SeedGroup]) -> list[str]:
    """How often intervals cover the true value, where test specimens are few or a class lies in few of them.

    From simulated studies of the nearest smaller design, coverage.csv, which `make coverage` writes. For a class that
    none or all models find, from those after EndoNuke and Chula, coverage_real.csv (its RUNS=curve.parquet).
    """
    group, covers = groups[0], _covers("coverage.csv")
    sentences = []
    if group.n_specimens < FEW:
        simulated = 10 if group.n_specimens >= 10 else 5
        share = covers[str(simulated), "macro-F1, three seeds"]
        fewer = "; fewer were not simulated" if group.n_specimens < simulated else ""
        sentences.append(
            f"The test set has {group.n_specimens} specimens. With {simulated}, 95 % intervals of macro-F1 cover the "
            f"true value in {100 * share:.0f} % of simulated studies with three seeds{fewer}."
        )
    present = {name: n for name, n in group.specimens_by_class.items() if n}
    scarcest = min(present, key=lambda name: present[name])
    if present[scarcest] < WIDESPREAD and (extreme := _extreme(groups, scarcest)) is not None:
        real = _covers("coverage_real.csv")
        of_class, of_all = (real.xs(name, level="interval") for name in (_OF_SCARCEST, "macro-F1, three seeds"))
        sentences.append(
            f"{scarcest} lies in {present[scarcest]} test specimens, and its F1 is near {extreme}. In studies "
            f"simulated after two data sets with such a class 95 % intervals cover its true F1 in {_range(of_class)} % "
            f"and the true macro-F1 in {_range(of_all)} % (three seeds)."
        )
    elif present[scarcest] < WIDESPREAD:
        simulated = max((n for n in (2, 5) if n <= present[scarcest]), default=2)
        of_class, of_all = (
            covers[f"57, a class in {simulated}", name] for name in (_OF_SCARCEST, "macro-F1, three seeds")
        )
        sentences.append(
            f"{scarcest} lies in {present[scarcest]} test specimens. With a class in {simulated} of 57, 95 % intervals "
            f"cover its true F1 in {100 * of_class:.0f} % and the true macro-F1 in {100 * of_all:.0f} % of simulated "
            "studies."
        )
    return sentences


def _range(shares: pd.Series) -> str:
    """The lowest and the highest share in percent, or one number if they are equal when rounded."""
    low, high = (f"{100 * share:.0f}" for share in (shares.min(), shares.max()))
    return low if low == high else f"{low} to {high}"


def _extreme(groups: Sequence[SeedGroup], name: str) -> int | None:
    """0 or 1 if the best F1 of a class is so near to it that intervals of it collapse, else None."""
    code = list(groups[0].specimens_by_class).index(name)
    best = max(group.estimate(CLEAN, class_f1(code)).mean for group in at_one_limit(groups))
    return 0 if best < UNLEARNT else 1 if best > 1 - UNLEARNT else None


def _unlearnt_classes(groups: Sequence[SeedGroup]) -> list[str]:
    """Classes that no model learns at the limit that most models have."""
    compared = at_one_limit(groups)
    sentences = []
    for code, (name, specimens) in enumerate(groups[0].specimens_by_class.items()):
        best = max(group.estimate(CLEAN, class_f1(code)).mean for group in compared) if specimens else UNLEARNT
        if best < UNLEARNT:
            sentences.append(f"{name} (F1 at most {best:.2f})")
    return [f"No model learns these classes: {', '.join(sentences)}."] if sentences else []


def _best_validations(groups: Sequence[SeedGroup]) -> list[str]:
    """How many trainings ended at their best, of those whose version recorded it."""
    records = [run.record for group in groups for run in group.trainings]
    kept = [record.best_validation for record in records if record.states_best_validation]
    words = count_best_validations(kept)
    if not words:
        return []
    why = " They may be undertrained: more adapt.updates may score higher."
    return [f"{words}.{why if 'last' in kept else ''}"]


def _near_copies(groups: Sequence[SeedGroup]) -> list[str]:
    """Cells of training or validation that nearly equal a test cell: the most of any run."""
    audits = [run.record.audit for group in groups for run in group.trainings]
    counts = [audit.near_copies_of_test_crops for audit in audits if audit and audit.near_copies_of_test_crops]
    sentences = []
    if counts:
        train, validation = (max(each[part] for each in counts) for part in ("train", "validation"))
        sentences.append(
            f"Up to {train} training and {validation} validation cells of a run are in a group of nearly equal crops "
            "with a test cell of another specimen: if they show the same cell, scores are too good. "
            "Leave them out with data.split.near_copies=drop_cells or drop_specimens."
        )
    left_out = [audit.left_out_as_near_copies for audit in audits if audit and audit.left_out_as_near_copies]
    if left_out:
        cells, specimens = (
            [max(getattr(each[part], what) for each in left_out) for part in ("train", "validation")]
            for what in ("cells", "specimens")
        )
        sentences.append(
            f"Left out, because they or cells of their specimens nearly equal a test cell of another specimen: "
            f"{cells[0]} training cells of {specimens[0]} specimens and {cells[1]} validation cells of {specimens[1]}."
        )
    return sentences


def _scarce_test_classes(groups: Sequence[SeedGroup]) -> list[str]:
    """Classes without a test cell, and those with few."""
    classes = groups[0].runs[0].record.classes
    by_specimen = groups[0].runs[0].confusions[CLEAN].sum(axis=2)
    facts = list(zip(classes, by_specimen.sum(axis=0), (by_specimen > 0).sum(axis=0), strict=True))
    sentences = []
    absent = [name for name, n, _ in facts if n == 0]
    if absent:
        sentences.append(f"Classes without a test cell, which were not tested: {', '.join(absent)}.")
    rare = [
        f"{name} ({n} cells in {specimens} specimen{'s' if specimens > 1 else ''})"
        for name, n, specimens in facts
        if 0 < n < RARE or 0 < specimens < WIDESPREAD
    ]
    if rare:
        sentences.append(
            f"Classes with fewer than {RARE} test cells, or in fewer than {WIDESPREAD} specimens, weigh as much in "
            f"macro-F1 as all others, and make its intervals less reliable: {', '.join(rare)}."
        )
    return sentences


def _scarce_training_classes(groups: Sequence[SeedGroup]) -> list[str]:
    """Classes that have fewer training cells than the limit that most models share."""
    group = at_one_limit(groups)[0]
    limit, counts = group.coordinates.flag_limit, group.runs[0].record.counts["train"]
    scarce = [f"{name} ({n})" for name, n in counts.items() if n < limit]
    return [f"At flag_limit {limit} these classes have fewer training cells: {', '.join(scarce)}."] if scarce else []
