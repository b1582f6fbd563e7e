"""MPI_THREAD_MULTIPLE: many threads at once, each on a communicator of its own, and no data race in coll/car."""
import os

import pytest

from launch import run, simulated

SUPPRESSIONS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tsan.supp")


@pytest.mark.by_turns
@pytest.mark.parametrize("ranks, devices, each, pml", [(2, 1, 1, "ob1"), (4, 1, 1, "ucx"), (4, 4, 1, "ob1"), (2, 4, 2, "ucx")])
def test_threads_with_communicators_of_their_own(build, check, ranks, devices, each, pml):
    """`each`: devices that the threads of one rank use."""
    check(run(build, "threads", "--threads", 8 if ranks == 2 else 5, "--devices", each, ranks=ranks,
              pml=pml, gpus=simulated(build, devices), timeout=40))


@pytest.mark.by_turns
@pytest.mark.parametrize("which", ["nonblocking", "persistent"])
def test_threads_in_the_other_forms(build, check, which):
    check(run(build, "threads", "--threads", 5, ranks=3, gpus=simulated(build, devices=2), env={"CAR_TEST_FORM": which}, timeout=40))


@pytest.mark.on_one(1)
@pytest.mark.parametrize("instrumented", ["tsan"], indirect=True)
@pytest.mark.parametrize("ranks, devices, each, form", [(2, 1, 1, "blocking"), (3, 2, 2, "blocking"), (2, 1, 1, "nonblocking"),
                                                        (2, 1, 1, "persistent")])
def test_thread_sanitizer_finds_nothing(build, check, instrumented, ranks, devices, each, form):
    # A mutex that one library of Open MPI locks and another unlocks is seen half.
    options = f"suppressions={SUPPRESSIONS}:history_size=7:report_mutex_bugs=0:exitcode=66"
    result = check(run(build, "../tsan/threads", "--threads", 4, "--devices", each, ranks=ranks,
                       gpus=simulated(build, devices), folder=instrumented(build), env={"TSAN_OPTIONS": options, "CAR_TEST_FORM": form},
                       timeout=80))
    assert "WARNING: ThreadSanitizer" not in result.output, result
