"""Muon does on matrices what torch's does, on kernels the same, and on all else what AdamW does."""

import pytest
import torch
from torch import Tensor, nn

from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config, models
from cellpatch.training import muon
from cellpatch.training.muon import MuonAdamW, hidden_matrices, orthogonalise
from cellpatch.training.optimizers import make_optimizer

OPTIONS = {"lr": 0.02, "weight_decay": 0.1}


def steps(optimizer: torch.optim.Optimizer, parameter: Tensor, gradients: list[Tensor]) -> Tensor:
    for gradient in gradients:
        parameter.grad = gradient.clone().reshape(parameter.shape)
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6)])
def test_matrices_take_the_steps_of_torchs_muon(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(shape), [torch.randn(shape) for _ in range(4)]
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    mine = MuonAdamW([{"params": [ours], "orthogonal": True, **OPTIONS}])
    oracle = torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **OPTIONS)
    torch.testing.assert_close(steps(mine, ours, gradients), steps(oracle, theirs, gradients), rtol=0, atol=1e-6)
    assert not torch.equal(ours.detach(), start)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_is_a_matrix_of_outputs(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(6, 4, 3, 3), [torch.randn(6, 4, 3, 3) for _ in range(3)]
    kernel, matrix = nn.Parameter(start.to(memory_format=layout)), nn.Parameter(start.flatten(1).clone())
    of_kernel = steps(MuonAdamW([{"params": [kernel], "orthogonal": True, **OPTIONS}]), kernel, gradients)
    of_matrix = steps(MuonAdamW([{"params": [matrix], "orthogonal": True, **OPTIONS}]), matrix, gradients)
    torch.testing.assert_close(of_kernel.flatten(1), of_matrix, rtol=0, atol=1e-6)


def test_all_else_takes_the_steps_of_adamw() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(5, 3), [torch.randn(5, 3) for _ in range(4)]
    ours, theirs, other = (nn.Parameter(start.clone()) for _ in range(3))
    other.grad = torch.ones_like(other)
    mine = MuonAdamW(
        [{"params": [ours], "orthogonal": False, **OPTIONS}, {"params": [other], "orthogonal": True, **OPTIONS}]
    )
    assert torch.equal(steps(mine, ours, gradients), steps(torch.optim.AdamW([theirs], **OPTIONS), theirs, gradients))
    assert len(mine.param_groups) == 2, "the groups of Muon are there for a schedule of the learning rate"


def test_the_head_takes_the_steps_of_adamw() -> None:
    network = nn.Sequential()
    network.backbone, network.head = nn.Sequential(nn.Linear(4, 5)), nn.Linear(5, 2)
    assert hidden_matrices(network) == {"backbone.0.weight"}


def test_what_adamw_trains_beside_muon_has_its_own_rate() -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5))
    network.add_module("head", nn.Linear(5, 2))
    factors = {"0.weight": 0.5, "0.bias": 0.5}
    optimizer = make_optimizer(network, "muon", 0.01, 0.1, factors, adamw_rate=0.3)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: rates[id(p)] for name, p in network.named_parameters()} == pytest.approx(
        {
            "0.weight": 0.005,
            "0.bias": 0.0015,
            "1.weight": 0.003,
            "1.bias": 0.003,
            "head.weight": 0.003,
            "head.bias": 0.003,
        }
    )
    alone = make_optimizer(network, "adamw", 0.01, 0.1, adamw_rate=0.3)
    assert {group["lr"] for group in alone.param_groups} == {0.01}, "AdamW alone has the one rate"


def test_a_parameter_without_gradient_stays() -> None:
    parameter = nn.Parameter(torch.ones(3, 3))
    MuonAdamW([{"params": [parameter], "orthogonal": True, **OPTIONS}]).step()
    assert torch.equal(parameter.detach(), torch.ones(3, 3))


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (64, 576)])
def test_a_cpu_without_fast_bfloat16_gives_the_same(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """There a kernel of 256 x 2304 took 1.4 s, twenty times as long as in float32: torch has no fast product of bfloat16."""
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    outputs = []
    for fast in (True, False):
        monkeypatch.setattr(muon, "has_fast_bfloat16", lambda fast=fast: fast)
        outputs.append(orthogonalise(matrix))
    assert outputs[0].dtype == outputs[1].dtype == torch.bfloat16
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0.02)
    assert (outputs[0] - outputs[1]).float().abs().mean() < 0.001


def test_singular_values_come_close_to_one() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(30, 50)).float())
    assert values.min() > 0.6
    assert values.max() < 1.25


@pytest.mark.parametrize("model", [name for name, pretrained in models().items() if not pretrained])
def test_muon_leaves_out_what_reads_the_image_and_depthwise_kernels(model: str) -> None:
    backbone = assemble(compose_config([f"model={model}", "logger=none"])).model.on_meta()
    shapes = {name: backbone.get_parameter(name).shape for name in hidden_matrices(backbone)}
    assert shapes
    assert all(len(shape) in (2, 4) and shape[1] not in (1, 3) for shape in shapes.values())
    left = [p.shape for name, p in backbone.named_parameters() if p.ndim == 4 and name not in shapes]
    assert any(shape[1] == 3 for shape in left), "the first convolution"


@pytest.mark.parametrize("shape", [(8, 20), (20, 8)])
def test_matrices_of_one_shape_are_orthogonalised_together(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(5, *shape)
    alone = torch.stack([orthogonalise(matrix) for matrix in matrices]).float()
    torch.testing.assert_close(orthogonalise(matrices).float(), alone, rtol=0, atol=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a GPU steps matrices of one shape together")
def test_a_gpu_takes_the_steps_of_a_cpu() -> None:
    torch.manual_seed(0)
    starts, gradients = torch.randn(3, 6, 20), torch.randn(3, 6, 20)
    ends = []
    for device in ("cpu", "cuda"):
        parameters = [nn.Parameter(start.to(device)) for start in starts]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.to(device)
        MuonAdamW([{"params": parameters, "orthogonal": True, **OPTIONS}]).step()
        ends.append(torch.stack([parameter.detach().cpu() for parameter in parameters]))
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=1e-3)
