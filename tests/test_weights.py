"""Published weights: read without running code, named as today, strict, and the forward pass of an independent build."""

import pickle
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file
from small_models import with_arguments
from torch import Tensor, nn

from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.models.ctranspath import CTransPath
from cellpatch.models.spec import ModelSpec
from cellpatch.models.state_dict_converters import from_ctranspath, from_transformers_dinov2, in_order
from cellpatch.models.timm import TimmBackbone
from cellpatch.models.weights import Weights, failed_downloads, fingerprint, read_tensors
from cellpatch.runtime.atomic_io import sha256_of

PLAIN = ([0.0] * 3, [1.0] * 3)


def _model(name: str, *overrides: str) -> ModelSpec:
    return assemble(compose_config([f"model={name}", *overrides])).model


def _weights_of(name: str, *overrides: str) -> Weights:
    weights = _model(name, *overrides).weights
    assert weights is not None
    return weights


def _pixels_of(backbone: TimmBackbone) -> tuple[Tensor, Tensor]:
    """The mean and standard deviation that a backbone normalises with."""
    return backbone.normalise.mean, backbone.normalise.std


def _vit(side: int, published: int, **options: Any) -> TimmBackbone:
    small = {"embed_dim": 32, "depth": 2, "num_heads": 2, "init_values": 1e-5, **options}
    return TimmBackbone("vit_large_patch16_224", side, published, "own", small, {}, [], *PLAIN)


def _open(model: ModelSpec) -> Any:
    return model.open(model.weights_fingerprint())


