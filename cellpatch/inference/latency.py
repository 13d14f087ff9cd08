"""What one cell costs: milliseconds at batch 1 and at larger batches, arithmetic and memory of stored runs."""

import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch._dynamo.exc import BackendCompilerFailed

from cellpatch.data.store.reader import Geometry
from cellpatch.inference.export import Deployed, open_session, save_onnx
from cellpatch.inference.restore import predict_probabilities, restore
from cellpatch.models.backbone import count_macs, count_parameters
from cellpatch.models.network import Network
from cellpatch.runs.cards import BatchTiming, LatencyCard
from cellpatch.runs.provenance import hardware
from cellpatch.runtime.device import inference_mode, resolve_device
from cellpatch.runtime.memory import tune_malloc

ENGINES = ("eager", "compiled", "onnx")
BATCHES = (1, 4, 16, 64, 256)
_MIN_REPEATS, _MAX_REPEATS = 5, 2000
Crops = UInt8[np.ndarray, "b side side 3"]
Call = Callable[[Crops], Any]


class EngineCalls(NamedTuple):
    """What is timed of an engine: from crops in memory to probabilities in memory, and for eager its first parts."""

    whole: Call
    transfer: Call | None = None
    until_optics: Call | None = None


def measure_latency(network: Network, geometry: Geometry, engines: Sequence[str], seconds: float) -> LatencyCard:
    """The card of a network on the device that it is on.

    For each of `engines` (eager, compiled by torch.compile, onnx on the CPU): median and quartiles of the milliseconds
    per cell at each batch; eager's also split into transfer, optics and forward (differences of medians). A batch is
    repeated for about `seconds` after a warm-up, five times at least; batches that would take longer are left out.
    `peak_mib` of a batch is the process's memory (on a GPU, torch's tensors) until then. An engine that cannot run here
    is left out and the card states why.
    """
    device = next(network.parameters()).device
    timings: dict[str, list[BatchTiming]] = {}
    failures: dict[str, str] = {}
    onnx_difference = None
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with inference_mode(), tempfile.TemporaryDirectory() as folder:
        for engine in engines:
            try:
                calls = _calls(engine, network, geometry, Path(folder))
                timings[engine] = time_batches(calls, geometry, seconds, on_gpu(engine))
            except (BackendCompilerFailed, ValueError) as error:
                failures[engine] = str(error).split("\n", maxsplit=1)[0]
                continue
            if engine == "onnx":
                crops = _random_crops(64, geometry)
                onnx_difference = float(np.abs(calls.whole(crops) - predict_probabilities(network, crops)).max())
    return LatencyCard(
        hardware=hardware(),
        device=str(device),
        clock_mhz=clock_mhz(),
        parameters=count_parameters(network),
        mmac=count_macs(network.backbone) / 1e6,
        seconds=seconds,
        engines=timings,
        not_timed=failures,
        onnx_apart=onnx_difference,
    )


def _calls(engine: str, network: Network, geometry: Geometry, folder: Path) -> EngineCalls:
    device = next(network.parameters()).device
    if engine == "onnx":
        save_onnx(deepcopy(network).cpu(), geometry, folder / "network.onnx", {})
        session = open_session(folder / "network.onnx", torch.get_num_threads())
        return EngineCalls(lambda crops: session.run(None, {"crops": crops})[0])
    deployed: Any = Deployed(network).eval()
    if engine == "compiled":
        deployed = torch.compile(deployed)

    def transfer(crops: Crops) -> torch.Tensor:
        return torch.from_numpy(crops).to(device)

    def whole(crops: Crops) -> object:
        return deployed(transfer(crops)).cpu()

    if engine == "compiled":
        return EngineCalls(whole)
    return EngineCalls(whole, transfer, lambda crops: network.optics(network.pixels(transfer(crops))))


def time_batches(calls: EngineCalls, geometry: Geometry, seconds: float, gpu: bool) -> list[BatchTiming]:
    """Timings by rising batch, until one would take more than twice `seconds`."""
    timings: list[BatchTiming] = []
    for batch in BATCHES:
        if timings and timings[-1].ms * batch * _MIN_REPEATS > 2 * seconds * 1000:
            break
        crops = _random_crops(batch, geometry)
        whole = repeat(calls.whole, crops, seconds) / batch
        low, median, high = np.quantile(whole, [0.25, 0.5, 0.75]).tolist()
        transfer_ms = optics_ms = forward_ms = None
        if calls.transfer is not None and calls.until_optics is not None:
            transfer_ms = float(np.median(repeat(calls.transfer, crops, seconds) / batch))
            until_optics_ms = float(np.median(repeat(calls.until_optics, crops, seconds) / batch))
            optics_ms, forward_ms = until_optics_ms - transfer_ms, median - until_optics_ms
        timings.append(
            BatchTiming(
                batch=batch,
                ms=median,
                low=low,
                high=high,
                repeats=len(whole),
                peak_mib=_peak_mib(gpu),
                transfer_ms=transfer_ms,
                optics_ms=optics_ms,
                forward_ms=forward_ms,
            )
        )
    return timings


def _random_crops(n: int, geometry: Geometry) -> Crops:
    return np.random.default_rng(0).integers(0, 256, (n, geometry.side_px, geometry.side_px, 3), dtype=np.uint8)


def repeat(call: Call, crops: Crops, seconds: float) -> Float[np.ndarray, " n"]:
    """Milliseconds of 5 to 2000 single calls, for about `seconds`, after a fifth of that as warm-up.

    By CUDA events where there is a GPU, else by the processor's clock.
    """
    times: list[float] = []
    for span, least in ((seconds / 5, 2), (seconds, _MIN_REPEATS)):
        times, left_ms = [], span * 1000
        while (left_ms > 0 and len(times) < _MAX_REPEATS) or len(times) < least:
            times.append(_by_events(call, crops) if torch.cuda.is_available() else _by_clock(call, crops))
            left_ms -= times[-1]
    return np.array(times)


def _by_clock(call: Call, crops: Crops) -> float:
    started = time.perf_counter()
    call(crops)
    return (time.perf_counter() - started) * 1000


def _by_events(call: Call, crops: Crops) -> float:
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    call(crops)
    last.record()
    last.synchronize()
    return first.elapsed_time(last)


def on_gpu(engine: str) -> bool:
    """Whether an engine runs on the GPU here."""
    return engine != "onnx" and torch.cuda.is_available()


def _peak_mib(gpu: bool) -> float:
    if gpu:
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def clock_mhz() -> float | None:
    """The mean clock of the processor's cores as the kernel reports it now, None where it does not."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    clocks = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    return float(np.mean(clocks)) if clocks else None


def fastest_batch(timings: Sequence[BatchTiming]) -> BatchTiming:
    """The batch with the least milliseconds per cell."""
    return min(timings, key=lambda timing: timing.ms)


def measure_run(
    run: Path, engines: Sequence[str], threads: int | None, seconds: float, weights_file: Path | None = None
) -> LatencyCard:
    """The card of a stored run, best in a process of its own: on a CPU, `peak_mib` is what the process grew by."""
    tune_malloc()
    if threads is not None:
        torch.set_num_threads(threads)
    before = _peak_mib(gpu=False)
    restored = restore(run, weights_file)
    card = measure_latency(restored.network.to(resolve_device("auto")), restored.geometry, engines, seconds)
    grown = {
        engine: timings if on_gpu(engine) else [replace(each, peak_mib=each.peak_mib - before) for each in timings]
        for engine, timings in card.engines.items()
    }
    return replace(card, engines=grown)
