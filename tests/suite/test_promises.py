"""What coll/car promises, one by one, on each Open MPI."""
import itertools
import re

import pytest

import launch
from launch import run, simulated

# One type of each sort that every Open MPI has, so that both make the same calls.
EVERYWHERE = "int32,uint64,float,double,int8,uint16,c_bool,byte,c_float_complex,c_double_complex,short_int,double_int"


@pytest.mark.by_turns
def test_a_message_larger_than_the_memory_that_coll_car_may_use(build, check, full):
    check(run(build, "big", "--bytes", (256 if full else 64) << 20, ranks=2, gpus=simulated(build, devices=2),
              car={"memory": 4 << 20}))


@pytest.mark.by_turns
@pytest.mark.parametrize("algorithm", ["one_shot_push", "two_shot_push", "one_shot_pull", "two_shot"])
def test_every_algorithm_does_messages_of_many_rounds(build, check, algorithm):
    check(run(build, "big", "--bytes", 12 << 20, ranks=3, gpus=simulated(build),
              car={"memory": 1 << 20, "algorithm": algorithm}))


@pytest.mark.parametrize("ranks", [2, 5])
def test_the_bits_do_not_depend_on_algorithm_grid_launch_or_open_mpi(check, full, ranks):
    """By default each build has each algorithm once, with the grids in turn."""
    algorithms = ("auto", "one_shot_push", "two_shot_push", "one_shot_pull", "two_shot")
    grids = ({"blocks": 1, "threads": 32}, {"blocks": 7, "threads": 64}, {"launch": "plain"}, {"launch": "auto"})
    digests = {}
    for b, build in enumerate(launch.builds()):
        for (a, algorithm), (g, grid) in itertools.product(enumerate(algorithms), enumerate(grids)):
            if full or (a + b) % len(grids) == g:
                result = check(run(build, "allreduce", "--borders", "no", "--types", EVERYWHERE, "--max-bytes", 50000,
                                   "--cases", 60, ranks=ranks, gpus=simulated(build),
                                   car={"algorithm": algorithm, **grid}))
                digests[f"{build.version} {algorithm} {grid}"] = result.digest
    assert len(set(digests.values())) == 1, digests


@pytest.mark.by_turns
@pytest.mark.parametrize("grid", [{"blocks": 1, "threads": 32}, {"blocks": 5, "threads": 96}],
                         ids=["1x32", "5x96"])
def test_any_grid_is_right_around_its_own_borders(build, check, grid):
    for algorithm in ("one_shot_push", "two_shot_push", "one_shot_pull", "two_shot"):
        check(run(build, "allreduce", "--types", "int32,double", "--kinds", "device", "--cases", 0, "--max-bytes",
                  600000, ranks=3, gpus=simulated(build), car={"algorithm": algorithm, **grid}))


@pytest.mark.by_turns
def test_thresholds_are_those_that_the_parameters_say(build, check):
    result = check(run(build, "allreduce", ranks=4, gpus=simulated(build), 
                       car={"push_max": 1000, "two_shot_push_max": 8000, "pull_max": 30000}))
    counts = [int(word.rstrip(",;")) for word in result.line("ok ").split() if word.rstrip(",;").isdigit()]
    assert all(count > 20 for count in counts[-4:]), result


@pytest.mark.by_turns
@pytest.mark.parametrize("ranks, pml", [(3, "ucx"), (4, "ob1")])
def test_ranks_of_one_call_may_bring_different_kinds_of_memory(build, check, ranks, pml):
    check(run(build, "mixed", "--cases", 120, ranks=ranks, pml=pml, gpus=simulated(build, devices=2)))


@pytest.mark.parametrize("device", ["yes", "no"])
def test_erroneous_calls_get_the_errors_of_open_mpi(build, check, device):
    check(run(build, "erroneous", "--device", device, ranks=3, gpus=simulated(build, devices=2)))


@pytest.mark.parametrize("pml", ["ob1", "ucx"])
def test_mpi_goes_on_while_a_rank_waits(build, check, pml):
    check(run(build, "progress", ranks=3, pml=pml, gpus=simulated(build), env=launch.NO_SINGLE_COPY, timeout=30))


