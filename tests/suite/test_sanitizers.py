"""The component and a few programs made again with AddressSanitizer and UndefinedBehaviorSanitizer, and under valgrind."""
import re
import shutil

import pytest

from launch import run, simulated

FORMS = ["blocking", "nonblocking", "persistent"]

pytestmark = pytest.mark.on_one(0)

with_asan = pytest.mark.parametrize("instrumented", ["asan"], indirect=True)

# Leaks are judged below: a suppression that named Open MPI's libraries would hide what we allocate in a call of theirs.
OPTIONS = {"ASAN_OPTIONS": "exitcode=66", "UBSAN_OPTIONS": "print_stacktrace=1", "LSAN_OPTIONS": "exitcode=0"}

# Every algorithm, and both sides of what makes a call zero copy, within the sizes that simulated GPUs are quick with.
CAR = {"push_max": 4000, "pull_max": 20000, "zero_copy_min": 40000}


def leaks_of_ours(output):
    """Of LeakSanitizer's reports those of memory that our code has allocated itself: the first frame that is no sanitizer's."""
    reports = re.findall(r"^(?:Direct|Indirect) leak of .*\n(?:    #\d+ .*\n)+", output, re.MULTILINE)
    found = []
    for report in reports:
        frames = [line for line in report.splitlines()[1:] if "libsanitizer" not in line and "__interceptor" not in line]
        if frames and re.search(r"/(coll_car|kernels|tests/mpi|tests/suite)/|mca_coll_car", frames[0]):
            found.append(report)
    return found


@pytest.fixture(name="clean")
def fixture_clean(check, instrumented):
    def clean(build, program, *arguments, form="blocking", gpus=None, **more):
        result = check(run(build, "../asan/" + program, *arguments, folder=instrumented(build), gpus=gpus, timeout=80,
                           env={**OPTIONS, "CAR_TEST_FORM": form}, **more))
        for word in ("ERROR: AddressSanitizer", "runtime error:"):
            assert word not in result.output, result
        assert not leaks_of_ours(result.output), "\n".join(leaks_of_ours(result.output))
        return result
    return clean


def test_a_leak_of_ours_would_be_seen():
    report = ("Direct leak of 8 byte(s) in 1 object(s) allocated from:\n"
              "    #0 0x1 in __interceptor_calloc ../../../../src/libsanitizer/asan/asan_malloc_linux.cpp:77\n"
              "    #1 0x2 in {} {}\n    #2 0x3 in PMPI_Allreduce (/usr/lib/libmpi.so.40+0x1)\n\n")
    ours = report.format("car_setup_new", "../../coll_car/car_setup.c:300")
    theirs = report.format("pmix_pointer_array_init", "(/usr/lib/libpmix.so.2+0xdd60c)")
    assert leaks_of_ours(theirs + ours + theirs) == [ours.rstrip("\n") + "\n"]


@with_asan
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ranks, devices", [(3, 2), pytest.param(4, 1, marks=pytest.mark.slow)])
def test_sanitizers_find_nothing_in_calls_of_every_form(build, clean, form, ranks, devices):
    clean(build, "allreduce", "--borders", "no", "--cases", 25, "--max-bytes", 120000, form=form, ranks=ranks, car=CAR,
          gpus=simulated(build, devices))


@with_asan
@pytest.mark.parametrize("ranks, devices", [(3, 2), pytest.param(4, 1, marks=pytest.mark.slow)])
def test_sanitizers_find_nothing_in_random_calls(build, clean, ranks, devices):
    clean(build, "fuzz", "--seed", 11, "--seconds", 3, "--max-bytes", 128 << 10, ranks=ranks, car=CAR,
          gpus=simulated(build, devices))


@with_asan
def test_sanitizers_find_nothing_in_communicators_that_come_and_go(build, clean):
    clean(build, "lifecycle", "--rounds", 10, ranks=3, gpus=simulated(build, 2))


@with_asan
@pytest.mark.parametrize("call", ["cuGraphLaunch:4", "cuMemsetD8Async:3", "cuIpcOpenMemHandle:1", "cuMemAlloc_v2:1"])
def test_sanitizers_find_nothing_where_the_driver_fails(build, instrumented, call):
    """What the program says of it is for test_faults.py."""
    result = run(build, "../asan/broken", ranks=3, folder=instrumented(build), gpus=simulated(build), timeout=80,
                 env=OPTIONS, rank_env={1: {"SIMGPU_FAIL": call}}, car={"first_epoch": (1 << 32) - 20})
    assert result.status is not None, result
    assert "ERROR: AddressSanitizer" not in result.output and "runtime error:" not in result.output, result
    assert not leaks_of_ours(result.output), "\n".join(leaks_of_ours(result.output))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_valgrind_finds_nothing(build, form):
    if shutil.which("valgrind") is None:
        pytest.skip("no valgrind here")
    # Simulated kernels have stacks that valgrind does not know of, so it takes all that they write for uninitialised.
    result = run(build, "allreduce", "--borders", "no", "--cases", 3, "--max-bytes", 8000, "--types", "int32,short_int",
                 ranks=2, gpus=simulated(build), timeout=300, under=("valgrind", "--quiet", "--undef-value-errors=no"),
                 env={"CAR_TEST_FORM": form})
    assert result.status == 0, result
    ours = [block for block in re.split(r"\n==\d+== \n", result.output) if re.search(r"\((coll_)?car_\w+\.c:\d+\)", block)]
    assert not ours, "\n".join(ours)
