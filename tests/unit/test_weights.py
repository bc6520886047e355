"""Networks that start from a file: what is taken over, what is drawn, what is refused, and what the key says."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from pydantic import ValidationError

from harness.errors import UserError
from harness.experiment import Model, load_experiment
from harness.models.build import build, example_of
from harness.models.pretrained import weights_digest
from harness.models.weights import start_from
from harness.study.kinds import notes_of, scope_of
from harness.study.publish import _check_root
from harness.testing import tiny_spec
from harness.training.execute import execute
from harness.training.place import Place
from harness.training.stages import packed
from harness.tricks import registry

MODEL = Model(name="digits_resnet", width=4)
DATA = example_of(channels=1, size=8)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def net_of(seed=5, classes=10, width=4):
    data = DATA._replace(classes=tuple(map(str, range(classes))), mean=(0.3,), std=(0.2,))
    return build(MODEL.model_copy(update={"width": width}), data, seed)


def written(state, name="w.safetensors"):
    safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, name)
    return MODEL.model_copy(update={"weights": name})


def unequal(a, b, but=("none",)):
    return [n for n, v in a.state_dict().items() if not n.startswith(but) and not torch.equal(v, b.state_dict()[n])]


def test_a_network_starts_from_its_file_whatever_the_seed():
    trained = net_of()
    model = written(trained.state_dict())

    for seed in (0, 1):
        assert unequal(build(model, DATA, seed), trained) == [], "with the normalisation that it was trained with"
    assert unequal(build(MODEL, DATA, 0), trained) != []


def test_names_of_the_network_alone_serve_too_and_pixels_are_normalised_by_the_data():
    trained = net_of()
    model = written(trained.net.state_dict())
    started = build(model, DATA, 0)

    assert unequal(started, trained, but=("normalize",)) == []
    assert started.normalize.mean.item() == DATA.mean[0]


def test_what_a_run_leaves_for_others_serves_too():
    first, last = net_of(1), net_of(2)
    Path("stage.safetensors").write_bytes(packed([first, last], {}))

    assert unequal(build(MODEL.model_copy(update={"weights": "stage.safetensors"}), DATA, 0), last) == []


def test_a_last_layer_of_other_classes_is_drawn():
    other = net_of(classes=4)
    model, drawn = written(other.state_dict()), build(MODEL, DATA, 3)
    started = build(model, DATA, 3)

    assert unequal(started, other, but=("net.head",)) == []
    assert torch.equal(started.head.weight, drawn.head.weight)
    assert torch.equal(started.head.bias, drawn.head.bias)
    assert not start_from(net_of(), Path(model.weights), "w")
    assert start_from(net_of(classes=4), Path(model.weights), "w")


def test_what_does_not_fit_is_named():
    model = written(net_of(width=8).state_dict())
    shapes = r"is \(8, 1, 3, 3\) there and \(4, 1, 3, 3\) here; .* and \d+ more"
    with pytest.raises(UserError, match=rf"model.weights = 'w.safetensors' does not fit the network: .* {shapes}"):
        build(model, DATA, 0)
    state = net_of().state_dict()
    gone = next(name for name in state if name.startswith("net."))
    model = written({"more": torch.zeros(1)} | {n: v for n, v in state.items() if n != gone})
    with pytest.raises(UserError, match=f"it lacks {gone.removeprefix('net.')}; it has more, which the network has no"):
        build(model, DATA, 0)


def test_what_is_no_file_is_named():
    model = MODEL.model_copy(update={"weights": "w.safetensors"})
    with pytest.raises(UserError, match=r"model.weights = 'w.safetensors': there is no such file in "):
        weights_digest(model)
    Path("w.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"model.weights = 'w.safetensors' cannot be read as safetensors"):
        build(model, DATA, 0)


@pytest.mark.parametrize("more", [{"weights": "w.pt"}, {"weights": "w.safetensors", "pretrained": True}])
def test_what_no_model_has(more):
    with pytest.raises(ValidationError, match=r"is a file of safetensors|both say"):
        Model.model_validate({"name": "timm/resnet18", **more})


def test_the_content_of_the_file_is_part_of_what_the_run_belongs_to():
    model = written(net_of(1).state_dict())
    one = registry.identity_of((), model, "images")
    written(net_of(2).state_dict(), "other.safetensors")
    Path("other.safetensors").replace("w.safetensors")
    other = registry.identity_of((), model, "images")

    assert len(one.weights) == 16
    assert one.weights != other.weights
    assert registry.identity_of((), MODEL, "images").weights == ""


def test_a_run_starts_from_its_file(tmp_path):
    """At a rate of almost nothing it predicts the same with every seed's own initial weights."""
    model = written(net_of(7).state_dict())
    spec = tiny_spec(lr=1e-12, epochs=1)
    done = [execute(spec.model_copy(update={"model": m}), "test", Place(tmp_path)) for m in (model, MODEL)]
    rows = [result.row for result in done]

    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert json.loads(rows[0]["identity_json"])["weights"] == weights_digest(model)
    assert rows[0]["test_digest"] != rows[1]["test_digest"]
    assert rows[0]["run_id"] != rows[1]["run_id"]


def test_where_a_study_starts_is_said():
    written(net_of().state_dict())
    loaded = load_experiment("digits", {"model": {"width": 4, "weights": "w.safetensors"}})
    digest = weights_digest(loaded.model)

    assert scope_of(loaded).endswith("digits_resnet width 4 from w.safetensors, 80 epochs")
    assert f"start from w.safetensors (sha256 {digest}...)" in notes_of(loaded)[0]
    assert notes_of(load_experiment("digits")) == []


def test_no_folder_of_weights_is_published():
    with pytest.raises(UserError, match=r"model.weights = /home/me/w.safetensors: the study would be published"):
        _check_root([json.dumps({"data": {}, "model": {"weights": "/home/me/w.safetensors"}})])
    _check_root([json.dumps({"data": {}, "model": {"weights": "w.safetensors"}})])
