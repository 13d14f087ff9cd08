"""What does blur cost? Paired repeats within one process, medians and quartiles of the ratios.

python benchmarks/blur.py [--repeats 15] [--json FILE]

* operator: blur and resize of a batch as one composed operator, against Kornia's blur and torch's antialiased resize
  one after the other (batches of 64 crops of 80 px and a margin of 26 px, sigma 1.6, both kinds);
* conditions: predictions of 1024 cells by customvit under nine conditions, against nine bare forward passes of the
  backbone and head on ready 40x40 inputs.
"""

from math import ceil

import torch
from kornia.filters import gaussian_blur2d
from measured import in_turn, option_parser, report, share_of_time
from torch import nn
from torch.nn.functional import interpolate

from cellpatch.conditions import CLEAN, Condition
from cellpatch.config import build, check, compose_config
from cellpatch.data.datamodule import to_pixels
from cellpatch.memory import cells_at_a_time, keep_freed_blocks
from cellpatch.optics import Optics

CROP_PX, MARGIN_PX, SIGMA = 80, 26, 1.6


def direct(x: torch.Tensor, kind: str) -> torch.Tensor:
    """The chain of libraries' own steps, on whole crops."""
    if kind == "pre":
        sigma = SIGMA * CROP_PX / 40
        side = 2 * ceil(4 * sigma) + 1
        x = gaussian_blur2d(x, (side, side), (sigma, sigma), "reflect")
    x = interpolate(x, (66, 66), mode="bilinear", antialias=True)
    if kind == "post":
        side = 2 * ceil(4 * SIGMA) + 1
        x = gaussian_blur2d(x, (side, side), (SIGMA, SIGMA), "reflect")
    return x[..., 13:53, 13:53]


@torch.inference_mode()
def main() -> None:
    options = option_parser("Time blur.", repeats=15).parse_args()
    found = []
    keep_freed_blocks()
    side = CROP_PX + 2 * MARGIN_PX
    x = torch.rand(64, 3, side, side)
    for kind in ("pre", "post"):
        optics = Optics(CROP_PX, MARGIN_PX, 40, 40, Condition(kind, SIGMA))
        torch.testing.assert_close(optics(x), direct(x, kind), atol=1e-5, rtol=0)
        taken = in_turn(lambda o=optics: o(x), lambda k=kind: direct(x, k), options.repeats, 2)  # type: ignore[misc]
        found.append(share_of_time(f"optics, {kind}", taken, 0.25))

    model = check(compose_config(["model=customvit"]))["model"]
    backbone = build(model["backbone"])
    network = nn.Sequential(backbone, nn.Linear(backbone.num_features, 16)).to(memory_format=torch.channels_last).eval()
    crops = torch.randint(0, 256, (1024, side, side, 3), dtype=torch.uint8)
    n = cells_at_a_time(40, torch.device("cpu"))
    conditions = [CLEAN, *(Condition(kind, sigma) for kind in ("pre", "post") for sigma in (0.4, 0.8, 1.6, 3.2))]
    several = [Optics(CROP_PX, MARGIN_PX, 40, 40, condition) for condition in conditions]
    ready = torch.rand(len(crops), 3, 40, 40)

    def under_each() -> None:
        for part in crops.split(n):
            pixels = to_pixels(part)
            for optics in several:
                network(optics(pixels)).softmax(dim=1)

    def bare() -> None:
        for _ in conditions:
            for part in ready.split(n):
                network(part)

    taken = in_turn(under_each, bare, max(3, options.repeats // 3))
    report([*found, share_of_time("nine conditions, customvit", taken, 1.1)], options.json)


if __name__ == "__main__":
    main()
