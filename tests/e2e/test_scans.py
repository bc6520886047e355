"""A new user's scans: grey PNG files of 12 bits, a CSV table with patients, and AUROC; no patient on both sides."""

import json
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from harness.data.sources import load_source
from harness.data.splits import split
from harness.sections import Data
from harness.store.reader import read_kind, read_manifest

PATIENTS, EACH, SEEDS = 24, 4, 3

EXPERIMENT = """
[experiment]
name = "scans"
question = "Does the trick help to tell the ill from the healthy?"
[data]
name = "csv"
root = "scans.csv"
group = "patient"
channels = 1
window = [0, 4095]
image_size = 12
val_size = 16
test_size = 24
[model]
name = "resnet8"
width = 4
[recipe]
epochs = 2
batch_size = 8
lr = 0.05
"""


@pytest.fixture(scope="module")
def study(cli):
    """The study's folder, of scans in which a patient's mark is plain to see and illness is faint."""
    draw = np.random.default_rng(0)
    rows = []
    for patient in range(PATIENTS):
        ill, mark = patient % 2, draw.integers(0, 4096, (3, 3))
        for i in range(EACH):
            grey = draw.integers(1000, 2000 + 60 * ill, (14, 12))
            grey[:3, :3] = mark
            name = f"scan-{patient}-{i}.png"
            Image.fromarray(grey.astype(np.uint16)).save(cli.folder / name)
            rows.append({"path": name, "label": ["healthy", "ill"][ill], "patient": f"p{patient:02}"})
    pd.DataFrame(rows).to_csv(cli.folder / "scans.csv", index=False)
    (cli.folder / "scans.toml").write_text(EXPERIMENT)
    done = cli.here(
        "ablate", "label_smoothing", "-e", "scans.toml", "--data-root", ".", "--seeds", SEEDS, "--workers", 1
    )
    assert done.returncode == 0, done.stderr
    assert "The same images" not in done.stderr
    (folder,) = [path.parent for path in (cli.folder / "results").glob("*/study.json")]
    return folder


def test_no_patient_is_tested_and_trained_on(cli, study):
    runs, _, _ = read_kind(study, "runs", read_manifest(study).runs)
    spec = json.loads(str(runs["spec"][0]))
    data = Data.model_validate(spec["data"] | {"val_size": 16})
    source = load_source(data, cli.folder)
    patients = pd.read_csv(cli.folder / "scans.csv")["patient"].to_numpy()
    rows, _, _ = read_kind(study, "predictions", read_manifest(study).runs)
    frame = rows.to_pandas()

    assert (source.train_images.channels, len(source.train_labels)) == (1, PATIENTS * EACH)
    for seed in range(SEEDS):
        parts = split(source, data, seed)
        trained, tuned = (set(patients[part.index]) for part in (parts.train, parts.val))
        ids = [i for i, s in zip(runs["run_id"].to_pylist(), runs["seed"].to_pylist(), strict=True) if s == seed]
        tested = set(patients[frame[frame["run_id"].isin(ids)]["index"]])
        assert len(tested) == 24 // EACH
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
    effect = np.mean([found["label_smoothing", s] - found["baseline", s] for s in range(SEEDS)])
    table = pd.read_csv(StringIO(done.stdout)).set_index("arm")
    assert table.loc["label_smoothing", "metric"] == "auroc"
    assert table.loc["label_smoothing", "effect"] == pytest.approx(effect, abs=1e-5)
    assert effect != 0
