"""Does macro-F1 grow with annotations, and which model is ahead at which number?

    python experiments/figure3.py runs          # or: make figure3 RUNS=runs

Reads a runs directory alone. Points are runs; a line joins a model's means over seeds. Intervals over
specimens are not drawn here yet: differences between neighbouring points may be chance.
"""

from pathlib import Path

from cellpatch.command import from_runs
from cellpatch.plotting import looks, new_figure, save, styled
from cellpatch.runs import clean_table


@styled
def draw(runs_dir: Path) -> list[Path]:
    """One panel a data set: macro-F1 on clean test cells against flag_limit; gives the files written."""
    grid = clean_table(runs_dir)
    style = looks(list(grid["model"].unique()))
    files = []
    for data, of_data in grid.groupby("data"):
        figure = new_figure()
        axes = figure.axes[0]
        for key, rows in of_data.groupby(["model", "adapt", "input_px"]):
            model, adapt, side = map(str, key)
            label = model if adapt == "scratch" else f"{model}, {adapt}"
            if of_data[of_data["model"] == model]["input_px"].nunique() > 1:
                label += f", {side} px"
            means = rows.groupby("flag_limit")["macro_f1"].mean()
            line = "-" if adapt == "scratch" else "--"
            axes.plot(means.index, means.to_numpy(), line, color=style[model]["color"], label=label)
            axes.scatter(rows["flag_limit"], rows["macro_f1"], s=14, zorder=3, **style[model])
        limits = sorted(of_data["flag_limit"].unique())
        counts = of_data.groupby("flag_limit")["n_train"].max()
        axes.set_xscale("log", base=2)
        axes.set_xticks(limits, [f"{limit}\n({counts[limit]})" for limit in limits])
        axes.minorticks_off()
        axes.set_xlabel("flag_limit: most annotations per class (cells in all)")
        axes.set_ylabel("macro-F1, test")
        counted = ((len(of_data), "run"), (of_data["seed"].nunique(), "seed"))
        told = ", ".join(f"{n} {word}{'s' * (n > 1)}" for n, word in counted)
        axes.set_title(f"{data}: {told}", fontsize=8, loc="left")
        figure.legend(loc="outside lower center", ncols=2)
        name = "figure3" if grid["data"].nunique() == 1 else f"figure3-{data}"
        files += save(figure, name)
    return files


if __name__ == "__main__":
    from_runs(draw)
