"""Grids of pairs that make sense: what becomes of an experiment's grids and of what the command line asks for."""

import itertools

import pytest
from conftest import paired_sweeper
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError

from cellpatch.config.schema import CONF, models, register
from cellpatch.sweeps.compose import GridLoader, compose_together

GRIDS = [{"model": "cnn,customvit", "adapt": "scratch"}, {"model": "uni", "adapt": "linear_probe,ft_all"}]


def _jobs(*overrides: str, grids: list[dict[str, str]] = GRIDS) -> list[list[str]]:
    sweeper = paired_sweeper()(grids=grids)
    (jobs,) = sweeper.split_arguments(OverridesParser.create().parse_overrides(list(overrides)), None)
    return jobs


def test_each_grid_is_a_product_of_its_own() -> None:
    assert _jobs("flag_limit=range(1,3)", "seed=7") == [
        [model, adapt, f"flag_limit={limit}", "seed=7"]
        for model, adapt in [
            ("model=cnn", "adapt=scratch"),
            ("model=customvit", "adapt=scratch"),
            ("model=uni", "adapt=linear_probe"),
            ("model=uni", "adapt=ft_all"),
        ]
        for limit in (1, 2)
    ]


def test_the_command_line_picks_among_the_grids() -> None:
    assert _jobs("model=uni,cnn") == [
        ["model=cnn", "adapt=scratch"],
        ["model=uni", "adapt=linear_probe"],
        ["model=uni", "adapt=ft_all"],
    ]
    assert _jobs("adapt=ft_all") == [["model=uni", "adapt=ft_all"]]
    assert _jobs("seed=0", "seed=1", grids=[]) == [["seed=1"]]


def test_what_no_grid_has_is_refused() -> None:
    with pytest.raises(CompactHydraException, match="model=nin: not in this experiment, whose grids have cnn, "):
        _jobs("model=cnn,nin")
    with pytest.raises(CompactHydraException, match="no job of this experiment"):
        _jobs("model=cnn", "adapt=ft_all")
    with pytest.raises(CompactHydraException, match="not intervals"):
        _jobs("seed=interval(0,1)")


def test_without_grids_it_is_hydras_own() -> None:
    overrides = OverridesParser.create().parse_overrides(["a=1,2,3", "b=x", "c=[1,2],[3]", "d='q,r'"])
    for n in (None, 2):
        ours = paired_sweeper()
        expected = ours.__mro__[1].split_arguments(overrides, n)  # type: ignore[attr-defined]
        assert ours().split_arguments(overrides, n) == expected


def test_each_value_is_composed_before_any_job_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    composed: list[list[str]] = []
    kind = paired_sweeper()
    monkeypatch.setattr(kind.__mro__[1], "validate_batch_is_legal", lambda _, batch: composed.extend(batch))
    jobs = [[f"flag_limit={limit}", f"seed={seed}"] for limit in range(7) for seed in range(3)]
    kind().validate_batch_is_legal(jobs)
    assert {word for job in composed for word in job} == {word for job in jobs for word in job}
    assert len(composed) == 9


@pytest.fixture(scope="module")
def loaders() -> tuple[ConfigLoaderImpl, GridLoader, DictConfig]:
    """Hydra's loader of configs, ours, and the config of a grid."""
    register()
    setup_globals()
    path = create_config_search_path(str(CONF))
    grid = ["seed=1,2", "hydra.job.config.override_dirname.exclude_keys=[seed]"]
    master = ConfigLoaderImpl(path).load_configuration("config", grid, RunMode.MULTIRUN)
    return ConfigLoaderImpl(path), GridLoader(path), master


@pytest.mark.parametrize(
    "jobs",
    [
        ["model=cnn seed=1", "model=cnn seed=2", "seed=3 model=cnn", "flag_limit=8 seed=3 model=cnn flag_limit=9"],
        ["model=uni adapt=ft_all seed=1", "adapt=ft_all model=uni"],
        ["logger=[csv,wandb] optics.sigma=[0.4,0.8]", "logger=[csv] optics.sigma=0.4"],
        ["experiment=quick adapt.lr=0.1", "adapt.lr=${model.recipe.lr}", ""],
        ["trainer.max_epochs=1 +trainer.max_time=null", "optics.sigma=2 optics={sigma:1}", "~experiment seed=4"],
    ],
)
def test_the_configs_of_a_grid_are_hydras(
    loaders: tuple[ConfigLoaderImpl, GridLoader, DictConfig], jobs: list[str]
) -> None:
    hydras, ours, master = loaders
    for job in jobs * 2:
        expected = hydras.load_sweep_config(master, job.split())
        config = ours.load_sweep_config(master, job.split())
        assert OmegaConf.to_container(config) == OmegaConf.to_container(expected)
        assert list(config) == list(expected)
        with pytest.raises(ConfigAttributeError):
            config.model.typo = 1
        config.hydra.job.num = config.seed = 99  # of this job alone


@pytest.mark.parametrize("job", ["typo=1", "model=typo", "seed=text", "model@typo=cnn", "seed=1,2"])
def test_what_hydra_refuses_is_refused_in_a_grid(
    loaders: tuple[ConfigLoaderImpl, GridLoader, DictConfig], job: str
) -> None:
    *both, master = loaders
    messages = []
    for loader in both:
        with pytest.raises(CompactHydraException) as error:
            loader.load_sweep_config(master, [job])
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_files_are_read_once_for_all_jobs_of_a_process_alone(
    loaders: tuple[ConfigLoaderImpl, GridLoader, DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    hydras, _, master = loaders
    ours = GridLoader(hydras.get_search_path())
    composed: list[list[str]] = []
    whole = ConfigLoaderImpl.load_sweep_config

    def counted(self: ConfigLoaderImpl, master: DictConfig, overrides: list[str]) -> DictConfig:
        composed.append(overrides)
        return whole(self, master, overrides)

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", counted)
    for model, seed in itertools.product(["cnn", "nin"], range(3)):
        ours.load_sweep_config(master, [f"model={model}", f"seed={seed}"])
    assert composed == [["model=cnn"], ["model=nin"]]

    context = HydraContext(hydras, callbacks=None)  # type: ignore[arg-type]
    assert isinstance(compose_together(context, master).config_loader, GridLoader)
    master = OmegaConf.create({"hydra": {"launcher": {"_target_": "hydra_plugins.SlurmLauncher"}}})
    assert compose_together(context, master) is context


def test_the_paper_is_all_of_it_and_nothing_senseless() -> None:
    experiment = OmegaConf.load(CONF / "experiment" / "paper.yaml")
    sweeper = experiment.hydra.sweeper
    jobs = _jobs(*(f"{key}={value}" for key, value in sweeper.params.items()), grids=list(sweeper.grids))
    assert len(jobs) == len({tuple(job) for job in jobs}) == (8 + 3 * 3) * 7 * 3
    pretrained = models()
    pairs = {tuple(part.partition("=")[2] for part in job[:2]) for job in jobs}
    assert {model for model, adapt in pairs if adapt == "scratch"} == {
        model for model, there in pretrained.items() if not there and model != "customvit_s"
    }
    foundation = itertools.product(("resnet_rs50", "ctranspath", "uni"), ("linear_probe", "ft_last", "ft_all"))
    assert {pair for pair in pairs if pretrained[pair[0]]} == set(foundation)
