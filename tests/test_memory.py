"""Batches and memory."""

import subprocess
import sys

import pytest
import torch

from cellpatch.runtime.device import inference_batch_size, resolve_device


@pytest.mark.parametrize(("side", "cells"), [(40, 32), (112, 32), (224, 20), (518, 8)])
def test_cells_at_a_time_on_a_cpu(side: int, cells: int) -> None:
    assert inference_batch_size(side, torch.device("cpu")) == cells


@pytest.mark.parametrize(
    ("accelerator", "on_gpu"), [("auto", True), ("gpu", True), ("cuda", True), ("cpu", False), ("mps", False)]
)
def test_a_gpu_is_taken_where_it_is_allowed_and_present(
    accelerator: str, on_gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for present in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda present=present: present)
        assert resolve_device(accelerator).type == ("cuda" if on_gpu and present else "cpu")


@pytest.mark.long
def test_freed_blocks_are_kept() -> None:
    program = (
        "import resource, sys, torch; from cellpatch.runtime.memory import tune_malloc\n"
        "if sys.argv[1] == 'keep': tune_malloc()\n"
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