def _noisy(module: nn.Module) -> dict[str, Tensor]:
    """A module's state with every value moved, so that no tensor equals its first value by chance."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: value + 0.1 * torch.rand(value.shape, generator=generator) if value.is_floating_point() else value + 3
        for name, value in module.state_dict().items()
    }


def _weights(file: Path | None, **other: Any) -> Weights:
    settings: dict[str, Any] = {"package": None, "install": None, "hub": None, "hub_file": None, "layout": "timm"}
    settings |= {"sha256": None, "licence": "CC BY-NC-ND 4.0", "terms": "gated: ask for access"}
    return Weights(file=None if file is None else str(file), **settings | other)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_in_uni_s_layout_is_loaded_whole(tmp_path: Path, suffix: str) -> None:
    published = _noisy(_vit(64, 64).net) | {"head.weight": torch.zeros(3, 32), "head.bias": torch.zeros(3)}
    file = tmp_path / f"uni{suffix}"
    save_file(published, file) if suffix == ".safetensors" else torch.save({"model": published}, file)
    backbone = _vit(64, 64)
    mark = _weights(file).load(backbone)
    for name, value in backbone.net.state_dict().items():
        torch.testing.assert_close(value, published[name], atol=0, rtol=0)
    assert mark == fingerprint({name: value for name, value in published.items() if not name.startswith("head.")})


def _published_vit(
    dim: int, depth: int, patch: int, places: int, hidden: tuple[int, int], registers: int
) -> dict[str, Any]:
    """Names and shapes of a published ViT with layer scale, written out: `hidden` is what fc1 gives and fc2 takes."""
    shapes: dict[str, Any] = {
        "cls_token": [1, 1, dim],
        "pos_embed": [1, places, dim],
        "norm.weight": [dim],
        "norm.bias": [dim],
    }
    shapes |= {"reg_token": [1, registers, dim]} if registers else {}
    shapes |= {"patch_embed.proj.weight": [dim, 3, patch, patch], "patch_embed.proj.bias": [dim]}
    for i in range(depth):
        block = {"attn.qkv.weight": [3 * dim, dim], "attn.qkv.bias": [3 * dim]}
        block |= {"attn.proj.weight": [dim, dim], "attn.proj.bias": [dim], "ls1.gamma": [dim], "ls2.gamma": [dim]}
        block |= {f"norm{n}.{part}": [dim] for n in (1, 2) for part in ("weight", "bias")}
        block |= {"mlp.fc1.weight": [hidden[0], dim], "mlp.fc1.bias": [hidden[0]]}
        block |= {"mlp.fc2.weight": [dim, hidden[1]], "mlp.fc2.bias": [dim]}
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    return shapes


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "shape"),
    [  # as their model cards at the hub build them with timm, without the classifier
        ("uni", (1024, 24, 16, 197, (4096, 4096), 0)),
        ("uni2_h", (1536, 24, 14, 256, (8192, 4096), 8)),
        ("virchow2", (1280, 32, 14, 261, (6832, 3416), 4)),
        ("h_optimus_0", (1536, 40, 14, 256, (8192, 4096), 4)),
        ("prov_gigapath", (1536, 40, 16, 197, (8192, 4096), 0)),
        ("dinov2_l", (1024, 24, 14, 1370, (4096, 4096), 0)),
        ("dinov2_s", (384, 12, 14, 1370, (1536, 1536), 0)),
    ],
)
def test_published_names_and_shapes_are_taken_and_no_others(name: str, shape: Any) -> None:
    with torch.device("meta"):
        backbone: Any = _model(name).create()
        tensors = {key: torch.empty(sides) for key, sides in _published_vit(*shape).items()}
    backbone.check_published(tensors)
    tensors["blocks.0.ls1.gamma"] = tensors["norm.bias"][:-1]
    with pytest.raises(ValueError, match=r"1 of other shapes: .*blocks.0.ls1.gamma"):
        backbone.check_published(tensors)


def _by_hand(state: dict[str, Tensor], x: Tensor, heads: int, gated: bool, places: int) -> Tensor:
    """A ViT's tokens after its last norm, written out (Dosovitskiy et al.; Touvron et al.; SwiGLU of Shazeer)."""
    functional = nn.functional

    def norm(tokens: Tensor, name: str) -> Tensor:
        return functional.layer_norm(tokens, tokens.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def linear(tokens: Tensor, name: str) -> Tensor:
        return tokens @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    weight = state["patch_embed.proj.weight"]
    patches = functional.unfold(x, weight.shape[-1], stride=weight.shape[-1]).mT
    tokens = patches @ weight.flatten(1).T + state["patch_embed.proj.bias"]
    prefix = [state[key].expand(len(x), -1, -1) for key in ("cls_token", "reg_token") if key in state]
    if places == tokens.shape[1]:  # positions of the patches alone
        tokens = torch.cat([*prefix, tokens + state["pos_embed"]], dim=1)
    else:
        tokens = torch.cat([*prefix, tokens], dim=1) + state["pos_embed"]
    for i in range(1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))):
        block = f"blocks.{i}"
        b, n, dim = tokens.shape
        q, k, v = (
            linear(norm(tokens, f"{block}.norm1"), f"{block}.attn.qkv").view(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4)
        )
        weights = (q @ k.mT / (dim / heads) ** 0.5).softmax(dim=-1)
        seen = linear((weights @ v).transpose(1, 2).reshape(b, n, dim), f"{block}.attn.proj")
        tokens = tokens + state[f"{block}.ls1.gamma"] * seen
        hidden = linear(norm(tokens, f"{block}.norm2"), f"{block}.mlp.fc1")
        if gated:
            gate, value = hidden.chunk(2, dim=-1)
            hidden = functional.silu(gate) * value
        else:
            hidden = functional.gelu(hidden)
        tokens = tokens + state[f"{block}.ls2.gamma"] * linear(hidden, f"{block}.mlp.fc2")
    return norm(tokens, "norm")


