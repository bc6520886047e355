"""Networks of the user's, of torchvision, and pretrained ones."""

import json

import pytest
import torch
import torchvision
from torch import nn

from harness import plugins
from harness.errors import UserError
from harness.experiment import Model
from harness.models.build import build, example_of
from harness.models.pretrained import weights_digest
from harness.testing import tiny_run, tiny_spec
from harness.training.session import baseline_groups
from harness.tricks import needs

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, channels, size, width=4):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.more = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.more(self.norm(self.conv(x))).mean((2, 3)))
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    monkeypatch.setattr(plugins, "_files", {})
    monkeypatch.chdir(tmp_path)


def made(text, name="mine.py:Net", data=None, **args):
    with open("mine.py", "w") as file:
        file.write(text)
    plugins._files.clear()
    return build(Model(name=name, args=args), data or example_of(channels=1, size=8), 0)


def test_an_own_network_is_called_with_the_data_and_its_last_layer_and_stages_are_found():
    net = made(NET, width=6)

    assert net.head_path == "head"
    assert net.stages == ("conv", "more")
    assert net.head.in_features == 6
    assert net(torch.rand(3, 1, 8, 8)).shape == (3, 10)
    assert net.training


def test_the_weights_come_from_the_seed_alone():
    first = made(NET)
    torch.rand(3)
    second = made(NET)

    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = build(Model(name="mine.py:Net"), example_of(channels=1, size=8), 1)
    assert not torch.equal(other.head.weight, first.head.weight)


def test_stages_may_be_named_by_the_network():
    assert made(NET + "    stages = ('norm', 'more')\n").stages == ("norm", "more")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("self, classes, channels, size,", "self, classes, size,"), "unexpected keyword argument 'channels'"),
        (("nn.Linear(width, classes)", "nn.Linear(width, 3)"), r"a tensor of \(2, 3\) for 2 images"),
        (("return self.head(", "return 1 * self.head("), "no layer of it gives the logits"),
        (("return self.head(", "import torch; x = x + torch.rand_like(x); return self.head("), "other logits"),
        (("nn.Conv2d(channels", "nn.Conv2d(7"), r"fails on images of shape \(2, 1, 8, 8\).*mine.py, line 13"),
        (("class Net(nn.Module)", "class Nett(nn.Module)"), "defines no Net; did you mean 'Nett'"),
    ],
)
def test_what_no_run_could_use_is_refused_with_the_rule(change, said):
    with pytest.raises(UserError, match=said) as error:
        made(NET.replace(*change))

    assert "mine.py" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_and_a_name_that_is_no_name():
    with pytest.raises(UserError, match=r"no file gone.py.*--plugin"):
        build(Model(name="gone.py:Net"), example_of(1, 8), 0)
    with pytest.raises(UserError, match=r"mine.py:Net"):
        build(Model(name="nothing"), example_of(1, 8), 0)


def test_another_source_is_another_run_and_none_of_ours_changes():
    made(NET)
    spec = tiny_spec().model_copy(update={"model": Model(name="mine.py:Net")})
    before = needs.identify(spec, "images")
    assert dict(before.sources).keys() == {"mine.py:Net"}

    made(NET.replace("padding=1", "padding=2"))
    assert needs.identify(spec, "images").short != before.short
    assert json.loads(needs.identify(tiny_spec(), "images").json) == {"data": "images", "numbers": before.numbers}


def test_plug_ins_of_one_name_cannot_be_told_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(NET)

    assert plugins.files_of(["a/mine.py:Net", "resnet8"], "", ()) == (plugins.Path("a/mine.py"),)
    assert plugins.files_of(["mine.py:Net"], "b/study.toml", ()) == (plugins.Path("b/mine.py"),)
    with pytest.raises(UserError, match="have one name"):
        plugins.files_of(["a/mine.py:Net", "b/mine.py:Net"], "", ())


