"""Prepare a store ahead of training: cellpatch prepare data=folder data.root=DIR."""

import sys
from collections.abc import Sequence

import hydra
from omegaconf import DictConfig

from cellpatch.cli.hydra_main import command_folder, run_main
from cellpatch.cli.usage import exit_on_value_error
from cellpatch.config.schema import CONF, register

NAMED = 8  # specimens that are printed by name
_USAGE = """\
usage: cellpatch prepare data=NAME [data.KEY=VALUE ...]

Read your cells and store their crops, ahead of training. It prints the number of cells of each class, and what was left
out and why. Training does the same where the store does not exist yet.

    cellpatch prepare data=folder data.root=DIR
    cellpatch prepare data=points data.root=DIR data.points=FILE

cellpatch train --help explains the keys of data."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare what the arguments (of the command line, if None) describe."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if {"-h", "--help"} & set(arguments):
        print(_USAGE)
        return
    register()
    run_main(_prepare, "cellpatch prepare", arguments)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _prepare(config: DictConfig) -> None:
    with command_folder():
        exit_on_value_error(prepare_store, config)


def prepare_store(config: DictConfig) -> None:
    """Prepare the store of `config.data` and print what it holds."""
    from cellpatch.config.assemble_data import assemble_data
    from cellpatch.data.dataset import open_store

    data = assemble_data(config)
    store = open_store(data)
    manifest = store.manifest
    print(f"{store.root}: {manifest.cells} cells, {manifest.geometry}")
    for name, count in manifest.counts.items():
        print(f"  {name:30} {count}")
    specimens = sorted(store.specimens.unique())
    more = f" and {len(specimens) - NAMED} more" if len(specimens) > NAMED else ""
    print(f"{len(specimens)} specimen{'s' * (len(specimens) != 1)}: {', '.join(specimens[:NAMED])}{more}")


if __name__ == "__main__":
    main()
