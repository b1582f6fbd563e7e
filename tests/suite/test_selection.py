"""
Whether coll/car is in use: selected, left out or declined, the program works, all ranks agree, and who asks is told.
"""
import os
import subprocess

import pytest

import launch
from launch import run, simulated

def no_gpu(build):
    """An environment without any libcuda: none is installed where the suite runs on simulated GPUs."""
    del build
    return {"LD_LIBRARY_PATH": ""}


def declined(build, *arguments, **more):
    return run(build, "allreduce", "--expect", "declined", "--cases", 10, *arguments, **more)


# --- what is written after --mca coll -------------------------------------------------------------------------------

@pytest.mark.by_turns
@pytest.mark.parametrize("coll", [None, "car", "car,tuned", "car,basic,libnbc"])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_whole_program_with_coll_car(build, check, coll, ranks):
    options = [] if coll is None else ["--mca", "coll", coll]
    check(run(build, "whole", "--gpu", "no" if ranks == 1 else "yes", ranks=ranks, options=options,
              gpus=simulated(build, devices=2)))


def test_a_whole_program_without_coll_car(build, check):
    check(run(build, "whole", "--expect", "absent", "--gpu", "yes" if build.cuda_aware else "no", ranks=3,
              options=["--mca", "coll", "^car"], gpus=simulated(build)))


@pytest.mark.parametrize("coll", [None, "car"])
def test_a_whole_program_where_there_is_no_driver(build, check, coll):
    options = [] if coll is None else ["--mca", "coll", coll]
    check(run(build, "whole", "--gpu", "no", ranks=3, options=options, gpus=no_gpu(build)))


@pytest.mark.parametrize("pml", ["ob1", "ucx"])
def test_a_whole_program_with_each_pml(build, check, pml):
    check(run(build, "whole", ranks=4, pml=pml, gpus=simulated(build, devices=4)))


def test_a_negative_priority_leaves_coll_car_out(build, check):
    result = check(run(build, "allreduce", "--kinds", "host", "--expect", "absent", "--cases", 5, gpus=simulated(build),
                       car={"priority": -1, "verbose": 1}))
    assert any("(2 ranks): not in use: coll_car_priority is negative" in line for line in result.lines_of_car()), result


# --- programs without CUDA ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("driver", ["present", "absent"])
def test_a_program_that_never_uses_cuda_does_not_through_us(build, check, driver):
    gpus = simulated(build) if driver == "present" else no_gpu(build)
    with_car = check(run(build, "nocuda", gpus=gpus)).line("ok ")
    without = check(run(build, "nocuda", gpus=gpus, options=["--mca", "coll", "^car"])).line("ok ")
    assert with_car == without
    assert "device files open 0, driver initialised 0 times" in with_car
    if not build.cuda_aware:
        assert "mapped in 0 places" in with_car


# --- declining ------------------------------------------------------------------------------------------------------

def test_one_rank_is_nothing_for_coll_car(build, check):
    check(run(build, "allreduce", "--kinds", "host", "--expect", "absent", "--cases", 5, ranks=1,
              gpus=simulated(build)))


def test_seventeen_ranks_are_too_many(build, check):
    result = check(run(build, "allreduce", "--kinds", "host", "--expect", "absent", "--cases", 5, "--max-bytes", 5000, ranks=17,
                       gpus=simulated(build), car={"verbose": 1}))
    said = [line for line in result.lines_of_car() if "(17 ranks)" in line]
    assert said and all("not in use: it has more than 16 ranks" in line for line in said), result


def test_no_driver(build, check):
    result = check(run(build, "allreduce", "--kinds", "host", "--expect", "off", "--cases", 10, ranks=3,
                       gpus=no_gpu(build), car={"verbose": 1}))
    assert any("MPI_COMM_WORLD (3 ranks): not in use" in line for line in result.lines_of_car()), result


DECLINED = {
    "ipc": ({"ipc": "refuse"}, "CUDA IPC refused"),
    "no peer access": ({"devices": 4, "topology": "none"}, "no peer access"),
    "pcie": ({"devices": 4, "topology": "pcie"}, "PCIe"),
}


