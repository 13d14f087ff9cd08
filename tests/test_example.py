"""The project to practise on: SYNTHETIC images and annotations, as data=points reads them."""

import json
import shlex
from collections import Counter
from pathlib import Path

import geopandas
import numpy as np
import pytest
from conftest import start_python
from PIL import Image

from cellpatch.cli.overrides import prepare_overrides
from cellpatch.config.assemble import assemble
from cellpatch.config.assemble_data import assemble_data
from cellpatch.config.schema import compose_config
from cellpatch.data.dataset import open_store
from cellpatch.data.store.reader import CellStore
from cellpatch.data.synthetic import example
from cellpatch.data.synthetic.example import ExampleCounts, write_example
from cellpatch.data.synthetic.example_readme import train_command
from cellpatch.data.synthetic.stains import unmix

pytestmark = pytest.mark.long  # the project takes ten seconds


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExampleCounts]:
    folder = tmp_path_factory.mktemp("example") / "my cells (1)"
    return folder, write_example(folder, seed=0)


@pytest.fixture(scope="module")
def store(project: tuple[Path, ExampleCounts], tmp_path_factory: pytest.TempPathFactory) -> CellStore:
    """The store that the command of README.txt prepares."""
    config = compose_config([*_settings(project[0]), f"data.loading.store_dir={tmp_path_factory.mktemp('stores')}"])
    return open_store(assemble_data(config))


def _settings(folder: Path) -> list[str]:
    """The settings of the command in README.txt, as a shell splits them."""
    [command] = [
        line for line in (folder / "README.txt").read_text().splitlines() if line.startswith("cellpatch train ")
    ]
    assert command == train_command(str(folder))
    words = shlex.split(command)
    assert words[:2] == ["cellpatch", "train"]
    return prepare_overrides(words[2:])


def test_points_reads_the_cells_and_counts_what_it_leaves_out(
    project: tuple[Path, ExampleCounts], store: CellStore
) -> None:
    counts = project[1]
    assert store.manifest.counts == counts.cells
    assert store.manifest.intake.left_out == {
        "regions (data.polygons=cells makes them cells)": counts.regions,
        "objects without a class": counts.unclassified,
    }
    assert (counts.images, counts.regions, counts.unclassified) == (16, 16, 16 * 6)
    assert not store.manifest.intake.doubtful
    assert not store.manifest.intake.joined
    assert store.manifest.source["synthetic"] is True
    assert store.geometry.field_um == 10


def test_specimens_are_patients(store: CellStore) -> None:
    patients = store.cells["source"].astype(str).str.extract(r"(patient\d)/")[0]
    assert list(store.cells["specimen"]) == list(patients)
    assert store.cells["specimen"].nunique() == 8


def test_every_class_has_enough_cells_for_the_command(project: tuple[Path, ExampleCounts], store: CellStore) -> None:
    experiment = assemble(compose_config(_settings(project[0])))
    assert experiment.flag_limit == 32
    by_specimen = store.cells.groupby("specimen", observed=True)["class"].value_counts().unstack()
    fewest = np.sort(by_specimen.to_numpy(), axis=0)
    assert fewest[:4].sum(axis=0).min() >= 32, "any four of eight patients have 32 cells of each class"


def test_a_membrane_has_its_colour(store: CellStore) -> None:
    margin, side = store.geometry.margin_px, store.geometry.crop_px
    crops = store.crops(np.arange(len(store)))[:, margin : margin + side, margin : margin + side]
    amounts = unmix(crops).mean(axis=(1, 2))
    red, green = ({name: amounts[store.cells["class"] == name, i].mean() for name in example.SHARES} for i in (1, 2))
    assert red["red_membrane"] > red["lymphocyte"] + 0.02
    assert green["green_membrane"] > green["lymphocyte"] + 0.02
    assert red["double_membrane"] > red["green_membrane"]


def test_files_are_as_described(project: tuple[Path, ExampleCounts]) -> None:
    folder, counts = project
    readme = (folder / "README.txt").read_text()
    assert readme.startswith("SYNTHETIC")
    for name, cells in counts.cells.items():
        assert f"{name:18} {cells:5}" in readme
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    images = [f"patient{patient}/patient{patient}-{letter}" for patient in range(1, 9) for letter in "ab"]
    assert files == sorted(["README.txt", *(f"{image}{suffix}" for image in images for suffix in (".png", ".geojson"))])
    for image in images:
        with Image.open(folder / f"{image}.png") as picture:
            assert (picture.size, picture.mode) == ((512, 512), "RGB")


def test_annotations_are_valid_polygons_within_the_image(project: tuple[Path, ExampleCounts]) -> None:
    file = project[0] / "patient3" / "patient3-b.geojson"
    objects = geopandas.read_file(file)
    assert objects.geometry.is_valid.all()
    low_x, low_y, high_x, high_y = objects.total_bounds
    assert min(low_x, low_y) >= 0
    assert max(high_x, high_y) <= 512
    features = json.loads(file.read_text())["features"]
    kinds = Counter((each["properties"]["objectType"], "classification" in each["properties"]) for each in features)
    assert kinds["annotation", True] == 1
    assert kinds["detection", False] == 6
    assert kinds["detection", True] >= 60
    assert len({each["id"] for each in features}) == len(features)


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example, "PATIENTS", 2)
    contents = []
    for where, seed in (("first", 3), ("second", 3), ("third", 4)):
        (tmp_path / where).mkdir()
        monkeypatch.chdir(tmp_path / where)
        write_example(Path("practice"), seed)
        files = sorted(path for path in Path("practice").rglob("*") if path.is_file())
        contents.append({path.as_posix(): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 9
    same = [name for name in contents[0] if contents[0][name] == contents[2][name]]
    assert same == []


def test_a_folder_with_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "slide.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    for folder, message in (("mine", "mine has files"), ("file", "file is a file"), (".", "is the current folder")):
        with pytest.raises(ValueError, match=message):
            write_example(Path(folder), seed=0)
    with pytest.raises(ValueError, match="`seed` to be >= 0, but got -1"):
        write_example(Path("new"), seed=-1)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mine", "slide.txt"]


def test_a_project_is_complete_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example, "PATIENTS", 1)
    monkeypatch.setattr(example, "readme", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_example(tmp_path / "practice", seed=0)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []
    monkeypatch.undo()
    monkeypatch.setattr(example, "PATIENTS", 1)
    (tmp_path / "practice").mkdir()  # an empty folder is filled
    write_example(tmp_path / "practice", seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["practice"]
    assert sorted(path.name for path in (tmp_path / "practice").iterdir()) == ["README.txt", "patient1"]


def test_the_command_writes_it_once(tmp_path: Path) -> None:
    process = start_python("-m", "cellpatch", "example", str(tmp_path / "practice"), "--seed", "7")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "16 SYNTHETIC images of 8 patients" in out
    assert out.splitlines()[-1] == train_command(str(tmp_path / "practice"))
    assert "Seed: 7." in (tmp_path / "practice" / "README.txt").read_text()
    process = start_python("-m", "cellpatch", "example", str(tmp_path / "practice"))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.strip().endswith("has files: nothing is written there; name a new or an empty folder")
