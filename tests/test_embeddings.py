"""Features kept on disk: computed once, whole or absent, cleared on request."""

import pickle
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import start_python, unaudited_split
from filelock import FileLock
from torch import nn

from cellpatch.cli import embeddings
from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.data.augment import DeviceAugment
from cellpatch.data.dataset import CellDataset
from cellpatch.data.store.reader import CellStore
from cellpatch.models.cnn import CNN
from cellpatch.models.network import Network
from cellpatch.optics.conditions import CLEAN
from cellpatch.optics.operator import OpticalPath
from cellpatch.probing import feature_cache, feature_entries, feature_key
from cellpatch.probing.feature_cache import FeatureCache
from cellpatch.probing.feature_key import FeatureRequest, View
from cellpatch.runs.fits import cached_features
from cellpatch.runtime.device import inference_mode


def _network(side: int) -> Network:
    torch.manual_seed(0)
    return Network(CNN(side, [4, 8], [0.5] * 3, [0.5] * 3), OpticalPath(side, 0, side).under(), nn.Identity()).eval()


def _features(
    store: CellStore, folder: Path, limit_gib: float = 1, dtype: feature_cache.Dtype = "float32", **other: Any
) -> np.ndarray:
    cache = FeatureCache(folder, limit_gib, 128, torch.device("cpu"), dtype)
    request = FeatureRequest(store, np.arange(len(store)), other.pop("name", "cnn"), {"weights": "w"}, **other)
    return cache.features(request, lambda: _network(8))


def test_features_are_the_network_s(store_of: Callable[..., Path], tmp_path: Path) -> None:
    store = CellStore(store_of(n=300))
    got = _features(store, tmp_path / "e")
    assert isinstance(got, np.memmap)
    with torch.no_grad():
        network = _network(8)
        expected = network.features(network.pixels(torch.from_numpy(store.crops(np.arange(300)))))
    np.testing.assert_allclose(got, expected, atol=1e-6)
    half = _features(store, tmp_path / "e", dtype="float16")
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, expected, atol=1e-2)


@pytest.mark.parametrize("view", [None, View(DeviceAugment(0.1, 0.1, 1, 0.0, [1.0, 1.0]), 0)], ids=["crops", "view"])
def test_processes_that_share_a_pass_write_the_bytes_of_one(
    store_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: View | None
) -> None:
    monkeypatch.setattr(feature_cache, "_WORTH_PROCESSES", 2)
    request = FeatureRequest(CellStore(store_of(n=200)), np.arange(200)[::-1], "cnn", {}, view)
    for processes in (1, 2):
        torch.set_num_threads(processes)  # shared out: one each
        cache = FeatureCache(tmp_path / str(processes), 1, 16, torch.device("cpu"), processes=processes)
        cache.features(request, partial(_network, 8))
        assert torch.get_num_threads() == processes
    torch.set_num_threads(1)
    one, two = ([file.read_bytes() for file in sorted((tmp_path / name).glob("cnn-*/*"))] for name in "12")
    assert len(one) == 2
    assert one == two


def test_a_probe_s_pass_is_shared_by_its_devices_and_little_is_sent(
    store_of: Callable[..., Path], tmp_path: Path
) -> None:
    store = CellStore(store_of(n=40))
    overrides = ["model=efficientnet_lite0", "model.backbone.input_px=32", "trainer.accelerator=cpu"]
    experiment = assemble(compose_config([*overrides, "trainer.devices=2", "adapt=linear_probe"]))
    cells = np.arange(40)
    dataset = CellDataset(store, ["a", "b"], store.labels, unaudited_split(cells, cells, cells))
    features = cached_features(experiment, experiment.model.weights_fingerprint(), dataset)
    assert features.cache.processes == 2
    network = features._network.under(CLEAN)
    sent = pickle.dumps(partial(features._network.under, CLEAN))
    assert len(sent) < 10_000, "no weights"
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(pickle.loads(sent)().eval().features(x), network.eval().features(x))  # noqa: S301


