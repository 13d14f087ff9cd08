"""Time stored runs: cellpatch latency RUNS ... [--engines eager,compiled,onnx] [--threads N] [--seconds S].

Each run is timed in a process of its own, and its card is written into its record, so that accuracy and cost join by
run, and sent to the trackers that the run has. RUNS are runs and folders of runs; anything else is skipped. A run
that cannot be timed, and an engine that cannot run here, is reported; the rest continues, and the exit status is 1.
Nothing else should run beside it.
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
from cellpatch.runs.tracking.choices import stored_choices
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
        choices = stored_choices(run.record.settings.logger, str(folder))
        if choices:
            with Tracking(choices) as tracking:
                tracking.show(run, None, anew=False)
    return card


if __name__ == "__main__":
    main()
