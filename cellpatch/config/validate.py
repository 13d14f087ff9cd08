"""Checks of a config before any work: every key, every type, every component."""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError

from cellpatch.config.arguments import check_arguments, unknown_key
from cellpatch.config.names import NAMES, name_of, path_of
from cellpatch.config.schema import CONF, RENAMED, Config
from cellpatch.runtime.errors import check_folder
from cellpatch.runtime.plain_text import is_plain
from cellpatch.training.trainer_arguments import without_neutral

# Keys beside a component's arguments: labels, and nested nodes.
BESIDE = {
    "model": {"name", "backbone", "weights", "recipe"},
    "model.recipe": {"lr", "weight_decay", "warmup", "stain_gain", "stain_offset", "lora_targets"},
    "data": {"name", "split", "loading", "costs"},
    "adapt": {"name"},
    "logger": {path.removeprefix("logger.") for path in NAMES if path.startswith("logger.")},
    "trainer": {"resume", "max_steps"},  # null is no limit here, and -1 Lightning's
}


_LARGEST = 1e30  # of a number: single precision ends at 3e38
_MAX_NAME_BYTES = 60  # a run's folder has three such names, and file systems allow 255 bytes


@dataclass(frozen=True)
class Component:
    """A class of NAMES and checked arguments for it."""

    target: type[Any]
    arguments: Mapping[str, Any]

    def build(self) -> Any:
        return self.target(**self.arguments)


@dataclass(frozen=True)
class CheckedConfig:
    """A config whose every key was checked: components by the path of their node, values as a record states them."""

    components: Mapping[str, Component]
    values: dict[str, Any]

    def build(self, node_path: str) -> Any:
        """The component of a node; None where there is none."""
        return self.components[node_path].build() if node_path in self.components else None


def check(config: DictConfig, part: str | None = None) -> CheckedConfig:
    """Check every key and type of a config, or of one of its parts, and import what it names.

    Raises ValueError that names the key: a missing value, an unknown key, a component that is not in NAMES, a value of
    another type than the component's signature states.
    """
    values = _resolved(config)
    unknown = sorted(set(values) - {field.name for field in fields(Config)})
    if unknown:  # Hydra's + adds them whatever the schema says
        raise ValueError(unknown_key(unknown[0], [field.name for field in fields(Config)]))
    _check_plain_values(values, "")
    values["data"]["name"] = _folder_name(values["data"]["name"])
    for key, lowest in (("seed", 0), ("flag_limit", 1)):
        if values[key] < lowest:
            raise ValueError(f"{key} must be >= {lowest}, but got {values[key]}")
    _look_for_weights(values["model"], values.get("weights_dir"))
    components = {}
    for node_path, node in list(_nodes(values, "")):
        if part is not None and node_path.partition(".")[0] != part:
            continue  # checking a node imports what it names
        if node_path == "trainer":
            values["trainer"] = node = without_neutral(node)
        if node_path == "trainer" and node == shipped_trainer():
            del node["_target_"]  # Lightning takes seconds to import, and probes do without
            node["component"] = "lightning"
            continue
        component = _check_node(node_path, node)
        if component is not None:
            components[node_path] = component
    return CheckedConfig(components, values)


def check_model(name: str, input_px: int | None, weights_dir: str | None) -> CheckedConfig:
    """A file of conf/model by itself, at another side of its input if one is given; raises ValueError as `check`."""
    model = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{name}.yaml")))
    model.pop("defaults", None)  # the adaptation that it brings
    if input_px is not None:
        model["backbone"]["input_px"] = input_px
    _look_for_weights(model, weights_dir)
    checked = {path: _check_node(path, node) for path, node in list(_nodes({"model": model}, ""))}
    return CheckedConfig({path: each for path, each in checked.items() if each is not None}, {"model": model})


def check_component(node_path: str, node: Mapping[str, Any]) -> Component:
    """A component as a record states it: a short name and arguments; raises ValueError as `check` does."""
    arguments = {key: value for key, value in node.items() if key not in {"component", *BESIDE.get(node_path, ())}}
    target = _locate(node_path, path_of(node_path, node.get("component")))
    return Component(target, check_arguments(node_path, target, arguments))


