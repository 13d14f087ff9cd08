"""The pages of docs/."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
from conftest import ROOT


def test_the_pages_build_and_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {file.stem: file.read_text() for file in (tmp_path / "site").glob("*.html")}
    assert {file.stem for file in (ROOT / "docs").glob("*.md")} <= set(pages)
    for name, page in pages.items():
        assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(?:https?:)?//[^"]*"', page), name
    assert "Satterthwaite" in pages["functions"], "docstrings are rendered"


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    for file in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{file.name})" in readme, file.name


def test_shares_of_intervals_that_hold_are_the_kept_ones() -> None:
    kept = pd.read_csv(ROOT / "experiments" / "coverage.csv")
    kept = {tuple(f"{100 * share:.1f}" for share in of["covers"]) for _, of in kept.groupby("interval", sort=False)}
    page = (ROOT / "docs" / "statistics.md").read_text()
    told = [tuple(re.findall(r"([\d.]+) %", line)) for line in page.splitlines() if line.count("|") > 5]
    told = [shares for shares in told if len(shares) == 4]
    assert len(told) == 10
    assert set(told) <= kept


def test_notebooks_define_no_functions() -> None:
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in json.loads(file.read_text())["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] != "code":
                continue
            plain = "\n".join(line for line in source.splitlines() if not line.startswith(("%", "!")))
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
            assert not [node for node in ast.walk(ast.parse(plain)) if isinstance(node, kinds)], file.name
