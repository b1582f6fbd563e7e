"""What only real GPUs can show: tests/gpu/run does it, this lists it, so that a run without says what it left out."""
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../gpu"))
import experiments  # noqa: E402


@pytest.mark.parametrize("section", experiments.sections(), ids=lambda section: section.name.replace(" ", "_"))
def test_on_real_gpus(section):
    pytest.skip(f"{section.name}: {len(section.jobs)} tests that need a real GPU: tests/gpu/run")
