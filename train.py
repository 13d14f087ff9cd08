"""Train one model, or with -m a grid: python train.py -m model=customvit flag_limit=256,1024,16384."""

from cellpatch.cli.signals import end_on_signals
from cellpatch.cli.train import main

if __name__ == "__main__":
    with end_on_signals():
        main()
