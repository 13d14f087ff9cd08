"""Every YAML agrees with the signature it feeds; what users mistype is an error before any work."""

import inspect
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cellpatch.cli.overrides import PATHS
from cellpatch.config.assemble import assemble
from cellpatch.config.mistakes import explain
from cellpatch.config.names import NAMES, name_of, path_of
from cellpatch.config.schema import CONF, Config, compose_config
from cellpatch.config.validate import BESIDE, _check_node, _locate, check

GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in ("hydra", "experiment"))
CHOICES = [(group, file.stem) for group in GROUPS for file in sorted((CONF / group).glob("*.yaml"))]
NEEDS = {  # what a user must give
    **{
        adapt: ["model=efficientnet_lite0"]
        for adapt in ("linear_probe", "knn", "prototypes", "ft_last", "ft_all", "lora")
    },
    "distil": ["adapt.teacher=efficientnet_lite0"],
    "folder": ["data.root=."],
    "table": ["data.table=t.csv"],
    "points": ["data.root=.", "data.points=p.csv"],
    "npz": ["data.file=f.npz"],
    "endonuke": ["data.root=."],
    "chula": ["data.root=."],
}


def _compose(*overrides: str) -> dict[str, Any]:
    return check(compose_config(overrides)).values


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_checks(group: str, choice: str) -> None:
    _compose(f"{group}={choice}", *NEEDS.get(choice, []))


