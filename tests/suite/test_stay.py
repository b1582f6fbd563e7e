"""A kernel that stays after a small call and is rung for with the next one: docs/protocol.md, "The kernel that stays"."""
import os
import re
import subprocess

import pytest

from launch import environment_of, run, simulated

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")

# Between a rank and its GPU: no matter of Open MPI's.
pytestmark = pytest.mark.by_turns

# On simulated GPUs, whose times mean nothing, a stay has to be longer than on real ones for calls to come in time.
LONG = {"stay": "always", "stay_us": 5000, "stay_total_us": 1000000}
ADAPTIVE = {"stay": "adaptive", "stay_us": 5000, "stay_total_us": 1000000}

# None ends by itself, nor because a peer is late.
ENDLESS = {"stay_us": 500000, "spin_us": 500000}


@pytest.mark.parametrize("devices", [1, 3])
def test_whatever_was_written_last_is_reduced(build, check, devices):
    check(run(build, "stay", "--rounds", 1000, "--gap", 0, "--served", 100, ranks=3, gpus=simulated(build, devices), car=LONG))


@pytest.mark.parametrize("stay_us", [1, 20, 300])
def test_kernels_that_go_while_they_are_rung_for(build, check, full, stay_us):
    """Gaps of about as long as the stay: it has gone before, goes at that moment, or takes the call."""
    for seed in range(1, 11 if full else 3):
        check(run(build, "stay", "--rounds", 1500, "--gap", 2 * stay_us, "--seed", seed, ranks=3, gpus=simulated(build),
                  car={**LONG, "stay_us": stay_us}))


@pytest.mark.parametrize("devices, spin_us", [(1, 300), (3, 300), (1, 3)])
def test_one_block_does_what_the_peers_blocks_do(build, check, devices, spin_us):
    """Calls of up to four blocks of 128 threads; rank 1 launches them. Patience for peers may end in the middle of one."""
    car = {**LONG, "threads": 128, "stay_blocks": 1}
    check(run(build, "stay", "--rounds", 600, "--gap", 0, ranks=3, gpus=simulated(build, devices),
              car={**car, "spin_us": spin_us}, rank_env={1: {"OMPI_MCA_coll_car_stay": "off"}}))
    check(run(build, "stay", "--rounds", 600, "--gap", 0, "--served", 50, ranks=3, gpus=simulated(build, devices),
              car={**car, "spin_us": max(spin_us, 30)}))


@pytest.mark.parametrize("devices, ranks, stay_blocks, spin_us", [(1, 2, 32, 300), (3, 3, 32, 3), (3, 3, 5, 300), (2, 2, 9, 30)])
def test_blocks_that_share_a_call(build, check, devices, ranks, stay_blocks, spin_us):
    """Calls of up to 32 blocks, each block with up to four of them, after and before calls of one; blocks leave, and the others go."""
    car = {**LONG, "stay_blocks": stay_blocks, "spin_us": spin_us}
    gpus = simulated(build, devices, sms=16)
    check(run(build, "stay", "--rounds", 500, "--gap", 0, "--most", 2000, "--large", 1, "--served", 200 if spin_us >= 30 else 0,
              ranks=ranks, gpus=gpus, car=car))
    check(run(build, "stay", "--case", "changes", "--rounds", 300, "--gap", 50, "--most", 10000, "--large", 3, ranks=ranks, gpus=gpus,
              car={**car, "stay_us": 30}))


@pytest.mark.parametrize("devices", [1, 2])
def test_blocks_that_share_a_call_with_weak_memory(build, check, devices):
    for seed in (1, 2):
        check(run(build, "stay", "--rounds", 300, "--gap", 0, "--most", 4000, "--large", 2, "--seed", seed, "--served", 30, ranks=2,
                  gpus=simulated(build, devices, sms=8, weak=seed), car=LONG))


def test_some_blocks_find_no_place(build, check):
    """Twice as many as the GPU holds: those that come late do what was handed on, and hear that the kernel has gone."""
    check(run(build, "stay", "--rounds", 200, "--gap", 0, "--most", 3000, "--large", 2, ranks=2, gpus=simulated(build, 2),
              car={**LONG, "blocks": 8, "spin_us": 3000}))


