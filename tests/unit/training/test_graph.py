"""Captured steps, on a tape instead of a GPU. That a trick's step may be captured is part of its conformance."""

from itertools import chain, pairwise
from pathlib import Path

import pytest
import torch

from harness.experiment import Arm
from harness.testing import tape, tiny_batch, tiny_run, tiny_spec
from harness.training import checkpoint, graph
from harness.training import session as session_module
from harness.training.execute import execute
from harness.training.graph import GraphedStep, graphed, reason_against
from harness.training.loop import Clock, train
from harness.training.place import Place
from harness.training.session import Session, set_up
from harness.tricks import registry

PLACE = Place(data_root=Path("unused"))

EXACT = {"schedule": "constant", "lr": 0.0625}
"""Rates that are float32 numbers, so that reading them on the device changes no bit."""


def session_of(tricks=None, **recipe):
    arm = Arm(tricks=tuple(registry.make(name, params).spec() for name, params in (tricks or {}).items()))
    return set_up(tiny_spec(**recipe).model_copy(update={"arm": arm}), PLACE)


def trained(s, step):
    curves = list(chain(*train(s.run, s.stack, s.loader, step, s.lr_factors, dict, Clock())))
    return curves, [t.tolist() for t in s.run.model.state_dict().values()]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_replayed_sgd_step_gives_the_bits_of_the_usual_one(momentum):
    one, other = (session_of(momentum=momentum, nesterov=momentum > 0, **EXACT) for _ in range(2))
    step = graphed(other.step, other.run, other.stack, other.amp, tape)

    assert trained(one, one.step) == trained(other, step)
    assert step.replays == one.run.total_steps - graph.WARM_UP


def test_each_step_reads_its_own_rate():
    s = session_of(lr=0.1)
    step = graphed(s.step, s.run, s.stack, s.amp, tape)
    s.lr_factors[graph.WARM_UP + 2 :] = [0.0] * (len(s.lr_factors) - graph.WARM_UP - 2)
    weights = []

    def watched(batch):
        loss = step(batch)
        weights.append([p.detach().clone() for p in s.run.model.parameters()])
        return loss

    trained(s, watched)

    moved = [any(not torch.equal(a, b) for a, b in zip(*two, strict=True)) for two in pairwise(weights)]
    assert moved == [True] * (graph.WARM_UP + 1) + [False] * (len(moved) - graph.WARM_UP - 1)


def test_what_tricks_log_in_a_step_is_logged_at_every_step():
    tricks, recipe = {"r_drop": {}, "dropout": {"p": 0.3}, "flooding": {"b": 0.5}}, EXACT
    one, other = session_of(tricks, **recipe), session_of(tricks, **recipe)
    step = graphed(other.step, other.run, other.stack, other.amp, tape)

    curves, weights = trained(one, one.step)
    assert (curves, weights) == trained(other, step)
    assert {"loss", "loss/flooding.raw", "loss/r_drop.kl"} <= {p.metric for p in curves}
    assert step.replays > 0


def quadratic(run):
    """A step on a run of one's own that counts how often Python went through it."""
    calls = []

    def step(batch):
        calls.append(tuple(batch.x.shape))
        run.optimizer.zero_grad()
        loss = run.model(batch.x).square().mean()
        loss.backward()
        run.optimizer.step()
        return loss

    return step, calls


def fused_run():
    run = tiny_run()
    run.optimizer = torch.optim.SGD(run.model.parameters(), lr=0.01, fused=True)
    return run


def test_batches_of_another_shape_are_captured_apart():
    run = fused_run()
    step, calls = quadratic(run)
    graphed_step = GraphedStep(step, run, capture=tape)
    small, large = tiny_batch(4), tiny_batch(8)

    for _ in range(graph.WARM_UP + 3):
        graphed_step(small)
        graphed_step(large)

    assert len(calls) == 2 * (graph.WARM_UP + 1), "some plain steps and one capture for each shape"
    assert graphed_step.replays == 2 * 3


