"""Command latency."""

import argparse
import math
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from cellpatch.inference.latency import ENGINES, best, measure_run
from cellpatch.runs.locks import run_lock
from cellpatch.runs.record import read_record, update_record
from cellpatch.runs.wandb_log import log_latency


def format_latency_card(name: str, card: dict[str, Any]) -> str:
    """Lines for people: each engine at batch 1 and at its best batch."""
    cost = f"{card['parameters'] / 1e6:.2f} M parameters, {card['mmac']:.0f} M MACs"
    clock = "" if card["clock_mhz"] is None else f" at {card['clock_mhz']:.0f} MHz"
    lines = [f"{name}: {cost}, {card['hardware']['threads']} threads{clock} on {card['device']}"]
    for engine, rows in card["engines"].items():
        for row in (rows[0], best(rows)):
            spread = f"({row['low']:.3f} to {row['high']:.3f}), {row['peak_mib']:.0f} MiB"
            lines.append(f"  {engine:9} batch {row['batch']:3}: {row['ms']:8.3f} ms a cell {spread}")
    lines += [f"  {engine}: not timed: {reason}" for engine, reason in card["lacking"].items()]
    if "onnx_apart" in card:
        lines.append(f"  onnx: probabilities differ from torch's by at most {card['onnx_apart']:.1e}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cellpatch.latency", description="Time stored runs.")
    parser.add_argument("runs", type=Path, nargs="+", help="folders below runs_dir")
    parser.add_argument("--engines", default=",".join(ENGINES), help=f"of {', '.join(ENGINES)}, by commas")
    parser.add_argument("--threads", type=int, help="threads of the CPU; as torch chooses if left out")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each batch is repeated")
    parser.add_argument("--weights", type=Path, help="where the published weights are now, if elsewhere than then")
    options = parser.parse_args(arguments)
    if options.threads is not None and options.threads < 1:
        sys.exit(f"error: --threads must be >= 1, but got {options.threads}")
    engines = options.engines.split(",")
    if not set(engines) <= set(ENGINES) or not 0 < options.seconds < math.inf:
        told_of = f"{engines} and {options.seconds}"
        sys.exit(f"error: --engines must be of {list(ENGINES)} and --seconds finite and > 0, but got {told_of}")
    spawn = multiprocessing.get_context("spawn")
    whole = True
    for run in options.runs:
        try:
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                asked = (run, engines, options.threads, options.seconds, options.weights)
                card = pool.submit(measure_run, *asked).result()
            record = read_record(run)
            with run_lock(run.parent, record["identity"]):
                update_record(run, latency=card)
            log_latency(run, record["config"], card)
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            whole = False
            continue
        print(format_latency_card(run.name, card))
        whole = whole and not card["lacking"]
    if not whole:
        sys.exit(1)


if __name__ == "__main__":
    main()
