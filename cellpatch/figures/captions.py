"""What figures and tables state beside numbers: sample sizes, intervals, brief training, missing runs, mixed code."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from textwrap import wrap

from cellpatch.analysis.baselines import largest_class
from cellpatch.analysis.curves import learning_curves
from cellpatch.analysis.groups import SeedGroup, limit_of
from cellpatch.analysis.labels import by_label, label_curves
from cellpatch.metrics.scores import WIDESPREAD, macro_f1
from cellpatch.metrics.validations import BestValidation
from cellpatch.runs.coordinates import method_of
from cellpatch.runs.training_code import is_mixed

_TILE_UNITS = {"endonuke": "most are single tiles of unknown patients"}  # by layout of the annotations


def synthetic_prefix(groups: Sequence[SeedGroup]) -> str:
    """`synthetic ` before cells that are, else nothing."""
    return "synthetic " if groups[0].runs[0].record.data.source.synthetic else ""


def specimen_unit_note(groups: Sequence[SeedGroup]) -> str:
    """What a specimen is where it is not a patient or slide, by the layout of the data; else nothing."""
    return _TILE_UNITS.get(groups[0].runs[0].record.data.source.layout or "", "")


def sample_size_caption(
    groups: Sequence[SeedGroup], among: Sequence[SeedGroup] | None = None, intervals: str | None = None
) -> str:
    """For captions and notes: numbers of cells, specimens and seeds, what intervals cover, brief training, mixed code.

    `among` are all groups of the data set, which decide labels; by default `groups`. `intervals` replaces the words on
    intervals; empty leaves them out.
    """
    numbers = sorted({len(group.seeds) for group in groups})
    seeds = f"{any_of(map(str, numbers))} seed{'s' * (numbers != [1])}"
    n = groups[0].n_specimens
    cells = f"n = {groups[0].n_test} {synthetic_prefix(groups)}test cells of {n} specimen{'s' * (n > 1)}"
    cells += f" ({unit})" if (unit := specimen_unit_note(groups)) else ""
    cells += f", each tested in one of {groups[0].folds} folds" if groups[0].folds else ""
    words = _intervals(groups, numbers) if intervals is None else intervals
    if groups[0].runs[0].record.divides_specimens:
        cells += ", whose other cells were trained on (the split is by cell)"
    cells += intake_note(groups)
    caption = "; ".join([cells, seeds, *([words] if words else [])]) + "."
    return caption + pretraining_caption(groups) + mixed_code_caption(groups, among) + best_validation_caption(groups)


def best_validation_caption(groups: Sequence[SeedGroup]) -> str:
    """For captions: how many runs kept their last or their first validation; empty if none did."""
    counts = sum((group.best_validations for group in groups), Counter[BestValidation]())
    runs = sum(len(group.trainings) for group in groups)
    last = " kept their last validation: they may be undertrained."
    first = " kept their first validation: training did not improve on it."
    words: dict[BestValidation, str] = {"last": last, "first": first}
    return "".join(f" {counts[which]} of {runs} runs{kept}" for which, kept in words.items() if counts[which])


def prior_caption(chosen: Mapping[str, SeedGroup]) -> str:
    """For captions of calibration: the class frequencies that probabilities presume, and whether models differ in them.

    Labels come from `chosen`.
    """
    priors = {label: any_of(sorted(_priors(group))) for label, group in chosen.items()}
    by_prior = group_by_value(priors)
    if len(by_prior) == 1:
        return f" Class frequencies that probabilities presume (prior): {next(iter(by_prior))}."
    listed = ". ".join(f"{prior}: {labels}" for prior, labels in by_prior.items())
    return (
        f" Class frequencies that probabilities presume (prior) differ, so calibration errors are not comparable "
        f"between them: {listed}."
    )


def _priors(group: SeedGroup) -> set[str]:
    priors = [run.record.prior for run in group.trainings]
    return {"not recorded" if prior is None else prior.name for prior in priors}


def widespread_caption(groups: Sequence[SeedGroup]) -> str:
    """For tables: which classes the macro-F1 over widespread classes leaves out, with their test specimens."""
    specimens = groups[0].specimens_by_class
    narrow = [f"{name} ({n})" for name, n in specimens.items() if n < WIDESPREAD]
    of = f"classes in at least {WIDESPREAD} test specimens"
    if not narrow:
        return f"Widespread: macro-F1 over the {of}: all {len(specimens)}."
    if len(narrow) == len(specimens):
        return f"Widespread: no class is in at least {WIDESPREAD} test specimens."
    return (
        f"Widespread: macro-F1 over the {len(specimens) - len(narrow)} {of}. "
        f"It leaves out {len(narrow)} (with their test specimens): {', '.join(narrow)}."
    )


def baseline_caption(groups: Sequence[SeedGroup]) -> str:
    """For tables without a row of it: what always naming the largest class scores."""
    rule = largest_class(groups, macro_f1)
    return f"{rule.label[0].upper()}{rule.label[1:]}: macro-F1 {rule.score.mean:.3f}, at any limit and under any blur."


def cost_caption(machines: Sequence[str], on_gpu: bool) -> str:
    """For captions: what core seconds are, what GPU seconds if there are any, and on which machines they were taken."""
    text = (
        "Medians over seeds; core time is the wall time of the fit times threads, of a probe with the one pass that "
        "made its features"
    )
    text += "; GPU time is the wall time, whatever else the GPU did." if on_gpu else "."
    if len(machines) > 1:
        return f"{text} Machines or threads differ, so times cannot be compared: {'; '.join(machines)}."
    return f"{text} On {machines[0]}." if machines else text


def pretraining_caption(groups: Sequence[SeedGroup]) -> str:
    """For captions: which adaptations were pretrained without labels, and on how many crops; empty if none was."""
    crops: dict[str, set[int]] = {}
    for group in groups:
        seen = {run.record.pretraining.audit.cells for run in group.trainings if run.record.pretraining is not None}
        crops.setdefault(group.coordinates.adapt, set()).update(seen)
    words = {"mim": "pretrained without labels on", "distil": "pretrained on its features of"}
    return "".join(
        f" {adapt}: {words[method_of(adapt)]} {_range(numbers)} crops of training specimens."
        for adapt, numbers in crops.items()
        if numbers
    )


def _range(numbers: Collection[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def intake_note(groups: Sequence[SeedGroup]) -> str:
    """How many objects of the input were left out or are doubtful, for captions; empty if none, or none counted."""
    intake = groups[0].runs[0].record.data.intake
    counts = {} if intake is None else {"left out": intake.left_out.total(), "doubtful": intake.doubtful.total()}
    parts = [f"{n} objects of the input {word}" for word, n in counts.items() if n]
    return f" ({', '.join(parts)})" if parts else ""


def _intervals(groups: Sequence[SeedGroup], numbers_of_seeds: Sequence[int]) -> str:
    if groups[0].no_interval:
        return f"no intervals: {groups[0].no_interval}"
    if numbers_of_seeds == [1]:
        return "95 % intervals over specimens"
    seeds = " and seeds" if 1 not in numbers_of_seeds else ", and seeds if several"
    return f"95 % intervals over specimens{seeds}"


def mixed_code_caption(groups: Sequence[SeedGroup], among: Sequence[SeedGroup] | None = None) -> str:
    """For captions: the groups whose runs are of different training code, and whether all groups are of one code.

    `among` as for `sample_size_caption`. Empty if all runs share one training code, or none recorded it.
    """
    if not is_mixed(run.record for group in groups for run in group.trainings):
        return ""
    names = label_curves([group.coordinates for group in groups], among or groups)
    if len({group.coordinates.flag_limit for group in groups}) > 1:
        names = [f"{name} at {group.coordinates.flag_limit}" for name, group in zip(names, groups, strict=True)]
    mixed = [name for name, group in zip(names, groups, strict=True) if group.mixed_code]
    named = f" Runs of different training code: {'; '.join(mixed)}." if mixed else ""
    return f"{named} These runs are not all of one training code."


def row_label(label: str, chosen: Mapping[str, SeedGroup]) -> str:
    """A label beside a row, in two lines; marks a single seed where others have several: its interval is narrow."""
    numbers = {name: len(group.seeds) for name, group in chosen.items()}
    seed = " (1 seed)" if numbers[label] == 1 < max(numbers.values()) else ""
    return label.replace(", ", "\n", 1) + seed


def missing_groups_caption(reason: str, chosen: Mapping[str, SeedGroup], groups: Sequence[SeedGroup]) -> str:
    """For captions: after the words `reason`, groups of the same flag_limit that are not chosen; and who has none.

    Empty if all are chosen.
    """
    drawn = {group.coordinates for group in chosen.values()}
    limit = limit_of(chosen)
    at_limit = by_label([group for group in groups if group.coordinates.flag_limit == limit], groups)
    left_out = [label for label, group in at_limit.items() if group.coordinates not in drawn]
    without_runs = [label for label in by_label(learning_curves(groups), groups) if label not in at_limit]
    labels_by_reason = {reason: left_out, f"No runs at {limit}": without_runs}
    return "".join(f" {words}: {'; '.join(labels)}." for words, labels in labels_by_reason.items() if labels)


def missing_runs_caption(labels: Sequence[str], limits: Sequence[int], run: Collection[tuple[str, int]]) -> str:
    """For captions: the limits that labels lack; `run` are the pairs of label and limit that exist. Empty if all."""
    missing = {label: ", ".join(str(limit) for limit in limits if (label, limit) not in run) for label in labels}
    return "".join(f" No runs at {which}: {names}." for which, names in group_by_value(missing).items() if which)


def any_of(words: Iterable[str]) -> str:
    """Words in a sentence: "a", "a or b", "a, b or c"."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def group_by_value(values: Mapping[str, str]) -> dict[str, str]:
    """Each value once, with the names that share it."""
    names: dict[str, list[str]] = {}
    for name, value in values.items():
        names.setdefault(value, []).append(name)
    return {value: "; ".join(of_value) for value, of_value in names.items()}


def axis_label(name: str) -> str:
    """A class's name where there is little room: at most two lines, the rest cut."""
    return "\n".join(wrap(name, 26, max_lines=2, placeholder=" …"))


def end_label(name: str, letters: int = 14) -> str:
    """A class's name beside a panel: cut after so many letters."""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def file_name(stem: str, data: str) -> str:
    """The name of a figure's or table's file for a data set, safe whatever the data set is called."""
    safe = re.sub(r"[^-+.\w]+", "_", data)
    return f"{stem}-{safe}"
