"""What a run is: its identity, its name, its place in a grid; and a grid of them as one table.

python -m cellpatch.runs RUNS_DIR [--csv FILE | --verify | --watch]
"""

import hashlib
import json
import re
from typing import Any

from cellpatch import __version__
from cellpatch.config.instantiate import without

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


def run_name(config: dict[str, Any]) -> str:
    """A run's name for people, safe as a folder's name."""
    names = (config["model"]["name"], config["adapt"]["name"], config["data"]["name"])
    parts = [*names, str(config["flag_limit"]), f"s{config['seed']}"]
    return "-".join(re.sub(r"[^\w.]+", "_", part) for part in parts)
