"""Measures in this process, and prints a row of JSON on each line."""

import json
import sys
from dataclasses import asdict

from harness.bench.measures import FULL, QUICK, measure

for row in measure(QUICK if "--quick" in sys.argv[1:] else FULL):
    sys.stdout.write(json.dumps(asdict(row)) + "\n")
    sys.stdout.flush()
