"""What the arms of a study do to its baseline: counts of additions, and the other arms apart from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.types import GAINS, LOSSES, Effect, VerdictKind
from harness.report.text.numbers import plural
from harness.store.schema import ArmPlan, Manifest
from harness.tricks.index import kind_of
from harness.tricks.kinds import ADDITION, KINDS

NOUNS = {
    "addition": "addition",
    "removal": "removal",
    "value": "changed value",
    "fault": "fault",
    "fine-tuning": "fine-tuning method",
    "protocol": "protocol",
    "control": "control",
}


def kind_of_arm(arm: ArmPlan) -> str:
    """The kind of an arm; of studies of earlier versions, which do not say it, from the cards of today."""
    return arm.kind or kind_of(arm.tricks)


def kinds_of(manifest: Manifest) -> dict[str, str]:
    """The kind of each arm by label, in the order in which kinds are told: additions first, unknown ones last."""
    found = {arm.label: kind_of_arm(arm) for arm in manifest.arms}
    order = list(KINDS)
    return dict(sorted(found.items(), key=lambda item: order.index(item[1]) if item[1] in order else len(order)))


def directed(effects: Iterable[Effect], verdicts: Collection[VerdictKind]) -> list[str]:
    """The arms with one of these verdicts."""
    return [e.arm for e in effects if e.verdict.kind in verdicts]


def tally(effects: Sequence[Effect], kinds: Mapping[str, str]) -> str:
    """How many arms there are of each kind: "3 additions, 1 removal"; "3 arms" where all are additions."""
    counts = Counter(kinds[e.arm] for e in effects)
    if counts.keys() <= {ADDITION}:
        return plural(len(effects), "arm")
    told = [(counts[kind], _noun(kind)) for kind in dict.fromkeys(kinds.values()) if counts[kind]]
    return ", ".join(plural(count, noun) for count, noun in told)


@dataclass(frozen=True)
class Headline:
    """What a study found in a glance: `counted` are the additions, or all arms where none is one; `others` the rest."""

    counted: Sequence[Effect]
    others: Sequence[Effect]
    kinds: Mapping[str, str]

    @property
    def first(self) -> str:
        """The counts that matter: "9 of 83 additions help and 5 hurt; 14 others likely help and 1 likely hurts."."""
        return _counts(self.counted, f"of {plural(len(self.counted), 'addition' if self.others else 'arm')} ")

    @property
    def rest(self) -> str:
        """The same of the other arms, and of which kinds they are; empty where all arms are additions."""
        if len(self.others) > 1:
            kinds = tally(self.others, self.kinds)
            return f"Of the {len(self.others)} other arms ({kinds}), {_counts(self.others)}"
        if self.others:
            verdict = self.others[0].verdict.kind
            does = verdict if verdict in GAINS or verdict in LOSSES else "neither helps nor hurts"
            return f"The other arm, a {_noun(self.kinds[self.others[0].arm])}, {does}."
        kinds = tally(self.counted, self.kinds)
        return "" if kinds == plural(len(self.counted), "arm") else f"No arm is an addition: {kinds}."


def headline(effects: Sequence[Effect], kinds: Mapping[str, str]) -> Headline:
    """The effects parted into those that a headline counts and others."""
    additions = [e for e in effects if kinds[e.arm] == ADDITION]
    return Headline(additions or effects, [e for e in effects if additions and kinds[e.arm] != ADDITION], kinds)


def _counts(effects: Sequence[Effect], of: str = "") -> str:
    """How many help and how many hurt, each with its verb; then those that likely do, if any."""

    def told(verdicts: Sequence[VerdictKind], verb: str, what: str = "", other: str = "") -> str:
        count = len(directed(effects, verdicts))
        others = f"{other}{'' if count == 1 else 's'} likely " if other else ""
        return f"{count} {what}{others}{verb}{'s' if count == 1 else ''}"

    likely = ""
    if directed(effects, ("likely helps", "likely hurts")):
        likely = f"; {told(('likely helps',), 'help', other='other')} and {told(('likely hurts',), 'hurt', 'likely ')}"
    return f"{told(('helps', 'helps slightly'), 'help', of)} and {told(('hurts', 'hurts slightly'), 'hurt')}{likely}."


def _noun(kind: str) -> str:
    return NOUNS.get(kind, f"{kind} arm")
