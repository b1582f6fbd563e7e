"""A fault in the middle of a run ends in an error on all ranks, never in a rank that waits for ever."""
import pytest

from launch import run, simulated


@pytest.mark.parametrize("call", ["cuGraphLaunch:9", "cuGraphExecKernelNodeSetParams:5", "cuMemcpyAsync:15",
                                  "cuEventRecord:2+,cuGraphLaunch:2+", "cuMemsetD8Async:2"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_driver_that_fails_on_one_rank_gives_all_an_error(build, check, call, ranks):
    check(run(build, "broken", ranks=ranks, gpus=simulated(build), rank_env={1: {"SIMGPU_FAIL": call}}, timeout=40))
