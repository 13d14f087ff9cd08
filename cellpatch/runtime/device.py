"""How much is computed at a time, and how the C library keeps memory for it."""

import atexit
import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt(3)


def tune_malloc() -> None:
    """Let glibc keep blocks above 32 MiB for the next batch instead of giving them back to the kernel.

    Activations of a batch are that large, and fresh pages cost more than the arithmetic on them. Two CPU cores,
    training at 40x40: nin 291 to 427 cells/s, resnet 409 to 469, cnn 523 to 554; EfficientNet-Lite0's features at
    224x224: 103 to 162. Does nothing where the C library has no mallopt.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def inference_batch_size(input_px: int, device: torch.device) -> int:
    """Cells in a batch of inference: 256 on a GPU; on a CPU about a million input pixels, 8 to 32 cells.

    Two CPU cores, EfficientNet-Lite0 at 224x224: 162 cells/s 16 at a time, 105 cells/s 128 at a time. At 40x40, cells/s
    at 32, 64 and 128: cnn 2260, 1820 and 1430, resnet 1630, 1180 and 1240, customvit 1930, 1890 and 1450.
    """
    return 256 if device.type == "cuda" else min(32, max(8, 2**20 // input_px**2))


def collect_garbage() -> None:
    """Free what refers to itself, as a trainer and its module do, and hundreds of MiB with it, before the next run.

    What the first run leaves, every imported module above all, is set aside: looking through it takes a third of a
    second.
    """
    gc.collect()
    _set_aside()


@cache
def _set_aside() -> None:
    gc.freeze()
    atexit.register(gc.unfreeze)  # else nanobind, in Triton, takes it for leaks and says so when Python ends


@contextmanager
def inference_mode() -> Iterator[None]:
    """No gradients, and convolutions in 32 bits on a GPU too: cuDNN's default of 19 moves features by 1e-3."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def resolve_device(accelerator: str) -> torch.device:
    """The device that Lightning's Trainer would take for the given settings, of those that cellpatch knows."""
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")
