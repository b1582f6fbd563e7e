"""
What car_bench and its helpers promise, on simulated GPUs, where its figures mean nothing: every form and option runs, results
are right, files have what they should, and a run that became slower is told from one that did not.
"""
import csv
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import types

import pytest

import launch
from launch import simulated

HERE = os.path.dirname(os.path.abspath(__file__))
BENCH = os.path.join(HERE, "../../bench")
sys.path[:0] = [BENCH, os.path.join(HERE, "../gpu")]
import bench_check  # noqa: E402
import bench_csv  # noqa: E402
import cost_model  # noqa: E402
import plot_tables  # noqa: E402
import report  # noqa: E402
import summary  # noqa: E402

pytestmark = pytest.mark.by_turns

SMALL = ("--max", "4k", "--step", "8", "--iterations", "4")
FIGURES = ("algorithm", "calls", "median_us", "mean_us", "fastest_rank_us", "slowest_rank_us", "p99_us")


def bench(build, *words, ranks=2, devices=2, env=None, timeout=60):
    environment = {**launch.environment_of(build), **simulated(build, devices=devices), **(env or {})}
    command = [build.mpirun, "--oversubscribe", "--bind-to", "none", "-np", str(ranks),
               os.path.join(build.path, "bench/car_bench"), *map(str, words)]
    return launch.execute(command, environment, timeout)


def complete(result):
    assert result.status == 0, result
    return result


@pytest.fixture(name="one")
def one_build():
    """For what no Open MPI can change."""
    return launch.builds()[0]


# --- options ----------------------------------------------------------------------------------------------------------

def test_device_buffers_are_served_by_kernels_and_results_are_checked(build):
    result = complete(bench(build, *SMALL))
    assert result.output.count("one_shot_push") == 4, result
    assert "WRONG" not in result.output, result


@pytest.mark.parametrize("forms", ["blocking", "nonblocking", "persistent", "blocking,nonblocking,persistent",
                                   "persistent,blocking"])
def test_every_form_runs_beside_the_others(build, forms, tmp_path):
    complete(bench(build, *SMALL, "--buffers", "host", "--form", forms, "--csv", tmp_path / "a.csv"))
    for row, (form, prefix) in itertools.product(bench_csv.read(tmp_path / "a.csv"), bench_csv.FORMS.items()):
        assert (row.number(prefix + "median_us") is not None) == (form in forms.split(",")), (form, row)


@pytest.mark.parametrize("words", [("--in-place",), ("--rotate", 3), ("--in-place", "--rotate", 2), ("--no-check",)],
                         ids=lambda words: " ".join(map(str, words)))
def test_persistent_calls_know_their_buffers(one, words):
    complete(bench(one, *SMALL, "--buffers", "host", "--form", "persistent,nonblocking", *words))


@pytest.mark.parametrize("words", [("--in-place",), ("--rotate", 3), ("--activate",), ("--reference",)],
                         ids=lambda words: str(words[0]))
def test_device_buffers_with(build, words):
    complete(bench(build, *SMALL, *words))


@pytest.mark.parametrize("kind", ["managed", "pool", "vmm", "other", "host", "registered", "mapped"])
def test_every_kind_of_buffer(one, kind):
    complete(bench(one, *SMALL, "--buffers", kind))


def offered(build):
    listed = complete(bench(build, "--type", "list", ranks=1)).output
    return {line.split(":")[0]: line.split(":")[1].split() for line in listed.splitlines() if line.startswith("MPI")}


def test_every_type_with_an_operation_and_every_operation_with_a_type(build, full):
    types = offered(build)
    assert len(types) > 40 and sorted(set(sum(types.values(), []))) == sorted(
        "sum prod min max land lor lxor band bor bxor minloc maxloc".split())
    pairs = [(name, op) for name, ops in types.items() for op in ops]
    if not full:
        wanted = {"MPI_INT8_T", "MPI_UINT16_T", "MPI_C_BOOL", "MPI_BYTE", "MPI_C_DOUBLE_COMPLEX", "MPI_SHORT_INT", "MPI_2REAL",
                  "MPI_LONG_DOUBLE", "MPIX_SHORT_FLOAT"}
        pairs = [(name, types[name][number % len(types[name])]) for number, name in enumerate(sorted(wanted & set(types)))]
    for name, op in pairs:
        result = complete(bench(build, "--min", "1k", "--max", "1k", "--iterations", 4, "--type", name, "--op", f"MPI_{op.upper()}",
                                ranks=3))
        assert "WRONG" not in result.output and f"{name} {op}" in result.output, result