@pytest.mark.parametrize("name", ["uni", "uni2_h", "virchow2", "h_optimus_0", "prov_gigapath", "dinov2_s"])
def test_a_published_file_gives_the_features_of_a_vit_by_hand(tmp_path: Path, name: str) -> None:
    patch = 16 if name in ("uni", "prov_gigapath") else 14
    small = {"embed_dim": 48, "depth": 2, "num_heads": 3}
    model = with_arguments(_model(name), {"input_px": 3 * patch, "pretrained_img_size": 3 * patch}, small)
    torch.manual_seed(0)
    backbone: Any = model.create().eval()
    published = _noisy(backbone.net)
    save_file(published, tmp_path / "w.safetensors")
    _weights(tmp_path / "w.safetensors").load(backbone)
    registers = {"uni2_h": 8, "virchow2": 4, "h_optimus_0": 4}.get(name, 0)
    assert published.get("reg_token", torch.empty(1, 0, 48)).shape[1] == registers
    x = torch.rand(2, 3, 3 * patch, 3 * patch)
    mean, std = _pixels_of(backbone)
    gated = name not in ("uni", "dinov2_s")
    with torch.no_grad():
        tokens = _by_hand(published, (x - mean) / std, 3, gated, published["pos_embed"].shape[1])
        expected = tokens[:, 0]
        if name == "virchow2":  # its card: class token and mean of the patch tokens, registers left out
            expected = torch.cat([expected, tokens[:, 5:].mean(dim=1)], dim=1)
        torch.testing.assert_close(backbone(x), expected, atol=1e-4, rtol=1e-4)


