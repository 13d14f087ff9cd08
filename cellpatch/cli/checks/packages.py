"""Python, the libraries that the package's metadata asks for, and its optional extras."""

import platform
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from cellpatch.cli.checks.finding import Finding

Installed = Callable[[str], str | None]  # the version of a distribution, None if it is not installed
_FOR_DEVELOPERS = "dev"


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution; None without it."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def check_packages() -> Iterator[Finding]:
    """Python, libraries and extras of this installation."""
    about = metadata.metadata("cellpatch")
    requirements = [Requirement(line) for line in metadata.requires("cellpatch") or ()]
    yield check_python(platform.python_version(), about["Requires-Python"])
    yield check_libraries(requirements, installed_version)
    yield check_torch_pair(installed_version, metadata.requires)
    yield from check_extras(requirements, about.get_all("Provides-Extra") or (), installed_version)


def check_python(version: str, allowed: str) -> Finding:
    """Whether cellpatch supports this Python."""
    if version in SpecifierSet(allowed):
        return Finding("python", "ok", version)
    return Finding("python", "fail", f"{version}, but cellpatch needs {allowed}", "use Python 3.11 to 3.13")


def check_libraries(requirements: Sequence[Requirement], installed: Installed) -> Finding:
    """Whether each library that cellpatch always needs is installed, in a version that it allows."""
    needed = [each for each in requirements if _is_for(each, "")]
    problems = [problem for each in needed if (problem := _problem(each, installed)) is not None]
    if not problems:
        return Finding("libraries", "ok", f"{len(needed)} libraries within the bounds of cellpatch")
    names = " ".join(f"'{each.name}{each.specifier}'" for each in needed if _problem(each, installed) is not None)
    return Finding("libraries", "fail", "; ".join(problems), f"pip install {names}")


def check_torch_pair(installed: Installed, requires: Callable[[str], list[str] | None]) -> Finding:
    """Whether torchvision was built for the torch beside it: others fail with "torchvision::nms does not exist"."""
    torch, vision = installed("torch"), installed("torchvision")
    if torch is None or vision is None:
        return Finding("torchvision", "fail", "torch or torchvision is not installed", "pip install torch torchvision")
    wanted = [each.specifier for each in map(Requirement, requires("torchvision") or ()) if each.name == "torch"]
    for_cpu = {Version(version).local == "cpu" for version in (torch, vision)}  # others have CUDA's version, or none
    found = f"torchvision {vision} beside torch {torch}"
    if len(for_cpu) == 1 and all(specifier.contains(Version(torch).public, True) for specifier in wanted):
        return Finding("torchvision", "ok", found)
    advice = "install both from one place, in one command: pip install --force-reinstall torch torchvision"
    return Finding("torchvision", "fail", f"{found}: not built for each other", advice)


def check_extras(requirements: Sequence[Requirement], extras: Sequence[str], installed: Installed) -> Iterator[Finding]:
    """Each optional extra: complete, or the command that installs it."""
    for extra in extras:
        if extra == _FOR_DEVELOPERS:
            continue
        parts = [each for each in requirements if not _is_for(each, "") and _is_for(each, extra)]
        problems = [problem for each in parts if (problem := _problem(each, installed)) is not None]
        if problems:
            yield Finding(f"extra {extra}", "note", "; ".join(problems), f"pip install 'cellpatch[{extra}]'")
        else:
            versions = ", ".join(f"{each.name} {installed(each.name)}" for each in parts)
            yield Finding(f"extra {extra}", "ok", versions)


def _is_for(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _problem(requirement: Requirement, installed: Installed) -> str | None:
    version = installed(requirement.name)
    if version is None:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement.name} {version} is not {requirement.specifier}"
