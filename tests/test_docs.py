"""The pages of docs/."""

import re
import subprocess
import sys
from pathlib import Path

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
