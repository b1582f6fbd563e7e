"""tools/tune: the thresholds that it finds in times whose crossovers are known, and files that the component takes."""
import os
import random
import re
import subprocess
import sys

import pytest

import launch
from launch import run, simulated

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/tune")
KB, MB = 1 << 10, 1 << 20
SIZES = [64 << step for step in range(19)]  # to 16 MB

# Microseconds at 0 bytes and for every 128 KB: they meet at 128 KB, 1 MB, (zero copy and one_shot_pull) 512 KB and (both zero
# copies) 256 KB, and from 7.2 x 128 KB on zero copy saves 2.
TIMES = {"one_shot_push": (8, 4), "one_shot_pull": (11, 1), "two_shot": (15, 0.5), "zero_copy": (13.5, 0.375),
         "zero_copy_alone": (13, 0.625)}


def tune(*words, expect=0, timeout=120):
    result = subprocess.run([sys.executable, "-B", TOOL, *map(str, words)], capture_output=True, text=True, timeout=timeout,
                            check=False)
    assert result.returncode == expect, result
    return result.stdout + result.stderr


def write_runs(folder, times, runs=3, change=lambda way, run, size: 1.0):
    """What --keep would have kept: only the columns that count."""
    folder.mkdir(parents=True)
    for way, (start, slope) in times.items():
        for number in range(runs):
            with open(folder / f"{way}-{number}.csv", "w", encoding="utf-8") as file:
                file.write("date,library,gpu,floor_us,bytes,algorithm,median_us\n")
                for size in SIZES:
                    time = (start + slope * size / (128 * KB)) * change(way, number, size)
                    served = "zero_copy" if way.startswith("zero_copy") else way
                    file.write(f"today,a library,a GPU,5.0,{size},{served},{time:.3f}\n")


@pytest.fixture(name="find")
def find_fixture(tmp_path):
    """{threshold: bytes or a word} that the tool finds in times."""
    def find(times=None, place="sm_90.one_gpu.4", **more):
        write_runs(tmp_path / "runs" / place, times or TIMES, **more)
        tune("--from", tmp_path / "runs", "--output", tmp_path / "out")
        found = dict(re.findall(rf"^{re.escape(place)}\.(\w+) = (\w+)$", (tmp_path / "out").read_text(), re.MULTILINE))
        units = {"k": KB, "m": MB}
        return {name: int(value.rstrip("km")) * units.get(value[-1], 1) if value[0].isdigit() else value
                for name, value in found.items()}
    return find


def near(found, **wanted):
    """Within a quarter: curves are close to each other there, and times of so different sizes are not on a straight line."""
    assert set(found) >= set(wanted), found
    for name, value in wanted.items():
        assert found[name] == value if isinstance(value, str) else 0.75 < found[name] / value < 1.34, (name, found)


KNOWN = {"push_max": 128 * KB, "pull_max": MB, "alone_max": 256 * KB, "zero_copy_again": 512 * KB, "zero_copy_min": 922 * KB}


def test_known_crossovers_come_out(find):
    near(find(), **KNOWN)


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_outliers_do_not_move_them_far(find, seed):
    """Each figure 3 % off either way, and in one run of three every tenth up to 5 times too large."""
    dice = random.Random(seed)

    def change(_way, number, _size):
        return dice.uniform(0.97, 1.03) * (dice.uniform(1, 5) if number == 1 and dice.random() < 0.1 else 1)
    for name, value in find(change=change).items():
        assert KNOWN[name] / 2.1 < value < KNOWN[name] * 2.1, (name, value)


def test_one_wrong_figure_far_from_the_crossover_moves_nothing(find):
    near(find(change=lambda way, _run, size: 1.5 if (way, size) == ("one_shot_push", 4 * KB) else 1.0), **KNOWN)


def test_a_way_that_never_wins_gets_no_size(find):
    near(find({**TIMES, "one_shot_pull": (30, 4)}), push_max=256 * KB, pull_max=256 * KB)


def test_a_way_that_always_wins_gets_all(find):
    near(find({**TIMES, "two_shot": (17, 1)}), push_max=128 * KB, pull_max="all")


