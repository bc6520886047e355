import copy

import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NoEffect, NotApplicable
from harness.tricks.efficiency.gradient_checkpointing import GradientCheckpointing
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.modules import DropInput, frozen_statistics


class TestGradientCheckpointing(TrickConformance):
    trick = GradientCheckpointing
    inert = True  # it saves memory and must change nothing else


class TestBlocks(TrickConformance):
    trick = GradientCheckpointing
    params = {"segments": "block"}  # noqa: RUF012
    inert = True


def pair(drop=False, **params):
    """A checkpointed run and a plain one with equal weights and, with `drop`, dropout inside a block."""
    runs = tiny_run(), tiny_run()
    for run in runs:
        if drop:
            run.model.stage("stage1")[0].conv2.register_forward_pre_hook(DropInput(0.5, run.rng("dropout"), False))
        run.model.double().train()
    runs[0].model = GradientCheckpointing(**params).model(runs[0].model, runs[0])
    return runs


def step(run, batch):
    loss = soft_cross_entropy(run.model(batch.x.double()), batch.y).mean()
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("segments", ["stage", "block"])
@pytest.mark.parametrize("drop", [False, True])
def test_loss_gradients_statistics_and_streams_are_equal_to_the_bit(segments, drop):
    run, plain = pair(drop, segments=segments)
    batch = tiny_batch()
    for _ in range(2):
        assert torch.equal(step(run, batch), step(plain, batch))
    for a, b in zip(run.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    for (name, a), (_, b) in zip(run.model.named_buffers(), plain.model.named_buffers(), strict=True):
        assert torch.equal(a, b), name
    assert int(run.model.net.stem[1].num_batches_tracked) == 2
    if drop:
        assert torch.equal(run.rng("dropout").get_state(), plain.rng("dropout").get_state())


@pytest.mark.parametrize(("segments", "passes"), [("stage", 2), ("block", 2)])
def test_segments_run_again_in_the_backward_pass_only(segments, passes):
    run, _ = pair(segments=segments)
    calls = []
    run.model.stage("stage2")[0].conv1.register_forward_hook(lambda *_: calls.append(1))
    loss = run.model(tiny_batch().x.double()).sum()
    assert len(calls) == 1
    loss.backward()
    assert len(calls) == passes
    with torch.no_grad():
        run.model(tiny_batch().x.double())
    assert len(calls) == passes + 1


def test_keeps_less_for_the_backward_pass():
    kept = []
    for run in pair():
        saved = {}

        def pack(tensor, saved=saved):
            saved[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run.model(tiny_batch().x.double())
        kept.append(sum(saved.values()))
    assert kept[0] < 0.5 * kept[1]


@pytest.mark.parametrize("backward_inside", [True, False])
def test_extra_passes_still_leave_statistics_alone(backward_inside):
    """Also when the first pass belongs to a term of the loss, whose backward pass comes later."""
    run, plain = pair()
    batch = tiny_batch()
    before = {k: v.clone() for k, v in run.model.named_buffers()}
    for r in (run, plain):
        with frozen_statistics(r.model):
            loss = r.model(batch.x.double()).square().mean()
            if backward_inside:
                loss.backward()
        if not backward_inside:
            loss.backward()
    assert all(torch.equal(v, before[k]) for k, v in run.model.named_buffers())
    for a, b in zip(run.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    step(run, batch)
    assert int(run.model.net.stem[1].num_batches_tracked) == 1
    assert run.model.net.stem[1].momentum == 0.1


def test_paths_hooks_and_copies_stay():
    run, plain = pair()
    assert list(run.model.state_dict()) == list(plain.model.state_dict())
    copied = copy.deepcopy(run.model)
    batch = tiny_batch()
    torch.testing.assert_close(copied(batch.x.double()), plain.model(batch.x.double()))
    copied(batch.x.double()).sum().backward()
    assert run.model.head.weight.grad is None


def test_refuses_what_it_cannot_do():
    run = tiny_run(compile=True)
    with pytest.raises(NotApplicable, match="compiler"):
        GradientCheckpointing().model(run.model, run)
    run = tiny_run()
    run.model.stages = ()
    with pytest.raises(NoEffect, match="nothing with weights"):
        GradientCheckpointing().model(run.model, run)
