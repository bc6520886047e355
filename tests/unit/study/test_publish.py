import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.cli import main
from harness.errors import UserError
from harness.report.load import load
from harness.report.pages.study import render_study
from harness.store.merge import consolidate
from harness.store.reader import read_study
from harness.store.schema import SearchArm, SearchRecord, Trial, predictions_schema
from harness.study.publish import find, publish

ROOT = Path(__file__).parents[3]


@pytest.fixture
def study(tmp_path, stored_study):
    folder = tmp_path / "results" / "s"
    stored_study(folder)
    (folder / "weights").mkdir()
    (folder / "weights" / "x.pt").write_bytes(b"weights")
    return folder


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """The command line in a folder of its own: exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["harness", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out = capsys.readouterr()
        assert "Traceback" not in out.err
        return end.value.code or 0, out.out, out.err

    return run


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def without_images(loaded):
    """The effects less the columns that need single predictions."""
    blank = {"noise_share": math.nan, "image_error": math.nan, "images": ()}
    return replace(loaded.analysis, effects=tuple(replace(e, **blank) for e in loaded.analysis.effects))


def page_of(loaded):
    return render_study(
        loaded.manifest, without_images(loaded), loaded.runs, loaded.points, loaded.data.problems, loaded.design,
        loaded.findings(), outcomes=loaded.outcomes(),
    )  # fmt: skip


def test_a_published_study_has_rows_curves_and_outcomes_and_nothing_else(study, tmp_path):
    folder = publish(study, tmp_path / "published")

    assert set(files(folder)) == {
        "study.json", "runs/runs.parquet", "curves/curves.parquet", "outcomes/outcomes.parquet"
    }  # fmt: skip
    assert (folder / "study.json").read_bytes() == (study / "study.json").read_bytes()
    assert [p.name for p in (tmp_path / "published").iterdir()] == ["s"], "no temporary folder is left"
    assert read_study(folder).problems == []


def test_a_published_study_gives_the_same_effects_and_the_same_page(study, tmp_path):
    own, published = load(study), load(publish(study, tmp_path / "published"))

    assert published.data.predictions is None
    assert math.isfinite(own.analysis.effects[0].image_error)
    assert repr(without_images(own)) == repr(without_images(published))
    assert repr(own.outcomes()) == repr(published.outcomes())
    assert own.findings() == published.findings()
    assert page_of(own) == page_of(published)
    assert 'id="outcomes"' in page_of(published)


def test_bytes_depend_on_the_rows_alone(study, tmp_path):
    first = files(publish(study, tmp_path / "one"))
    again = files(publish(study, tmp_path / "one"))
    consolidate(study)
    merged = files(publish(study, tmp_path / "two"))

    assert first == again
    assert first == merged


def test_what_was_published_can_be_published_again(study, tmp_path):
    folder = publish(study, tmp_path / "one")
    back = publish(folder, tmp_path / "two")

    assert files(folder) == files(back)


def test_an_unfinished_study_is_refused_with_how_much_is_missing(study, tmp_path):
    for path in sorted((study / "runs").glob("*.parquet"))[:3]:
        path.unlink()

    with pytest.raises(UserError, match=r"s is not finished: 3 of 15 runs are missing; .*--partial"):
        publish(study, tmp_path / "published")
    assert not (tmp_path / "published").exists()
    folder = publish(study, tmp_path / "published", partial=True)
    assert len(read_study(folder).runs) == 12


def test_a_failed_run_is_a_result(study, tmp_path):
    path = sorted((study / "runs").glob("*.parquet"))[-1]
    table = pq.read_table(path)
    at = table.schema.get_field_index("status")
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(["failed"])), path)
    runs = read_study(publish(study, tmp_path / "published")).runs

    assert runs["status"].value_counts().to_dict() == {"ok": 14, "failed": 1}


def test_a_file_that_cannot_be_read_is_named(study, tmp_path):
    (study / "curves" / "broken.parquet").write_bytes(b"x")

    with pytest.raises(UserError, match=r"broken\.parquet: not readable as parquet"):
        publish(study, tmp_path / "published")
    assert publish(study, tmp_path / "published", partial=True).is_dir()


def test_rows_of_other_studies_stay_behind(study, tmp_path, stored_study):
    stored_study(study, tricks=("mixup",))  # the folder still holds the placebo's rows
    runs = read_study(publish(study, tmp_path / "published")).runs

    assert set(runs["arm"]) == {"baseline", "mixup"}


def test_only_publications_are_replaced(study, tmp_path):
    with pytest.raises(UserError, match="that is where s itself lies"):
        publish(study, study.parent)
    other = tmp_path / "other" / "s"
    shutil.copytree(study, other)
    with pytest.raises(UserError, match="is no published study"):
        publish(study, other.parent)
    (tmp_path / "thesis" / "s").mkdir(parents=True)
    (tmp_path / "thesis" / "s" / "chapter.txt").write_text("years of work")
    with pytest.raises(UserError, match="is no published study"):
        publish(study, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "s" / "chapter.txt").read_text() == "years of work"
    assert (other / "predictions").is_dir()


def test_a_publication_that_fails_leaves_the_earlier_one(study, tmp_path, monkeypatch):
    before = files(publish(study, tmp_path / "published"))

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.study.publish.write_table", full)
    with pytest.raises(OSError, match="No space"):
        publish(study, tmp_path / "published")
    assert files(tmp_path / "published" / "s") == before
    assert [p.name for p in (tmp_path / "published").iterdir()] == ["s"]


def test_a_rename_that_fails_puts_the_earlier_one_back(study, tmp_path, monkeypatch):
    folder = publish(study, tmp_path / "published")
    before, rename = files(folder), os.replace

    def fails_once(source, target):
        if Path(source).name == "new":
            raise OSError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr("os.replace", fails_once)
    with pytest.raises(OSError, match="Permission"):
        publish(study, tmp_path / "published")
    assert files(folder) == before


def test_a_preface_is_kept_until_there_is_another(study, tmp_path):
    to = tmp_path / "published"
    assert not (publish(study, to) / "preface.txt").exists()
    assert (publish(study, to, preface="Expected: nothing.\n\nFound: “nothing”.\n") / "preface.txt").exists()
    assert (publish(study, to) / "preface.txt").read_text(encoding="utf-8").startswith("Expected")
    (study / "preface.txt").write_text("The study's own.")
    assert (publish(study, to) / "preface.txt").read_text() == "The study's own."


def test_a_search_is_published_with_its_trials_and_comparisons(study, tmp_path):
    manifest = load(study).manifest
    (study / "study.json").unlink()
    tried = manifest.arms[2].run_ids
    arms = manifest.arms[:2]
    record = SearchRecord(
        search="s", experiment="digits", question="", scope="", objectives=("accuracy",), trials=1, tuning_seeds=(0,),
        fresh_seeds=manifest.seeds, sampler="tpe", pruner="none", fingerprint="f00d", command="", toml="",
        harness_version="0", created="",
        arms=(SearchArm(label="mixup", trials=(Trial(number=0, state="complete", params={}, run_ids=tried),)),),
        comparisons={"default": manifest.model_copy(update={"arms": arms})},
    )  # fmt: skip
    (study / "search.json").write_text(record.model_dump_json())
    folder = publish(study, tmp_path / "published")
    data = read_study(folder)

    assert (folder / "search.json").exists()
    assert len(data.runs) == 15, "the runs of trials, too"
    assert set(data.outcomes["run_id"]) == {i for arm in arms for i in arm.run_ids.values()}
    (study / "search.json").write_text(record.model_copy(update={"comparisons": {}}).model_dump_json())
    with pytest.raises(UserError, match="s is not finished: its comparisons are missing"):
        publish(study, tmp_path / "published")
    assert len(read_study(publish(study, tmp_path / "published", partial=True)).runs) == 5, "those of the trials"


# The command


def test_the_command_publishes_and_prints_sizes(study, tmp_path, call):
    (tmp_path / "why.txt").write_text("We expected little.")
    code, out, _ = call("publish", "s", "--preface", "why.txt")
    folder = tmp_path / "results" / "published" / "s"

    assert code == 0
    assert (folder / "preface.txt").read_text() == "We expected little."
    assert out.startswith("published: results/published/s (")
    for name in files(folder):
        assert name in out
    assert find(tmp_path / "results", ["s"]) == [Path(study)]
    assert call("report", "s", "--results", "results")[0] == 0


def test_the_command_publishes_elsewhere(study, tmp_path, call):
    assert call("publish", "s", "--to", "site/data")[0] == 0
    assert (tmp_path / "site" / "data" / "s" / "study.json").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("t",), "unknown study 't' in results"),
        (("s", "--results", "nowhere"), "Known: none"),
        (("s", "s2", "--preface", "why.txt"), "--preface why.txt with 2 studies"),
        (("s", "--preface", "absent.txt"), "preface absent.txt cannot be read: No such file"),
        (("s", "--preface", "binary.txt"), "preface binary.txt cannot be read: not UTF-8 text"),
        (("s", "--to", "results"), "that is where s itself lies"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(study, tmp_path, call, arguments, expected):
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    code, _, err = call("publish", *arguments)

    assert code == 2
    assert expected in err
    assert not (tmp_path / "results" / "published").exists()


def test_publishing_needs_no_torch():
    code = "import sys, harness.study.publish; print(*{'torch', 'timm', 'torchvision'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""


# Size


@pytest.mark.slow
def test_a_thousand_runs_stay_below_three_megabytes(tmp_path):
    """The stored rows of a real study of 1,080 runs, with invented predictions for those that finished."""
    folder = tmp_path / "results" / "big"
    shutil.copytree(ROOT / "results" / "published" / "digits-all-tricks", folder)
    manifest = json.loads((folder / "study.json").read_text())
    ids = [i for arm in manifest["arms"] for i in arm["run_ids"].values()]
    draw = np.random.default_rng(0)
    tables = []
    for run_id in ids:
        logits = draw.normal(size=(1400, 10)).astype(np.float16)
        columns = [np.full(1400, 1), [run_id] * 1400, [manifest["fingerprint"]] * 1400, np.arange(1400)]
        columns += [
            np.arange(1400, dtype=np.int32) % 10,
            pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel()), 10),
        ]
        tables.append(pa.Table.from_arrays([pa.array(c) for c in columns], schema=predictions_schema(10)))
    (folder / "predictions").mkdir()
    pq.write_table(pa.concat_tables(tables), folder / "predictions" / "all.parquet")
    published = publish(folder, tmp_path / "published", partial=True)

    assert len(ids) > 1000
    assert len(read_study(published).outcomes) == len(ids) * 25 + (len(ids) - 10) * 4
    assert sum(p.stat().st_size for p in published.rglob("*") if p.is_file()) < 3e6


def test_what_is_published_names_neither_hosts_nor_folders(study):
    command = "harness ablate mixup --experiment /home/me/e.toml --plugin ../my/p.py --data-root '/my data' --name s"
    options = {"experiment": "/home/me/e.toml", "plugin": ["../my/p.py"], "data-root": "/my data", "name": "s"}
    asked = {"verb": "ablate", "tricks": ["mixup"], "options": options}
    manifest = json.loads((study / "study.json").read_text()) | {"command": command, "asked": asked}
    (study / "study.json").write_text(json.dumps(manifest))
    consolidate(study)
    (path,) = (study / "runs").glob("*.parquet")
    runs = pq.read_table(path).to_pylist()
    for i, row in enumerate(runs):
        row["host"] = ("node7.example.org", "laptop")[i % 2]
    runs[0]["reason"] = "FileNotFoundError: [Errno 2] '/home/me/data/a b.png' (cifar.py:3)"
    runs[1]["reason"] = "1/2 of it, at 3 km/h"
    pq.write_table(pa.Table.from_pylist(runs, pq.read_schema(path)), path)
    before = load(study)

    folder = publish(study, study.parent / "published")
    held = b"".join(files(folder).values())
    published = pq.read_table(folder / "runs")

    for secret in (b"node7", b"laptop", b"/home", b"my data", b"../my"):
        assert secret not in held
        assert secret.decode() not in str(published.to_pylist())
    assert set(published["host"].to_pylist()) == {"host 1", "host 2"}
    assert set(published["reason"].to_pylist()) == {
        "", "FileNotFoundError: [Errno 2] 'a b.png' (cifar.py:3)", "1/2 of it, at 3 km/h",
    }  # fmt: skip
    after = load(folder)
    assert after.manifest.command == "harness ablate mixup --experiment e.toml --plugin p.py --data-root DATA --name s"
    assert after.manifest.asked["options"] == {
        "experiment": "e.toml", "plugin": ["p.py"], "data-root": "DATA", "name": "s",
    }  # fmt: skip
    same = {"command": "", "asked": {}}
    assert after.manifest.model_copy(update=same) == before.manifest.model_copy(update=same)
    assert publish(folder, study.parent / "again").name == "s"
    assert files(study.parent / "again" / "s") == files(folder), "a published study can be published again"


def test_our_own_published_studies_name_no_host():
    for path in sorted((ROOT / "results" / "published").glob("*/runs/runs.parquet")):
        assert set(pq.read_table(path, columns=["host"])["host"].to_pylist()) == {"host 1"}


def test_a_study_of_data_with_a_whole_path_is_not_published(study):
    consolidate(study)
    (path,) = (study / "runs").glob("*.parquet")
    runs = pq.read_table(path).to_pylist()
    runs[0]["spec"] = json.dumps(json.loads(runs[0]["spec"]) | {"data": {"root": "/home/me/pets"}})
    pq.write_table(pa.Table.from_pylist(runs, pq.read_schema(path)), path)

    with pytest.raises(UserError, match=r"data\.root = /home/me/pets: the study would be published with this path"):
        publish(study, study.parent / "published")