@pytest.mark.by_turns
def test_a_late_rank_is_waited_for_and_no_kernel_is_left_running(build, check):
    # A CPU that all ranks share answers late at times; a kernel that stays would hold it up for the whole 3 s.
    check(run(build, "late", "--limit-ms", 500, ranks=3, gpus=simulated(build, devices=2)))


@pytest.mark.by_turns
@pytest.mark.parametrize("ranks, devices", [(2, 1), (4, 2)])
def test_communicators_leave_nothing_behind(build, check, full, ranks, devices):
    check(run(build, "lifecycle", "--rounds", 1000 if full else 100, ranks=ranks, gpus=simulated(build, devices),
              timeout=300 if full else 90))


@pytest.mark.by_turns
@pytest.mark.parametrize("ranks, pml", [(2, "ob1"), (3, "ucx")])
def test_the_callers_context_is_as_it_was(build, check, ranks, pml):
    check(run(build, "context", ranks=ranks, pml=pml, gpus=simulated(build, devices=4)))


@pytest.mark.by_turns
@pytest.mark.parametrize("stream", ["legacy", "per-thread"])
def test_legacy_stream_order_waits_for_the_default_stream(build, check, stream):
    check(run(build, "stream_order", "--expect", "after", "--stream", stream, gpus=simulated(build),
              car={"stream_order": "legacy"}))


@pytest.mark.by_turns
@pytest.mark.parametrize("stream", ["legacy", "per-thread"])
def test_without_it_the_stream_order_test_would_fail(build, check, stream):
    check(run(build, "stream_order", "--expect", "before", "--stream", stream, gpus=simulated(build)))


@pytest.mark.by_turns
@pytest.mark.parametrize("how", ["graph", "plain"])
def test_launches_may_block(build, check, how):
    """CUDA_LAUNCH_BLOCKING: the host comes back when the kernel has ended, so a kernel that waited would hold up MPI."""
    check(run(build, "mixed", "--cases", 60, ranks=3, gpus=simulated(build, devices=2), car={"launch": how},
              env={"CUDA_LAUNCH_BLOCKING": "1"}))
    check(run(build, "progress", ranks=3, gpus=simulated(build), car={"launch": how}, timeout=30,
              env={**launch.NO_SINGLE_COPY, "CUDA_LAUNCH_BLOCKING": "1"}))


@pytest.mark.by_turns
@pytest.mark.parametrize("launch_how", ["graph", "plain"])
def test_epochs_begin_again_after_the_last(build, check, launch_how):
    for algorithm in ("one_shot_push", "two_shot_push", "one_shot_pull", "two_shot"):
        check(run(build, "allreduce", "--kinds", "device,host", "--cases", 30, ranks=3, gpus=simulated(build),
                  car={"first_epoch": 2**32 - 20, "algorithm": algorithm, "launch": launch_how}))


@pytest.mark.by_turns
def test_each_rank_may_see_one_gpu_only(build, check):
    """Device 0 of every rank is another one, and ordinals mean nothing to peers."""
    check(run(build, "allreduce", "--cases", 30, ranks=3, gpus=simulated(build, devices=3),
              rank_env={rank: {"CUDA_VISIBLE_DEVICES": 2 - rank} for rank in range(3)}))


@pytest.mark.by_turns
def test_nvml_may_be_missing(build, check):
    """Then the driver's attributes decide: two GPUs with peer access are connected."""
    check(run(build, "allreduce", "--cases", 30, gpus=simulated(build, devices=2, nvml="missing")))


@pytest.mark.by_turns
def test_coll_car_can_be_told_not_to_use_pcie(build, check):
    result = check(run(build, "allreduce", "--cases", 5, "--expect", "declined", "--kinds", "device,host",
                       gpus=simulated(build, devices=2, topology="pcie"), car={"links": "nvlink", "verbose": 1}))
    assert "coll_car_links p2p" in "\n".join(result.lines_of_car()), result


