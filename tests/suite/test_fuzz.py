"""Random calls of every kind against a fold on the host, for a fixed time; a failure prints the options that repeat it."""
import time

import pytest

from launch import run, simulated

pytestmark = pytest.mark.by_turns

# Every algorithm within the sizes that simulated GPUs are quick with.
ALL_ALGORITHMS = {"push_max": 4000, "pull_max": 60000}


@pytest.mark.parametrize("ranks, devices, pml", [(3, 1, "ob1"), (4, 2, "ucx"), (8, 8, "ob1")])
def test_random_calls(build, check, ranks, devices, pml):
    seed = int(time.time())
    check(run(build, "fuzz", "--seed", seed, "--seconds", 5, "--max-bytes", 256 << 10, ranks=ranks, pml=pml,
              car={**ALL_ALGORITHMS, "zero_copy_min": 100000}, gpus=simulated(build, devices=devices)))


def test_random_calls_one_at_a_time(build, check):
    check(run(build, "fuzz", "--seed", int(time.time()), "--seconds", 4, "--forms", "blocking", "--max-bytes", 256 << 10, ranks=4,
              car=ALL_ALGORITHMS, gpus=simulated(build, devices=2)))


def test_random_calls_of_ranks_that_share_a_gpu_without_mps(build, check):
    check(run(build, "fuzz", "--seed", int(time.time()), "--seconds", 4, "--max-bytes", 256 << 10, ranks=3,
              car={"zero_copy_min": 100000}, gpus=simulated(build, mps=0)))


@pytest.mark.slow
def test_a_message_of_more_than_2_to_the_31_bytes(build, check):
    """Takes 8 GB of memory."""
    check(run(build, "fuzz", "--huge", "yes", "--seconds", 1, "--max-bytes", 65536, gpus=simulated(build, devices=2), timeout=300))


def test_a_seed_makes_the_same_calls_again(build, check):
    results = [check(run(build, "fuzz", "--seed", 7, "--first", 3, "--generations", 2, "--max-bytes", 20000, ranks=2,
                         gpus=simulated(build))) for _ in range(2)]
    # By what kernels is counted of whatever ends during a blocking call, which may be a request that is under way.
    first, second = (result.line("ok").split(";")[0] for result in results)
    assert first == second
