"""What does blur cost, before and after the resize? Scores, slopes and areas, and where one model's lead ends.

    python experiments/blur_table.py runs            # writes tables/blur-DATA.* and tables/leads-DATA.*

Reads stored predictions, or packed runs, alone. Intervals are 95 %, over specimens and seeds; draws of specimens are
the same for every run and condition, so that differences are paired. The slope is of the score against
log2(1 + sigma), the clean condition included (the study's degradation rate); `relative slope` is over the clean
score. Slopes and areas are of the `sigmas` that stand beside them. A draw that lacks a class is drawn again, `redrawn`
is their share. The second table says at which sigma the better of two on clean cells stops being the better one, of
the sigmas that both have, at the flag_limit that most models have.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellpatch.analysis import degradation
from cellpatch.analysis.bootstrap import interval
from cellpatch.analysis.estimates import Estimate, combine, difference
from cellpatch.analysis.groups import SCORES, SeedGroup, at_one_limit, blur_curve, limit_of, redrawn, under_blur
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import file_name, sample_size_caption
from cellpatch.figures.tables import format_ci, write_table
from cellpatch.metrics.scores import Score

ENDS = ["ends", "low", "high"]
NOTE = "Ends: the sigma from which on who is ahead on sharp cells no longer is; never: ahead at the largest sigma too."
ABOUT = ["model", "adapt", "input_px", "optics", "flag_limit"]


def kinds(group: SeedGroup) -> list[str]:
    """Kinds of blur that it was evaluated under."""
    return sorted({condition.kind for condition in group.conditions()} - {"none"})


def summarise(groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """One row per group, kind, score and what is told of it: a score at a sigma, a slope, a relative slope, an area."""
    lines: list[dict[str, Any]] = []
    for group in groups:
        about = {key: group.place[key] for key in ABOUT} | {"seeds": len(group.seeds), "n_test": group.n_test}
        about |= {"specimens": group.n_specimens, "redrawn": redrawn(group)}
        for kind in kinds(group):
            about["sigmas"] = " ".join(f"{c.sigma:g}" for c in group.conditions() if c.kind == kind)
            for name, score in SCORES.items():
                for what, estimate in _facts(group, kind, score):
                    low, high = estimate.interval()
                    row = {"kind": kind, "score": name, "what": what}
                    lines.append(about | row | {"value": estimate.mean, "low": low, "high": high})
    return pd.DataFrame(lines)


def _facts(group: SeedGroup, kind: str, score: Score) -> Iterator[tuple[str, Estimate]]:
    sigmas, estimates = blur_curve(group, kind, score)
    for sigma, estimate in zip(sigmas, estimates, strict=True):
        yield f"sigma {sigma:g}", estimate
    yield "slope", combine(lambda scores: degradation.slope(sigmas, scores), estimates)
    yield "relative slope", combine(lambda scores: _relative_slope(sigmas, scores), estimates)
    yield "area", combine(lambda scores: degradation.area(sigmas, scores), estimates)


def _relative_slope(sigmas: Sequence[float], scores: np.ndarray) -> np.ndarray:
    slope, clean = degradation.slope(sigmas, scores), scores[..., 0]
    return np.divide(slope, clean, out=np.full(slope.shape, np.nan), where=clean > 0)


def leads(blurred: Sequence[SeedGroup], groups: Sequence[SeedGroup]) -> pd.DataFrame:
    """For each two of the limit that most have, the sigma at which the one that leads on clean cells stops leading.

    `groups` are all of the data set, by which they are called. `inf` is a lead that holds at the largest sigma.
    """
    lines = []
    chosen = by_label(at_one_limit(blurred), groups)
    for one, other in combinations(chosen.items(), 2):
        for kind in sorted(set(kinds(one[1])) & set(kinds(other[1]))):
            for name, score in SCORES.items():
                line = _lead(dict([one, other]), kind, score)
                lines += [{"flag_limit": limit_of(chosen), "kind": kind, "score": name} | line] if line else []
    columns = ["flag_limit", "kind", "score", "ahead", "behind", *ENDS]
    return pd.DataFrame(lines, columns=columns).sort_values(columns[:5], ignore_index=True)


def _lead(pair: dict[str, SeedGroup], kind: str, score: Score) -> dict[str, Any] | None:
    curves = {label: dict(zip(*blur_curve(group, kind, score), strict=True)) for label, group in pair.items()}
    ahead, behind = sorted(curves, key=lambda label: -curves[label][0.0].mean)
    sigmas = sorted(set(curves[ahead]) & set(curves[behind]))
    if len(sigmas) < 2:
        return None
    apart = [difference(curves[ahead][sigma], curves[behind][sigma]) for sigma in sigmas]
    draws = np.stack([estimate.bootstrap_samples() for estimate in apart], axis=1)
    ends = degradation.crossover_sigma(sigmas, np.array([estimate.mean for estimate in apart]))
    low, high = interval(degradation.crossover_sigma(sigmas, draws))
    return {"ahead": ahead, "behind": behind, "ends": float(ends), "low": low, "high": high}


def shown(summary: pd.DataFrame) -> pd.DataFrame:
    """The table for people: a row a group, kind and score."""
    index = [*ABOUT, "seeds", "kind", "sigmas", "score"]
    ends = summary[["value", "low", "high"]].to_numpy()
    worded = summary.assign(told=[format_ci(value, low, high) for value, low, high in ends])
    wide = worded.pivot_table(index=index, columns="what", values="told", aggfunc="first", sort=False)
    return wide.fillna("-").reset_index()


def write(data: str, groups: Sequence[SeedGroup], folder: Path = Path("tables")) -> list[Path]:
    """Print and write both tables; gives the files."""
    blurred = under_blur(groups)
    summary, ends = summarise(blurred), leads(blurred, groups)
    notes = [sample_size_caption(blurred)]
    files = write_table(folder / file_name("blur", data), summary, shown(summary), notes)
    return files + write_table(folder / file_name("leads", data), ends, shown_leads(ends), [*notes, NOTE])


def shown_leads(ends: pd.DataFrame) -> pd.DataFrame:
    """The second table for people."""
    words = {
        name: ends[name].map(lambda at: "never" if np.isinf(at) else "-" if np.isnan(at) else f"{at:.2f}")
        for name in ENDS
    }
    return ends.assign(**words)


if __name__ == "__main__":
    main_of_table(write)