def test_small_integers_do_not_overflow_with_many_ranks(one):
    for op in ("sum", "prod"):
        complete(bench(one, "--min", 64, "--max", 64, "--iterations", 4, "--type", "int8", "--op", op, ranks=9))


@pytest.mark.parametrize("words, said", [
    (("--form", "sideways"), "unknown form"), (("--type", "quaternion"), "unknown type"),
    (("--type", "float", "--op", "land"), "MPI_FLOAT"), (("--probes", "x"), "not a number"),
    (("--reference", "--type", "double"), "--reference is for"), (("--max", "4"), "--max is below"),
], ids=lambda part: str(part[0]) if isinstance(part, tuple) else "")
def test_what_cannot_be_is_refused_in_words(one, words, said):
    result = bench(one, *words)
    assert result.status == 2 and said in result.output, result


def test_nonblocking_calls_on_device_memory_are_refused_without_the_component(build):
    result = bench(build, *SMALL, "--form", "nonblocking", env={"OMPI_MCA_coll": "^car"})
    assert result.status == 2 and "coll/car is not loaded" in result.output, result


def test_overlap_is_a_percentage(build, tmp_path):
    result = complete(bench(build, *SMALL, "--buffers", "host", "--overlap", "--probes", 3, "--csv", tmp_path / "a.csv"))
    assert "hidden behind host" in result.output, result
    for row in bench_csv.read(tmp_path / "a.csv"):
        assert row.number("overlap_pure_us") > 0
        assert 0 <= row.number("overlap_host_percent") <= 100
        assert 0 <= row.number("overlap_gpu_percent") <= 100


@pytest.mark.parametrize("ranks", [1, 3])
def test_the_parts_of_a_small_call_are_measured(build, tmp_path, ranks):
    result = complete(bench(build, *SMALL, "--parts", "--json", tmp_path / "a.json", ranks=ranks))
    assert "the least kernel that exchanges a packet with all" in result.output
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert found["exchange_slowest_us"] >= found["exchange_us"] > 0 and found["floor_slowest_us"] > 0
    assert found["look_us"] > 0 and found["doorbell_us"] > 0 and (ranks == 1 or found["hop_us"] != 0)


def test_phases_have_columns_where_the_component_counts_them(build, tmp_path):
    listed = subprocess.run([build.ompi_info, "--all", "--level", "9"], env=launch.environment_of(build), capture_output=True,
                            text=True, timeout=60, check=False).stdout
    complete(bench(build, *SMALL, "--phases", "--csv", tmp_path / "a.csv"))
    columns = bench_csv.read(tmp_path / "a.csv")[0]
    for phase in ("post", "launch", "wait", "other"):
        assert (f"{phase}_us" in columns) == (f"coll_car_ns_{phase}" in listed), phase


def test_the_baseline_is_in_the_same_run(build, tmp_path):
    complete(bench(build, *SMALL, "--buffers", "host", "--baseline", "--baseline-max", 64, "--csv", tmp_path / "a.csv"))
    measured = [row.number("baseline_median_us") is not None for row in bench_csv.read(tmp_path / "a.csv")]
    assert measured == [True, True, False, False]


# --- NCCL -------------------------------------------------------------------------------------------------------------

def stand_in(build):
    return os.path.join(build.path, "bench/.libs/libnccl_stand_in.so")


@pytest.mark.parametrize("words", [(), ("--in-place",), ("--type", "MPI_INT64_T", "--op", "max")], ids=lambda w: " ".join(w))
def test_nccl_is_measured_and_checked_with_multicast_off(build, tmp_path, words):
    result = complete(bench(build, *SMALL, "--nccl", stand_in(build), *words, "--csv", tmp_path / "a.csv", ranks=3, devices=3))
    assert "NCCL 2.99.9, NVLink multicast off" in result.output, result
    assert all(row.number("nccl_median_us") > 0 for row in bench_csv.read(tmp_path / "a.csv"))


