"""Every predefined type with every predefined operation that MPI allows: the program types, and the table in docs/types.md."""
import os
import re

import pytest

import launch
from launch import run, simulated

# The fold that results are compared with is itself compared with Open MPI's plain C loops.
PLAIN_LOOPS = {"OMPI_MCA_op": "^avx"}
PAGE = os.path.join(os.path.dirname(__file__), "../../docs/types.md")


def types(build, *arguments, **more):
    return run(build, "types", *arguments, env=PLAIN_LOOPS, **more)


@pytest.mark.by_turns
@pytest.mark.parametrize("ranks", [2, 3, 8])
@pytest.mark.parametrize("devices, pml", [("shared", "ob1"), ("nvlink", "ucx")])
def test_every_type_and_operation(build, check, ranks, devices, pml):
    check(types(build, ranks=ranks, pml=pml, gpus=simulated(build, devices=1 if devices == "shared" else ranks)))


@pytest.mark.slow
def test_every_type_and_operation_on_other_numbers_of_ranks(build, check):
    for ranks in (4, 5, 6, 7):
        check(types(build, ranks=ranks, gpus=simulated(build, devices=ranks)))


@pytest.mark.by_turns
@pytest.mark.parametrize("algorithm", ["one_shot_push", "two_shot_push", "one_shot_pull", "two_shot"])
def test_every_type_and_operation_in_each_algorithm(build, check, algorithm):
    check(types(build, ranks=3, gpus=simulated(build), car={"algorithm": algorithm}))


def test_every_type_and_operation_where_coll_car_declines(build, check):
    check(types(build, "--expect", "declined", ranks=3, gpus=simulated(build, devices=3, topology="pcie")))


# --- the page -------------------------------------------------------------------------------------------------------

def documented():
    """The table's lines between the markers, the head first."""
    with open(PAGE, encoding="utf-8") as page:
        return re.search(r"<!-- table -->\n(.*?)<!-- /table -->", page.read(), re.DOTALL).group(1).strip().splitlines()


def printed(build, check):
    output = check(types(build, "--table", "yes", gpus=simulated(build))).output
    return [line for line in output.splitlines() if line.startswith("|")]


def test_the_table_of_types_is_what_happens(build, check):
    """A build has the types that its Open MPI has: 5.0.7 is built without Fortran, 4.1.4 has no 16-bit floats."""
    wrong = [line for line in printed(build, check) if line not in documented()]
    assert not wrong, "not in docs/types.md:\n" + "\n".join(wrong)


def test_every_row_of_the_table_was_seen(check):
    if {build.version.split(".")[0] for build in launch.builds()} != {"4", "5"}:
        pytest.skip("only Open MPI 4 and 5 together have all types")
    seen = {line for build in launch.builds() for line in printed(build, check)}
    assert [line for line in documented() if line not in seen] == []


@pytest.mark.parametrize("unchecked", ["no", "yes"])
def test_contiguous_derived_types_are_reduced_where_mpi_allows_them(build, check, unchecked):
    check(launch.run(build, "derived", "--unchecked", unchecked, ranks=3, gpus=launch.simulated(build),
                     env={"OMPI_MCA_mpi_param_check": "0" if unchecked == "yes" else "1"}))
