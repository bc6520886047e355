import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.functional import mix
from harness.tricks.mixing.mixup_input_only import MixupInputOnly, mixup_inputs

SWAP = torch.tensor([1, 0])


class TestMixupInputOnly(TrickConformance):
    trick = MixupInputOnly


@pytest.mark.parametrize("weight", [0.1, 0.4, 0.5, 0.6, 1.0])
def test_target_is_the_argmax_of_the_mixed_target(weight):
    batch = tiny_batch(n=2)
    mixed = mixup_inputs(batch, SWAP, weight)

    torch.testing.assert_close(mixed.x[0], weight * batch.x[0] + (1 - weight) * batch.x[1])
    expected = batch.label if weight >= 0.5 else batch.label[SWAP]
    assert torch.equal(mixed.y.argmax(1), expected)
    assert set(mixed.y.flatten().tolist()) == {0.0, 1.0}
    if weight != 0.5:
        assert torch.equal(mixed.y.argmax(1), mix(batch.y, SWAP, weight).argmax(1))


def test_pixels_of_the_hook_are_closer_to_the_image_of_the_target():
    """Images 0 and 1 are black and white, so the pixel tells the weight that reached it."""
    run, batch = tiny_run(), tiny_batch(n=2)
    batch.x[0], batch.x[1] = 0.0, 1.0
    targets = set()
    for _ in range(60):
        mixed = MixupInputOnly().batch(batch, run)
        for value, target in zip(mixed.x[:, 0, 0, 0].tolist(), mixed.y.argmax(1).tolist(), strict=True):
            assert target == round(value)
        targets.add(int(mixed.y[0].argmax()))
    assert targets == {0, 1}


def test_tiny_alpha_is_no_mixing():
    run, batch = tiny_run(), tiny_batch(n=8)
    for _ in range(20):
        mixed = MixupInputOnly(alpha=1e-4).batch(batch, run)
        # Either the batch or its permutation, with the targets that belong to it.
        here = [int((batch.x - x).flatten(1).abs().amax(1).argmin()) for x in mixed.x]
        torch.testing.assert_close(mixed.x, batch.x[here])
        assert torch.equal(mixed.y, batch.y[here])
