"""What libraries do silently, and this package must not: each test holds our code to the honest side of one trap.

Not here, because no code of ours touches them: Lookahead, Muon and LARS implementations, anti-aliased pooling,
split batch norm, squeeze-and-excitation ratios, and the released trainers of COSINE and Meta Pseudo Labels.
"""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness import rng
from harness.data.batches import Loader
from harness.data.sources import load_source
from harness.data.splits import split
from harness.experiment import Arm, Augment, Data, Model
from harness.models.build import build
from harness.testing import tiny_batch, tiny_info, tiny_run, tiny_spec
from harness.training.evaluate import metrics
from harness.training.loop import Clock, train
from harness.training.place import Place
from harness.training.session import baseline_optimizer, set_up
from harness.tricks import registry
from harness.tricks.architecture.zero_gamma import last_gammas
from harness.tricks.augment.random_erasing import boxes
from harness.tricks.consistency.r_drop import disagreement
from harness.tricks.contract import TrainingSet
from harness.tricks.images import box_mask
from harness.tricks.mixing.cutmix import box, cutmix
from harness.tricks.modules import WeightAverage
from harness.tricks.stack import Stack

PLACE = Place(data_root=Path("unused"))
TIMM = ("timm/resnet18", "timm/resnet10t", "timm/seresnet18")
OURS = ("digits_resnet", "resnet8", "resnet18")


def session_with(*names, params=None, **recipe):
    made = [registry.make(n, (params or {}).get(n)) for n in names]
    spec = tiny_spec(**recipe).model_copy(update={"arm": Arm(tricks=tuple(t.spec() for t in made))})
    return set_up(spec, PLACE)


def epochs_of(session):
    return train(session.run, session.stack, session.loader, session.step, session.lr_factors, dict, Clock())


def convolutions(model):
    return [m for m in model.modules() if isinstance(m, nn.Conv2d)]


# The baseline holds no trick


@pytest.mark.parametrize("name", TIMM + OURS)
def test_residual_branches_start_with_gamma_one_and_zero_gamma_has_something_to_do(name):
    """timm switches zero_init_last on."""
    model = build(Model(name=name), tiny_info(channels=3, size=32), seed=0)
    gammas = last_gammas(model)

    assert len(gammas) >= 2
    assert all(bool((gamma == 1).all()) for gamma in gammas)


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet18"])
def test_convolutions_start_from_the_normal_distribution_of_he(name):
    """torch's own initialisation has 0.41 of that deviation, and is uniform."""
    for conv in convolutions(build(Model(name=name), tiny_info(channels=3, size=32), seed=0)):
        weight = conv.weight.detach()
        fan_out = weight.shape[0] * weight[0, 0].numel()
        z = weight * (fan_out / 2) ** 0.5
        tolerance = 5 / weight.numel() ** 0.5
        assert abs(float(z.std()) - 1) < tolerance
        assert abs(float(z.pow(4).mean()) - 3) < 10 * tolerance  # 1.8 for a uniform distribution


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weight_decay_of_the_baseline_reaches_norms_and_biases(optimizer):
    """timm's create_optimizer_v2 spares all parameters of one axis, which here is the trick no_bias_decay."""
    run = tiny_run(optimizer=optimizer, lr=0.5, weight_decay=0.1, momentum=0.0, nesterov=False)
    parameters = list(run.model.parameters())
    optimizer = baseline_optimizer([{"params": parameters}], run)
    for p in parameters:
        nn.init.ones_(p)
        p.grad = torch.zeros_like(p)
    optimizer.step()

    assert any(p.ndim == 1 for p in parameters)
    for p in parameters:
        torch.testing.assert_close(p, torch.full_like(p, 0.95))


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_nesterovs_only_when_the_recipe_says_so(nesterov):
    """timm's "sgd" is always Nesterov's: the first step from rest is then lr (1 + m), not lr."""
    run = tiny_run(lr=0.1, momentum=0.5, nesterov=nesterov)
    p = nn.Parameter(torch.zeros(1))
    p.grad = torch.ones(1)
    baseline_optimizer([{"params": [p]}], run).step()

    assert float(p.detach()) == pytest.approx(-0.15 if nesterov else -0.1)


