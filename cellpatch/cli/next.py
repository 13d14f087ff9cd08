"""Propose which cells to label next: cellpatch next RUN SOURCE ... [--n 200] [--out next]."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from cellpatch.cli.point_options import add_point_options
from cellpatch.data.images.pixels import ImageOptions
from cellpatch.inference.choose_cells import STRATEGIES
from cellpatch.inference.new_cells import PointOptions
from cellpatch.inference.next_cells import NextOptions, propose
from cellpatch.inference.next_files import write_proposal
from cellpatch.inference.unlabelled_pool import describe
from cellpatch.runs.folders import require_one_run
from cellpatch.runtime.logs import log_to_terminal
from cellpatch.runtime.memory import tune_malloc
from cellpatch.runtime.plain_text import plain

log = logging.getLogger(__name__)

_EPILOG = """\
OUT/next.csv has a row a cell with an empty column class: fill it in. For points, OUT has a GeoJSON file an image too:
set the classes in QuPath. Then train with the new labels beside the earlier ones, and ask again:

    cellpatch next RUN slides/*.geojson --slide images --n 200 --out labels/round1
    cellpatch next RUN2 slides/*.geojson --slide images --out labels/round2 --earlier RUN --target 0.8

--earlier names the runs of earlier rounds, or folders of them: the scores of all rounds state how many labels are
missing. All rounds must be tested on the same cells (docs/next.md)."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a proposal, and print what more labels are worth; ends with status 1 if it could not be written."""
    options = _parser().parse_intermixed_args(arguments)
    tune_malloc()
    log_to_terminal()
    try:
        _check_plan(options.target, options.seconds_per_label)
        run = require_one_run(options.run)
        proposal = propose(run, options.source, _options(options))
        files = write_proposal(proposal, options.out)
    except (ValueError, OSError) as error:
        sys.exit(plain(f"error: {error}"))
    print(plain(f"{files[0]}: {len(proposal)} cells to label, by {options.strategy}; {_spread(files)}"))
    if proposal.left_out.total():
        print(plain(f"  left out: {describe(proposal.left_out)}"))
    for note in proposal.pool.notes:
        print(plain(f"  note: {note}"))
    try:
        print(plain("\n".join(_plan(run, options, len(proposal)))))
    except (ValueError, OSError) as error:
        sys.exit(plain(f"error: the cells to label are written, but there is no plan: {error}"))


def _plan(run: Path, options: argparse.Namespace, more: int) -> list[str]:
    from cellpatch.analysis.results import read_results
    from cellpatch.analysis.rounds import rounds_of
    from cellpatch.cli.next_plan import plan_in_words

    results = {result.run: result for result in read_results(run, *options.earlier)}
    return plan_in_words(rounds_of(list(results.values())), options.target, more, options.seconds_per_label)


def _check_plan(target: float | None, seconds: float | None) -> None:
    if target is not None and not 0 < target < 1:
        raise ValueError(f"--target must be a macro-F1 in (0, 1), but got {target:g}")
    if seconds is not None and not 0 < seconds < float("inf"):
        raise ValueError(f"--seconds-per-label must be finite and > 0, but got {seconds:g}")


def _spread(files: Sequence[Path]) -> str:
    return f"{len(files) - 1} GeoJSON files" if len(files) > 1 else "no GeoJSON, for the cells are crops"


def _options(options: argparse.Namespace) -> NextOptions:
    image = ImageOptions(options.orientation, options.scene, options.slide_origin)
    return NextOptions(
        n=options.n,
        strategy=options.strategy,
        seed=options.seed,
        spread=not options.no_spread,
        specimen_pattern=options.specimen_pattern,
        points=PointOptions(options.um_per_px, options.border, options.slide, options.pixel_origin, image),
        weights_file=options.weights,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cellpatch next",
        description="Propose which unlabelled cells to label next, and state what more labels are worth.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="the run of the labels so far, or a folder that holds one")
    parser.add_argument("source", type=Path, nargs="+", help="unlabelled cells, as for cellpatch predict")
    parser.add_argument("--n", type=int, default=NextOptions.n, help="cells to label (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("next"), help="a new folder (default: %(default)s)")
    default = NextOptions.strategy
    parser.add_argument("--strategy", choices=list(STRATEGIES), default=default, help="default: %(default)s")
    parser.add_argument("--no-spread", action="store_true", help="do not take equally many cells of each specimen")
    parser.add_argument("--seed", type=int, default=NextOptions.seed, help="another one chooses other cells")
    parser.add_argument("--specimen-pattern", help="its first group finds the specimen in an image's path")
    parser.add_argument("--weights", type=Path, help="the published weights, if they have moved since training")
    plan = parser.add_argument_group("plan")
    plan.add_argument("--earlier", type=Path, nargs="+", default=[], metavar="RUN", help="runs of earlier rounds")
    plan.add_argument("--target", type=float, metavar="F1", help="how many more labels until this macro-F1?")
    plan.add_argument("--seconds-per-label", type=float, metavar="S", help="your time for a cell, to state hours")
    add_point_options(parser)
    return parser


if __name__ == "__main__":
    main()
