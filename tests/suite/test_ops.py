"""libcar's operations on 16-bit floats, with coll/car and without."""
import os
import subprocess

import pytest

from launch import environment_of, execute, run, simulated


@pytest.mark.by_turns
@pytest.mark.parametrize("ranks", [2, 3, pytest.param(8, marks=pytest.mark.slow)])
def test_operations_on_host_and_device_buffers(build, check, ranks):
    check(run(build, "ops", "--expect", "served", ranks=ranks, gpus=simulated(build, devices=2)))


@pytest.mark.by_turns
@pytest.mark.parametrize("ranks", [2, 3, pytest.param(5, marks=pytest.mark.slow)])
def test_operations_do_without_coll_car(build, check, ranks):
    check(run(build, "ops", "--device", "no", ranks=ranks, options=["--mca", "coll", "^car"]))


@pytest.mark.by_turns
def test_the_example_computes_its_sums(build):
    result = execute([build.mpirun, "--oversubscribe", "--bind-to", "none", "-np", "4",
                      os.path.join(build.path, "examples/bf16_allreduce")], environment_of(build), 60)
    assert result.status == 0 and result.output.count("0 of 1000000 sums are wrong") == 4, result


@pytest.mark.by_turns
def test_libcar_exports_the_symbols_of_its_header_only(build):
    symbols = subprocess.run(["nm", "-D", "--defined-only", os.path.join(build.path, "lib/.libs/libcar.so")],
                             check=True, capture_output=True, text=True).stdout.split("\n")
    names = [line.split()[-1] for line in symbols if line]
    assert len(names) == 9 and all(name.startswith("CAR_") for name in names), names


def test_a_datatype_of_other_elements_ends_the_program_with_a_message(build, tmp_path):
    """MPI_FLOAT has no 2-byte elements: nothing is computed from halves of it."""
    program = tmp_path / "wrong"
    source = tmp_path / "wrong.c"
    source.write_text("#include <car.h>\n"
                      "int main(int argc, char **argv) { float a = 1, b = 2; MPI_Op op; MPI_Init(&argc, &argv);\n"
                      "CAR_Op_create_half_sum(&op); MPI_Reduce_local(&a, &b, 1, MPI_FLOAT, op); MPI_Finalize(); }\n")
    lib = os.path.join(build.path, "lib/.libs")
    include = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../lib")
    mpicc = os.path.join(os.path.dirname(build.mpirun), "mpicc")
    subprocess.run([mpicc, source, "-I", include, "-L", lib, "-lcar", "-Wl,-rpath," + lib, "-o", program],
                   check=True, env=environment_of(build))
    result = execute([build.mpirun, "-np", "1", str(program)], environment_of(build), 60)
    assert result.status != 0 and "a predefined datatype that has not 2 bytes" in result.output, result