@pytest.mark.parametrize("file", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_experiment_composes(file: Path) -> None:
    _compose(f"experiment={file.stem}")


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_yaml_keys_are_the_signature(group: str, choice: str) -> None:
    """Our own targets get every argument from YAML but those that only code can give."""
    values = _compose(f"{group}={choice}", *NEEDS.get(choice, []))[group]
    nodes = [(group, values)] + [(f"{group}.{key}", value) for key, value in values.items() if isinstance(value, dict)]
    for path, node in nodes:
        target = path_of(path, node["component"]) if "component" in node else ""
        if target.startswith("cellpatch."):
            keys = set(node) - {"component"} - BESIDE.get(path, set())
            assert keys == set(inspect.signature(_locate(path, target)).parameters)


def test_every_target_of_conf_has_a_short_name_and_every_name_a_class() -> None:
    named = {path for paths in NAMES.values() for path in paths}
    targets = {
        target
        for file in CONF.rglob("*.yaml")
        for target in re.findall(r"_target_: (\S+)", file.read_text())
        if not target.startswith("hydra_plugins.") and "sweeps.grid" not in target
    }
    assert named == targets
    for place, paths in NAMES.items():
        assert len(set(paths.values())) == len(paths)
        for path, name in paths.items():
            assert (name_of(place, path), path_of(place, name)) == (name, path)
            assert inspect.isclass(_locate(place, path))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["flag_limit=0"], "flag_limit must be >= 1, but got 0"),
        (["flag_limit=-5"], "flag_limit must be >= 1"),
        (["flag_limit=abc"], "abc"),
        (["flag_limit=1.5"], "1.5"),
        (["flaglimit=5"], "flaglimit"),
        (["+typo=1"], "typo"),
        (["+data.typo=1"], "unknown key data.typo; allowed are"),
        (["data.typo=1"], "typo"),
        (["+model.typo=1"], "unknown key model.typo"),
        (["+model.backbone.typo=1"], "unknown key model.backbone.typo"),
        (["+model.recipe.typo=1"], "unknown key model.recipe.typo"),
        (["+adapt.typo=1"], "unknown key adapt.typo"),
        (["+data.split.typo=1"], "unknown key data.split.typo"),
        (["+data.loading.typo=1"], "unknown key data.loading.typo"),
        (["+augment.typo=1"], "unknown key augment.typo"),
        (["augment=none", "+augment.typo=1"], "unknown key augment.typo"),
        (["+optics.typo=1"], "unknown key optics.typo"),
        (["+trainer.typo=1"], "unknown key trainer.typo"),
        (["logger=none", "+logger.typo=1"], "unknown key logger.typo"),
        (["seed=x"], "x"),
        (["trainer.max_epochs=many"], "trainer.max_epochs must be"),
        (["adapt.lr=fast"], "adapt.lr must be a number, but got 'fast'"),
        (["adapt.balance=some"], "adapt.balance must be"),
        (["adapt.class_weights=balanced"], "adapt.class_weights has another name now: adapt.balance"),
        (["data=points", "data.root=.", "data.points=p", "data.border=wrap"], "data.border must be"),
        (
            ["data.name=a/b"],
            "data.name must name a folder, without a dot first, / or .*, but got 'a/b'",
        ),
        (["data.name=.."], "data.name must name a folder"),
        (["data.name=.hidden"], "data.name must name a folder"),
        (["data.name=null"], "data.name must name a folder, .* but got None"),
        (["seed=-1"], "seed must be >= 0, but got -1"),
        (
            ["+logger.tags=[{_target_:builtins.print}]"],
            "unknown key logger.tags; allowed are csv, mlflow, tensorboard, wandb",
        ),
        (["logger=[1,nan]"], "logger must be of csv, mlflow, none, tensorboard, wandb, but got .1, nan."),
        (["logger=[wandb,nope]"], "logger must be of .*, but got .'nope'."),
        (["logger=[]"], "logger must be of .*, but got an empty list"),
        (["logger=wandb,csv"], r"several trackers at once are a list: 'logger=\[wandb,csv\]'"),
        (["a" * 300 + "=[1]"], r"unknown key a{40}\.\.\., of 300 letters"),
        (["model=[cnn,nin]"], r"model takes one name, but got model=\[cnn,nin\]; a grid takes several: -m model="),
        (["data/split=[1.5]"], "data/split takes one name"),
        (["logger.wandb._target_=builtins.print"], "logger.wandb._target_ must be one of .*settings.Wandb"),
        (
            ["model=uni", "adapt=scratch"],
            "adapt.lr refers to a key that model=uni does not define .* is adapt=scratch intended",
        ),
        (["model=cnn", "adapt=lora"], "model=cnn does not define .* is adapt=lora intended"),
        (["model=uni", "model.weights.layout=zip"], "model.weights.layout must be"),
        (["model=uni", "+model.weights.typo=1"], "unknown key model.weights.typo"),
        (["optics.via_px=wide"], "optics.via_px must be"),
        (["model=gpt"], "model must be one of cnn, .*, but got 'gpt'"),
        (["data=folder"], "these keys need a value: data.root=..."),
        (["model.backbone._target_=os.system"], r"_target_ must be .*Backbone"),
        (["model.backbone._target_=torch.load"], r"_target_ must be .*Backbone"),
        (["model.backbone._target_=cellpatch.models.none.None"], r"_target_ must be one of .*CNN.*but got .*none.None"),
        (["model.backbone._target_=cellpatch.cli.runs.main"], r"_target_ must be one of .*, but got .*main"),
        (["model.backbone._target_=cellpatch.models.timm"], r"_target_ must be one of .*, but got"),
        (["model.backbone._target_=cellpatch.config.schema.compose_config"], r"a class of your own gets a line in"),
        (["data._target_=cellpatch.data.store.writer.StoreWriter"], r"_target_ must be one of .*Folder"),
        (["+model.backbone.widths.0._target_=cellpatch.cli.runs.main"], "takes no _target_|widths"),
        (["model=uni", "adapt.strengths=[1.0]"], "adapt.strengths has another name now: adapt.l2_grid"),
        (["model=uni", "adapt.views=1"], "adapt.views has another name now: adapt.augmented_copies"),
        (["model=uni", "model.backbone.published_px=224"], "another name now: model.backbone.pretrained_img_size"),
        (["model=resnet", "+model.backbone.dropped=[x]"], "another name now: model.backbone.removed_layers"),
        (["optics.sigma=true"], "optics.sigma must be"),
        (["optics.sigma=[0.4,true]"], "optics.sigma must be"),
        (["adapt.lr=true"], "adapt.lr must be a number, but got True"),
        (["adapt.batch_size=false"], "adapt.batch_size must be a whole number, but got False"),
    ],
)
def test_what_users_mistype(overrides: list[str], message: str) -> None:
    with pytest.raises((ValueError, HydraException, OmegaConfBaseException), match=message):
        _compose(*overrides)


