"""What the README says about models, files and columns holds."""

import re
import shlex
import sys

import torch
from conftest import ROOT
from hydra.core.override_parser.overrides_parser import OverridesParser

from cellpatch.config import build, check, compose_config, models
from cellpatch.models.backbone import count_macs, count_parameters
from cellpatch.runs import clean_rows
from cellpatch.typeset import with_interval

sys.path.insert(0, str(ROOT / "experiments"))
import models_table

README = (ROOT / "README.md").read_text()


def test_every_model_has_its_row() -> None:
    rows = re.findall(r"^\| (\w+) \| (.*) \| ([\d.]+) M \| (\d+) M \| (\d+)x\d+ \|$", README, re.M)
    stated = {name: (float(parameters), int(macs), int(side)) for name, _, parameters, macs, side in rows}
    told = {name: source for name, source, *_ in rows}
    counted = {}
    for name in models():
        model = check(compose_config([f"model={name}"]))["model"]
        with torch.device("meta"):  # a billion parameters need no memory to be counted
            backbone = build(model["backbone"])
        macs = round(count_macs(backbone) / 1e6)
        counted[name] = (round(count_parameters(backbone) / 1e6, 2), macs, backbone.input_px)
        assert ("weights" not in model) or model["weights"]["licence"] in told[name]
    assert stated == counted
    assert sum("our choice" in source for source in told.values()) == 2


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


def test_every_override_is_understood() -> None:
    """Each command and setting that the README shows, through a shell's and then Hydra's grammar."""
    shown = re.findall(r"`([^`\n]+)`", README) + re.findall(r"^(python train.py .*?)(?: +#.*)?$", README, re.M)
    overrides = [
        word for text in shown if "=" in text for word in shlex.split(text.replace("DIR", ".").replace("FILE", "f.csv"))
    ]
    overrides = [word for word in overrides if re.match(r"[\w.]+=", word) and not word.startswith("RUNS=")]
    assert len(overrides) > 25
    parsed = OverridesParser.create().parse_overrides(overrides)
    pattern = next(override for override in parsed if override.key_or_group == "data.specimen_pattern")
    assert pattern.value() == r"(case\d+)"
    groups = [
        o.input_line
        for o in parsed
        if o.key_or_group in ("data", "model", "augment", "logger") and "," not in o.input_line
    ]
    for group in groups:
        compose_config([group])


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in README
    assert "TODO" not in README


def test_results_on_real_cells_are_those_of_the_kept_runs() -> None:
    told = {}
    for line in README.split("| | 256 (632 cells) | 1024 (2168 cells) | s |")[1].split("\n\n")[0].splitlines()[2:]:
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        told[name] = cells
    kept = {}
    for file in ("endonuke.csv", "foundation.csv"):
        grid = clean_rows(ROOT / "experiments" / file)
        summary = models_table.summarise_csv(grid)
        for row in summary[summary["flag_limit"].isin([256, 1024])].to_dict("records"):
            name = (
                row["model"] if row["adapt"] == "scratch" else f"{row['model']}, {row['adapt']}, {row['input_px']} px"
            )
            seeds = f"{row['macro_f1']:.3f}, {row['seeds']} seed{'s' * (row['seeds'] > 1)}"
            whole = row["seeds"] == 3
            text = with_interval(row["macro_f1"], row["low"], row["high"]) if whole else seeds
            kept.setdefault(name, ["-", "-", "-"])[[256, 1024].index(row["flag_limit"])] = text
            if row["flag_limit"] == 1024:
                fits = grid[(grid[models_table.BY] == [row[key] for key in models_table.BY]).all(axis=1)]
                kept[name][2] = f"{fits['seconds'].min():.0f}"
    assert told == kept
