"""How much faster is an exported model than torch?

    python benchmarks/predict.py [--repeats 30] [--json FILE]

customvit with its optics, from native uint8 crops to probabilities: ONNX Runtime on the exported file against torch
eager, one cell at a time and 64, with the same number of threads.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from cellpatch.config.instantiate import build, without
from measured import in_turn, option_parser, report, share_of_time

from cellpatch.config.schema import compose_config
from cellpatch.config.validate import check
from cellpatch.data.synthetic.source import GEOMETRY
from cellpatch.inference.export import open_session, save_onnx
from cellpatch.inference.predict import probabilities_of
from cellpatch.runtime.memory import tune_malloc
from cellpatch.training.fit import new_network

MARKS = {1: 0.7, 64: 1.0}


def main() -> None:
    options = option_parser("Time an exported model against torch.", repeats=30).parse_args()
    tune_malloc()
    torch.manual_seed(0)
    plain = check(compose_config(["model=customvit", "logger=none"]))
    network, _ = new_network(plain, build(without(plain["adapt"], "name")), None, GEOMETRY, 16)
    network.eval()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "customvit.onnx"
        save_onnx(network, GEOMETRY, file, {})
        session = open_session(file, torch.get_num_threads())
        for batch, mark in MARKS.items():
            crops = np.random.default_rng(0).integers(0, 256, (batch, *(GEOMETRY.side_px,) * 2, 3), dtype=np.uint8)

            def exported(crops: np.ndarray = crops) -> np.ndarray:
                return session.run(None, {"crops": crops})[0]

            def eager(crops: np.ndarray = crops) -> np.ndarray:
                return probabilities_of(network, crops)

            np.testing.assert_allclose(exported(), eager(), atol=1e-4)
            found.append(share_of_time(f"predict, batch {batch}", in_turn(exported, eager, options.repeats, 5), mark))
    report(found, options.json)


if __name__ == "__main__":
    main()
