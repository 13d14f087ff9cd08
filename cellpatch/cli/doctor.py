"""Check this machine and installation: cellpatch doctor [--json]."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cellpatch.cli.checks.accounts import ask_hub, check_accounts
from cellpatch.cli.checks.finding import Finding
from cellpatch.cli.checks.folders import check_folders, default_folders
from cellpatch.cli.checks.machine import check_machine
from cellpatch.cli.checks.packages import check_packages
from cellpatch.cli.checks.weights import check_weights
from cellpatch.runtime.version import __version__

_STYLES = {"ok": "green", "note": "yellow", "fail": "bold red"}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="cellpatch doctor",
        description="Check libraries, device, threads, folders, locks, weights and accounts. Downloads nothing, and "
        "shows no token. The status is 1 if something that trainings need fails.",
    )
    defaults = default_folders()
    for key, folder in defaults.items():
        option = f"--{key.replace('_', '-')}"
        parser.add_argument(option, type=Path, default=folder, metavar="DIR", help=f"default: {folder}")
    parser.add_argument("--weights-dir", type=Path, metavar="DIR", help="folder of published weights")
    parser.add_argument("--offline", action="store_true", help="do not ask whether the hub answers")
    parser.add_argument("--json", action="store_true", help="print JSON, for an issue or a cluster's log")
    options = parser.parse_args(arguments)
    folders = {key: getattr(options, key) for key in defaults}
    findings = list(examine(folders, options.weights_dir, use_network=not options.offline))
    if options.json:
        print(json.dumps({"cellpatch": __version__, "findings": [asdict(each) for each in findings]}, indent=1))
    else:
        _print(findings)
    if any(each.state == "fail" for each in findings):
        sys.exit(1)


def examine(folders: dict[str, Path], weights_dir: Path | None, use_network: bool) -> Iterator[Finding]:
    """Every check, in the order of the table."""
    hub_answers = ask_hub(use_network)
    machine = list(check_machine())
    yield from check_packages()
    yield from machine
    yield from check_folders(folders)
    if not any(each.name == "device" and each.state == "fail" for each in machine):
        yield from check_weights(weights_dir)  # reads them through torch
    yield from check_accounts(hub_answers)


def _print(findings: Sequence[Finding]) -> None:
    console = Console()
    if console.is_terminal:
        console.print(_table(findings))
    else:  # one line a finding, however long: for grep, and for an issue
        width = max(len(each.name) for each in findings)
        for each in findings:
            advice = f"; do: {each.advice}" if each.advice else ""
            print(f"{each.state:6}{each.name:{width}}  {each.found}{advice}")
    counts = {state: sum(each.state == state for each in findings) for state in _STYLES}
    print(f"cellpatch {__version__}: {counts['ok']} ok, {counts['note']} to note, {counts['fail']} failed")


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column()
    table.add_column(overflow="fold")
    for each in findings:
        style = _STYLES[each.state]
        advice = f"\n[bold]do:[/] {escape(each.advice)}" if each.advice else ""
        table.add_row(f"[{style}]{each.state}[/]", each.name, escape(each.found) + advice)
    return table


if __name__ == "__main__":
    main()
