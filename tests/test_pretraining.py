"""Pretraining without labels: what it minimises, which crops it sees, what is kept and recorded of it."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import figure3
import models_table
import numpy as np
import pytest
import torch
from conftest import config_of
from PIL import Image
from safetensors.torch import load_file
from simulated import pretraining_facts, restated, simulated
from stored import read_record
from test_models import MODELS
from test_resume import SMALL_CNN, SMALL_VIT, Killed
from torch import Tensor, nn

from cellpatch.analysis.curves import learning_curves, side_title, split_by_adaptation
from cellpatch.analysis.groups import group_by_seed
from cellpatch.analysis.labels import by_label
from cellpatch.analysis.results import read_results
from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config, models
from cellpatch.data.splits import ByCell, BySite, BySpecimen
from cellpatch.data.splitter import LabelledCells
from cellpatch.data.store.reader import CellStore
from cellpatch.data.unlabelled import UnlabelledCells, find_unlabelled
from cellpatch.figures.captions import sample_size_caption
from cellpatch.figures.palette import LINESTYLES, group_style
from cellpatch.inference.restore import restore
from cellpatch.models.backbone import Backbone, map_shape
from cellpatch.models.nin import NIN
from cellpatch.optics.conditions import CLEAN
from cellpatch.pretraining import objectives
from cellpatch.pretraining.cache import PretrainedCache
from cellpatch.pretraining.fit import PretrainingFit
from cellpatch.pretraining.objectives import FeatureRegression, MaskedImageModel, draw_mask, hide
from cellpatch.probing.logistic import standardise
from cellpatch.runs import identity as identity_module
from cellpatch.runs.pretrained import pretraining_fingerprint
from cellpatch.runs.stored_run import StoredRun
from cellpatch.runs.table import runs_table
from cellpatch.runs.verify import verify
from cellpatch.runtime.errors import UnavailableError
from cellpatch.sweeps.train import train
from cellpatch.training.callbacks import LastCheckpoint

FolderMaker = Callable[..., Path]
MIM = ["adapt=mim", "adapt.mask_px=4", "adapt.pretrain_updates=12", "adapt.pretrain_batch_size=8"]
DISTIL = ["adapt=distil", "adapt.teacher=efficientnet_lite0", "adapt.teacher_px=48"]
DISTIL += ["adapt.pretrain_updates=12", "adapt.pretrain_batch_size=8"]
BRIEF = ["trainer.max_epochs=2"]


class OneByOne(Backbone):
    """A convolution of each pixel: a map as large as the input."""

    def __init__(self, input_px: int = 8) -> None:
        super().__init__()
        self.input_px, self.num_features = input_px, 3
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.feature_map(x).mean(dim=(2, 3))

    def feature_map(self, x: Tensor) -> Tensor:
        return self.layer(x)


def _masked_model(share: float = 0.5, bias: float = 0.0) -> MaskedImageModel:
    model = MaskedImageModel(OneByOne(), (3, 8), share, 2)
    nn.init.zeros_(model.head.weight)
    assert model.head.bias is not None
    nn.init.constant_(model.head.bias, bias)
    return model


@pytest.mark.parametrize(("share", "hidden"), [(0.6, 15), (0.75, 19), (0.001, 1), (0.999, 24)])
def test_each_crop_hides_the_same_number_of_blocks(share: float, hidden: int) -> None:
    mask = draw_mask(200, 5, share, torch.device("cpu"))
    assert mask.sum(dim=(1, 2)).unique().tolist() == [hidden]
    often = mask.float().mean(dim=0)
    assert (often - hidden / 25).abs().max() < 0.15, "no block is preferred"


def test_hidden_pixels_take_the_mean_of_those_that_are_seen() -> None:
    x = torch.rand(3, 3, 8, 8)
    hidden = torch.rand(3, 1, 8, 8) < 0.4
    filled = hide(x, hidden)
    for crop, mask, result in zip(x, hidden[:, 0], filled, strict=True):
        assert torch.equal(result[:, ~mask], crop[:, ~mask])
        torch.testing.assert_close(result[:, mask], crop[:, ~mask].mean(dim=1)[:, None].expand(-1, int(mask.sum())))


def test_hidden_pixels_alone_enter_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = torch.zeros(2, 4, 4, dtype=torch.bool)
    blocks[0, 0, 0] = blocks[1, 3, 1] = True
    monkeypatch.setattr(objectives, "draw_mask", lambda *_: blocks)
    model, x = _masked_model(), torch.rand(2, 3, 8, 8)
    hidden = blocks.repeat_interleave(2, 1).repeat_interleave(2, 2)
    guess = torch.rand(2, 3, 8, 8, requires_grad=True)
    monkeypatch.setattr(model, "predict", lambda _: guess)
    loss = model(x, torch.arange(2))
    expected = [(guess - x)[i, :, hidden[i]].abs() for i in range(2)]
    torch.testing.assert_close(loss, torch.cat(expected).mean())
    loss.backward()
    assert guess.grad is not None
    assert torch.equal(guess.grad.abs().sum(dim=1) > 0, hidden)


def test_a_hidden_pixel_is_not_seen() -> None:
    """Whatever is hidden, the prediction is the same."""
    model = MaskedImageModel(OneByOne(), (3, 8), 0.5, 2)
    hidden = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    hidden[..., :4] = True
    x = torch.rand(1, 3, 8, 8)
    other = torch.where(hidden, torch.rand(1, 3, 8, 8), x)
    assert torch.equal(model.predict(hide(x, hidden)), model.predict(hide(other, hidden)))


def test_a_constant_crop_needs_no_difference_from_its_colour() -> None:
    x = torch.full((4, 3, 8, 8), 0.3)
    torch.testing.assert_close(_masked_model()(x, torch.arange(4)), torch.tensor(0.0))
    torch.testing.assert_close(_masked_model(bias=0.2)(x, torch.arange(4)), torch.tensor(0.2))


def test_the_loss_of_distillation_is_the_variance_that_is_not_explained() -> None:
    targets = standardise(torch.randn(500, 3) * 5 + 2)[0]
    model, x, cells = FeatureRegression(OneByOne(), targets), torch.rand(500, 3, 8, 8), torch.arange(500)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    torch.testing.assert_close(model(x, cells), torch.tensor(1.0))
    targets = x.mean(dim=(2, 3))
    model = FeatureRegression(OneByOne(), targets)
    with torch.no_grad():
        for layer in (model.head.weight, model.backbone.layer.weight):
            layer.copy_(torch.eye(3).view_as(layer))
        for bias in (model.head.bias, model.backbone.layer.bias):
            bias.zero_()
    assert model(x[7:9], cells[7:9]).item() < 1e-10, "each crop has the target at its own position"


@pytest.mark.parametrize("name", [name for name in MODELS if not models()[name]])
def test_every_model_from_scratch_learns_from_hidden_blocks(name: str) -> None:
    experiment = assemble(compose_config([f"model={name}", "adapt=mim"]))
    backbone = experiment.model.create().train()
    shape = map_shape(experiment.model.on_meta())
    assert shape[1] >= 5
    model = MaskedImageModel(backbone, shape, 0.6, 8)
    model(torch.rand(2, 3, 40, 40), torch.arange(2)).backward()
    unmoved = [name for name, each in backbone.named_parameters() if each.grad is None]
    assert all(name.startswith("net.head") for name in unmoved), unmoved


def _cells(**changes: Any) -> LabelledCells:
    """Ten specimens of twelve cells: two classes of the study, and one that is left out."""
    specimens = np.repeat([f"s{i}" for i in range(10)], 12).astype(object)
    labels = np.tile([0, 0, 0, 0, 1, 1, 1, 1, -1, -1, -1, -1], 10)
    digests = np.array([f"{i:016}".encode() for i in range(120)], "S16")
    return replace(LabelledCells(labels, specimens, digests), **changes)


def _seen(cells: LabelledCells, splitter: Any = None) -> tuple[UnlabelledCells, dict[str, np.ndarray]]:
    splitter = splitter or BySpecimen(seed=0, test_share=0.2, val_share=0.2, val_limit=4)
    return find_unlabelled(cells, splitter, ["a", "b"]), splitter.assign(cells, ["a", "b"])


def test_all_cells_of_training_specimens_are_seen_and_no_other() -> None:
    cells = _cells()
    seen, parts = _seen(cells)
    trained = set(cells.specimens[parts["train"]])
    assert seen.indices.tolist() == [i for i in range(120) if cells.specimens[i] in trained]
    assert (cells.labels[seen.indices] == -1).any(), "a class that is left out of the study too"
    assert (seen.audit.cells, seen.audit.specimens) == (72, 6)
    assert seen.audit.cells_held_out == seen.audit.specimens_held_out == {"validation": 0, "test": 0}
    limited = BySpecimen(seed=0, test_share=0.2, val_share=0.2, val_limit=1)
    assert np.array_equal(_seen(cells, limited)[0].indices, seen.indices), "validation cells above a limit are unseen"


def test_copies_of_test_crops_are_not_seen() -> None:
    """Also not of those that no one tests, because their class is left out."""
    cells = _cells()
    _, parts = _seen(cells)
    first, second, third = parts["train"][:3]
    tested = parts["test"][0]
    untested = next(i for i in range(120) if cells.specimens[i] == cells.specimens[tested] and cells.labels[i] < 0)
    digests, groups = cells.digests.copy(), np.full(120, -1)
    digests[first], digests[second] = digests[tested], digests[untested]
    groups[[third, tested]] = 5
    groups[parts["train"][[3, 4]]] = 6
    seen, _ = _seen(_cells(digests=digests, near_groups=groups))
    assert not set(seen.indices) & {first, second, third}
    assert (seen.audit.equal_to_test_crops, seen.audit.near_test_crops, seen.audit.cells) == (2, 1, 69)


def test_a_specimen_that_the_split_drops_is_not_seen_at_all() -> None:
    cells, whole = _cells(), BySpecimen(seed=0, test_share=0.2, val_share=0.2, val_limit=4)
    _, parts = _seen(cells)
    groups = np.full(120, -1)
    groups[[parts["train"][0], parts["test"][0]]] = 5
    seen, _ = _seen(_cells(near_groups=groups), replace(whole, near_copies="drop_specimens"))
    assert cells.specimens[parts["train"][0]] not in set(cells.specimens[seen.indices])
    assert (seen.audit.near_test_crops, seen.audit.cells, seen.audit.specimens) == (12, 60, 5)


def test_a_split_by_cell_shows_its_training_part_alone() -> None:
    cells = _cells()
    seen, parts = _seen(cells, ByCell(seed=0, test_share=0.2, val_share=0.2, val_limit=4))
    assert seen.indices.tolist() == parts["train"].tolist()
    assert seen.audit.cells_held_out == {"validation": 0, "test": 0}
    assert min(seen.audit.specimens_held_out.values()) > 0, "the audit says that specimens are divided"


def test_a_stated_split_and_held_out_sites_decide_before_the_specimen() -> None:
    cells = _cells()
    _, parts = _seen(cells)
    part = np.full(120, "train", object)
    for name in ("validation", "test"):
        part[np.isin(cells.specimens, cells.specimens[parts[name]])] = name
    odd = next(i for i in range(120) if part[i] == "train" and cells.labels[i] == -1)
    part[odd] = "test"  # of no class of the study: no specimen is in two parts by it
    seen, _ = _seen(_cells(predefined_split=part))
    assert odd not in seen.indices
    assert seen.audit.cells == 71
    sites = np.where(np.isin(cells.specimens, ["s0", "s1"]), "far", "near").astype(object)
    odd = next(i for i in range(120) if cells.specimens[i] == "s5" and cells.labels[i] == -1)
    sites[odd] = "far"
    by_site = BySite(test_sites=["far"], seed=0, val_share=0.2, val_limit=4)
    seen, parts = _seen(_cells(sites=sites), by_site)
    assert "s5" in cells.specimens[parts["train"]]
    assert odd not in seen.indices
    assert not set(cells.specimens[seen.indices]) & {"s0", "s1"}


def _run(folder: Path, root: Path, *overrides: str) -> tuple[Path, dict[str, Any]]:
    outcome = train(config_of(folder, root, *BRIEF, *overrides))
    run = folder / "runs" / outcome.run
    return run, read_record(run)


def _marked(folder: Path) -> Path:
    """Crops in class folders whose every pixel names their specimen."""
    for code, label in enumerate(("red", "green", "blue")):
        for specimen in range(8):
            place = folder / label / f"specimen{specimen}"
            place.mkdir(parents=True)
            for i in range(3):
                crop = np.full((16, 16, 3), 20 * (specimen + 1), np.uint8)
                crop[0, 0] = 60 * code, i, specimen  # no two are equal
                Image.fromarray(crop).save(place / f"{i}.png")
    return folder


def test_no_crop_of_a_held_out_specimen_reaches_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[np.ndarray] = []
    seen: list[Tensor] = []
    crops, forward, run = CellStore.crops, MaskedImageModel.forward, PretrainingFit.run
    inside = []

    def spied_crops(self: CellStore, indices: Any) -> Any:
        read.extend([indices] if inside else [])
        return crops(self, indices)

    def spied_forward(self: MaskedImageModel, x: Tensor, cells: Tensor) -> Tensor:
        seen.append(x[:, :, 8, 8])
        return forward(self, x, cells)

    def spied_run(self: PretrainingFit) -> Any:
        inside.append(True)
        try:
            return run(self)
        finally:
            inside.clear()

    monkeypatch.setattr(CellStore, "crops", spied_crops)
    monkeypatch.setattr(MaskedImageModel, "forward", spied_forward)
    monkeypatch.setattr(PretrainingFit, "run", spied_run)
    settings = [*SMALL_CNN, *MIM, "flag_limit=2", "augment=none", "data.split.drop_classes=[blue]"]
    _, record = _run(tmp_path, _marked(tmp_path / "cells"), *settings)
    [file] = (tmp_path / "stores").glob("[!.]*/manifest.json")
    cells = CellStore(file.parent).cells
    splitter = BySpecimen(
        **{key: value for key, value in record["config"]["data"]["split"].items() if key != "component"}
    )
    table = splitter.assign(
        LabelledCells(
            cells["class"].map({"red": 0, "green": 1, "blue": -1}).astype(int).to_numpy(),
            cells["specimen"].astype(str).to_numpy(),
            cells["digest"].to_numpy(dtype="S16"),
        ),
        ["red", "green"],
    )
    trained = set(cells["specimen"].astype(str).to_numpy()[table["train"]])
    assert 0 < len(trained) < 8
    indices = np.unique(np.concatenate(read))
    assert set(cells["specimen"].astype(str).to_numpy()[indices]) == trained
    assert len(indices) == 9 * len(trained), "all of their cells, of all classes, whatever the flag_limit"
    shown = set((255 * torch.cat(seen)).round().int().flatten().tolist())
    assert shown == {20 * (int(name.removeprefix("specimen")) + 1) for name in trained}
    audit = record["pretraining"]["audit"]
    assert (audit["cells"], audit["specimens"]) == (len(indices), len(trained))
    assert audit["cells_held_out"] == audit["specimens_held_out"] == {"validation": 0, "test": 0}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[PretrainingFit]:
    """The pretrainings that were done."""
    done = []
    run = PretrainingFit.run

    def counting(self: PretrainingFit) -> Any:
        done.append(self)
        return run(self)

    monkeypatch.setattr(PretrainingFit, "run", counting)
    return done


# Mean losses of the first and last updates, of code PRETRAINING_CODE = 1.
GOLDEN = {"cnn": (0.3115, 0.2353), "customvit": (0.4516, 0.1049)}
GOLDEN_VIT = [*SMALL_VIT, "model.backbone.stem=single", "adapt.pretrain_lr=0.003"]


@pytest.mark.parametrize(("name", "model"), [("cnn", SMALL_CNN), ("customvit", GOLDEN_VIT)])
def test_losses_are_what_they_were(tmp_path: Path, folder_of_squares: FolderMaker, name: str, model: list[str]) -> None:
    _, record = _run(tmp_path, folder_of_squares(20, 5), *model, *MIM, "flag_limit=4")
    losses = record["pretraining"]["cost"]["losses"]
    np.testing.assert_allclose((losses[0], losses[-1]), GOLDEN[name], atol=2e-3)


def test_16_bits_on_a_cpu_pretrain_nearly_the_same(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    precision = ["trainer.precision=bf16-mixed", "flag_limit=4"]
    _, record = _run(tmp_path, folder_of_squares(20, 5), *GOLDEN_VIT, *MIM, *precision)
    losses = record["pretraining"]["cost"]["losses"]
    np.testing.assert_allclose((losses[0], losses[-1]), GOLDEN["customvit"], atol=0.03)


@pytest.mark.long
def test_one_pretraining_serves_all_limits_of_a_seed(
    tmp_path: Path, folder_of_squares: FolderMaker, counted: list[PretrainingFit]
) -> None:
    root = folder_of_squares(20, 5)
    run, first = _run(tmp_path, root, *SMALL_VIT, *MIM, "flag_limit=4")
    assert run.name.startswith("customvit_s-mim-folder-4-s0-")
    _, second = _run(tmp_path, root, *SMALL_VIT, *MIM, "flag_limit=8")
    _, recipe = _run(tmp_path, root, *SMALL_VIT, *MIM, "flag_limit=8", "adapt.mixup=0.2")
    assert len(counted) == 1
    [entry] = (tmp_path / "embeddings-pretrained").glob("[!.]*")
    assert {file.name for file in entry.iterdir()} == {"weights.safetensors", "entry.json"}
    facts = [record["pretraining"] for record in (first, second, recipe)]
    assert [each.pop("reused") for each in facts] == [False, True, True]
    assert facts[0] == facts[1] == facts[2]
    assert facts[0]["entry"] == entry.name
    assert (facts[0]["method"], facts[0]["cost"]["updates"], facts[0]["teacher"]) == ("mim", 12, None)
    seconds = facts[0]["cost"]["seconds"]
    assert seconds > 0
    assert first["seconds"]["all"] > seconds
    _run(tmp_path, root, *SMALL_VIT, *MIM, "flag_limit=4", "seed=1")
    _run(tmp_path, root, *SMALL_VIT, *MIM, "flag_limit=4", "adapt.mask_share=0.5")
    assert len(counted) == 3, "another seed and other settings are other pretrainings"
    assert _run(tmp_path, root, *SMALL_VIT, *MIM, "flag_limit=4")[0] == run, "a run that exists is not trained again"
    assert verify(tmp_path / "runs") == []


def test_the_network_starts_from_what_was_pretrained(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    """Without a step of training with labels, to speak of, it has the pretrained tensors; restoring needs no cache."""
    still = ["adapt.lr=1e-12", "adapt.weight_decay=0.0", "adapt.average_over=0", "flag_limit=4"]
    run, record = _run(tmp_path, folder_of_squares(20, 5), *SMALL_VIT, *MIM, *still)
    entry = tmp_path / "embeddings-pretrained" / record["pretraining"]["entry"]
    pretrained = load_file(entry / "weights.safetensors")
    for file in entry.iterdir():
        file.unlink()
    network = restore(run).network
    fixed = {name for name, _ in network.backbone.named_parameters()}
    for name in fixed:
        torch.testing.assert_close(network.backbone.state_dict()[name], pretrained[name], atol=1e-6, rtol=0)


def test_identity_is_of_every_setting(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(20, 5)

    def identity(*overrides: str) -> str:
        experiment = assemble(config_of(tmp_path, root, *SMALL_VIT, *overrides))
        fingerprint = pretraining_fingerprint(experiment)
        return identity_module.identity(experiment.settings, "data", None, pretraining=fingerprint)

    changes = ["adapt.mask_share=0.5", "adapt.mask_px=2", "adapt.pretrain_updates=13", "adapt.pretrain_batch_size=9"]
    changes += ["adapt.pretrain_lr=0.1", "adapt.pretrain_weight_decay=0.1", "adapt.pretrain_warmup=0.3"]
    others = [identity(*MIM, change) for change in changes]
    others += [identity(*MIM), identity(), identity(*DISTIL), identity(*DISTIL, "adapt.teacher_px=64")]
    others += [identity(*DISTIL, "data.loading.embedding_dtype=float16")]
    assert len(set(others)) == len(others)
    settings = assemble(config_of(tmp_path, root, *SMALL_VIT, *MIM)).settings
    assert len({identity_module.identity(settings, "data", None, pretraining=code) for code in ("1", "2")}) == 2
    assert len(identity_module.identities(settings, "data", None, "1")) == 1, "0.3.0 had no pretraining"


def test_the_key_is_of_every_part(
    tmp_path: Path, folder_of_squares: FolderMaker, counted: list[PretrainingFit]
) -> None:
    _run(tmp_path, folder_of_squares(20, 5), *SMALL_VIT, *MIM, "flag_limit=4")
    [fit] = counted
    assert json.dumps(fit.key()) == json.dumps(fit.key())
    changed = [
        replace(fit, seed=1),
        replace(fit, cells=fit.cells[1:]),
        replace(fit, augment=None),
        replace(fit, method=replace(fit.method, pretrain_lr=1.0)),
        replace(fit, model=replace(fit.model, key="other")),
        replace(fit, path=replace(fit.path, via_px=None)),
        replace(fit, trainer=replace(fit.trainer, precision="bf16-mixed")),
    ]
    assert len({json.dumps(each.key(), sort_keys=True) for each in [fit, *changed]}) == len(changed) + 1
    same = replace(fit, method=replace(fit.method, lr=1.0, mixup=0.3), resident_gib=0.0)
    assert same.key() == fit.key(), "the recipe of the training after it does not count"
    assert all(torch.equal(a, b) for a, b in zip(same.run()[0].values(), fit.run()[0].values(), strict=True))


def test_damaged_entries_are_refused_and_unfinished_ones_made_anew(
    tmp_path: Path, folder_of_squares: FolderMaker, counted: list[PretrainingFit]
) -> None:
    root = folder_of_squares(20, 5)
    _run(tmp_path, root, *SMALL_CNN, *MIM, "flag_limit=4")
    [entry] = (tmp_path / "embeddings-pretrained").glob("[!.]*")
    weights = entry / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"x")
    with pytest.raises(ValueError, match=r"the checksum of weights.safetensors differs from entry.json: delete"):
        _run(tmp_path, root, *SMALL_CNN, *MIM, "flag_limit=5")
    (entry / "entry.json").write_text("{")
    with pytest.raises(ValueError, match="entry.json cannot be read"):
        _run(tmp_path, root, *SMALL_CNN, *MIM, "flag_limit=5")
    (entry / "entry.json").unlink()
    _run(tmp_path, root, *SMALL_CNN, *MIM, "flag_limit=5")
    assert len(counted) == 2
    assert weights.read_bytes() == whole, "the same seed gives the same bits"


def test_of_two_that_ask_at_once_one_pretrains(
    tmp_path: Path, folder_of_squares: FolderMaker, counted: list[PretrainingFit], monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(tmp_path, folder_of_squares(20, 5), *SMALL_CNN, *MIM, "flag_limit=4")
    [fit] = counted
    run = PretrainingFit.run

    def slow(self: PretrainingFit) -> Any:
        time.sleep(0.3)
        return run(self)

    monkeypatch.setattr(PretrainingFit, "run", slow)
    cache, found = PretrainedCache(tmp_path / "shared"), []
    workers = [threading.Thread(target=lambda: found.append(cache.get(fit, "a/b"))) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(each.reused for each in found) == [False, True]
    assert len(counted) == 2
    assert {each.entry for each in found} == {found[0].entry}
    assert found[0].entry.startswith("a_b-")


def test_a_killed_run_goes_on_to_the_same_bits(
    tmp_path: Path, folder_of_squares: FolderMaker, counted: list[PretrainingFit], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder_of_squares(20, 5)
    settings = [*SMALL_CNN, *MIM, "flag_limit=10"]
    undisturbed, expected = _run(tmp_path / "undisturbed", root, *settings)
    place = tmp_path / "killed"
    batches, write = PretrainingFit._batches, LastCheckpoint.on_train_epoch_end

    def killed_early(self: PretrainingFit) -> Any:
        yield next(iter(batches(self)))
        raise Killed

    def killed_late(self: LastCheckpoint, trainer: Any, module: Any) -> None:
        write(self, trainer, module)
        raise Killed

    monkeypatch.setattr(PretrainingFit, "_batches", killed_early)
    with pytest.raises(Killed):
        _run(place, root, *settings, "trainer.resume=true")
    assert not list((place / "embeddings-pretrained").glob("[!.]*")), "half a pretraining leaves no entry"
    monkeypatch.setattr(PretrainingFit, "_batches", batches)
    monkeypatch.setattr(LastCheckpoint, "on_train_epoch_end", killed_late)
    with pytest.raises(Killed):
        _run(place, root, *settings, "trainer.resume=true")
    monkeypatch.setattr(LastCheckpoint, "on_train_epoch_end", write)
    run, record = _run(place, root, *settings, "trainer.resume=true")
    assert len(counted) == 3, "of these one was killed"
    for name in ("weights.safetensors", "predictions.parquet"):
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert record["resumed_at_update"] != expected["resumed_at_update"] == []
    assert record["pretraining"]["reused"]


def test_a_student_learns_the_teachers_features(
    tmp_path: Path, folder_of_squares: FolderMaker, counted: list[PretrainingFit], monkeypatch: pytest.MonkeyPatch
) -> None:
    students: list[Any] = []
    network = PretrainingFit._network

    def kept(self: PretrainingFit, *parts: Any) -> Any:
        students.append(network(self, *parts))
        return students[-1]

    monkeypatch.setattr(PretrainingFit, "_network", kept)
    root = folder_of_squares(60, 5)
    longer = ["adapt.pretrain_updates=100", "adapt.pretrain_lr=0.01", "augment=none", "flag_limit=4"]
    run, record = _run(tmp_path, root, *SMALL_CNN, *DISTIL, *longer)
    assert run.name.startswith("cnn-distil_efficientnet_lite0-folder-4-s0-")
    facts = record["pretraining"]
    assert facts["teacher"]["name"] == "efficientnet_lite0"
    assert record["weights"] is None, "the network itself has no published weights"
    losses = facts["cost"]["losses"]
    assert losses[-1] < 0.7 < 0.75 < losses[0], losses
    stated = StoredRun.open(run).record.pretrain_seconds
    assert stated == facts["cost"]["seconds"] + facts["cost"]["embed_seconds"]
    [fit] = counted
    assert fit.teacher is not None
    teacher = standardise(torch.from_numpy(np.array(fit.teacher(CLEAN, fit.cells))))[0]
    pixels = torch.from_numpy(fit.store.crops(fit.cells)).permute(0, 3, 1, 2) / 255
    [student] = students
    with torch.no_grad():
        predicted = student.eval().head(student.backbone(fit.path.under()(pixels)))
    correlation = (standardise(predicted)[0] * teacher).mean(dim=0)
    assert correlation.mean() > 0.2, correlation.mean()
    [entry] = (tmp_path / "embeddings").glob("[!.]*")
    assert entry.name.startswith("efficientnet_lite0-folder-"), "the cache of features that probes read"
    assert restore(run).network.backbone.num_features == 16, "what is stored is the student alone"


@pytest.mark.long
def test_figures_and_tables_name_the_pretraining(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    root = folder_of_squares(20, 5)
    for adapt in ([], MIM, DISTIL):
        _run(tmp_path, root, *SMALL_CNN, *adapt, "flag_limit=4")
    groups = group_by_seed(read_results(tmp_path / "runs"))
    labelled = by_label(groups, groups)
    assert set(labelled) == {"cnn", "cnn, mim", "cnn, distil efficientnet_lite0"}
    assert all(group.coordinates.own_weights for group in groups)
    assert [group.coordinates.from_scratch for group in groups].count(True) == 1
    n = labelled["cnn, mim"].runs[0].record.pretraining.audit.cells  # type: ignore[union-attr]
    caption = sample_size_caption(groups)
    assert f" mim: pretrained without labels on {n} crops of training specimens." in caption
    assert f" distil efficientnet_lite0: pretrained on its features of {n} crops of training specimens." in caption
    assert "pretrained" not in sample_size_caption([labelled["cnn"]])
    table = runs_table(tmp_path / "runs").set_index("adapt")
    assert table["pretrain_seconds"].notna().to_dict() == {
        "scratch": False,
        "mim": True,
        "distil efficientnet_lite0": True,
    }
    record = StoredRun.open(next((tmp_path / "runs").glob("cnn-scratch-*"))).record
    assert record.pretraining is None


def test_small_networks_stand_together_and_their_cost_beside_them() -> None:
    skills = {
        ("customvit", "scratch", 40): (0.05, 0.60, 0.15),
        ("customvit", "mim", 40): (0.05, 0.50, 0.15),
        ("customvit", "distil dinov2_s", 40): (0.04, 0.45, 0.15),
        ("dinov2_s", "linear_probe", 224): (0.30, 0.15, 0.05),
    }
    results = [
        restated(run, pretraining=pretraining_facts(7.25)) if run.coordinates.method == "mim" else run
        for run in simulated(skills=skills, seeds=(0, 1))
    ]
    groups = group_by_seed(results)
    own, pretrained = split_by_adaptation(by_label(learning_curves(groups), groups))
    assert list(pretrained) == ["dinov2_s, linear_probe"]
    assert set(own) == {"customvit", "customvit, mim", "customvit, distil dinov2_s"}
    assert side_title([own["customvit"].coordinates]) == "trained from scratch"
    drawing = figure3.draw("simulated", groups)
    assert [ax.get_title("left") for ax in drawing.figure.axes] == ["without published weights", "dinov2_s"]
    assert "customvit, distil dinov2_s (grey), the best without published weights at 4096" in drawing.caption
    styles = {LINESTYLES[method] for method in ("scratch", "mim", "distil")}
    assert len(styles) == 3
    assert group_style(own["customvit, mim"].coordinates).fillstyle == "full"
    [table] = models_table.tables(groups)
    by_adapt = table.shown.groupby("adapt")["pretraining, s"].unique().str[0].to_dict()
    assert by_adapt == {"scratch": "", "mim": "7.2", "distil dinov2_s": "", "linear_probe": "", "-": ""}
    assert any(note.startswith("customvit, mim, overtakes dinov2_s, linear_probe") for note in table.notes)
    [plain] = models_table.tables(group_by_seed(simulated(seeds=(0,))))
    assert "pretraining, s" not in plain.shown
    assert "pretrain_seconds" not in plain.numbers


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["adapt.mask_share=0.0"], r"adapt.mask_share must be in \(0, 1\), but got 0.0"),
        (["adapt.mask_share=1.0"], r"adapt.mask_share must be in \(0, 1\), but got 1.0"),
        (["adapt.mask_px=0"], "adapt.mask_px must be >= 1, but got 0"),
        (["adapt.mask_px=7"], "adapt.mask_px must divide the input of 40 px into 2 blocks a side or more, but got 7"),
        (["adapt.mask_px=40"], "adapt.mask_px must divide the input of 40 px .* but got 40"),
        (["adapt.pretrain_updates=0"], "adapt.pretrain_updates must be >= 1, but got 0"),
        (["adapt.pretrain_batch_size=1"], "adapt.pretrain_batch_size must be >= 2, but got 1"),
        (["adapt.pretrain_lr=0.0"], "adapt.pretrain_lr must be > 0, but got 0.0"),
        (["adapt.pretrain_weight_decay=-0.1"], "adapt.pretrain_weight_decay must be >= 0"),
        (["adapt.pretrain_warmup=1.0"], r"adapt.pretrain_warmup must be in \[0, 1\), but got 1.0"),
        (["adapt=distil"], "these keys need a value: adapt.teacher=..."),
        (["adapt=distil", "adapt.teacher=cnn"], "adapt.teacher must be one of .*dinov2_s.*, but got 'cnn'"),
        (["adapt=distil", "adapt.teacher=../x"], "adapt.teacher must be one of .*, but got '../x'"),
        (["adapt=distil", "adapt.teacher=dinov2_s", "adapt.teacher_px=57"], "teacher_px=57: .* must be a multiple"),
        (["model=efficientnet_lite0", "adapt.pretrain_lr=0.1"], "adapt.lr refers to a key that model=efficientnet_"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(overrides: list[str], message: str) -> None:
    adapt = [] if any(each.startswith("adapt=") for each in overrides) else ["adapt=mim"]
    with pytest.raises(ValueError, match=message):
        assemble(compose_config([*adapt, *overrides]))


def test_a_teacher_without_weights_is_unavailable(tmp_path: Path, folder_of_squares: FolderMaker) -> None:
    missing = ["adapt=distil", "adapt.teacher=ctranspath", "flag_limit=4"]
    message = r"adapt.teacher=ctranspath: .* weights_dir=DIR finds it in that folder, as ctranspath.safetensors"
    with pytest.raises(UnavailableError, match=message):
        _run(tmp_path, folder_of_squares(20, 5), *SMALL_CNN, *missing)
    assert not list(tmp_path.glob("embeddings*"))


def test_a_model_without_a_map_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NIN, "feature_map", Backbone.feature_map)
    monkeypatch.setattr(NIN, "forward", lambda self, x: self.stages(self.normalise(x)).mean(dim=(2, 3)))
    unique = "model.backbone.dropout=0.123"  # checks are kept by model
    with pytest.raises(ValueError, match="masked image modelling needs a map of features: NIN has no map"):
        assemble(compose_config(["model=nin", "adapt=mim", unique]))
    monkeypatch.setattr(NIN, "feature_map", lambda self, x: x[:, :, :7, :7])
    with pytest.raises(ValueError, match="NIN has no square map that divides 40 px, but one of"):
        assemble(compose_config(["model=nin", "adapt=mim", unique]))
