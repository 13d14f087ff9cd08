"""The Python interface, as docs/python.md shows it."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run_of_squares

import cellpatch
from cellpatch.optics.conditions import CLEAN
from cellpatch.runs.stored_run import StoredRun, require_store


@pytest.mark.long
def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.S)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)  # noqa: S102  (our own page)
    run, table = names["run"], names["table"]
    assert isinstance(run, cellpatch.Run)
    assert isinstance(table, pd.DataFrame)
    assert run.record.settings.model.name == "cnn"
    assert list(table["run"]) == [run.folder.name]
    assert run.metrics["macro_f1"][0] == table["macro_f1"][0]
    before = (run.folder / "record.json").stat().st_mtime_ns
    again = cellpatch.train(run_arguments(blocks[0]))
    assert again.folder.resolve() == run.folder.resolve()
    assert (again.folder / "record.json").stat().st_mtime_ns == before, "a run that exists is not trained again"


def run_arguments(block: str) -> list[str]:
    return re.findall(r'"([\w.]+=[\w.]+)"', block)


SMALL = ["model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[8,16]", "optics.via_px=null"]
SMALL += ["adapt.updates=5", "adapt.min_epochs=0", "flag_limit=4"]


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of_squares(tmp_path_factory.mktemp("squares"), *SMALL)


def test_probabilities_are_those_of_the_test_cells(squares: Path) -> None:
    run = cellpatch.load_run(squares)
    store = require_store(run.record)
    stored = StoredRun.open(squares).predictions[CLEAN]
    index_of = {name: i for i, name in enumerate(store.cells["cell_id"])}
    crops = store.crops(np.array([index_of[name] for name in stored.rows["cell_id"]]))
    np.testing.assert_allclose(run.predict(crops), stored.probabilities, atol=1e-5)
    assert run.features(crops).shape == (len(crops), 16)
    assert run.predict(crops[:0]).shape == (0, len(run.classes))
    assert run.features(crops[:0]).shape == (0, 16)


def test_crops_of_another_side_are_refused(squares: Path) -> None:
    run = cellpatch.load_run(str(squares))
    with pytest.raises(ValueError, match=r"crops must be uint8 \[n, 16, 16, 3\], but got float64 \[2, 16, 16, 3\]"):
        run._check(np.zeros((2, 16, 16, 3)))
    with pytest.raises(ValueError, match=r"but got uint8 \[2, 17, 17, 3\]"):
        run.features(np.zeros((2, 17, 17, 3), np.uint8))


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=str(tmp_path)):
        cellpatch.load_run(tmp_path)
    with pytest.raises(ValueError, match="has no finished run"):
        cellpatch.read_runs(tmp_path)
    with pytest.raises(ValueError, match="nothing: no such folder"):
        cellpatch.read_runs(tmp_path / "nothing")
    with pytest.raises(ValueError, match="dry_run must be false"):
        cellpatch.train(["dry_run=true"])
    with pytest.raises(AttributeError, match="module cellpatch has no attribute trian"):
        cellpatch.trian  # noqa: B018
