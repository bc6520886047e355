"""Bad input ends with exit code 2 and one clear line for each thing wrong, never a traceback."""

import tempfile
from pathlib import Path

import pytest
import typer

from harness.cli import app, main
from harness.data.disk import data_root
from harness.version import __version__

CASES = {
    "unknown trick": (["ablate", "mixpu"], "unknown trick 'mixpu'; did you mean 'mixup'?"),
    "no trick": (["ablate"], "name at least one trick; `harness tricks` lists them"),
    "clash": (["ablate", "cutmix+mixup"], "cutmix + mixup: "),
    "unknown experiment": (["ablate", "mixup", "-e", "digts"], "did you mean 'digits'"),
    "missing file": (["ablate", "mixup", "-e", "none.toml"], "none.toml does not exist"),
    "broken TOML": (["ablate", "mixup", "-e", "broken.toml"], "broken.toml: not valid TOML"),
    "unknown key": (["ablate", "mixup", "--set", "recipe.epohcs=3"], "did you mean 'epochs'"),
    "negative epochs": (
        ["ablate", "mixup", "--set", "recipe.epochs=-1"],
        "error: --set recipe.epochs=-1: input should be",
    ),
    "bad hyperparameter": (
        ["ablate", "mixup", "--set", "mixup.alpha=-1"],
        "error: --set mixup.alpha=-1: input should be",
    ),
    "malformed set": (["ablate", "mixup", "--set", "alpha"], "write NAME.KEY=VALUE"),
    "no seeds": (["ablate", "mixup", "--seeds", "0"], "--seeds 0: a number of seeds from 1"),
    "seeds and looks": (["ablate", "mixup", "--seeds", "7", "--until-decided"], "--seeds 7 with --until-decided"),
    "budget for nothing": (["ablate", "mixup", "--budget", "5m"], "--budget 5m: it limits --seeds auto"),
    "limit of nothing": (["ablate", "mixup", "--max-seeds", "9"], "--max-seeds 9: it limits --seeds auto"),
    "unknown design": (["ablate", "mixup", "--design", "latin"], "unknown design 'latin'"),
    "unwritable results": (["ablate", "mixup", "--results", "broken.toml/x"], "broken.toml/x"),
    "missing data root": (["ablate", "mixup", "--data-root", "nowhere"], "nowhere: no such folder"),
    "no folder of images": (["ablate", "mixup", "-e", "imagenette"], "imagenette2"),
    "bad study name": (["ablate", "mixup", "--name", "../up"], "'../up'"),
    "no study": (["report"], "no study in results"),
    "unknown format": (["report", "--format", "docx"], "--format docx"),
    "a design is no trick": (["ablate", "early_stopping"], "'early_stopping' is no trick here (design)"),
    "unknown card": (["tricks", "mixpu"], "did you mean 'mixup'"),
    "a network is no trick": (["ablate", "resnet18"], "'resnet18' is a network and no trick"),
    "a library's network": (
        ["ablate", "mixup", "--set", "model.name=resnet50"],
        "did you mean 'torchvision/resnet50 or timm/resnet50'?",
    ),
    "nearly a network": (["ablate", "mixup", "--set", "model.name=resnt20"], "did you mean 'resnet20'?"),
    "nothing so cheap": (["tricks", "--kind", "fault", "--max-cost", "0.1"], "the cheapest of them takes"),
    "no card says so": (["tricks", "--search", "mixup zzz"], "no card has all of these words"),
    "unknown family": (["tricks", "--family", "none"], "no such family"),
    "run without tricks": (["run", "digits"], "names no tricks"),
    "unknown device": (["ablate", "mixup", "--device", "gpu0"], "--device gpu0: not a torch device"),
    "no device to train on": (["ablate", "mixup", "--device", "meta"], "--device meta: runs train on cpu or cuda"),
    "a second CPU": (["ablate", "mixup", "--device", "cpu:1"], "--device cpu:1: there is no such device"),
    "images too small": (
        ["ablate", "mixup", "--set", "model.name=timm/convnext_atto", "--set", "model.width=null"],
        "model.name = 'timm/convnext_atto' cannot take images of 8 x 8 pixels",
    ),
    "graphs on a CPU": (["ablate", "mixup", "--device", "cpu", "--cuda-graphs"], "--cuda-graphs with the device cpu"),
    "no worker": (["ablate", "mixup", "--workers", "0"], "--workers 0: a number of processes"),
    "endless margin": (["ablate", "mixup", "--margin", "inf"], "--margin inf: input should be a finite number"),
    "digits of another script": (["ablate", "mixup", "--seeds", "²"], "--seeds ²: a number of seeds from 1"),
    "workers of another script": (["ablate", "mixup", "--workers", "²"], "--workers ²: a number of processes"),
    "endless budget": (["ablate", "mixup", "--seeds", "auto", "--budget", "infm"], "--budget infm: write a number"),
    "two places for a value": (
        ["ablate", "mixup", "--set", "recipe.augment=1", "--set", "recipe.augment.flip=true"],
        "--set recipe.augment.flip=true: augment has another value",
    ),
    "reserved name": (["ablate", "mixup", "--name", "index"], "study name 'index': a page or a folder of ours has it"),
    "control character": (["ablate", "mix\x1bup"], "'mix\\x1bup': an argument may not hold control characters"),
    "unknown option": (["ablate", "mixup", "--sed", "1"], "No such option: --sed"),
    "no command": (["abalte"], "No such command 'abalte'"),
    "too much data": (["ablate", "mixup", "--set", "data.train_size=5000"], "5000"),
}


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Run the command line in this process, which has torch loaded already; returns exit code and stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.toml").write_text("[recipe\n")

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr().err

    return call


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_in_a_clear_line(case, here):
    arguments, expected = CASES[case]
    code, err = here(*arguments)

    assert code == 2
    assert expected in err
    assert all(line.startswith("error: ") for line in err.splitlines())


def test_debug_shows_the_traceback_too(here, monkeypatch):
    monkeypatch.setenv("HARNESS_DEBUG", "")  # so that it is put back
    code, err = here("--debug", "ablate", "mixpu")

    assert code == 2
    assert "Traceback (most recent call last):" in err
    assert err.splitlines()[-1].startswith("error: unknown trick 'mixpu'")


def test_a_fault_of_the_program_is_a_line_that_says_so(here, monkeypatch):
    monkeypatch.setattr("harness.tricks.registry.check", lambda name: {}[name])
    code, err = here("ablate", "mixup")

    assert code == 2
    assert err.startswith("error: KeyError: 'mixup' (test_errors.py:")
    assert "a fault of this program; `harness --debug ...` shows where" in err


def test_a_user_without_a_home_needs_none(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # which is what it does for such a user
    assert data_root() == Path(tempfile.gettempdir(), "harness")


def test_a_missing_data_set_names_the_file_and_the_offline_default(here, monkeypatch):
    for proxy in ("https_proxy", "http_proxy"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    code, err = here("ablate", "mixup", "-e", "cifar10-small")

    assert code == 2
    assert "cifar-10-batches-py" in err
    assert "digits" in err


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_trained(here, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert "--device cuda: this torch" in here("ablate", "mixup", "--device", "cuda")[1]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert "--device cuda:2: there is no such device; the last one is number 1" in here(
        "ablate", "mixup", "--device", "cuda:2"
    )[1]  # fmt: skip


@pytest.mark.parametrize("command", ["ablate", "plan", "run"])
def test_the_old_name_of_verify_works_and_says_the_new_one(command, capsys):
    parser = typer.main.get_command(app).commands[command]

    assert parser.make_context(command, ["digits", "--verify"]).params["verify"] is True
    assert capsys.readouterr().err == ""
    assert parser.make_context(command, ["digits", "--check"]).params["verify"] is True
    assert capsys.readouterr().err == "--check is now called --verify\n"


def test_the_version_is_said_and_help_alone_where_nothing_is_asked(cli):
    assert cli.here("--version").stdout == f"harness {__version__}\n"
    done = cli.here()
    assert (done.returncode, done.stderr) == (2, "")
    assert "Usage:" in done.stdout
