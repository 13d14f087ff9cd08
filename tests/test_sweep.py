"""Grids of pairs that make sense: what becomes of an experiment's grids and of what the command line asks for."""

import itertools

import pytest
from conftest import paired_sweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException
from omegaconf import OmegaConf

from cellpatch.config.schema import CONF, models

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
