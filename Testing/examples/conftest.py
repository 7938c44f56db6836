"""Lets the tests import what lies in examples/ and Testing/benchmarks/ as their commands do."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
for folder in ("examples", "Testing/benchmarks"):
    sys.path.insert(0, str(REPOSITORY / folder))
