"""What a run is: a hash of everything that determines its trained weights, and a name for people."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import JsonValue

from cellpatch.runs import legacy
from cellpatch.runs.settings import Settings
from cellpatch.runs.training_code import OF_AUGMENTATION, TRAINING_CODE
from cellpatch.runtime.json_types import Json

# Trainer settings that say where and how visibly a run is trained, not what it becomes.
_NOT_TRAINING = {
    "component",
    "accelerator",
    "devices",
    "resume",
    "num_nodes",
    "strategy",
    "enable_progress_bar",
    "enable_model_summary",
    "log_every_n_steps",
}
# What runs had implicitly before a setting existed, or before a user stated it: at these values a setting does not
# change an identity. A new setting that changes nothing at its default gets a line here.
IMPLICIT: Mapping[str, Sequence[JsonValue]] = {
    "trainer.max_steps": (None, -1),
    "trainer.check_val_every_n_epoch": (1,),
    "trainer.accumulate_grad_batches": (1,),
    "trainer.limit_train_batches": (1.0,),
    "trainer.limit_val_batches": (1.0,),
    "trainer.gradient_clip_algorithm": (None,),
    "model.backbone.stem": ("single",),
    "model.backbone.cell_share": (None,),
    "adapt.optimizer": ("adamw",),
    "adapt.adamw_rate": (1.0,),
    "adapt.adjust_tau": (1.0,),
    "adapt.focal_gamma": (0.0,),
    "adapt.mixup": (0.0,),
    "adapt.cutmix": (0.0,),
    "augment.erasing": (0.0,),
    "augment.scale": ([1.0, 1.0],),
    "data.split.near_copies": ("keep",),
}
STUDY_FIELD_UM = 10.0  # the side of its crops; the name of a run states another
_SITES = 40  # letters of the held-out sites in the name of a run
_BATCHES_OR_SHARE = ("trainer.limit_train_batches", "trainer.limit_val_batches")  # an int counts, a float is a share
# Without effect where `trainer.max_epochs` is the budget. With `max_steps` beside it they stay in the identity: runs of
# 0.3.0 with both had another schedule, and must not be taken for today's.
_OF_UPDATES = ("updates", "min_epochs", "validations")
_CLASS_WEIGHTS = {"none": "none", "class_weights": "balanced"}  # `adapt.balance`, and `adapt.class_weights` before it


def code_number(settings: Settings) -> int:
    """The number of today's training code for these settings."""
    augment: Any = settings.config.get("augment") or {}
    of_augmentation = 1 if settings.is_probe else OF_AUGMENTATION.get(augment.get("component"), 1)
    return max(TRAINING_CODE, of_augmentation)


def identity(
    settings: Settings, data: str, weights: str | None, code: int | None = None, pretraining: str | None = None
) -> str:
    """Hash of everything that determines the trained weights, 12 hexadecimal digits.

    It covers settings under short stable names, the fingerprints of the cells (`data`) and of the published `weights`,
    the number of the training `code` (None: today's), and the fingerprint of a `pretraining`, if there is one. It does
    not cover import paths, cellpatch's version, the device, the logger, paths, the name given to data, or how the run
    is evaluated. A probe has no trainer, and augmentation only if it asks for augmented copies.
    """
    config = effective_settings(settings.config)
    copies = settings.adapt.augmented_copies
    content: Json = {
        "training_code": code_number(settings) if code is None else code,
        "data": data,
        "weights": weights,
        "split": effective_split(settings),
        "trainer": None if settings.is_probe else _without(config["trainer"], *_NOT_TRAINING),
        "augment": config["augment"] if copies is None or copies else None,
        "model": _without(config["model"], "weights", "recipe"),
        "optics": _only(config["optics"], "via_px", "resize", "train"),
        "adapt": config["adapt"],
        "flag_limit": settings.flag_limit,
        "seed": settings.seed,
    }
    if settings.optics.train is not None:
        content["blur"] = [settings.optics.unit, *sorted(settings.optics.train_kind)]
    if pretraining is not None:
        content["pretraining"] = pretraining
    if settings.is_probe:
        content["embedding_dtype"] = settings.data.loading.embedding_dtype
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def identities(settings: Settings, data: str, weights: str | None, pretraining: str | None = None) -> list[str]:
    """The identity of a run, and the one that 0.3.0 gave to it: today's code still trains the same bits."""
    today = identity(settings, data, weights, pretraining=pretraining)
    if code_number(settings) > 1 or pretraining is not None:
        return [today]
    known = effective_settings(settings.config)  # 0.3.0 did not have the settings that came later
    return [today, legacy.identity(legacy.from_current(known), data, weights)]


def effective_settings(config: Json) -> Json:
    """Settings without those at their implicit values, and without those that another one replaces."""
    kept: Json = _without_implicit(config)
    trainer = cast(Json, kept.get("trainer", {}))
    if trainer.get("max_epochs") is not None and "max_steps" not in trainer:
        kept["adapt"] = _without(kept["adapt"], *_OF_UPDATES)
    kept["adapt"] = _with_class_weights(cast(Json, kept["adapt"]))
    return kept


def effective_split(settings: Settings) -> Json:
    """The settings of the split without those at their implicit values: what earlier versions state."""
    return cast(Json, _without_implicit(settings.data.split, "data.split"))


def _with_class_weights(adapt: Json) -> Json:
    """`balance` as the key that it was until 0.4.0, where it has one of its values; `adjust_tau` where it counts."""
    balance = str(adapt.get("balance"))
    if balance not in ("adjusted_loss", "adjusted_logits"):
        adapt = _without(adapt, "adjust_tau")
    if balance not in _CLASS_WEIGHTS:
        return adapt
    return _without(adapt, "balance") | {"class_weights": _CLASS_WEIGHTS[balance]}


def run_name(settings: Settings) -> str:
    """A run's name for people, safe as a folder's name."""
    names = (settings.model.name, settings.adapt.label, settings.data.name)
    split = settings.data.split
    fold = [f"f{split['fold']}"] if split.get("component") == "kfold" else []
    field = [f"{settings.data.field_um:g}um"] if settings.data.field_um not in (None, STUDY_FIELD_UM) else []
    sites = [f"site_{'_'.join(settings.data.held_out_sites)}"[:_SITES]] if settings.data.held_out_sites else []
    parts = [*names, *field, *sites, str(settings.flag_limit), *fold, f"s{settings.seed}"]
    return "-".join(re.sub(r"[^\w.]+", "_", part) for part in parts)


def _without(node: JsonValue, *keys: str) -> Json:
    return {key: value for key, value in cast(Json, node).items() if key not in keys}


def _only(node: JsonValue, *keys: str) -> Json:
    return {key: cast(Json, node)[key] for key in keys}


def _is_implicit(at: str, value: object) -> bool:
    if at in _BATCHES_OR_SHARE and isinstance(value, int):  # 1 == 1.0, but one batch is not all of them
        return False
    return value in IMPLICIT.get(at, ())


def _without_implicit(node: Any, path: str = "") -> Any:
    if not isinstance(node, dict):
        return node
    kept = {}
    for key, value in node.items():
        at = f"{path}.{key}" if path else key
        if not _is_implicit(at, value):
            kept[key] = _without_implicit(value, at)
    return kept