def test_resnet_rs50_s_published_file_gives_timm_s_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("resnetrs50").eval()
    state = {
        n: v + 0.01 * torch.rand(v.shape) if v.is_floating_point() else v + 3 for n, v in theirs.state_dict().items()
    }
    theirs.load_state_dict(state)
    assert {"fc.weight", "layer4.2.se.fc2.bias", "conv1.6.weight"} <= state.keys()
    save_file(state, tmp_path / "resnetrs50.safetensors")
    model = _model("resnet_rs50", f"model.weights.file={tmp_path / 'resnetrs50.safetensors'}")
    x = torch.rand(1, 3, 224, 224)
    mean, std = (torch.tensor(theirs.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = theirs.forward_head(theirs.forward_features((x - mean) / std), pre_logits=True)
        torch.testing.assert_close(_open(model).eval()(x), expected, atol=1e-4, rtol=1e-4)


IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HALVES = ([0.5] * 3, [0.5] * 3)
LUNIT = ([0.70322989, 0.53606487, 0.66096631], [0.21716536, 0.26081574, 0.20723464])
HIBOU = ([0.7068, 0.5755, 0.722], [0.195, 0.2316, 0.1816])
LEMON = (
    [0.5626308917999268, 0.3856308162212372, 0.5453570485115051],
    [0.1810322254896164, 0.16682660579681396, 0.13694559037685394],
)
COPY, KAIKO = "1aurent/vit_", "kaiko_ai_towards_large_pathology_fms"
BIOPTIMUS = ([0.707223, 0.578729, 0.703617], [0.211883, 0.230117, 0.177517])


# From their pages at the hub, their authors' repositories, and TRIDENT's and eva's loading code.
STATED: list[tuple[Any, ...]] = [
    ("uni", IMAGENET, "CC BY-NC-ND 4.0", True, "timm", "MahmoodLab/UNI"),
    ("uni2_h", IMAGENET, "CC BY-NC-ND 4.0", True, "timm", "MahmoodLab/UNI2-h"),
    ("virchow", IMAGENET, "Apache-2.0", True, "timm", "paige-ai/Virchow"),
    ("virchow2", IMAGENET, "CC BY-NC-ND 4.0", True, "timm", "paige-ai/Virchow2"),
    ("h0_mini", BIOPTIMUS, "CC BY-NC-ND 4.0", True, "timm", "bioptimus/H0-mini"),
    ("h_optimus_0", BIOPTIMUS, "Apache-2.0", True, "timm", "bioptimus/H-optimus-0"),
    ("h_optimus_1", BIOPTIMUS, "CC BY-NC-ND 4.0", True, "timm", "bioptimus/H-optimus-1"),
    ("prov_gigapath", IMAGENET, "Apache-2.0", True, "timm", "prov-gigapath/prov-gigapath"),
    ("gigapath_flash", IMAGENET, "Apache-2.0", True, "timm", "prov-gigapath/prov-gigapath-flash"),
    ("phikon", IMAGENET, "Owkin non-commercial licence", False, "transformers_vit", "owkin/phikon"),
    ("phikon_v2", IMAGENET, "Owkin non-commercial licence", False, "transformers_dinov2", "owkin/phikon-v2"),
    ("midnight_12k", HALVES, "MIT", False, "transformers_dinov2", "kaiko-ai/midnight"),
    ("openmidnight", IMAGENET, "Apache-2.0", True, "dinov2", "SophontAI/OpenMidnight"),
    ("gpfm", IMAGENET, "MIT at the hub, CC BY-NC-ND 4.0 in the repository", False, "timm", "majiabo/GPFM"),
    ("hibou_b", HIBOU, "Apache-2.0", True, "transformers_dinov2", "histai/hibou-b"),
    ("hibou_l", HIBOU, "Apache-2.0", True, "transformers_dinov2", "histai/hibou-L"),
    *(
        (f"kaiko_{name}", HALVES, "Kaiko non-commercial licence", False, "timm", f"{COPY}{of}.{KAIKO}")
        for name, of in {
            "s16": "small_patch16_224",
            "s8": "small_patch8_224",
            "b16": "base_patch16_224",
            "b8": "base_patch8_224",
            "l14": "large_patch14_reg4_224",
        }.items()
    ),
    *(
        (f"lunit_s{px}", LUNIT, "Lunit non-commercial licence", False, "timm", f"{COPY}small_patch{px}_224.lunit_dino")
        for px in (16, 8)
    ),
    ("stainnet_s", HALVES, "CC BY-NC-ND 4.0", False, "timm", "JWonderLand/StainNet"),
    ("stainnet_b", HALVES, "CC BY-NC-ND 4.0", False, "timm", "JWonderLand/StainNet-Base"),
    ("lemon_s", LEMON, "MIT", False, "moco", "iclr2025-anonymous/LEMON"),
    ("keep", IMAGENET, "MIT", False, "visual", "Astaxanthin/KEEP"),
    ("digepath", IMAGENET, "CC BY-NC 4.0", True, "timm", "xtxx/Digepath"),
    *((f"dinobloom_{size}", IMAGENET, "Apache-2.0", False, "dinov2", "MarrLab/DinoBloom") for size in "sblg"),
    ("dinov2_s", IMAGENET, "Apache-2.0", False, "timm", "timm/vit_small_patch14_dinov2.lvd142m"),
    ("dinov2_l", IMAGENET, "Apache-2.0", False, "timm", "timm/vit_large_patch14_dinov2.lvd142m"),
    *(
        (f"dinov3_{of[0]}", IMAGENET, "DINOv3 licence", False, "timm", f"timm/vit_{of}_patch16_dinov3.lvd1689m")
        for of in ("small", "base", "large")
    ),
    ("resnet_rs50", IMAGENET, "Apache-2.0", False, "timm", "timm/resnetrs50.tf_in1k"),
    ("ctranspath", IMAGENET, "GPL-3.0", False, "ctranspath", None),
    ("efficientnet_lite0", HALVES, "Apache-2.0", False, "in_order", None),
]


@pytest.mark.parametrize(("name", "pixels", "licence", "gated", "layout", "hub"), STATED)
def test_models_state_what_was_published(
    name: str, pixels: Any, licence: str, gated: bool, layout: str, hub: str | None
) -> None:
    model = _model(name)
    weights = model.weights
    assert weights is not None
    arguments: Any = model.arguments
    assert (arguments["mean"], arguments["std"]) == pixels
    assert (weights.licence, "gated" in weights.terms) == (licence, gated)
    assert (weights.layout, weights.hub) == (layout, hub)


def test_every_pretrained_model_is_among_the_stated() -> None:
    files = (ROOT / "conf" / "model").glob("*.yaml")
    assert {row[0] for row in STATED} == {file.stem for file in files if "\nweights:\n" in file.read_text()}


def test_in_a_folder_each_model_finds_the_file_of_its_name(tmp_path: Path) -> None:
    given = f"weights_dir={tmp_path}"
    (tmp_path / "dinov2_s.safetensors").touch()
    assert _weights_of("dinov2_s", given).file == str(tmp_path / "dinov2_s.safetensors")
    assert _weights_of("dinov2_s", given, "model.weights.file=w.pth").file == "w.pth"
    assert _weights_of("efficientnet_lite0", given).file is None, "a package has them"
    assert _model("cnn", given).weights is None
    (tmp_path / "uni.bin").symlink_to(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"there is no file .*uni.bin"):
        _weights_of("uni", given).locate()
    (tmp_path / "dinov2_s.pt").touch()
    with pytest.raises(ValueError, match=r"must hold one file of dinov2_s, but got .*dinov2_s.safetensors.*\.pt"):
        _model("dinov2_s", given)
    with pytest.raises(ValueError, match="weights_dir must be a folder, but got nowhere"):
        _model("dinov2_s", "weights_dir=nowhere")


def test_fingerprint_moves_with_every_tensor() -> None:
    state = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.int64)}
    changes = [{"a": state["a"].view(3, 2)}, {"a": state["a"] + 1e-6}, {"b": state["b"].int()}, {"c": state["b"]}]
    marks = {fingerprint(state | change) for change in changes}
    assert len(marks | {fingerprint(state)}) == 5
    assert fingerprint({"b": state["b"], "a": state["a"].clone()}) == fingerprint(state)