@pytest.mark.by_turns
@pytest.mark.parametrize("why", DECLINED)
def test_it_declines_on_all_ranks_and_says_why_once(build, check, why):
    gpus, words = DECLINED[why]
    result = check(declined(build, ranks=4, gpus=simulated(build, **gpus), car={"verbose": 1}))
    said = [line for line in result.lines_of_car() if "MPI_COMM_WORLD" in line]
    assert len(said) == 1 and "not in use" in said[0] and words in said[0], result


@pytest.mark.by_turns
@pytest.mark.parametrize("why", DECLINED)
def test_unasked_it_speaks_of_faults_only(build, check, why):
    gpus, _ = DECLINED[why]
    result = check(declined(build, ranks=4, gpus=simulated(build, **gpus)))
    assert len(result.lines_of_car()) == (1 if why == "ipc" else 0), result


@pytest.mark.by_turns
def test_one_line_says_that_it_is_in_use(build, check):
    result = check(run(build, "allreduce", "--cases", 5, ranks=4, gpus=simulated(build, devices=2), car={"verbose": 1}))
    said = [line for line in result.lines_of_car() if "MPI_COMM_WORLD" in line]
    assert len(said) == 1 and "MPI_COMM_WORLD (4 ranks): in use: 2 GPUs" in said[0], result


