"""Nonblocking and persistent allreduces, zero copy, and ranks that take turns on a GPU: what they promise, one by one."""
import pytest

import launch
from launch import run, simulated

FORMS = ["blocking", "nonblocking", "persistent"]
OTHER_FORMS = FORMS[1:]

# Zero copy and staging within the sizes that simulated GPUs are quick with.
SMALL_ZERO_COPY = {"zero_copy_min": 20000}
EVERY_SIZE = 2**31 - 1


# Open MPI's own shared memory cannot be used where ranks do not see the same.
NO_SHARED_MEMORY = {"OMPI_MCA_btl": "self,tcp", "OMPI_MCA_btl_tcp_if_include": "lo"}


def form(name):
    return {"CAR_TEST_FORM": name}


# --- many under way -----------------------------------------------------------------------------------------------------

@pytest.mark.by_turns
@pytest.mark.parametrize("ranks, devices, pml, car", [(2, 1, "ob1", {}), (3, 1, "ucx", SMALL_ZERO_COPY),
                                                      (4, 2, "ob1", SMALL_ZERO_COPY), (8, 2, "ucx", {})])
def test_hundreds_of_calls_are_under_way_on_many_communicators(build, check, ranks, devices, pml, car):
    check(run(build, "outstanding", "--calls", 60 if ranks < 8 else 20, ranks=ranks, pml=pml, car=car,
              gpus=simulated(build, devices)))


@pytest.mark.by_turns
@pytest.mark.parametrize("memory", [1 << 20, 2 << 20])
def test_device_memory_is_too_small_for_all_while_the_program_fills_the_gpu(build, check, memory):
    check(run(build, "outstanding", "--integers", "yes", "--room", "no", "--fill-ms", 30, "--max-bytes", 500000, ranks=3,
              gpus=simulated(build, devices=2), car={"memory": memory}))


@pytest.mark.by_turns
def test_one_communicator_after_the_other_grows_within_little_memory(build, check):
    """All have memory, and none as much as it would like."""
    check(run(build, "outstanding", "--max-bytes", 1 << 20, "--calls", 20, ranks=3, gpus=simulated(build), car={"memory": 8 << 20}))


@pytest.mark.by_turns
@pytest.mark.parametrize("complete", ["own", "other"])
def test_threads_post_and_others_may_complete(build, check, complete):
    check(run(build, "outstanding", "--threads", 4, "--calls", 20, "--complete", complete, ranks=3,
              gpus=simulated(build, devices=2)))


# --- the programs of blocking calls, in the other forms (test_matrix.py has allreduce) ---------------------------------------

PROGRAMS = {
    "types": (),
    "mixed": ("--cases", 60),
    "big": ("--bytes", 12 << 20),
    "derived": (),
    "late": ("--limit-ms", 500, "--ms", 1000),
    "context": (),
    "lifecycle": ("--rounds", 20),
    "communicators": (),
    "erroneous": (),
    "whole": (),
}


