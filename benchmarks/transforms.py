"""What a user would write instead of our input: torchvision's transforms, which do the same on an ImageFolder."""

import torch
from torchvision import transforms

MEAN, STD = [0.7, 0.7, 0.7], [0.2, 0.2, 0.2]


class Turn:
    """By a multiple of 90 degrees."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return torch.rot90(image, int(torch.randint(0, 4, ())), (1, 2))


class StainJitter:
    """Gain and offset of each channel's optical density, as in cellpatch/data/augment.py."""

    def __init__(self, gain: float, offset: float) -> None:
        self.gain, self.offset = gain, offset

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        draws = torch.empty(2, 3, 1, 1).uniform_(-1, 1)
        return (image ** (1 + self.gain * draws[0]) * 10 ** (-self.offset * draws[1])).clamp(0, 1)


def augmented(side: int = 40, gain: float = 0.2, offset: float = 0.1) -> transforms.Compose:
    """Flips, turns, shifts of up to two pixels, stain jitter, resize and normalisation of a PIL image."""
    return transforms.Compose(
        [
            transforms.RandomCrop(side, padding=2, padding_mode="reflect"),
            transforms.RandomHorizontalFlip(),
            transforms.RandomVerticalFlip(),
            transforms.ToTensor(),
            Turn(),
            StainJitter(gain, offset),
            transforms.Normalize(MEAN, STD),
        ]
    )


def unaugmented(side: int = 40) -> transforms.Compose:
    """Resize and normalisation alone."""
    return transforms.Compose([transforms.Resize(side), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