def test_zero_copy_that_never_wins_is_never_used(find):
    near(find({**TIMES, "zero_copy": (20, 5), "zero_copy_alone": (20, 10)}), zero_copy_min="never", zero_copy_again="never")


def test_zero_copy_by_one_rank_may_always_win_or_never(find, tmp_path):
    near(find({**TIMES, "zero_copy_alone": (10, 0.3)}), alone_max="all")
    write_runs(tmp_path / "more/sm_90.one_gpu.4", {**TIMES, "zero_copy_alone": (14, 0.5)})
    tune("--from", tmp_path / "more", "--output", tmp_path / "never")
    assert "sm_90.one_gpu.4.alone_max = 0\n" in (tmp_path / "never").read_text()


def test_zero_copy_that_always_wins_is_used_from_the_first_byte(find):
    near(find({**TIMES, "zero_copy": (7, 0.2)}), zero_copy_again=1, push_max=128 * KB)


def test_push_that_always_wins_gets_what_was_measured(find):
    near(find({**TIMES, "one_shot_push": (5, 0.1)}), push_max=16 * MB, pull_max="all")


def test_push_that_never_wins_gets_nothing(find):
    found = find({**TIMES, "one_shot_push": (20, 4)})
    assert found["push_max"] == 0, found


def test_figures_that_another_way_served_do_not_count(tmp_path):
    """As where coll/car does not take part."""
    write_runs(tmp_path / "runs/sm_90.one_gpu.2", {**TIMES, "two_shot": (1, 1)})
    for path in (tmp_path / "runs/sm_90.one_gpu.2").glob("two_shot-*"):
        path.write_text(path.read_text().replace(",two_shot,", ",old path,"))
    assert "sm_90.one_gpu.2: no times of two_shot" in tune("--from", tmp_path / "runs", "--output", tmp_path / "out", expect=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words, said", [
    (("--ranks", "1,2"), "numbers of ranks from 2 to 16"), (("--ranks", "two"), "numbers of ranks"),
    (("--build", "/nowhere"), "/nowhere"), (("--from", "/nowhere"), "/nowhere"),
], ids=lambda part: " ".join(part) if isinstance(part, tuple) else "")
def test_what_cannot_be_is_refused_in_words(tmp_path, words, said):
    assert said in tune("--output", tmp_path / "out", *words, expect=2)


def test_what_it_measures_on_simulated_gpus_is_a_file_that_the_component_takes(build, check, tmp_path):
    said = tune("--build", build.path, "--simulated", 2, "--ranks", "2", "--max", "16k", "--min", "1k", "--repeat", 1,
                "--output", tmp_path / "out")
    assert "2 ranks, one_gpu: measured" in said and "2 ranks, several_gpus: measured" in said
    assert "the times mean nothing" in (tmp_path / "out").read_text()
    for devices in (1, 2):
        result = check(run(build, "allreduce", "--types", "float", "--kinds", "device", "--cases", 20, "--max-bytes", 20000,
                           "--borders", "no", gpus=simulated(build, devices), car={"tune_file": tmp_path / "out", "verbose": 2}))
        told = [line for line in result.lines_of_car() if "thresholds" in line]
        assert told and all(line.count("(tune file)") == 5 for line in told), result


def test_what_cannot_be_measured_is_left_out_and_said(build, tmp_path, monkeypatch, capsys):
    """GPUs without links between them: coll/car does not serve them."""
    tool = launch.load_script(TOOL)
    monkeypatch.setattr(launch, "simulated", lambda build, devices: simulated(build, devices, topology="none"))
    status = tool.main(["--build", build.path, "--simulated", "2", "--ranks", "2", "--max", "2k", "--min", "1k",
                        "--repeat", "1", "--output", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert status == 1 and "2 ranks, one_gpu: measured" in said, said
    assert re.search("2 ranks, several_gpus: left out: .*not in use: .* between them", said), said
    assert "several_gpus." not in re.sub("#.*", "", (tmp_path / "out").read_text())
