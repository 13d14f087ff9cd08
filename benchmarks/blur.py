"""What does blur cost? Paired repeats within one process, medians and quartiles of the ratios.

python benchmarks/blur.py [--repeats 15] [--json FILE]

* operator: blur and resize of a batch as one composed operator, against Kornia's blur and torch's antialiased resize
  one after the other (batches of 64 crops of 80 px, without a margin and with one of 26 px, sigma 1.6, both kinds);
* conditions: predictions of a store's test cells by customvit_s under nine conditions, as an evaluation makes them,
  against nine bare forward passes of backbone and head on as many ready 40x40 inputs.
"""

import tempfile
from functools import partial
from itertools import product
from math import ceil
from pathlib import Path

import torch
from cells import store_of
from kornia.filters import gaussian_blur2d
from measured import Measured, in_turn, option_parser, report, share_of_time
from torch import nn
from torch.nn.functional import interpolate

from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.data.dataset import open_dataset
from cellpatch.models.network import assemble_network
from cellpatch.models.predictor import make_predict_fn
from cellpatch.optics.conditions import CLEAN, KINDS, Condition
from cellpatch.optics.operator import OpticalPath
from cellpatch.runtime.device import inference_batch_size
from cellpatch.runtime.memory import tune_malloc

CROP_PX, MARGINS_PX, SIGMA = 80, (0, 26), 1.6


def direct(x: torch.Tensor, kind: str, margin_px: int) -> torch.Tensor:
    """The libraries' own steps one after the other, on whole crops."""
    if kind == "pre":
        sigma = SIGMA * CROP_PX / 40
        side = 2 * ceil(KINDS[kind].radius_sigmas * sigma) + 1
        x = gaussian_blur2d(x, (side, side), (sigma, sigma), "reflect")
    beyond = margin_px * 40 // CROP_PX
    x = interpolate(x, (40 + 2 * beyond, 40 + 2 * beyond), mode="bilinear", antialias=True)
    if kind == "post":
        side = 2 * ceil(KINDS[kind].radius_sigmas * SIGMA) + 1
        x = gaussian_blur2d(x, (side, side), (SIGMA, SIGMA), "reflect")
    return x[..., beyond : 40 + beyond, beyond : 40 + beyond]


def time_operator(kind: str, margin_px: int, repeats: int) -> Measured:
    """The composed operator against the direct steps, after a check that both give the same pixels."""
    side = CROP_PX + 2 * margin_px
    x = torch.rand(64, 3, side, side)
    optics = OpticalPath(CROP_PX, margin_px, input_px=40, via_px=40).under(Condition(kind, SIGMA))
    torch.testing.assert_close(optics(x), direct(x, kind, margin_px), atol=1e-5, rtol=0)
    taken = in_turn(partial(optics, x), partial(direct, x, kind, margin_px), repeats, 2)
    return share_of_time(f"optics, {kind}, side {CROP_PX} and margin {margin_px}", taken, 0.25)


def time_conditions(folder: Path, n_cells: int, repeats: int) -> Measured:
    """Predictions under nine conditions against nine bare forward passes."""
    store = store_of(folder, n_cells)
    overrides = ["model=customvit_s", f"data.cells={n_cells}", "trainer.accelerator=cpu"]
    experiment = assemble(compose_config(overrides))
    dataset = open_dataset(store, experiment.data.split, experiment.flag_limit, experiment.seed)
    backbone = experiment.model.create()
    head = nn.Linear(backbone.num_features, len(dataset.classes))
    path = experiment.path(store.geometry)
    network = assemble_network(backbone, path.under(), head).eval()
    predict = make_predict_fn(network, store, path, experiment.trainer.device, experiment.inference_batch)
    conditions = [CLEAN, *(Condition(kind, sigma) for kind in ("pre", "post") for sigma in (0.4, 0.8, 1.6, 3.2))]
    cells = dataset.split.test
    ready = torch.rand(len(cells), 3, 40, 40)
    n = inference_batch_size(40, torch.device("cpu"))

    def bare() -> None:
        for _ in conditions:
            for part in ready.split(n):
                network.head(network.backbone(part))

    taken = in_turn(lambda: predict(conditions, cells), bare, max(3, repeats // 3))
    return share_of_time(f"nine conditions, customvit_s, {len(cells)} cells", taken, 1.1)


@torch.inference_mode()
def main() -> None:
    options = option_parser("Time blur.", repeats=15, cells=6000).parse_args()
    tune_malloc()
    pairs = product(MARGINS_PX, ("pre", "post"))
    results = [time_operator(kind, margin_px, options.repeats) for margin_px, kind in pairs]
    with tempfile.TemporaryDirectory() as folder:
        results.append(time_conditions(Path(folder), options.cells, options.repeats))
    report(results, options.json)


if __name__ == "__main__":
    main()
