"""Names and files from elsewhere stay names and files: they are never markup, paths or code."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from harness.cli import main
from harness.data.sources import load_source
from harness.errors import UserError
from harness.experiment import Data, find_experiment
from harness.testing import tiny_spec
from harness.training import checkpoint
from harness.training.execute import execute
from harness.training.place import Place
from harness.training.stages import path_of
from harness.tricks import registry
from harness.tricks.needs import needs_of
from webpage import Page

PLUGIN = """
from pathlib import Path
from typing import ClassVar

from harness.tricks.contract import Info, Trick

Path(__file__).with_suffix(".ran").touch()
IMAGE = "<img src=x onerror=alert(2)>"


def card(name):
    return Info(name=name, family=IMAGE, summary=IMAGE, paper=IMAGE, formula=IMAGE, expect=IMAGE, differs=IMAGE)


class Markup(Trick):
    info: ClassVar = card("<script>alert(1)</script>")

    def loss_terms(self, batch, logits, run):
        return {IMAGE: logits.square().mean()}


class Path_(Trick):
    info: ClassVar = card("../../x")

    def reduce_loss(self, loss, run):
        return loss * 2


class Reason(Trick):
    info: ClassVar = card("reason")

    def after_step(self, run):
        raise RuntimeError("</script><script>alert(3)</script>" + IMAGE)
"""


def assert_harmless(path):
    page = Page(path.read_text())

    assert not [tag for tag, _ in page.tags if tag in ("img", "iframe", "object", "embed", "link")]
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert not [text for text in page.scripts if text.strip().startswith("alert")]


class Bomb:
    """Its pickle touches a file when it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.fixture
