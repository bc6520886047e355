"""Readers, each on files as its program writes them; written by hand from their formats."""

import json

import pandas as pd
import pytest

import harness
from harness.errors import UserError
from harness.judging.judge import source_of
from harness.judging.options import Options
from harness.judging.understand import understand

TIMM = "epoch,train_loss,eval_loss,eval_top1,eval_top5,lr"


def timm_run(folder, seed, mixup, scores):
    """A folder of timm's train.py, killed after the second epoch and resumed: header and epoch are there again."""
    folder.mkdir(parents=True)
    (folder / "args.yaml").write_text(f"mixup: {mixup}\nmodel: resnet18\nseed: {seed}\nresume: ''\nmean: null\n")
    rows = [f"{epoch},2.1,1.9,{score},90.5,0.05" for epoch, score in enumerate(scores)]
    (folder / "summary.csv").write_text(
        "\n".join([TIMM, *rows[:2], TIMM, rows[1].replace(",90.5,", ",91.0,"), *rows[2:]])
    )


def test_timm_resumed_with_headers_and_epochs_again(tmp_path):
    timm_run(tmp_path / "a", 3, 0.2, [30.0, 40.0, 38.0])
    source = source_of([tmp_path])
    (run,) = source.runs

    assert source.unit == "percent"
    assert (run.values["seed"], run.values["mixup"]) == (3, 0.2)
    assert [(p["epoch"], p["eval_top1"], p["eval_top5"]) for p in run.curve] == [
        (0, 30.0, 90.5),
        (1, 40.0, 91.0),
        (2, 38.0, 90.5),
    ]


@pytest.mark.parametrize(("row", "score"), [("last", 38.0), ("first", 30.0), ("max:eval_top1", 40.0)])
def test_the_row_that_counts(tmp_path, row, score):
    for seed in range(2):
        for mixup in (0.0, 0.2):
            scores = [30.0 + seed, 40.0 + seed, 38.0 + seed]
            timm_run(tmp_path / f"{mixup}-{seed}", seed, mixup, scores)
    source = source_of([tmp_path])
    options = Options(method="mixup", baseline="0.0", metric="eval_top1", row=row)
    (what,) = understand(source.runs, options, source.unit)

    assert [(c.arm, c.seed, c.value) for c in what.cells if c.seed == 0] == [
        ("mixup=0.0", 0, score),
        ("mixup=0.2", 0, score),
    ]
    assert any("best of up to 3 epochs" in note for note in what.notes) == row.startswith("max")


def test_ultralytics_with_padded_names(tmp_path):
    (tmp_path / "args.yaml").write_text("seed: 7\nmixup: 0.0\n")
    (tmp_path / "results.csv").write_text("  epoch,   metrics/accuracy_top1\n   1,   0.71\n   2,   0.74\n")
    source = source_of([tmp_path / "results.csv"])

    assert source.unit == "fraction"
    assert source.runs[0].values["seed"] == 7
    assert [p["metrics/accuracy_top1"] for p in source.runs[0].curve] == [0.71, 0.74]


def test_sacred_with_a_run_that_failed(tmp_path):
    for number, status in ((1, "COMPLETED"), (2, "FAILED")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"seed": number, "model": {"depth": 18}}))
        (folder / "run.json").write_text(json.dumps({"status": status, "result": 0.9}))
        series = {"acc": {"values": [0.5, 0.8], "steps": [0, 1], "timestamps": ["", ""]}}
        (folder / "metrics.json").write_text(json.dumps(series))
    good, bad = source_of([tmp_path]).runs

    assert good.values == {"seed": 1, "model.depth": 18, "result": 0.9}
    assert [p["acc"] for p in good.curve] == [0.5, 0.8]
    assert (good.reason, bad.reason) == ("", "Sacred calls it FAILED")


def test_settings_that_would_run_code_are_refused(tmp_path):
    (tmp_path / "args.yaml").write_text("seed: !!python/object/apply:os.system ['true']\n")
    (tmp_path / "results.csv").write_text("epoch,metrics/accuracy_top1\n1,0.5\n")

    with pytest.raises(UserError, match=r"args\.yaml cannot be read as YAML"):
        source_of([tmp_path])


def test_a_data_frame_from_python(tmp_path):
    rows = [{"method": m, "seed": s, "acc": a + s} for m, a in (("base", 70.0), ("new", 71.0)) for s in range(5)]
    (study,) = harness.judge(pd.DataFrame(rows), results=tmp_path / "r", reports=tmp_path / "p")

    assert study.effects.loc["new", "mean"] == 1.0
    assert study.manifest.source == "a data frame"
