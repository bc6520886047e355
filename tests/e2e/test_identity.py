"""No number is about anything but what was asked: other images, other code, another study, another command."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from harness.store.reader import read_kind, read_manifest, read_study

TINY = (
    "data.image_size=16", "data.val_size=6", "model.name=resnet8", "model.width=16", "recipe.epochs=2",
    "recipe.batch_size=8", "recipe.precision=fp32",
)  # fmt: skip
OPTIONS = (
    "-e",
    "imagenette",
    "--seeds",
    2,
    "--workers",
    1,
    "--no-probe",
    *(w for text in TINY for w in ("--set", text)),
)


def make_images(root, seed, classes=("a", "b", "c")):
    """Class folders of noise whose mean tells the class; other seeds, other images under the same names."""
    draw = np.random.default_rng(seed)
    for k, name in enumerate(classes):
        for split, n in (("train", 12), ("val", 4)):
            folder = root / "imagenette2" / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(n):
                pixels = draw.integers(60 * k, 60 * k + 120, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.bmp")  # files of one size, whatever they show
    return root


@pytest.fixture(scope="module")
def folders(cli):
    """Images A and B of the same names, and a study of A."""
    a, b = (make_images(cli.folder / name, seed) for name, seed in (("A", 0), ("B", 1)))
    done = cli("ablate", "label_smoothing", "--data-root", a, *OPTIONS)
    assert done.returncode == 0, done.stderr
    return a, b


def to_train(cli, *arguments):
    """How many runs a plan would train, and what it says beside."""
    done = cli.here("plan", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    return facts["missing"], " ".join(done.stderr.split())


def test_runs_on_other_images_are_neither_taken_nor_paired(cli, folders):
    a, b = folders
    done = cli("ablate", "erm_baseline", "--data-root", b, *OPTIONS, "--json")
    assert done.returncode == 0, done.stderr
    (effect,) = json.loads(done.stdout)["effects"]
    digests = {read_manifest(f.parent).data for f in (cli.folder / "results").glob("*/study.json")}

    assert "2 stored runs are of other images (" in done.stderr
    assert "4 runs, 0 done already, 4 to train" in done.stderr
    assert (effect["mean"], effect["n"]) == (0, 2), "what is the baseline differs in nothing from its own baseline"
    assert len(digests) == 2
    assert to_train(cli, "label_smoothing", "erm_baseline", "--data-root", a, *OPTIONS)[0] == 2, "A has its own still"
    assert to_train(cli, "label_smoothing", "erm_baseline", "--data-root", b, *OPTIONS)[0] == 2


def test_one_study_of_two_folders_is_two_studies_and_a_chosen_name_is_one(cli, folders):
    a, b = folders
    before = read_study(cli.folder / "results" / "imagenette-label_smoothing".replace("_", "-")).runs
    done = cli.here("ablate", "label_smoothing", "--data-root", b, *OPTIONS, "--name", "imagenette-label-smoothing")

    assert done.returncode == 2
    assert "asks something else (images was" in done.stderr
    assert "--name" in done.stderr
    other = cli("ablate", "label_smoothing", "--data-root", b, *OPTIONS)
    assert other.returncode == 0, other.stderr
    again = cli.here("ablate", "label_smoothing", "--data-root", a, *OPTIONS)
    studies = sorted((cli.folder / "results").glob("imagenette-label-smoothing*"))

    assert "all 4 runs are done already" in again.stderr
    assert len(studies) == 2
    assert before.equals(read_study(studies[0]).runs), "the first is as it was"
    assert not set(read_study(studies[0]).runs["identity"]) & set(read_study(studies[1]).runs["identity"])


@pytest.mark.parametrize("change", ["pixels", "a class more", "a label"])
def test_a_folder_that_changed_has_no_stored_runs(cli, folders, tmp_path, change):
    a, _ = folders
    copy = tmp_path / "copy"
    shutil.copytree(a, copy)
    train = copy / "imagenette2" / "train"
    same, _ = to_train(cli, "label_smoothing", "--data-root", copy, *OPTIONS)
    if change == "pixels":
        make_images(copy, seed=2)
    elif change == "a class more":
        make_images(copy, seed=3, classes=("d",))
    else:
        (train / "a" / "0.bmp").rename(train / "b" / "12.bmp")
    missing, said = to_train(cli, "label_smoothing", "--data-root", copy, *OPTIONS)

    assert same == 0, "the same bytes elsewhere are the same images"
    assert missing == 4
    assert "4 stored runs are of other images (" in said


PLUGIN = """
from dataclasses import replace
from typing import ClassVar
from harness.tricks.contract import Info, Trick

class Dimmed(Trick):
    info: ClassVar = Info(name="dimmed", family="m", summary="s", paper="p", formula="f", expect="e")

    def batch(self, batch, run):
        return replace(batch, x=batch.x * {factor})
