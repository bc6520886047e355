import hashlib

import numpy as np
import torch

from harness import rng


def test_streams_are_reproducible_and_separate():
    a = torch.rand(4, generator=rng.torch_stream(0, "order"))

    assert torch.equal(a, torch.rand(4, generator=rng.torch_stream(0, "order")))
    assert not torch.equal(a, torch.rand(4, generator=rng.torch_stream(0, "augment")))
    assert not torch.equal(a, torch.rand(4, generator=rng.torch_stream(1, "order")))


def test_derived_seed_is_the_head_of_a_sha256():
    head = int(hashlib.sha256(b"0/split").hexdigest()[:16], 16)
    assert rng.derive(0, "split") == head // 2
    assert np.array_equal(rng.numpy_stream(0, "split").random(3), np.random.default_rng(head // 2).random(3))
