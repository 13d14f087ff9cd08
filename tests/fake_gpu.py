"""A GPU that is not there: tensors with a device, a shape and a type, but without values (torch's FakeTensorMode).

An operation on tensors of two devices raises, as on a GPU. So does whatever needs a value in Python, because on a GPU it
waits until all queued work is done.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

from cellpatch.models.spec import ModelSpec
from cellpatch.optics.operator import OpticalPath

GPU = torch.device("cuda:0")
_aten = torch.ops.aten


class Transfers(TorchDispatchMode):
    """Lists what makes the processor wait, and FakeTensorMode lets pass: copies between the devices.

    A copy to the GPU that is asked for as non_blocking does not wait. With `answering`, every value that Python asks for
    is 1 and listed too. Modules that are moved are not listed.
    """

    listing: ClassVar[bool] = True

    def __init__(self, answering: bool) -> None:
        super().__init__()
        self.answering = answering
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.listing:
            return func(*args, **kwargs)
        source = args[0].device.type if args and isinstance(args[0], Tensor) else None
        if func is _aten._to_copy.default:
            target = torch.device(kwargs.get("device") or args[0].device).type
            if source != target and not (target == "cuda" and kwargs.get("non_blocking")):
                self.seen.append(f"copy {source} to {target}")
        elif func is _aten.copy_.default and args[1].device.type != source and args[1].ndim:
            self.seen.append(f"copy {args[1].device.type} to {source}")
        elif func in (_aten.index.Tensor, _aten.index_put_.default) and source == "cuda":
            self.seen += ["index on the CPU" for index in args[1] if index is not None and not index.is_cuda]
            if self.answering and args[1][0] is not None and args[1][0].dtype == torch.bool:
                self.seen.append("read a mask")
                return args[0].clone()
        elif func in _SHAPES:
            return _SHAPES[func](*args, **kwargs)
        elif self.answering and func in _ANSWERS:
            if source == "cuda":
                self.seen.append(f"read {func}")
            return _ANSWERS[func](*args, **kwargs)
        return func(*args, **kwargs)


_ANSWERS: dict[Any, Callable[..., Any]] = {
    _aten._local_scalar_dense.default: lambda x: 1.0 if x.is_floating_point() else 1,
    _aten.bincount.default: lambda x, weights=None, minlength=0: x.new_ones(minlength),
    _aten.equal.default: lambda a, b: True,
    _aten.nonzero.default: lambda x: x.new_zeros(x.numel(), x.ndim, dtype=torch.int64),
}


_SHAPES: dict[Any, Callable[..., Any]] = {  # of what torch has no fake kernel for
    _aten._sample_dirichlet.default: lambda x, generator=None: torch.empty_like(x),
}


class _Event:
    """CUDA's event, half a second after the one before."""

    def __init__(self, enable_timing: bool) -> None:
        pass

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, other: "_Event") -> float:
        return 500.0


class _Mode(FakeTensorMode):
    avoid_device_init = True  # torch asks whether there is a GPU, and would start it


@contextmanager
def fake_gpu(patch: pytest.MonkeyPatch, answering: bool = False) -> Iterator[Transfers]:
    """torch has one GPU, and new tensors are fake.

    What is computed before it is moved to the device, optical operators and networks, is computed for real. A fake
    tensor on the CPU gives NumPy an array of ones.
    """
    for name, value in {
        "is_available": True,
        "is_bf16_supported": True,
        "device_count": 1,
        "current_device": 0,
        "mem_get_info": (2**36, 2**36),
        "memory_reserved": 0,
        "memory_allocated": 0,
        "max_memory_allocated": 0,
        "reset_peak_memory_stats": None,
        "get_device_name": "a GPU that is not there",
        "set_rng_state": None,
    }.items():
        patch.setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    patch.setattr(torch.cuda, "get_rng_state", lambda device: torch.zeros(16, dtype=torch.uint8))
    patch.setattr(torch.cuda, "Event", _Event)
    # In inference mode operations such as `to` come whole, and the parts of them are not seen.
    patch.setattr(torch, "inference_mode", lambda mode=True: torch.no_grad() if mode else nullcontext())
    patch.setattr("torch._subclasses.fake_tensor.init_gpu_context", lambda device: None)
    patch.setattr(nn.Module, "_apply", _apply)
    patch.setattr(nn.Module, "to", _to)
    patch.setattr(Tensor, "numpy", _numpy)
    patch.setattr(Tensor, "__deepcopy__", _deepcopy)
    patch.setattr(OpticalPath, "under", _for_real(OpticalPath.under))
    patch.setattr(ModelSpec, "open", _for_real(ModelSpec.open))
    with _Mode(allow_non_fake_inputs=True), Transfers(answering) as transfers:
        yield transfers


def _for_real(build: Callable[..., Any]) -> Callable[..., Any]:
    def built(*args: Any, **keywords: Any) -> Any:
        with unset_fake_temporarily():
            return build(*args, **keywords)

    return built


def _apply(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """As torch's own, which cannot put fake tensors in the place of others: plain attributes stay where they are."""
    for child in module.children() if recurse else ():
        child._apply(function)
    with torch.no_grad():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(function(parameter), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = function(buffer)
    return module


_real_to, _real_numpy, _real_deepcopy = nn.Module.to, Tensor.numpy, Tensor.__deepcopy__


def _to(module: nn.Module, *args: Any, **keywords: Any) -> nn.Module:
    Transfers.listing = False
    try:
        return _real_to(module, *args, **keywords)
    finally:
        Transfers.listing = True


def _numpy(x: Tensor, **keywords: Any) -> np.ndarray:
    if not isinstance(x, FakeTensor):
        return _real_numpy(x, **keywords)
    if x.device.type != "cpu":
        raise TypeError(f"can't convert a tensor on {x.device} to numpy: copy it to the CPU first")
    return np.ones(x.shape, str(x.dtype).removeprefix("torch."))


def _deepcopy(x: Tensor, memo: dict[int, Any]) -> Tensor:
    """torch's own shares memory between a fake tensor and its copy, and frees it twice."""
    if not isinstance(x, FakeTensor):
        return _real_deepcopy(x, memo)
    if id(x) not in memo:
        memo[id(x)] = x.detach().clone().requires_grad_(x.requires_grad)
    return memo[id(x)]
