"""
Weak memory (docs/simgpu.md): kernels are right whatever their stores and loads do that the PTX memory model allows, and each
release, acquire, fence and barrier in them is needed for that (mutations.py).
"""
import pytest

import mutations
from launch import run, simulated
from test_promises import ALTERNATIVES

pytestmark = pytest.mark.by_turns

ALGORITHMS = ["one_shot_push", "two_shot_push", "one_shot_pull", "two_shot"]
# The word to the host is ordered by fences at gpu scope behind the first, at system scope behind the others.
OUTPUTS = {"gpu": "device", "system": "managed,pool,vmm"}


def seeds(full):
    return range(1, 21) if full else (1,)


@pytest.mark.parametrize("scope", list(OUTPUTS))
@pytest.mark.parametrize("devices", [1, 3])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm(build, check, full, algorithm, devices, scope):
    for seed in seeds(full):
        check(run(build, "allreduce", "--seed", seed, "--types", "int32,double,uint8", "--ops", "sum,max", "--kinds",
                  OUTPUTS[scope], "--max-bytes", 50000, "--cases", 40, ranks=3, gpus=simulated(build, devices, weak=seed),
                  car={"algorithm": algorithm}))


@pytest.mark.parametrize("memory", list(ALTERNATIVES))
@pytest.mark.parametrize("devices", [1, 4])
def test_algorithms_after_each_other(build, check, full, devices, memory):
    options, car = ALTERNATIVES[memory]
    for seed in seeds(full):
        check(run(build, "alternate", "--rounds", 10, *options, ranks=4, gpus=simulated(build, devices, weak=seed), car=car))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_messages_of_many_rounds(build, check, full, algorithm):
    for seed in seeds(full):
        check(run(build, "big", "--bytes", 2 << 20, ranks=3, gpus=simulated(build, 3, weak=seed),
                  car={"memory": 1 << 20, "algorithm": algorithm}))


@pytest.mark.parametrize("ranks, devices", [(4, 2), (8, 1)])
def test_random_calls(build, check, full, ranks, devices):
    for seed in seeds(full):
        check(run(build, "fuzz", "--seed", seed, "--generations", 4 if full else 2, "--max-bytes", 60000, ranks=ranks,
                  gpus=simulated(build, devices, weak=seed), car={"push_max": 4000, "pull_max": 20000}))


@pytest.mark.parametrize("program, arguments", [("allreduce", ["--max-bytes", 20000, "--cases", 100]),
                                                ("mixed", ["--cases", 30]), ("lifecycle", ["--rounds", 5]),
                                                ("threads", ["--threads", 3]),
                                                pytest.param("communicators", [], marks=pytest.mark.slow)])
def test_other_programs(build, check, full, program, arguments):
    for seed in seeds(full):
        check(run(build, program, *arguments, ranks=4, gpus=simulated(build, 2, weak=seed)))


# --- mutations --------------------------------------------------------------------------------------------------------

QUICK = ["car_signal: car_block_barrier 1: orders nothing", "car_signal: car_store_release_sys 1: relaxed",
         "car_wait: car_load_acquire_sys 1: relaxed", "car_wait: car_block_all 1: orders nothing",
         "car_end: car_block_barrier 1: orders nothing", "car_fence_for_host: car_fence_sys 1: gpu scope",
         "car_fence_for_host: car_fence_gpu 1: removed", "car_look_for: car_load_packet_acquire 1: relaxed",
         "car_wait_for_hand: car_load_packet_acquire 1: relaxed", "car_go: car_fence_sys 1: removed", "car_tell_host: car_atomic_add_ordered_gpu 1: relaxed"]


def pytest_generate_tests(metafunc):
    if "mutation" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full")
        chosen = [m for m in mutations.all_mutations() if full or str(m) in QUICK]
        metafunc.parametrize("mutation", chosen, ids=str)


@pytest.fixture(scope="module", name="workshop")
def fixture_workshop(tmp_path_factory):
    return mutations.Workshop(mutations.launch.builds()[0], str(tmp_path_factory.mktemp("mutations")))


def test_a_mutation_fails(workshop, mutation):
    verdict = mutations.judge(workshop, mutation)
    print(verdict)
    assert verdict.word != "MISSED", verdict


def test_without_one_the_same_jobs_pass(workshop, check, full):
    every = [mutations.jobs_for(mutation) for mutation in mutations.all_mutations() if full or str(mutation) in QUICK]
    for job in {job for jobs in every for job in (jobs if full else jobs[:1])}:
        library = workshop.library(None, job.algorithm)
        for seed in mutations.SEEDS if full else (1,):
            check(job.run(workshop.build, library, seed))


def test_every_quick_mutation_is_one():
    assert set(QUICK) <= {str(mutation) for mutation in mutations.all_mutations()}
    assert set(mutations.EXPLAINED) <= {(m.function, m.call, m.way) for m in mutations.all_mutations()}
