"""
One folder about one machine: what links its GPUs, what they give, how fast coll/car and its peers are there, whether the tests
pass at every number of ranks, and how far all of that is from the cost model. tests/gpu/run --report DIR starts it.

What matters most comes first, and every part has its share of the time: what is not reached is named as not run. The
simulated GPUs of a build tree stand for real ones with --simulated N: that tries this script, the times mean nothing.
"""
import argparse
import contextlib
import dataclasses
import os
import re
import subprocess
import sys
import time

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), folder) for folder in ("../suite", "../../bench")]
import experiments  # noqa: E402
import launch  # noqa: E402
import summary  # noqa: E402

SECONDS = 455          # for everything, so that 8 minutes hold it and the last program's end
MEASURING_SECONDS = 240  # of them, at most, until the last measurement must end
SUMMARY_SECONDS = 15
RANKS_MAX = 16         # of coll/car
GB = 1 << 30


@dataclasses.dataclass
class Measurement:
    """A run of car_bench; its files are <name>.txt, .csv, .json, .svg and, with `links`, -links.csv."""

    ranks: int
    gpus: int
    mps: bool
    biggest: int
    baseline: str       # the largest size that the stock Open MPI is asked for; empty: none
    seconds: float      # per size and way
    limit: int          # seconds for all of it
    links: bool = False

    @property
    def name(self):
        return f"bench-{self.ranks}-ranks-{self.gpus}-gpus"


class Machine:
    """The GPUs that there are: real ones, or so many simulated ones."""

    def __init__(self, simulated):
        self.simulated = simulated
        self.gpus = simulated or experiments.count_gpus()
        self.memory = self._memory()

    def _memory(self):
        """Free bytes of the GPU that has the least."""
        if self.simulated:
            return 4 * GB
        said = self.ask("nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits")
        found = [int(number) << 20 for number in re.findall(r"^\d+$", said, re.MULTILINE)]
        return min(found, default=0)

    @staticmethod
    def ask(*command):
        """What a program says; why not, where it cannot be asked."""
        tool = experiments.find_tool(command[0])
        if tool is None:
            return f"no {command[0]}\n"
        try:
            said = subprocess.run([tool, *command[1:]], capture_output=True, text=True, timeout=8, check=False)
        except subprocess.TimeoutExpired:
            return f"{command[0]} did not answer\n"
        return said.stdout + said.stderr

    @property
    def has_mps(self):
        return bool(self.simulated) or experiments.find_tool("nvidia-cuda-mps-control") is not None

    def environment(self, build):
        return launch.simulated(build, devices=self.gpus) if self.simulated else {}

    @contextlib.contextmanager
    def placed(self, build, section):
        """The environment of a section's jobs; ranks that share simulated GPUs need no daemon."""
        if self.simulated:
            yield self.environment(build)
        else:
            with experiments.placed(section) as environment:
                yield environment


def shared_counts(gpus):
    """Ranks that share GPUs: twice their number, and what else says something where there are few GPUs."""
    few = {1: (2, 4, 8), 2: (4, 8)}
    return [ranks for ranks in few.get(gpus, (2 * gpus,)) if ranks <= RANKS_MAX]


def biggest(machine, sharers):
    """Up to 1 GB, as far as three buffers of each rank on a GPU, and what the peers take, fill half of its memory."""
    size = GB if not machine.simulated else 1 << 16
    while size > 1 << 20 and 8 * sharers * size > machine.memory:
        size //= 2
    return size


