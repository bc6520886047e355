"""What libraries build into their networks is off in the baseline, or named."""

import random

import pytest
import timm
import torch
from torch import nn

from harness.errors import UserError
from harness.experiment import Model
from harness.identity import Identity, network_version
from harness.models.build import build, built_in, example_of
from harness.models.plain import draws_in_training, switch_off
from harness.study.doctor import examine_network
from harness.testing import tiny_info, tiny_run, tiny_spec
from harness.tricks import needs
from harness.tricks.architecture.zero_gamma import ZeroGamma
from harness.tricks.contract import NoEffect

INFO = example_of(channels=3, size=32)

BUILT_IN = {
    "convnext_atto": "layer scale 1e-06 (12x)",
    "cspresnext50": "zero-scale norm 0 (13x)",
    "edgenext_xx_small": "layer scale 1e-06 (15x)",
    "efficientnet_b0": "",
    "ghostnet_050": "dropout 0.2 (1x)",
    "gernet_s": "zero-scale norm 0",
    "mobilevitv2_050": "zero-scale norm 0 (1x)",
    "nest_tiny": "drop path up to 0.5",
    "regnetx_002": "zero-scale norm 0 (13x)",
    "repvit_m0_9": "zero-scale norm 0",
    "resnet18": "zero-scale norm 0 (8x)",
    "rexnet_100": "dropout 0.2",
    "seresnext26d_32x4d": "zero-scale norm 0 (8x)",
    "swin_tiny_patch4_window7_224": "drop path up to 0.1 (22x)",
    "vit_tiny_patch16_224": "",
}


def probabilities(net):
    """All that a training pass may drop with: the probability of each dropout, drop path and functional dropout."""
    for module in net.modules():
        for name in ("p", "drop_prob", "drop_rate", "prob", "drop"):
            value = getattr(module, name, None)
            if isinstance(value, int | float):
                yield value


def tricks_left(net, named):
    """What is still on in a network and not `named`."""
    left = [f"drops {p}" for p in probabilities(net) if p]
    for path, module in net.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            low, high = float(parameter.detach().min()), float(parameter.detach().max())
            of = type(module).__name__
            silent = low == high and abs(low) < 0.01
            if silent and (name == "weight" or (low and parameter.numel() > 1)) and f"{name} of {of} at" not in named:
                left.append(f"{path}.{name} = {low}")
    return left


def in_baseline(name):
    """The network as it is in a baseline, with what is said of it."""
    model = build(Model(name=f"timm/{name}"), INFO, 0)
    return model.net, model.builtin


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_tricks_of_a_timm_network_are_off_in_the_baseline(name):
    net, builtin = in_baseline(name)

    assert tricks_left(net, builtin.sentence) == []
    assert ", ".join(builtin.off).startswith(BUILT_IN[name])
    assert bool(builtin.off) == bool(BUILT_IN[name])


@pytest.mark.slow
def test_the_tricks_of_most_timm_networks_are_off_or_named():
    names, seen = timm.list_models(), 0
    random.Random(0).shuffle(names)
    for name in names:
        with torch.device("meta"):
            if sum(p.numel() for p in timm.create_model(name).parameters()) > 12e6:
                continue
        try:
            net, builtin = in_baseline(name)
        except UserError as error:
            if "has not one last layer" not in str(error):
                raise
            continue
        assert tricks_left(net, builtin.sentence) == [], name
        side = net.default_cfg["input_size"][-1]
        assert not draws_in_training(net, torch.zeros(2, 3, side, side)), name
        seen += 1
        if seen == 150:
            return
    raise AssertionError(f"only {seen} networks")


def test_the_random_numbers_of_a_training_pass_are_seen():
    plain, dropped = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
    x, state = torch.ones(1, 2), torch.get_rng_state()

    assert [draws_in_training(plain, x), draws_in_training(dropped.eval(), x)] == [False, True]
    assert not dropped.training
    assert torch.equal(state, torch.get_rng_state())


def test_a_trick_that_model_args_ask_for_stays_on():
    model = build(Model(name="timm/convnext_atto", args={"ls_init_value": 1e-3, "drop_path_rate": 0.1}), INFO, 0)
    scales = [p for name, p in model.named_parameters() if name.endswith(".gamma")]

    assert [float(p.detach().max()) for p in scales] == pytest.approx([1e-3] * 12)
    assert max(probabilities(model.net)) == pytest.approx(0.1)
    assert model.builtin.off == ()
    assert model.builtin.on == (
        "layer scale 0.001 (12x), as model.args ask for",
        "drop path up to 0.1 (11x), as model.args ask for",
    )


