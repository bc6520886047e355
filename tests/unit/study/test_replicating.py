"""What a replication asks of a stored study of any version; nothing is trained."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness.analysis.types import GAINS, LOSSES
from harness.errors import UserError
from harness.experiment import load_experiment
from harness.report.load import load
from harness.store.reader import read_manifest
from harness.store.schema import LATER_COLUMNS
from harness.store.writer import write_manifest
from harness.study.plan import make_plan
from harness.testing import StoredRun, make_arm, make_manifest, make_row, make_study
from harness.training.place import Place
from harness.workflow import replicating
from harness.workflow.replicating import _Source, fresh_seeds, replicate
from harness.workflow.request import ReplicationRequest

PUBLISHED = Path(__file__).parents[3] / "results" / "published"


@pytest.fixture
def planned(monkeypatch):
    """The declaration of a replication of a published study, as `--dry-run` makes it, without a pilot."""
    monkeypatch.setattr("harness.study.forecast.forecast", lambda *_: None)

    def make(study, results=PUBLISHED, **options):
        request = ReplicationRequest(study=study, results=results, **options)
        (event,) = replicate(request, plan_only=True)
        return event.plan.manifest

    return make


@pytest.fixture
def of_the_first_version(tmp_path):
    """A published study as version 0.1.0 declared and stored it: without settings, request and identities."""

    def make(study):
        shutil.copytree(PUBLISHED / study, tmp_path / study)
        for kind, later in LATER_COLUMNS.items():
            for path in (tmp_path / study).glob(f"{kind}/*.parquet"):
                table = pq.read_table(path)
                pq.write_table(table.drop_columns([name for name in later if name in table.column_names]), path)
        manifest = json.loads((tmp_path / study / "study.json").read_text())
        manifest |= {"asked": {}, "settings": {}, "harness_version": "0.1.0", "stages": []}
        manifest["arms"] = [arm | {"identity": ""} for arm in manifest["arms"]]
        (tmp_path / study / "study.json").write_text(json.dumps(manifest))
        return tmp_path

    return make


@pytest.mark.parametrize("study", ["digits-noisy-untuned", "factorial-digits-noisy"])
@pytest.mark.parametrize("first", [True, False])
def test_studies_are_rebuilt_to_the_very_runs_that_they_trained(
    planned, of_the_first_version, monkeypatch, study, first
):
    """Declarations of the first version have neither settings nor a request: the rows say it all."""
    monkeypatch.setattr(replicating, "fresh_seeds", lambda *_: range(10))
    results = of_the_first_version(study) if first else PUBLISHED
    old = read_manifest(results / study)
    new = planned(study, results)
    runs = {arm.label: arm.run_ids for arm in old.arms}

    assert (old.asked == {}, old.settings == {}) == (first, first)
    assert len(new.arms) > 3
    assert {arm.label: arm.run_ids for arm in new.arms} == {arm.label: runs[arm.label] for arm in new.arms}
    assert (new.metric, new.margin, new.alpha, new.scope) == (old.metric, old.margin, old.alpha, old.scope)


def test_arms_whose_verdict_claims_a_direction_are_trained_on_as_many_seeds_after_the_last_one(
    planned, of_the_first_version
):
    results = of_the_first_version("digits-noisy-untuned")
    new = planned("digits-noisy-untuned", results)
    judged = {e.arm: e.verdict.kind for e in load(results / "digits-noisy-untuned").analysis.effects}

    assert [arm.label for arm in new.arms[1:]] == [a for a, kind in judged.items() if kind in (*GAINS, *LOSSES)]
    assert {"mixup", "label_smoothing"} <= {arm.label for arm in new.arms}
    assert "undecided" in judged.values()
    assert new.seeds == tuple(range(10, 20))
    assert (new.study, new.replicates) == ("digits-noisy-untuned-replication", "digits-noisy-untuned")
    assert new.command == "harness replicate digits-noisy-untuned"
    assert new.notes == (
        "The runs of digits-noisy-untuned are from a version that did not record their images and code.",
    )


def test_arms_and_seeds_can_be_named(planned):
    new = planned("digits-noisy-untuned", arms="ema, placebo", seeds="30:33", name="again")

    assert [arm.label for arm in new.arms] == ["baseline", "ema", "placebo"]
    assert (new.seeds, new.study) == ((30, 31, 32), "again")
    assert new.command == "harness replicate digits-noisy-untuned --seeds 30:33 --name again --arms 'ema, placebo'"
    assert planned("digits-noisy-untuned", arms="ema", seeds="3").seeds == (10, 11, 12), "a number of fresh ones"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"seeds": "8:12"}, r"--seeds 8:12: digits-noisy-untuned was looked at with seeds 8, 9, .* take 10:14"),
        ({"seeds": "12:8"}, r"--seeds 12:8: a number of seeds from 1"),
        ({"arms": "mixpu"}, r"unknown arm 'mixpu'; did you mean 'mixup'\?"),
        ({"arms": " ,"}, "it names no arm"),
        ({"study": "digits-search"}, "digits-search is a search"),
        ({"study": "nope"}, "unknown study 'nope'"),
    ],
)
def test_what_cannot_be_replicated_is_refused_in_one_line(planned, options, expected):
    with pytest.raises(UserError, match=expected) as refused:
        planned(**{"study": "digits-noisy-untuned"} | options)
    assert "\n" not in str(refused.value)


def test_a_study_without_findings_asks_for_arms(planned, tmp_path):
    skipped = make_arm("sam", 0, skipped="it clashes")
    make_study(tmp_path / "s", make_manifest(["baseline", "mixup", skipped], study="s", seeds=2))

    with pytest.raises(UserError, match="s has no arm that helps or hurts; name the arms to replicate with --arms"):
        planned("s", tmp_path)
    with pytest.raises(UserError, match=r"--arms sam: sam was skipped: it clashes\. There is no effect to replicate"):
        planned("s", tmp_path, arms="mixup,sam")


def test_two_values_of_one_trick_are_two_arms_again(planned, monkeypatch, tmp_path):
    place = Place(data_root=tmp_path, device="cpu", threads=1)
    swept = make_plan(
        load_experiment("digits"), ["mixup.alpha=0.4,1.0"], design="sweep", seeds=range(2), place=place,
        results=tmp_path, images="images", command="", toml="", name="swept",
    )  # fmt: skip
    old, specs = swept.manifest, {spec.run_id: spec.canonical_json for spec in swept.specs}

    def run(arm, seed):
        spec, mark = specs[arm.run_ids[seed]], old.fingerprint
        return StoredRun(make_row(arm, seed, spec=spec, fingerprint=mark, identity=arm.identity))

    make_study(tmp_path / "swept", old, run)
    monkeypatch.setattr(replicating, "fresh_seeds", lambda *_: range(2))
    new = planned("swept", tmp_path, arms="mixup(alpha=0.4),mixup(alpha=1.0)")

    assert [arm.label for arm in new.arms] == ["baseline", "mixup(alpha=0.4)", "mixup(alpha=1.0)"]
    assert [arm.run_ids for arm in new.arms] == [arm.run_ids for arm in old.arms]


def test_seeds_of_earlier_looks_and_of_what_a_study_replicates_itself_are_not_fresh(tmp_path):
    """One that was looked at with 20 seeds and then cut to 5; and its replication on seeds 20 and 21."""
    for name, seeds, more in (("s", 5, {"looks": (5, 20)}), ("t", (30, 31), {"replicates": "s"})):
        (tmp_path / name).mkdir()
        write_manifest(tmp_path / name, make_manifest(study=name, seeds=seeds, **more))
    first, second = (read_manifest(tmp_path / name) for name in "st")

    assert fresh_seeds(tmp_path / "s", first, None) == range(20, 25)
    assert fresh_seeds(tmp_path / "t", second, None) == range(32, 34)
    assert fresh_seeds(tmp_path / "t", second, "20:22") == range(20, 22)
    with pytest.raises(UserError, match="--seeds 19:22: s was looked at with seed 19, which"):
        fresh_seeds(tmp_path / "t", second, "19:22")


def test_what_has_changed_since_is_said_in_one_line_each():
    loaded = load(PUBLISHED / "digits-noisy-untuned")
    arms = [arm for arm in loaded.manifest.arms if arm.label == "mixup"]
    source = _Source.of(loaded, arms)
    spec = json.loads(source.rows[1]["spec"])
    (trick,) = spec["arm"]["tricks"]
    assert "version" not in " ".join(source.changes("")[1:])
    assert source.experiment.tricks == arms[0].tricks, "for tricks whose values have no default"

    trick["version"] = 99
    identity = json.dumps({"data": "old images", "numbers": 1})
    changed = replace(source, rows=[{"spec": json.dumps(spec), "identity_json": identity}])
    assert changed.changes("new images") == [
        "mixup is of version 1 now, and was of version 99 in digits-noisy-untuned.",
        "The runs of digits-noisy-untuned are of other images (old imag... -> new imag...).",
    ]
