"""How often is what the report says true? Studies whose truth is known, and every claim of the page on each.

    python experiments/studies/claims.py [--studies 400]      # writes tables/claims.csv, .md, .tex

Eight models from scratch and one pretrained one, three seeds, four limits, 57 specimens of four classes
(simulated_study.py), clean and out of focus. Three kinds of studies: all models equal everywhere; one from scratch
better by AHEAD on the logit; the pretrained one ahead by FIRST at the smallest limit and by LAST at the largest.
`false` is the share of studies with at least one false claim of its row, with its standard error. Of a change of lead
it is the share of those found whose interval does not cover the true place.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from simulated_study import OF_SEEDS, Design, answers, mean_truth, mixed_design

from cellpatch.analysis.compact import compress
from cellpatch.analysis.groups import group_by_seed
from cellpatch.analysis.run_result import RunResult
from cellpatch.analysis.scaling import overtakes_at
from cellpatch.figures.tables import write_table
from cellpatch.metrics.scores import macro_f1
from cellpatch.optics.conditions import CLEAN, Condition
from cellpatch.runs.record import parse_record
from cellpatch.runtime.resources import resource_dir

sys.path.insert(0, str(resource_dir("experiments") / "report"))  # where the page's own code is
from decisions import change_of_lead, segments
from verdicts import Verdict, verdicts

LIMITS, SEEDS = (256, 512, 1024, 2048), 3
MODELS = (*(f"m{i}" for i in range(8)), "pretrained")
AHEAD, FIRST, LAST = 0.25, 0.8, -0.8
BLUR, LOSS = Condition("post", 3.2), 0.8
GAIN = 0.15  # of every model a limit, on the logit
_EQUAL = 1e-9


@dataclass(frozen=True)
class World:
    """What is true: skills (logit) by model, limit and class, and macro-F1 by model and limit, clean and blurred."""

    name: str
    design: Design
    skill: np.ndarray
    clean: np.ndarray
    blurred: np.ndarray

    @property
    def crossing(self) -> float | None:
        """Where the best from scratch overtakes the pretrained model; None without a crossing."""
        place = float(overtakes_at(LIMITS, self.clean[:-1].max(axis=0) - self.clean[-1]))
        return place if 0 < place < np.inf else None


def worlds() -> list[World]:
    """The three kinds of studies."""
    design = mixed_design(57)
    level = np.tile(design.skill + GAIN * np.arange(len(LIMITS))[:, None], (len(MODELS), 1, 1))
    ahead, crossing = level.copy(), level.copy()
    ahead[0] += AHEAD
    crossing[-1] += np.linspace(FIRST, LAST, len(LIMITS))[:, None]
    named = {"all equal": level, f"one better by {AHEAD}": ahead, "the lead crosses": crossing}
    return [_world(name, design, skill) for name, skill in named.items()]


def _world(name: str, design: Design, skill: np.ndarray) -> World:
    flat = skill.reshape(-1, skill.shape[-1])
    clean, blurred = (mean_truth(design, flat - loss, macro_f1).reshape(skill.shape[:2]) for loss in (0.0, LOSS))
    return World(name, design, skill, clean, blurred)


def study(world: World, seed: int) -> list[RunResult]:
    """The runs of one study."""
    rng = np.random.default_rng([seed, len(world.name)])
    shape = (len(MODELS), len(LIMITS), SEEDS, len(world.design.share))
    drawn = world.skill[:, :, None] + rng.normal(0, OF_SEEDS, shape)
    both = np.concatenate([drawn, drawn - LOSS], axis=1)  # clean at each limit, then blurred at each
    confusions = answers(rng, world.design, both)
    specimens = tuple(f"{i:03}" for i in range(confusions.shape[3]))
    runs = []
    for model, name in enumerate(MODELS):
        for at, limit in enumerate(LIMITS):
            for run_seed in range(SEEDS):
                of_run = {
                    CLEAN: confusions[model, at, run_seed],
                    BLUR: confusions[model, len(LIMITS) + at, run_seed],
                }
                stored = _record(name, limit, run_seed, list("abcd"))
                runs.append(
                    RunResult(stored["run"], parse_record(stored, "simulated"), specimens, of_run, compress(stored))
                )
    return runs


def _record(model: str, limit: int, seed: int, classes: list[str]) -> dict[str, Any]:
    """What the page reads of a record."""
    config = {
        "data": {"name": "simulated", "split": {"test": 0.2}, "loading": {"store_dir": "nowhere"}},
        "model": {"name": model, "backbone": {"input_px": 40}},
        "adapt": {"name": "linear_probe" if model == "pretrained" else "scratch"},
        "optics": {"via_px": 40, "resize": "bilinear", "train": None, "unit": "px40", "train_kind": ["pre", "post"]},
        "flag_limit": limit,
        "seed": seed,
    }
    return {
        "run": f"{model}-{limit}-s{seed}",
        "identity": "simulated",
        "cellpatch": "simulated",
        "config": config,
        "classes": classes,
        "data": {"fingerprint": "simulated", "source": {"synthetic": True}},
        "weights": None,
        "counts": {"train": dict.fromkeys(classes, limit)},
        "temperature": 1.0,
        "metrics": [_clean_row(classes)],
        "seconds": {"train": 1.0},
    }


def _clean_row(classes: list[str]) -> dict[str, Any]:
    """The scores that every record has; claims are made of confusions alone, so they are constants."""
    names = ("accuracy", "balanced_accuracy", "macro_f1", "mcc", "auroc", "ece", "nll", "brier")
    scaled = ("ece_scaled", "nll_scaled", "brier_scaled", "accuracy_at_0.8", "accuracy_at_0.9")
    of_class = {"n_test": 1, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    return {
        **{"kind": "none", "sigma": 0.0, "n_test": len(classes)},
        **dict.fromkeys((*names, *scaled), 0.5),
        "per_class": dict.fromkeys(classes, of_class),
        "confusion": [[0] * len(classes) for _ in classes],
    }


def claims(world: World, found: Sequence[Verdict], blurred: Verdict | None) -> Iterator[tuple[str, bool]]:
    """Every claim of a page and whether it is true. A claim about no model is none."""
    for segment in segments(found):
        for verdict in segment.verdicts:
            true = _by_label(verdict, world.clean[:, LIMITS.index(verdict.limit)])
            for worse in verdict.behind:
                yield "significantly worse than the best, at a limit", true[worse] < max(true.values()) - _EQUAL
            if segment.is_alone:
                others = max(score for name, score in true.items() if name != segment.choice)
                yield "use one model: better than every other", true[str(segment.choice)] > others + _EQUAL
            if segment.kind:
                by_kind = {
                    kind: max(true[name] for name in true if verdict.kind(name) == kind) for kind in verdict.kinds
                }
                other = max(score for kind, score in by_kind.items() if kind != segment.kind)
                yield "every model of the other kind is worse", by_kind[segment.kind] > other + _EQUAL
    if blurred:
        true = _by_label(blurred, world.blurred[:, LIMITS.index(blurred.limit)])
        for worse in blurred.behind:
            yield "significantly worse than the best, out of focus", true[worse] < max(true.values()) - _EQUAL
    change = change_of_lead(found)
    if change:
        crossing = change[1]
        place = world.crossing
        yield _CHANGE, place is not None and crossing.low <= place <= crossing.high


def _by_label(verdict: Verdict, scores: np.ndarray) -> dict[str, float]:
    return {label: float(scores[MODELS.index(group.coordinates.model)]) for label, group in verdict.groups.items()}


_CHANGE = "the lead changes, within its interval"


def false_claims(world: World, studies: int) -> pd.DataFrame:
    """A row a kind of claim, and one for all of significance: in how many studies it is made, and false."""
    made: dict[str, list[bool]] = {}  # of each study in which a claim is made, whether one is false
    for seed in range(studies):
        found, blurred = verdicts(group_by_seed(study(world, seed)))
        of_study: dict[str, bool] = {}
        for name, is_true in claims(world, found, blurred):
            of_study[name] = of_study.get(name, False) or not is_true
        of_significance = [is_false for name, is_false in of_study.items() if name != _CHANGE]
        if of_significance:
            of_study["any claim of significance"] = any(of_significance)
        for name, is_false in of_study.items():
            made.setdefault(name, []).append(is_false)
    rows = []
    for name, found_false in sorted(made.items()):
        of = len(found_false) if name == _CHANGE else studies
        share = sum(found_false) / of
        row = {"studies are": world.name, "claim": name, "made in": len(found_false) / studies, "false": share}
        rows.append(row | {"error": np.sqrt(share * (1 - share) / of), "studies": studies})
    columns = ["studies are", "claim", "made in", "false", "error", "studies"]
    return pd.DataFrame(rows, columns=columns)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python experiments/studies/claims.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--studies", type=int, default=400)
    options = parser.parse_args()
    table = pd.concat([false_claims(world, options.studies) for world in worlds()], ignore_index=True)
    shown = table.assign(**{name: (100 * table[name]).map("{:.1f} %".format) for name in ("made in", "false", "error")})
    write_table(Path("tables/claims"), table, shown)
    print(shown.to_string(index=False))


if __name__ == "__main__":
    main()
