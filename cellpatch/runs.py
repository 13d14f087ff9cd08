"""What a run is: its identity, its name, its place in a grid; and a grid of them as one table.

python -m cellpatch.runs RUNS_DIR [--csv FILE | --verify | --watch]
"""

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from cellpatch import __version__
from cellpatch.config import without
from cellpatch.publish import replacing
from cellpatch.record import read_record

# Trainer settings that say where and how visibly a run is trained, not what it becomes.
_NOT_TRAINING = [
    "accelerator",
    "devices",
    "resume",
    "num_nodes",
    "strategy",
    "enable_progress_bar",
    "enable_model_summary",
    "log_every_n_steps",
]
COLUMNS = [
    "model",
    "adapt",
    "input_px",
    "optics",
    "data",
    "flag_limit",
    "seed",
    "kind",
    "sigma",
    "n_train",
    "accuracy",
    "macro_f1",
    "balanced_accuracy",
    "ece",
    "seconds",
    "run",
]
AXES = ["data", "model", "adapt", "input_px", "optics", "flag_limit", "seed"]


def place_of(config: dict[str, Any]) -> dict[str, Any]:
    """Where a run stands in a grid: its value on each of AXES."""
    place = {key: config[key]["name"] for key in ("data", "model", "adapt")}
    place |= {"input_px": config["model"]["backbone"]["input_px"], "optics": _optics_in_words(config["optics"])}
    return place | {key: config[key] for key in ("flag_limit", "seed")}


def _optics_in_words(optics: dict[str, Any]) -> str:
    """What lies between the crops and a model that is trained on them: `via 40 px` unless told otherwise."""
    words = [f"via {optics['via_px']} px" if optics["via_px"] else "straight"]
    words += [optics["resize"]] if optics["resize"] != "bilinear" else []
    if optics["train"] is not None:
        low, high = (f"{sigma:g}" for sigma in optics["train"])
        unit = " um" if optics["unit"] == "um" else ""
        words.append(f"trained on {' and '.join(sorted(optics['train_kind']))} {low} to {high}{unit}")
    return ", ".join(words)


def identity(
    config: dict[str, Any], data_fingerprint: str, weights_fingerprint: str | None, version: str = __version__
) -> str:
    """Hash of all that determines the trained weights; `config` is resolved and plain.

    Not of the device, the logger, paths, names given to data, or how the run is evaluated. Published weights
    count by their fingerprint, not by where they came from. A recipe counts where `adapt` and `augment` take
    it; a probe has no trainer, and augmentation only if it asks for views.
    """
    probe = "views" in config["adapt"]
    content = {
        "version": version,
        "data": data_fingerprint,
        "weights": weights_fingerprint,
        "split": config["data"]["split"],
        "trainer": None if probe else without(config["trainer"], *_NOT_TRAINING),
        "augment": config["augment"] if not probe or config["adapt"]["views"] else None,
        "model": without(config["model"], "weights", "recipe"),
        "optics": {key: config["optics"][key] for key in ("via_px", "resize", "train")},
        **{key: config[key] for key in ("adapt", "flag_limit", "seed")},
    }
    if config["optics"]["train"] is not None:
        content["optics"] |= {"unit": config["optics"]["unit"], "train_kind": sorted(config["optics"]["train_kind"])}
    if probe:
        content["embedding_dtype"] = config["data"]["loading"]["embedding_dtype"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def readable(config: dict[str, Any]) -> str:
    """A run's name for people, safe as a folder's name."""
    names = (config["model"]["name"], config["adapt"]["name"], config["data"]["name"])
    parts = [*names, str(config["flag_limit"]), f"s{config['seed']}"]
    return "-".join(re.sub(r"[^\w.]+", "_", part) for part in parts)


def table(runs_dir: Path) -> pd.DataFrame:
    """One row per run and optical condition; `seconds` are those of the fit alone.

    Raises ValueError if the folder is absent.
    """
    check_folder(runs_dir)
    rows = []
    for file in sorted(runs_dir.glob("[!.]*/record.json")):
        record = read_record(file.parent)
        row = place_of(record["config"]) | {"seconds": record["seconds"]["train"]}
        row |= {"n_train": sum(record["counts"]["train"].values()), "run": file.parent.name}
        rows += [row | metrics for metrics in record["metrics"]]
    grid = pd.DataFrame(rows, columns=COLUMNS)
    return grid.sort_values([*AXES, "kind", "sigma"], ignore_index=True)


def check_folder(runs_dir: Path) -> None:
    """Raise ValueError if it is no folder."""
    if not runs_dir.is_dir():
        raise ValueError(f"runs_dir must be a folder, but got {runs_dir}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cellpatch.runs", description="Print a grid of runs.")
    parser.add_argument("runs_dir", nargs="?", default="runs", type=Path)
    parser.add_argument("--csv", type=Path, help="write the table there")
    parser.add_argument(
        "--verify", action="store_true", help="check every run's record, files, identity and metrics instead"
    )
    parser.add_argument("--watch", action="store_true", help="show what is running, cut off, failed and done instead")
    options = parser.parse_args(arguments)
    try:
        if options.watch:
            from cellpatch.watch import watch  # it reads what this module writes

            watch(options.runs_dir, Console())
            return
        if options.verify:
            from cellpatch.verify import run_folders, verify  # they read what this module writes

            problems, checked = verify(options.runs_dir), len(run_folders(options.runs_dir))
            print(
                "\n".join([*problems, f"{checked} runs in {options.runs_dir}, {len(problems)} things not as written"])
            )
            sys.exit(1 if problems else 0)
        grid = table(options.runs_dir)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        return
    print(grid.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    print(f"{grid['run'].nunique()} runs in {options.runs_dir}")
    for file in sorted((options.runs_dir / ".failed").glob("[!.]*.log")):
        print(f"failed: {file.stem}: {file.read_text(encoding='utf-8').splitlines()[-1]}")
    if options.csv:
        with replacing(options.csv) as temporary:
            grid.to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