@pytest.mark.by_turns
@pytest.mark.parametrize("which", OTHER_FORMS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_in_the_other_forms(build, check, program, which):
    # types: its fold is compared with Open MPI's plain C loops. big: more than coll/car may use.
    more = {"types": {"env": {"OMPI_MCA_op": "^avx", **form(which)}}, "big": {"car": {"memory": 1 << 20}}}
    check(run(build, program, *PROGRAMS[program], **{"ranks": 3, "gpus": simulated(build, devices=2), "env": form(which),
                                                     **more.get(program, {})}))


@pytest.mark.by_turns
@pytest.mark.parametrize("which", OTHER_FORMS)
def test_the_default_stream_comes_first_in_the_other_forms(build, check, which):
    check(run(build, "stream_order", "--expect", "after", gpus=simulated(build), car={"stream_order": "legacy"}, env=form(which)))
    check(run(build, "stream_order", "--expect", "before", gpus=simulated(build), env=form(which)))


@pytest.mark.parametrize("which", OTHER_FORMS)
def test_mpi_goes_on_while_a_rank_waits_in_the_other_forms(build, check, which):
    check(run(build, "progress", ranks=3, gpus=simulated(build), env={**launch.NO_SINGLE_COPY, **form(which)}, timeout=30))


# --- communicators are made meanwhile -----------------------------------------------------------------------------------

@pytest.mark.parametrize("ranks, devices, pml, kinds", [(2, 1, "ucx", "device,managed,host"), (4, 2, "ob1", "device,host,other"),
                                                        (3, 1, "ob1", "host")])
def test_communicators_are_made_while_calls_are_under_way(build, check, ranks, devices, pml, kinds):
    """Stock Open MPI gives wrong sums there, of host memory."""
    check(run(build, "idup", "--kinds", kinds, ranks=ranks, pml=pml, gpus=simulated(build, devices)))


@pytest.mark.by_turns
def test_the_same_with_too_little_memory(build, check):
    check(run(build, "idup", "--room", "no", ranks=3, gpus=simulated(build), car={"memory": 1 << 20}))


# --- persistent requests ------------------------------------------------------------------------------------------------

@pytest.mark.by_turns
@pytest.mark.parametrize("ranks, devices, pml", [(2, 1, "ob1"), (3, 2, "ucx")])
def test_more_persistent_requests_than_there_are_lanes(build, check, ranks, devices, pml):
    check(run(build, "persistent", ranks=ranks, pml=pml, gpus=simulated(build, devices)))


@pytest.mark.by_turns
@pytest.mark.parametrize("more", [{"car": SMALL_ZERO_COPY, "ranks": 4, "requests": 150},
                                  {"car": {"push_max": 1000, "pull_max": 20000, "zero_copy_min": 0}, "ranks": 3},
                                  {"car": {"launch": "plain"}, "ranks": 2, "env": {"CUDA_LAUNCH_BLOCKING": "1"}},
                                  {"car": {"memory": 1 << 20}, "ranks": 3, "room": "no"}],
                         ids=["zero copy", "every algorithm", "launches block", "little memory"])
def test_persistent_requests_in_every_way(build, check, more):
    more = {"room": "yes", "requests": 60, **more}
    room, requests = more.pop("room"), more.pop("requests")
    check(run(build, "persistent", "--requests", requests, "--room", room, gpus=simulated(build, devices=2), **more))


@pytest.mark.by_turns
def test_epochs_of_persistent_requests_begin_again_without_blocking(build, check):
    for push_max in (0, 1 << 20):
        check(run(build, "persistent", "--requests", 15, "--rounds", 25, ranks=3, gpus=simulated(build),
                  car={"first_epoch": 2**32 - 5, "push_max": push_max, "zero_copy_min": 0}))


def test_persistent_requests_where_coll_car_declines(build, check):
    check(run(build, "persistent", "--expect", "declined", "--requests", 40, ranks=3,
              gpus=simulated(build, devices=4, topology="pcie")))


# --- what kernels do not serve ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("ranks, devices, pml", [(2, 1, "ob1"), (4, 2, "ucx")])
def test_calls_that_kernels_do_not_serve_cross_with_nothing(build, check, ranks, devices, pml):
    check(run(build, "unsupported", ranks=ranks, pml=pml, gpus=simulated(build, devices)))


def test_the_same_where_coll_car_declines(build, check):
    check(run(build, "unsupported", "--room", "no", ranks=3, gpus=simulated(build, devices=3, topology="pcie")))


# --- zero copy ----------------------------------------------------------------------------------------------------------

@pytest.mark.by_turns
@pytest.mark.parametrize("which, ranks, devices, alone", [("blocking", 4, 2, 0), ("nonblocking", 3, 1, -1), ("persistent", 2, 2, EVERY_SIZE),
                                                          ("blocking", 3, 1, EVERY_SIZE), ("nonblocking", 4, 2, 0)])
def test_zero_copy_in_every_form(build, check, which, ranks, devices, alone):
    check(run(build, "zero_copy", "--times", 200, ranks=ranks, gpus=simulated(build, devices), env=form(which),
              car={**SMALL_ZERO_COPY, "push_max": 1000, "alone_max": alone}))


@pytest.mark.by_turns
def test_one_rank_may_do_a_zero_copy_for_all(build, check):
    """Each in turn, so that all together launch a third of what three ranks launch that do their shares."""
    def launches(alone):
        result = run(build, "zero_copy", "--case", "repeat", ranks=3, gpus=simulated(build, log=1),
                     env={"SIMGPU_FROM": "mca_coll_car"}, car={**SMALL_ZERO_COPY, "alone_max": alone})
        check(result)
        return result.output.count("simgpu: cuGraphLaunch")
    calls, launched = launches(EVERY_SIZE), launches(0)
    assert calls > 20 and 2.5 * calls < launched < 3.5 * calls, (calls, launched)


@pytest.mark.by_turns
def test_memory_is_freed_and_allocated_again_thousands_of_times(build, check, full):
    check(run(build, "zero_copy", "--case", "reuse", "--times", 20000 if full else 2000, "--bytes", 6000, ranks=3,
              gpus=simulated(build), car={"zero_copy_min": 4096}, timeout=300 if full else 60))


@pytest.mark.by_turns
@pytest.mark.parametrize("most, expect", [(5, "zero_copy"), (1, "staged")])
def test_more_allocations_than_may_be_mapped(build, check, most, expect):
    check(run(build, "zero_copy", "--case", "many", "--expect", expect, ranks=3, gpus=simulated(build),
              car={**SMALL_ZERO_COPY, "map_max": most}))


@pytest.mark.by_turns
@pytest.mark.parametrize("fails", ["cuIpcOpenMemHandle:3+", "cuIpcOpenMemHandle:3", "cuIpcGetMemHandle:2+"])
def test_a_rank_whose_driver_maps_no_buffers_makes_all_stage(build, check, fails):
    """Only arenas are mapped before: of two peers. Whoever asks is told of it."""
    result = run(build, "zero_copy", "--case", "refused", ranks=3, gpus=simulated(build), car={**SMALL_ZERO_COPY, "verbose": 1},
                 rank_env={1: {"SIMGPU_FAIL": fails}})
    check(result)
    told = result.output.count("cannot map a buffer of rank")
    assert told == ("cuIpcOpenMemHandle" in fails), result.output


# --- ranks that take turns on a GPU ---------------------------------------------------------------------------------------

@pytest.mark.by_turns
@pytest.mark.parametrize("which", FORMS)
def test_ranks_that_share_a_gpu_without_mps(build, check, which):
    gpus = simulated(build, devices=1, mps=0)
    result = check(run(build, "allreduce", "--cases", 30, ranks=3, gpus=gpus, env=form(which)))
    # No kernel waits for a peer.
    assert "by one_shot_push 0, two_shot_push 0, one_shot_pull 0, two_shot 0" in result.line("ok "), result
    check(run(build, "mixed", "--cases", 40, ranks=4, gpus=gpus, env=form(which), car=SMALL_ZERO_COPY))


@pytest.mark.by_turns
@pytest.mark.parametrize("program, arguments", [("outstanding", ("--calls", 30)), ("persistent", ("--requests", 60)),
                                                ("lifecycle", ("--rounds", 15)), ("communicators", ()), ("idup", ("--rounds", 6))])
def test_programs_whose_ranks_share_gpus_without_mps(build, check, program, arguments):
    check(run(build, program, *arguments, ranks=4, gpus=simulated(build, devices=2, mps=0), car=SMALL_ZERO_COPY))


@pytest.mark.by_turns
@pytest.mark.parametrize("ranks, devices, mps, two_phase, hints", [
    (3, 1, 0, "auto", 1), (3, 1, 1, "auto", 0), (2, 2, 0, "always", 0), (2, 1, 1, "always", 0)])
def test_the_hint_at_mps_comes_once_and_only_where_mps_would_help(build, check, ranks, devices, mps, two_phase, hints):
    result = check(run(build, "communicators", ranks=ranks, gpus=simulated(build, devices=devices, mps=mps), car={"two_phase": two_phase}))
    assert result.output.count("nvidia-cuda-mps-control -d") == hints, result


# --- no control segment -------------------------------------------------------------------------------------------------

@pytest.mark.by_turns
@pytest.mark.parametrize("which", FORMS)
@pytest.mark.parametrize("size", ["16k", "50%"])
def test_no_control_segment_for_all_ranks(build, check, which, size):
    """
    Each rank has a /dev/shm of its own, and does not see the others' files in /proc, or it is too small: nonblocking calls, taken before that
    is known, are done all the same.
    """
    under = launch.unshared("--mount", *(["--pid", "--kill-child"] if size == "50%" else []))
    if under is None:
        pytest.skip("ranks cannot have a /dev/shm of their own here")
    own = ["sh", "-c", f'mount -t tmpfs -o size={size} none /dev/shm && exec "$@"', "own"]
    more = {"ranks": 3, "gpus": simulated(build, devices=2), "under": [*under, *own], "timeout": 40, "car": {"verbose": 1}}
    result = check(run(build, "allreduce", "--expect", "declined", "--kinds", "device,managed,host", "--cases", 30,
                       "--max-bytes", 50000, env={**NO_SHARED_MEMORY, **form(which)}, **more))
    assert any("not in use" in line and "/dev/shm" in line for line in result.lines_of_car()), result
    if which == "nonblocking":
        check(run(build, "outstanding", "--calls", 20, "--integers", "yes", "--room", "none", env=NO_SHARED_MEMORY, **more))
