"""A new user's scans: grey PNG files of 12 bits, a CSV table with patients, and AUROC; no patient on both sides.

The network, the experiment and the commands are those of docs/own.md.
"""

import json
import re
import shlex
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

import harness
from harness.data.sources import load_source
from harness.data.splits import split
from harness.sections import Data
from harness.store.reader import read_kind, read_manifest

ROOT = Path(harness.__file__).parents[1]
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "docs" / "own.md").read_text(encoding="utf-8"), re.S)
FILES = {"mine.py": "class Net(", "mine.toml": "[experiment]"}
"""The files of docs/own.md, by what is in them."""

PATIENTS, EACH, SEEDS = 24, 4, range(5)


@pytest.fixture(scope="module")
def study(cli):
    """The study's folder, of scans in which a patient's mark is plain to see and illness is faint."""
    draw = np.random.default_rng(0)
    rows = []
    for patient in range(PATIENTS):
        ill, mark = patient % 2, draw.integers(0, 4096, (3, 3))
        for i in range(EACH):
            grey = draw.integers(1000, 2000 + 60 * ill, (18, 16))
            grey[:3, :3] = mark
            name = f"scan-{patient}-{i}.png"
            Image.fromarray(grey.astype(np.uint16)).save(cli.folder / name)
            rows.append({"path": name, "label": ["healthy", "ill"][ill], "patient": f"p{patient:02}"})
    pd.DataFrame(rows).to_csv(cli.folder / "scans.csv", index=False)
    for name, mark in FILES.items():
        (text,) = [text for _, text in BLOCKS if mark in text]
        (cli.folder / name).write_text(text, encoding="utf-8")
    (commands,) = [text.split("\n") for _, text in BLOCKS if text.startswith("harness doctor")]
    for line in filter(None, commands):
        done = cli(*shlex.split(line)[1:])
        assert done.returncode == 0, done.stderr
    assert "The same images" not in done.stderr
    (folder,) = [path.parent for path in (cli.folder / "results").glob("*/study.json")]
    return folder


def test_no_patient_is_tested_and_trained_on(cli, study):
    runs, _, _ = read_kind(study, "runs", read_manifest(study).runs)
    data = Data.model_validate(json.loads(str(runs["spec"][0]))["data"])
    source = load_source(data, cli.folder)
    patients = pd.read_csv(cli.folder / "scans.csv")["patient"].to_numpy()
    rows, _, _ = read_kind(study, "predictions", read_manifest(study).runs)
    frame = rows.to_pandas()

    assert (source.train_images.channels, len(source.train_labels)) == (1, PATIENTS * EACH)
    for seed in SEEDS:
        parts = split(source, data, seed)
        trained, tuned = (set(patients[part.index]) for part in (parts.train, parts.val))
        ids = [i for i, s in zip(runs["run_id"].to_pylist(), runs["seed"].to_pylist(), strict=True) if s == seed]
        tested = set(patients[frame[frame["run_id"].isin(ids)]["index"]])
        assert len(tested) == data.test_size // EACH
        assert not tested & (trained | tuned)
        assert not trained & tuned


def test_auroc_of_the_report_is_that_of_the_stored_predictions(cli, study):
    done = cli.here("report", study.name, "--metric", "auroc", "--format", "csv")
    assert done.returncode == 0, done.stderr
    rows, _, _ = read_kind(study, "predictions", read_manifest(study).runs)
    runs, _, _ = read_kind(study, "runs", read_manifest(study).runs)
    arms = {row["run_id"]: (row["arm"], row["seed"]) for row in runs.to_pylist()}
    found = {}
    for run_id, frame in rows.to_pandas().groupby("run_id"):
        logits = np.stack(frame["logits"]).astype(float)
        found[arms[run_id]] = roc_auc_score(frame["label"], logits[:, 1] - logits[:, 0])
    effect = np.mean([found["label_smoothing", s] - found["baseline", s] for s in SEEDS])
    table = pd.read_csv(StringIO(done.stdout)).set_index("arm")
    assert table.loc["label_smoothing", "metric"] == "auroc"
    assert table.loc["label_smoothing", "effect"] == pytest.approx(effect, abs=1e-5)
    assert effect != 0
