"""How large a run's network is."""

from collections.abc import Mapping
from functools import lru_cache

from torch import Tensor

from cellpatch.models.backbone import count_macs, count_parameters
from cellpatch.models.spec import ModelSpec
from cellpatch.runs.record import NetworkSize


def network_size(model: ModelSpec, state: Mapping[str, Tensor]) -> NetworkSize:
    """The size of a model's backbone, frozen parameters included, and of the head among a run's tensors."""
    backbone = _backbone_size(model)
    head = sum(tensor.numel() for name, tensor in state.items() if name.startswith("head."))
    return NetworkSize(backbone.parameters + head, backbone.mmac)


@lru_cache(maxsize=64)  # every job of a grid asks
def _backbone_size(model: ModelSpec) -> NetworkSize:
    backbone = model.on_meta()
    return NetworkSize(count_parameters(backbone), count_macs(backbone) / 1e6)
