"""The pages of docs/."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from omegaconf import OmegaConf

from cellpatch.data.sources.source import Source, prepare_store
from cellpatch.data.store.reader import CellStore
from cellpatch.inference.next_cells import NextOptions


@pytest.mark.long
def test_the_pages_build_and_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    [recipe] = re.findall(r"^docs:.*\n\t(.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert recipe == "NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir build/docs"
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == "", "no banner, no warning"
    pages = {file.stem: file.read_text() for file in (tmp_path / "site").glob("*.html")}
    assert {file.stem for file in (ROOT / "docs").glob("*.md")} <= set(pages)
    for name, page in pages.items():
        assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(?:https?:)?//[^"]*"', page), name
    assert "Satterthwaite" in pages["functions"], "docstrings are rendered"


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    for file in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{file.name})" in readme, file.name


def test_shares_of_intervals_that_cover_are_the_kept_ones() -> None:
    table = pd.read_csv(ROOT / "experiments" / "studies" / "coverage.csv")
    page = (ROOT / "docs" / "statistics.md").read_text()
    rows = [re.findall(r"([\d.]+) %", line) for line in page.splitlines() if line.count("|") > 5]
    for designs in (
        ["5", "10", "20", "57", "120"],
        ["57, a class in 2", "57, a class in 5", "57, a class in 10", "57, a class in 28, uneven sizes"],
    ):
        shown = [tuple(shares) for shares in rows if len(shares) == len(designs)]
        of = table[table["specimens"].isin(designs)]
        by_interval = of.pivot_table(index="interval", columns="specimens", values="covers")[designs].dropna()
        stored = {tuple(f"{100 * share:.1f}" for share in shares) for shares in by_interval.to_numpy()}
        assert len(shown) == 10
        assert set(shown) <= stored


def test_the_interval_of_a_rare_class_is_the_kept_one() -> None:
    table = pd.read_csv(ROOT / "experiments" / "studies" / "coverage.csv").set_index(["interval", "specimens"])
    ours = table.loc["F1 of the class in the fewest specimens, three seeds"]
    percentiles = table.loc["F1 of the class in the fewest specimens, one seed, percentiles of draws"]
    designs = [f"57, a class in {present}" for present in (2, 5, 10)]
    page = (ROOT / "docs" / "metrics.md").read_text()
    for row in (
        [f"{100 * ours.loc[design, 'covers']:.1f} %" for design in designs],
        [f"{ours.loc[design, 'width']:.2f}" for design in designs],
        [f"{100 * percentiles.loc[design, 'covers']:.1f} %" for design in designs],
    ):
        assert f"| {' | '.join(row)} |" in page


def test_shares_of_the_real_designs_are_the_kept_ones() -> None:
    table = pd.read_csv(ROOT / "experiments" / "studies" / "coverage_real.csv")
    page = (ROOT / "docs" / "statistics.md").read_text()
    lines = page.split("EndoNuke, 57 specimens | Chula, 125 specimens |")[1].split("\n\n")[0].splitlines()
    shown = [re.findall(r"([\d.]+) %", line) for line in lines[2:]]
    by_interval = table.pivot_table(index="interval", columns="specimens", values="covers")
    stored = [
        [f"{100 * row[name]:.1f}" for name in ("57 of endonuke", "125 of chula")] for _, row in by_interval.iterrows()
    ]
    assert len(shown) == 9
    assert all(shares in stored for shares in shown)


def test_differences_from_random_are_the_kept_ones() -> None:
    table = pd.read_csv(ROOT / "experiments" / "studies" / "next_rounds.csv")
    page = (ROOT / "docs" / "next.md").read_text()
    rounds, last = table[table["labels"].isna()], table[table["labels"] == table["labels"].max()]
    for name in table["strategy"].unique():
        shown = []
        for data in ("endonuke", "chula"):
            [of_rounds], [of_last] = (
                each[(each["data"] == data) & (each["strategy"] == name)].to_dict("records") for each in (rounds, last)
            )
            ahead = [f"{of_rounds[key]:+.3f}" for key in ("ahead", "ahead_low", "ahead_high")]
            score = f"{of_rounds['macro_f1']:.3f}"
            shown += [
                score if name == "random" else f"{ahead[0]} ({ahead[1]} to {ahead[2]})",
                f"{of_last['macro_f1']:.3f}",
            ]
        assert f" | {' | '.join(shown)} |" in page, name
    assert not (rounds["simultaneous_low"] > 0).any(), "none beats random: random is the default"
    assert NextOptions.strategy == "random"


def test_the_rooms_of_the_layout_page_are_the_layers() -> None:
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert re.findall(r"^ \| (\w+) +\|", page, re.M) == layers[1:], "without the modules that start commands"
    packages = {path.name for path in (ROOT / "cellpatch").iterdir() if (path / "__init__.py").exists()}
    assert {*packages, "api"} == set(layers[1:])


def test_every_file_and_function_of_the_pages_on_code_exists() -> None:
    page = "".join((ROOT / "docs" / name).read_text() for name in ("architecture.md", "recipes.md"))
    written_by_the_reader = re.compile(r"NAME|arrays")
    files = set(re.findall(r"`([\w/]+\.(?:py|yaml|md|toml))`", page))
    files = {name for name in files if not written_by_the_reader.search(name)}
    assert len(files) > 40
    assert [name for name in files if not _file_of(name).exists()] == []
    steps = re.findall(r"^\d+\. `([\w/]+\.py)`: `([\w.]+)`: ", page, re.M)
    assert len(steps) > 50
    assert [step for step in steps if step[1] not in _definitions(_file_of(step[0]))] == []
    mentioned = re.findall(r"`(\w+)`\s+(?:of|in)\s+`([\w/]+\.py)`", page)
    assert len(mentioned) > 7
    assert [(name, file) for name, file in mentioned if name not in _definitions(_file_of(file))] == []


def test_the_source_of_the_recipe_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = (ROOT / "docs" / "recipes.md").read_text().split("## Add a source of cells")[1].split("\n## ")[0]
    module, yaml, line = [textwrap.dedent(block) for block in re.findall(r"```\w+\n(.*?)```", recipe, re.S)]
    (tmp_path / "arrays.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    source = importlib.import_module("arrays")
    for seed, name in enumerate(("lymphocyte", "tumour")):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(seed).integers(0, 256, (5, 20, 20, 3), dtype=np.uint8))
    keys: Any = OmegaConf.to_container(OmegaConf.create(yaml))
    assert keys.pop("root") == "???"
    arguments = {key: value for key, value in keys.items() if key not in ("defaults", "_target_", "name")}
    cells = source.Arrays(root=str(tmp_path), **arguments)
    assert isinstance(cells, Source)
    store = CellStore(prepare_store(cells, "arrays", tmp_path / "stores"))
    assert store.manifest.counts == {"lymphocyte": 5, "tumour": 5}
    assert line.strip() == '"cellpatch.data.sources.arrays.Arrays": "arrays",'
    assert "_target_: cellpatch.data.sources.arrays.Arrays" in yaml


def _file_of(name: str) -> Path:
    """A file of the layout page: below the repository, or below cellpatch/."""
    return ROOT / name if (ROOT / name).exists() else ROOT / "cellpatch" / name


def _definitions(file: Path) -> set[str]:
    """Functions, classes, their methods, and constants of a module."""
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {each.id for each in targets if isinstance(each, ast.Name)}
    return names


def test_messages_that_the_frequent_problems_quote_exist() -> None:
    files = [file for folder in ("cellpatch", "experiments") for file in (ROOT / folder).rglob("*.py")]
    source = re.sub(r'"\s*f?"', "", "".join(file.read_text() for file in files))
    quoted = re.findall(r"^> `(.+)`$", (ROOT / "docs" / "faq.md").read_text(), re.M)
    assert len(quoted) > 10
    for message in quoted:
        words = message.split()
        phrases = [" ".join(words[i : i + 4]) for i in range(len(words) - 3)]
        assert any(phrase in source for phrase in phrases), message


def test_notebooks_define_no_functions() -> None:
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in json.loads(file.read_text())["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] != "code":
                continue
            plain = "\n".join(line for line in source.splitlines() if not line.startswith(("%", "!")))
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
            assert not [node for node in ast.walk(ast.parse(plain)) if isinstance(node, kinds)], file.name
