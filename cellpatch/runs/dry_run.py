"""What a run would take, told before it is trained: python train.py -m ... dry_run=true."""

from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from cellpatch.data.dataset import find_prepared, open_dataset
from cellpatch.data.store.reader import CellStore
from cellpatch.optics.conditions import Condition, OpticsSettings
from cellpatch.runs import identity, locks
from cellpatch.runs.outcome import Outcome
from cellpatch.runs.record import read_record


def plan_run(plain: dict[str, Any], weights: str | None, conditions: OpticsSettings) -> Outcome:
    """What `train` would do with a checked config, and by earlier runs how long and how large that would be.

    Trains and prepares nothing: cells that are not prepared yet stay so, and their runs count as new.
    """
    name, runs_dir = identity.run_name(plain), Path(plain["runs_dir"])
    store = find_prepared(plain["data"])
    if store is None:
        return Outcome(name, "to train", ["its cells are not prepared yet"], *_estimate(plain, None))
    run_id = identity.identity(plain, store.manifest.fingerprint, weights)
    run = f"{name}-{run_id}"
    found = locks.find_run(runs_dir, run_id)
    if found is None and locks.failure_log_path(runs_dir, run).exists() and not plain["retry_failed"]:
        return Outcome(run, "failed before")
    if found is None:
        return Outcome(run, "to train", [], *_estimate(plain, store))
    there = {Condition(row["kind"], row["sigma"]) for row in read_record(found)["metrics"]}
    asked = set(conditions.each(store.geometry.field_um))
    return Outcome(run, "exists" if asked <= there else "to evaluate")


def _estimate(plain: dict[str, Any], store: CellStore | None) -> tuple[float | None, float | None]:
    """Seconds and MiB by the median of earlier runs of the same kind; None without one.

    A training grows with its cells and epochs, up to the last one that is allowed; what comes before and after it (the
    split, evaluation, record) and a probe are taken to last as long as before.
    """
    kind = _kind(plain)
    earlier = [facts for facts in _earlier(Path(plain["runs_dir"])) if facts["kind"] == kind]
    if not earlier:
        return None, None
    size = median(facts["mib"] for facts in earlier)
    if store is None or any(facts["epochs"] is None for facts in earlier):
        return median(facts["seconds"] for facts in earlier), size
    rate = median(facts["train"] / (facts["n_train"] * facts["epochs"]) for facts in earlier)
    beside = median(facts["seconds"] - facts["train"] for facts in earlier)
    return rate * len(open_dataset(plain, store).split.train) * plain["trainer"]["max_epochs"] + beside, size


def _kind(config: dict[str, Any]) -> tuple[Any, ...]:
    return config["model"]["name"], config["adapt"]["name"], config["model"]["backbone"]["input_px"]


@lru_cache(maxsize=4)
def _earlier(runs_dir: Path) -> list[dict[str, Any]]:
    found = []
    for file in runs_dir.glob("[!.]*/record.json"):
        record = read_record(file.parent)
        seconds = {
            key: value for key, value in record["seconds"].items() if key != "all"
        }  # a resumed run's is of its end
        facts = {"kind": _kind(record["config"]), "epochs": record["epochs"], "train": seconds["train"]}
        facts["seconds"] = sum(seconds.values())
        facts["n_train"] = sum(record["counts"]["train"].values())
        facts["mib"] = sum(each.stat().st_size for each in file.parent.rglob("*") if each.is_file()) / 2**20
        found.append(facts)
    return found