def test_half_precision_is_loaded_as_float(tmp_path: Path) -> None:
    state = {name: value.half() for name, value in _noisy(_vit(64, 64).net).items()}
    save_file(state, tmp_path / "w.safetensors")
    backbone = _vit(64, 64)
    _weights(tmp_path / "w.safetensors").load(backbone)
    assert all(p.dtype == torch.float32 for p in backbone.parameters())


class _Evil:
    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return (Path.touch, (Path(self.place),))  # type: ignore[return-value]

    place = ""


def test_a_pickle_with_code_is_refused_unrun(tmp_path: Path) -> None:
    _Evil.place = str(tmp_path / "was-here")
    for name, write in (("new.pth", torch.save), ("old.bin", lambda o, f: f.write_bytes(pickle.dumps(o)))):
        write({"model": {"weight": _Evil()}}, tmp_path / name)
        with pytest.raises(ValueError, match=r"a pickle can run code.*refused.*Licence: CC BY-NC-ND"):
            _weights(tmp_path / name).load(_vit(64, 64))
    assert not (tmp_path / "was-here").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kept", [0, 100, 0.5])
def test_truncated_files(tmp_path: Path, suffix: str, kept: float) -> None:
    file = tmp_path / f"w{suffix}"
    state = _noisy(_vit(64, 64).net)
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    content = file.read_bytes()
    file.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    with pytest.raises(ValueError, match=rf"w{suffix}: (is not a readable|holds more than tensors)"):
        _weights(file).load(_vit(64, 64))


def test_a_checksum_shows_an_altered_file(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file(_noisy(_vit(64, 64).net), file)
    with pytest.raises(ValueError, match="its sha256 is not 00: another model's, truncated or altered"):
        _weights(file, sha256="00").load(_vit(64, 64))
    assert _weights(file, sha256=sha256_of(file).upper()).load(_vit(64, 64))


def test_safetensors_are_known_by_their_content(tmp_path: Path) -> None:
    state = _noisy(_vit(64, 64).net)
    for name in ("w.bin", "w.SAFETENSORS", "weights of ÜNI 1.pth"):
        save_file(state, tmp_path / name)
        assert read_tensors(tmp_path / name).keys() == state.keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is git's pointer to a large file"),
        (b"<!DOCTYPE html><html>quota exceeded</html>", "is a page of a web site"),
        (b"", "is not a readable checkpoint"),
    ],
)
def test_what_was_fetched_instead_of_the_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "w.bin").write_bytes(content)
    with pytest.raises(ValueError, match=rf"w.bin: {message}.*Licence: CC BY-NC-ND"):
        _weights(tmp_path / "w.bin").load(_vit(64, 64))


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_file_that_cannot_be_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match="cannot be opened"):
        read_tensors(tmp_path / name)