@pytest.mark.parametrize("words, env, devices, why", [
    ((), {"NCCL_NVLS_ENABLE": "1"}, 2, "NCCL_NVLS_ENABLE is set"), ((), {}, 1, "one rank per GPU"),
    (("--type", "c_double_complex"), {}, 2, "no such type"), (("--buffers", "host"), {}, 2, "device memory"),
], ids=["multicast", "shared", "type", "host"])
def test_where_nccl_cannot_be_used_the_rest_is_measured(one, words, env, devices, why):
    result = complete(bench(one, *SMALL, "--nccl", stand_in(one), *words, env=env, devices=devices))
    assert why in result.line("# no nccl"), result


def test_a_library_that_is_not_there_is_said_to_be(one):
    result = complete(bench(one, *SMALL, "--nccl", "/nowhere/libnccl.so.2"))
    assert "not found" in result.line("# no nccl"), result


# --- files ------------------------------------------------------------------------------------------------------------

def test_csv_and_json_say_the_same(one, tmp_path):
    complete(bench(one, *SMALL, "--csv", tmp_path / "a.csv", "--json", tmp_path / "a.json", "--check-max", 64))
    rows, whole = bench_csv.read(tmp_path / "a.csv"), json.loads((tmp_path / "a.json").read_text())
    prefixes = {**bench_csv.FORMS, **bench_csv.PEERS}.values()
    assert {prefix + name for prefix in prefixes for name in FIGURES} <= set(rows[0])
    assert {"ranks", "gpus", "gpu", "type", "op", "buffers", "in_place", "floor_us", "link_gbs", "copy_gbs", "bound_us", "wrong",
            "overlap_pure_us", "overlap_host_percent", "overlap_gpu_percent"} <= set(rows[0])
    assert [row["wrong"] for row in rows] == ["0", "0", "", ""]
    for row, other in zip(rows, whole["rows"], strict=True):
        assert None not in row, "more figures than columns"
        assert row.bytes == other["bytes"] and row.number("median_us") == other["median_us"]
        assert ("wrong" in other) == (row["wrong"] != "")


def test_links_of_all_pairs_and_all_at_once(one, tmp_path):
    complete(bench(one, *SMALL, "--links", tmp_path / "l.csv", ranks=4, devices=3))
    with open(tmp_path / "l.csv", encoding="utf-8", newline="") as lines:
        found = list(csv.DictReader(lines))
    assert [(line["gpu"], line["peer"]) for line in found] == [("0", "1"), ("0", "2"), ("1", "2"), ("0", "all"), ("1", "all"),
                                                               ("2", "all")]
    assert all(float(line["read_gbs"]) > 0 and float(line["write_gbs"]) > 0 for line in found), found


@pytest.mark.skipif(shutil.which("gnuplot") is None, reason="no gnuplot")
def test_a_plot_has_a_curve_of_everything_measured(one, tmp_path):
    complete(bench(one, *SMALL, "--reference", "--plot", tmp_path / "a.svg"))
    drawn = (tmp_path / "a.svg").read_text(encoding="utf-8")
    for word in ("</svg>", "coll/car", "engines", "bound", "floor", "GB/s", "microseconds", "MEAN NOTHING"):
        assert word in drawn, word


def test_without_gnuplot_a_plot_is_refused_before_anything_is_measured(one, tmp_path):
    # mpirun puts its own folder first on PATH, which may be gnuplot's.
    nowhere = tmp_path / "car_bench"
    nowhere.write_text(f'#!/bin/sh\nPATH=/nowhere exec {one.path}/bench/car_bench "$@"\n')
    nowhere.chmod(0o755)
    result = launch.execute([one.mpirun, "--oversubscribe", "-np", "2", str(nowhere), "--plot", "a.svg"],
                            {**launch.environment_of(one), **simulated(one)}, 30)
    assert result.status == 2 and "gnuplot-nox" in result.output, result


DOCS = os.path.join(HERE, "../../docs")


