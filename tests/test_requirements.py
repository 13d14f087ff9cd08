"""requirements.txt is constraints.txt with checksums: `make lock` writes it."""

import re
import tomllib

from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("dev", "export", "slides", "weights")  # those of `make run`


def _pins(name: str) -> dict[str, str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    requirements = [Requirement(line.rstrip(" \\")) for line in text.splitlines() if line[:1].isalnum()]
    return {canonicalize_name(each.name): str(each.specifier) for each in requirements}


def test_versions_are_those_of_constraints() -> None:
    constraints = _pins("constraints.txt")
    assert {name: constraints.get(name) for name in _pins("requirements.txt")} == _pins("requirements.txt")


def test_every_requirement_has_checksums() -> None:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text.strip())
    assert all(re.fullmatch(r"[^\n]+==[^\n]+( \\\n    --hash=sha256:[0-9a-f]{64})+", entry) for entry in entries)


def test_it_covers_the_package_and_its_build() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    wanted += [text for extra in EXTRAS for text in extras[extra]]
    pins = _pins("requirements.txt")
    for requirement in map(Requirement, wanted):
        if requirement.name != "cellpatch":  # an extra of an extra
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)].removeprefix("==")), (
                requirement
            )