def test_other_names_and_shapes_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    state = _noisy(_vit(64, 64).net)
    del state["norm.bias"]
    state |= {"extra": torch.zeros(1), "norm.weight": torch.zeros(7)}
    save_file(state, file)
    message = (
        r"1 missing: \['norm.bias'\]; 1 unexpected: \['extra'\]; 1 of other shapes: .*norm.weight \[7\] instead of"
    )
    with pytest.raises(ValueError, match=message):
        _weights(file).load(_vit(64, 64))
    ones = torch.ones(2, 2)
    for other in ([1, 2], {1: ones}, {"a": ones.to_sparse()}, {"a": ones.to("meta")}, {"a": 3.0}):
        torch.save(other, tmp_path / "other.pth")
        with pytest.raises(ValueError, match="something else than named tensors"):
            read_tensors(tmp_path / "other.pth")


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
def test_other_numbers_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    state = _noisy(_vit(64, 64).net)
    state["norm.bias"] = state["norm.bias"].to(dtype)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=rf"1 of other types: \['norm.bias {dtype} instead of torch.float32'\]"):
        _weights(tmp_path / "w.pth").load(_vit(64, 64))


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state = _noisy(_vit(64, 64).net)
    state["norm.bias"][0] = float("nan")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"not finite in \['norm.bias'\]"):
        _weights(tmp_path / "w.safetensors").load(_vit(64, 64))


def test_damaged_checkpoints_end_in_our_error(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "w.pth").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        (tmp_path / "w.pth").write_bytes(damaged)
        with suppress(ValueError):  # any other error fails the test
            read_tensors(tmp_path / "w.pth")
    for kept in range(len(whole)):
        (tmp_path / "w.pth").write_bytes(whole[:kept])
        with pytest.raises(ValueError, match="is not a readable checkpoint|holds more than tensors"):
            read_tensors(tmp_path / "w.pth")


def test_absent_weights_say_what_to_get() -> None:
    with pytest.raises(
        ValueError, match=r"there is no file nowhere.pth. To get them: .*gated: ask.*Licence: CC BY-NC-ND 4.0"
    ):
        _weights(Path("nowhere.pth")).locate()
    with pytest.raises(ValueError, match=r"not on this machine. To get them: pip install some-package"):
        _weights(None, package="no_such_module/f.pth", install="some-package").locate()


def test_the_hub_s_cache_is_used_and_its_absence_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    weights = _weights(None, hub="some/model", hub_file="model.safetensors")
    with pytest.raises(
        ValueError,
        match=r"some/model is not in the hub's cache, .*, and cannot be fetched \(.*\). To get them: get model",
    ):
        weights.locate()
    snapshot = tmp_path / "models--some--model" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text("0" * 40)
    save_file({"a": torch.zeros(1)}, snapshot / "model.safetensors")
    asked = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *names, **_: asked.append(names))
    with pytest.raises(ValueError, match="some/model is not in the hub's cache"):
        weights.locate()
    assert not asked, "a file that is not delivered is asked for once in a process"
    monkeypatch.undo()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    failed_downloads.clear()
    assert weights.locate() == snapshot / "model.safetensors"


def test_a_cached_file_must_have_the_checksum_that_it_is_named_by(tmp_path: Path) -> None:
    content = tmp_path / "w"
    save_file(_noisy(_vit(64, 64).net), content)
    blob = tmp_path / "blobs" / sha256_of(content)
    blob.parent.mkdir()
    content.rename(blob)
    (tmp_path / "w.safetensors").symlink_to(blob)
    _weights(tmp_path / "w.safetensors").load(_vit(64, 64))
    altered = bytearray(blob.read_bytes())
    altered[-1] ^= 1
    blob.write_bytes(altered)
    with pytest.raises(ValueError, match=f"its sha256 is not {blob.name}: another model's, truncated or altered"):
        _weights(tmp_path / "w.safetensors").load(_vit(64, 64))