def test_a_shared_pass_that_is_interrupted_leaves_nothing(store_of: Callable[..., Path], tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; import numpy as np, torch; "
        "from cellpatch.cli.signals import end_on_signals; from cellpatch.data.store.reader import CellStore; "
        "from cellpatch.probing.feature_cache import FeatureCache; "
        "from cellpatch.probing.feature_key import FeatureRequest; from test_embeddings import announced\n"
        "if __name__ == '__main__':\n with end_on_signals():\n"
        "  cache = FeatureCache(Path(sys.argv[2]), 1, 1, torch.device('cpu'), processes=2)\n"
        "  cache.features(FeatureRequest(CellStore(Path(sys.argv[1])), np.zeros(10**6, int), 'cnn', {}), announced)"
    )
    process = start_python("-c", program, str(store_of()), str(tmp_path / "e"))
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline() == "a process has its network\n"
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (128 + signal.SIGTERM, "interrupted\n")
    assert [file for file in (tmp_path / "e").iterdir() if file.suffix != ".lock"] == []


def announced() -> Network:
    print("a process has its network", flush=True)
    return _network(8)


def test_cells_are_inferred_without_gradients_and_in_32_bits() -> None:
    before = torch.backends.cudnn.allow_tf32
    with inference_mode():
        assert torch.is_inference_mode_enabled()
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


def test_features_beyond_half_precision_are_refused(store_of: Callable[..., Path], tmp_path: Path) -> None:
    def loud() -> Network:
        network = _network(8)
        network.backbone = nn.Sequential(network.backbone, nn.Linear(8, 8))  # type: ignore[assignment]
        nn.init.constant_(network.backbone[1].bias, 1e6)  # type: ignore[index]
        return network

    store = CellStore(store_of())
    cache = FeatureCache(tmp_path / "e", 1, 128, torch.device("cpu"), "float16")
    with pytest.raises(ValueError, match="not finite as float16: set data.loading.embedding_dtype=float32"):
        cache.features(FeatureRequest(store, np.arange(len(store)), "loud", {}), loud)
    assert not list((tmp_path / "e").glob("*/features.npy"))


