"""Where does the time of a training go? torch's profiler over two epochs, the operations with most time of their own.

    python benchmarks/training_profile.py [--model cnn] [--rows 12]

Set up as in training.py, without W&B. The profiler itself slows what is small.
"""

import tempfile
from pathlib import Path

from measured import option_parser
from torch.profiler import ProfilerActivity, profile
from training import prepared

from cellpatch.runs.fits import gradient_fit


def main() -> None:
    options = option_parser("Profile a training.", model="cnn", rows=12).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        experiment, dataset = prepared(options.model, 2, Path(folder), "cpu", 256, "none")
        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            fit = gradient_fit(experiment, None, dataset).run(Path(folder))
    events = sorted(recorded.key_averages(), key=lambda each: -each.self_cpu_time_total)
    whole = sum(each.self_cpu_time_total for each in events)
    for each in events[: options.rows]:
        share = 100 * each.self_cpu_time_total / whole
        print(f"{share:5.1f} %  {each.self_cpu_time_total / 1e6:7.2f} s  {each.count:6d} times  {each.key}")
    print(f"{whole / 1e6:.1f} s in operations, of {fit.train_seconds:.1f} s of the fit")


if __name__ == "__main__":
    main()
