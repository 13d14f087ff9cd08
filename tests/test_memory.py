"""Batches and memory."""

import subprocess
import sys

import pytest
import torch

from cellpatch.runtime.device import inference_batch_size


@pytest.mark.parametrize(("side", "cells"), [(40, 32), (112, 32), (224, 20), (518, 8)])
def test_cells_at_a_time_on_a_cpu(side: int, cells: int) -> None:
    assert inference_batch_size(side, torch.device("cpu")) == cells


def test_freed_blocks_are_kept() -> None:
    program = (
        "import resource, sys, torch; from cellpatch.memory import keep_freed_blocks\n"
        "if sys.argv[1] == 'keep': keep_freed_blocks()\n"
        "for i in range(20): torch.ones(20_000_000)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)"
    )
    faults = {
        how: int(
            subprocess.run([sys.executable, "-c", program, how], capture_output=True, text=True, check=True).stdout
        )
        for how in ("keep", "leave")
    }
    assert faults["leave"] - faults["keep"] > 100_000  # 80 MB are 20,000 pages, touched anew 20 times or once