def test_every_table_of_the_docs_has_a_plot_of_its_figures():
    path = os.path.join(DOCS, "performance.md")
    found = plot_tables.tables(path)
    with open(path, encoding="utf-8") as text:
        wanted = sum(line.startswith("| size | blocking by |") for line in text)
    assert len({table.path for table in found}) == wanted > 8
    for table in found:
        assert table.columns["blocking"].keys() == table.columns["bound"].keys() and len(table.columns["bound"]) > 15, table.title
        with open(table.path, encoding="utf-8") as plot:
            assert plot.read().endswith("</svg>\n\n" + plot_tables.mark_of(table)), f"out of date: make it by plot_tables.py: {table.path}"


def test_a_plot_of_a_table_has_all_its_columns(tmp_path):
    """Sizes that a way was not measured at are left out; what follows the next heading is another table's."""
    if shutil.which("gnuplot") is None:
        pytest.skip("no gnuplot")
    (tmp_path / "p.md").write_text("![A machine](plots/a.svg)\n\n| size | blocking by | blocking | bound | stock | NCCL |\n|---|---|---|---|---|---|\n"
                                   "| 8 B | push | 4.5 | 5 | 30 | 15 |\n| 1 MB | zero_copy | 12 | 8 | - | 23 |\n\n"
                                   "| size | blocking | bound |\n|---|---|---|\n| 8 B | 1 | 1 |\n")
    table, = plot_tables.tables(str(tmp_path / "p.md"))
    assert table.columns == {"blocking": {8: 4.5, 1 << 20: 12}, "stock": {8: 30}, "NCCL": {8: 15, 1 << 20: 23}, "bound": {8: 5, 1 << 20: 8}}
    assert plot_tables.main([str(tmp_path / "p.md")]) == 0
    plot = (tmp_path / "plots/a.svg").read_text()
    assert all(title in plot for title in ("A machine", "coll/car", "NCCL", "the bound", "times the bound")) and "nonblocking" not in plot
    assert plot.endswith(plot_tables.mark_of(table))


# --- bench-check and the model ----------------------------------------------------------------------------------------

def rows_of(medians, floor=5.0, p99=1.5, ranks=2, **more):
    return [bench_csv.Row({"ranks": str(ranks), "gpus": "1", "gpu": "G", "floor_us": str(floor), "bytes": str(8 << 3 * i),
                           "median_us": str(median), "p99_us": str(p99 * median), **more}) for i, median in enumerate(medians)]


def test_a_run_like_the_stored_one_passes():
    lines, worse = bench_check.compare(rows_of([8, 9]), rows_of([8, 9]))
    assert len(lines) == 2 and worse == 0


def test_a_slower_machine_is_no_step_back_but_a_slower_call_is():
    assert bench_check.compare(rows_of([16, 18], floor=10), rows_of([8, 9]))[1] == 0
    assert bench_check.compare(rows_of([8, 10.2]), rows_of([8, 9]))[1] == 0
    assert bench_check.compare(rows_of([8, 10.5]), rows_of([8, 9]))[1] == 1


def test_only_the_same_things_are_compared():
    assert bench_check.compare(rows_of([80]), rows_of([8], ranks=4))[0] == []
    assert bench_check.compare(rows_of([80], type="MPI_DOUBLE"), rows_of([8]))[0] == []
    assert len(bench_check.compare(rows_of([8], type="MPI_FLOAT", in_place="0"), rows_of([8]))[0]) == 1, "an older file"


def test_every_form_is_compared():
    assert bench_check.compare(rows_of([8], persistent_median_us="20"), rows_of([8], persistent_median_us="10"))[1] == 1


def test_steps_and_spread_are_told():
    assert bench_check.oddities(rows_of([8, 9, 10])) == []
    assert len(bench_check.oddities(rows_of([8, 12, 10]))) == 1
    assert bench_check.oddities(rows_of([10, 9.5])) == []
    assert len(bench_check.oddities(rows_of([8], p99=2.6))) == 1


