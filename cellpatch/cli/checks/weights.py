"""Where the weights of each pretrained model would come from; nothing is downloaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cellpatch.cli.checks.finding import Finding
from cellpatch.config.conf import CONF


def check_weights(weights_dir: Path | None) -> Iterator[Finding]:
    """Each model of conf/model with published weights."""
    for file in sorted((CONF / "model").glob("*.yaml")):
        model: Any = OmegaConf.to_container(OmegaConf.load(file))
        if model.get("weights") is not None:
            yield check_model_weights(model, weights_dir)


def check_model_weights(model: Any, weights_dir: Path | None) -> Finding:
    """The first source that has a model's weights, in the order in which a training asks them."""
    from cellpatch.config.validate import weights_file
    from cellpatch.models.weights import Weights  # torch takes seconds

    node = {key: value for key, value in model["weights"].items() if key != "_target_"}
    name = f"weights of {model['name']}"
    try:
        given = None if weights_dir is None else weights_file(model["name"], weights_dir)
        weights = Weights(**(node if given is None else node | {"file": given}))
        found = weights.find()
    except ValueError as error:
        return Finding(name, "note", str(error), "correct --weights-dir")
    if found is not None:
        return Finding(name, "ok", str(found))
    ways = [f"pip install {weights.install}"] if weights.install else []
    ways += [f"a training downloads {weights.hub_file} of {weights.hub}"] if weights.hub else []
    ways += [f"--weights-dir DIR with {model['name']}.safetensors, .pth or .bin"]
    where = f"not on this machine; {weights.terms}; licence: {weights.licence}"
    return Finding(name, "note", where, ", or ".join(ways))