def _resolved(config: DictConfig) -> dict[str, Any]:
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise ValueError(f"these keys need a value: {', '.join(f'{key}=...' for key in missing)}")
        return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    except InterpolationKeyError as error:
        absent = str(error.msg).splitlines()[0]
        model, adapt = config.model.get("name"), config.adapt.get("name")
        raise ValueError(
            f"{error.full_key} refers to a key that model={model} does not define ({absent}): "
            f"is adapt={adapt} intended?"
        ) from error


def _check_plain_values(node: Any, path: str) -> None:
    """Raise ValueError for a text with control characters, a number that is none, or a name that is too long."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            _check_plain_values(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, float) and not abs(node) <= _LARGEST:
        raise ValueError(f"{path} must be a finite number, at most {_LARGEST:g}, but got {node}")
    elif isinstance(node, str) and not is_plain(node):
        raise ValueError(f"{path} must be text without control characters, but got {node!r}")
    elif isinstance(node, str) and path.endswith(".name") and len(node.encode()) > _MAX_NAME_BYTES:
        raise ValueError(f"{path} must have at most {_MAX_NAME_BYTES} bytes, for it names folders, but got {node!r}")


def _folder_name(name: Any) -> str:
    """The name of data as text, such as of a year, which YAML takes for a number."""
    text = str(name) if isinstance(name, str | int) else ""
    if not text.strip() or text.startswith(".") or "/" in text or "\\" in text:
        raise ValueError(f"data.name must name a folder, without a dot first, / or \\, but got {name!r}")
    return text


def _look_for_weights(model: dict[str, Any], weights_dir: str | None) -> None:
    """Name the file of a model's weights in its node, where there is a folder of them and no other file is named."""
    weights = model.get("weights")
    if weights_dir is not None and weights is not None and weights["file"] is None:
        weights["file"] = weights_file(model["name"], Path(weights_dir))


def weights_file(model: str, weights_dir: Path) -> str | None:
    """The one file there that is named after the model; None without one: other sources may have its weights."""
    check_folder(weights_dir, "weights_dir")
    candidates = [weights_dir / f"{model}{suffix}" for suffix in (".safetensors", ".pth", ".pt", ".bin")]
    files = [str(file) for file in candidates if file.exists() or file.is_symlink()]
    if len(files) > 1:
        raise ValueError(f"weights_dir must hold one file of {model}, but got {files}")
    return files[0] if files else None


def _nodes(node: dict[Any, Any], node_path: str) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Every node that is checked by itself: groups, components, and keys beside components."""
    for key, value in node.items():
        path = f"{node_path}.{key}" if node_path else str(key)
        if isinstance(value, dict):
            if not node_path or "_target_" in value or path in BESIDE:
                yield path, value
            yield from _nodes(value, path)
        elif isinstance(value, list):
            yield from _nodes(dict(enumerate(value)), path)


def _check_node(node_path: str, node: dict[str, Any]) -> Component | None:
    """Check a node and change it: `_target_` becomes `component`, whole numbers become floats where floats belong."""
    beside = BESIDE.get(node_path, set())
    arguments = {key: value for key, value in node.items() if key not in {"_target_", *beside}}
    for key in arguments:
        if f"{node_path}.{key}" in RENAMED:
            raise ValueError(f"{node_path}.{key} has another name now: {RENAMED[f'{node_path}.{key}']}")
    if "_target_" not in node:
        if arguments:
            raise ValueError(unknown_key(f"{node_path}.{min(arguments)}", sorted(beside)))
        return None
    name = name_of(node_path, node["_target_"])
    target = _locate(node_path, node.pop("_target_"))
    checked = check_arguments(node_path, target, arguments)
    node.update(checked)
    node["component"] = name
    return Component(target, checked)


@lru_cache(maxsize=1)  # the file does not change under a command
def shipped_trainer() -> dict[str, Any]:
    """The settings of conf/trainer/default.yaml."""
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(CONF / "trainer" / "default.yaml")))


def _locate(node_path: str, path: str) -> type[Any]:
    """The class of an import path that NAMES lists for a node: nothing else is imported."""
    assert path in NAMES[node_path], path
    module, _, attribute = path.rpartition(".")
    target = getattr(importlib.import_module(module), attribute)
    assert inspect.isclass(target), path
    return target
