"""Which images tricks draw: every partner, hidden image, turn and patch is as likely as any other."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from draws import assert_share, assert_uniform, recorded
from harness.data.types import TrainingSet
from harness.testing import tiny_batch, tiny_run
from harness.tricks import registry
from harness.tricks.distillation.pseudo_label import stratified

PARTNERS = {
    # Of each: the function that gets them, and how they are found among its arguments.
    "copy_paste": ("paste", lambda args: [args[2]]),
    "cutmix": ("cutmix", lambda args: [args[1]]),
    "mixup_multi": ("combine", lambda args: args[1]),
    "mosaic": ("mosaic", lambda args: args[1][1:]),
}


def of(name):
    return import_module(registry.builtin()[name]), registry.load(name)


@pytest.mark.parametrize("name", PARTNERS)
def test_partners_are_any_images_of_the_batch(monkeypatch, name):
    """With several partners each is drawn for itself."""
    function, find = PARTNERS[name]
    module, cls = of(name)
    calls, run, batch = recorded(monkeypatch, module, function), tiny_run(), tiny_batch(4)
    for _ in range(600):
        cls(**({"prob": 1.0} if "prob" in cls.model_fields else {})).batch(batch, run)
    calls = calls[::2] if name == "mixup_multi" else calls  # once for images, once for targets
    partners = torch.stack([torch.stack(list(find(args))) for args in calls])

    assert partners.shape == (600, {"mixup_multi": 2, "mosaic": 3}.get(name, 1), 4)
    assert torch.equal(partners.sort(-1).values, torch.arange(4).expand_as(partners))
    for k in range(partners.shape[1]):
        for i in range(4):
            for j in range(4):
                assert_share(partners[:, k, i] == j, 0.25)
        for other in range(k):
            assert_share(partners[:, k, 0] == partners[:, other, 0], 0.25)


def test_mosaic_keeps_the_image_itself_as_the_first_tile(monkeypatch):
    module, cls = of("mosaic")
    calls = recorded(monkeypatch, module, "mosaic")
    cls().batch(tiny_batch(4), tiny_run())
    ((_, partners, where),) = calls

    assert partners[0].tolist() == [0, 1, 2, 3]
    assert len(partners) == len(where) == 4


def test_the_second_pass_of_mixup_cross_batch_has_a_new_order_each_epoch():
    _, cls = of("mixup_cross_batch")
    run, trick, first = tiny_run(), cls(), []
    trick.prepare(run)
    for _ in range(1200):
        trick.epoch_start(run)
        order = run.state[trick.name]["order"]
        first.append(order[:2])
    first = torch.stack(first)

    assert sorted(order.tolist()) == list(range(80))
    spread = torch.rand(1200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for place in (0, 1):
        assert_uniform(first[:, place] + spread[:, place], 0, 80)


@pytest.mark.parametrize(("rule", "count", "share"), [({}, 10, 0.1), ({"labelled": 0.25}, 20, 0.25)])
def test_pseudo_label_keeps_its_share_and_draws_any_hidden_image(monkeypatch, rule, count, share):
    module, cls = of("pseudo_label")
    calls, run = recorded(monkeypatch, module, "views"), tiny_run()
    train = TrainingSet(torch.zeros(80, 8, 8, 1, dtype=torch.uint8), run.train.label, torch.arange(80))
    run.train = cls(**rule).dataset(train, run)
    logits, batch, run.step = torch.zeros(100, 10), tiny_batch(100), 100
    for _ in range(20):
        cls(**rule).loss_terms(batch, logits, run)
    drawn = torch.cat([positions for _, positions, *_ in calls])

    assert len(run.train.index.unique()) == count
    spread = torch.rand(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert_uniform(drawn + spread, 0, 80 - count)
    label, host = torch.arange(40) // 20, np.random.default_rng(0)
    kept = torch.stack([torch.bincount(stratified(label, share, host), minlength=40) for _ in range(400)])
    for image in range(40):
        assert_share(kept[:, image], share)


def test_rotations_are_quarters_of_any_number(monkeypatch):
    module, cls = of("multi_task_aux_loss")
    calls, run, trick = recorded(monkeypatch, module, "turned"), tiny_run(), cls(task="rotation")
    run.model = trick.model(run.model, run)
    trick.param_groups([{"params": list(run.model.parameters())}], run)
    batch = tiny_batch(1000)
    logits = run.model(batch.x)
    trick.reduce_loss(logits.mean(), run)
    trick.loss_terms(batch, logits, run)
    ((_, quarters),) = calls

    assert set(quarters.tolist()) == {0, 1, 2, 3}
    for k in range(4):
        assert_share(quarters == k, 0.25)


def test_triplet_batches_draw_any_class_and_any_image_of_it():
    slots = of("triplet_aux")[0].slots
    label, host = torch.tensor([2, 5, 2, 9, 5, 2, 9, 9]), np.random.default_rng(0)
    drawn = torch.stack([slots(label, 2, 2, host) for _ in range(900)])

    for k, images in ((2, (0, 2, 5)), (5, (1, 4)), (9, (3, 6, 7))):
        for place in (0, 2):
            of_class = label[drawn[:, place]] == k
            assert_share(of_class, 1 / 3)
            for image in images:
                assert_share(drawn[of_class, place] == image, 1 / len(images))


@pytest.mark.parametrize(
    ("name", "params", "shift", "noise"),
    [
        ("consistency_reg", {}, 0.125, 0.1),
        ("consistency_reg", {"shift": 0.25, "noise": 0.3}, 0.25, 0.3),
        ("consistency_reg", {"shift": 0.5}, 0.25, 0.1),
        ("simcse_aux", {"views": "aug"}, 0.125, 0.1),
    ],
)
def test_views_of_terms_move_as_far_as_asked_and_the_data_bear(monkeypatch, name, params, shift, noise):
    """The data of these tests bear a quarter of the side; what a view draws within is tested in test_draws.py."""
    module, cls = of(name)
    calls, run, batch, trick = recorded(monkeypatch, module, "random_view"), tiny_run(), tiny_batch(4), cls(**params)
    run.model = trick.model(run.model, run) if name == "simcse_aux" else run.model
    logits = run.model(batch.x)
    trick.reduce_loss(logits.mean(), run) if name == "simcse_aux" else None
    trick.loss_terms(batch, logits, run)

    ((seen, moved, grain, _),) = calls
    assert (moved, grain) == (shift, noise)
    assert seen is batch.x


def test_batches_of_a_rate_test_are_any_images_none_twice(monkeypatch):
    module, cls = of("lr_range_test")
    drawn, real = [], module.TrainingPixels.draw

    def draw(self, positions, *rest):
        drawn.append(positions)
        return real(self, positions, *rest)

    monkeypatch.setattr(module.TrainingPixels, "draw", draw)
    run = tiny_run()
    run.loss = lambda batch: run.model(batch.x).square().mean()
    run.optimizer.param_groups[0]["initial_lr"] = 0.1
    cls(low=1e-9, high=1e-8, steps=120)._sweep(run)
    drawn = torch.stack(drawn)

    assert drawn.shape == (120, 8)
    assert all(len(set(batch.tolist())) == 8 for batch in drawn)
    spread = torch.rand(960, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert_uniform(drawn.flatten() + spread, 0, 80)


@pytest.mark.parametrize(("params", "masked", "patches"), [({}, 10, 4), ({"ratio": 0.25, "patches": 2}, 1, 2)])
def test_any_patch_is_as_likely_masked_as_any_other(monkeypatch, params, masked, patches):
    module, cls = of("masked_image_modelling")
    calls, run, trick = recorded(monkeypatch, module, "patch_mask"), tiny_run(), cls(**params)
    run.model = trick.model(run.model, run)
    trick.gradient(None, tiny_batch(600), run)
    ((score, ratio, size),) = calls

    assert_uniform(score.flatten(), 0, 1)
    mask = module.patch_mask(score, ratio, size)[:, 0, :: 8 // patches, :: 8 // patches].flatten(1)
    for patch in mask.T:
        assert_share(patch, masked / patches**2)


SOURCES = {name: Path(import_module(path).__file__) for name, path in registry.builtin().items()}


def test_every_trick_that_draws_has_its_draws_tested(request):
    """In one of the files of draws, which name it, or in its own, which then uses the comparisons of `draws`."""
    folder = request.path.parent
    shared = "".join(path.read_text() for path in folder.glob("test_draws*.py"))
    drawing = {n for n, path in SOURCES.items() if any(g in path.read_text() for g in ("run.rng(", "run.numpy("))}
    named = {name for name in drawing if f'"{name}"' in shared}
    own = {name for name in drawing - named if "from draws import" in (folder / f"test_{name}.py").read_text()}

    assert len(drawing) > 40
    assert drawing - named - own == set(), "these draw, and no test says from where"
