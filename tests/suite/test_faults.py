"""A fault in the middle of a run ends in an error on all ranks, never in a rank that waits for ever."""
import collections
import itertools
import os
import random
import re
import time

import pytest

from launch import run, simulated

# The launchers end a job when a rank dies; survivors are seen only where they do not.
GO_ON = ["--enable-recovery"]


@pytest.mark.by_turns
@pytest.mark.parametrize("call", ["cuGraphLaunch:9", "cuGraphExecKernelNodeSetParams:5", "cuMemcpyAsync:15",
                                  "cuEventRecord:2+,cuGraphLaunch:2+"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_driver_that_fails_on_one_rank_gives_all_an_error(build, check, call, ranks):
    check(run(build, "broken", ranks=ranks, gpus=simulated(build), rank_env={1: {"SIMGPU_FAIL": call}}, timeout=40))


@pytest.mark.by_turns
@pytest.mark.parametrize("call", ["cuGraphLaunch:9", "cuMemcpyAsync:15", "cuEventRecord:2+,cuGraphLaunch:2+"])
@pytest.mark.parametrize("how", [("--at-once", 8), ("nonblocking",), ("persistent",)], ids=lambda how: how[0].strip("-"))
def test_the_same_for_nonblocking_and_persistent_calls(build, check, call, how):
    arguments, env = (how, {}) if len(how) == 2 else ((), {"CAR_TEST_FORM": how[0]})
    check(run(build, "broken", *arguments, ranks=3, gpus=simulated(build), rank_env={1: {"SIMGPU_FAIL": call}}, env=env,
              timeout=40))


@pytest.mark.by_turns
def test_a_persistent_request_of_a_broken_communicator_launches_nothing(build, check):
    check(run(build, "broken", "--made", "yes", ranks=3, gpus=simulated(build), rank_env={1: {"SIMGPU_FAIL": "cuMemcpyAsync:15"}},
              timeout=40))


@pytest.mark.by_turns
@pytest.mark.parametrize("car", [{"algorithm": "one_shot_pull"}, {"first_epoch": (1 << 32) - 20}],
                         ids=["a larger piece", "the last epochs"])
def test_a_rank_that_cannot_clear_its_memory_gives_all_an_error(build, check, car):
    """The third time it clears memory is in a call: for a larger piece, or as the epochs end."""
    check(run(build, "broken", ranks=3, gpus=simulated(build), rank_env={1: {"SIMGPU_FAIL": "cuMemsetD8Async:3"}},
              car=car, timeout=40))


@pytest.mark.by_turns
@pytest.mark.parametrize("devices, pml", [(1, "ob1"), (3, "ucx")])
@pytest.mark.parametrize("who", ["one", "all"])
def test_a_device_that_is_reset_gives_all_an_error_and_serves_again(build, check, devices, pml, who):
    check(run(build, "reset", "--who", who, ranks=3, pml=pml, gpus=simulated(build, devices), timeout=40))


def test_who_has_reset_his_device_waits_with_host_memory_for_a_late_rank(build, check):
    check(run(build, "reset", "--then", "host", ranks=2, gpus=simulated(build), car={"zero_copy_min": 4096, "zero_copy_again": 4096}, timeout=40))


FORMS = ("blocking", "nonblocking", "persistent")


@pytest.fixture
def cases(request, full):
    """Runs a table: all of it with --full, else a part; its last line counts the cases."""
    def through(quick, everything, case):
        table = list(everything if full else quick)
        for row in table:
            case(*row)
        print(f"{request.node.name}: {len(table)} cases")
    return through


# --- ranks that do not make the same call -----------------------------------------------------------------------------

@pytest.mark.by_turns
@pytest.mark.parametrize("form", FORMS)
def test_ranks_that_disagree_are_told_so(build, cases, form):
    def case(what, buffers, size, before):
        result = run(build, "disagree", "--what", what, "--form", form, "--buffers", buffers, "--bytes", size, "--before",
                     before, ranks=3, gpus=simulated(build), timeout=40)
        assert result.passed, result
        told = [line for line in result.lines_of_car() if "the ranks do not make the same call" in line]
        assert len(told) == 1, result

    wrong = ("count", "type", "op", "order")
    buffers = [("device", size) for size in (4000, 100000, 3000000, 9000000)] + [("mixed", 4000), ("mixed", 9000000)]
    if form != "persistent":  # of host memory only, those are none of coll/car's
        buffers += [("host", 400), ("host", 300000)]
    cases([("count", "device", 4000, 3), ("order", "device", 4000, 3), ("type", "device", 9000000, 0), ("op", "mixed", 4000, 3)],
          [(what, *buffer, before) for what in wrong for buffer in buffers for before in (0, 3)], case)


# --- ranks that are late ----------------------------------------------------------------------------------------------

@pytest.mark.by_turns
@pytest.mark.parametrize("form", FORMS)
def test_a_late_rank_is_no_error_but_one_line(build, check, cases, form):
    def case(how, size):
        result = check(run(build, "gone", "--how", how, "--form", form, "--bytes", size, "--expect", "right", "--ms", 2000,
                           ranks=4, gpus=simulated(build), car={"warn_after": 1}, timeout=40))
        told = [line for line in result.lines_of_car() if "waiting for" in line]
        assert len(told) == 1 and "rank 3 (pid " in told[0] and ("stopped" in told[0]) == (how == "stop"), result

    cases([("stop", 9000000 if form == "blocking" else 4000)],
          [(how, size) for how in ("late", "stop") for size in (4000, 300000, 9000000)], case)


@pytest.mark.by_turns
def test_a_limit_can_be_set_to_lateness(build, cases):
    def case(form, size):
        result = run(build, "gone", "--how", "stop", "--form", form, "--bytes", size, "--limit-ms", 3500, ranks=4,
                     gpus=simulated(build), car={"timeout": 1}, options=GO_ON, timeout=40)
        assert_survived(result, 4)
        told = [line for line in result.lines_of_car() if "did not come within coll_car_timeout" in line]
        assert len(told) == 1 and "rank 3 (pid " in told[0], result

    cases([("blocking", 4000)], [(form, size) for form in FORMS for size in (4000, 300000, 9000000)], case)


# --- ranks that die ---------------------------------------------------------------------------------------------------

def assert_survived(result, ranks):
    """All but the last have found what they should; how the launcher then ends is its own affair."""
    well = [line for line in result.output.splitlines() if line.startswith(("ok gone:", "well gone:"))]
    assert result.status is not None and len(well) == ranks - 1, result


def assert_death_told(result, rank):
    told = [line for line in result.lines_of_car() if "died while other ranks waited" in line]
    assert len(told) == 1 and f"rank {rank} (pid " in told[0], result


def test_a_death_is_noticed_within_a_second(build, cases):
    def case(form, how, size, buffers):
        result = run(build, "gone", "--how", how, "--form", form, "--bytes", size, "--buffers", buffers, ranks=4,
                     gpus=simulated(build), options=GO_ON, timeout=40)
        assert_survived(result, 4)
        assert_death_told(result, 3)

    cases([("blocking", "kill", 9000000, "device"), ("nonblocking", "kill", 4000, "device"), ("persistent", "kill", 4000, "device"),
           ("blocking", "exit", 400, "host")],
          [(form, how, size, buffers) for form in FORMS for how in ("kill", "exit") for size in (4000, 300000, 9000000)
           for buffers in ("device", "host") if (form, buffers) != ("persistent", "host") and (size, buffers) != (9000000, "host")],
          case)


def test_survivors_go_on_without_the_dead(build, cases):
    """ULFM: the error is that of a process that failed, and coll/car serves the communicator that is left."""
    if build.version.startswith("4."):
        pytest.skip("Open MPI 4.1 has no ULFM")

    def case(form, size, devices):
        result = run(build, "gone", "--how", "kill", "--form", form, "--bytes", size, "--then", "shrink", ranks=4,
                     gpus=simulated(build, devices), options=["--with-ft", "ulfm"], timeout=40)
        assert_survived(result, 4)
        assert_death_told(result, 3)

    cases([("blocking", 4000, 3), ("nonblocking", 4000, 1)],
          [(form, size, devices) for form in FORMS for size in (4000, 9000000) for devices in (1, 3)], case)


@pytest.mark.parametrize("size", [4000, 300000])
def test_a_death_before_the_first_call_is_an_error_of_that(build, size):
    """ULFM. A nonblocking call: the ranks have only messages to learn of each other by, and those to the dead fail."""
    if build.version.startswith("4."):
        pytest.skip("Open MPI 4.1 has no ULFM")
    result = run(build, "gone", "--how", "kill", "--form", "nonblocking", "--bytes", size, "--before", 0, "--then", "shrink",
                 ranks=4, gpus=simulated(build), options=["--with-ft", "ulfm"], timeout=40)
    assert_survived(result, 4)


# --- at a chosen moment -----------------------------------------------------------------------------------------------

SIGKILL, SIGSTOP = 9, 19

# What the last rank is about to do when it is killed or stopped: in set-up, before its first kernel, in one, later.
MOMENTS = ("cuIpcGetMemHandle:1", "cuIpcOpenMemHandle:1", "cuMemsetD8Async:1", "cuMemcpyAsync:3", "cuGraphLaunch:1", "kernel:1",
           "kernel:20", "kernel:100", "cuGraphLaunch:7")

# Ways of doing the calls: (bytes, parameters of coll/car, of simulated GPUs).
WAYS = {
    "push": (4000, {"algorithm": "one_shot_push"}, {}),
    "pull": (300000, {"algorithm": "one_shot_pull"}, {}),
    "two shot push": (300000, {"algorithm": "two_shot_push"}, {}),
    "two shot": (300000, {"algorithm": "two_shot"}, {}),
    "zero copy": (5000000, {}, {}),
    "in turns": (300000, {}, {"mps": 0}),
    "staying": (100, {"stay": "always", "stay_us": 100000, "stay_total_us": 1000000}, {}),
}


def every_moment():
    """(moment, way, form) of all; but where one rank's kernels do the call for all, the last launches none, and stays are launched seldom."""
    def comes(moment, way, form):
        if way == "in turns" and form != "nonblocking":
            return not moment.startswith(("kernel", "cuGraphLaunch"))
        return not (way == "staying" and form == "blocking" and moment == "cuGraphLaunch:7")

    return [case for case in itertools.product(MOMENTS, WAYS, FORMS) if comes(*case)]


def signalled(build, signal, moment, way, form, *arguments, **more):
    size, car, gpus = WAYS[way]
    return run(build, "gone", "--how", "driver", "--form", form, "--bytes", size, *arguments, ranks=3,
               gpus=simulated(build, **gpus), car=car, rank_env={2: {"SIMGPU_SIGNAL": f"{moment}:{signal}"}}, timeout=40, **more)


@pytest.mark.by_turns
def test_a_rank_may_be_killed_at_any_moment(build, cases):
    def case(moment, way, form):
        result = signalled(build, SIGKILL, moment, way, form, options=GO_ON)
        assert_survived(result, 3)
        assert_death_told(result, 2)

    cases([("cuIpcOpenMemHandle:1", "push", "nonblocking"), ("cuGraphLaunch:1", "two shot", "blocking"),
           ("kernel:20", "pull", "persistent"), ("kernel:100", "push", "blocking"), ("kernel:20", "staying", "blocking"),
           ("kernel:100", "two shot push", "blocking")],
          every_moment(), case)


@pytest.mark.by_turns
def test_a_rank_may_be_stopped_at_any_moment(build, check, cases):
    def case(moment, way, form):
        check(signalled(build, SIGSTOP, moment, way, form, "--expect", "right", "--ms", 500))

    cases([("cuMemcpyAsync:3", "push", "nonblocking"), ("kernel:20", "two shot", "blocking"), ("kernel:1", "zero copy", "persistent"),
           ("kernel:20", "staying", "blocking")],
          every_moment(), case)


@pytest.mark.by_turns
def test_a_rank_may_be_killed_or_stopped_after_any_time(build, check, cases):
    """What tests/gpu/run does on real GPUs, where nobody can say at which call of the driver."""
    def case(signal, form, size, at):
        how = ("--how", "amid", "--signal", signal, "--at-us", at, "--form", form, "--bytes", size, "--ms", 500)
        if signal == "stop":
            check(run(build, "gone", *how, "--expect", "right", "--calls", 30, ranks=3, gpus=simulated(build), timeout=40))
            return
        result = run(build, "gone", *how, ranks=3, gpus=simulated(build), options=GO_ON, timeout=40)
        assert_survived(result, 3)
        assert_death_told(result, 2)

    cases([("kill", "blocking", 4000, 3000), ("stop", "nonblocking", 4000, 5000)],
          itertools.product(("kill", "stop"), FORMS, (4000, 300000), range(500, 20000, 1500)), case)


# --- the driver fails -------------------------------------------------------------------------------------------------

OURS = {"SIMGPU_FROM": "mca_coll_car"}  # the application's own calls do not fail


def faulty(build, form, *arguments, failing=None, env=None, **more):
    """Every form of call, set-up and tear-down, first that form; what fails on rank 1, `failing` says."""
    return run(build, "faulty", *arguments, ranks=2, gpus=simulated(build), env={**OURS, "CAR_TEST_FORM": form, **(env or {})},
               rank_env={1: failing} if failing else None, timeout=40, **more)


def calls_of_the_driver(build, form):
    """(name, n) of all that rank 1 makes; of those that are made again and again while it waits, some behind the first."""
    result = faulty(build, form, failing={"SIMGPU_LOG": "1"})
    names = re.findall(r"simgpu: (cu\w+?)(?:_v\d)?$", result.output, re.MULTILINE)
    first, draw = 400, random.Random(3)
    table = []
    for name, most in sorted(collections.Counter(names).items()):
        behind = range(first + 1, most + 1)
        numbers = [*range(1, min(most, first) + 1), *draw.sample(behind, min(len(behind), 20))]
        table += [(name, number) for number in numbers]
    return table


@pytest.mark.by_turns
@pytest.mark.parametrize("form", FORMS)
def test_any_call_of_the_driver_may_fail(build, check, cases, form):
    """Once or for good, in set-up, in use and at the end: on each rank the right result, or an error of MPI's."""
    def case(name, number, good):
        check(faulty(build, form, failing={"SIMGPU_FAIL": f"{name}:{number}{good}"}))

    every = [(*call, good) for call in calls_of_the_driver(build, form) for good in ("", "+")]
    # Of some functions one call each, the same ones every time, as far as their number is the same.
    draw = random.Random(1)
    names = draw.sample(sorted({name for name, _, _ in every}), 5)
    # A copy fails just when one rank has heard that device memory will not be shared, and the other has not.
    found = [("cuThreadExchangeStreamCaptureMode", number, "+") for number in (57, 90, 92)] if form == "nonblocking" else []
    cases(found + [draw.choice([call for call in every if call[0] == name]) for name in names], every, case)


@pytest.mark.by_turns
@pytest.mark.parametrize("form", FORMS)
def test_host_memory_may_run_out(build, check, cases, form):
    """Of rank 1, once, wherever coll/car allocates any."""
    scarce = {"LD_PRELOAD": os.path.join(build.path, "tests/mpi/.libs/scarce.so")}

    def case(number):
        check(faulty(build, form, failing={**scarce, "SCARCE_FAIL": number}))

    count = re.search(r"scarce: (\d+) allocations", faulty(build, form, failing={**scarce, "SCARCE_LOG": 1}).output)
    assert count, "scarce.so says nothing"
    # The first is that of the first communicator of all; the second, of what stands by for the next that has none.
    every = range(2, int(count[1]) + 1)
    cases([(number,) for number in random.Random(2).sample(every, 2)], [(number,) for number in every], case)


# --- the end ----------------------------------------------------------------------------------------------------------

@pytest.mark.by_turns
@pytest.mark.parametrize("form", FORMS)
def test_mpi_ends_in_whatever_state_it_is_left(build, check, cases, form):
    def case(how, who, devices):
        result = check(run(build, "finale", "--how", how, "--who", who, ranks=3, gpus=simulated(build, devices),
                           env={"CAR_TEST_FORM": form}, timeout=40))
        if "sticky,called" in how:
            told = [line for line in result.lines_of_car() if "CUDA_ERROR_ILLEGAL_ADDRESS" in line]
            assert len(told) == 1, result

    struck = ["sticky", "sticky,called", "sticky,called,freed", "outstanding,sticky", "started,sticky", "sticky,reset", "reset",
              "outstanding,reset", "started,reset", "reset,called", "reset,called,freed"]
    other = ["outstanding", "started", "outstanding,started", "unused"]
    table = [(how + end, who, devices) for how in struck for end in ("", ",atexit") for who in ("one", "all") for devices in (1, 3)]
    table += [(how + end, "all", devices) for how in other for end in ("", ",atexit") for devices in (1, 3)]
    quick = {"blocking": [("sticky,called", "one", 3), ("outstanding,sticky,atexit", "all", 1), ("started,reset", "one", 1)],
             "nonblocking": [("sticky,called", "all", 1), ("outstanding", "all", 1), ("outstanding,reset", "one", 1)],
             "persistent": [("reset,called,freed,atexit", "one", 3), ("started,sticky", "one", 1), ("unused", "all", 1)]}
    cases(quick[form], table, case)


# --- nothing is left --------------------------------------------------------------------------------------------------

def segments():
    return {name for name in os.listdir("/dev/shm") if name.startswith("coll_car.")}


def test_a_sigkill_of_all_leaves_no_segment(build):
    """Not even while it is being mapped. (Other jobs of this machine may have one with a name for a moment.)"""
    before = segments()
    result = run(build, "window", ranks=3, gpus=simulated(build), options=GO_ON, timeout=40)
    assert result.line("ok window"), result
    for _ in range(20):
        left = segments() - before
        if not left:
            break
        time.sleep(0.1)
    assert not left, result


# --- memory runs out --------------------------------------------------------------------------------------------------

@pytest.mark.by_turns
@pytest.mark.parametrize("what", ["device memory", "host memory", "descriptors"])
def test_without_memory_the_old_path_does_the_calls(build, check, what):
    """On one rank only, at the first communicator or at any time: all ranks leave coll/car together, or go on with it."""
    more = {"device memory": {"rank_env": {1: {"SIMGPU_MEMORY": 40 << 20}}},
            "host memory": {"env": OURS, "rank_env": {1: {"SIMGPU_FAIL": "cuMemHostAlloc:1+:2"}}},
            "descriptors": {"under": ("sh", "-c", 'ulimit -n 80; exec "$@"', "few")}}[what]
    result = check(run(build, "faulty", ranks=2, gpus=simulated(build), timeout=60, **more))
    assert " 0 errors" in result.line("ok "), result


@pytest.mark.by_turns
@pytest.mark.parametrize("form", FORMS)
def test_descriptors_may_run_out(build, check, cases, form):
    """On one rank, after the last that MPI and the program have opened themselves: wherever coll/car or its driver opens one."""
    def case(number):
        check(faulty(build, form, "--descriptors", number))

    cases([(0,), (2,)], [(number,) for number in range(12)], case)
