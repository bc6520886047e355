import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.augment.random_perspective import CORNERS, RandomPerspective, homography
from harness.tricks.contract import NotApplicable
from harness.tricks.images import warp

SQUARE = torch.tensor(CORNERS, dtype=torch.float64)


class TestRandomPerspective(TrickConformance):
    trick = RandomPerspective


def moved_corners(n=16, reach=0.5):
    g = torch.Generator().manual_seed(0)
    return SQUARE * (1 - reach * torch.rand(n, 4, 2, generator=g, dtype=torch.float64))


def test_moved_corners_go_back_to_the_corners():
    moved = moved_corners()
    homogeneous = torch.cat((moved, torch.ones(16, 4, 1, dtype=torch.float64)), -1) @ homography(moved).mT
    back = homogeneous[..., :2] / homogeneous[..., 2:]
    torch.testing.assert_close(back, SQUARE.expand(16, 4, 2))


def test_corners_in_place_are_the_identity():
    x = tiny_batch(n=2).x.double()
    torch.testing.assert_close(warp(x, homography(SQUARE.expand(2, 4, 2))), x)


def test_straight_lines_stay_straight():
    """Three points on a line before the map are on a line after it."""
    points = torch.tensor([[-0.5, -0.2, 1.0], [0.0, 0.1, 1.0], [0.5, 0.4, 1.0]], dtype=torch.float64)
    out = points @ homography(moved_corners()).mT
    out = out[..., :2] / out[..., 2:]
    first, second = out[:, 1] - out[:, 0], out[:, 2] - out[:, 0]
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    assert area.abs().max() < 1e-12
    # ... but their distances do not stay in proportion, which an affine map would keep.
    assert (first.norm(dim=1) / second.norm(dim=1) - 0.5).abs().max() > 0.01


def test_all_corners_moved_alike_shrink_the_image():
    x = tiny_batch(n=1).x.double()
    small = warp(x, homography(0.5 * SQUARE[None]))
    torch.testing.assert_close(small[..., 2:6, 2:6], torch.nn.functional.avg_pool2d(x, 2))


def test_white_images_show_where_the_corners_went():
    """Corners of 64 pixels move inwards by up to distortion / 2 of the side along each axis, on their own."""
    run, batch = tiny_run(size=64), tiny_batch(n=300, size=64)
    batch.x.fill_(1.0)
    x = RandomPerspective(distortion=0.5, p=1.0).batch(batch, run).x[:, 0]

    torch.testing.assert_close(x[:, 17:47, 17:47], torch.ones(300, 30, 30))
    black = (x < 0.5).float().mean((1, 2))
    assert black.min() > 0.02
    assert black.max() < 0.75
    assert abs(black.mean() - 0.4375) < 0.02  # the mean area of the quadrilateral is (1 - 1/4)^2


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_each_image_is_changed_with_probability_p(p):
    batch = tiny_batch(n=1000)
    out = RandomPerspective(p=p).batch(batch, tiny_run())
    changed = ((out.x - batch.x).abs().amax((1, 2, 3)) > 1e-4).float().mean()
    assert abs(changed - p) <= (0.05 if p == 0.3 else 0.0)


def test_refuses_what_leaves_the_frame():
    run = tiny_run(info=tiny_info()._replace(invariances=tiny_info().invariances._replace(shift=0.125)))
    RandomPerspective(distortion=0.25).prepare(run)
    with pytest.raises(NotApplicable, match=r"distortion = 0\.3 .* bear 0\.25"):
        RandomPerspective(distortion=0.3).prepare(run)
    RandomPerspective(distortion=0.3, force=True).prepare(run)
