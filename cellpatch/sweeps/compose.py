"""The configs of a grid's jobs, composed together: Hydra takes 0.1 s for each, most of it to read and merge files."""

from copy import deepcopy
from dataclasses import replace

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf


class GridLoader(ConfigLoaderImpl):
    """A config loader of Hydra that reads and merges files once for all jobs that choose the same ones.

    The configs are equal to Hydra's. A file that changes while a grid runs no longer changes the jobs that are left.
    """

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        overrides = OverridesParser.create().parse_overrides(sweep_overrides)
        if not all(map(_is_plain, overrides)):
            return super().load_sweep_config(master_config, sweep_overrides)
        chosen = [each for each in overrides if self.repository.group_exists(each.key_or_group)]
        files = [str(each.input_line) for each in chosen]
        key = (*master_config.hydra.overrides.hydra, *files)
        if key not in self._composed:
            self._composed[key] = super().load_sweep_config(master_config, files)
        config = deepcopy(self._composed[key])
        self._apply_overrides_to_config([each for each in overrides if each not in chosen], config)
        config.hydra.overrides.task = [each.input_line for each in overrides]
        config.hydra.job.override_dirname = get_overrides_dirname(overrides, **config.hydra.job.config.override_dirname)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config


def _is_plain(override: Override) -> bool:
    """Whether it gives a key its value, or names files of a group: not +key=value, and others that need their turn."""
    of_hydra = override.is_hydra_override() or override.is_sweep_override() or override.package is not None
    return override.type == OverrideType.CHANGE and not of_hydra and not isinstance(override.value(), dict)


def compose_together(context: HydraContext, config: DictConfig) -> HydraContext:
    """The context of a grid whose jobs run one after the other in this process, with a `GridLoader`; else as it is."""
    if not str(config.hydra.launcher._target_).endswith(".BasicLauncher"):
        return context  # its workers compose their jobs themselves
    return replace(context, config_loader=GridLoader(context.config_loader.get_search_path()))
