"""How much faster is an exported model than torch?

    python benchmarks/predict.py [--repeats 30] [--json FILE]

customvit_s with its optics, from native uint8 crops to probabilities: ONNX Runtime on the exported file against torch
eager, one cell at a time and 64, with the same number of threads.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from measured import in_turn, option_parser, report, share_of_time

from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.data.synthetic.source import GEOMETRY
from cellpatch.inference.export import open_session, save_onnx
from cellpatch.inference.restore import predict_probabilities
from cellpatch.runtime.memory import tune_malloc
from cellpatch.training.adaptation import FineTuning
from cellpatch.training.fit import new_network

MARKS = {1: 0.7, 64: 1.0}


def main() -> None:
    options = option_parser("Time an exported model against torch.", repeats=30).parse_args()
    tune_malloc()
    torch.manual_seed(0)
    experiment = assemble(compose_config(["model=customvit_s", "logger=none"]))
    assert isinstance(experiment.adaptation, FineTuning)
    network, _ = new_network(experiment.model, None, experiment.adaptation, experiment.path(GEOMETRY), 16)
    network.eval()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "customvit_s.onnx"
        save_onnx(network, GEOMETRY, file, {})
        session = open_session(file, torch.get_num_threads())
        for batch, mark in MARKS.items():
            crops = np.random.default_rng(0).integers(0, 256, (batch, *(GEOMETRY.side_px,) * 2, 3), dtype=np.uint8)

            def exported(crops: np.ndarray = crops) -> np.ndarray:
                return session.run(None, {"crops": crops})[0]

            def eager(crops: np.ndarray = crops) -> np.ndarray:
                return predict_probabilities(network, crops)

            np.testing.assert_allclose(exported(), eager(), atol=1e-4)
            results.append(share_of_time(f"predict, batch {batch}", in_turn(exported, eager, options.repeats, 5), mark))
    report(results, options.json)


if __name__ == "__main__":
    main()
