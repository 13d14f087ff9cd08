"""What a run is does not depend on where a class lies; which code trained it is recorded and compared."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_training
from conftest import ROOT, config_of
from stored import read_record

from cellpatch.config import names
from cellpatch.config.assemble import assemble
from cellpatch.data.augment import DeviceAugment
from cellpatch.data.splits import BySpecimen
from cellpatch.models.customvit import CustomViT
from cellpatch.probing.fit import ProbeFit
from cellpatch.runs import experiment_code, training_code
from cellpatch.runs.identity import IMPLICIT, effective_split, identities, identity
from cellpatch.runs.record import TrainingCode
from cellpatch.runs.settings import Settings, parse_settings
from cellpatch.runs.table import runs_table
from cellpatch.sweeps.summary import format_summary
from cellpatch.sweeps.train import train
from cellpatch.training.fit import GradientFit
from cellpatch.training.trainer_arguments import REFUSED

SMALL = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[4]", "trainer.max_epochs=1"]
FolderMaker = Callable[..., Path]


def test_golden_losses_hold_the_number() -> None:
    assert training_code.TRAINING_CODE == test_training.GOLDEN_OF, (
        "new golden losses are of a new training code, and the other way round"
    )


def test_a_class_that_moves_changes_no_identity(
    tmp_path: Path, folder_of_squares: FolderMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, folder_of_squares(6, 3), *SMALL)
    before = assemble(config).settings
    moved = tmp_path / "moved_cnn.py"
    moved.write_text((ROOT / "cellpatch" / "models" / "cnn.py").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(names.NAMES["model.backbone"], "moved_cnn.CNN", "cnn")
    config.model.backbone._target_ = "moved_cnn.CNN"
    monkeypatch.setattr("cellpatch.runs.preflight.check_shapes", lambda backbone: None)
    after = assemble(config)
    assert after.model.backbone_class.__module__ == "moved_cnn"
    assert identity(after.settings, "data", None) == identity(before, "data", None)
    assert after.settings.config == before.config, "and the record states the same"


OTHER_CHOICES = {"single": "staged", "adamw": "muon", "keep": "drop_cells"}  # of settings that take names


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in IMPLICIT.items() for value in values])
def test_a_setting_at_its_implicit_value_changes_no_identity(
    tmp_path: Path, folder_of_squares: FolderMaker, key: str, value: Any
) -> None:
    root = folder_of_squares(6, 3)
    value_text = "null" if value is None else str(value)

    architecture = "resnet" if key == "model.backbone.cell_share" else "customvit_s"
    model = [f"model={architecture}", "trainer.max_epochs=1"] if key.startswith("model") else SMALL
    fixed = ["adapt.balance=adjusted_loss"] if key == "adapt.adjust_tau" else []
    fixed += ["trainer.max_epochs=5"] if key == "trainer.check_val_every_n_epoch" else []

    def of(value: str) -> Settings:
        return assemble(config_of(tmp_path, root, *model, *fixed, f"++{key}={value}")).settings

    stated = of(value_text)
    if key.removeprefix("trainer.") in REFUSED:  # earlier runs state it
        earlier = stated.config | {"trainer": {**stated.config["trainer"], key.removeprefix("trainer."): value}}
        assert identity(parse_settings(earlier, "settings"), "data", None) == identity(stated, "data", None)
        return
    assert key.rpartition(".")[2] in str(stated.config)
    lacking = parse_settings(_without(stated.config, key), "settings")
    assert identity(lacking, "data", None) == identity(stated, "data", None)
    other = "5" if "max_steps" in key else "value" if value is None else "5" if isinstance(value, int) else "0.5"
    other = "0.5" if key.endswith("_share") else other
    other = "[0.5,1]" if isinstance(value, list) else OTHER_CHOICES.get(str(value), other)
    assert identity(of(other), "data", None) != identity(stated, "data", None)


def _without(config: Any, key: str) -> Any:
    """A copy of nested settings that lacks `key`."""
    first, _, rest = key.partition(".")
    return {
        name: _without(value, rest) if name == first and rest else value
        for name, value in config.items()
        if name != first or rest
    }


def test_a_run_of_before_near_copies_could_leave_has_its_identity(
    tmp_path: Path, folder_of_squares: FolderMaker
) -> None:
    today = assemble(config_of(tmp_path, folder_of_squares(6, 3), *SMALL)).settings
    split = {key: value for key, value in today.data.split.items() if key != "near_copies"}
    data: Any = today.config["data"]
    before = parse_settings(today.config | {"data": data | {"split": split}}, "record")
    assert before.data.split != today.data.split
    assert identities(before, "data", None) == identities(today, "data", None)
    assert effective_split(before) == effective_split(today) == split


def test_the_fingerprint_is_of_what_training_imports() -> None:
    parts: list[type] = [GradientFit, CustomViT, DeviceAugment, BySpecimen]
    modules = set(training_code.imported_sources({part.__module__ for part in parts}))
    assert {"cellpatch.training.lightning_module", "cellpatch.models.customvit", "cellpatch.optics.kernels"} <= modules
    assert {"cellpatch.data.splits", "cellpatch.data.datamodule", "cellpatch.training.callbacks"} <= modules
    assert not {name for name in modules if name.split(".")[1] in ("analysis", "figures", "cli", "inference", "sweeps")}
    assert "cellpatch.models.nin" not in modules, "another model's file does not count"
    assert "cellpatch.training.fit" not in training_code.imported_sources([ProbeFit.__module__])


def test_comments_and_docstrings_do_not_count() -> None:
    source = '"""Doc."""\nimport os\n\n\ndef f(x):\n    """Doc\n    of f."""\n    return "#" + x  # why\n'
    other = '# new\nimport os\n\ndef f(x):\n    """Other."""\n\n    return "#" + x\n'
    assert training_code.statements(source) == training_code.statements(other)
    assert training_code.statements(source) != training_code.statements(source.replace('"#"', '"%"'))


def test_other_code_is_reported_where_a_run_exists(
    tmp_path: Path, folder_of_squares: FolderMaker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = folder_of_squares(20, 5)
    first = train(config_of(tmp_path, root, *SMALL))
    record = read_record(tmp_path / "runs" / first.run)
    assert record["training_code"].keys() == {"number", "fingerprint", "shared"}
    assert train(config_of(tmp_path, root, *SMALL)).messages == [], "the same code needs no word"
    assert "training_code" not in runs_table(tmp_path / "runs")
    other = TrainingCode(training_code.TRAINING_CODE, "0123456789abcdef")
    monkeypatch.setattr(experiment_code, "training_code", lambda own, shared: other)
    again = train(config_of(tmp_path, root, *SMALL))
    assert (again.run, again.state) == (first.run, "exists")
    assert f"trained by other code than today's ({record['training_code']['fingerprint']}, today 0123" in caplog.text
    assert "1 of the runs that exist: trained by other code" in format_summary([again], tmp_path / "runs")
    train(config_of(tmp_path, root, *SMALL, "seed=1"))
    table: Any = runs_table(tmp_path / "runs")
    assert table["training_code"].nunique() == 2
