"""bench/compare: what it says of times that are known, and that it measures settings in turns. bench/questions, which asks by it."""
import os
import subprocess
import sys

import pytest

import launch

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench/compare")
QUESTIONS = os.path.join(os.path.dirname(TOOL), "questions")


@pytest.fixture(scope="module", name="tool")
def fixture_tool():
    return launch.load_script(TOOL)


def compare(*words, expect=0, tool=TOOL):
    done = subprocess.run([sys.executable, "-B", tool, *map(str, words)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == expect, done
    return done.stdout + done.stderr


def turn(tool, wrong=0, **times):
    """A turn in which settings took so many microseconds for 1 KB."""
    return {name: {1024: tool.bench_csv.Row(ranks="2", gpus="1", gpu="G", library="L", date="D", bytes="1024", floor_us="5", bound_us="5",
                                            median_us=str(us), p99_us=str(2 * us), wrong=str(wrong))} for name, us in times.items()}


def cell(tool, turns, setting="other"):
    return tool.cell(turns, setting, "first", 1024)


def test_a_cell_has_the_median_its_range_and_its_ratio_turn_by_turn(tool):
    turns = [turn(tool, first=10, other=9), turn(tool, first=20, other=12), turn(tool, first=10, other=8)]
    assert cell(tool, turns, "first") == "10.00 (10.00 to 20.00), 2.00, p99 2.00"
    assert cell(tool, turns) == "9.00 (8.00 to 12.00), 1.80, p99 2.00; 0.80"


def test_only_what_is_so_in_every_turn_of_four_is_called_quicker_or_slower(tool):
    quicker, slower = turn(tool, first=10, other=9), turn(tool, first=10, other=11)
    assert cell(tool, [quicker] * 4).endswith("; 0.90 quicker")
    assert cell(tool, [slower] * 4).endswith("; 1.10 slower")
    assert cell(tool, [quicker] * 3).endswith("; 0.90")
    assert cell(tool, [quicker] * 7 + [slower]).endswith("; 0.90")


def test_wrong_results_are_said(tool):
    assert cell(tool, [turn(tool, wrong=3, first=10, other=9)]).endswith("**wrong results**")


@pytest.mark.by_turns
def test_it_measures_in_turns_on_simulated_gpus(build):
    said = compare("--build", build.path, "--simulated", 2, "--several-gpus", "--ranks", 2, "--turns", 2, "algorithm=one_shot_push",
                   f"algorithm=two_shot,build={build.path}", "--", "--min", "1k", "--max", "2k", "--iterations", 4)
    assert said.startswith("SIMULATED GPUs: the times mean nothing\nCells: ")
    lines = said.splitlines()[3:]
    assert lines[0].startswith("2 ranks on 2 GPUs (SimGPU), ") and "; turns: 2; floor " in lines[0], said
    assert lines[2].startswith("| size | algorithm=one_shot_push | ") and [line.split(" |")[0] for line in lines[4:6]] == ["| 1 KB", "| 2 KB"]


@pytest.mark.by_turns
def test_time_that_is_up_ends_it_behind_a_whole_turn(build):
    said = compare("--build", build.path, "--simulated", 1, "--seconds", 0.1, "default", "blocks=2", "--", "--max", "8", "--iterations", 4)
    assert "; turns: 1; " in said, said


@pytest.mark.by_turns
@pytest.mark.parametrize("words, said", [
    (("default",), "two settings at least"), (("default", "default"), "none of them twice"), (("default", "a"), "no NAME=VALUE"),
    (("--ranks", "two", "default", "a=1"), "'two' is no number from 1 on"), (("--turns", "0", "default", "a=1"), "no number from 1 on"),
    (("--several-gpus", "--ranks", "2", "default", "stay=off"), "2 ranks with a GPU each, and here are 1"), (("--build", "/nowhere", "default", "a=1"), "/nowhere"),
    (("default", "build=/nowhere"), "/nowhere"), (("default", "stay_mx=2"), "no parameter stay_mx"),
    (("default", "stay=bogus"), "stay=bogus: a value that is none"), (("default", "threads=33"), "threads=33: a value that is none")], ids=lambda part: " ".join(part) if isinstance(part, tuple) else "")
def test_what_cannot_be_is_refused_in_words(build, words, said):
    words = words if "--build" in words else ("--build", build.path, "--simulated", "1", *words)
    assert said in compare(*words, "--", "--max", 8, "--iterations", 4, expect=2)


@pytest.mark.by_turns
def test_a_job_that_fails_ends_it_in_words(build):
    said = compare("--build", build.path, "--simulated", 1, "default", "blocks=2", "--", "--type", "nothing", expect=2)
    assert "car_bench failed" in said and "nothing" in said


def questions(*words, expect=0):
    return compare(*words, expect=expect, tool=QUESTIONS)


def test_questions_are_those_that_the_machine_can_answer(build):
    one, eight = (questions("--simulated", gpus, "--list").splitlines() for gpus in (1, 8))
    assert one and all("ranks share a GPU" in line for line in one) and set(one) < set(eight)
    assert "the algorithms, one rank on each GPU: 4, 8 ranks" in eight
    assert "the algorithms, one rank on each GPU: 4 ranks" in questions("--simulated", 4, "--list")


@pytest.mark.by_turns
def test_every_question_is_one_that_this_version_understands(build):
    """Names and values of its settings and options of car_bench: one turn of one of each kind would take minutes."""
    asked = launch.load_script(QUESTIONS)
    for text in {text for question in asked.QUESTIONS for text in question.settings}:
        asked.compare.check_names(build, text)
        asked.compare.setting(text)


@pytest.mark.by_turns
def test_a_question_is_answered_by_a_table(build):
    said = questions("--build", build.path, "--simulated", 2, "--seconds", 1, "--turns", 1, "way of launching")
    assert said.startswith("SIMULATED GPUs") and "## the way of launching, ranks share a GPU" in said, said
    assert said.count("| size | launch=graph | launch=plain | launch=auto |") == 2, said


def test_a_machine_without_gpus_or_a_word_without_a_question_is_said(build, monkeypatch):
    assert "no question with nothing" in questions("--simulated", 1, "--build", build.path, "nothing", expect=2)
    monkeypatch.setenv("PATH", "/nowhere")
    assert "no GPU that nvidia-smi knows of" in questions("--build", build.path, expect=2)
