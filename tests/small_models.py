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
