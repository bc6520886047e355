"""An arm that crashes is found before its study trains, and costs the other arms nothing."""

from harness.store.reader import read_study

CRASHES = """
import os, signal
from typing import ClassVar
from harness.tricks.contract import Info, Trick

class Crashes(Trick):
    info: ClassVar = Info(name="crashes", family="mine", summary="s", paper="p", formula="f", expect="e")

    def loss_terms(self, batch, logits, run):
        os.kill(os.getpid(), signal.SIGSEGV)
"""


def test_other_arms_are_judged_and_the_one_that_crashes_is_said_once(cli):
    (cli.folder / "crashes.py").write_text(CRASHES)
    study = cli("ablate", "mixup", "crashes", "--plugin", "crashes.py", "--seeds", 5, "--name", "crash",
                "--workers", 1, "--set", "recipe.epochs=3", "--set", "data.test_size=400")  # fmt: skip

    assert study.returncode == 0, study.stderr
    assert "mixup " in study.stdout
    assert study.stderr.count("SIGSEGV") == 1
    assert "warning: crashes: pre-flight: killed by SIGSEGV in a training step; leave the arm out" in study.stderr
    runs = read_study(cli.folder / "results" / "crash").runs
    assert set(runs.loc[runs["arm"] != "crashes", "status"]) == {"ok"}
    crashed = runs[runs["arm"] == "crashes"]
    assert list(crashed["status"]) == ["failed"] * 5
    assert crashed["reason"].str.startswith("pre-flight: killed by SIGSEGV").all()


def test_a_baseline_that_crashes_refuses_the_study(cli):
    out = cli("ablate", "mixup", "--set", "model.name=resnet8", "--set", "data.image_size=4",
              "--set", "recipe.batch_size=1", "--results", "none")  # fmt: skip

    assert out.returncode == 2
    assert out.stderr.startswith("error: recipe.batch_size = 1: batch normalisation")
    assert len(out.stderr.splitlines()) == 1
    assert not list((cli.folder / "none").glob("*/runs/*.parquet"))
