"""What the README says about models, files and columns holds."""

import re

from conftest import ROOT
from omegaconf import OmegaConf

from cellpatch.config import build
from cellpatch.models.backbone import count_macs, count_parameters

README = (ROOT / "README.md").read_text()


def test_every_model_has_its_row() -> None:
    rows = re.findall(r"^\| (\w+) \| .* \| ([\d.]+) M \| (\d+) M \| (\d+)x\d+ \|$", README, re.M)
    stated = {name: (float(parameters), int(macs), int(side)) for name, parameters, macs, side in rows}
    counted = {}
    for file in (ROOT / "conf" / "model").glob("*.yaml"):
        backbone = build(OmegaConf.to_container(OmegaConf.load(file))["backbone"])  # type: ignore[call-overload,index]
        macs = round(count_macs(backbone) / 1e6)
        counted[file.stem] = (round(count_parameters(backbone) / 1e6, 2), macs, backbone.input_px)
    assert stated == counted


def test_every_file_of_the_tree_exists() -> None:
    tree = README.split("## Where things are")[1].split("```")[1]
    names = set(re.findall(r"[\w]+\.(?:py|ipynb)\b", tree))
    assert len(names) > 20
    existing = {path.name for path in ROOT.rglob("*") if ".venv" not in path.parts}
    assert names <= existing
    modules = {path.name for path in (ROOT / "cellpatch").glob("*.py")} - {"__init__.py"}
    assert modules <= names, "every module of the package's top level is in the tree"


def test_every_data_choice_is_shown() -> None:
    for file in (ROOT / "conf" / "data").glob("*.yaml"):
        assert f"data={file.stem}" in README


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in README
    assert "TODO" not in README