@pytest.fixture
def cached(monkeypatch, tmp_path):
    """The file that torchvision would fetch, made here."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = torchvision.models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    torch.manual_seed(5)
    net = torchvision.models.resnet18()
    path = tmp_path / "hub" / "checkpoints" / name
    path.parent.mkdir(parents=True)
    torch.save(net.state_dict(), path)
    return net, path


def test_pretrained_weights_of_torchvision_with_a_new_last_layer(cached):
    theirs, path = cached
    model = Model(name="torchvision/resnet18", pretrained=True)
    net = build(model, example_of(3, 32), 0)

    assert torch.equal(net.net.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)
    assert net.head.weight.shape == (10, 512)
    assert net.normalize.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert net.stages == ("conv1", "layer1", "layer2", "layer3", "layer4")
    grey = build(model, example_of(1, 32), 0)
    assert torch.allclose(grey.net.conv1.weight, theirs.conv1.weight.sum(1, keepdim=True))
    assert torch.equal(grey.net.fc.weight, build(model, example_of(1, 32), 0).net.fc.weight)

    first = weights_digest(model)
    path.write_bytes(path.read_bytes() + b"0")
    assert weights_digest(model) != first


def test_weights_that_cannot_be_fetched_are_expected_somewhere(monkeypatch, tmp_path):
    def offline(*_args, **_options):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError, match=r"resnet18-\w+\.pth and cannot be fetched.*no network.*TORCH_HOME"):
        weights_digest(Model(name="torchvision/resnet18", pretrained=True))

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_a, **_k: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(UserError, match=r"timm/resnet18.*models--timm--resnet18.*no network.*HF_HOME"):
        weights_digest(Model(name="timm/resnet18", pretrained=True))


def test_pretrained_weights_of_timm_come_from_the_cached_file(monkeypatch, tmp_path):
    import timm

    theirs = timm.create_model("resnet18", pretrained=False)
    path = tmp_path / "pytorch_model.bin"
    torch.save(theirs.state_dict(), path)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_a, **_k: str(path))
    net = build(Model(name="timm/resnet18", pretrained=True), example_of(3, 32), 0)

    assert torch.equal(net.net.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)
    assert net.head.weight.shape == (10, 512)
    assert net.normalize.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])


def test_only_libraries_have_pretrained_weights():
    with pytest.raises(ValueError, match="for networks of timm and torchvision"):
        Model(name="resnet8", pretrained=True)


def test_networks_of_torchvision_take_the_channels_and_are_plain():
    net = build(Model(name="torchvision/convnext_tiny"), example_of(1, 32), 0)

    assert net(torch.rand(2, 1, 32, 32)).shape == (2, 10)
    assert any("drop path" in what for what in net.builtin.off)
    assert any("layer scale" in what for what in net.builtin.off)
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        build(Model(name="torchvision/resnt18"), example_of(1, 32), 0)
    assert isinstance(build(Model(name="torchvision/googlenet"), example_of(3, 64), 0).head, nn.Linear)


def test_the_last_layer_may_have_a_rate_of_its_own():
    run = tiny_run(head_lr=0.5)
    body, head = baseline_groups(run)

    assert head["lr"] == 0.5
    assert {id(p) for p in head["params"]} == {id(p) for p in run.model.head.parameters()}
    assert len(body["params"]) + len(head["params"]) == len(list(run.model.parameters()))
    assert len(baseline_groups(tiny_run())) == 1


def test_a_study_of_an_own_network_beside_its_experiment_file(tmp_path, capsys):
    import sys
    from unittest.mock import patch

    from harness.cli import main

    (tmp_path / "set-up").mkdir()
    (tmp_path / "set-up" / "mine.py").write_text(NET)
    (tmp_path / "set-up" / "mine.toml").write_text(STUDY)
    words = ["harness", "ablate", "label_smoothing", "-e", "set-up/mine.toml", "--seeds", "2", "--workers", "1"]
    words += ["--results", "r", "--reports", "p"]
    with patch.object(sys, "argv", words), pytest.raises(SystemExit) as end:
        main()

    assert end.value.code in (0, None, 1), capsys.readouterr()
    from harness.store.reader import read_kind, read_manifest

    (folder,) = [p for p in (tmp_path / "r").iterdir() if (p / "study.json").exists()]
    manifest = read_manifest(folder)
    runs, _, _ = read_kind(folder, "runs", manifest.runs)
    assert [str(status) for status in runs["status"]] == ["ok"] * 4
    assert all("mine.py:Net" in str(text) for text in runs["identity_json"])


STUDY = """
[experiment]
name = "mine"
[data]
name = "digits"
train_size = 40
val_size = 40
test_size = 100
[model]
name = "mine.py:Net"
[recipe]
epochs = 2
batch_size = 8
lr = 0.05
head_lr = 0.1
"""