def test_gated_weights_name_the_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    def refuse(*_: Any, local_files_only: bool = False) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not cached")
        raise GatedRepoError.__new__(GatedRepoError)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    weights = _weights_of("uni")
    with pytest.raises(
        ValueError,
        match=r"MahmoodLab/UNI is gated: not logged in, or without access.*pytorch_model.bin.*gated: ask.*Licence: CC BY-NC-ND 4.0",
    ):
        weights.locate()


@pytest.mark.parametrize("published_side", [64, 96])
def test_positions_are_resampled_as_timm_does(tmp_path: Path, published_side: int) -> None:
    torch.manual_seed(0)
    state = _noisy(_vit(published_side, published_side).net)
    save_file(state, tmp_path / "w.safetensors")
    backbone = _vit(48, published_side)
    _weights(tmp_path / "w.safetensors").load(backbone)
    theirs = timm.create_model(
        "vit_large_patch16_224",
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "w.safetensors"), "num_classes": 0},
        img_size=48,
        num_classes=0,
        embed_dim=32,
        depth=2,
        num_heads=2,
        init_values=1e-5,
    ).eval()
    x = torch.rand(2, 3, 48, 48)
    torch.testing.assert_close(backbone.eval()(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_phikon_s_layout_equals_transformers_own_model(tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16, "image_size": 64}
    theirs = Dinov2Model(Dinov2Config(**settings, layerscale_value=1e-5)).eval()
    theirs.load_state_dict(_noisy(theirs))
    theirs.save_pretrained(tmp_path)  # writes the published names, whatever they are inside the library
    assert "encoder.layer.0.attention.attention.query.weight" in load_file(tmp_path / "model.safetensors")
    model = _model("phikon_v2", f"model.weights.file={tmp_path}/model.safetensors")
    small = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    backbone = _open(with_arguments(model, {"input_px": 64, "pretrained_img_size": 64}, small)).eval()
    x = torch.rand(2, 3, 64, 64)
    mean, std = _pixels_of(backbone)
    with torch.no_grad():
        expected = theirs((x - mean) / std).last_hidden_state[:, 0]
        torch.testing.assert_close(backbone(x), expected, atol=1e-4, rtol=1e-4)


def test_an_unknown_name_in_phikon_s_layout_is_not_swallowed() -> None:
    named = from_transformers_dinov2(
        {"encoder.layer.0.new": torch.zeros(1), "embeddings.mask_token": torch.zeros(1)}, []
    )
    assert list(named) == ["blocks.0.new"]


def _published_ctranspath() -> tuple[dict[str, Tensor], nn.Module]:
    """torchvision's Swin-T with the stem written out, and its weights under the names that were published."""
    from torchvision.models import swin_t

    torch.manual_seed(0)
    theirs = swin_t(weights=None)
    theirs.head = nn.Identity()
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 12), (12, 24)):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    theirs.features[0][0] = nn.Sequential(*layers, nn.Conv2d(24, 96, 1))  # then torchvision's permute and norm
    theirs.load_state_dict(
        {
            n: v if "index" in n else w
            for (n, v), w in zip(theirs.state_dict().items(), _noisy(theirs).values(), strict=True)
        }
    )
    published: dict[str, Tensor] = {"head.weight": torch.zeros(1000, 768), "head.bias": torch.zeros(1000)}
    for name, value in theirs.eval().state_dict().items():
        name = name.replace("features.0.0.", "patch_embed.proj.").replace("features.0.2.", "patch_embed.norm.")
        name = name.replace(".mlp.0.", ".mlp.fc1.").replace(".mlp.3.", ".mlp.fc2.")
        stage = re.match(r"features\.(\d)\.", name)
        if stage:  # torchvision counts stages and down-samplings together; timm 0.5.4 had both in one layer
            number = int(stage[1])
            part = f"layers.{(number - 1) // 2}." + ("blocks." if number % 2 else "downsample.")
            name = name.replace(stage[0], part)
        published[name] = value
    published["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    return published, theirs


def test_ctranspath_s_published_layout_equals_torchvision_s_swin(tmp_path: Path) -> None:
    published, theirs = _published_ctranspath()
    assert "layers.0.downsample.reduction.weight" in published
    assert "layers.3.downsample.reduction.weight" not in published
    assert "layers.2.blocks.5.attn.relative_position_index" in published
    torch.save({"model": published}, tmp_path / "ctranspath.pth")
    model = _model("ctranspath", f"model.weights.file={tmp_path / 'ctranspath.pth'}", "model.weights.sha256=null")
    backbone = _open(model).eval()
    assert isinstance(backbone, CTransPath)
    x = torch.rand(1, 3, 224, 224)
    mean, std = _pixels_of(backbone)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), theirs((x - mean) / std), atol=2e-4, rtol=1e-4)
    assert model.weights_fingerprint() == fingerprint(from_ctranspath(published, []))