def test_a_piece_grows_for_calls_that_would_be_zero_copy(build, check):
    """The buffer is known when calls come that need a larger one than the first."""
    check(run(build, "stay", "--case", "between", "--rounds", 400, "--gap", 0, "--then", 16000, "--served", 300, ranks=2,
              gpus=simulated(build, 2, sms=64), car={**LONG, "zero_copy_again": 1}))


def test_units_of_two_packets_in_several_blocks(build, check):
    """Those of the kernels for rare pairs: each operation with each of a few counts, odd ones too, one after the other."""
    for blocks in (1, 4):
        check(run(build, "types", "--reference", "no", "--types", "c_double_complex,double_int,uint8", ranks=3,
                  gpus=simulated(build, sms=6), car={**LONG, "threads": 32, "spin_us": 10, "stay_blocks": blocks}))


def test_many_ranks_on_a_gpu_agree_that_kernels_stay(build, check):
    """Their small calls would be zero copy by one kernel of one rank (coll_car_zero_copy_again is 1): all or none go without."""
    check(run(build, "stay", "--case", "between", "--rounds", 400, "--gap", 0, "--served", 200, ranks=6, gpus=simulated(build),
              car={**LONG, "zero_copy_again": 1}))


def test_some_of_many_ranks_may_have_none_that_stay(build, check):
    """Then none has, but for a first call, with buffers that nobody knows: the others are zero copy."""
    check(run(build, "stay", "--case", "between", "--rounds", 200, "--gap", 0, "--stays", 2, ranks=6, gpus=simulated(build),
              car={**LONG, "zero_copy_again": 1}, rank_env={2: {"OMPI_MCA_coll_car_stay": "off"}}))


def test_everything_else_in_between(build, check):
    check(run(build, "stay", "--case", "changes", "--rounds", 800, "--gap", 50, "--served", 20, ranks=3,
              gpus=simulated(build, 2), car=LONG))


def test_an_end_of_the_epochs_in_between(build, check):
    check(run(build, "stay", "--rounds", 400, "--gap", 0, "--served", 20, ranks=2, gpus=simulated(build),
              car={**LONG, "first_epoch": 2**32 - 150}))


def test_plain_launches(build, check):
    check(run(build, "stay", "--rounds", 300, "--gap", 0, "--served", 20, ranks=2, gpus=simulated(build),
              car={**LONG, "launch": "plain"}))


def test_it_stays_where_network_cards_write_in_order(build, check):
    check(run(build, "stay", "--rounds", 300, "--gap", 0, "--served", 20, ranks=2, gpus=simulated(build, rdma=100), car=LONG))


@pytest.mark.parametrize("call", ["cuGraphInstantiateWithFlags:2+:2", "cuGraphUpload:2+"])
def test_what_a_stay_needs_may_be_lacking(build, check, call):
    """The call is launched as any other, and the communicator is none the worse. Its first call launches no stay: it settles the buffer."""
    check(run(build, "stay", "--case", "between", "--rounds", 300, "--gap", 0, ranks=2, gpus=simulated(build), car=LONG,
              rank_env={1: {"SIMGPU_FAIL": call}}))


def test_it_takes_no_more_calls_after_its_time(build, check):
    """A call and a pause of some microseconds take 10 or more: no stay of 1 ms has more than 100."""
    result = check(run(build, "stay", "--case", "between", "--rounds", 1000, "--gap", 20, ranks=2, gpus=simulated(build),
                       car={**LONG, "stay_total_us": 1000}))
    served, stays = map(int, re.search(r"(\d+) of them without a launch; (\d+) kernels stayed", result.line("ok ")).groups())
    assert stays > 5 and served / stays < 100, result


def once_in_three(job):
    """Whether stays pay on simulated GPUs depends on what else the cores are busy with: one try of three has to show it. Only that."""
    for _ in range(3):
        result = job()
        wrong = [line for line in result.output.splitlines() if "does not hold" in line]
        if result.passed or not wrong or not all("kernels that had stayed served" in line for line in wrong):
            break
    return result


