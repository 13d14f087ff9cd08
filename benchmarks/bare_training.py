"""What a user would write: PyTorch, ImageFolder and DataLoader around the same small CNN; prints the test macro-F1.

    python benchmarks/bare_training.py IMAGES EPOCHS

IMAGES holds train, validation and test, each with a folder a class. Same augmentation, optimiser, rates and batch size
as cellpatch's cnn; the epoch with the best validation macro-F1 is kept.
"""

import sys
from copy import deepcopy
from functools import partial

import torch
from sklearn.metrics import f1_score
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from transforms import augmented, unaugmented

LR, WEIGHT_DECAY, WARMUP, BATCH = 1e-3, 0.2, 0.2, 64


def block(width_in: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(width_in, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]


def cnn(classes: int) -> nn.Module:
    """The layers of cellpatch's cnn."""
    layers: list[nn.Module] = []
    width = 3
    for wider in (32, 64, 128, 256):
        layers += [*block(width, wider), *block(wider, wider), nn.MaxPool2d(2)]
        width = wider
    layers[-1] = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, classes))


@torch.inference_mode()
def macro_f1(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    labels, predicted = zip(*((y, model(x).argmax(dim=1)) for x, y in loader), strict=True)
    return f1_score(torch.cat(labels), torch.cat(predicted), average="macro")


def main(images: str, epochs: int) -> None:
    torch.manual_seed(0)
    training = ImageFolder(f"{images}/train", augmented())
    loader = partial(DataLoader, batch_size=BATCH, num_workers=2, persistent_workers=True)
    train = loader(training, shuffle=True)
    validation, test = (loader(ImageFolder(f"{images}/{part}", unaugmented())) for part in ("validation", "test"))
    model = cnn(len(training.classes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, epochs * len(train), pct_start=WARMUP)
    best, kept = -1.0, model
    for epoch in range(epochs):
        model.train()
        for x, y in train:
            loss = cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
        score = macro_f1(model, validation)
        print(f"epoch {epoch + 1}  val_macro_f1 {score:.4f}", flush=True)
        if score >= best:
            best, kept = score, deepcopy(model)
    print(macro_f1(kept, test))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
