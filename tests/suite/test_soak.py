"""tests/soak: the fuzzer with an eye on what its processes hold. An hour of it is run by hand; docs/testing.md has the last one."""
import os
import subprocess

import pytest

import launch

SOAK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../soak")


@pytest.fixture(scope="module", name="soak")
def fixture_soak():
    return launch.load_script(SOAK)


def looks(**growth):
    """100 looks at a process that holds a little more or less each time, and grows by so much in all."""
    steady = {"memory": 200000, "descriptors": 40, "mappings": 900}
    return [{kind: value + (i * 7 % 5) + growth.get(kind, 0) * i // 100 for kind, value in steady.items()} for i in range(100)]


def test_what_does_not_grow_is_no_leak(soak):
    assert soak.leaks(looks()) == []


@pytest.mark.parametrize("growth", [{"memory": 60000}, {"descriptors": 30}, {"mappings": 200}], ids=str)
def test_what_grows_is_a_leak(soak, growth):
    found = soak.leaks(looks(**growth))
    assert len(found) == 1 and found[0].startswith(next(iter(growth))), found


def test_the_verdict_is_on_all_ranks(soak):
    steady, grown = looks(), looks(memory=60000)
    assert soak.verdict({1: steady, 2: steady}, 2, 240, True, 0) == (True, "passed, and nothing has grown")
    well, said = soak.verdict({1: steady, 2: grown}, 2, 240, True, 0)
    assert not well and said.startswith("FAILED: memory 2"), said
    assert soak.verdict({1: steady}, 2, 240, True, 0) == (False, "FAILED: status 0, 1 ranks seen")
    assert soak.verdict({1: steady, 2: steady}, 2, 240, False, 3) == (False, "FAILED: status 3, 2 ranks seen")
    assert soak.verdict({1: steady, 2: steady[:5]}, 2, 240, True, 0) == (False, "FAILED: too few looks")


def test_a_short_run_is_not_judged_by_what_it_holds(soak):
    """Processes still grow to their size then, the later the busier the machine is."""
    assert soak.verdict({1: looks(memory=60000)}, 1, 239, True, 0) == (True, "passed, too short to tell whether anything grows")
    assert not soak.verdict({1: looks()}, 1, 239, False, 1)[0]


def test_a_short_soak_watches_every_rank_and_passes():
    done = subprocess.run([SOAK, "--seconds", "12", "--ranks", "2", "--max-bytes", "20000"], capture_output=True, text=True, timeout=90,
                          check=False)
    said = done.stdout + done.stderr
    assert said.count(" looks:") == 2, said
    assert done.returncode == 0 and "passed, too short to tell" in said, said
