"""On a real CUDA device: every trick trains, captured steps agree with plain ones, and bits repeat."""

import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from harness.store.reader import read_study
from harness.training.execute import execute
from harness.training.graph import WARM_UP, GraphedStep
from harness.training.loop import Clock, train
from harness.training.place import Place
from harness.training.session import set_up
from harness.tricks import registry
from harness.tricks.contract import Info, Trick

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this torch sees no CUDA device"),
]

ROOT = Path("unused-by-digits")


@pytest.fixture(autouse=True)
def _as_in_a_worker(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def losses(spec, cuda_graphs):
    """Training losses, and how many steps were replayed; None when the run takes plain steps."""
    s = set_up(spec, Place(data_root=ROOT, device="cuda", cuda_graphs=cuda_graphs))
    points = chain(*train(s.run, s.stack, s.loader, s.step, s.lr_factors, dict, Clock()))
    values = [p.value for p in points if p.metric == "loss"]
    if not isinstance(s.step, GraphedStep):
        return values, None
    assert s.step.refused == ""
    return values, s.step.replays


@pytest.mark.parametrize("name", [None, *sorted(registry.builtin())])
def test_a_trick_trains_and_its_captured_steps_agree_with_plain_ones(name, small_spec):
    spec = small_spec(*([name] if name else []), train_size=120)
    row = execute(spec, "cuda", Place(data_root=ROOT, device="cuda")).row
    on_cpu = execute(spec, "cuda", Place(data_root=ROOT)).row
    assert (row["status"], row["reason"]) == (on_cpu["status"], on_cpu["reason"])
    if row["status"] != "ok":
        return

    plain, _ = losses(spec, cuda_graphs=False)
    captured, replays = losses(spec, cuda_graphs=True)

    assert captured == pytest.approx(plain, rel=1e-3)
    assert replays is None or replays > 0
    if name is None:
        assert replays == 12 - WARM_UP


@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("name", [None, "mixup", "dropout", "adamw", "sam"])
def test_the_same_seed_gives_the_same_bits(name, cuda_graphs, small_spec):
    place = Place(data_root=ROOT, device="cuda", cuda_graphs=cuda_graphs)
    spec = small_spec(*([name] if name else []), train_size=120)
    first, second = (execute(spec, "cuda", place).row for _ in range(2))

    assert first["test_digest"] == second["test_digest"]
    assert first["train_loss"] == second["train_loss"]


class Waiting(Trick):
    """Asks the device for a number at every step."""

    info: ClassVar = Info(name="waiting", family="mine", summary="s", paper="p", formula="f", expect="e")

    def loss_terms(self, batch, logits, run):
        return {"none": logits.sum() * 0 * logits.mean().item()}


def test_a_step_that_waits_for_the_device_stays_plain_and_says_where(small_spec):
    with registry.registered(Waiting):
        spec = small_spec("waiting", train_size=120)
        row = execute(spec, "cuda", Place(data_root=ROOT, device="cuda", cuda_graphs=True)).row

    assert row["status"] == "ok", row["reason"]
    assert row["plain_steps"].startswith(f"it waits for the device ({Path(__file__).name}:")


@pytest.mark.parametrize("options", [(), ("--workers", "1", "--cuda-graphs")])
def test_a_study_runs_on_the_device(options, tmp_path):
    command = [sys.executable, "-m", "harness", "ablate", "mixup", "center_loss", "--seeds", "3", "--name", "s"]
    command += ["--device", "cuda", "--set", "recipe.epochs=6", "--set", "data.test_size=400", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    runs = read_study(tmp_path / "results" / "s").runs
    assert set(runs["status"]) == {"ok"}
    assert runs["packed"].sum() == (0 if options else len(runs) - 1), "the first run has the device to itself"
    plain = runs.groupby("arm")["plain_steps"].first()
    if options:
        assert plain["baseline"] == plain["mixup"] == ""
        assert plain["center_loss"].startswith("center_loss: ")
    else:
        assert plain.isna().all()