def test_a_new_epoch_is_captured_anew_where_tricks_act_between_epochs():
    run = fused_run()
    step, calls = quadratic(run)
    graphed_step = GraphedStep(step, run, each_epoch=True, capture=tape)
    for epoch in range(2):
        run.epoch = epoch
        for _ in range(graph.WARM_UP + 2):
            graphed_step(tiny_batch(4))

    assert len(calls) == 2 * (graph.WARM_UP + 1)


def test_steps_stay_plain_after_a_capture_that_failed():
    run = fused_run()
    step, calls = quadratic(run)

    def refuse(work, generators):
        raise RuntimeError("operation not permitted when stream is capturing")

    graphed_step = GraphedStep(step, run, capture=refuse)
    for _ in range(graph.WARM_UP + 5):
        graphed_step(tiny_batch(4))

    assert "not permitted" in graphed_step.refused
    assert len(calls) == graph.WARM_UP + 5
    assert graphed_step.replays == 0


@pytest.mark.parametrize(
    ("tricks", "recipe", "why"),
    [
        ({"center_loss": {}}, {}, "center_loss: its centers"),
        ({"adabound": {}}, {}, "reads its learning rate on the host"),
        ({"mixed_precision": {"dtype": "fp16"}}, {}, "float16"),
        ({}, {}, ""),
        ({"adamw": {}, "ema": {}, "mixup": {}}, {}, ""),
        ({}, {"precision": "bf16"}, ""),
    ],
)
def test_a_run_that_cannot_be_captured_says_why(tricks, recipe, why):
    s = session_of(tricks, **recipe)
    reason = reason_against(s.run, s.stack, s.amp)

    assert reason.startswith(why) or why in reason
    assert bool(reason) == bool(why)
    assert (graphed(s.step, s.run, s.stack, s.amp, tape) is s.step) == bool(why)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_resumed_run_of_captured_steps_is_bit_identical(optimizer, tmp_path, monkeypatch):
    spec = tiny_spec(epochs=6, evaluations=6, optimizer=optimizer, lr=0.01)
    made = []

    def on_tape(step, run, stack, amp):
        made.append(graphed(step, run, stack, amp, tape))
        return made[-1]

    monkeypatch.setattr(session_module, "graphed", on_tape)
    place = Place(PLACE.data_root, cuda_graphs=True, checkpoint_dir=tmp_path, checkpoint_seconds=0.0)
    undisturbed = execute(spec, "test", place)
    checkpoint.path_of(spec, place).unlink()
    validate, calls = Session.validate, []

    def stop_in_the_fourth_epoch(self):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return validate(self)

    monkeypatch.setattr(Session, "validate", stop_in_the_fourth_epoch)
    with pytest.raises(KeyboardInterrupt):
        execute(spec, "test", place)
    resumed = execute(spec, "test", place)

    assert undisturbed.row["status"] == "ok", undisturbed.row["reason"]
    assert resumed.points == undisturbed.points
    assert resumed.row["test_digest"] == undisturbed.row["test_digest"]
    assert [step.replays for step in made] == [30 - graph.WARM_UP, 20 - graph.WARM_UP, 15 - graph.WARM_UP]


def test_captured_runs_are_compared_among_themselves():
    spec = tiny_spec()
    plain, captured = PLACE, Place(PLACE.data_root, cuda_graphs=True)

    assert plain.fingerprint(spec)["fingerprint"] != captured.fingerprint(spec)["fingerprint"]
    assert "cuda_graphs" not in plain.fingerprint(spec)["fingerprint_json"]


def test_an_optimizer_that_can_count_on_the_device_is_told_to():
    s = session_of({"adamw": {}})
    step = graphed(s.step, s.run, s.stack, s.amp, tape)
    assert not any(group["capturable"] for group in s.run.optimizer.param_groups)
    trained(s, step)

    assert all(group["capturable"] for group in s.run.optimizer.param_groups)
    assert all(isinstance(group["lr"], torch.Tensor) for group in s.run.optimizer.param_groups)
