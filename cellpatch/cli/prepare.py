"""Prepare a store ahead of training: python -m cellpatch.data.prepare data=folder data.root=DIR."""

import sys

import hydra
from omegaconf import DictConfig

from cellpatch.cli.hydra_main import command_folder, run_main
from cellpatch.cli.usage import exit_on_value_error
from cellpatch.config.schema import CONF, register


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(config: DictConfig) -> None:
    with command_folder():
        exit_on_value_error(prepare_store, config)


def prepare_store(config: DictConfig) -> None:
    """Prepare the store of `config.data` and print what it holds."""
    from cellpatch.config.assemble_data import assemble_data
    from cellpatch.data.dataset import open_store
    from cellpatch.data.store_names import report_other_names

    data = assemble_data(config)
    report_other_names(data)
    store = open_store(data)
    manifest = store.manifest
    print(f"{store.root}: {manifest.cells} cells, {manifest.geometry}")
    for name, count in manifest.counts.items():
        print(f"  {name:30} {count}")


if __name__ == "__main__":
    register()
    run_main(main, "python -m cellpatch.data.prepare", sys.argv[1:])
