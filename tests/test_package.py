"""What people expect of a public package: one version, a citation, a changelog, types."""

import datetime
import re
import tomllib
from typing import Any

from conftest import ROOT
from omegaconf import OmegaConf

from cellpatch import __version__

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "CITATION.cff"))  # YAML
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()


def test_the_citation_is_of_this_version_and_of_the_study() -> None:
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["title"] == PROJECT["name"]
    assert CITATION["version"] == __version__
    assert CITATION["license"] == PROJECT["license"]
    assert " ".join(CITATION["abstract"].split()) == PROJECT["description"]
    [study] = CITATION["references"]
    assert study["title"].startswith("Revisiting the Role of Foundation Models in Cell-Level Histopathological Image")
    paper = (ROOT / "docs" / "paper.md").read_text()
    [identifier] = study["identifiers"]
    assert identifier["value"].replace(":", " ") in paper
    for author in study["authors"]:
        assert author.get("family-names", "et al.") in paper


def test_the_changelog_has_this_version_and_keeps_the_form() -> None:
    headings = re.findall(r"^## (.+)$", CHANGELOG, re.M)
    assert headings[0] == "Unreleased"
    versions = [heading.split(" - ") for heading in headings[1:]]
    assert versions[0][0] == __version__
    numbers = [tuple(map(int, version.split("."))) for version, _ in versions]
    assert numbers == sorted(numbers, reverse=True)
    dates = [datetime.date.fromisoformat(date) for _, date in versions]
    assert dates == sorted(dates, reverse=True)
    kinds = set(re.findall(r"^### (.+)$", CHANGELOG, re.M))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_prose_is_wrapped() -> None:
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]:
        in_block = False
        for number, line in enumerate(page.read_text().splitlines(), 1):
            in_block ^= line.lstrip().startswith("```")
            is_prose = not in_block and not line.startswith((" ", "|", "`", "#", "![")) and "`" not in line
            assert len(line) <= 100 or not is_prose, f"{page.name}, line {number}"


def test_types_are_marked() -> None:
    assert (ROOT / "cellpatch" / "py.typed").read_bytes() == b""