# Mixing and targets


def test_mixup_alone_does_not_smooth():
    """timm's Mixup smooths by 0.1 unless told not to."""
    run, batch = tiny_run(), tiny_batch(n=10)
    for _ in range(20):
        y = registry.make("mixup").batch(batch, run).y
        assert int((y > 0).sum(-1).max()) <= 2


def test_mixup_takes_odd_batches_and_random_partners():
    """timm's pairs by flip and wants even batches; torchvision's pairs by roll."""
    run, batch, partners = tiny_run(), tiny_batch(n=7), set()
    for _ in range(20):
        others = registry.make("mixup").batch(batch, run).y.clone()
        others[torch.arange(7), batch.label] = 0
        partners.add(tuple(others.argmax(1).tolist()))

    assert len(partners) > 10


def test_smoothing_on_top_of_mixup_is_applied_once_to_the_mixed_target():
    """torch's cross_entropy(label_smoothing=) would smooth probability targets again."""
    session = session_with("label_smoothing", "mixup", params={"label_smoothing": {"eps": 0.2}})
    alone = session_with("mixup")
    batch = next(iter(session.loader.epoch()))
    mixed = alone.stack.fold("batch", batch, alone.run)
    both = session.stack.fold("batch", batch, session.run)

    torch.testing.assert_close(both.y, 0.8 * mixed.y + 0.2 / 10)
    logits = session.run.model.eval()(both.x)
    torch.testing.assert_close(session.run.loss(both), -(both.y * logits.log_softmax(-1)).sum(-1).mean())


def test_class_weights_have_one_normaliser_for_hard_and_mixed_targets():
    """torch's cross_entropy(weight=) divides by the sum of weights for labels and by N for probabilities."""
    spec = tiny_spec(registry.make("weighted_ce"))
    spec = spec.model_copy(
        update={"data": Data(name="digits", train_size=200, val_size=40, test_size=40, imbalance=0.2)}
    )
    session = set_up(spec, PLACE)
    batch = next(iter(session.loader.epoch()))
    hard = batch.y
    criterion, logits = (
        session.stack.slot("criterion", None),
        torch.randn(8, 10, generator=torch.Generator().manual_seed(0)),
    )
    counts = torch.tensor(session.run.data.train_counts)
    weight = criterion(torch.zeros(10, 10), torch.eye(10), session.run) / np.log(10)

    assert float((weight * counts).sum() / counts.sum()) == pytest.approx(1)
    expected = F.cross_entropy(logits, batch.label, weight, reduction="none")
    torch.testing.assert_close(criterion(logits, hard, session.run), expected)
    partner = torch.arange(7, -1, -1)
    mixed = 0.3 * expected + 0.7 * criterion(logits, hard[partner], session.run)
    torch.testing.assert_close(criterion(logits, 0.3 * hard + 0.7 * hard[partner], session.run), mixed)


def test_focal_loss_is_a_mean_over_images_not_over_images_and_classes():
    """kornia's divides by N K, which makes gradients ten times smaller on ten classes."""
    session = session_with("focal_loss", params={"focal_loss": {"gamma": 1e-9}})
    batch = next(iter(session.loader.epoch()))
    logits = session.run.model.eval()(batch.x)

    torch.testing.assert_close(session.run.loss(batch), F.cross_entropy(logits, batch.label))


def test_r_drop_does_not_depend_on_the_batch_size():
    """The authors' example sums the divergence over the batch."""
    p, q = torch.randn(2, 4, 10, generator=torch.Generator().manual_seed(0))
    small, large = disagreement(torch.cat((p, q))), disagreement(torch.cat((p, p, p, q, q, q)))

    assert float(small) > 0.1
    torch.testing.assert_close(small, large)


