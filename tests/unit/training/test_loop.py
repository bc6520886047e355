"""The loop against a loop written by hand, and its determinism."""

import itertools
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from harness import rng
from harness.data.batches import Loader
from harness.data.sources import load_source
from harness.data.splits import split
from harness.experiment import Arm, Model
from harness.models.build import build
from harness.testing import tiny_batch, tiny_spec
from harness.training.execute import execute
from harness.training.loop import Clock, evaluation_epochs, train, verify
from harness.training.place import Place
from harness.training.session import set_up
from harness.tricks import registry

PLACE = Place(data_root=Path("unused"))


def spec_with(*names, seed=0, **recipe):
    arm = Arm(tricks=tuple(registry.make(n).spec() for n in names))
    return tiny_spec(seed=seed, **recipe).model_copy(update={"arm": arm})


def losses_of(spec, place=PLACE):
    s = set_up(spec, place)
    points = itertools.chain(*train(s.run, s.stack, s.loader, s.step, s.lr_factors, dict, Clock()))
    return [p.value for p in points if p.metric == "loss"], s.run.model


def hand_written(spec):
    """What a careful person would write for this recipe, with no harness loop and no hook."""
    data = split(load_source(spec.data, Path("unused")), spec.data, spec.seed)
    recipe = spec.recipe
    model = build(spec.model, data.info, spec.seed).to(memory_format=torch.channels_last)
    loader = Loader(
        data.train, recipe.augment, recipe.batch_size, torch.device("cpu"), 10,
        order=rng.torch_stream(spec.seed, "order"), augment_rng=rng.torch_stream(spec.seed, "augment"),
        channels_last=True,
    )  # fmt: skip
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=0.9,
        nesterov=True,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    means, step, steps = [], 0, loader.steps_per_epoch * recipe.epochs
    for _ in range(recipe.epochs):
        total = torch.zeros(())
        model.train()
        for batch in loader.epoch():
            optimizer.param_groups[0]["lr"] = recipe.lr * (0.1 ** ((step / steps >= 0.5) + (step / steps >= 0.75)))
            loss = -(batch.y * F.log_softmax(model(batch.x), -1)).sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
            step += 1
        means.append(float(total) / loader.steps_per_epoch)
    return means, model


def test_the_empty_arm_is_bit_identical_to_a_hand_written_loop():
    wide = tiny_spec(epochs=4, weight_decay=1e-3, channels_last=True)
    spec = wide.model_copy(update={"model": Model(name="digits_resnet", width=16)})  # see layout.layer_at_risk
    expected, by_hand = hand_written(spec)
    losses, model = losses_of(spec)

    assert losses == expected
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), by_hand.state_dict().values(), strict=True)
    )


def test_soft_targets_give_the_cross_entropy_of_torch():
    batch = tiny_batch(n=6)
    logits = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    from harness.tricks.functional import soft_cross_entropy

    torch.testing.assert_close(
        soft_cross_entropy(logits, batch.y), F.cross_entropy(logits, batch.label, reduction="none")
    )


def test_the_same_seed_twice_is_identical_and_another_seed_is_not():
    first, second, other = (execute(tiny_spec(seed=s), "test", PLACE) for s in (0, 0, 1))

    assert first.row["test_digest"] == second.row["test_digest"]
    assert first.points == second.points
    assert first.row["test_digest"] != other.row["test_digest"]


def test_all_orders_of_three_tricks_are_one_run():
    orders = list(itertools.permutations(("mixup", "label_smoothing", "lr_warmup")))
    specs = [spec_with(*order, epochs=6) for order in orders]

    assert len({s.run_id for s in specs}) == 1
    assert len({tuple(losses_of(s)[0]) for s in specs}) == 1


