"""What makes a ViT good on 40x40 cells and a few hundred of them? CustomViT with one thing changed at a time.

    python experiments/ablation.py data=endonuke data.root=DIR flag_limit=256 trainer.max_epochs=20
    python experiments/ablation.py data.split.val_limit=64 flag_limit=64 trainer.max_epochs=20       # synthetic
    python experiments/ablation.py                                                       # the table so far

Three seeds each; a seed draws the annotated cells, the weights and the order. Each training adds a line to
experiments/ablation.csv and is not run again, so several processes can share the work (`--variants a,b`). Choices are
made on validation; test scores stand beside it to be read, not to be chosen by. The table gives means with Student's
95 % interval over seeds, and the same for the difference to the whole model at equal seeds.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from jaxtyping import Float
from lines import Lines
from models_table import half_width
from timm.layers.layer_scale import LayerScale
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from cellpatch import evaluate
from cellpatch.config import build, check, register, without
from cellpatch.fitting import fit_by_gradients
from cellpatch.models.backbone import count_macs, count_parameters
from cellpatch.models.customvit import Attention, CustomViT
from cellpatch.optics import CLEAN
from cellpatch.study import open_store, open_study

CONF = Path(__file__).parents[1] / "conf"
LINES = Lines(Path(__file__).with_suffix(".csv"), ["data", "flag_limit", "epochs", "variant", "seed"])
SEEDS = (0, 1, 2)


def _blocks(model: CustomViT) -> list[Any]:
    return list(model.blocks)


class PatchStem(CustomViT):
    """Tokens are a linear map of 4x4 patches that do not overlap, as in the textbook."""

    def __init__(self, input_px: int, token_px: int, **other: Any) -> None:
        super().__init__(input_px=input_px, token_px=token_px, **other)
        self.stem = Patches(token_px, self.num_features)


class Patches(nn.Module):
    def __init__(self, token_px: int, dim: int) -> None:
        super().__init__()
        self.tokens = nn.Conv2d(3, dim, token_px, stride=token_px)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b rows columns dim"]:
        return self.tokens(x).permute(0, 2, 3, 1)


class PlainMLP(CustomViT):
    """No convolution between the tokens inside the MLPs."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        dim = self.num_features
        for block in _blocks(self):
            block.mix[1] = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))


class Textbook(PlainMLP, PatchStem):
    """Both."""


class LearntPositions(CustomViT):
    """One vector for each place instead of row + column."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        side = self.rows.shape[0]
        self.rows = nn.Parameter(torch.randn(side, side, self.num_features) * 0.02)
        del self.columns
        self.register_buffer("columns", torch.zeros(()), persistent=False)


class NoPositions(CustomViT):
    """No position at all: what is left of it comes from the convolutions."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        del self.rows, self.columns
        self.register_buffer("rows", torch.zeros(()), persistent=False)
        self.register_buffer("columns", torch.zeros(()), persistent=False)


class RelativePositions(NoPositions):
    """A learnt bias on attention for each relative place and head (Liu et al., arXiv 2103.14030) and nothing else."""

    def __init__(self, input_px: int, token_px: int, heads: int, **other: Any) -> None:
        super().__init__(input_px=input_px, token_px=token_px, heads=heads, **other)
        for block in _blocks(self):
            block.attend[1] = RelativeAttention(self.num_features, heads, input_px // token_px)


class RelativeAttention(Attention):
    index: Tensor

    def __init__(self, dim: int, heads: int, side: int) -> None:
        super().__init__(dim, heads)
        place = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).view(-1, 2)
        apart = place[:, None] - place[None] + side - 1
        self.register_buffer("index", apart[..., 0] * (2 * side - 1) + apart[..., 1], persistent=False)
        self.bias = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))

    def forward(self, x: Float[Tensor, "b n dim"]) -> Float[Tensor, "b n dim"]:
        b, n, dim = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        bias = self.bias[self.index].permute(2, 0, 1)
        return self.out(scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).reshape(b, n, dim))


class Extra(CustomViT):
    """Tokens beside the map's: the convolution in the MLPs passes them by."""

    extra = 1

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.tokens = nn.Parameter(torch.randn(1, self.extra, self.num_features) * 0.02)
        for block in _blocks(self):
            block.mix[1] = PassingMLP(block.mix[1], self.extra)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b dim"]:
        tokens = (self.stem(self.normalise(x)) + self.rows + self.columns).flatten(1, 2)
        return self.pool(self.blocks(torch.cat([self.tokens.expand(len(x), -1, -1), tokens], dim=1)))

    def pool(self, tokens: Float[Tensor, "b n dim"]) -> Float[Tensor, "b dim"]:
        raise NotImplementedError


class PassingMLP(nn.Module):
    def __init__(self, whole: Any, extra: int) -> None:
        super().__init__()
        self.whole = whole
        self.extra = extra

    def forward(self, x: Float[Tensor, "b n dim"]) -> Float[Tensor, "b n dim"]:
        beside = self.whole.narrow(gelu(self.whole.widen(x[:, : self.extra])))
        return torch.cat([beside, self.whole(x[:, self.extra :])], dim=1)


class ClassToken(Extra):
    """A class token instead of the mean over the map."""

    def pool(self, tokens: Float[Tensor, "b n dim"]) -> Float[Tensor, "b dim"]:
        return self.norm(tokens[:, 0])


