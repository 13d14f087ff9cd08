"""Why runs cannot be averaged or compared: the settings, data and code in which they differ, and how to choose."""

from collections.abc import Sequence
from itertools import combinations

from cellpatch.analysis.run_result import RunResult
from cellpatch.runs.coordinates import FIELD, GRID_KEYS
from cellpatch.runs.differences import Difference, hidden_differences

_SHOWN = 8  # differences in an error


def why_not_averaged(runs: Sequence[RunResult]) -> str:
    """Why two runs of one place in a grid cannot be averaged, and how to choose."""
    first, second = next((a, b) for a, b in combinations(runs, 2) if a.coordinates.seed == b.coordinates.seed)
    found = hidden_differences(first.record, second.record)
    if not found:
        return f"{first.run} and {second.run} are the same run: name it once, or move one elsewhere"
    return (
        f"runs that differ in more than {', '.join([*GRID_KEYS, FIELD])} cannot be averaged, "
        f"but {_how_they_differ(first, second, found)}"
    )


def why_other_cells(first: RunResult, second: RunResult) -> str:
    """Between two runs of other test cells, what makes them so, and how to choose."""
    found = hidden_differences(first.record, second.record)
    of_data = [each for each in found if each.part == "data" or each.key.startswith("data.")]
    words = _how_they_differ(first, second, of_data)
    if first.coordinates.field_um != second.coordinates.field_um:
        return f"{words} data.widest_field_um, set to the widest of the fields, keeps the same cells at each of them."
    return words


def _how_they_differ(first: RunResult, second: RunResult, found: Sequence[Difference]) -> str:
    listed = "".join(f"\n  {each}" for each in found[:_SHOWN]) + ("\n  ..." if len(found) > _SHOWN else "")
    settings = ", ".join(each.key for each in found if each.part == "settings")
    return (
        f"{first.run} | {second.run} differ:{listed or ' in their test cells'}\n"
        f"Keep one value{f' of {settings}' if settings else ''}: choose runs by --where KEY=VALUE, or by naming their "
        "folders, or move the others elsewhere (runs_dir=OTHER keeps new ones apart). "
        "cellpatch diff RUN RUN lists all differences."
    )
