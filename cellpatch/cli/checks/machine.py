"""Device, threads and memory of this machine."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from cellpatch.cli.checks.finding import GIB, Finding

_CGROUP = Path("/sys/fs/cgroup")
_FAST_BF16 = ("avx512_bf16", "amx_bf16")  # flags of /proc/cpuinfo
_FEW_MEMORY_GIB = 3.0  # one training process takes 1.3 GiB, and the cells come on top


def check_machine() -> Iterator[Finding]:
    """Torch and its device, threads, memory."""
    device = check_device()
    yield device
    if device.state != "fail":
        import torch

        yield check_threads(
            threads=torch.get_num_threads(),
            cores=len(os.sched_getaffinity(0)),
            quota=cgroup_cores(_CGROUP, own_cgroup()),
            load=os.getloadavg()[0],
            omp=os.environ.get("OMP_NUM_THREADS"),
        )
    yield check_memory(available_bytes(Path("/proc/meminfo")), cgroup_bytes_left(_CGROUP, own_cgroup()))


def check_device() -> Finding:
    """Torch and the device that trainer.accelerator=auto takes."""
    try:
        import torch

        from cellpatch.runtime.device import has_fast_bfloat16
    except (ImportError, OSError, RuntimeError) as error:  # a library that is missing or of another build
        reason = str(error).splitlines()[0]
        return Finding("device", "fail", f"torch cannot be imported: {reason}", "pip install torch torchvision")
    version = f"torch {torch.__version__}"
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        names = ", ".join(f"{each.name} ({each.total_memory / GIB:.0f} GiB)" for each in devices)
        bf16 = "bf16-mixed by default" if torch.cuda.is_bf16_supported() else "no bf16: 32-true by default"
        return Finding("device", "ok", f"{version}, GPU {names}, {bf16}")
    flags = cpu_flags(Path("/proc/cpuinfo"))
    known = [flag for flag in _FAST_BF16 if flag in flags]
    fast = f"fast bf16 ({', '.join(known)})" if has_fast_bfloat16() else "no fast bf16: keep trainer.precision=null"
    found = f"{version}, no GPU, CPU with {fast}"
    if Path("/proc/driver/nvidia/version").exists():
        return Finding("device", "note", f"{found}; there is an NVIDIA driver", _gpu_advice(torch.version.cuda))
    return Finding("device", "ok", found)


def _gpu_advice(built_for: str | None) -> str:
    if built_for is None:
        return "this torch is built for the CPU: install one for CUDA"
    return f"this torch needs a driver for CUDA {built_for}, and a GPU that this process may use: see nvidia-smi"


def cpu_flags(file: Path) -> set[str]:
    """The flags in /proc/cpuinfo; none on processors that list them under another name."""
    found = re.search(r"^flags\s*:(.*)$", file.read_text(encoding="utf-8"), re.M) if file.exists() else None
    return set(found[1].split()) if found else set()


def check_threads(threads: int, cores: int, quota: float | None, load: float, omp: str | None) -> Finding:
    """Whether torch's threads fit the cores that this process may use.

    libgomp's threads spin while they wait, so more threads than free cores are slower than one. `quota` is the number
    of cores that cgroups allow, `load` the mean number of processes that ran in the last minute.
    """
    usable = cores if quota is None else min(cores, quota)
    limit = "" if quota is None else f", {quota:g} by cgroup"
    is_set = omp is not None and omp.isdecimal() and int(omp) > 0
    setting = f"OMP_NUM_THREADS={omp}" if is_set else "OMP_NUM_THREADS is not set"
    found = f"{threads} threads on {cores} cores{limit}, load {load:.1f}, {setting}"
    fitting = max(1, int(usable))
    if omp is not None and not is_set:
        return Finding("threads", "note", f"{found} to a whole number", f"set OMP_NUM_THREADS={fitting}")
    if threads > fitting:
        return Finding("threads", "note", found, f"set OMP_NUM_THREADS={fitting}: threads wait for each other")
    if threads > 1 and load + threads > cores + 1:
        advice = "other programs use the cores: OMP_NUM_THREADS=1 can be many times faster"
        return Finding("threads", "note", found, advice)
    return Finding("threads", "ok", found)


def check_memory(available: int | None, cgroup_left: int | None) -> Finding:
    """Memory (RAM) in bytes that a training may take now."""
    known = [each for each in (available, cgroup_left) if each is not None]
    if not known:
        return Finding("memory", "note", "unknown: /proc/meminfo is missing")
    free = min(known) / GIB
    limited = " (by cgroup)" if cgroup_left is not None and cgroup_left == min(known) else ""
    found = f"{free:.1f} GiB available{limited}"
    if free < _FEW_MEMORY_GIB:
        return Finding("memory", "note", found, "close other programs; data.loading.resident_gib=0 keeps crops on disk")
    return Finding("memory", "ok", found)


def available_bytes(file: Path) -> int | None:
    """MemAvailable of /proc/meminfo."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", file.read_text(), re.M) if file.exists() else None
    return int(found[1]) * 1024 if found else None


def own_cgroup() -> Path:
    """The path of this process's cgroup (version 2) below its root; the root where there is none."""
    file = Path("/proc/self/cgroup")
    found = re.search(r"^0::/(.*)$", file.read_text(), re.M) if file.exists() else None
    return Path(found[1]) if found else Path()


def cgroup_cores(root: Path, own: Path) -> float | None:
    """The cores that cgroups allow (version 2, else 1); None without a limit."""
    limits = []
    for text in _values(root, own, "cpu.max"):
        quota, period = text.split()
        if quota != "max":
            limits.append(int(quota) / int(period))
    for text in _values(root / "cpu", Path(), "cpu.cfs_quota_us"):
        if int(text) > 0:
            limits.append(int(text) / int((root / "cpu" / "cpu.cfs_period_us").read_text()))
    return min(limits, default=None)


def cgroup_bytes_left(root: Path, own: Path) -> int | None:
    """The bytes that cgroups (version 2) leave; None without a limit."""
    left = []
    for folder in _folders(root, own):
        limit, used = folder / "memory.max", folder / "memory.current"
        if limit.exists() and used.exists() and limit.read_text().strip() != "max":
            left.append(max(0, int(limit.read_text()) - int(used.read_text())))
    return min(left, default=None)


def _folders(root: Path, own: Path) -> list[Path]:
    """A cgroup's folder and those of its parents: the lowest limit counts."""
    return [root / each for each in (own, *own.parents)]


def _values(root: Path, own: Path, name: str) -> list[str]:
    return [(folder / name).read_text().strip() for folder in _folders(root, own) if (folder / name).exists()]
