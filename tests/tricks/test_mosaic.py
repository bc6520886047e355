import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.mixing.mosaic import Mosaic, Tile, mosaic, tiles

CENTRE = [(0.0, 0.0)] * 4
PARTNERS = [torch.tensor(p) for p in ([0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2])]


class TestMosaic(TrickConformance):
    trick = Mosaic


def test_tiles_by_hand():
    where = tiles((8, 8), 3, 6, [(0.0, 0.0), (0.99, 0.99), (0.5, 0.5), (0.0, 0.99)])
    assert where == [
        Tile(0, 0, 3, 6, from_top=0, from_left=0),
        Tile(0, 6, 3, 2, from_top=5, from_left=6),
        Tile(3, 0, 5, 6, from_top=2, from_left=1),
        Tile(3, 6, 5, 2, from_top=0, from_left=6),
    ]


def test_four_crops_by_hand():
    batch = tiny_batch(n=4, channels=3)
    out = mosaic(batch, PARTNERS, tiles((8, 8), 2, 4, [(0.0, 0.0), (0.0, 0.99), (0.99, 0.0), (0.99, 0.99)]))

    torch.testing.assert_close(out.x[0, :, :2, :4], batch.x[0, :, :2, :4])
    torch.testing.assert_close(out.x[0, :, :2, 4:], batch.x[1, :, :2, 4:])
    torch.testing.assert_close(out.x[0, :, 2:, :4], batch.x[2, :, 2:, :4])
    torch.testing.assert_close(out.x[0, :, 2:, 4:], batch.x[3, :, 2:, 4:])
    expected = torch.zeros(10)
    expected[:4] = torch.tensor([8, 8, 24, 24]) / 64
    torch.testing.assert_close(out.y[0], expected)


def test_centre_in_the_lower_right_corner_is_the_identity():
    batch = tiny_batch(n=4)
    out = mosaic(batch, PARTNERS, tiles((8, 8), 8, 8, CENTRE))
    assert torch.equal(out.x, batch.x)
    assert torch.equal(out.y, batch.y)


def test_targets_are_the_shares_of_pixels():
    """Image i is constant i, so that the hook's own tiles can be counted."""
    run, batch = tiny_run(), tiny_batch(n=8)
    batch.x.copy_((batch.label / 8).view(-1, 1, 1, 1).expand_as(batch.x))
    tiled = 0
    for _ in range(60):
        out = Mosaic(beta=1.0).batch(batch, run)
        owner = (out.x[:, 0] * 8).round().long()
        counted = torch.nn.functional.one_hot(owner.flatten(1), 10).float().mean(1)
        torch.testing.assert_close(out.y, counted)
        tiled = max(tiled, int((out.y > 0).sum(1).max()))
    assert tiled == 4


def test_small_beta_puts_the_centre_at_the_border():
    run, batch = tiny_run(), tiny_batch(n=8)

    def largest_share(beta):
        largest = [Mosaic(beta=beta).batch(batch, run).y.max(1).values.median() for _ in range(200)]
        return float(torch.stack(largest).mean())

    assert largest_share(0.1) > 0.8
    assert largest_share(4.0) < 0.6
