"""A fault in the middle of a run ends in an error on all ranks, never in a rank that waits for ever."""
import pytest

from launch import run, simulated


@pytest.mark.parametrize("call", ["cuGraphLaunch:9", "cuGraphExecKernelNodeSetParams:5", "cuMemcpyAsync:15",
                                  "cuEventRecord:2+,cuGraphLaunch:2+"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_driver_that_fails_on_one_rank_gives_all_an_error(build, check, call, ranks):
    check(run(build, "broken", ranks=ranks, gpus=simulated(build), rank_env={1: {"SIMGPU_FAIL": call}}, timeout=40))


@pytest.mark.parametrize("call", ["cuGraphLaunch:9", "cuMemcpyAsync:15", "cuEventRecord:2+,cuGraphLaunch:2+"])
@pytest.mark.parametrize("how", [("--at-once", 8), ("nonblocking",), ("persistent",)], ids=lambda how: how[0].strip("-"))
def test_the_same_for_nonblocking_and_persistent_calls(build, check, call, how):
    arguments, env = (how, {}) if len(how) == 2 else ((), {"CAR_TEST_FORM": how[0]})
    check(run(build, "broken", *arguments, ranks=3, gpus=simulated(build), rank_env={1: {"SIMGPU_FAIL": call}}, env=env,
              timeout=40))


@pytest.mark.parametrize("car", [{"algorithm": "one_shot_pull"}, {"first_epoch": (1 << 32) - 20}],
                         ids=["a larger piece", "the last epochs"])
def test_a_rank_that_cannot_clear_its_memory_gives_all_an_error(build, check, car):
    """The third time it clears memory is in a call: for a larger piece, or as the epochs end."""
    check(run(build, "broken", ranks=3, gpus=simulated(build), rank_env={1: {"SIMGPU_FAIL": "cuMemsetD8Async:3"}},
              car=car, timeout=40))


@pytest.mark.parametrize("devices, pml", [(1, "ob1"), (3, "ucx")])
@pytest.mark.parametrize("who", ["one", "all"])
def test_a_device_that_is_reset_gives_all_an_error_and_serves_again(build, check, devices, pml, who):
    check(run(build, "reset", "--who", who, ranks=3, pml=pml, gpus=simulated(build, devices), timeout=40))