def test_ctranspath_s_own_checksum_is_asked_for(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "ctranspath.pth")
    with pytest.raises(ValueError, match="its sha256 is not 7c998680.*Xiyue-Wang/TransPath.*GPL-3.0"):
        _open(_model("ctranspath", f"model.weights.file={tmp_path / 'ctranspath.pth'}"))


def test_tensors_in_order() -> None:
    tensors = {"x": torch.zeros(1), "y": torch.ones(2), "fc.weight": torch.zeros(3), "fc.bias": torch.zeros(1)}
    assert list(in_order(tensors, ["a", "b"])) == ["a", "b"]
    with pytest.raises(ValueError, match="has 4 tensors instead of 3"):
        in_order(tensors, ["a", "b", "c"])


def test_efficientnet_lite0_names_a_cat_and_a_cup_of_coffee() -> None:
    import skimage.data
    from timm.data import ImageNetInfo

    weights = _weights_of("efficientnet_lite0")
    full = timm.create_model("tf_efficientnet_lite0").eval()
    full.load_state_dict(in_order(read_tensors(weights.locate()), list(full.state_dict())))
    backbone = _open(_model("efficientnet_lite0")).eval()
    for picture, words in ((skimage.data.chelsea(), ("cat", "tabby")), (skimage.data.coffee(), ("espresso", "cup"))):
        side = min(picture.shape[:2])
        top, left = ((n - side) // 2 for n in picture.shape[:2])
        square = torch.from_numpy(np.ascontiguousarray(picture[top : top + side, left : left + side]))
        x = square.permute(2, 0, 1)[None].float() / 255
        x = nn.functional.interpolate(x, (224, 224), mode="bicubic", antialias=True).clamp(0, 1)
        with torch.no_grad():
            logits = full.classifier(backbone(x))
        named = ImageNetInfo().index_to_description(int(logits.argmax()))
        assert any(word in named.lower() for word in words), named


@pytest.mark.long
@pytest.mark.parametrize("side", [224, 112, 42])
def test_dinov2_s_equals_timm_s_own_features(dinov2_file: Path, side: int, tmp_path: Path) -> None:
    single = tmp_path / "single.safetensors"  # timm resamples half-precision positions in half precision, we do not
    save_file({name: tensor.float() for name, tensor in load_file(dinov2_file).items()}, single)
    model = _model("dinov2_s", f"model.weights.file={dinov2_file}", f"model.backbone.input_px={side}")
    backbone = _open(model).eval()
    overlay = {"file": str(single), "custom_load": False, "num_classes": 0}
    theirs = timm.create_model(
        "vit_small_patch14_dinov2", pretrained=True, pretrained_cfg_overlay=overlay, img_size=side, num_classes=0
    ).eval()
    x = torch.rand(2, 3, side, side)
    mean, std = (torch.tensor(theirs.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), theirs((x - mean) / std), atol=1e-4, rtol=1e-4)


def test_dinov2_s_fingerprint_is_of_the_file_not_of_the_side(dinov2_file: Path) -> None:
    marks = {
        _model("dinov2_s", f"model.weights.file={dinov2_file}", f"model.backbone.input_px={side}").weights_fingerprint()
        for side in (56, 112)
    }
    assert marks == {fingerprint({name: t.float() for name, t in load_file(dinov2_file).items()})}