def test_adaptive_serves_calls_that_come_quickly(build, check):
    check(once_in_three(lambda: run(build, "stay", "--case", "between", "--rounds", 1500, "--gap", 0, "--served", 500, ranks=2,
                                    gpus=simulated(build), car=ADAPTIVE)))


def counts(result):
    """Calls by one_shot_push, those of them without a launch, and kernels that stayed."""
    return map(int, re.search(r"(\d+) calls of rank 0.* (\d+) of them .* (\d+) kernels stayed", result.line("ok ")).groups())


def test_adaptive_sends_it_away_to_see_what_calls_take_without(build, check):
    """16 of 4096 calls are launched, besides the first 16 and those that begin a stay. Beside other work the times of a simulated GPU may
    speak for launching at the second look: then hundreds are served and not thousands."""
    calls, served, stays = counts(check(once_in_three(
        lambda: run(build, "stay", "--case", "between", "--rounds", 5000, "--gap", 0, "--served", 300, ranks=2, gpus=simulated(build),
                    car={**ADAPTIVE, **ENDLESS}))))
    assert stays >= 2 and calls - served >= 2 * 17


def test_always_never_sends_it_away_for_that(build, check):
    """A stay ends after a second at the latest; there are nine times 4096 calls."""
    check(run(build, "stay", "--case", "between", "--rounds", 40000, "--gap", 0, "--stays", 9, ranks=2,
              gpus=simulated(build), car={**LONG, **ENDLESS}))


@pytest.mark.parametrize("what", ["device", "free"])
def test_adaptive_gives_up_where_the_whole_device_is_waited_for(build, check, what):
    check(run(build, "stay", "--case", "between", "--between", what, "--rounds", 1000, "--gap", 0, "--stays", 8, ranks=2,
              gpus=simulated(build), car=ADAPTIVE))


@pytest.mark.parametrize("setting", [
    {"car": {**LONG, "stay": "off"}}, {"car": {**LONG, "stream_order": "legacy"}},
    {"car": LONG, "env": {"CUDA_LAUNCH_BLOCKING": "1"}}, {"car": LONG, "env": {"CUDA_INJECTION64_PATH": "/nowhere"}},
    {"car": LONG, "env": {"SIMGPU_MPS": "0"}}, {"car": LONG, "env": {"SIMGPU_RDMA": "1"}}, {"car": {**LONG, "algorithm": "one_shot_pull"}},
    {"car": {**LONG, "stay_max": 3}}], ids=str)
def test_none_stays_where_none_may(build, check, setting):
    check(run(build, "stay", "--rounds", 200, "--gap", 0, "--stays", 0, ranks=2, gpus=simulated(build), **setting))


@pytest.mark.parametrize("program, arguments, ranks", [
    ("fuzz", ["--generations", 6, "--max-bytes", 3000], 4), ("threads", ["--threads", 3], 2), ("lifecycle", ["--rounds", 20], 3),
    ("communicators", [], 4), ("late", ["--ms", 1500, "--limit-ms", 500], 3), ("mixed", ["--cases", 40], 3), ("reset", [], 2)])
def test_other_programs_are_right_with_it(build, check, program, arguments, ranks):
    check(run(build, program, *arguments, ranks=ranks, gpus=simulated(build, 2), car=LONG))


def test_the_table_of_what_it_gains_and_costs(build):
    """That it is made; what it says means nothing on simulated GPUs, so its verdict is either."""
    table = os.path.join(ROOT, "bench/stay_table")
    done = subprocess.run([table, "--turns", "1", build.mpirun, "--oversubscribe", "--bind-to", "none", "-np", "2",
                           os.path.join(build.path, "bench/car_gaps"), "--gaps", "0,5", "--iterations", "40"],
                          env={**environment_of(build), **simulated(build)}, capture_output=True, text=True, timeout=90, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 + 14 + 1 and "adaptive is" in lines[-1], done.stdout + done.stderr
    assert (done.returncode == 0) == ("nowhere" in lines[-1])
