"""How long does one real training take as a command, against a bare script on an ImageFolder?

    python benchmarks/end_to_end.py [--epochs 10] [--flag-limit 256] [--repeats 3] [--json FILE]

cnn on synthetic cells: `python train.py model=cnn` on a prepared store, record and evaluation included, against
benchmarks/bare_training.py on PNG files of the same cells of the same split; the same epochs, batches, optimiser and
augmentation, the best epoch by validation kept. Both macro-F1 on the test cells are printed: ours must not be lower.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cells import write_images
from measured import ROOT, Measured, in_turn, option_parser, report, share_of_time

from cellpatch.config.assemble import assemble
from cellpatch.config.schema import compose_config
from cellpatch.data.dataset import open_dataset, open_store
from cellpatch.data.splitter import PARTS
from cellpatch.runs.folders import finished_runs
from cellpatch.runs.stored_run import StoredRun

OPTIMIZER = ["adapt.optimizer=adamw", "adapt.lr=1e-3"]  # as in bare_training.py


def main() -> None:
    options = option_parser("Time a training against a bare script.", epochs=10, flag_limit=256, repeats=3).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = ["model=cnn", "data.cells=20000", f"flag_limit={options.flag_limit}", "logger=none"]
        settings += [f"trainer.max_epochs={options.epochs}", "trainer.accelerator=cpu", *OPTIMIZER]
        settings += [f"data.loading.store_dir={folder}/stores", f"runs_dir={folder}/runs"]
        experiment = assemble(compose_config(settings))
        store = open_store(experiment.data)
        split = open_dataset(store, experiment.data.split, experiment.flag_limit, experiment.seed).split
        for part in PARTS:
            write_images(store, getattr(split, part), Path(folder, "images", part))
        our_f1, baseline_f1, inside = [], [], []

        def ours() -> None:
            shutil.rmtree(f"{folder}/runs", ignore_errors=True)
            command = [sys.executable, "train.py", *settings]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)  # noqa: S603
            [run] = finished_runs(Path(folder, "runs"))
            record = StoredRun.open(run).record
            our_f1.append(record.clean.macro_f1)
            inside.append(record.seconds)

        def baseline() -> None:
            command = [sys.executable, "benchmarks/bare_training.py", f"{folder}/images", str(options.epochs)]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603
            baseline_f1.append(float(done.stdout.splitlines()[-1]))

        taken = in_turn(ours, baseline, options.repeats, warm_up=0)
    ahead = [our - bare for our, bare in zip(our_f1, baseline_f1, strict=True)]
    first = {"ours": our_f1[0], "theirs": baseline_f1[0]}
    beside = [whole - parts.train - parts.evaluate for whole, parts in zip(taken[:, 0], inside, strict=True)]
    parts = {"s of training": inside[0].train, "s of evaluation": inside[0].evaluate}
    report(
        [
            share_of_time("end to end", taken, 0.5),
            Measured("end to end, macro-F1 less theirs", ahead, "", "at least", 0.0, first),
            Measured("end to end, beside training and evaluation", beside, "s", "at most", None, parts),
        ],
        options.json,
    )


if __name__ == "__main__":
    main()