class Registers(Extra):
    """Four registers (Darcet et al., arXiv 2309.16588), left out of the mean."""

    extra = 4

    def pool(self, tokens: Float[Tensor, "b n dim"]) -> Float[Tensor, "b dim"]:
        return self.norm(tokens[:, self.extra :].mean(dim=1))


class Scaled(CustomViT):
    """Layer scale from 0.1 (Touvron et al., arXiv 2103.17239)."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for block in _blocks(self):
            for branch in (block.attend, block.mix):
                branch.insert(2, LayerScale(self.num_features, 0.1))


class NoAttention(CustomViT):
    """The MLPs with their convolutions alone: is attention needed at all?"""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for block in _blocks(self):
            block.attend = Nothing()


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


# Name: the class that changes the model, and overrides of its configuration.
VARIANTS: dict[str, tuple[type[CustomViT], list[str]]] = {
    "whole": (CustomViT, []),
    "patch stem": (PatchStem, []),
    "plain MLP": (PlainMLP, []),
    "patch stem + plain MLP": (Textbook, []),
    "no attention": (NoAttention, []),
    "tokens of 8 px": (CustomViT, ["model.backbone.token_px=8"]),
    "tokens of 10 px": (CustomViT, ["model.backbone.token_px=10"]),
    "a vector a place": (LearntPositions, []),
    "relative positions": (RelativePositions, []),
    "no positions": (NoPositions, []),
    "class token": (ClassToken, []),
    "4 registers": (Registers, []),
    "layer scale": (Scaled, []),
    "no drop path": (CustomViT, ["model.backbone.drop_path=0.0"]),
    "drop path 0.2": (CustomViT, ["model.backbone.drop_path=0.2"]),
    "depth 2": (CustomViT, ["model.backbone.depth=2"]),
    "depth 8": (CustomViT, ["model.backbone.depth=8"]),
    "width 192": (CustomViT, ["model.backbone.dim=192"]),
}


def run(variants: list[str], overrides: list[str]) -> None:
    """Train each variant with each seed and add its line."""
    register()
    for seed in SEEDS:
        for name in variants:
            kind, own = VARIANTS[name]
            with initialize_config_dir(str(CONF), version_base="1.3"):
                config = compose("config", ["model=customvit", *overrides, *own, f"seed={seed}", "logger=none"])
            plain = check(config)
            key = {"data": plain["data"]["name"], "flag_limit": plain["flag_limit"]}
            key |= {"epochs": plain["trainer"]["max_epochs"], "variant": name, "seed": seed}
            if LINES.has(key):
                print(f"{name}, seed {seed}: is there")
                continue
            plain["model"]["backbone"]["_target_"] = f"ablation.{kind.__name__}"  # after the check: ours, not a user's
            LINES.add(key | train_one(plain))


def train_one(plain: dict[str, Any]) -> dict[str, Any]:
    """Train and give what the line says: cost, validation and test scores."""
    pl.seed_everything(plain["seed"], workers=True, verbose=False)
    backbone = build(plain["model"]["backbone"])
    study = open_study(plain, open_store(plain["data"]))
    schedule = build(without(plain["adapt"], "name"))
    pl.seed_everything(plain["seed"], workers=True, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit_by_gradients(plain, study, schedule, None, Path(folder), None)
    test = evaluate.measure(study.test_labels, fitted.predict([CLEAN], study.split.test)[CLEAN], study.classes, 1.0)
    return {
        "parameters": count_parameters(backbone),
        "mmac": round(count_macs(backbone) / 1e6),
        "n_train": len(study.split.train),
        "val_macro_f1": round(fitted.facts["val_macro_f1"], 4),
        "test_macro_f1": round(test["macro_f1"], 4),
        "seconds": round(fitted.seconds["train"]),
    }


def summarise(lines: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds with half-widths of their intervals, and the difference to the whole model at equal seeds."""
    rows = []
    for (data, limit), group in lines.groupby(["data", "flag_limit"]):
        whole = group[group["variant"] == "whole"].set_index("seed")
        for name, runs in group.groupby("variant"):
            row: dict[str, Any] = {"data": data, "flag_limit": limit, "variant": name, "seeds": len(runs)}
            row |= {"mmac": runs["mmac"].iloc[0], "seconds": runs["seconds"].mean()}
            for score in ("val_macro_f1", "test_macro_f1"):
                row |= {score: runs[score].mean(), f"{score}_half": half_width(runs[score].to_numpy())}
            apart = (runs.set_index("seed")["val_macro_f1"] - whole["val_macro_f1"]).dropna()
            rows.append(row | {"val_to_whole": apart.mean(), "val_to_whole_half": half_width(np.asarray(apart))})
    return pd.DataFrame(rows).sort_values(["data", "flag_limit", "val_macro_f1"], ascending=[True, True, False])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python experiments/ablation.py", description="Ablate CustomViT.")
    parser.add_argument("overrides", nargs="*", help="as for train.py: data=... flag_limit=... trainer.max_epochs=...")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="of these, by commas")
    options = parser.parse_args()
    if options.overrides:
        run(options.variants.split(","), options.overrides)
    lines = LINES.read()
    if lines.empty:
        sys.exit("nothing has been run yet")
    print(summarise(lines).to_string(index=False, float_format=lambda value: f"{value:.3f}"))


if __name__ == "__main__":
    sys.modules["ablation"] = sys.modules["__main__"]
    main()
