"""Memory that is freed, and peers that hear of it: at once with UCX's events, with the next call without."""
import os

import pytest

from launch import run, simulated

pytestmark = pytest.mark.by_turns

ZERO_COPY = {"zero_copy_min": 20000, "zero_copy_again": 20000}


def standin(build):
    """The tests' own library in the place of UCX's, which seldom has CUDA where there are no GPUs."""
    return {"ucx": os.path.join(build.path, "tests/ucm/lib/libcar_standin_ucm.so")}


@pytest.mark.parametrize("ranks, devices", [(2, 1), (4, 2)])
def test_peers_let_go_at_once_of_what_is_freed(build, check, ranks, devices):
    check(run(build, "free_events", ranks=ranks, gpus=simulated(build, devices), car={**ZERO_COPY, **standin(build)}))


def test_they_do_where_ranks_take_turns_on_a_gpu(build, check):
    check(run(build, "free_events", ranks=3, gpus=simulated(build, mps=0), car={**ZERO_COPY, **standin(build)}))


def test_memory_is_freed_and_allocated_again_thousands_of_times_with_events(build, check, full):
    check(run(build, "free_events", "--case", "cycles", "--times", 20000 if full else 2000, "--bytes", 6000, ranks=3,
              gpus=simulated(build), car={"zero_copy_min": 4096, "zero_copy_again": 4096, **standin(build)},
              timeout=300 if full else 60))


@pytest.mark.parametrize("library", ["none", "/nowhere/libucs.so.0", "libdl.so.2"])
def test_without_ucx_the_next_large_call_tells(build, check, library):
    check(run(build, "free_events", "--expect", "later", ranks=3, gpus=simulated(build), car={**ZERO_COPY, "ucx": library}))


def test_events_on_one_rank_only_are_heard_by_all_who_listen(build, check):
    """The others tell with their next call; nothing waits for anybody."""
    check(run(build, "free_events", "--expect", "later", "--case", "cycles", ranks=3, gpus=simulated(build), car=ZERO_COPY,
              rank_env={1: {"OMPI_MCA_coll_car_ucx": standin(build)["ucx"]}}))
