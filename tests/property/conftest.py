"""What holds for everything: any evidence, any configuration, any report, any training script.

In CI every run draws the same examples (profile "ci"); elsewhere each run looks further.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hypothesis

# The modules beside the tests, which also work without pytest: `python tests/property/random_scripts.py`.
sys.path.insert(0, str(Path(__file__).parent))

# Whole audits are large examples, and a folder that several examples write into one after the other does no harm.
CHECKS = hypothesis.HealthCheck
LARGE = [CHECKS.too_slow, CHECKS.data_too_large, CHECKS.large_base_example, CHECKS.function_scoped_fixture]
hypothesis.settings.register_profile("local", deadline=None, suppress_health_check=LARGE)
hypothesis.settings.register_profile("ci", hypothesis.settings.get_profile("local"), derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")
