"""Are the models better than what anyone would try first? Plain references on the same split as a run.

    python experiments/studies/references.py data=endonuke data.root=DIR flag_limit=1024

* colour: logistic regression and a random forest on mean and sd of each channel's optical density;
* resnet18: timm's, in a bare PyTorch loop (AdamW, cosine, flips and turns) of as many epochs as a run of the config.

Both train on the run's training cells; the loop keeps its best epoch on the run's validation cells. Prints
test macro-F1 and balanced accuracy, and writes references-FLAG_LIMIT.json beside the runs.
"""

import json

import hydra
import numpy as np
import timm
import torch
from jaxtyping import Float, UInt8
from omegaconf import DictConfig
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from cellpatch.cli.usage import exit_on_value_error
from cellpatch.config.assemble import assemble
from cellpatch.config.schema import CONF, register
from cellpatch.data.dataset import open_dataset, open_store
from cellpatch.data.splitter import Split
from cellpatch.data.store.reader import CellStore
from cellpatch.probing.probes import Probe
from cellpatch.runs.experiment import Experiment
from cellpatch.runtime.atomic_io import atomic_write
from cellpatch.training.budget import plan_budget

Part = tuple[UInt8[np.ndarray, "n side side 3"], np.ndarray]


def read_parts(store: CellStore, split: Split, labels: np.ndarray) -> dict[str, Part]:
    """The crops proper (without margin) and labels of each part."""
    first, last = store.geometry.margin_px, store.geometry.side_px - store.geometry.margin_px
    parts = {}
    for name in ("train", "validation", "test"):
        index = getattr(split, name)
        parts[name] = (store.crops(index)[:, first:last, first:last], labels[index])
    return parts


def colour_features(crops: UInt8[np.ndarray, "n side side 3"]) -> Float[np.ndarray, "n 6"]:
    """Mean and sd of optical density per channel; mean OD per stain is a linear map of the means."""
    chunks = [-np.log10((chunk + 1.0) / 256) for chunk in np.array_split(crops, len(crops) // 1000 + 1)]
    return np.concatenate([np.hstack([c.mean(axis=(1, 2)), c.std(axis=(1, 2))]) for c in chunks])


def fit_colour(parts: dict[str, Part]) -> dict[str, np.ndarray]:
    """Predicted test classes of each colour classifier."""
    train, test = colour_features(parts["train"][0]), colour_features(parts["test"][0])
    models = {
        "colour, logistic on means": (LogisticRegression(max_iter=5000, class_weight="balanced"), slice(0, 3)),
        "colour, logistic": (LogisticRegression(max_iter=5000, class_weight="balanced"), slice(0, 6)),
        "colour, forest": (
            RandomForestClassifier(300, min_samples_leaf=2, class_weight="balanced_subsample", random_state=0),
            slice(0, 6),
        ),
    }
    predicted = {}
    for name, (model, columns) in models.items():
        pipeline = make_pipeline(StandardScaler(), model).fit(train[:, columns], parts["train"][1])
        predicted[name] = pipeline.predict(test[:, columns])
    return predicted


def fit_resnet18(parts: dict[str, Part], n_classes: int, epochs: int, seed: int) -> np.ndarray:
    """Predicted test classes of a ResNet-18 from scratch at 40x40."""
    torch.manual_seed(seed)
    model = timm.create_model("resnet18", num_classes=n_classes)
    inputs = {name: to_input(crops) for name, (crops, _) in parts.items()}
    labels = {name: torch.from_numpy(part[1]) for name, part in parts.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    steps = epochs * -(-len(labels["train"]) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.1)
    best, best_state = -1.0, model.state_dict()
    for _ in range(epochs):
        model.train()
        for index in torch.randperm(len(labels["train"])).split(128):
            loss = cross_entropy(model(turn(inputs["train"][index])), labels["train"][index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        score = f1_score(labels["validation"], predict_classes(model, inputs["validation"]), average="macro")
        if score > best:
            best, best_state = score, {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(best_state)
    return predict_classes(model, inputs["test"])


def to_input(crops: UInt8[np.ndarray, "n side side 3"]) -> Float[Tensor, "n 3 40 40"]:
    """Crops at 40 px, about centred and scaled."""
    x = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    x = interpolate(x, (40, 40), mode="bilinear", antialias=True) if x.shape[-1] != 40 else x
    return (x - 0.7) / 0.2


def turn(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """One random flip and turn for each eighth of the batch."""
    parts = [
        torch.rot90(part.flip(3) if torch.rand(()) < 0.5 else part, int(torch.randint(4, ())), (2, 3))
        for part in x.chunk(8)
    ]
    return torch.cat(parts)


def predict_classes(model: nn.Module, x: Float[Tensor, "n 3 h w"]) -> np.ndarray:
    """The network's classes of inputs."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(part) for part in x.split(256)]).argmax(1).numpy()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(config: DictConfig) -> None:
    exit_on_value_error(compare, config)


def compare(config: DictConfig) -> None:
    """Fit the references, print their scores and write them as JSON."""
    experiment = assemble(config)
    store = open_store(experiment.data)
    dataset = open_dataset(store, experiment.data.split, experiment.flag_limit, experiment.seed)
    classes, split = dataset.classes, dataset.split
    parts = read_parts(store, split, dataset.labels)
    predicted = fit_colour(parts)
    epochs = planned_epochs(experiment, len(split.train))
    predicted[f"resnet18, {epochs} epochs"] = fit_resnet18(parts, len(classes), epochs, experiment.seed)
    truth = parts["test"][1]
    scores = {
        name: {
            "macro_f1": float(f1_score(truth, guess, average="macro")),
            "balanced_accuracy": float(balanced_accuracy_score(truth, guess)),
            "f1": dict(zip(classes, f1_score(truth, guess, average=None).tolist(), strict=True)),
        }
        for name, guess in predicted.items()
    }
    cells = {part: _counts(labels, classes) for part, (_, labels) in parts.items()}
    print(f"train {cells['train']}\ntest  {cells['test']}")
    for name, score in scores.items():
        print(f"{name:28} macro-F1 {score['macro_f1']:.4f}  balanced accuracy {score['balanced_accuracy']:.4f}")
    facts = {"data": store.manifest.fingerprint, "flag_limit": experiment.flag_limit, "scores": scores}
    stem = f"references-{experiment.data.name}-{experiment.flag_limit}-s{experiment.seed}"
    with atomic_write(experiment.runs_dir / f"{stem}.json") as temporary:
        temporary.write_text(json.dumps(facts | {"cells": cells}, indent=1), encoding="utf-8")


def planned_epochs(experiment: Experiment, n_train: int) -> int:
    """Passes through the training cells that a run of this config would make, at least one."""
    if isinstance(experiment.adaptation, Probe):
        raise ValueError("resnet18 trains as long as the config's model, but a probe has no budget: use adapt=scratch")
    return max(1, round(plan_budget(experiment.adaptation, experiment.trainer, n_train).epochs))


def _counts(labels: np.ndarray, classes: list[str]) -> dict[str, int]:
    counts = np.bincount(labels, minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, counts, strict=True)}


if __name__ == "__main__":
    register()
    main()
