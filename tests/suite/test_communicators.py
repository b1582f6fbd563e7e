"""Communicators of every origin, on one node and on two; who is left alone, and by whose wish."""
import pytest

import launch
from launch import run, simulated


@pytest.mark.by_turns
@pytest.mark.parametrize("ranks, devices, pml", [(2, 1, "ucx"), (4, 4, "ob1"), (5, 2, "ucx")])
def test_communicators_of_every_origin_are_served(build, check, ranks, devices, pml):
    check(run(build, "communicators", ranks=ranks, pml=pml, gpus=simulated(build, devices), timeout=40))


@pytest.mark.by_turns
def test_parts_may_be_served_where_the_whole_is_not(build, check):
    """GPUs 0-1 and 2-3 have NVLink, and nothing but PCIe between them."""
    result = check(run(build, "communicators", "--case", "halves", ranks=4, timeout=40,
                       gpus=simulated(build, devices=4, topology="pairs"), car={"verbose": 1}))
    assert len([line for line in result.lines_of_car() if ": in use" in line and "NVLink" in line]) == 2, result


@pytest.mark.by_turns
@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_two_halves_call_at_once_on_one_gpu(build, check, ranks):
    check(run(build, "communicators", "--case", "halves", ranks=ranks, gpus=simulated(build), timeout=40))


@pytest.mark.by_turns
@pytest.mark.parametrize("ranks", [2, 8])
def test_a_hundred_communicators_at_once(build, check, ranks):
    check(run(build, "communicators", "--case", "many", ranks=ranks, gpus=simulated(build), timeout=60))


@pytest.mark.by_turns
@pytest.mark.parametrize("ranks, devices", [(2, 1), (4, 2)])
def test_more_communicators_than_there_is_memory_for(build, check, ranks, devices):
    result = check(run(build, "communicators", "--case", "crowd", "--many", 60, ranks=ranks, gpus=simulated(build, devices),
                       car={"memory": 4 << 20, "verbose": 1}, timeout=60))
    assert any("coll_car_memory sets how much there is" in line for line in result.lines_of_car()), result


@pytest.mark.slow
def test_hundreds_of_communicators_at_once(build, check):
    """By default 170 have memory; every one is right."""
    check(run(build, "communicators", "--case", "crowd", "--many", 300, ranks=8, gpus=simulated(build), timeout=300))


def test_intercommunicators_are_left_to_open_mpi(build, check):
    """It can read device memory there only if it was built with CUDA."""
    check(run(build, "communicators", "--case", "inter", "--device", "yes" if build.cuda_aware else "no", ranks=5,
              gpus=simulated(build), timeout=40))


# --- two nodes ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("han", [None, 100])
def test_ranks_of_two_nodes(build, check, tmp_path, han):
    """The nodes' own communicators are served, one across them never. coll/han at 100 is above Open MPI's staging."""
    how = launch.two_nodes(build, tmp_path)
    if how is None:
        pytest.skip("no UTS namespaces here: nothing can have a host name of its own")
    options, environment = how
    if han is not None:
        options += ["--mca", "coll_han_priority", str(han)]
    result = check(run(build, "communicators", "--case", "nodes", "--device",
                       "yes" if build.cuda_aware and han is None else "no", ranks=4, options=options,
                       env=environment, gpus=simulated(build, devices=2), car={"verbose": 1}, timeout=40))
    assert any("(4 ranks): not in use: it spans nodes" in line for line in result.lines_of_car()), result


@pytest.mark.by_turns
@pytest.mark.parametrize("coll, priority", [("han", 100), ("tuned", 90)])
def test_other_components_beside_it_on_one_node(build, check, coll, priority):
    """coll/han is above, and has nothing to do on one node."""
    check(run(build, "allreduce", "--cases", 20, ranks=3, gpus=simulated(build, devices=3),
              options=["--mca", f"coll_{coll}_priority", str(priority)]))


# --- processes that come later, sessions ------------------------------------------------------------------------------

@pytest.mark.parametrize("ranks, devices, pml", [(2, 1, "ob1"), (3, 4, "ucx")])
def test_spawned_processes(build, check, ranks, devices, pml):
    check(run(build, "spawn", ranks=ranks, pml=pml, gpus=simulated(build, devices), timeout=40))


@pytest.mark.parametrize("world", ["yes", "no"])
def test_sessions(build, check, world):
    """With pml/ob1: pml/ucx of Open MPI 5.0.7 cannot make a session's communicators."""
    check(run(build, "sessions", "--world", world, ranks=4, gpus=simulated(build, devices=2), timeout=40))
