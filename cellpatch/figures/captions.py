"""What figures and tables say beside their numbers: names of groups and curves, what they rest on, what is missing."""

import re
from collections.abc import Collection, Mapping, Sequence
from textwrap import wrap

from cellpatch.analysis.curves import learning_curves
from cellpatch.analysis.groups import SeedGroup, limit_of
from cellpatch.analysis.labels import by_label


def synthetic_prefix(groups: Sequence[SeedGroup]) -> str:
    """`synthetic ` before cells that are, else nothing."""
    return "synthetic " if groups[0].runs[0].record["data"]["source"]["synthetic"] else ""


def specimen_unit_note(groups: Sequence[SeedGroup]) -> str:
    """What specimens are where they are no patients or slides, as the layout of the data says; else nothing."""
    return _TILES.get(groups[0].runs[0].record["data"]["source"].get("layout"), "")


_TILES = {"endonuke": "most are single tiles of unknown patients"}


def sample_size_caption(groups: Sequence[SeedGroup]) -> str:
    """For captions: how many cells, synthetic or not, specimens and seeds, and what the intervals are."""
    numbers = sorted({len(group.seeds) for group in groups})
    seeds = " or ".join(map(str, numbers)) + f" seed{'s' * (numbers != [1])}"
    cells = f"n = {groups[0].n_test} {synthetic_prefix(groups)}test cells of {groups[0].n_specimens} specimens"
    cells += f" ({unit})" if (unit := specimen_unit_note(groups)) else ""
    if groups[0].no_interval:
        return f"{cells}; {seeds}; no intervals: {groups[0].no_interval}."
    kind = (
        "specimens"
        if numbers == [1]
        else "specimens and seeds"
        if 1 not in numbers
        else "specimens, and seeds if several"
    )
    return f"{cells}; {seeds}; 95 % intervals over {kind}."


def row_label(label: str, chosen: Mapping[str, SeedGroup]) -> str:
    """A label beside a row, in two lines; a single seed is told where others have several: its interval is narrow."""
    numbers = {name: len(group.seeds) for name, group in chosen.items()}
    seed = " (1 seed)" if numbers[label] == 1 < max(numbers.values()) else ""
    return label.replace(", ", "\n", 1) + seed


def missing_groups_caption(what: str, chosen: Mapping[str, SeedGroup], groups: Sequence[SeedGroup]) -> str:
    """For captions: after the words `what`, the groups of the same flag_limit that are not chosen; who has none there.

    Empty if all are chosen.
    """
    places = [group.place for group in chosen.values()]
    there = by_label([group for group in groups if group.place["flag_limit"] == limit_of(chosen)], groups)
    names = [label for label, group in there.items() if group.place not in places]
    elsewhere = [label for label in by_label(learning_curves(groups), groups) if label not in there]
    told_of = {what: names, f"No runs at {limit_of(chosen)}": elsewhere}
    return "".join(f" {words}: {'; '.join(of)}." for words, of in told_of.items() if of)


def missing_runs_caption(places: Sequence[str], limits: Sequence[int], there: Collection[tuple[str, int]]) -> str:
    """For captions: which runs are missing of all places at all limits; empty if none is."""
    missing = {place: ", ".join(str(limit) for limit in limits if (place, limit) not in there) for place in places}
    return "".join(f" No runs at {which}: {names}." for which, names in group_by_value(missing).items() if which)


def group_by_value(words: Mapping[str, str]) -> dict[str, str]:
    """What is said of names, once each, and of which names it is said."""
    names: dict[str, list[str]] = {}
    for name, said in words.items():
        names.setdefault(said, []).append(name)
    return {said: "; ".join(of) for said, of in names.items()}


def axis_label(name: str) -> str:
    """A class's name where there is little room: two lines, the rest left out."""
    return "\n".join(wrap(name, 26, max_lines=2, placeholder=" …"))


def file_name(what: str, data: str) -> str:
    """The name of a figure or table of a data set, safe as a file's name whatever the data set is called."""
    safe = re.sub(r"[^-+.\w]+", "_", data)
    return f"{what}-{safe}"