def test_switching_a_trick_on_leaves_order_and_augmentation_alone():
    def images(*names):
        session = set_up(spec_with(*names), PLACE)
        return [batch.index for batch in session.loader.epoch()], [batch.x for batch in session.loader.epoch()]

    for a, b in zip(images(), images("mixup"), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_initial_loss_is_that_of_chance():
    """An untrained net with a small head predicts about uniformly: the loss is near ln K."""
    session = set_up(tiny_spec(), PLACE)
    batch = next(iter(session.loader.epoch()))
    loss = F.cross_entropy(session.run.model(batch.x), batch.label)

    assert abs(float(loss.detach()) - 2.303) < 0.5


def test_a_loss_that_is_not_finite_ends_the_run_as_a_diverged_row():
    result = execute(tiny_spec(lr=1e30), "test", PLACE)

    assert result.row["status"] == "diverged"
    assert "training loss is" in result.row["reason"]
    assert result.row["run_id"] == tiny_spec(lr=1e30).run_id
    assert result.predictions is None


def test_evaluation_epochs_are_even_and_end_with_the_last():
    assert evaluation_epochs(10, 5) == {2, 4, 6, 8, 10}
    assert evaluation_epochs(3, 20) == {1, 2, 3}
    assert max(evaluation_epochs(7, 3)) == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: {"y": b.y * 2}, "sum to one"),
        (lambda b: {"y": b.y - 0.5}, "negative"),
        (lambda b: {"label": b.label + 1}, "batch.label"),
        (lambda b: {"index": b.index + 1}, "batch.index"),
        (lambda b: {"x": b.x[:3]}, "number"),
    ],
)
def test_broken_invariants_are_found(change, message):
    from dataclasses import replace

    batch = tiny_batch()
    with pytest.raises(AssertionError, match=message):
        verify(batch, replace(batch, **change(batch)))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_trains_to_about_the_same_loss(precision):
    full, _ = losses_of(tiny_spec(epochs=10))
    reduced, _ = losses_of(tiny_spec(epochs=10, precision=precision))

    assert reduced != full
    assert abs(reduced[-1] - full[-1]) < 0.3 * full[-1]


def test_a_timm_model_trains_through_the_same_loop():
    spec = tiny_spec(model="timm/resnet10t", epochs=1)
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"width": None})})
    row = execute(spec, "test", PLACE).row

    assert row["status"] == "ok", row["reason"]
    assert row["parameters"] > 4_000_000


def test_a_clock_that_jumps_back_leaves_durations_alone(monkeypatch):
    """Durations come from a monotonic clock; only the time stamps follow the wall clock."""
    from datetime import UTC, datetime, timedelta

    from harness.training import execute as module

    class Jumping:
        hours = 100

        @classmethod
        def now(cls, zone):
            cls.hours -= 10
            return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=cls.hours)

    monkeypatch.setattr(module, "datetime", Jumping)
    row = execute(tiny_spec(), "test", PLACE).row

    assert row["started"] > row["finished"]
    assert 0 < row["seconds_train"] <= row["seconds_total"] < 10 * 3600, "less than one jump"


@pytest.fixture
def compiler(monkeypatch):
    """The first half of torch.compile: Python is traced and guarded, and the operations stay what they were."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("names", [[], ["mixup", "dropout"], ["sam", "ema"]])
def test_compiling_before_the_first_step_leaves_no_trace(names, compiler):
    plain, compiled = (execute(spec_with(*names, compile=c), "test", PLACE) for c in (False, True))

    assert compiled.row["status"] == "ok", compiled.row["reason"]
    assert compiled.points == plain.points
    assert compiled.row["test_digest"] == plain.row["test_digest"]


def test_what_was_compiled_for_one_arm_is_not_taken_for_another_that_differs_in_hooks_alone(compiler):
    """A worker trains many arms, and the compiler remembers networks by what it was told to look at."""
    execute(spec_with(compile=True), "test", PLACE)
    hooked = execute(spec_with("center_loss", compile=True), "test", PLACE).row
    alone = execute(spec_with("center_loss"), "test", PLACE).row

    assert hooked["status"] == "ok", hooked["reason"]
    assert hooked["test_digest"] == alone["test_digest"]


def test_a_clock_starts_at_nothing_and_adds_up():
    assert Clock() == Clock(wall=0.0, cpu=0.0, steps=0)
    assert Clock(1.0, 2.0, 3) != Clock(1.0, 2.0, 4)