def test_only_the_kind_that_was_asked_for_stays_on():
    net = nn.Sequential(nn.Dropout(0.3), nn.BatchNorm1d(4), nn.Linear(4, 4))
    nn.init.zeros_(net[1].weight)
    nn.init.zeros_(net[2].weight)
    builtin = switch_off(net, ["proj_drop_rate"])

    assert net[0].p == 0.3
    assert bool((net[1].weight == 1).all())
    assert builtin.off == ("zero-scale norm 0 (1x)",)
    assert builtin.on == ("dropout 0.3 (1x), as model.args ask for", "weight of Linear at zero (1x)")
    assert builtin.last_norms == ("1",)
    assert builtin.sentence == (
        "Tricks that the library builds in: switched off in the baseline: zero-scale norm 0 (1x); still on: dropout "
        "0.3 (1x), as model.args ask for, weight of Linear at zero (1x)."
    )
    assert switch_off(nn.Linear(2, 2)).sentence == ""


def test_a_resnet_of_timm_keeps_its_initial_weights():
    """They are those of timm with its own switch for zero-gamma off, so that stored runs stay what they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs = timm.create_model("resnet10t", num_classes=10, zero_init_last=False)
        torch.manual_seed(3)
        ours = timm.create_model("resnet10t", num_classes=10)
    assert any(not torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))
    switch_off(ours)

    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("name", ["seresnext26d_32x4d", "regnetx_002"])
def test_zero_gamma_acts_where_timm_had_it(name):
    run = tiny_run(channels=3, size=32)
    run.model = build(Model(name=f"timm/{name}"), INFO, 0)
    known = run.model.builtin.last_norms
    assert len(known) >= 8
    ZeroGamma().init(run.model, run)

    assert not any(bool(run.model.net.get_submodule(path).weight.any()) for path in known)


def test_zero_gamma_says_why_it_cannot_act_where_it_was_asked_for():
    run = tiny_run(channels=3, size=32)
    run.model = build(Model(name="timm/resnet10t", args={"zero_init_last": True}), INFO, 0)
    with pytest.raises(NoEffect, match="start at zero already"):
        ZeroGamma().init(run.model, run)


def test_runs_of_networks_that_changed_are_other_runs():
    plain = ["digits_resnet", "resnet20", "timm/resnet18", "timm/seresnet50", "timm/wide_resnet50_2"]
    changed = ["timm/convnext_atto", "timm/seresnext26d_32x4d", "timm/regnetx_002"]

    assert [network_version(name) for name in plain + changed] == [0] * 5 + [1] * 3
    ours = needs.identify(tiny_spec(), "images")
    theirs = needs.identify(tiny_spec().model_copy(update={"model": Model(name=changed[0])}), "images")
    assert ours.json == '{"data":"images","numbers":1}'
    assert theirs.json == '{"data":"images","network":1,"numbers":1}'
    assert Identity.of(theirs.json) == theirs
    assert ours.short != theirs.short


@pytest.mark.parametrize("name", ["levit_128s", "efficientformer_l1", "deit_tiny_distilled_patch16_224"])
def test_a_network_with_a_second_head_is_refused_in_one_line(name):
    with pytest.raises(UserError, match=f"'{name}' .* has not one last layer .*; choose another model$"):
        build(Model(name=f"timm/{name}"), tiny_info(), 0)


def test_the_doctor_says_what_a_network_is_and_what_was_switched_off():
    facts = {what: (good, detail) for what, good, detail in examine_network("timm/convnext_atto")}
    assert facts == {
        "network": (True, "timm/convnext_atto, 3,377,730 parameters with 3 channels and 10 classes"),
        "stages": (True, "stages.0, stages.1, stages.2, stages.3"),
        "last layer": (True, "head.fc, Linear"),
        "surgery finds": (
            True,
            "40 convolutions, 1 linear layers; no ReLUs, no max pools, no batch norms, no residual blocks",
        ),
        "switched off": (True, "layer scale 1e-06 (12x)"),
        "still on": (True, "nothing that is known"),
        "training pass": (True, "draws no random numbers (images of 224 x 224 pixels)"),
    }
    ours = {what: detail for what, _, detail in examine_network("resnet20")}
    assert ours["network"] == "resnet20, 272,474 parameters with 3 channels and 10 classes"
    with pytest.raises(UserError, match="model 'a b': write one of ours"):
        list(examine_network("a b"))


def test_what_is_built_in_is_looked_at_once_and_ours_have_nothing():
    assert built_in(Model(name="resnet8")).sentence == ""
    model = Model(name="timm/ghostnet_050")
    assert built_in(model) is built_in(model)
