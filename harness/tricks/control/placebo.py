"""The A/A control: other initial weights, data order and augmentation draws on the same split."""

from __future__ import annotations

from typing import ClassVar

from harness.rng import AUGMENT, INIT, ORDER
from harness.tricks.contract import Info, Trick


class Placebo(Trick):
    """Not from a paper: the empirical noise floor of a study."""

    info: ClassVar = Info(
        name="placebo",
        family="control",
        kind="control",
        summary="redraw every random stream but the split: the noise floor of the study",
        paper="none; an A/A test",
        formula="the streams init, order and augment are seeded from another seed",
        expect="No detectable difference. A verdict here means that the study's tests are wrong.",
    )

    def stream_seed(self, seed: int, purpose: str) -> int:
        """Another seed for all block streams but the split."""
        return seed + 1_000_003 if purpose in (INIT, ORDER, AUGMENT) else seed
