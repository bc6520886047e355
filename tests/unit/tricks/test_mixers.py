from itertools import combinations

import pytest

from harness.errors import UserError
from harness.tricks import registry
from harness.tricks.functional import MIXERS
from harness.tricks.stack import Stack


@pytest.mark.parametrize("pair", list(combinations(MIXERS, 2)), ids="+".join)
def test_an_arm_has_at_most_one_mixer(pair):
    with pytest.raises(UserError, match="replaces the image by a mixture of its own"):
        Stack(registry.make(name) for name in pair)


def test_mixers_are_known_tricks():
    assert set(MIXERS) <= set(registry.names())
