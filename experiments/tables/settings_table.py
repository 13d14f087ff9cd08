"""How was each model trained? The settings of all runs, and those in which models differ.

    cellpatch tables runs settings_table          # writes tables/settings-DATA.* and tables/shared_settings-DATA.*

What each run's record states of its adaptation, augmentation, optics and trainer, and the model's input side. Settings
of the data, and which device trained, are left out. A setting that a model does not have is empty; where limits or
seeds of a model differ in one, all its values are listed.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from cellpatch.analysis.curves import learning_curves
from cellpatch.analysis.groups import SeedGroup
from cellpatch.analysis.labels import by_label
from cellpatch.cli.figures import main_of_table
from cellpatch.figures.captions import sample_size_caption
from cellpatch.figures.tables import ShownTable
from cellpatch.runtime.json_types import Json

SECTIONS = ("adapt", "augment", "optics", "trainer")
LEFT_OUT = {"adapt.name", "trainer.accelerator", "trainer.resume", "trainer.enable_progress_bar", "optics.kind"}
LEFT_OUT |= {"optics.sigma", "optics.faults"}  # conditions of the evaluation


def tables(groups: Sequence[SeedGroup]) -> list[ShownTable]:
    """Settings by model, and those that all runs share."""
    by_model = {
        label: _joined([settings_of(run.record.settings.config) for group in curve.groups for run in group.trainings])
        for label, curve in by_label(learning_curves(groups), groups).items()
    }
    keys = list(dict.fromkeys(key for settings in by_model.values() for key in settings))
    values = {key: [settings.get(key, "") for settings in by_model.values()] for key in keys}
    shared = {key: of[0] for key, of in values.items() if len(set(of)) == 1}
    differing = pd.DataFrame({"model": list(by_model)} | {key: of for key, of in values.items() if key not in shared})
    common = pd.DataFrame({"setting": list(shared), "value": list(shared.values())})
    sizes = (sample_size_caption(groups, intervals=""),)
    return [
        ShownTable("settings", "Settings in which models differ", differing, differing, sizes),
        ShownTable("shared_settings", "Settings that all runs share", common, common, sizes),
    ]


def settings_of(config: Json) -> dict[str, str]:
    """The settings of a run that training depends on, by their keys; components by their short names."""
    model = config["model"]
    assert isinstance(model, Mapping)
    backbone = model["backbone"]
    assert isinstance(backbone, Mapping)
    found = {"input_px": str(backbone["input_px"])}
    for section in SECTIONS:
        values = config.get(section)
        for key, value in values.items() if isinstance(values, Mapping) else ():
            if f"{section}.{key}" not in LEFT_OUT and key not in ("component", "_target_"):
                found[f"{section}.{key}"] = "null" if value is None else str(value)
    return found


def _joined(runs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Each setting's values in these runs, in words."""
    keys = dict.fromkeys(key for run in runs for key in run)
    return {key: " or ".join(dict.fromkeys(run.get(key, "none") for run in runs)) for key in keys}


if __name__ == "__main__":
    main_of_table(tables)
