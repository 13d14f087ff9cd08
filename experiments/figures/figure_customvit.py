"""What is CustomViT? A drawing of the network that runs trained, with the size of each layer's output.

    cellpatch figures runs figure_customvit          # or: make figure_customvit RUNS=runs

From the settings in the record of its run at the largest flag_limit. The paper names CustomViT; this shape is ours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

from cellpatch.analysis.groups import SeedGroup
from cellpatch.cli.figures import main_of_figure
from cellpatch.figures.plotting import PAGE_MM, Drawing, add_title, add_tooltip, new_figure, styled
from cellpatch.runs.record import Record
from cellpatch.runtime.json_types import Json

CONVOLUTION, ATTENTION, DENSE, PLAIN = "#CFE3F3", "#FBE3B5", "#CDEBDF", "#F2F2F2"  # light, for dark words
BOX, GAP, HEIGHT, BELOW = 1.0, 0.3, 1.1, -2.7  # of a box, to the next, and of the lower row, in widths of a box


@dataclass(frozen=True)
class Layer:
    """A box: words inside, the size of its output, its colour, what a reader who points at it is shown."""

    words: str
    output: str
    color: str
    text: str


@dataclass(frozen=True)
class Shape:
    """The numbers of a CustomViT that decide its drawing, as in conf/model/customvit.yaml."""

    input_px: int
    token_px: int
    stem_width: int
    dim: int
    depth: int
    heads: int
    stem: str = "single"

    @property
    def side(self) -> int:
        """Tokens along a side."""
        return self.input_px // self.token_px


@styled
def draw(data: str, groups: Sequence[SeedGroup]) -> Drawing:
    """The whole network in the upper row, one of its blocks in the lower; raises ValueError without a CustomViT."""
    found = [group for group in groups if group.coordinates.model.startswith("customvit")]
    if not found:
        raise ValueError("no run of CustomViT: model=customvit trains one")
    group = max(found, key=lambda group: group.coordinates.flag_limit)
    record = group.runs[0].record
    shape = shape_of(record.settings.config)
    figure, [ax] = new_figure(PAGE_MM, 70)
    ax.set_axis_off()
    ax.grid(visible=False)
    end = _draw_cell(ax, shape)
    upper = [*stem_layers(shape), _positions(shape), *_rest(shape, len(record.classes))]
    block = upper.index(next(layer for layer in upper if layer.words.startswith("block")))
    _draw_row(ax, upper, end, 0)
    lower = block_layers(shape)
    left = end + (len(upper) - len(lower)) * (BOX + GAP)
    _draw_row(ax, lower, left, BELOW)
    _draw_residuals(ax, left, BELOW)
    middle = end + GAP + block * (BOX + GAP) + BOX / 2
    ax.plot([middle, middle], [-HEIGHT / 2 - 0.35, BELOW + 1.1], color="0.5", linestyle=":", linewidth=1)
    ax.text(left + GAP, BELOW + 0.95, f"a block ({shape.depth} in a row)", fontsize=7, color="0.3")
    right = end + len(upper) * (BOX + GAP)
    ax.set_xlim(min(-1.35, left - 0.1), right + 0.1)
    ax.set_ylim(BELOW - 1, 1.05)
    ax.set_aspect("equal")
    add_title(figure, f"{group.coordinates.model}, {data}")
    return Drawing("figure_customvit", figure, caption(shape, record, groups))


def shape_of(config: Json) -> Shape:
    """The shape that a run's settings state; raises ValueError for one that they do not."""
    model = config["model"]
    backbone = model.get("backbone") if isinstance(model, Mapping) else None
    settings = backbone if isinstance(backbone, Mapping) else {}
    sizes = {key: settings.get(key) for key in ("input_px", "token_px", "stem_width", "dim", "depth", "heads")}
    whole = {key: value for key, value in sizes.items() if isinstance(value, int) and 0 < value < 10_000}
    if len(whole) < len(sizes):
        raise ValueError(
            f"a CustomViT's {', '.join(sizes.keys() - whole.keys())} must be whole numbers, but got {sizes}"
        )
    return Shape(**whole, stem="staged" if settings.get("stem") == "staged" else "single")


def stem_layers(shape: Shape) -> list[Layer]:
    """The convolutions before the tokens, as `cellpatch.models.customvit` builds them."""
    px, width = shape.input_px, shape.stem_width
    if shape.stem == "staged":
        stages = [_convolution(3, 1 + (i > 0), px >> i, width << i, 2) for i in range(shape.token_px.bit_length() - 1)]
        return [*stages, _convolution(3, 2, shape.side, shape.dim)]
    halved = 2 - shape.token_px % 2
    size, stride = px // halved, shape.token_px // halved
    return [
        _convolution(3, 1, px, width),
        _convolution(3, halved, size, 2 * width),
        _convolution(3, 1, size, 2 * width),
        _convolution(2 * stride - 1, stride, shape.side, shape.dim),
    ]


def _convolution(kernel: int, stride: int, side: int, channels: int, times: int = 1) -> Layer:
    """A convolution whose output has this side, or several: the first has the stride."""
    several = f"{times} " if times > 1 else ""
    words = [f"{several}conv {kernel}x{kernel}", *([f"stride {stride}"] if stride > 1 else []), f"{channels}"]
    output = f"{side}x{side}x{channels}"
    return Layer("\n".join(words), output, CONVOLUTION, f"{', '.join(words)} channels: gives {output}")