def mark(tmp_path):
    """The file that a bomb touches; the bomb works, so its absence means something."""
    mark = tmp_path / "exploded"
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()
    mark.unlink()
    return mark


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Run the command line in this process; it must end with one clear line and leave no file outside its folders."""
    here = tmp_path / "deep" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["harness", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        err = capsys.readouterr().err
        assert end.value.code == 2
        assert err.startswith("error: ")
        assert "Traceback" not in err
        assert [p for p in tmp_path.rglob("*") if p.is_file() and not p.is_relative_to(here)] == []
        return err

    return call


# Markup


@pytest.fixture(scope="module")
def study(cli, short):
    """A study whose tricks, summaries, loss terms, reasons and question are markup."""
    (cli.folder / "evil.py").write_text(PLUGIN)
    toml = find_experiment("digits").read_text()
    evil = toml.replace('question = "', 'question = "</script><script>alert(4)</script><img src=x onerror=alert(5)>')
    assert evil != toml
    (cli.folder / "evil.toml").write_text(evil)
    names = ("<script>alert(1)</script>", "reason")
    before = {p.name for p in cli.folder.iterdir()}
    options = ("-e", "evil.toml", "--plugin", "evil.py", "--seeds", 2, "--workers", 1, "--json")
    done = cli.here("ablate", *names, *options, *short)
    assert done.returncode == 0, done.stderr
    made = {p.name for p in cli.folder.iterdir()} - before
    assert made <= {"results", "reports", "evil.ran", "__pycache__"}
    return json.loads(done.stdout)["study"]


def test_markup_in_names_reasons_and_questions_is_shown_as_text(cli, study):
    page = cli.folder / "reports" / f"{study}.html"

    assert "&lt;script&gt;alert(1)&lt;" in page.read_text()
    assert_harmless(page)


def test_markup_in_names_is_no_part_of_a_file_name(cli, study):
    assert (cli.folder / "results" / study).is_dir()
    made = [p for top in ("results", "reports") for p in (cli.folder / top).rglob("*")]
    assert [p for p in made if set(p.name) & set("<>()")] == []


def test_a_trick_named_like_a_path_stays_inside(cli, short):
    (cli.folder / "evil.py").write_text(PLUGIN)
    before, own = set(cli.folder.parent.iterdir()), set(cli.folder.iterdir())  # other tests have been here
    out = cli.here("ablate", "../../x", "--plugin", "evil.py", "--seeds", 1, *short)

    assert out.returncode == 2
    assert out.stderr.startswith("error: ")
    assert set(cli.folder.parent.iterdir()) == before
    new = {p.name for p in cli.folder.iterdir() if p.is_dir() and p not in own}
    assert new <= {"results", "reports", "__pycache__"}


def test_class_folders_named_like_markup_are_only_names(cli):
    classes = ("<img src=x onerror=alert(1)>", "..x", "'; DROP TABLE runs")
    for split in ("train", "val"):
        for i, name in enumerate(classes):
            folder = cli.folder / "data" / "<b>set" / split / name
            folder.mkdir(parents=True)
            for j in range(8):
                Image.new("RGB", (8, 8), (60 * i, 20 * j, 0)).save(folder / f"{j}.png")
            (folder / "<script>alert(6)<.txt").write_text("no image")
    settings = (
        "data.root=<b>set", "data.image_size=8", "data.val_size=6", "model.name=digits_resnet", "recipe.epochs=1",
        "recipe.batch_size=8", "recipe.precision=fp32",
    )  # fmt: skip
    words = ["--workers", 1, *(word for text in settings for word in ("--set", text))]
    out = cli.here("ablate", "mixup", "-e", "imagenette", "--data-root", "data", "--seeds", 1, "--name", "set", *words)

    assert out.returncode == 0, out.stderr
    assert_harmless(cli.folder / "reports" / "set.html")


# Paths


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "/tmp/x", ".hidden", "-x", "a\\b", "x" * 101, "é", "a\nb"])
def test_study_names_that_are_paths_are_refused(refused, name):
    assert "study name" in refused("ablate", "mixup", f"--name={name}")


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "<script>"])
def test_experiment_names_that_are_paths_are_refused(refused, name):
    assert "experiment.name" in refused("ablate", "mixup", "--set", f"experiment.name={name}")


def test_only_studies_of_the_results_folder_are_reported(cli, study):
    shutil.copytree(cli.folder / "results" / study, cli.folder / "outside")
    out = cli.here("report", "../outside")

    assert out.returncode == 2
    assert "unknown study '../outside'" in out.stderr


def test_a_foreign_manifest_cannot_choose_where_its_page_is_written(cli, study):
    """Results may come from somebody else."""
    foreign = cli.folder / "foreign" / "theirs"
    shutil.copytree(cli.folder / "results" / study, foreign)
    manifest = json.loads((foreign / "study.json").read_text())
    (foreign / "study.json").write_text(json.dumps(manifest | {"study": "../escaped"}))
    out = cli.here("report", "--results", "foreign", "--reports", "pages")

    assert "Traceback" not in out.stderr
    assert list(cli.folder.rglob("escaped*")) == []


# Code


def test_pickles_among_the_rows_are_named_and_not_loaded(cli, study, mark):
    poisoned = cli.folder / "poisoned" / study
    shutil.copytree(cli.folder / "results" / study, poisoned)
    for kind in ("runs", "curves", "predictions"):
        (poisoned / kind / "bomb.parquet").write_bytes(pickle.dumps(Bomb(mark)))
        (poisoned / kind / "bomb.pkl").write_bytes(pickle.dumps(Bomb(mark)))
    out = cli.here("report", "--results", "poisoned", "--reports", "poisoned-pages")

    assert out.returncode == 0, out.stderr
    assert not mark.exists()
    assert "bomb.parquet" in (cli.folder / "poisoned-pages" / f"{study}.html").read_text()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", [torch.save, pickle.dump])
def test_stages_and_checkpoints_with_code_are_not_run(save, tmp_path, mark):
    spec = tiny_spec(registry.make("knowledge_distillation"), epochs=2)
    (teacher,) = needs_of(spec)
    place = Place(data_root=tmp_path, stages_dir=tmp_path / "stages", checkpoint_dir=tmp_path / "checkpoints")
    stage = path_of(place.name(teacher), place)
    for path in (stage, checkpoint.path_of(teacher, place)):
        path.parent.mkdir()
        with path.open("wb") as file:
            save(Bomb(mark), file)

    assert execute(teacher, "security", place).row["status"] == "ok"
    row = execute(spec, "security", place).row
    assert (row["status"], row["reason"].split(" (")[0]) == ("failed", f"{stage} is damaged")
    assert not mark.exists()


def test_a_foreign_cifar_file_is_not_run(tmp_path, mark):
    """The data set is distributed as pickles, so anything but the original bytes is refused."""
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in ("batches.meta", "test_batch", *(f"data_batch_{i}" for i in range(1, 6))):
        (folder / name).write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(UserError, match="damaged"):
        load_source(Data(name="cifar10", val_size=10), tmp_path / "data")

    assert not mark.exists()


def test_a_plugin_runs_only_when_it_is_named(cli, short):
    folder = cli.folder / "plugins"
    folder.mkdir()
    for place in ("evil.py", "tricks.py", "harness_plugin.py", "results/x/evil.py"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(PLUGIN)
    inside = type(cli)(folder)
    assert inside.here("tricks", "--json").returncode == 0
    assert inside("plan", "mixup", *short).returncode == 0
    assert list(folder.rglob("*.ran")) == []

    named = inside.here("tricks", "--plugin", "evil.py", "--html", "cards.html", "--json")
    assert_harmless(folder / "cards.html")
    assert "<script>alert(1)</script>" in named.stdout
    assert [p.name for p in folder.rglob("*.ran")] == ["evil.ran"]