def test_a_view_is_the_same_whenever_it_is_computed(store_of: Callable[..., Path], tmp_path: Path) -> None:
    store = CellStore(store_of(n=40))
    augment = DeviceAugment(0.1, 0.1, 1, 0.0, [1.0, 1.0])
    one = _features(store, tmp_path / "a", view=View(augment, 0))
    torch.manual_seed(99)
    again = _features(store, tmp_path / "b", view=View(augment, 0))
    other = _features(store, tmp_path / "a", view=View(augment, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


def test_a_view_s_draws_are_not_of_the_batch(store_of: Callable[..., Path], tmp_path: Path) -> None:
    store, view = CellStore(store_of(n=200)), View(DeviceAugment(0.1, 0.1, 1, 0.0, [1.0, 1.0]), 0)
    whole = _features(store, tmp_path / "a", view=view)
    cache = FeatureCache(tmp_path / "b", 1, 7, torch.device("cpu"))
    parts = cache.features(FeatureRequest(store, np.arange(200), "cnn", {"weights": "w"}, view), lambda: _network(8))
    np.testing.assert_allclose(whole, parts, atol=1e-6)
    names = [next((tmp_path / folder).glob("[!.]*")).name for folder in "ab"]
    assert names[0] == names[1], "nor is the entry's name"


def test_a_full_cache_says_so_and_leaves_nothing(store_of: Callable[..., Path], tmp_path: Path) -> None:
    store = CellStore(store_of())
    with pytest.raises(ValueError, match=r"these are 0.000000894: more than .*embeddings_gib=1e-07; raise it$"):
        _features(store, tmp_path / "e", limit_gib=1e-7)
    assert [file for file in (tmp_path / "e").iterdir() if file.suffix != ".lock"] == []
    _features(store, tmp_path / "e")
    with pytest.raises(
        ValueError, match=r"holds 0.00000101 GiB .*: more than .*; raise it, or clear some: cellpatch embeddings"
    ):
        _features(store, tmp_path / "e", limit_gib=1e-6, dtype="float16")


def test_two_that_compute_at_once_stay_below_the_limit_together(
    store_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CellStore(store_of(n=300))
    refused = []

    def batches(cells: int, batch: int, doing: str) -> Iterator[int]:
        for start in range(0, cells, batch):
            if start == batch:  # the first pass is half done
                with pytest.raises(ValueError, match="more than data.loading.embeddings_gib"):
                    _features(
                        store,
                        tmp_path / "e",
                        limit_gib=15e3 / 2**30,
                        view=View(DeviceAugment(0.1, 0.1, 1, 0.0, [1.0, 1.0]), 0),
                    )
                refused.append(1)
            yield start

    monkeypatch.setattr(feature_cache, "batch_starts", batches)
    assert _features(store, tmp_path / "e", limit_gib=15e3 / 2**30).nbytes == 9600
    assert refused == [1]


def test_altered_features_are_reported(store_of: Callable[..., Path], tmp_path: Path) -> None:
    store = CellStore(store_of())
    _features(store, tmp_path / "e")
    [file] = (tmp_path / "e").glob("[!.]*/features.npy")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    feature_entries.open_entry.cache_clear()
    with pytest.raises(ValueError, match="checksum of features.npy differs"):
        _features(store, tmp_path / "e")


@pytest.mark.long
def test_many_processes_ask_and_one_computes(store_of: Callable[..., Path], tmp_path: Path) -> None:
    root = store_of()
    program = (
        "import sys; from pathlib import Path; from test_embeddings import _features; "
        "from cellpatch.data.store.reader import CellStore; import test_embeddings as t; "
        "build = t._network; t._network = lambda side: (print('built'), build(side))[1]; "
        "print(_features(CellStore(Path(sys.argv[1])), Path(sys.argv[2])).sum())"
    )
    asked = [start_python("-c", program, str(root), str(tmp_path / "e")) for _ in range(3)]
    lines = [process.communicate(timeout=300)[0].split() for process in asked]
    assert sum(line.count("built") for line in lines) == 1
    assert len({line[-1] for line in lines}) == 1


def test_names_stay_inside_the_folder_and_labels_do_not_count(store_of: Callable[..., Path], tmp_path: Path) -> None:
    store = CellStore(store_of())
    _features(store, tmp_path / "e", name="../../x/y")
    [entry] = (tmp_path / "e").glob("*/features.npy")
    assert entry.parent.parent == tmp_path / "e"
    store.cells["class"] = store.cells["class"].iloc[::-1].to_numpy()
    _features(store, tmp_path / "e", name="corrected labels")
    assert len(list((tmp_path / "e").glob("*/features.npy"))) == 1


def test_another_feature_code_embeds_again(
    store_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CellStore(store_of())
    _features(store, tmp_path / "e")
    monkeypatch.setattr(feature_key, "FEATURE_CODE", feature_key.FEATURE_CODE + 1)
    _features(store, tmp_path / "e")
    assert len(list((tmp_path / "e").glob("*/features.npy"))) == 2


def test_every_setting_of_a_view_and_the_geometry_count(
    store_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CellStore(store_of())
    settings = [(0.1, 0.1, 1, 0.0), (0.2, 0.1, 1, 0.0), (0.1, 0.2, 1, 0.0), (0.1, 0.1, 2, 0.0), (0.1, 0.1, 1, 0.5)]
    for each in settings:
        _features(store, tmp_path / "e", view=View(DeviceAugment(*each, [1.0, 1.0]), 0))
    assert len(list((tmp_path / "e").glob("[!.]*"))) == len(settings)
    _features(store, tmp_path / "e", view=View(DeviceAugment(*settings[0], [1.0, 1.0]), 1))
    monkeypatch.setattr(store, "geometry", replace(store.geometry, um_per_px=0.3))
    _features(store, tmp_path / "e", view=View(DeviceAugment(*settings[0], [1.0, 1.0]), 0))
    monkeypatch.setattr(metadata, "version", lambda name: f"another {name}")
    _features(store, tmp_path / "e", view=View(DeviceAugment(*settings[0], [1.0, 1.0]), 0))
    assert len(list((tmp_path / "e").glob("[!.]*"))) == len(settings) + 3


def test_a_warm_folder_need_not_be_writable(
    store_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CellStore(store_of())
    warm = np.array(_features(store, tmp_path / "e"))

    def refuse(file: Path) -> FileLock:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(feature_cache, "file_lock", refuse)
    feature_entries.open_entry.cache_clear()
    np.testing.assert_array_equal(_features(store, tmp_path / "e"), warm)
    with pytest.raises(ValueError, match=r"data.loading.embeddings_dir=.*cannot be written: Permission denied"):
        _features(store, tmp_path / "e", dtype="float16")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"embeddings_dir=.*file cannot be written: File exists"):
        _features(store, tmp_path / "file")


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_a_damaged_key_is_reported_with_its_path(store_of: Callable[..., Path], tmp_path: Path, content: str) -> None:
    store = CellStore(store_of())
    _features(store, tmp_path / "e")
    [key] = (tmp_path / "e").glob("*/key.json")
    key.write_text(content, encoding="utf-8")
    feature_entries.open_entry.cache_clear()
    with pytest.raises(ValueError, match=rf"{key.parent}: key.json cannot be read .*: delete the folder"):
        _features(store, tmp_path / "e")


def test_a_full_disk_is_reported_and_leaves_nothing(store_of: Callable[..., Path], tmp_path: Path) -> None:
    root = store_of(n=300)
    program = (
        "import resource, signal, sys; from pathlib import Path; from test_embeddings import _features; "
        "from cellpatch.data.store.reader import CellStore; store = CellStore(Path(sys.argv[1])); "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
        "_features(store, Path(sys.argv[2]))"
    )
    process = start_python("-c", program, str(root), str(tmp_path / "e"))
    _, output = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "no room to write" in output
    assert [file for file in (tmp_path / "e").iterdir() if file.suffix != ".lock"] == []


def test_what_a_killed_process_left_is_listed_and_cleared(
    store_of: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _features(CellStore(store_of()), tmp_path / "e")
    [entry] = (tmp_path / "e").glob("*/features.npy")
    left = entry.parent.with_name(f".{entry.parent.name}.123.tmp")
    left.mkdir()
    (left / "features.npy").write_bytes(bytes(1000))
    embeddings.main([str(tmp_path / "e")])
    assert f"{left.name}  (unfinished)" in capsys.readouterr().out
    with FileLock(tmp_path / "e" / f".{entry.parent.name.rpartition('-')[2]}.lock"):
        embeddings.main([str(tmp_path / "e"), "--clear-all"])
    assert f"skipped {left.name}: in use by another process" in capsys.readouterr().out
    embeddings.main([str(tmp_path / "e"), "--clear-all"])
    assert not left.exists()


def test_half_an_entry_is_listed_and_made_anew(
    store_of: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = CellStore(store_of())
    whole = np.array(_features(store, tmp_path / "e"))
    [entry] = (tmp_path / "e").glob("*/features.npy")
    entry.unlink()
    embeddings.main([str(tmp_path / "e")])
    assert entry.parent.name in capsys.readouterr().out
    feature_entries.open_entry.cache_clear()
    np.testing.assert_array_equal(_features(store, tmp_path / "e"), whole)


@pytest.mark.long
def test_two_that_clear_at_once_both_end_well(tmp_path: Path) -> None:
    for i in range(400):
        entry = tmp_path / f"cnn-{i:012x}"
        entry.mkdir()
        for name in ("features.npy", "key.json"):
            (entry / name).touch()
    command = ("-m", "cellpatch.embeddings", str(tmp_path), "--clear-all")
    for process in [start_python(*command) for _ in range(3)]:
        assert "entries of" in process.communicate(timeout=300)[0]
        assert process.returncode == 0
    assert not list(tmp_path.glob("*/"))


def test_a_name_given_twice_and_a_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real, link = tmp_path / "locked" / "kept", tmp_path / "e" / "cnn-00000000000a"
    real.mkdir(parents=True)
    link.parent.mkdir()
    (real / "key.json").touch()
    link.symlink_to(real)
    embeddings.main([str(link.parent), "--clear", link.name, link.name])
    assert capsys.readouterr().out.count("deleted") == 1
    assert not link.is_symlink()
    assert (real / "key.json").exists(), "what a link points to is not ours"


def test_other_folders_are_never_cleared(tmp_path: Path) -> None:
    run = tmp_path / "cnn-scratch-cells-256-s0-0123456789ab"
    run.mkdir()
    (run / "record.json").touch()
    embeddings.main([str(tmp_path), "--clear-all"])
    assert (run / "record.json").exists()


def test_list_and_clear(store_of: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = CellStore(store_of())
    _features(store, tmp_path / "e")
    _features(store, tmp_path / "e", dtype="float16")
    listed, _ = start_python("-m", "cellpatch.embeddings", str(tmp_path / "e")).communicate(timeout=300)
    names = [line.split()[-1] for line in listed.splitlines()[:2]]
    assert "2 entries" in listed
    embeddings.main([str(tmp_path / "e"), "--clear", names[0]])
    assert f"deleted {names[0]}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="has no"):
        embeddings.main([str(tmp_path / "e"), "--clear", names[0]])
    embeddings.main([str(tmp_path / "e"), "--clear-all"])
    assert "0 entries" in capsys.readouterr().out
    assert not list((tmp_path / "e").glob("[!.]*"))
