"""Readers, each on files as its program writes them; written by hand from their formats."""

import json
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace

import optuna
import pandas as pd
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

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


@pytest.mark.parametrize(("more", "told"), [("", True), ("model_ema_force_cpu: true\n", False)])
def test_scores_of_averaged_weights_are_called_that(tmp_path, more, told):
    """timm writes those of the moving average under the names of the network's own."""
    for seed in range(2):
        for name, ema in (("plain", "false"), ("ema", "true")):
            timm_run(tmp_path / f"{name}-{seed}", seed, 0.0, [30.0 + seed, 40.0 + seed, 38.0 + seed])
            with (tmp_path / f"{name}-{seed}" / "args.yaml").open("a") as args:
                args.write(f"model_ema: {ema}\n{more}")
    source = source_of([tmp_path])
    (what,) = understand(source.runs, Options(method="model_ema", baseline="False", metric="eval_top1"), source.unit)

    assert any(note.startswith("2 of 4 runs: eval_* are those of the averaged weights") for note in what.notes) == told


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


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_hugging_face_reads_the_state_of_the_run_and_not_those_of_its_checkpoints(tmp_path):
    history = [
        {"epoch": 1.0, "step": 10, "loss": 2.0, "learning_rate": 1e-4},
        {"epoch": 1.0, "step": 10, "eval_accuracy": 0.5, "eval_runtime": 3.0},
        {"epoch": 2.0, "step": 20, "eval_accuracy": 0.75},
    ]
    for folder in ("smoothing/seed_0", "base-seed1"):
        write(tmp_path / folder / "trainer_state.json", json.dumps({"log_history": history, "best_metric": None}))
        write(tmp_path / folder / "checkpoint-10" / "trainer_state.json", json.dumps({"log_history": history[:2]}))
        write(tmp_path / folder / "all_results.json", json.dumps({"eval_accuracy": 0.75, "train_runtime": 12.5}))
    write(tmp_path / "killed" / "checkpoint-9" / "trainer_state.json", json.dumps({"log_history": history[:1]}))
    write(tmp_path / "killed" / "checkpoint-10" / "trainer_state.json", json.dumps({"log_history": history[:2]}))
    source = source_of([tmp_path])
    base, killed, smoothing = source.runs

    assert source.unit == "fraction"
    assert (base.values["method"], base.values["seed"]) == ("base", 1)
    assert (smoothing.values["method"], smoothing.values["seed"]) == ("smoothing", 0)
    assert smoothing.values["train_runtime"] == 12.5
    assert [(p["step"], p["eval_accuracy"]) for p in smoothing.curve] == [(10, 0.5), (20, 0.75)]
    assert smoothing.curve[0]["loss"] == 2.0  # of the same step
    assert (killed.reason, killed.curve[0]["eval_accuracy"]) == ("it ended at checkpoint-10", 0.5)


def test_lightning_has_train_and_val_on_rows_of_their_own(tmp_path):
    run = tmp_path / "mixup" / "version_0"
    write(run / "metrics.csv", "epoch,step,train_loss,val_acc\n0,9,2.5,\n0,9,,0.5\n1,19,1.5,\n1,19,,0.75\n")
    write(run / "hparams.yaml", "alpha: 0.2\n")
    write(run / "config.yaml", "seed_everything: 7\ntrainer:\n  max_epochs: 2\n")
    write(tmp_path / "base" / "version_0" / "metrics.csv", "epoch,step,val_acc\n0,9,0.5\n")
    write(tmp_path / "base" / "version_0" / "hparams.yaml", "{}\n")
    base, mixup = source_of([tmp_path]).runs

    assert base.values == {"method": "base"}
    assert mixup.values == {"method": "mixup", "alpha": 0.2, "seed_everything": 7, "trainer.max_epochs": 2}
    assert mixup.curve == [
        {"epoch": 0, "step": 9, "train_loss": 2.5, "val_acc": 0.5},
        {"epoch": 1, "step": 19, "train_loss": 1.5, "val_acc": 0.75},
    ]


def test_keras_continues_a_log_and_writes_na(tmp_path):
    header = "epoch,accuracy,loss,val_accuracy,val_loss\n"
    write(tmp_path / "base-seed0.csv", f"{header}0,0.5,1.5,NA,NA\n1,0.6,1.2,0.55,1.3\n{header}2,0.7,1.0,0.65,1.1\n")
    source = source_of([tmp_path], "keras")
    (run,) = source.runs

    assert (run.values, source.unit) == ({"method": "base", "seed": 0}, "fraction")
    assert [point.get("val_accuracy") for point in run.curve] == [None, 0.55, 0.65]