def _positions(shape: Shape) -> Layer:
    tokens = f"{shape.side**2}x{shape.dim}"
    return Layer("+ row\n+ column", tokens, PLAIN, f"{2 * shape.side} learnt vectors, by row and column: {tokens}")


def _rest(shape: Shape, classes: int) -> list[Layer]:
    tokens = f"{shape.side**2}x{shape.dim}"
    return [
        Layer(f"block\nx {shape.depth}", tokens, ATTENTION, f"{shape.depth} blocks, drawn below: {tokens}"),
        Layer("norm,\nmean", f"{shape.dim}", PLAIN, f"the mean of all tokens: {shape.dim} features"),
        Layer("linear", f"{classes}", DENSE, f"a score for each of {classes} classes"),
    ]


def block_layers(shape: Shape) -> list[Layer]:
    """The layers of one block."""
    n, dim = shape.side**2, shape.dim
    tokens, hidden, grid = f"{n}x{dim}", f"{n}x{4 * dim}", f"{shape.side}x{shape.side}x{4 * dim}"
    return [
        Layer("norm", tokens, PLAIN, "layer normalisation"),
        Layer(f"attention\n{shape.heads} heads", tokens, ATTENTION, f"every token reads all {n} tokens"),
        Layer("+", tokens, PLAIN, "added to what came in"),
        Layer("norm", tokens, PLAIN, "layer normalisation"),
        Layer(f"linear\n{4 * dim}", hidden, DENSE, f"each token widened to {4 * dim} values"),
        Layer("+ conv 3x3\nof each\nchannel", grid, CONVOLUTION, "depthwise convolution over the map of tokens, added"),
        Layer(f"GELU,\nlinear {dim}", tokens, DENSE, f"each token narrowed to {dim} values"),
        Layer("+", tokens, PLAIN, "added to what came in"),
    ]


def _draw_cell(ax: Axes, shape: Shape) -> float:
    """The input as a square with its tokens; gives its right edge."""
    left, side = -1.25, 1.25
    ax.add_patch(Rectangle((left, -side / 2), side, side, facecolor="white", edgecolor="0.2", linewidth=0.8))
    for i in range(1, shape.side):
        at = i * side / shape.side
        ax.plot([left + at] * 2, [-side / 2, side / 2], color="0.6", linewidth=0.5)
        ax.plot([left, left + side], [at - side / 2] * 2, color="0.6", linewidth=0.5)
    ax.text(
        left + side / 2, -side / 2 - 0.12, f"{shape.input_px}x{shape.input_px}x3", ha="center", va="top", fontsize=6
    )
    ax.text(left + side / 2, side / 2 + 0.1, f"tokens of {shape.token_px} px", ha="center", va="bottom", fontsize=6)
    return left + side


def _draw_row(ax: Axes, layers: Iterable[Layer], left: float, y: float) -> None:
    """Boxes from left to right with arrows between, the sizes of their outputs below."""
    for layer in layers:
        arrow = {"arrowstyle": "-|>", "color": "0.3", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 5}
        ax.annotate("", (left + GAP, y), (left, y), arrowprops=arrow)
        left += GAP
        style = "round,pad=0,rounding_size=0.12"
        place = (left, y - HEIGHT / 2)
        box = ax.add_patch(
            FancyBboxPatch(place, BOX, HEIGHT, boxstyle=style, facecolor=layer.color, edgecolor="0.3", linewidth=0.6)
        )
        add_tooltip(box, layer.text)
        ax.text(left + BOX / 2, y, layer.words, ha="center", va="center", fontsize=6)
        ax.text(left + BOX / 2, y - HEIGHT / 2 - 0.12, layer.output, ha="center", va="top", fontsize=5.5, color="0.3")
        left += BOX


def _draw_residuals(ax: Axes, left: float, y: float) -> None:
    """Lines around attention and MLP, from what comes in to the boxes where it is added."""
    steps = ((0, 2), (3, 7))
    for first, last in steps:
        start = left + first * (BOX + GAP) + GAP / 2
        end = left + GAP + last * (BOX + GAP) + BOX / 2
        top = y + HEIGHT / 2 + 0.2
        ax.plot([start, start, end], [y, top, top], color="0.3", linewidth=0.7)
        arrow = {"arrowstyle": "-|>", "color": "0.3", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 5}
        ax.annotate("", (end, y + HEIGHT / 2), (end, top), arrowprops=arrow)


def caption(shape: Shape, record: Record, groups: Sequence[SeedGroup]) -> str:
    """What is drawn, with the network's cost if a run of it has a card of latency."""
    cards = [
        run.record.latency
        for group in groups
        for run in group.runs
        if run.coordinates.model == record.settings.model.name
    ]
    card = next((card for card in cards if card is not None), None)
    cost = "" if card is None else f" {card.parameters / 1e6:.2f} million parameters, {card.mmac:.0f} MMAC a cell."
    return (
        f"CustomViT, drawn from the settings of {record.run}: {shape.side**2} overlapping tokens of {shape.token_px} "
        f"px and {shape.depth} blocks of width {shape.dim}; below each layer the size of its output. Convolutions of "
        f"the stem are normalised (batch) and activated.{cost} The paper names CustomViT; this shape is ours."
    )


if __name__ == "__main__":
    main_of_figure(draw)
