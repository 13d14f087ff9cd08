"""The data of a config: preparing a store needs no torch, which takes seconds and half a gigabyte."""

from omegaconf import DictConfig

from cellpatch.config.validate import CheckedConfig, check
from cellpatch.data.dataset import DataSpec


def assemble_data(config: DictConfig) -> DataSpec:
    """The data of a config alone; the rest of it may be anything. Raises ValueError as `assemble`."""
    return data_spec(check(config, "data"))


def data_spec(checked: CheckedConfig) -> DataSpec:
    """The data of a checked config."""
    split, loading, costs = (checked.build(f"data.{part}") for part in ("split", "loading", "costs"))
    return DataSpec(checked.values["data"]["name"], checked.build("data"), split, loading, costs)
