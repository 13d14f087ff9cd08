"""The sentence of the page on faults of the image other than blur."""

from collections.abc import Sequence

from sentences import format_score

from cellpatch.analysis.groups import SeedGroup, at_one_limit, limit_of, under_faults
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.robustness import change_under
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN


def faults(groups: Sequence[SeedGroup]) -> list[str]:
    """Which fault changes the best model most and least, each at its strongest; nothing without faults."""
    if not any(group.fault_conditions() for group in groups):
        return []
    chosen = by_label(at_one_limit(under_faults(groups)), groups)
    leader = max(chosen, key=lambda label: chosen[label].estimate(CLEAN, macro_f1).mean)
    strongest = {condition.kind: condition for condition in chosen[leader].fault_conditions()}
    changes = {condition: change_under(chosen[leader], condition) for condition in strongest.values()}
    rising = sorted(changes, key=lambda condition: changes[condition].mean)
    words = [f"{format_score(changes[each], sign='+')} under {each.words}" for each in rising]
    seed = " (one seed)" if len(chosen[leader].seeds) == 1 else ""
    text = (
        f"Of the models that were evaluated under faults at flag_limit {limit_of(chosen)}, {leader} has the highest "
        f"macro-F1 on clean cells. At the strongest level of each fault it changes by {words[0]}"
    )
    return [f"{text}{seed}." if len(words) == 1 else f"{text} at worst, and by {words[-1]} at best{seed}."]
