"""What does a pass of a frozen backbone cost on a CPU? Paired repeats, medians and quartiles of the ratios.

python benchmarks/embedding.py [--cells 10000] [--repeats 5] [--json FILE]

All of it on dinov2_s with random weights, on synthetic cells:

* layers: a batch with linear layers packed for oneDNN, against torch's own, with one thread, at 56 and 224 px; features
  must agree within 1e-4 of their norm;
* rate: of the same batch, its multiply-accumulates a second against those of a large matrix product: a pass cannot take
  less than this share of its time with the same products;
* processes: the pass over all cells at 56 px shared by two processes of one thread each (trainer.devices=2), and by one
  process with two threads, each against one process with one thread; the files of the first must be the same.
"""

import tempfile
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from cells import store_of
from measured import Measured, in_turn, option_parser, report, share_of_time
from torch import nn

from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.data.store.reader import CellStore
from cellpatch.models.backbone import count_macs
from cellpatch.models.network import Network, assemble_network
from cellpatch.models.packed import pack_linear_layers
from cellpatch.probing.feature_cache import FeatureCache
from cellpatch.probing.feature_key import FeatureRequest
from cellpatch.runtime.device import inference_batch_size
from cellpatch.runtime.memory import tune_malloc

SIDE = 2000  # of the large product
CPU = torch.device("cpu")


def network_of(store: Path, input_px: int) -> Network:
    """dinov2_s for a store's crops; each process builds the same one."""
    torch.manual_seed(0)
    experiment = assemble(compose_config(["model=dinov2_s", f"model.backbone.input_px={input_px}"]))
    path = experiment.path(CellStore(store, verify=False).geometry)
    return assemble_network(experiment.model.create(), path.under(), nn.Identity()).eval()


@torch.inference_mode()
def time_batch(store: CellStore, input_px: int, repeats: int) -> list[Measured]:
    """Packed layers against torch's, and the rate of the faster of the two."""
    network = network_of(store.root, input_px)
    packed = deepcopy(network)
    pack_linear_layers(packed)
    n = inference_batch_size(input_px, CPU)
    x = network.optics(network.pixels(torch.from_numpy(store.crops(np.arange(n)))))
    expected, got = network.backbone(x), packed.backbone(x)
    assert float(((got - expected).norm(dim=1) / expected.norm(dim=1)).max()) < 1e-4
    taken = in_turn(partial(packed.backbone, x), partial(network.backbone, x), repeats)
    square = torch.rand(SIDE, SIDE)
    product = in_turn(lambda: square @ square, lambda: square @ square, repeats)
    rates = 2 * count_macs(network.backbone) * n / taken.min(axis=1) / (2 * SIDE**3 / product[:, 0])
    return [
        share_of_time(f"embedding, packed layers, {input_px} px", taken, 0.6),
        Measured(f"embedding, rate, {input_px} px", rates.tolist(), "of a large product's", "at least", None, {}),
    ]


def embed(store: CellStore, processes: int, threads: int) -> bytes:
    """The file of features of all cells."""
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(threads)
        cache = FeatureCache(Path(folder), 1, inference_batch_size(56, CPU), CPU, processes=processes)
        cache.features(
            FeatureRequest(store, np.arange(len(store)), "dinov2_s", {}), partial(network_of, store.root, 56)
        )
        torch.set_num_threads(1)
        [file] = Path(folder).glob("*/features.npy")
        return file.read_bytes()


def main() -> None:
    options = option_parser("Time an embedding pass.", repeats=5, cells=10_000).parse_args()
    tune_malloc()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), options.cells)
        results = [each for px in (56, 224) for each in time_batch(store, px, options.repeats)]
        one = partial(embed, store, 1, 1)
        assert embed(store, 2, 1) == one()
        ways = [("two processes", 2, 1, 0.6), ("one process of two threads", 1, 2, None)]
        for name, processes, threads, mark in ways:
            taken = in_turn(partial(embed, store, processes, threads), one, max(2, options.repeats // 2), warm_up=0)
            results.append(share_of_time(f"embedding pass, {options.cells} cells, {name}", taken, mark))
    report(results, options.json)


if __name__ == "__main__":
    main()
