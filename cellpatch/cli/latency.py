"""Time stored runs: cellpatch latency RUNS ... [--engines eager,compiled,onnx] [--threads N] [--seconds S].

Each run is timed in a process of its own. Its card is written into its record, so that accuracy and cost join by run,
and shown in the run's trackers; those on a server get it with --upload. RUNS are runs and folders of runs; anything
else is skipped. A run that cannot be timed, and an engine that cannot run here, is reported; the rest continues, and
the exit status is 1. Nothing else should run beside it.
"""

import argparse
import math
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from cellpatch.cli.each_run import for_each_run, runs_of
from cellpatch.inference.latency import ENGINES, fastest_batch, measure_run
from cellpatch.runs.cards import LatencyCard
from cellpatch.runs.locks import lock_to_write, require_writable_run
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.tracking.settings import is_local, stored_trackers
from cellpatch.runs.tracking.tracker import Tracking


def format_latency_card(name: str, card: LatencyCard) -> str:
    """Lines for people: each engine at batch 1 and at its best batch."""
    cost = f"{card.parameters / 1e6:.2f} M parameters, {card.mmac:.0f} M MACs"
    clock = "" if card.clock_mhz is None else f" at {card.clock_mhz:.0f} MHz"
    lines = [f"{name}: {cost}, {card.hardware.threads} threads{clock} on {card.device}"]
    for engine, timings in card.engines.items():
        for timing in (timings[0], fastest_batch(timings)):
            spread = f"({timing.low:.3f} to {timing.high:.3f}), {timing.peak_mib:.0f} MiB"
            lines.append(f"  {engine:9} batch {timing.batch:3}: {timing.ms:8.3f} ms a cell {spread}")
    lines += [f"  {engine}: not timed: {reason}" for engine, reason in card.not_timed.items()]
    if card.onnx_apart is not None:
        lines.append(f"  onnx: probabilities differ from torch's by at most {card.onnx_apart:.1e}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="cellpatch latency", description="Time stored runs.")
    parser.add_argument("runs", type=Path, nargs="+", help="runs, or folders of runs")
    parser.add_argument("--engines", default=",".join(ENGINES), help=f"of {', '.join(ENGINES)}, by commas")
    parser.add_argument("--threads", type=int, help="threads of the CPU; as torch chooses if left out")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each batch is repeated")
    parser.add_argument("--weights", type=Path, help="the published weights, if they have moved since training")
    parser.add_argument("--upload", action="store_true", help="send cards to the servers that records name, too")
    options = parser.parse_args(arguments)
    if options.threads is not None and options.threads < 1:
        sys.exit(f"error: --threads must be >= 1, but got {options.threads}")
    engines = options.engines.split(",")
    if not set(engines) <= set(ENGINES) or not 0 < options.seconds < math.inf:
        got = f"{engines} and {options.seconds}"
        sys.exit(f"error: --engines must be of {list(ENGINES)} and --seconds finite and > 0, but got {got}")
    for_each_run(runs_of(options.runs), lambda run: _time(run, engines, options))


def _time(folder: Path, engines: Sequence[str], options: argparse.Namespace) -> bool:
    """Time a run and print its card; whether every engine was timed."""
    require_writable_run(folder)
    card = _measure_apart(folder, engines, options)
    print(format_latency_card(folder.name, card))
    return not card.not_timed


def _measure_apart(folder: Path, engines: Sequence[str], options: argparse.Namespace) -> LatencyCard:
    """Time a run in a process of its own and write the card into its record."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        job = pool.submit(measure_run, folder, engines, options.threads, options.seconds, options.weights)
        try:
            card = job.result()
        except BrokenProcessPool as error:
            raise ValueError(f"{folder}: the process that timed it was killed, as when memory is full") from error
    run = StoredRun.open(folder)
    with lock_to_write(folder.parent, run.record.identity):
        run = StoredRun.open(folder).with_latency(card)
        _show(run, options.upload)
    return card


def _show(run: StoredRun, upload: bool) -> None:
    """Send a card to the trackers that the run's record names; to those on servers only if the user asks for it."""
    stored = stored_trackers(run.record.settings.logger, str(run.folder))
    trackers = [settings for settings in stored if upload or is_local(settings)]
    if len(trackers) < len(stored):
        print(f"{run.name}: its card is not sent to a server; --upload sends it")
    if trackers:
        with Tracking(trackers) as tracking:
            tracking.show(run, None, anew=False)


if __name__ == "__main__":
    main()