def test_fastai_writes_times_and_the_header_again(tmp_path):
    header = "epoch,train_loss,valid_loss,accuracy,time\n"
    write(tmp_path / "cutout=1,seed=3" / "history.csv", f"{header}0,2.0,1.9,0.4,00:12\n{header}0,1.8,1.7,0.5,01:02\n")
    (run,) = source_of([tmp_path]).runs

    assert (run.values["cutout"], run.values["seed"]) == (1, 3)
    assert run.curve == [{"epoch": 0, "train_loss": 1.8, "valid_loss": 1.7, "accuracy": 0.5}]


def test_mmengine_joins_the_folders_of_a_resumed_run(tmp_path):
    old, new = tmp_path / "base_seed2" / "20250101_000000", tmp_path / "base_seed2" / "20250102_000000"
    train = '{"lr": 0.1, "data_time": 0.01, "loss": %s, "time": 0.2, "epoch": %d, "step": %d}\n'
    val = '{"accuracy/top1": %s, "data_time": 0.01, "time": 0.02, "step": %d}\n'
    write(
        old / "vis_data" / "scalars.json",
        train % (2.0, 1, 50) + val % (40.0, 1) + train % (1.9, 2, 100) + '{"lr": 0.1, "lo',
    )
    write(new / "vis_data" / "scalars.json", train % (1.8, 2, 100) + val % (50.0, 2))
    (run,) = source_of([tmp_path]).runs

    assert (run.values["method"], run.values["seed"]) == ("base", 2)
    assert [(p["epoch"], p["loss"], p["accuracy/top1"]) for p in run.curve] == [(1, 2.0, 40.0), (2, 1.8, 50.0)]


def test_hydra_has_settings_in_overrides_and_the_program_its_own_metrics(tmp_path):
    job = tmp_path / "multirun" / "2025-01-01" / "10-00-00"
    for number, (mixup, seed) in enumerate([("0.0", 0), ("0.2", 1)]):
        write(job / str(number) / ".hydra" / "overrides.yaml", f"- mixup={mixup}\n- +seed={seed}\n- model=resnet18\n")
        write(job / str(number) / "train.log", "[INFO] done\n")
    write(job / "0" / "metrics.json", '[{"val_acc": 0.5}]')
    write(job / "1" / "metrics.csv", "epoch,val_acc\n0,0.4\n1,0.6\n")
    first, second = source_of([tmp_path / "multirun"]).runs

    assert first.values == {"val_acc": 0.5, "mixup": 0.0, "seed": 0, "model": "resnet18"}
    assert second.curve == [{"epoch": 0, "val_acc": 0.4}, {"epoch": 1, "val_acc": 0.6}]

    write(job / "1" / "other.csv", "a\n1\n")
    with pytest.raises(UserError, match=r"which file has the metrics\? It has metrics.csv, other.csv"):
        source_of([tmp_path / "multirun"])


def test_mlflow_keeps_a_file_for_each_metric_and_deleted_runs_stay_out(tmp_path):
    for name, status, stage in (("a", 3, "active"), ("b", 4, "active"), ("c", 3, "deleted")):
        run = tmp_path / "mlruns" / "0" / name
        write(run / "meta.yaml", f"run_name: run-{name}\nstatus: {status}\nlifecycle_stage: {stage}\nrun_id: {name}\n")
        write(run / "params" / "seed", "3")
        write(run / "params" / "opt" / "lr", "0.1")
        write(run / "metrics" / "val" / "acc", "1700000000000 0.5 0\n1700000000001 nan 1\n1700000000002 0.75 2\n")
    finished, failed = source_of([tmp_path / "mlruns"]).runs

    assert finished.values == {"name": "run-a", "seed": 3, "opt/lr": 0.1}
    assert finished.curve == [{"step": 0, "val/acc": 0.5}, {"step": 2, "val/acc": 0.75}]
    assert (finished.reason, failed.reason) == ("", "MLflow calls it 4")


