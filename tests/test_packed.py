"""Linear layers by oneDNN: the products of torch's own."""

import pytest
import timm
import torch
from torch import nn

from cellpatch.models.packed import PackedLinear, can_pack, pack_linear_layers

pytestmark = pytest.mark.skipif(not can_pack(), reason="this build of torch has no oneDNN")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (1, 5), (64, 5), (3, 17, 5), (0, 5)])
def test_products_are_those_of_the_layer(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, 7, bias)
    packed, x = PackedLinear(layer), torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(packed(x), layer(x), atol=1e-6, rtol=1e-6)
    assert torch.equal(packed.weight, layer.weight), "for networks that multiply by it themselves"


def test_an_input_may_lie_in_any_order() -> None:
    layer, x = nn.Linear(5, 7), torch.randn(4, 5, 6)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(layer)(x.mT), layer(x.mT), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224"])
def test_features_of_a_packed_vit_are_its_own(name: str) -> None:
    """eva02 multiplies by the weights of its layers itself."""
    torch.manual_seed(0)
    patch = int(name.split("patch")[1][:2])
    network = timm.create_model(name, num_classes=0, img_size=4 * patch).eval()
    x = torch.randn(3, 3, 4 * patch, 4 * patch)
    with torch.inference_mode():
        expected = network(x)
        pack_linear_layers(network)
        got = network(x)
    assert not [each for each in network.modules() if type(each) is nn.Linear]
    assert float((got - expected).norm() / expected.norm()) < 1e-5


def test_layers_of_other_types_and_subclasses_stay() -> None:
    network = nn.Sequential(nn.MultiheadAttention(4, 2), nn.Linear(4, 4).bfloat16(), nn.Conv2d(3, 4, 1))
    before = [*network.modules()]
    pack_linear_layers(network)
    assert [*network.modules()] == before
