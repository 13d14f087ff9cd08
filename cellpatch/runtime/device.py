"""The device of a run, its batch size for inference, and the mode that inference runs in."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


def resolve_device(accelerator: str) -> torch.device:
    """The device that Lightning's Trainer takes for "auto", "cpu", "gpu" or "cuda": the GPU if allowed and available.

    Any other accelerator gives the CPU.
    """
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


@cache
def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies matrices of bfloat16 fast; others take 16 to 20 times as long as in float32."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a build without oneDNN
        return False


def inference_batch_size(input_px: int, device: torch.device) -> int:
    """Cells in a batch of inference: 256 on a GPU; on a CPU about a million input pixels, 8 to 32 cells.

    Two CPU cores, EfficientNet-Lite0 at 224x224: 162 cells/s 16 at a time, 105 cells/s 128 at a time. At 40x40, cells/s
    at 32, 64 and 128: cnn 2260, 1820 and 1430, resnet 1630, 1180 and 1240, customvit_s 1930, 1890 and 1450.
    """
    return 256 if device.type == "cuda" else min(32, max(8, 2**20 // input_px**2))


@contextmanager
def inference_mode() -> Iterator[None]:
    """No gradients, and convolutions in 32 bits on a GPU too: cuDNN's default of 19 moves features by 1e-3."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """With so many threads for torch's operations."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
