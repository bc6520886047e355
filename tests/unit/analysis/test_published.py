"""The verdicts on our published rows."""

from pathlib import Path

import pytest

from harness.analysis.effects import analyse
from harness.store.reader import read_manifest, read_search, read_study

PUBLISHED = Path(__file__).parents[3] / "results" / "published"


def analyses():
    for path in sorted(PUBLISHED.glob("*/study.json")):
        yield path.parent.name, path.parent, read_manifest(path.parent)
    for path in sorted(PUBLISHED.glob("*/search.json")):
        for kind, manifest in read_search(path.parent).comparisons.items():
            yield f"{path.parent.name}-{kind}", path.parent, manifest


@pytest.mark.parametrize(("folder", "manifest"), [pytest.param(*rest, id=name) for name, *rest in analyses()])
def test_no_arm_is_undecided_while_its_interval_excludes_zero(folder, manifest):
    effects = analyse(read_study(folder, manifest.runs, predictions=False).runs, manifest).effects
    assert effects
    for e in effects:
        clear = e.low > 0 or e.high < 0
        assert not (clear and e.verdict.kind in ("undecided", "equivalent")), e.verdict.label
        assert not (clear and "no detectable difference" in e.verdict.sentence), e.verdict.sentence