# Images


AUGMENTING = {
    "color_jitter_hsv": {},
    "cutout": {},
    "gaussian_noise_vrm": {},
    "random_affine": {},
    "random_blur": {"sigma": 0.2, "p": 1.0},
    "random_crop": {},
    "random_erasing": {"p": 1.0},
    "random_flip": {},
    "random_perspective": {"p": 1.0},
    "random_resize": {},
    "random_rotation": {},
}


@pytest.mark.parametrize("name", AUGMENTING)
def test_augmentation_draws_for_each_image_of_a_batch(name):
    """torchvision's transforms draw once for a batch; random erasing of timm wants a CUDA device unless told."""
    run, one = tiny_run(channels=3, size=16), tiny_batch(n=1, channels=3, size=16)
    batch = replace(tiny_batch(n=16, channels=3, size=16), x=one.x.repeat(16, 1, 1, 1))
    trick = registry.make(name, AUGMENTING[name])
    out = trick.batch(batch, run).x

    assert len(out.flatten(1).unique(dim=0)) >= (2 if name == "random_flip" else 8)


@pytest.mark.parametrize(
    "augment", [Augment(shift=0.25), Augment(flip=True), Augment(rotation=30), Augment(scale_min=0.3)], ids=str
)
def test_the_baselines_augmentation_draws_for_each_image(augment):
    host = np.random.default_rng(0)
    images = torch.from_numpy(host.integers(0, 256, (1, 16, 16, 3), dtype="uint8")).repeat(16, 1, 1, 1)
    data = TrainingSet(images=images, label=torch.zeros(16, dtype=torch.int64), index=torch.arange(16))
    streams = (rng.torch_stream(0, purpose) for purpose in ("order", "augment"))
    loader = Loader(data, augment, 16, "cpu", 10, *streams, channels_last=True)
    batch = next(iter(loader.epoch()))

    assert len(batch.x.flatten(1).unique(dim=0)) >= (2 if augment.flip else 8)


def test_boxes_keep_height_and_width_apart_on_oblong_images():
    """openmixup's ResizeMix swaps them, which square images hide."""
    batch = tiny_batch(n=2)
    batch = replace(batch, x=torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 4, 16).contiguous())
    mixed = cutmix(batch, torch.tensor([1, 0]), box((4, 16), keep=0.5, row=1, column=12))
    pasted = mixed.x[0, 0] == 1

    assert pasted.any(0).nonzero()[-1] > 4
    assert float(mixed.y[0, 1]) == pytest.approx(float(pasted.float().mean()))

    u = torch.rand(500, 12, generator=torch.Generator().manual_seed(0))
    drawn = boxes(torch.full((500, 10), 0.3), 0.3 + 3 * u[:, 2:], u[:, :2], (4, 16))
    inside = box_mask(drawn.top, drawn.left, drawn.height, drawn.width, (4, 16)).sum((1, 2))
    assert torch.equal(inside[drawn.fits], (drawn.height * drawn.width)[drawn.fits])
    assert int(drawn.width[drawn.fits].max()) > 4


# Learning rates


def peak(session):
    return max(session.lr_factors)


@pytest.mark.parametrize(
    ("names", "params"),
    [
        (["lr_warmup"], {}),
        (["lr_warmup", "cosine_decay"], {"prefix": True}),
        (["warmup_cosine"], {}),
    ],
)
def test_a_warm_up_reaches_the_base_rate(names, params):
    """timm's cosine without warmup_prefix peaks at 0.994 of it for 5 epochs of 100."""
    assert peak(session_with(*names, params={"lr_warmup": params}, epochs=100)) == 1.0