"""


def test_an_edited_plug_in_is_another_trick_and_the_baseline_stays(cli, folders, tmp_path):
    a, _ = folders
    plugin = tmp_path / "dimmed.py"
    plugin.write_text(PLUGIN.format(factor=0.5))
    arguments = ("dimmed", "--data-root", a, *OPTIONS, "--plugin", plugin)
    done = cli("ablate", *arguments)
    assert done.returncode == 0, done.stderr
    assert to_train(cli, *arguments)[0] == 0
    plugin.write_text(PLUGIN.format(factor=0.0))
    missing, said = to_train(cli, *arguments)

    assert missing == 2
    assert "2 stored runs are of other code of dimmed: not used" in said


def test_the_call_with_nothing_left_to_do_imports_no_torch_and_opens_no_image(cli, folders):
    a, _ = folders
    script = (
        "import sys; opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "from harness.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = [m for m in ('torch', 'torchvision', 'timm', 'sklearn', 'PIL') if m in sys.modules]\n"
        "print(heavy, [p for p in opened if p.endswith(('.bmp', '.npy'))])"
    )
    command = [sys.executable, "-c", script, "ablate", "label_smoothing", "--data-root", str(a), *map(str, OPTIONS)]
    done = subprocess.run(command, cwd=cli.folder, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "all 4 runs are done already" in done.stderr
    assert done.stdout.splitlines()[-1] == "[] []"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda root: next((root / "runs").glob("*.parquet")).unlink(), id="rows"),
        pytest.param(lambda root: (root / "study.json").write_text("{}"), id="declaration"),
    ],
)
def test_what_was_answered_before_is_planned_anew_when_the_study_is_not_as_it_was(cli, folders, change):
    a, _ = folders
    name = "again"
    arguments = ("ablate", "label_smoothing", "--data-root", a, *OPTIONS, "--name", name)
    assert cli.here(*arguments).returncode == 0
    change(cli.folder / "results" / name)
    done = cli.here(*arguments)

    assert done.returncode == 0, done.stderr
    assert len(read_study(cli.folder / "results" / name).runs) == 4


def together(folder, *commands):
    """Commands that run at the same time: their exit codes and what they printed."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "harness", *map(str, command)],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for command in commands
    ]  # fmt: skip
    return [(p.communicate(), p.returncode) for p in processes]


def check_three_at_once(folder, options):
    """Two commands ask the same under one name, a third asks something else under it."""
    same = ("ablate", "label_smoothing", "--name", "x", *options)
    other = ("ablate", "cutout", "ema", "--name", "x", *options)
    ended = together(folder, same, same, other)
    codes = [code for _, code in ended]
    arms = {a.label for a in read_manifest(folder / "results" / "x").arms}
    rows, _, _ = read_kind(folder / "results" / "x", "runs")

    first = arms == {"baseline", "label_smoothing"}
    assert codes == ([0, 0, 2] if first else [2, 2, 0]), [err for (_, err), _ in ended]
    for (out, err), code in ended:
        if code:
            assert "study x in results asks something else (it has the arms" in err
            assert not out
    for (out, _), own in zip(ended, (["label_smoothing"], ["label_smoothing"], ["cutout", "ema"]), strict=True):
        told = [trick for trick in ("label_smoothing", "cutout", "ema") if f"on {trick} on" in out]
        assert told in ([], own)
    assert arms == ({"baseline", "label_smoothing"} if first else {"baseline", "cutout", "ema"})
    assert len(rows) == len(set(rows["run_id"].to_pylist())) == len(arms) * 2
    trained = [line for (_, err), _ in ended for line in err.splitlines() if line.startswith("  ")]
    assert len(trained) == len(arms) * 2, "no run is trained twice"


def test_three_commands_at_once_on_one_name(folders, tmp_path):
    a, _ = folders
    check_three_at_once(tmp_path, ("--data-root", a, *OPTIONS))


@pytest.mark.slow
@pytest.mark.parametrize("again", range(20))
def test_three_commands_at_once_on_one_name_again(folders, tmp_path, again):
    a, _ = folders
    check_three_at_once(tmp_path, ("--data-root", a, *OPTIONS))


def test_two_studies_at_once_train_what_they_share_once(folders, tmp_path):
    a, _ = folders
    options = ("--data-root", a, *OPTIONS)
    ended = together(tmp_path, ("ablate", "label_smoothing", *options), ("ablate", "ema", *options))
    trained = [line.split(":")[0] for (_, err), _ in ended for line in err.splitlines() if line.startswith("  ")]
    studies = [read_study(f.parent) for f in sorted((tmp_path / "results").glob("*/study.json"))]
    baselines = [s.runs[s.runs["arm"] == "baseline"].set_index("run_id") for s in studies]

    assert [code for _, code in ended] == [0, 0], ended
    assert len(trained) == 8
    assert baselines[0]["started"].sort_index().equals(baselines[1]["started"].sort_index()), "the same two runs"
