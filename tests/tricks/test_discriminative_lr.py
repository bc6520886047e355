from itertools import pairwise

import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.training.session import baseline_optimizer
from harness.tricks.modules import parameters_by_depth, split_groups
from harness.tricks.transfer.discriminative_lr import DiscriminativeLr, parameters_by_layer


class TestDiscriminativeLr(TrickConformance):
    trick = DiscriminativeLr


def groups_of(run, **params):
    return DiscriminativeLr(**params).param_groups([{"params": list(run.model.parameters())}], run)


def rates(run, groups):
    """Rates by the name of each parameter."""
    names = {p: name for name, p in run.model.named_parameters()}
    return {names[p]: group["lr"] for group in groups for p in group["params"]}


def test_rates_of_the_stages_by_hand():
    run = tiny_run(lr=0.8)
    found = rates(run, groups_of(run, d=0.5))
    expected = {"head": 0.8, "stage2": 0.4, "stage1": 0.2, "stem": 0.1}

    assert len(found) == len(list(run.model.parameters()))
    assert all(lr == pytest.approx(expected[name.split(".")[1]]) for name, lr in found.items())


def test_rates_of_the_layers_by_hand():
    """Six convolutions and the head: norms go with the convolution before, biases with their weight."""
    run = tiny_run(lr=1.0)
    found = rates(run, groups_of(run, d=0.5, groups="layer"))
    assert len(parameters_by_layer(run.model)) == 7
    assert found["net.head.weight"] == found["net.head.bias"] == 1.0
    assert found["net.stem.0.weight"] == found["net.stem.1.bias"] == pytest.approx(0.5**6)
    assert found["net.stage1.0.conv2.weight"] == found["net.stage1.0.norm2.weight"] == pytest.approx(0.5**4)


@pytest.mark.parametrize("name", ["timm/resnet18", "timm/efficientnet_b0", "timm/convnext_atto"])
def test_depths_partition_the_parameters_of_timm(name):
    run = tiny_run(channels=3, size=32, model=name, width=None)
    depths = parameters_by_depth(run.model)
    members = [p for group in depths for p in group]

    assert len(depths) == len(run.model.stages) + 1
    assert all(depths)
    assert len(members) == len(set(members)) == len(list(run.model.parameters()))
    assert set(run.model.head.parameters()) <= set(depths[-1])


def test_the_stem_of_timm_is_what_comes_before_its_first_stage():
    run = tiny_run(channels=3, size=32, model="timm/resnet18", width=None)
    assert parameters_by_depth(run.model)[0][0] is run.model.net.conv1.weight


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_ratio_holds_at_every_step_of_the_schedule(optimizer):
    run = tiny_run(optimizer=optimizer, lr=0.3)
    built = baseline_optimizer(groups_of(run, d=0.65), run)
    for group in built.param_groups:
        group["initial_lr"] = group["lr"]
    for factor in (1.0, 0.37, 0.01):
        for group in built.param_groups:  # as the loop does
            group["lr"] = group["initial_lr"] * factor
        own = [group["lr"] for group in built.param_groups]
        assert [a / b for a, b in pairwise(own)] == pytest.approx([0.65] * 3)
        assert own[-1] == pytest.approx(0.3 * factor)


def test_splitting_alone_changes_no_bit():
    """A factor of one would be a single rate, which is why it is refused below."""
    weights = []
    for divided in (True, False):
        run = tiny_run()
        groups = [{"params": list(run.model.parameters())}]
        if divided:
            groups = [part for _, part in split_groups(groups, parameters_by_depth(run.model))]
        built = baseline_optimizer(groups, run)
        for _ in range(3):
            built.zero_grad()
            run.model(tiny_batch().x).square().mean().backward()
            built.step()
        weights.append(run.model.net.stem[0].weight.detach())
    assert torch.equal(*weights)


def test_keys_and_rates_of_a_group_stay_and_strangers_keep_the_whole_rate():
    run, stranger = tiny_run(lr=1.0), nn.Parameter(torch.zeros(2))
    head = list(run.model.head.parameters())
    stem = list(run.model.net.stem.parameters())
    groups = [{"params": [*stem, stranger], "weight_decay": 0.0}, {"params": [*head], "lr": 4.0}]
    out = DiscriminativeLr(d=0.5).param_groups(groups, run)

    assert [(g["lr"], g.get("weight_decay"), len(g["params"])) for g in out] == [
        (0.125, 0.0, 3),
        (1.0, 0.0, 1),
        (4.0, None, 2),
    ]
