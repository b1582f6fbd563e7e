"""Where thresholds come from: parameters, a tune file, the built-in table; and that ranks agree whatever each has."""
import re

import pytest

from launch import run, simulated

SMALL = ("--types", "float", "--kinds", "device", "--cases", 60, "--max-bytes", 60000, "--borders", "no")


def allreduce(build, check, ranks=3, devices=1, **more):
    more.setdefault("gpus", simulated(build, devices))
    return check(run(build, "allreduce", *SMALL, ranks=ranks, **more))


def thresholds(result):
    """{name: (value, where it comes from)} as the component tells of MPI_COMM_WORLD."""
    said = [line for line in result.lines_of_car() if "thresholds in bytes" in line and "MPI_COMM_WORLD" in line]
    assert len(said) == 1, result
    return {name: (value, source) for name, value, source in re.findall(r"(\w+) (\w+) \(([^)]*)\)", said[0])}


def served_by(result):
    """Calls by one_shot_push, one_shot_pull, two_shot."""
    counts = dict(re.findall(r"(\w+_shot\w*) (\d+)", result.line("ok ")))
    return [int(counts[name]) for name in ("one_shot_push", "one_shot_pull", "two_shot")]


@pytest.fixture(name="write")
def write_fixture(tmp_path):
    def write(text, name="tune.conf"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)
    return write


def for_three(push, pull, sharing="one_gpu", generation=90):
    at = f"sm_{generation}.{sharing}.3"
    return f"{at}.push_max = {push}\n{at}.pull_max = {pull}\n{at}.zero_copy_min = never\n"


def test_without_a_file_the_table_counts(build, check):
    result = allreduce(build, check, ranks=2, car={"verbose": 2})
    assert thresholds(result) == {
        "push_max": ("1048576", "built in, measured"), "pull_max": ("all", "built in, measured"), "alone_max": ("1048576", "built in, measured"),
        "zero_copy_min": ("1048576", "built in, measured"), "zero_copy_again": ("32768", "built in, measured")}, result


def test_the_table_of_the_gpus_generation_counts(build, check):
    found = []
    for generation in (80, 90, 100):
        result = allreduce(build, check, ranks=2, gpus=simulated(build, 2, sm=generation), car={"verbose": 2})
        found.append(thresholds(result)["push_max"])
    assert found == [("393216", "built in, not measured"), ("524288", "built in, measured"),
                     ("2883584", "built in, not measured")], found


@pytest.mark.parametrize("devices, sharing", [(1, "one_gpu"), (3, "several_gpus")])
def test_a_files_thresholds_are_used(build, check, write, devices, sharing):
    car = {"tune_file": write(for_three("4k", "20k", sharing)), "verbose": 2}
    result = allreduce(build, check, devices=devices, car=car)
    said = thresholds(result)
    assert said["push_max"] == ("4096", "tune file") and said["pull_max"] == ("20480", "tune file"), result
    assert said["zero_copy_min"] == ("never", "tune file") and "built in" in said["zero_copy_again"][1], result
    assert all(count > 3 for count in served_by(result)), result


def test_a_number_of_ranks_between_those_of_a_file_is_interpolated(build, check, write):
    text = "sm_90.one_gpu.2.push_max = 1m\nsm_90.one_gpu.8.push_max = 64k\n"
    result = allreduce(build, check, ranks=4, car={"tune_file": write(text), "verbose": 2})
    assert thresholds(result)["push_max"] == ("262144", "tune file"), result


def test_a_parameter_comes_before_the_file(build, check, write):
    result = allreduce(build, check, car={"tune_file": write(for_three("0", "0")), "push_max": 100000, "verbose": 2})
    said, (push, pull, two_shot) = thresholds(result), served_by(result)
    assert said["push_max"] == ("100000", "parameter") and said["pull_max"] == ("0", "tune file"), result
    assert push > 20 and pull == 0 and two_shot == 0, result


def test_open_mpis_parameter_file_may_name_the_file(build, check, write, tmp_path):
    (tmp_path / ".openmpi").mkdir()
    (tmp_path / ".openmpi/mca-params.conf").write_text(f"coll_car_tune_file = {write(for_three('4k', '20k'))}\n")
    result = allreduce(build, check, car={"verbose": 2}, env={"HOME": str(tmp_path)})
    assert thresholds(result)["push_max"] == ("4096", "tune file"), result


def test_a_right_file_is_used_in_silence(build, check, write):
    result = allreduce(build, check, car={"tune_file": write(for_three("4k", "20k"))})
    assert not result.lines_of_car(), result


def different_files(write):
    return {0: {"OMPI_MCA_coll_car_tune_file": write(for_three("4k", "20k"), "a")},
            1: {"OMPI_MCA_coll_car_tune_file": write(for_three("50k", "50k"), "b")},
            2: {"OMPI_MCA_coll_car_tune_file": write(for_three("0", "0"), "c")}}


def missing_on_one(write):
    path = write(for_three("4k", "20k"))
    return {0: {"OMPI_MCA_coll_car_tune_file": path}, 1: {"OMPI_MCA_coll_car_tune_file": path}}


def different_parameters(_):
    """The program looks at its own rank's where it has both."""
    mine = "OMPI_MCA_coll_car_"
    return {0: {mine + "push_max": 4096, mine + "pull_max": 20480, mine + "zero_copy_min": 0},
            1: {mine + "push_max": 50000, mine + "zero_copy_min": 1000}, 2: {mine + "push_max": 0}}


@pytest.mark.parametrize("difference", [different_files, missing_on_one, different_parameters])
def test_ranks_that_would_have_different_thresholds_use_rank_0s(build, check, write, difference):
    same = {0: {"OMPI_MCA_coll_car_tune_file": write(for_three("4k", "20k"), "same")}}
    alike = allreduce(build, check, rank_env={**same, 1: same[0], 2: same[0]})
    result = allreduce(build, check, rank_env=difference(write))
    assert served_by(result) == served_by(alike) and result.digest == alike.digest, result
    said = result.lines_of_car()
    assert len(said) == 1 and "different thresholds" in said[0] and "rank 0 hold on all" in said[0], result


def test_gpus_of_different_generations_use_rank_0s(build, check):
    result = allreduce(build, check, devices=3, rank_env={1: {"SIMGPU_SM": 100}, 2: {"SIMGPU_SM": 80}})
    said = result.lines_of_car()
    assert len(said) == 1 and "different thresholds" in said[0], result


@pytest.mark.parametrize("text, why", [
    (for_three("4k", "20k") + "sm_90.one_gpu.3.pusch_max = 4k\n",
     "tune.conf:4: unknown threshold 'pusch_max'; there are push_max"),
    (for_three("4k", "many"), "tune.conf:2: 'many' is no value of pull_max"),
    ("\0\xff" * 1000, "tune.conf:1: no '='"),
    ("# x\n" * (1 << 17), "tune.conf: 524288 bytes"),
], ids=["unknown key", "wrong value", "binary", "too large"])
def test_a_file_that_is_wrong_is_not_used_and_told_of_once(build, check, write, text, why):
    result = allreduce(build, check, car={"tune_file": write(text)})
    said = result.lines_of_car()
    assert len(said) == 1 and why in said[0] and "built-in thresholds are" in said[0], result
    assert served_by(result)[1:] == [0, 0], result


def test_a_file_that_is_not_there_is_told_of(build, check, tmp_path):
    result = allreduce(build, check, car={"tune_file": tmp_path / "none"})
    said = result.lines_of_car()
    assert len(said) == 1 and "cannot be opened: No such file" in said[0], result
