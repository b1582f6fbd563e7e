"""The models of the protocol hold, and fail once a safeguard is left out."""
import os
import shutil
import subprocess

import pytest

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../model/run")


@pytest.mark.skipif(shutil.which("spin") is None or shutil.which("gcc") is None, reason="needs spin and gcc")
def test_the_models_hold_and_need_every_safeguard(full):
    result = subprocess.run([RUN] + ["--full"] * full, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            check=False)
    if result.returncode != 0:
        pytest.fail(result.stdout, pytrace=False)
