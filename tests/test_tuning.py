"""hydra/sweeper=optuna: what is searched, by which score, and what a search leaves when it is interrupted."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT, run_of_squares, start_python
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from cellpatch.runs.outcome import Outcome
from cellpatch.runs.stored_run import StoredRun
from cellpatch.sweeps import search
from cellpatch.sweeps.search import Budget, format_search, plan_search, run_search, score_runs
from cellpatch.sweeps.search_space import SearchSpace, parse_space
from cellpatch.sweeps.study import Sampling, Scored, SearchStudy, copied_study, first_tries, open_study

SPACE = parse_space(["model=cnn", "adapt.lr=tag(log,interval(1e-5,1e-1))", "augment=none,device", "seed=0,1"])
SAMPLING = Sampling(seed=0, n_startup_trials=8)
BEST_LR = 3e-3


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a=interval(1,4)", FloatDistribution(1, 4)),
        ("a=tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("a=int(interval(2,8))", IntDistribution(2, 8)),
        ("a=range(1,10,3)", IntDistribution(1, 7, step=3)),
        ("a=range(5,1,-2)", IntDistribution(3, 5, step=2)),
        ("a=tag(log,range(1,9))", IntDistribution(1, 8, log=True)),
        ("a=range(0.25,1,0.25)", FloatDistribution(0.25, 0.75, step=0.25)),
        ("a=1,2", CategoricalDistribution(["1", "2"])),
        ("a=choice(x,true)", CategoricalDistribution(["x", "True"])),
        ("a=null,1", CategoricalDistribution(["null", "1"])),
        ("a='q,r',[1,2]", CategoricalDistribution(["'q,r'", "[1,2]"])),
    ],
)
def test_hydras_grammar_gives_the_distribution(override: str, expected: Any) -> None:
    space = parse_space(["b=1", override])
    assert space.distributions == {"a": expected}
    for params in space.samples():
        [job] = space.jobs_of(params)
        assert job[0] == "b=1"
        assert not OverridesParser.create().parse_override(job[1]).is_sweep_override(), "a job has one value"


def test_seeds_are_averaged_over_and_the_last_value_of_a_key_counts() -> None:
    space = parse_space(["seed=7", "adapt.lr=1e-3", "adapt.lr=interval(0,1)", "model=cnn", "seed=range(0,3)"])
    assert space.jobs_of({"adapt.lr": 0.25}) == [["model=cnn", "adapt.lr=0.25", f"seed={n}"] for n in range(3)]
    assert parse_space(["x=1,2", "seed=5"]).jobs_of({"x": "1"}) == [["x=1", "seed=5"]]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=cnn", "adapt.lr=1e-3"], "needs a setting to vary"),
        (["flag_limit=256,1024"], "flag_limit cannot be searched: more annotations are always better"),
        (["data.split.seed=range(0,9)"], "data.split.seed cannot be searched"),
        (["data=synthetic,endonuke"], "data cannot be searched"),
        (["optics.sigma=0.4,1.6"], "optics.sigma cannot be searched"),
        (["logger=none,wandb"], "logger cannot be searched: it does not change what is trained"),
        (["x=1,2", "seed=interval(0,3)"], "seeds are averaged over, not searched"),
        (["x=1,2", "seed=1,1"], "each seed must be given once"),
        (["x=interval(2,1)"], "x=interval.2,1. cannot be searched: .*allowed is interval"),
        (["x=tag(log,interval(0,1))"], "cannot be searched: "),
        (["x=tag(log,range(1,9,2))"], "cannot be searched: "),
        (["x=a,a"], "values, each of them once"),
        (["x=range(3,3)"], "values, each of them once"),
    ],
)
def test_what_cannot_be_searched_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_space(overrides)


def test_a_budget_without_trials_is_refused() -> None:
    with pytest.raises(ValueError, match="hydra.sweeper.n_parallel must be >= 1, but got -1"):
        Budget(20, -1)


class Trainer:
    """In place of training: a run is named by its job; the score has its maximum at BEST_LR with augment=device."""

    def __init__(self, stop_after: int | None = None, fails: Callable[[str], bool] = lambda _: False) -> None:
        self.jobs: list[str] = []
        self.stop_after, self.fails = stop_after, fails

    def launch(self, jobs: Sequence[list[str]], later: int) -> list[Outcome]:
        return [self._do(" ".join(job)) for job in jobs]

    def _do(self, job: str) -> Outcome:
        if self.stop_after is not None and len(self.jobs) >= self.stop_after:
            return Outcome(job, "interrupted")
        self.jobs.append(job)
        return Outcome(job, "failed" if self.fails(job) else "trained")


def _score(runs: Sequence[str]) -> Scored:
    scores = []
    for run in runs:
        values = dict(word.split("=") for word in run.split())
        distance = math.log10(float(values["adapt.lr"]) / BEST_LR)
        scores.append(0.8 - 0.1 * distance**2 - 0.1 * (values["augment"] == "none") + 0.01 * float(values["seed"]))
    return Scored(list(runs), scores, "cells")


def _search(file: Path, trainer: Trainer, n_trials: int, n_parallel: int = 1) -> list[tuple[dict[str, Any], Any]]:
    with open_study(file, SPACE.distributions, SAMPLING) as study:
        run_search(study, SPACE, Budget(n_trials, n_parallel), trainer.launch, _score)
        return [(trial.params, trial.values) for trial in study.trials]


def _with_study(file: Path, work: Callable[[SearchStudy], Any]) -> Any:
    with open_study(file, SPACE.distributions, SAMPLING) as study:
        return work(study)


def test_a_known_optimum_is_found(tmp_path: Path) -> None:
    _search(tmp_path / "a.jsonl", Trainer(), 40)
    params, scored = _with_study(tmp_path / "a.jsonl", SearchStudy.best)
    assert params["augment"] == "device"
    assert abs(math.log10(params["adapt.lr"] / BEST_LR)) < 0.2
    assert scored.mean == pytest.approx(0.805, abs=0.005)
    assert scored.scores[1] - scored.scores[0] == pytest.approx(0.01)


@pytest.mark.parametrize("n_parallel", [1, 3])
def test_an_interrupted_search_takes_the_same_way(tmp_path: Path, n_parallel: int) -> None:
    calm = Trainer()
    expected = _search(tmp_path / "calm.jsonl", calm, 14, n_parallel)
    assert len({params["adapt.lr"] for params, _ in expected}) == 14, "no start repeats the first trials"
    done: list[str] = []
    for jobs_before_the_kill in (1, 4, 0, 7, 2, None):
        trainer = Trainer(jobs_before_the_kill)
        found = _search(tmp_path / "killed.jsonl", trainer, 14, n_parallel)
        done += trainer.jobs
    assert found == expected
    assert set(done) == set(calm.jobs), "none lost, none invented"
    assert _search(tmp_path / "killed.jsonl", Trainer(), 14, n_parallel) == expected, "nothing is left to do"


def test_more_trials_continue_a_search(tmp_path: Path) -> None:
    ten = _search(tmp_path / "a.jsonl", Trainer(), 10)
    trainer = Trainer()
    assert _search(tmp_path / "a.jsonl", trainer, 12)[:10] == ten
    assert len(trainer.jobs) == 4, "two trials of two seeds"


def test_a_failed_job_fails_its_trial_and_the_others_go_on(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    trials = _search(file, Trainer(fails=lambda job: "augment=none" in job and "seed=1" in job), 6)
    failed = [params for params, values in trials if values is None]
    assert 0 < len(failed) < 6
    assert all(params["augment"] == "none" for params in failed)
    still = Trainer(fails=lambda job: True)
    assert _search(file, still, 6) == trials, "they are tried again, and fail again"
    assert len(still.jobs) == 2 * len(failed)
    again = _search(file, Trainer(), 6)
    assert again[:6] == trials
    assert [params for params, _ in again[6:]] == failed, "each that succeeds stands beside its failure"
    assert _with_study(file, SearchStudy.failed) == []
    assert _with_study(file, lambda study: len(first_tries(study.trials))) == 6
    assert _search(file, Trainer(), 6) == again


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    expected = _search(file, Trainer(), 3)
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"op_code":4,"worker')
    assert _search(file, Trainer(), 3) == expected
    assert file.read_bytes().startswith(whole)
    assert b'"worker\n' not in file.read_bytes()
    assert _search(file, Trainer(), 4)[:3] == expected


@pytest.mark.long
def test_one_process_is_at_a_search(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    with open_study(file, SPACE.distributions, SAMPLING):
        script = (
            "import sys; from pathlib import Path; from test_tuning import SPACE, SAMPLING, open_study\n"
            "try:\n    open_study(Path(sys.argv[1]), SPACE.distributions, SAMPLING).__enter__()\n"
            "except ValueError as error:\n    print(error)"
        )
        other = start_python("-c", script, str(file))
        out, err = other.communicate()
    assert out == f"another process is at this search: it has locked {file}\n", err


def test_scores_of_other_cells_are_refused(tmp_path: Path) -> None:
    _search(tmp_path / "a.jsonl", Trainer(), 2)

    def other(study: SearchStudy) -> None:
        study.tell(study.ask(), Scored(["run"], [0.5], "others"))

    with pytest.raises(
        ValueError, match=r"the cells changed since this search began \(fingerprint cells, now others\)"
    ):
        _with_study(tmp_path / "a.jsonl", other)


def test_a_dry_run_lists_what_is_known_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "searches" / "a.jsonl"
    trainer = Trainer()
    plan_search(copied_study(file, SPACE.distributions, SAMPLING), SPACE, Budget(20, 1), 8, trainer.launch)
    assert capsys.readouterr().out == "8 trials are known; results choose the settings of 12 more\n"
    assert not file.parent.exists()
    real = Trainer(6)
    _search(file, real, 20)
    assert trainer.jobs[:6] == real.jobs
    before = file.read_bytes()
    again = Trainer()
    plan_search(copied_study(file, SPACE.distributions, SAMPLING), SPACE, Budget(20, 1), 8, again.launch)
    assert again.jobs == trainer.jobs[6:]
    assert file.read_bytes() == before


def test_the_end_names_the_best_trial_and_its_command(tmp_path: Path) -> None:
    _search(tmp_path / "a.jsonl", Trainer(), 3)
    text = _with_study(tmp_path / "a.jsonl", lambda study: format_search(study, SPACE, "cellpatch"))
    params, scored = _with_study(tmp_path / "a.jsonl", SearchStudy.best)
    settings = f"adapt.lr={params['adapt.lr']} augment={params['augment']}"
    assert text.splitlines() == [
        "search: 3 trials, 0 failed, 0 interrupted",
        f"best: {settings}",
        f"    validation macro-F1 {scored.mean:.4f} (mean of 2 seeds, {scored.scores[0]:.4f} to {scored.scores[1]:.4f})",
        "    chosen on validation cells: this score is too high by chance; report the test scores of its runs",
        f"    cellpatch train -m model=cnn {settings} seed=0,1",
    ]
    none = _with_study(tmp_path / "b.jsonl", lambda study: format_search(study, SPACE, "cellpatch"))
    assert none == "search: 0 trials, 0 failed, 0 interrupted; none is complete"


@pytest.mark.long
def test_a_score_is_of_validation_cells(tmp_path: Path) -> None:
    folder = run_of_squares(tmp_path, "model=cnn", "model.backbone.input_px=16", "adapt.updates=6", "flag_limit=4")
    record = StoredRun.open(folder).record
    [score] = score_runs(folder.parent, [folder.name]).scores
    assert score == record.val_macro_f1
    assert score == pytest.approx(max(row["val_macro_f1"] for row in record.history or []))


def test_test_scores_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record with these attributes alone: asking for metrics or the test cells' scores would raise."""

    class Record(SimpleNamespace):
        val_macro_f1: float

    def opened(folder: Path) -> Any:
        record = Record(run=folder.name, val_macro_f1=float(folder.name), data=SimpleNamespace(fingerprint="f"))
        return SimpleNamespace(record=record)

    monkeypatch.setattr(search.StoredRun, "open", opened)
    assert score_runs(Path(), ["0.25", "0.75"]) == Scored(["0.25", "0.75"], [0.25, 0.75], "f")


