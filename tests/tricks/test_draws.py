"""What tricks draw at every step with their default values: from where, how evenly, and up to which ends.

Numbers of the defaults stand here as such, so that a changed default is seen. What a draw then does to an image is
tested beside each trick; mixup, cutmix, colour jitter, attacks and masked pretraining have their draws there, too.
"""

import math
from importlib import import_module

import pytest
import torch
from scipy.special import betainc

from draws import assert_beta, assert_independent, assert_share, assert_uniform, recorded
from harness.testing import tiny_batch, tiny_run
from harness.tricks import registry
from harness.tricks.images import random_view
from harness.tricks.modules import dropout

N = 1500


def of(name):
    """The module and the class of a trick."""
    return import_module(registry.builtin()[name]), registry.load(name)


def spread(whole):
    """Whole numbers as numbers that fill the unit above each."""
    whole = torch.as_tensor(whole).flatten().double()
    return whole + torch.rand(len(whole), dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def drawn_by(monkeypatch, name, function, n=N, times=1, channels=1, **params):
    """What a function of the trick's module is called with while the trick changes some batches."""
    module, cls = of(name)
    calls, run, batch = (
        recorded(monkeypatch, module, function),
        tiny_run(channels=channels),
        tiny_batch(n, 10, channels),
    )
    for _ in range(times):
        cls(**params).batch(batch, run)
    return calls


@pytest.mark.parametrize(
    ("params", "angle", "scale", "shear", "move"),
    [
        ({}, 10, 0.1, 5, 0.1),
        ({"degrees": 30.0, "scale": 0.3, "shear": 15.0, "translate": 0.2}, 30, 0.3, 15, 0.2),
    ],
)
def test_random_affine(monkeypatch, params, angle, scale, shear, move):
    ((turned, scaled, sheared, right, down),) = drawn_by(monkeypatch, "random_affine", "affine", **params)

    assert_uniform(turned.rad2deg(), -angle, angle)
    assert_uniform(scaled, 1 - scale, 1 + scale)
    assert_uniform(sheared.rad2deg(), -shear, shear)
    assert_uniform(right, -move, move)
    assert_uniform(down, -move, move)
    assert_independent(turned, scaled, sheared, right, down)


@pytest.mark.parametrize(("params", "degrees"), [({}, 10), ({"degrees": 45.0}, 45)])
def test_random_rotation(monkeypatch, params, degrees):
    ((_, angle),) = drawn_by(monkeypatch, "random_rotation", "rotate", **params)

    assert_uniform(angle, -math.radians(degrees), math.radians(degrees))


@pytest.mark.parametrize(("params", "low", "high"), [({}, 0.8, 1.2), ({"low": 0.7, "high": 1.5}, 0.7, 1.5)])
def test_random_resize(monkeypatch, params, low, high):
    ((_, scale),) = drawn_by(monkeypatch, "random_resize", "resize", **params)

    assert_uniform(scale, low, high)


@pytest.mark.parametrize(("params", "border"), [({}, 1), ({"pad": 0.25}, 2)])
def test_random_crop(monkeypatch, params, border):
    """Every whole-pixel place of the window is as likely as any other."""
    ((_, down, right, _),) = drawn_by(monkeypatch, "random_crop", "windows", **params)

    for place in (down, right):
        assert set(place.tolist()) == set(range(2 * border + 1))
        assert_uniform(spread(place), 0, 2 * border + 1)
    assert_independent(down, right)


@pytest.mark.parametrize(("params", "p"), [({}, 0.5), ({"p": 0.1}, 0.1)])
def test_random_flip(monkeypatch, params, p):
    ((_, which, _),) = drawn_by(monkeypatch, "random_flip", "flip", **params)

    assert_share(which, p)


@pytest.mark.parametrize(("params", "sigma", "p"), [({}, 0.05, 0.5), ({"sigma": 0.075, "p": 1.0}, 0.075, 1.0)])
def test_random_blur(monkeypatch, params, sigma, p):
    """In pixels of images of 8."""
    ((_, drawn),) = drawn_by(monkeypatch, "random_blur", "blur", **params)

    assert_share(drawn > 0, p)
    assert_uniform(drawn[drawn > 0], 0, 8 * sigma)


@pytest.mark.parametrize(("params", "most", "p"), [({}, 0.2, 0.5), ({"distortion": 0.5, "p": 1.0}, 0.5, 1.0)])
def test_random_perspective(monkeypatch, params, most, p):
    """Corners, which stand at ±1, move inwards by up to `distortion` along both axes, each by a draw of its own."""
    ((moved,),) = drawn_by(monkeypatch, "random_perspective", "homography", **params)
    inwards = 1 - moved.abs()
    changed = inwards.flatten(1).amax(1) > 0

    assert_share(changed, p)
    for corner in range(4):
        for axis in range(2):
            assert_uniform(inwards[changed][:, corner, axis], 0, most)
    assert_independent(*inwards[changed].flatten(1).T)


@pytest.mark.parametrize(("params", "holes", "side"), [({}, 1, 4), ({"length": 0.25, "n_holes": 3}, 3, 2)])
def test_cutout(monkeypatch, params, holes, side):
    ((_, centers, length, _),) = drawn_by(monkeypatch, "cutout", "cutout", **params)

    assert (length, centers.shape[1]) == (side, holes)
    for hole in range(holes):
        for axis in range(2):
            assert_uniform(spread(centers[:, hole, axis]), 0, 8)
    assert_independent(*centers.flatten(1).T)


@pytest.mark.parametrize(
    ("params", "area", "aspect", "p"),
    [
        ({}, (0.02, 0.4), 0.3, 0.5),
        ({"area_min": 0.1, "area_max": 0.2, "aspect_min": 0.5, "p": 1.0}, (0.1, 0.2), 0.5, 1),
    ],
)
def test_random_erasing(monkeypatch, params, area, aspect, p):
    calls = drawn_by(monkeypatch, "random_erasing", "boxes", n=400, **params)
    ((drawn_area, drawn_aspect, place, _),) = calls

    assert_uniform(drawn_area.flatten(), *area)
    assert_uniform(drawn_aspect.flatten(), aspect, 1 / aspect)
    for axis in range(2):
        assert_uniform(place[:, axis], 0, 1)
    assert_independent(drawn_area.flatten(), drawn_aspect.flatten())


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_random_erasing_acts_with_its_probability_whatever_the_box(monkeypatch, p):
    module, cls = of("random_erasing")
    calls, batch = recorded(monkeypatch, module, "boxes"), tiny_batch(N)
    out = (cls() if p == 0.5 else cls(p=p)).batch(batch, tiny_run()).x
    ((area, aspect, place, size),) = calls
    fits = module.boxes(area, aspect, place, size).fits
    acted = (out != batch.x).flatten(1).any(1)[fits]

    assert_share(acted, p)
    assert_independent(acted, place[fits, 0], place[fits, 1])


def test_random_erasing_fills_with_uniform_pixels():
    _, cls = of("random_erasing")
    batch = tiny_batch(300)
    out = cls(p=1.0).batch(batch, tiny_run()).x

    assert_uniform(out[out != batch.x], 0, 1)


@pytest.mark.parametrize(("params", "sigma"), [({}, 0.05), ({"sigma": 0.3}, 0.3)])
def test_gaussian_noise(params, sigma):
    _, cls = of("gaussian_noise_vrm")
    batch = tiny_batch(200)
    grain = ((cls(**params).batch(batch, tiny_run()).x - batch.x) / sigma).flatten().double()

    assert_uniform(torch.special.ndtr(grain), 0, 1)


@pytest.mark.parametrize("mode", ["swap", "blend"])
def test_domain_transfer(monkeypatch, mode):
    ((_, partner, band, weight),) = drawn_by(monkeypatch, "domain_transfer_aug", "transfer_amplitude", mode=mode)

    assert band == {"swap": 0.05, "blend": 0.5}[mode]
    assert sorted(partner.tolist()) == list(range(N))
    assert_uniform((partner - torch.arange(N)) % N / N, 0, 1)
    if mode == "swap":
        assert bool((weight == 1).all())
    else:
        assert_uniform(weight, 0, 1)


MIXED = {
    # Of each: the function that gets the weight, the argument's place, and the default alpha.
    "mixup_cross_batch": ("blend", 3, 1.0),
    "mixup_input_only": ("mixup_inputs", 2, 1.0),
    "mixup_latent": ("mix", 2, 2.0),
    "mixup_plus_label_smoothing": ("mixup_smoothed", 2, 1.0),
    "mixup_same_class": ("mix", 2, 1.0),
}


@pytest.mark.parametrize("alpha", [None, 0.2, 8.0])
@pytest.mark.parametrize("name", MIXED)
def test_one_weight_a_batch(monkeypatch, name, alpha):
    function, place, default = MIXED[name]
    module, cls = of(name)
    calls, run, batch = recorded(monkeypatch, module, function), tiny_run(), tiny_batch(4)
    trick = cls() if alpha is None else cls(alpha=alpha)
    trick.prepare(run)
    trick.epoch_start(run)
    for _ in range(500):
        trick.batch(batch, run)
        run.state.setdefault(name, {})
    weights = list(dict.fromkeys(call[place] for call in calls))  # latent mixes pixels and targets by the same one

    assert len(weights) == 500
    assert_beta(weights, alpha or default)


@pytest.mark.parametrize("params", [{}, {"alpha": 0.2}, {"alpha": 8.0}])
def test_mixup_knn(monkeypatch, params):
    """One weight a batch, and any of the neighbours: at least four of 80 images by default."""
    module, cls = of("mixup_knn")
    run, batch, drawn = tiny_run(), tiny_batch(8), []
    trick = cls(**params)
    trick.prepare(run)
    state = run.state["mixup_knn"]
    monkeypatch.setattr(
        state.pixels, "draw", lambda at, *_: drawn.append(at) or (torch.zeros_like(batch.x), batch.y * 0)
    )
    batch.x.fill_(1.0)
    weights = [float(trick.batch(batch, run).x.mean()) for _ in range(500)]

    assert_beta(weights, params.get("alpha", 1.0))
    drawn = torch.stack(drawn)
    for i in range(8):
        among = state.neighbours.table[state.position[i]][: int(state.neighbours.valid[state.position[i]])]
        assert len(among) >= module.FEWEST
        assert set(drawn[:, i].tolist()) == set(among.tolist())
        for j in among:
            assert_share(drawn[:, i] == j, 1 / len(among))


@pytest.mark.parametrize(("params", "m", "alpha"), [({}, 3, 1.0), ({"m": 2, "alpha": 4.0}, 2, 4.0)])
def test_mixup_multi(monkeypatch, params, m, alpha):
    """A weight of a Dirichlet distribution has mean 1 / m and variance (m - 1) / (m^2 (m alpha + 1))."""
    calls = drawn_by(monkeypatch, "mixup_multi", "combine", n=4, times=1000, **params)
    weights = torch.tensor([weights for _, _, weights in calls[::2]], dtype=torch.float64)

    assert weights.shape == (1000, m)
    torch.testing.assert_close(weights.sum(1), torch.ones(1000, dtype=torch.float64))
    variance = (m - 1) / (m**2 * (m * alpha + 1))
    for k in range(m):
        assert abs(float(weights[:, k].mean()) - 1 / m) < 3.3 * (variance / 1000) ** 0.5
        assert float(weights[:, k].var()) == pytest.approx(variance, rel=0.2)
    if m == 2:
        assert_beta(weights[:, 0], alpha)


@pytest.mark.parametrize("name", ["mixup_input_only", "mixup_plus_label_smoothing"])
def test_partners_are_any_image_of_the_batch(monkeypatch, name):
    calls = drawn_by(monkeypatch, name, MIXED[name][0], n=4, times=800)
    partners = torch.stack([partner for _, partner, *_ in calls])

    for i in range(4):
        for j in range(4):
            assert_share(partners[:, i] == j, 0.25)


def test_mixup_same_class_draws_any_image_of_the_class():
    module, _ = of("mixup_same_class")
    label, g = torch.tensor([1, 0, 1, 0, 1]), torch.Generator().manual_seed(0)
    partners = torch.stack([module.permute_within(label, torch.rand(5, generator=g)) for _ in range(900)])

    for i, group in ((0, (0, 2, 4)), (1, (1, 3)), (4, (0, 2, 4))):
        assert set(partners[:, i].tolist()) == set(group)
        for j in group:
            assert_share(partners[:, i] == j, 1 / len(group))


@pytest.mark.parametrize(("params", "layers"), [({}, 3), ({"layer": 1}, 1)])
def test_mixup_latent_draws_any_layer_but_the_last(params, layers):
    _, cls = of("mixup_latent")
    run, batch, found = tiny_run(), tiny_batch(4), []
    trick = cls(**params)
    for _ in range(600):
        trick.batch(batch, run)
        found.append(run.state["mixup_latent"]["layer"])

    stages = len(run.model.stages)
    expected = set(range(stages)) if not params else {1}
    assert set(found) == expected
    for layer in expected:
        assert_share([f == layer for f in found], 1 / len(expected))


@pytest.mark.parametrize(("params", "beta"), [({}, 0.3), ({"beta": 4.0}, 4.0)])
def test_mosaic(monkeypatch, params, beta):
    """Where four tiles meet, on images of 400 pixels, to see fractions; and where in their images crops lie."""
    module, cls = of("mosaic")
    calls = recorded(monkeypatch, module, "tiles")
    monkeypatch.setattr(module, "mosaic", lambda batch, partners, where: batch)
    run, batch = tiny_run(), tiny_batch(1, size=400)
    for _ in range(800):
        cls(**params).batch(batch, run)

    for axis in (1, 2):
        for part in (0.05, 0.25, 0.5, 0.9):
            assert_share([c[axis] < 400 * part for c in calls], float(betainc(beta, beta, part - 0.5 / 400)))
    places = torch.tensor([c[3] for c in calls])
    for tile in range(4):
        for axis in range(2):
            assert_uniform(places[:, tile, axis], 0, 1)


@pytest.mark.parametrize(("params", "prob"), [({}, 0.5), ({"prob": 0.25}, 0.25)])
def test_copy_paste(monkeypatch, params, prob):
    module, cls = of("copy_paste")
    areas, jitters = (recorded(monkeypatch, module, name) for name in ("salient_box", "jittered"))
    run, batch = tiny_run(), tiny_batch(4)
    acted = [cls(mask="box", **params).batch(batch, run) is not batch for _ in range(1500)]

    assert_share(acted, prob)
    assert_uniform([area for _, area in areas], 0, 1)
    draws = torch.cat([draws for _, draws, *_ in jitters], 1)
    for one in draws:
        assert_uniform(one, 0, 1)
    assert_independent(*draws)
    assert {ends for *_, low, high, _ in jitters for ends in [(low, high)]} == {(0.1, 2.0)}
    assert cls().tau == 0.3


@pytest.mark.parametrize(("jitter", "ends"), [("none", (1.0, 1.0)), ("standard", (0.8, 1.25)), ("large", (0.1, 2.0))])
def test_copy_paste_resizes_within_the_ends_of_its_jitter(monkeypatch, jitter, ends):
    calls = drawn_by(monkeypatch, "copy_paste", "jittered", n=4, jitter=jitter, prob=1.0)

    assert [args[2:4] for args in calls] == [ends]


@pytest.mark.parametrize(("p", "whole"), [(0.2, False), (0.7, True)])
def test_dropout(p, whole):
    """Each unit, or channel, falls out with probability p, and what stays is scaled by 1 / (1 - p)."""
    out = dropout(torch.ones(400, 16, 3, 3), p, torch.Generator().manual_seed(0), whole)
    shares = out.flatten(2)[..., :1] if whole else out

    assert_share(shares == 0, p)
    torch.testing.assert_close(out[out > 0], torch.full_like(out[out > 0], 1 / (1 - p)))
    assert not whole or bool((out.flatten(2) == out.flatten(2)[..., :1]).all())


def test_views_move_to_every_place_with_noise_of_the_given_size():
    x = torch.zeros(2000, 1, 8, 8)
    x[:, :, 4, 4] = 1.0
    g = torch.Generator().manual_seed(0)
    at = random_view(x, 0.25, 0.0, g).flatten(1).argmax(1)
    grain = random_view(torch.zeros(100, 1, 8, 8), 0.125, 0.1, g).flatten().double() / 0.1

    for place in (at // 8, at % 8):
        assert set(place.tolist()) == {2, 3, 4, 5, 6}
        assert_uniform(spread(place), 2, 7)
    assert_uniform(torch.special.ndtr(grain), 0, 1)


@pytest.mark.parametrize("source", ["mixup", "cutmix", "noise"])
def test_images_outside_the_data_are_drawn_evenly(monkeypatch, source):
    module, cls = of("kd_plus_ood")
    calls, run = recorded(monkeypatch, module, "synthetic"), tiny_run()
    cls(source=source)._outside(tiny_batch(N).x, run)
    ((_, partner, weight, place, noise, _),) = calls

    assert sorted(partner.tolist()) == list(range(N))
    assert_independent(weight, place[:, 0], place[:, 1])
    for uniform in (weight, place[:, 0], place[:, 1], noise[:50].flatten()):
        assert_uniform(uniform, 0, 1)
