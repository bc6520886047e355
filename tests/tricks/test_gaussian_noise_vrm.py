import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.augment.gaussian_noise_vrm import GaussianNoiseVrm, add_noise


class TestGaussianNoiseVrm(TrickConformance):
    trick = GaussianNoiseVrm


def test_by_hand():
    x, noise = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([-1.0, 1.0, 2.0])
    torch.testing.assert_close(add_noise(x, noise, 0.1, clip=False), torch.tensor([-0.1, 0.6, 1.2]))
    torch.testing.assert_close(add_noise(x, noise, 0.1, clip=True), torch.tensor([0.0, 0.6, 1.0]))


def test_moments_of_the_added_noise():
    batch = tiny_batch(n=500)
    added = GaussianNoiseVrm(sigma=0.2).batch(batch, tiny_run()).x - batch.x

    assert abs(added.mean()) < 0.2 * 4 / 32000**0.5
    assert abs(added.std() - 0.2) < 0.004
    assert (added[0] != added[1]).all()


def test_sigma_zero_is_the_identity_and_clip_keeps_pixels_in_range():
    batch = tiny_batch()
    assert torch.equal(GaussianNoiseVrm(sigma=0.0).batch(batch, tiny_run()).x, batch.x)
    out = GaussianNoiseVrm(sigma=1.0, clip=True).batch(batch, tiny_run()).x
    assert out.min() == 0
    assert out.max() == 1


def test_is_weight_decay_for_a_linear_model_with_squared_loss():
    """E (w (x + n) - t)^2 = (w x - t)^2 + sigma^2 |w|^2 (Bishop 1995)."""
    batch = tiny_batch(n=1)
    many = batch.x.expand(20000, 1, 8, 8)
    run = tiny_run()
    w = torch.linspace(-1, 1, 64)
    clean = batch.x.flatten() @ w
    noisy = (
        GaussianNoiseVrm(sigma=0.3).batch(type(batch)(many, batch.y, batch.label, batch.index), run).x.flatten(1) @ w
    )

    penalty = ((noisy - 1) ** 2).mean() - (clean - 1) ** 2
    torch.testing.assert_close(penalty, 0.09 * (w @ w), rtol=0.05, atol=0.0)