def test_mlflow_keeps_a_database(tmp_path):
    with sqlite3.connect(tmp_path / "mlflow.db") as base:
        base.executescript("""
            CREATE TABLE runs (run_uuid TEXT, name TEXT, status TEXT, start_time INTEGER, lifecycle_stage TEXT);
            CREATE TABLE params (run_uuid TEXT, key TEXT, value TEXT);
            CREATE TABLE metrics (run_uuid TEXT, key TEXT, value REAL, timestamp INTEGER, step INTEGER, is_nan INTEGER);
            INSERT INTO runs VALUES ('b', 'second', 'FAILED', 2, 'active'), ('a', 'first', 'FINISHED', 1, 'active'),
                ('c', 'gone', 'FINISHED', 3, 'deleted');
            INSERT INTO params VALUES ('a', 'seed', '3'), ('b', 'seed', '4');
            INSERT INTO metrics VALUES ('a', 'acc', 0.5, 1, 0, 0), ('a', 'acc', 0.75, 2, 1, 0),
                ('a', 'acc', 0, 3, 2, 1);
        """)
    first, second = source_of([tmp_path / "mlflow.db"]).runs

    assert (first.values, first.reason) == ({"name": "first", "seed": 3}, "")
    assert first.curve == [{"step": 0, "acc": 0.5}, {"step": 1, "acc": 0.75}]
    assert second.reason == "MLflow calls it FAILED"


def test_the_trials_of_an_optuna_storage_are_read_and_refused(tmp_path):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = optuna.create_study(storage=f"sqlite:///{tmp_path / 'optuna.db'}")
    made.optimize(lambda trial: trial.suggest_float("lr", 0, 1), n_trials=3)
    runs = source_of([tmp_path / "optuna.db"]).runs

    assert [run.values["params_lr"] for run in runs] == [run.values["value_0"] for run in runs]
    with pytest.raises(UserError, match="these 3 runs are trials of a search"):
        understand(runs, Options())


def test_tensorboard_with_all_points_and_a_resumed_run(tmp_path):
    """Its own reader keeps 10 points of a scalar that TensorFlow 2 wrote, which is a tensor there."""
    for points in (range(30), range(28, 31)):
        with SummaryWriter(str(tmp_path / "mixup=0.2" / "seed_3")) as writer:
            for step in points:
                writer.add_scalar("val/acc", step / 64 + (len(points) == 3), step)
                writer.add_tensor("val/loss", torch.tensor(2.0 - step / 32), step)
    (run,) = source_of([tmp_path]).runs

    assert run.values == {"mixup": 0.2, "method": "mixup=0.2", "seed": 3}
    assert [p["step"] for p in run.curve] == list(range(31))
    assert [p["val/acc"] for p in run.curve[26:]] == [26 / 64, 27 / 64, 28 / 64 + 1, 29 / 64 + 1, 30 / 64 + 1]
    assert [p["val/loss"] for p in run.curve[:3]] == [2.0, 2.0 - 1 / 32, 2.0 - 2 / 32]


class Wandb:
    """A stand-in for wandb's public interface, which needs its server."""

    def __init__(self, method=None, state="finished"):
        rows = [{"_step": i, "val_acc": 50.0 + i, "note": "x", "layer": {"lr": 0.1}} for i in range(3)]
        sweep = None if method is None else SimpleNamespace(config={"method": method})
        self.found = SimpleNamespace(
            id="ab12", name="quiet-sun-1", state=state, sweep=sweep, scan_history=lambda: iter(rows),
            config={"seed": 1, "mixup": 0.2, "optimizer": {"lr": 0.1}, "tags": ["a"]},
        )  # fmt: skip
        self.Api = lambda: SimpleNamespace(runs=self.runs)

    def runs(self, project):
        if project != "me/mine":
            raise ValueError(f"Could not find project {project}")
        return [self.found]


@pytest.mark.parametrize("method", [None, "grid", "random"])
def test_wandb_with_all_of_its_history(monkeypatch, method):
    monkeypatch.setitem(sys.modules, "wandb", Wandb(method))
    (run,) = source_of([Path("me/mine")], "wandb").runs

    assert run.values == {"name": "quiet-sun-1", "seed": 1, "mixup": 0.2, "optimizer.lr": 0.1}
    assert [(p["_step"], p["val_acc"], p["layer.lr"]) for p in run.curve] == [(i, 50.0 + i, 0.1) for i in range(3)]
    assert run.reason == ""


@pytest.mark.parametrize(
    ("given", "stand_in", "said"),
    [
        ("me/mine", Wandb("bayes"), "its sweep chose runs by the scores of others"),
        ("mine", Wandb(), "give ENTITY/PROJECT"),
        ("me/other", Wandb(), "Could not find project me/other; is WANDB_API_KEY set?"),
        ("me/mine", None, r"the package wandb is not there; pip install 'harness\[wandb\]'"),
    ],
)
def test_what_cannot_be_read_from_wandb_is_refused(monkeypatch, given, stand_in, said):
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    with pytest.raises(UserError, match=said):
        source_of([Path(given)], "wandb")


def test_a_run_that_crashed_at_wandb_is_a_failed_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", Wandb(state="crashed"))
    (run,) = source_of([Path("me/mine")], "wandb").runs
    assert run.reason == "wandb calls it crashed"