def test_a_name_may_be_a_number() -> None:
    assert _compose("data.name=2024")["data"]["name"] == "2024"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": 0}, "trainer.devices must be a whole number >= 1, but got 0"),
        ({"max_epochs": True}, "trainer.max_epochs must be .*, but got True"),
        ({"resume": "yes"}, "trainer.resume must be true or false, but got 'yes'"),
        ({"accelerator": "gpuu"}, "trainer.accelerator must be of .*, but got 'gpuu'"),
        ({"precision": "bf16-true"}, "trainer.precision must be of .*, but got 'bf16-true'"),
        ({"precision": "16-mixed", "accelerator": "cpu"}, "trainer.precision=16-mixed needs a GPU"),
    ],
)
def test_trainers_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assemble(compose_config([f"trainer.{key}={value}" for key, value in settings.items()]))


@pytest.mark.parametrize(
    "overrides",
    [
        ("adapt.weight_decay=0.0",),
        ("adapt.lr=1.0",),
        ("augment.stain_gain=0.0",),
        ("model.backbone.drop_path=0.0",),
        ("optics.train=[0.0,1.0]", "optics.train_kind=[post]"),
        ("model=dinov2_s", "adapt=linear_probe", "adapt.l2_grid=[1.0,0.1]"),
    ],
)
def test_a_whole_number_is_the_same_setting_as_a_float(overrides: tuple[str, ...]) -> None:
    whole = [override.replace(".0", "") for override in overrides]
    assert whole != list(overrides)
    one, other = (json.dumps(_compose(*each)) for each in (overrides, whole))
    assert one == other


def test_whole_numbers_stay_whole_where_they_must() -> None:
    adapt = _compose("model=cnn")["adapt"]
    assert type(adapt["batch_size"]) is int
    with pytest.raises(ValueError, match="adapt.batch_size must be a whole number, but got 32.0"):
        _compose("model=cnn", "adapt.batch_size=32.0")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    settings = assemble(compose_config(["model=cnn"])).trainer
    settings.require_device()
    with pytest.raises(ValueError, match="trainer.accelerator=gpu, but torch sees no GPU here"):
        replace(settings, accelerator="gpu").require_device()


def test_the_trainer_as_it_is_shipped_is_right() -> None:
    shipped = OmegaConf.to_container(OmegaConf.load(CONF / "trainer" / "default.yaml"))
    assert isinstance(shipped, dict)
    _check_node("trainer", {str(key): value for key, value in shipped.items()})  # `check` skips it unless it is changed


def test_configs_name_no_other_library() -> None:
    for file in CONF.rglob("*.yaml"):
        assert "oc.env" not in file.read_text(), file