@pytest.mark.by_turns
@pytest.mark.parametrize("fails, chosen", [("cuGraphInstantiateWithFlags:1+", "plain"), ("cuGraphLaunch:1+", "plain"), ("cuLaunchKernel:1+", "graph")])
def test_launches_that_the_driver_refuses_are_not_chosen(build, check, fails, chosen):
    """With coll_car_launch=auto, the default; which way is the quicker tests/unit/test_launch.c shows."""
    result = check(run(build, "allreduce", "--types", "float", "--kinds", "device", "--cases", 20, "--borders", "no", ranks=2,
                       gpus=simulated(build, fail=fails), env={"SIMGPU_FROM": "mca_coll_car"}, car={"launch": "auto", "verbose": 1}))
    said = [line for line in result.lines_of_car() if " in use: " in line]
    assert said and all(f", {chosen} launches" in line for line in said), result


@pytest.mark.by_turns
def test_which_launches_are_quicker_is_measured_once(build, check):
    """For all communicators of a process, and not at all where it is said how to launch."""
    def launches(how):
        result = check(run(build, "lifecycle", "--rounds", 5, ranks=2, gpus=simulated(build, log=1), env={"SIMGPU_FROM": "mca_coll_car"},
                           car={"launch": how, "spin_us": 1000000}))
        return result.output.count("simgpu: cuGraphLaunch"), result.output.count("simgpu: cuLaunchKernel")
    graphs, plain = launches("graph")
    assert plain == 0 and graphs > 20
    measured = sum(launches("auto")) - graphs
    assert 2 <= measured <= 2 * 2 * 10, measured  # up to ten of each way, by each of two processes


# Options and parameters of the program alternate: the two algorithms that use staging, and the two that use packets.
# "rounds" and "more rounds" are the former with grids so small that a pull of 36 or 64 KB takes two exchanges, or five and eight.
ALTERNATIVES = {"staging": ([], {"push_max": 0, "pull_max": 65536, "zero_copy_min": 0}),
                "rounds": ([], {"push_max": 0, "pull_max": 65536, "zero_copy_min": 0, "blocks": 1, "threads": 32}),
                "more rounds": ([], {"push_max": 0, "pull_max": 65536, "zero_copy_min": 0, "blocks": 2, "threads": 64, "memory": 1 << 20}),
                "packets": (["--packets", "yes"], {"push_max": 65536, "two_shot_push_max": 1000000, "zero_copy_min": 0})}


@pytest.mark.by_turns
@pytest.mark.parametrize("memory", list(ALTERNATIVES))
@pytest.mark.parametrize("ranks", [3, 4])
def test_calls_of_different_algorithms_follow_each_other_at_once(build, check, ranks, memory):
    options, car = ALTERNATIVES[memory]
    check(run(build, "alternate", "--rounds", 60, *options, ranks=ranks, gpus=simulated(build), car=car))


@pytest.mark.by_turns
@pytest.mark.parametrize("car", [{"zero_copy_min": 0}, {"zero_copy_min": 64, "zero_copy_again": 64}], ids=["packets", "zero copy"])
def test_parameters_of_a_launch_that_comes_again_are_set_ahead(build, check, car):
    """Between looking at a call's buffers and launching it there is nothing to set."""
    result = check(run(build, "stay", "--case", "between", "--rounds", 300, "--gap", 0, ranks=2, gpus=simulated(build), env={"SIMGPU_FROM": "mca_coll_car"},
                       rank_env={0: {"SIMGPU_LOG": "1"}}, car={"stay": "off", **car}, timeout=60))
    looked = ahead = False
    launches = 0
    for name in re.findall(r"simgpu: (cu\w+?)(?:_v\d)?$", result.output, re.MULTILINE):
        looked = looked or name == "cuPointerGetAttribute"
        ahead = name == "cuPointerGetAttribute" or (ahead and name != "cuGraphExecKernelNodeSetParams")
        if name == "cuGraphLaunch":
            launches += looked and ahead
            looked = ahead = False
    assert launches > 100, (launches, result)