def measurements(machine):
    """The most telling ones first."""
    gpus, found = min(machine.gpus, RANKS_MAX), []
    if gpus >= 2:
        found.append(Measurement(gpus, gpus, False, biggest(machine, 1), "16m", 0.05, 110, links=True))
    shared = [Measurement(ranks, gpus, True, biggest(machine, -(-ranks // gpus)), "16m", 0.04, 70)
              for ranks in shared_counts(gpus)]
    own = [Measurement(ranks, ranks, False, min(64 << 20, biggest(machine, 1)), "", 0.03, 40) for ranks in range(2, gpus)]
    return found + (shared + own[::-1] if gpus <= 2 else shared[:1] + own[::-1])


# --- measuring --------------------------------------------------------------------------------------------------------

def bench_arguments(folder, job, simulated):
    path = os.path.join(folder, job.name)
    words = ["--max", str(job.biggest), "--check-max", "64m", "--reference", "--csv", path + ".csv", "--json", path + ".json"]
    words += ["--iterations", "8", "--step", "8"] if simulated else ["--time", str(job.seconds)]
    if job.baseline:
        words += ["--baseline", "--baseline-max", job.baseline]
    if job.ranks == job.gpus:
        words += ["--nccl"]
    if job.links:
        words += ["--links", path + "-links.csv"]
    if experiments.find_tool("gnuplot") is not None:
        words += ["--plot", path + ".svg"]
    return words


def measure(build, machine, job, folder, seconds):
    """Runs car_bench; what it said goes into a file. Whether it came to its end."""
    section = experiments.Section(job.name, job.ranks, job.mps, [])
    command = [build.mpirun, "--oversubscribe", "--bind-to", "none", "-np", str(job.ranks),
               os.path.join(build.path, "bench/car_bench"), *bench_arguments(folder, job, machine.simulated)]
    with machine.placed(build, section) as placed:
        result = launch.execute(command, {**launch.environment_of(build), **placed}, min(job.limit, seconds))
    with open(os.path.join(folder, job.name + ".txt"), "w", encoding="utf-8") as text:
        text.write(str(result))
    return result


def measure_all(build, machine, folder, end):
    """(Measurement, what became of it) of all."""
    done = []
    for job in measurements(machine):
        left = end - time.monotonic()
        if job.mps and not machine.has_mps:
            became = "not run: no nvidia-cuda-mps-control"
        elif left < 15:
            became = "not run: no time left"
        else:
            result = measure(build, machine, job, folder, left)
            became = ("cut short by the time limit" if result.status is None else
                      "complete" if result.status == 0 else f"FAILED with status {result.status}")
        print(f"{job.name}: {became}", flush=True)
        done.append((job, became))
    return done


# --- testing ----------------------------------------------------------------------------------------------------------

class FileTally(experiments.Tally):
    """Counts, tells a file all and the terminal the sum."""

    def __init__(self, seconds, path):
        super().__init__(seconds)
        self.not_run, self.failures, self.sections = 0, [], {}
        self.file = open(path, "w", encoding="utf-8")  # pylint: disable=consider-using-with

    def say(self, text):
        print(text, file=self.file, flush=True)

    def one_failed(self, name, why):
        super().one_failed(name, why)
        self.failures.append(name)

    def one_not_run(self, name):
        self.not_run += 1
        self.say(f"NOT RUN {name}: no time left")

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped, {self.not_run} not run"


def sections(machine):
    """Every number of ranks with GPUs of their own, then those that share; simulated GPUs get a few small jobs."""
    def jobs(ranks, mps=False):
        if machine.simulated:
            return [experiments.Job("allreduce", ("--types", "float", "--kinds", "device", "--cases", 3, "--borders", "no",
                                                  "--max-bytes", 4096))]
        return experiments.programs(ranks, (GB // ranks) * 2, 50, fuzz_seconds=4, mps=mps)

    gpus = min(machine.gpus, RANKS_MAX)
    own = [experiments.Section(f"one rank per GPU, {n} GPUs", n, False, jobs(n), gpus_needed=n) for n in range(2, gpus + 1)]
    shared = [experiments.Section(f"{n} ranks on {gpus} GPUs under MPS", n, True, jobs(n, mps=True)) for n in shared_counts(gpus)]
    return own, shared


def test_in_turns(build, machine, found, tally, end):
    """The first job of each section, the second of each, and so on: what there is no time for is missing everywhere."""
    digests = [{} for _ in found]
    with contextlib.ExitStack() as stack:
        # All of `found` are of one kind, so one daemon, or none, does for them.
        environment = stack.enter_context(machine.placed(build, found[0])) if found else {}
        for row in range(max((len(section.jobs) for section in found), default=0)):
            for section, digest in zip(found, digests):
                if row >= len(section.jobs):
                    continue
                name = f"{section.name}: {section.jobs[row].name}"
                if time.monotonic() > end - 5:
                    tally.one_not_run(name)
                else:
                    job = dataclasses.replace(section.jobs[row], timeout=min(section.jobs[row].timeout,
                                                                            int(end - time.monotonic())))
                    experiments.run_job(build, section, job, name, environment, tally, digest)


def test_all(build, machine, folder, end):
    tally = FileTally(end - time.monotonic(), os.path.join(folder, "tests.txt"))
    own, shared = sections(machine)
    if shared and not machine.has_mps:
        tally.one_skipped(shared[0].name, "no nvidia-cuda-mps-control")
        shared = []
    own_jobs, shared_jobs = (sum(len(section.jobs) for section in part) for part in (own, shared))
    share = own_jobs / max(1, own_jobs + shared_jobs)
    test_in_turns(build, machine, own, tally, time.monotonic() + share * tally.left())
    for place, section in enumerate(shared):
        # A daemon for each number of ranks: one that has lost a client is of no use.
        test_in_turns(build, machine, [section], tally, time.monotonic() + tally.left() / (len(shared) - place))
    tally.say(str(tally))
    tally.file.close()
    print(f"tests: {tally}", flush=True)
    return tally


# --- all of it --------------------------------------------------------------------------------------------------------

def write_topology(machine, build, folder):
    with open(os.path.join(folder, "machine.txt"), "w", encoding="utf-8") as text:
        for command in (("nvidia-smi", "-L"), ("nvidia-smi", "topo", "-m"), ("nvidia-smi",), ("nvidia-smi", "nvlink", "-s"),
                        ("lscpu",), ("uname", "-r")):
            text.write(f"$ {' '.join(command)}\n{machine.ask(*command)}\n")
        text.write(f"Open MPI {build.version}, {build.mpirun}\nbuild {build.path}\n")


def main(words):
    parser = argparse.ArgumentParser(prog="tests/gpu/run", description="Measures and tests coll/car on this machine.")
    parser.add_argument("--report", metavar="DIR", required=True, help="folder for text, CSV, plots and summary.md")
    parser.add_argument("--simulated", type=int, default=0, metavar="N", help="on N simulated GPUs: tries this script")
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"for everything ({SECONDS})")
    arguments = parser.parse_args(words)
    start, builds = time.monotonic(), launch.builds()
    end = start + min(arguments.seconds, SECONDS)
    machine = Machine(arguments.simulated)
    if not builds:
        print('COLL_CAR_BUILDS names no build: COLL_CAR_BUILDS="5.0.7=PATH"')
        return 2
    if machine.gpus == 0 or not (machine.simulated or builds[0].nvcc):
        print("no GPU that nvidia-smi knows of" if machine.gpus == 0 else "this build has no kernels for real GPUs")
        return 2
    os.makedirs(arguments.report, exist_ok=True)
    write_topology(machine, builds[0], arguments.report)
    share = MEASURING_SECONDS / SECONDS * (end - start)
    measured = measure_all(builds[0], machine, arguments.report, start + share)
    tally = test_all(builds[0], machine, arguments.report, end - SUMMARY_SECONDS)
    summary.write(arguments.report, measured, tally, machine.simulated)
    print(f"{os.path.join(arguments.report, 'summary.md')}, after {time.monotonic() - start:.0f} s")
    incomplete = any(became.startswith("FAILED") for _, became in measured)
    return 1 if tally.failed or incomplete else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