def test_plain_values_are_resolved() -> None:
    plain = _compose("model=cnn", "adapt.batch_size=7")
    assert plain["adapt"]["lr"] == OmegaConf.load(CONF / "model" / "cnn.yaml").recipe.lr
    assert plain["adapt"]["batch_size"] == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("flaglimit=16", "unknown key flaglimit; did you mean flag_limit?"),
        ("mdoel=cnn", "unknown key mdoel; did you mean model?"),
        ("lr=0.1", "unknown key lr; did you mean model.recipe.lr or adapt.lr?"),
        (
            "adapt.learning_rate=0.1",
            "unknown key adapt.learning_rate; did you mean adapt.lr? adapt=scratch has the keys ",
        ),
        ("trainer.max_epoch=3", "unknown key trainer.max_epoch; did you mean trainer.max_epochs or "),
        (
            "data.split.val_limt=9",
            "unknown key data.split.val_limt; did you mean data.split.val_limit? data.split has ",
        ),
        ("adapt.zzz=1", "unknown key adapt.zzz; adapt=scratch has the keys name, optimizer, lr, "),
        ("data.root=cells", "unknown key data.root of data=synthetic; data=folder, data=points, data=table have it"),
        ("adapt.teacher=uni", "unknown key adapt.teacher of adapt=scratch; adapt=distil has it"),
        (
            "model.backbone.widths=[8]",
            "unknown key model.backbone.widths of model=customvit; model=cnn, model=nin have it",
        ),
        ("model=customVIT", "virchow2, but got 'customVIT'; did you mean model=customvit?"),
        ("adapt=lineer_probe", "but got 'lineer_probe'; did you mean adapt=linear_probe?"),
        (
            "data/split=by_sit",
            "data.split must be one of by_cell, by_site, by_specimen, kfold, but got 'by_sit'; did you mean ",
        ),
        ("hydra/launcher=slurm", "but got 'slurm'; did you mean hydra/launcher=submitit_slurm?"),
        ("flag_limit=abc", "flag_limit must be a whole number, but got abc"),
        ("seed=1.5", "seed must be a whole number, but got 1.5"),
        ("seed=null", "seed must be a whole number, but got null"),
        ("dry_run=maybe", "dry_run must be true or false, but got maybe"),
        ("flag_limit.x=1", "flag_limit has no keys of its own"),
        ("trainer.max_epochs=many", "trainer.max_epochs must be a whole number or null, but got 'many'"),
        ("optics.sigma=wide", "optics.sigma must be a number or a list of numbers, but got 'wide'"),
        ("optics.resize=cubic", "optics.resize must be one of bilinear, bicubic, area, but got 'cubic'"),
        (
            "data.name=a,b",
            "several values need -m; one value with a comma needs quotes that Hydra sees: 'data.name=\"a,b\"'",
        ),
        (
            "data.name=(a",
            "the value of data.name cannot be read: (a. Put it in quotes that Hydra sees: 'data.name=\"(a\"'",
        ),
        ("Slides", "'Slides' must be KEY=VALUE"),
        ("+seed=1", "seed is a key already: give it without +"),
        ("~adapt.nope", "~adapt.nope: there is no key adapt.nope to remove"),
        ("model=3", "takes the name of a file in conf/, but got a value of int"),
        ("+flaglimit=16", "experiment; did you mean flag_limit?"),
        ("+adapt.patienc=16", "; did you mean adapt.patience?"),
    ],
)
def test_a_mistake_is_answered_with_what_was_probably_meant(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        _compose(override)
    assert "Hydra's" not in str(caught.value)
    assert "+flag" not in str(caught.value)
    assert "mismatched input" not in str(caught.value)


def test_a_command_is_repeated_with_better_quotes() -> None:
    arguments = ["-m", "data.name=(a", "data.specimen_pattern=a b"]
    with pytest.raises(HydraException) as caught:
        OverridesParser.create().parse_overrides(arguments[1:2])
    assert explain(caught.value, arguments, "python train.py").endswith(
        "python train.py -m 'data.name=\"(a\"' 'data.specimen_pattern=a b'"
    )
    split = ["data.root=/data/My", "Slides", "seed=0"]
    with pytest.raises(HydraException) as caught:
        OverridesParser.create().parse_overrides(split)
    assert explain(caught.value, split, "python train.py").endswith(
        "python train.py 'data.root=/data/My Slides' seed=0"
    )


def test_every_path_is_a_setting() -> None:
    found = {"runs_dir", "weights_dir"} & {field.name for field in fields(Config)}
    for choice in ("data=folder", "data=points", "data=npz", "data=table", "model=uni"):
        config = compose_config([choice])
        for key in PATHS:
            parent, _, leaf = key.rpartition(".")
            node = OmegaConf.select(config, parent) if parent else None
            found |= {key} if isinstance(node, DictConfig) and leaf in list(node) else set()
    assert found == PATHS