def test_make_bench_check_passes_and_fails_rightly(one, tmp_path):
    def write(name, rows):
        with open(tmp_path / name, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)

    def check(run, stored):
        said = subprocess.run(["make", "-C", one.path, "bench-check", f"RUN={tmp_path / run}", f"STORED={tmp_path / stored}"],
                              capture_output=True, text=True, timeout=60, check=False)
        return said.returncode, said.stdout + said.stderr

    write("stored.csv", rows_of([8, 9]))
    write("slow.csv", rows_of([8, 12]))
    write("other.csv", rows_of([8, 12], ranks=3))
    (tmp_path / "empty.csv").write_text("")
    assert check("stored.csv", "stored.csv")[0] == 0
    status, said = check("slow.csv", "stored.csv")
    assert status != 0 and "STEP BACK" in said and "1 more than 15 % worse" in said, said
    assert check("other.csv", "stored.csv")[0] != 0
    assert check("empty.csv", "stored.csv")[0] != 0


# What the model was fitted to: the tables of docs/performance.md below these lines, and single figures from its text.
TWO = cost_model.Machine(2, 2, 5.72, 356, 2959)
ONE = {ranks: cost_model.Machine(ranks, 1, floor, 0, copy) for ranks, floor, copy in ((2, 4.99, 4188), (4, 5.98, 4186), (8, 7.26, 4192))}
TABLES = {"Floor 5.72, link 356 GB/s each way, copy 2959": TWO, "Same machine, same day; 2 and 4 ranks on each GPU":
          cost_model.Machine(4, 2, 5.98, 356, 2959),
          **{f"### One H200, {m.ranks} ranks under MPS: floor {m.floor}, copy {m.copy}": m for m in ONE.values()}}
EIGHT_ON_TWO = cost_model.Machine(8, 2, 7.0, 356, 2959)
FIGURES_IN_TEXT = [(EIGHT_ON_TWO, 8, "one_shot_push", 11.9), (EIGHT_ON_TWO, 64 << 10, "one_shot_push", 17.8),
                   (EIGHT_ON_TWO, 1 << 20, "zero_copy", 27.5), (EIGHT_ON_TWO, 64 << 20, "zero_copy", 812),
                   *((ONE[ranks], size << 20, "one_shot_pull", us) for ranks, size, us in (
                       (2, 4, 19.31), (2, 64, 142.8), (4, 4, 30.18), (4, 64, 270.9), (8, 4, 59.65), (8, 64, 768.8))),
                   (TWO, 4 << 20, "one_shot_pull", 31.4), (TWO, 64 << 20, "one_shot_pull", 293.8)]


def fitted():
    """(machine, bytes, algorithm, us) of blocking calls."""
    machine = None
    with open(os.path.join(HERE, "../../docs/performance.md"), encoding="utf-8") as lines:
        for line in lines:
            begun = [TABLES[start] for start in TABLES if line.startswith(start)]
            machine = begun[0] if begun else None if line.startswith("#") else machine
            row = re.match(r"\| (\d+ \w+) \| (\w+) \| ([\d.]+) \|", line)
            if machine and row and row[2] in cost_model.COSTS:
                yield machine, bench_csv.size_of(row[1]), row[2], float(row[3])


def test_the_model_meets_what_it_was_fitted_to():
    figures = [*fitted(), *FIGURES_IN_TEXT]
    assert len(figures) > 90 and {machine for machine, *_ in figures} == {*TABLES.values(), EIGHT_ON_TWO}
    # Those of ranks that share an H200 are of calls that follow each other.
    off = {figure: abs((cost_model.predict_blocking if figure[0].gpus == 1 else cost_model.predict)(figure[2], figure[0], figure[1])
                       / figure[3] - 1) for figure in figures}
    assert max(off.values()) < 0.17, [figure for figure in off if off[figure] > 0.17]
    assert sum(off.values()) / len(off) < 0.05, off


@pytest.mark.parametrize("size, us", [(8, 19.5), (1 << 20, 27.9), (4 << 20, 47.8), (64 << 20, 269.3), (1 << 30, 3329.1)])
def test_the_model_of_nccl_is_rough(size, us):
    assert cost_model.predict("nccl", TWO, size) == pytest.approx(us, rel=0.28)


@pytest.mark.parametrize("ranks, gpus, times", [(2, 1, (4.00, 4.24, 5.10, 5.74, 7.21)), (4, 1, (4.36, 4.95, 5.64, 7.18)),
                                                (8, 1, (5.64, 6.53, 7.21)), (2, 2, (4.28, 5.01, 5.71, 5.88, 7.64))])
