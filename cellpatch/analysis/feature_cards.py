"""Feature cards of groups: how well features predict the specimen, and how far classes lie apart."""

from collections.abc import Mapping, Sequence

from cellpatch.analysis.groups import SeedGroup, at_one_limit
from cellpatch.analysis.labels import by_label
from cellpatch.runs.cards import FeatureCard


def groups_with_feature_cards(groups: Sequence[SeedGroup]) -> dict[str, SeedGroup]:
    """Groups of one limit that have feature cards, by label; raises ValueError if there are none."""
    chosen = by_label(at_one_limit([group for group in groups if feature_cards(group)]), groups)
    if not chosen:
        raise ValueError("no run has a card of its features: cellpatch features RUNS writes them")
    return chosen


def feature_cards_caption(chosen: Mapping[str, SeedGroup]) -> str:
    """For captions: the number of seeds and cells that the cards cover."""
    seeds = sorted({len(feature_cards(group)) for group in chosen.values()})
    words = f"{' or '.join(map(str, seeds))} seed{'s' * (seeds != [1])}"
    n = feature_cards(next(iter(chosen.values())))[0].n
    return f"Along the axis of features: of {words}, of at most {n} cells, with intervals over seeds alone if several."


def feature_cards(group: SeedGroup) -> list[FeatureCard]:
    """The cards of its runs that have one."""
    return [run.record.features for run in group.trainings if run.record.features is not None]
