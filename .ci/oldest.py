"""Print the oldest package that pyproject.toml allows of each that users install, as constraints for pip."""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for line in [*project["dependencies"], *extras["postgres"], *extras["ray"]]:
    found = re.fullmatch(r"([\w-]+)(\[[\w,-]+\])?>=([\w.]+)", line)
    if found is None:
        sys.exit(f"pyproject.toml: {line}: write NAME>=VERSION, the oldest version that is tested")
    print(f"{found[1]}=={found[3]}")  # noqa: T201