@pytest.mark.by_turns
def test_slices_of_a_gpu_are_told_apart(build, check):
    """MIG: each slice is a device of its own, whatever the GPU's UUID says; ranks on one slice are served."""
    gpus = simulated(build, devices=2, mig=1)
    slices = {rank: {"CUDA_VISIBLE_DEVICES": rank // 2} for rank in range(4)}
    result = check(declined(build, ranks=4, gpus=gpus, rank_env=slices, car={"verbose": 1}))
    assert any("unknown link" in line for line in result.lines_of_car()), result
    result = check(run(build, "communicators", "--case", "halves", ranks=4, gpus=gpus, rank_env=slices,
                       car={"verbose": 1}))
    assert len([line for line in result.lines_of_car() if "in use: 1 GPU" in line]) == 2, result


@pytest.mark.by_turns
def test_a_driver_without_a_device(build, check):
    check(run(build, "allreduce", "--kinds", "host", "--expect", "off", "--cases", 10, ranks=3,
              gpus=simulated(build, devices=0)))


# --- containers -------------------------------------------------------------------------------------------------------

# Open MPI's own shared memory cannot be used there.
THROUGH_TCP = {"OMPI_MCA_btl": "self,tcp", "OMPI_MCA_btl_tcp_if_include": "lo"}
CONTAINERS = {
    "PID namespaces": (["--pid", "--kill-child"], [], "CUDA IPC refused"),
    "PID namespaces and /dev/shm of their own": (["--pid", "--kill-child", "--mount"], ["sh", "-c", 'mount -t tmpfs none /dev/shm && exec "$@"', "own"], "/dev/shm"),
}


@pytest.mark.by_turns
@pytest.mark.parametrize("form", ["blocking", "nonblocking"])
@pytest.mark.parametrize("what", CONTAINERS)
def test_ranks_in_containers_that_share_too_little(build, check, what, form):
    namespaces, inside, words = CONTAINERS[what]
    under = launch.unshared(*namespaces)
    if under is None:
        pytest.skip(f"ranks cannot have {what} here")
    result = check(declined(build, "--kinds", "device,host", ranks=3, gpus=simulated(build, devices=2), pml="ob1",
                            car={"verbose": 1}, env={**THROUGH_TCP, "CAR_TEST_FORM": form}, under=[*under, *inside],
                            timeout=40))
    said = [line for line in result.lines_of_car() if "MPI_COMM_WORLD" in line]
    assert len(said) == 1 and "not in use" in said[0] and words in said[0], result


@pytest.mark.parametrize("form", ["blocking", "nonblocking"])
def test_ranks_that_see_each_other_need_no_common_dev_shm(build, check, form):
    under = launch.unshared("--mount")
    if under is None:
        pytest.skip("ranks cannot have a /dev/shm of their own here")
    own = ["sh", "-c", 'mount -t tmpfs none /dev/shm && exec "$@"', "own"]
    check(run(build, "allreduce", "--kinds", "device,host", "--cases", 5, ranks=3, gpus=simulated(build, devices=2), pml="ob1",
              env={**THROUGH_TCP, "CAR_TEST_FORM": form}, under=[*under, *own], timeout=40))


# --- set-up that fails on one rank alone -------------------------------------------------------------------------------

SETUP_CALLS = ["cuModuleLoadData", "cuModuleGetFunction", "cuFuncGetAttribute",
               "cuOccupancyMaxActiveBlocksPerMultiprocessor", "cuIpcGetMemHandle", "cuIpcOpenMemHandle",
               "cuStreamCreateWithPriority", "cuMemsetD8Async", "cuCtxGetStreamPriorityRange"]


@pytest.mark.by_turns
@pytest.mark.parametrize("call", SETUP_CALLS)
def test_a_rank_that_cannot_set_up_turns_it_off_for_all(build, check, call):
    result = check(run(build, "allreduce", "--expect", "declined", "--kinds", "device,host", "--types", "float",
                       "--cases", 5, ranks=3, gpus=simulated(build), rank_env={1: {"SIMGPU_FAIL": f"{call}:1"}},
                       car={"verbose": 1}))
    said = [line for line in result.lines_of_car() if "MPI_COMM_WORLD" in line]
    assert len(said) == 1 and "not in use: rank 1:" in said[0], result


# --- another Open MPI, parameters --------------------------------------------------------------------------------------

def test_another_open_mpi_is_declined(build, check, tmp_path):
    """A component that was built for another version: ours, with the number in its binary changed."""
    with open(build.component, "rb") as file:
        binary = file.read()
    ours = b"\0" + build.version.encode() + b"\0"
    assert ours in binary
    (tmp_path / "mca_coll_car.so").write_bytes(binary.replace(ours, ours[:-2] + b"x\0"))
    for coll in ([], ["--mca", "coll", "car"]):
        result = check(run(build, "allreduce", "--expect", "absent", "--kinds", "host", "--cases", 5, options=coll,
                           gpus=simulated(build), folder=str(tmp_path)))
        said = result.lines_of_car()
        assert len(said) == 1 and "Rebuild it" in said[0], result


def test_every_parameter_is_listed_with_a_sentence(build):
    listed = subprocess.run([build.ompi_info, "--param", "coll", "car", "--level", "9", "--parsable"],
                            env=launch.environment_of(build), capture_output=True, text=True, timeout=60, check=True)
    for name in ("priority", "verbose", "algorithm", "links", "launch", "stream_order", "memory", "push_max",
                 "pull_max", "alone_max", "spin_us", "blocks", "threads", "zero_copy_min", "zero_copy_again", "tune_file", "map_max", "map_bytes",
                 "first_epoch"):
        helps = [line for line in listed.stdout.splitlines()
                 if line.startswith(f"mca:coll:car:param:coll_car_{name}:help:")]
        assert len(helps) == 1 and len(helps[0].split(":help:")[1]) > 20, listed.stdout


@pytest.mark.by_turns
@pytest.mark.parametrize("name, value", [("spin_us", 0), ("threads", 33), ("threads", 1024), ("blocks", 100000), ("memory", 1000)])
def test_a_parameter_out_of_range_is_corrected_and_said(build, check, name, value):
    result = check(run(build, "allreduce", "--types", "int32", "--cases", 5, "--kinds", "device",
                       gpus=simulated(build), car={name: value}))
    said = [line for line in result.lines_of_car() if f"coll_car_{name}" in line]
    assert len(said) == 1 and str(value) in said[0], result


def test_the_build_loads_no_cuda_library(build):
    needed = subprocess.run(["readelf", "-d", build.component], capture_output=True, text=True, timeout=60, check=True)
    assert "NEEDED" in needed.stdout and "libcuda" not in needed.stdout
    assert os.path.getsize(build.component) < 20e6