def test_the_model_meets_calls_that_need_no_launch(ranks, gpus, times):
    """Of docs/performance.md, H200: 8 B, 4, 8, 64 and 256 KB."""
    machine = cost_model.Machine(ranks, gpus)
    for size, us in zip((8, 4 << 10, 8 << 10, 64 << 10, 256 << 10), times):
        assert cost_model.predict_blocking("mixed", machine, size) == pytest.approx(us, rel=0.12)
    assert cost_model.predict_blocking("one_shot_push", machine, 1 << 20) == cost_model.predict("one_shot_push", machine, 1 << 20)


@pytest.mark.parametrize("gpus", range(2, 17))
def test_predictions_are_above_the_bound_and_grow(gpus):
    machine = cost_model.Machine(gpus, gpus)
    times = [cost_model.best(machine, 8 << i)[1] for i in range(28)]
    assert times == sorted(times)
    assert all(time > machine.bound(8 << i) for i, time in enumerate(times))
    assert cost_model.predict("old path", machine, 8) is None


# --- the report -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("algorithm", ["one_shot_push", "two_shot", "mixed", "old path"])
def test_a_summary_takes_every_name_that_car_bench_gives_an_algorithm(tmp_path, algorithm):
    """"mixed" has a prediction where calls are small, and "old path" has none."""
    rows = rows_of([5, 6, 7, 8, 9, 30], algorithm=algorithm, link_gbs="", copy_gbs="3000", nccl_median_us="40")
    with open(tmp_path / "job.csv", "w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    job = types.SimpleNamespace(name="job", ranks=2, gpus=1, mps=True)
    summary.write(tmp_path, [(job, "complete")], types.SimpleNamespace(failures=[]), simulated=0)
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert text.count(f"| {algorithm} |") == len(rows), text
    drawn = (tmp_path / "model.svg").exists()
    assert drawn == (algorithm != "old path" and shutil.which("gnuplot") is not None)


@pytest.mark.parametrize("gpus, sections, jobs", [(1, 3, 3), (3, 3, 3)])
def test_a_report_has_everything_that_the_machine_allows(one, tmp_path, gpus, sections, jobs):
    folder = tmp_path / "report"
    said = subprocess.run([os.path.join(HERE, "../gpu/run"), "--report", folder, "--simulated", str(gpus), "--seconds", "150"],
                          env={**os.environ, "COLL_CAR_BUILDS": f"{one.version}={one.path}"}, capture_output=True, text=True,
                          timeout=200, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"tests: {sections} passed, 0 failed, 0 skipped, 0 not run" in said.stdout, said.stdout
    assert len(list(folder.glob("bench-*-gpus.csv"))) == jobs
    text = (folder / "summary.md").read_text(encoding="utf-8")
    assert "Simulated GPUs" in text and text.count(": complete") == jobs, text
    assert ("all at once" in text) == (gpus > 1)
    if shutil.which("gnuplot"):
        assert (folder / "model.svg").stat().st_size > 1000 and len(list(folder.glob("bench-*.svg"))) == jobs


def test_a_report_of_real_gpus_runs_all_programs_at_every_number_of_ranks():
    own, shared = report.sections(types.SimpleNamespace(simulated=0, gpus=3))
    assert [section.ranks for section in own] == [2, 3] and [section.ranks for section in shared] == [6]
    assert all({"allreduce", "fuzz", "stay", "big"} <= {job.program for job in section.jobs} for section in own + shared)


def test_a_report_that_has_no_time_says_what_it_left_out(one, tmp_path):
    said = subprocess.run([os.path.join(HERE, "../gpu/run"), "--report", tmp_path / "r", "--simulated", "2", "--seconds", "1"],
                          env={**os.environ, "COLL_CAR_BUILDS": f"{one.version}={one.path}"}, capture_output=True, text=True,
                          timeout=60, check=False)
    text = (tmp_path / "r/summary.md").read_text(encoding="utf-8")
    assert "not run: no time left" in text and "3 not run" in text, said.stdout + text
