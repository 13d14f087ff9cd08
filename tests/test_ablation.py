"""The ablation's variants differ from CustomViT in what they say and learn."""

from pathlib import Path
from typing import Any

import ablation
import pytest
import torch
import variants
from conftest import ROOT
from trial_log import TrialLog

from cellpatch.models.backbone import count_parameters
from cellpatch.models.customvit import CustomViT

SMALL: dict[str, Any] = {
    "input_px": 16,
    "token_px": 4,
    "stem_width": 4,
    "dim": 8,
    "depth": 2,
    "heads": 2,
    "drop_path": 0.0,
}
SMALL |= {"mean": [0.5] * 3, "std": [0.5] * 3}


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    kind, _ = variants.VARIANTS[name]
    model = kind(**SMALL)
    out = model(torch.rand(3, 3, 16, 16))
    assert out.shape == (3, 8)
    out.square().sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    unread = kind is variants.ClassToken  # the last block's map is read by nothing then
    assert [n for n in silent if not (unread and n.startswith("blocks.1.mix.1.whole.local"))] == []


def test_variants_are_what_their_names_say() -> None:
    whole = CustomViT(**SMALL)
    x = torch.rand(2, 3, 16, 16)
    assert count_parameters(variants.NoPositions(**SMALL)) == count_parameters(whole) - 2 * 4 * 8
    assert count_parameters(variants.LearntPositions(**SMALL)) == count_parameters(whole) - 2 * 4 * 8 + 16 * 8
    assert count_parameters(variants.RelativePositions(**SMALL)) == count_parameters(whole) - 2 * 4 * 8 + 2 * 49 * 2
    assert count_parameters(variants.Registers(**SMALL)) == count_parameters(whole) + 4 * 8
    textbook = variants.Textbook(**SMALL).eval()
    assert not [name for name, module in textbook.named_modules() if "local" in name]
    relative = variants.RelativePositions(**SMALL).eval()
    with torch.no_grad():
        for block in relative.blocks:
            block.attend[1].bias.normal_()  # type: ignore[union-attr,index,operator]
        tokens = torch.rand(1, 16, 8)
        attention = relative.blocks[0].attend[1]  # type: ignore[index]
        moved = attention(tokens.view(1, 4, 4, 8).roll(1, 2).reshape(1, 16, 8))
        assert not torch.allclose(moved, attention(tokens).view(1, 4, 4, 8).roll(1, 2).reshape(1, 16, 8), atol=1e-5)
    plain = variants.Textbook(**SMALL | {"depth": 1}).eval()
    plain.rows.data.zero_()
    plain.columns.data.zero_()
    shuffled = x.unflatten(2, (4, 4)).flip(2).flatten(2, 3)  # whole rows of patches change places
    torch.testing.assert_close(plain(x), plain(shuffled))  # without positions and convolutions order is nothing


def test_a_line_is_of_its_whole_config(tmp_path: Path) -> None:
    lines = TrialLog(tmp_path / "lines.csv", ["data", "flag_limit", "epochs", "variant", "seed"])

    def lacking(*overrides: str) -> int:
        jobs = [({"variant": "whole", "seed": 0}, ["model=customvit_s", "seed=0", *overrides, "trainer.max_epochs=2"])]
        found = [key for key, _ in lines.missing(jobs)]
        for key in found:
            lines.add(key | {"score": 0.5})
        return len(found)

    assert lacking() == 1
    assert lacking() == 0
    assert lacking("data.loading.workers=7") == 0
    for other in ("data.cells=48000", "adapt.lr=0.5", "data.split.seed=7", "model.backbone.dim=96"):
        assert lacking(other) == 1, other
        assert lacking(other) == 0, other
    assert len(lines.read()) == 5
    with pytest.raises(ValueError, match="trainer.max_epochs must be given"):
        list(lines.missing([({"variant": "whole", "seed": 0}, ["model=customvit_s"])]))


def test_summary_pairs_seeds() -> None:
    import pandas as pd

    lines = pd.DataFrame(
        [
            {
                "data": "d",
                "flag_limit": 1,
                "epochs": e,
                "variant": v,
                "seed": s,
                "mmac": 1,
                "seconds": 1,
                "val_macro_f1": f,
            }
            | {"test_macro_f1": f}
            for e, v, scores in (
                (2, "whole", (0.5, 0.6, 0.7)),
                (2, "other", (0.51, 0.61, 0.71)),
                (9, "whole", (0.8, 0.9, 1.0)),
            )
            for s, f in enumerate(scores)
        ]
    )
    assert len(ablation.summarise(lines)) == 3
    table = ablation.summarise(lines[lines["epochs"] == 2]).set_index("variant")
    with pytest.raises(ValueError, match="has lines of several configs; keep one of each"):
        ablation.summarise(pd.concat([lines, lines.head(1)]))
    assert table.loc["other", "val_to_whole"] == pytest.approx(0.01)
    assert table.loc["other", "val_to_whole_half"] == pytest.approx(0, abs=1e-9)
    assert table.loc["other", "val_macro_f1_half"] == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
    page = ablation.as_page(lines)
    assert "d, at most 1 annotations per class, 9 epochs:\n\n| variant |" in page
    assert "| other | 1 | 0.610 ± 0.248 | +0.010 ± 0.000 | 0.610 ± 0.248 |" in page


def test_the_page_shows_the_kept_lines() -> None:
    assert ablation.as_page(ablation.LINES.read()) in (ROOT / "docs" / "customvit.md").read_text(encoding="utf-8")
