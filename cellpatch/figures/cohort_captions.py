"""What captions and notes state of an external cohort."""

from collections.abc import Sequence

from cellpatch.analysis.external import cohort_of, on_cohort
from cellpatch.analysis.groups import SeedGroup


def cohort_caption(groups: Sequence[SeedGroup], name: str) -> str:
    """Cells, specimens and classes of a cohort, what was left out, and what it shares with the own cells."""
    external = next(iter(on_cohort(groups, name).values()))
    run = next(run for group in groups for run in group.runs if name in run.cohorts)
    cohort = cohort_of(run, name)
    tested = [each for each, n in external.specimens_by_class.items() if n]
    absent = [each for each, n in external.specimens_by_class.items() if not n]
    synthetic = "synthetic " if cohort.synthetic else ""
    specimens = external.n_specimens
    words = f"{name}: {external.n_test} {synthetic}cells of {specimens} specimen{'s' * (specimens > 1)}"
    words += f", of {len(tested)} of {len(tested) + len(absent)} classes"
    words += f" (none of {', '.join(absent)}); scores are over these {len(tested)}" if absent else ""
    joined = [f"{theirs} as {ours}" for theirs, ours in cohort.class_map.items() if ours is not None and ours != theirs]
    words += f"; taken as the same: {', '.join(joined)}" if joined else ""
    left_out = [f"{each} ({n})" for each, n in cohort.left_out.items()]
    words += f"; left out: {', '.join(left_out)}" if left_out else ""
    equal = cohort.equal_crops
    words += f"; {equal} crops are among the own cells, so scores are too high" if equal else ""
    words += "; it was not checked whether it shares cells with them" if equal is None else ""
    shared = cohort.shared_specimens or []
    return words + (f"; {len(shared)} specimens have names of own ones." if shared else ".")
