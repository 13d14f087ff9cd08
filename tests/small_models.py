"""Models of conf/model with other arguments: small ones, so that tests are quick."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cellpatch.models.spec import ModelSpec


def with_arguments(model: ModelSpec, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> ModelSpec:
    """The same model with other arguments of its backbone; `options` join those that it has."""
    new: dict[str, Any] = {**model.arguments, **arguments}
    new["options"] = {**new["options"], **options}
    key = json.dumps([model.key, arguments, options], sort_keys=True)
    return replace(model, input_px=new["input_px"], arguments=new, key=key)


def stand_in(model: ModelSpec) -> Any:
    """The model; a pretrained one small, without its weights and at a small side where it takes one."""
    if not model.pretrained:
        return model.create()
    arguments: Any = model.arguments
    architecture: str = arguments["architecture"]
    small: dict[str, Any] = {}
    side: dict[str, int] = {}
    if architecture.startswith("vit_"):
        small = {"embed_dim": 48, "depth": 3, "num_heads": 3}
        patch_px = arguments["options"].get("patch_size", 14 if "patch14" in architecture else 16)
        side = {"input_px": 3 * patch_px, "pretrained_img_size": 4 * patch_px}
    elif architecture.startswith("swin_"):
        small = {"embed_dim": 16, "depths": (1, 1, 1, 2), "num_heads": (1, 2, 2, 4)}
    else:
        side = {"input_px": 64}
    return with_arguments(model, side, small).create()


def fine_tuning(**changes: Any) -> dict[str, Any]:
    """Arguments of a FineTuning: nothing is balanced or mixed, and a training takes 20 updates."""
    plain: dict[str, Any] = {"balance": "none", "adjust_tau": 1.0, "focal_gamma": 0.0, "mixup": 0.0, "cutmix": 0.0}
    plain |= {
        "optimizer": "adamw",
        "adamw_rate": 1.0,
        "label_smoothing": 0.0,
        "updates": 20,
        "min_epochs": 0,
        "validations": 4,
        "patience": 3,
    }
    return plain | changes
