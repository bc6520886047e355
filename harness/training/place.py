"""Where and how runs execute on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.data.content import content
from harness.data.sources import load_source
from harness.experiment import Data, Experiment, Recipe, RunSpec
from harness.identity import Identity, key_of
from harness.training.provenance import deciding_packages, fingerprint
from harness.tricks import needs


@dataclass(frozen=True)
class Place:
    """Where and how runs execute on this machine; nothing here may change a result beyond its last bits."""

    data_root: Path
    device: str = "cpu"
    threads: int = 1
    packed: bool = False
    cuda_graphs: bool = False
    """Capture training steps and replay them, on a CUDA device (`training.graph`)."""
    check: bool = False
    stages_dir: Path | None = None
    """The folder of runs that other runs need (`training.stages`), which studies share."""
    checkpoint_dir: Path | None = None
    checkpoint_seconds: float = 60.0
    """Longest training time that a kill can cost, to the next end of an epoch."""
    contiguous: bool = False
    """Train in the contiguous layout, whatever the recipe says (`layout.layer_at_risk`)."""
    rehearsal: bool = False
    """Stages come untrained, set-up phases do one step, and a layout at risk is refused."""

    def fingerprint(self, of: RunSpec | Experiment) -> dict[str, str]:
        """What changes the bits of a run beside its spec (`provenance.fingerprint`)."""
        packages = deciding_packages(of.data, of.model)
        return fingerprint(self.laid_out(of.recipe), self.device, self.threads, self.cuda_graphs, packages)

    def digest(self, data: Data) -> str:
        """The content digest of a data set.

        Raises:
            UserError: it is not here, or damaged.
        """
        return content(data, self.data_root).digest

    def identity(self, spec: RunSpec, images: str) -> Identity:
        """What decides a run's numbers beside its spec and machine, on the data set with that content digest."""
        return needs.identify(spec, images, self.digest)

    def name(self, spec: RunSpec, images: str | None = None) -> str:
        """What files of a run are named by: its key and its fingerprint. Loads the images, or takes their digest."""
        identity = self.identity(spec, images or load_source(spec.data, self.data_root).digest)
        return f"{key_of(spec.run_id, identity.short)}-{self.fingerprint(spec)['fingerprint']}"

    def laid_out(self, recipe: Recipe) -> Recipe:
        """The recipe with the memory layout that is used here."""
        return recipe.model_copy(update={"channels_last": False}) if self.contiguous else recipe