def test_a_record_without_validation_score_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    record = SimpleNamespace(run="cnn-1", val_macro_f1=None, data=SimpleNamespace(fingerprint="f"))
    monkeypatch.setattr(search.StoredRun, "open", lambda _: SimpleNamespace(record=record))
    with pytest.raises(ValueError, match="runs/cnn-1: its record states no val_macro_f1"):
        score_runs(Path("runs"), ["cnn-1"])


SMALL = ["data=folder", "model=cnn", "model.backbone.input_px=16", "model.backbone.widths=[4,8]", "adapt.updates=8"]
SMALL += ["adapt.min_epochs=0", "adapt.validations=2", "flag_limit=4", "logger=none", "trainer.accelerator=cpu"]
SEARCHED = "adapt.lr=tag(log,interval(1e-4,1e-1))"


def _command(tmp_path: Path, root: Path, *overrides: str) -> list[str]:
    places = [f"data.root={root}", f"data.loading.store_dir={tmp_path / 'stores'}", f"runs_dir={tmp_path / 'runs'}"]
    return [str(ROOT / "train.py"), "-m", "hydra/sweeper=optuna", *SMALL, *places, *overrides]


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    process = start_python(*command)
    out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@pytest.mark.long
def test_a_killed_search_continues(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> None:
    command = _command(tmp_path, folder_of_squares(20, 5), SEARCHED, "seed=0,1", "hydra.sweeper.n_trials=3")
    runs = tmp_path / "runs"
    killed, until = start_python(*command), time.monotonic() + 300
    while len(list(runs.glob("[!.]*/record.json"))) < 3 or not list(runs.glob(".cnn*.tmp")):
        assert time.monotonic() < until
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    [file] = (runs / ".searches").glob("*.jsonl")
    space = parse_space([SEARCHED, "seed=0,1"])
    assert [trial.state for trial in _trials(file, space)] == [TrialState.COMPLETE, TrialState.RUNNING]
    written = {each: each.stat().st_mtime_ns for each in runs.glob("[!.]*/record.json")}
    done = _run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 jobs: 1 exists, 3 trained" in done.stdout
    assert "search: 3 trials, 0 failed, 0 interrupted" in done.stdout
    trials = _trials(file, space)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    for number, trial in enumerate(trials):
        assert trial.params == Sampling(0, 10).propose(trials[:number], space.distributions)
    records = list(runs.glob("[!.]*/record.json"))
    assert len(records) == 6, "two seeds of three trials, each once"
    assert {each: each.stat().st_mtime_ns for each in written} == written, "not trained again"
    scores = sorted(StoredRun.open(each.parent).record.val_macro_f1 or 0 for each in records)
    assert sum(trial.values[0] * 2 for trial in trials) == pytest.approx(sum(scores))
    again = _run(*command)
    assert again.returncode == 0
    assert "0 jobs" in again.stdout
    assert len(_trials(file, space)) == 3


def _trials(file: Path, space: SearchSpace) -> list[Any]:
    return copied_study(file, space.distributions, Sampling(0, 10)).trials


@pytest.mark.long
def test_a_training_that_diverges_ends_with_status_1(tmp_path: Path, folder_of_squares: Callable[..., Path]) -> None:
    searched = "adapt.lr=0.01,1e30"
    space, sampling = parse_space([searched]), Sampling(0, 10)
    study = copied_study(tmp_path / "none", space.distributions, sampling)
    proposed = [study.ask().params["adapt.lr"] for _ in range(4)]
    assert len(set(proposed)) == 2, "both are tried"
    done = _run(*_command(tmp_path, folder_of_squares(20, 5), searched, "hydra.sweeper.n_trials=4"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"search: 4 trials, {proposed.count('1e+30')} failed" in done.stdout, done.stdout + done.stderr
    assert "best: adapt.lr=0.01" in done.stdout
    assert "training diverged" in done.stdout


@pytest.mark.long
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("flag_limit=4,8", "error: flag_limit cannot be searched"),
        ("adapt.lr=1e-3", "error: a search needs a setting to vary"),
        ("model=cnn,nni", "error: model must be one of"),
        ("adapt.batch_size=8,-1", "error: adapt.batch_size is out of its range: -1"),
    ],
)
def test_a_mistake_is_an_error_before_any_job(tmp_path: Path, override: str, message: str) -> None:
    (tmp_path / "cells").mkdir()
    done = _run(*_command(tmp_path, tmp_path / "cells", override))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(message), done.stderr
    assert not list(tmp_path.glob("runs/.searches/*.jsonl"))


def test_a_missing_optuna_is_named_with_its_command(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['optuna'] = None\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *_command(tmp_path, tmp_path, SEARCHED)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: hydra/sweeper=optuna needs Optuna: pip install 'cellpatch[optuna]'"


def test_a_start_without_a_search_does_not_import_optuna() -> None:
    script = "import sys; import hydra_plugins.cellpatch_optuna_sweeper, cellpatch.sweeps.train; print('optuna' in sys.modules)"
    done = _run("-c", script)
    assert done.stdout == "False\n", done.stderr
