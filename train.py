"""Train one model, or with -m a grid: python train.py -m model=customvit flag_limit=256,1024,16384."""

from cellpatch.cli.program import train

if __name__ == "__main__":
    train()
