"""What one cell costs: milliseconds at batch 1 and at the best batch, arithmetic and memory of stored runs.

    python -m cellpatch.latency RUN ... [--engines eager,compiled,onnx] [--threads N] [--seconds S] [--weights FILE]

Each run is timed in a process of its own, from crops in memory to probabilities in memory, and its card is written
into its record, so that accuracy and cost join by run, and sent to W&B where the run logged there. What is no run, or
an engine that cannot run here, is told, the rest goes on, and the exit status is 1. Nothing else should run beside it.
"""

import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch._dynamo.exc import BackendCompilerFailed

from cellpatch.data.store.reader import Geometry
from cellpatch.inference.export import Deployed, open_session, save_onnx
from cellpatch.inference.predict import probabilities_of
from cellpatch.inference.restore import geometry_of, restore
from cellpatch.models.backbone import count_macs, count_parameters
from cellpatch.models.network import Network
from cellpatch.optics.operator import to_pixels
from cellpatch.runs.record import hardware, read_record
from cellpatch.runtime.device import inference_mode, resolve_device, tune_malloc

ENGINES = ("eager", "compiled", "onnx")
BATCHES = (1, 4, 16, 64, 256)
_LEAST_REPEATS, _MOST_REPEATS = 5, 2000
Crops = UInt8[np.ndarray, "b side side 3"]


def measure_latency(network: Network, geometry: Geometry, engines: Sequence[str], seconds: float) -> dict[str, Any]:
    """The card of a network on the device that it is on.

    `engines` maps each of eager, compiled (torch.compile) and onnx (ONNX Runtime, CPU) to its batches: median and
    quartiles of the milliseconds per cell; eager's also split into transfer, optics and forward (differences of
    medians). A batch is repeated for about `seconds` after a warm-up, five times at least; batches that would take
    longer are left out. `peak_mib` of a batch is the process's (of torch on a GPU, its tensors') until then.
    `onnx_apart` is the largest difference between ONNX Runtime's probabilities and torch's, of random crops. An engine
    that cannot run here is left out and `lacking` says why.
    """
    device = next(network.parameters()).device
    card: dict[str, Any] = {
        "hardware": hardware(),
        "device": str(device),
        "clock_mhz": clock_mhz(),
        "parameters": count_parameters(network),
        "mmac": count_macs(network.backbone) / 1e6,
        "seconds": seconds,
        "engines": {},
        "lacking": {},
    }
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with inference_mode(), tempfile.TemporaryDirectory() as folder:
        for engine in engines:
            try:
                calls = _calls(engine, network, geometry, Path(folder))
                card["engines"][engine] = _time_batches(calls, geometry, seconds, _on_gpu(engine))
            except (BackendCompilerFailed, ValueError) as error:
                card["lacking"][engine] = str(error).split("\n", maxsplit=1)[0]
            else:
                if engine == "onnx":
                    crops = _crops(64, geometry)
                    card["onnx_apart"] = float(np.abs(calls["whole"](crops) - probabilities_of(network, crops)).max())
    return card


def _calls(engine: str, network: Network, geometry: Geometry, folder: Path) -> dict[str, Callable[[Crops], Any]]:
    """What is timed of an engine: `whole`, and parts of it; each takes crops in memory."""
    device = next(network.parameters()).device
    if engine == "onnx":
        save_onnx(deepcopy(network).cpu(), geometry, folder / "network.onnx", {})
        session = open_session(folder / "network.onnx", torch.get_num_threads())
        return {"whole": lambda crops: session.run(None, {"crops": crops})[0]}
    deployed: Any = Deployed(network).eval()
    if engine == "compiled":
        deployed = torch.compile(deployed)

    def whole(crops: Crops) -> object:
        return deployed(torch.from_numpy(crops).to(device)).cpu()

    if engine == "compiled":
        return {"whole": whole}

    def optics(crops: Crops) -> torch.Tensor:
        moved = torch.from_numpy(crops).to(device)
        return network.optics(to_pixels(network.optics.trim(moved)))

    return {"whole": whole, "transfer": lambda crops: torch.from_numpy(crops).to(device), "to optics": optics}


def _time_batches(
    calls: dict[str, Callable[[Crops], object]], geometry: Geometry, seconds: float, on_gpu: bool
) -> list[dict[str, Any]]:
    last = 0.0
    rows: list[dict[str, Any]] = []
    for batch in BATCHES:
        if rows and last * batch * _LEAST_REPEATS > 2 * seconds * 1000:
            break
        crops = _crops(batch, geometry)
        taken = {name: repeat(call, crops, seconds) / batch for name, call in calls.items()}
        low, last, high = np.quantile(taken["whole"], [0.25, 0.5, 0.75]).tolist()
        row = {"batch": batch, "ms": last, "low": low, "high": high, "repeats": len(taken["whole"])}
        row["peak_mib"] = _peak_mib(on_gpu)
        if "to optics" in taken:
            transfer, optics = (float(np.median(taken[name])) for name in ("transfer", "to optics"))
            row |= {"transfer_ms": transfer, "optics_ms": optics - transfer, "forward_ms": last - optics}
        rows.append(row)
    return rows


def _crops(n: int, geometry: Geometry) -> Crops:
    return np.random.default_rng(0).integers(0, 256, (n, geometry.side_px, geometry.side_px, 3), dtype=np.uint8)


def repeat(call: Callable[[Crops], object], crops: Crops, seconds: float) -> Float[np.ndarray, " n"]:
    """Milliseconds of 5 to 2000 single calls, for about `seconds`, after a fifth of that as warm-up.

    By CUDA events where there is a GPU, else by the processor's clock.
    """
    taken: list[float] = []
    for span, least in ((seconds / 5, 2), (seconds, _LEAST_REPEATS)):
        taken, left_ms = [], span * 1000
        while (left_ms > 0 and len(taken) < _MOST_REPEATS) or len(taken) < least:
            taken.append(_by_events(call, crops) if torch.cuda.is_available() else _by_clock(call, crops))
            left_ms -= taken[-1]
    return np.array(taken)


def _by_clock(call: Callable[[Crops], object], crops: Crops) -> float:
    started = time.perf_counter()
    call(crops)
    return (time.perf_counter() - started) * 1000


def _by_events(call: Callable[[Crops], object], crops: Crops) -> float:
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    call(crops)
    last.record()
    last.synchronize()
    return first.elapsed_time(last)


def _on_gpu(engine: str) -> bool:
    return engine != "onnx" and torch.cuda.is_available()


def _peak_mib(on_gpu: bool) -> float:
    if on_gpu:
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def clock_mhz() -> float | None:
    """The mean clock of the processor's cores as the kernel tells it now, None where it does not."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    clocks = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    return float(np.mean(clocks)) if clocks else None


def best(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The batch with the least milliseconds per cell."""
    return min(rows, key=lambda row: row["ms"])


def measure_run(
    run: Path, engines: Sequence[str], threads: int | None, seconds: float, weights_file: Path | None = None
) -> dict[str, Any]:
    """The card of a stored run, best in a process of its own: on a CPU, `peak_mib` is what the process grew by."""
    tune_malloc()
    if threads is not None:
        torch.set_num_threads(threads)
    record = read_record(run)
    before = _peak_mib(on_gpu=False)
    network = restore(run, weights_file).to(resolve_device(record["config"]["trainer"] | {"accelerator": "auto"}))
    card = measure_latency(network, geometry_of(record), engines, seconds)
    for row in [row for engine, rows in card["engines"].items() if not _on_gpu(engine) for row in rows]:
        row["peak_mib"] -= before
    return card