@pytest.mark.parametrize("groups", ["stage", "layer"])
def test_ratios_of_discriminative_rates_survive_the_schedule(groups):
    """timm writes lr_scale into the groups, which torch's optimizers and schedulers ignore."""
    params = {"discriminative_lr": {"d": 0.5, "groups": groups}}
    session = session_with("discriminative_lr", "cosine_decay", params=params, epochs=4)
    optimizer = session.run.optimizer
    first = [group["lr"] for group in optimizer.param_groups]
    for _ in epochs_of(session):
        now = [group["lr"] for group in optimizer.param_groups]
        assert max(now) < max(first)
        assert np.allclose(np.divide(now, max(now)), np.divide(first, max(first)))
    depth = len({group["lr"] for group in optimizer.param_groups}) - 1
    assert depth >= 3
    assert min(now) == pytest.approx(max(now) * 0.5**depth)


# Batch normalisation


def test_a_weight_average_averages_the_running_statistics_too():
    """torch's AveragedModel keeps those of the last network unless told."""
    run = tiny_run()
    average = WeightAverage(run.model)
    norm, kept = run.model.net.stem[1], average.model.net.stem[1]
    for weight, mean in ((1.0, 2.0), (0.25, 6.0)):
        norm.running_mean.fill_(mean)
        norm.num_batches_tracked.fill_(int(mean))
        average.update(run.model, weight)

    torch.testing.assert_close(kept.running_mean, torch.full_like(kept.running_mean, 3.0))
    assert int(kept.num_batches_tracked) == 6


def test_an_ema_run_is_evaluated_with_averaged_statistics():
    session = session_with("ema")
    for _ in epochs_of(session):
        pass
    live, averaged = session.run.model.net.stem[1], session.evaluated()[-1].net.stem[1]

    assert not torch.equal(live.running_var, averaged.running_var)
    assert int(live.num_batches_tracked) == int(averaged.num_batches_tracked) == session.run.step


def test_gradient_checkpointing_moves_running_statistics_once_a_step():
    """Plain checkpointing runs each batch norm twice."""
    arm, base = session_with("gradient_checkpointing"), session_with()
    for session in (arm, base):
        for _ in epochs_of(session):
            pass
    norms = [m for m in arm.run.model.modules() if isinstance(m, nn.BatchNorm2d)]

    assert {int(m.num_batches_tracked) for m in norms} == {arm.run.step}
    for a, b in zip(arm.run.model.buffers(), base.run.model.buffers(), strict=True):
        assert torch.equal(a, b)


# Measuring


def test_accuracy_is_the_share_of_images_not_the_mean_of_classes():
    """torchmetrics' MulticlassAccuracy averages over classes by default: 0.5 here."""
    label = torch.tensor([0] * 9 + [1])
    logits = F.one_hot(torch.zeros(10, dtype=torch.int64), 10).float()

    assert metrics(logits, label)["accuracy"] == pytest.approx(0.9)


@pytest.mark.parametrize("fraction", [0.05, 0.15, 0.5, 1.0])
def test_label_noise_is_exact_and_never_the_true_label(fraction):
    """A well-known script redraws the true label with chance 1 / K, and reseeds the global generator."""
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    chosen = set()
    for seed in range(5):
        data = Data(name="digits", train_size=110, val_size=40, test_size=40, label_noise=fraction)
        source = load_source(data, Path("unused"))
        parts = split(source, data, seed)
        wrong = parts.train.label.numpy() != source.train_labels[parts.train.index]
        assert wrong.sum() == round(fraction * 110)
        chosen.add(tuple(parts.train.label.tolist()))

    assert len(chosen) == 5
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_no_two_tricks_smooth_or_weight_twice():
    """Combinations that would apply one correction twice are refused, with every order of asking."""
    for pair in itertools.permutations(("label_smoothing", "mixup_plus_label_smoothing")):
        with pytest.raises(Exception, match="smoothed twice"):
            Stack(registry.make(name) for name in pair)
