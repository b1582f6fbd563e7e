"""
The MPI test programs on real GPUs: one rank per GPU without MPS, 2 to 8 ranks that share them under a private MPS daemon,
two ranks on one GPU without MPS, ranks that are killed and stopped, and compute-sanitizer. tests/gpu/run starts it.
"""
import contextlib
import dataclasses
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../suite"))
import launch  # noqa: E402

SECONDS = 570  # for everything; what is not done by then has failed
GPU_KINDS = "device,managed,pool,vmm,other"
GO_ON = ("--enable-recovery",)  # the launcher leaves survivors alone
ALGORITHMS = ("one_shot_push", "two_shot_push", "one_shot_pull", "two_shot")


@dataclasses.dataclass
class Job:
    program: str
    arguments: tuple = ()
    car: dict = dataclasses.field(default_factory=dict)
    env: dict = dataclasses.field(default_factory=dict)
    under: tuple = ()
    timeout: int = 40
    like: str = ""  # jobs of one section with the same word here must print the same digest
    killed: bool = False  # the last rank dies, and the others say what they have found

    @property
    def name(self):
        case = [self.arguments[self.arguments.index("--case") + 1]] if "--case" in self.arguments else []
        words = [self.program, *case, *(f"{value}" for value in self.car.values()),
                 *filter(None, [self.env.get("CAR_TEST_FORM")]), *(self.under[:3:2])]
        return " ".join(words)


@dataclasses.dataclass
class Section:
    """Jobs with so many ranks; on the GPUs as they are, or on the first only, and with a daemon of their own or none."""

    name: str
    ranks: int
    mps: bool
    jobs: list
    gpus_needed: int = 1
    one_gpu: bool = False
    tool: str = ""
    faults: bool = False  # each job has a daemon of its own, and another job must run behind it


# With more ranks under MPS on one GPU driver 580 does not open memory of contexts of cuCtxCreate beside the primary ones
# (CUDA_ERROR_INVALID_HANDLE, with 5 to 8 ranks on an H100 and an H200, always): coll/car is off there.
MPS_RANKS_WITH_CONTEXTS = 4


def programs(ranks, big_bytes, limit_ms, fuzz_seconds=10, mps=False):
    """What every way to place ranks has to do."""
    own = "no" if mps and ranks > MPS_RANKS_WITH_CONTEXTS else "yes"
    jobs = [Job("allreduce", ("--cases", 150, "--max-bytes", 4 << 20))]
    jobs += [Job("allreduce", ("--kinds", GPU_KINDS, "--cases", 40, "--max-bytes", 1 << 20),
                 car={"algorithm": algorithm, "blocks": 8, "threads": 256}, like="eight blocks")
             for algorithm in ALGORITHMS]
    jobs += [
        Job("allreduce", ("--kinds", GPU_KINDS, "--cases", 40, "--max-bytes", 1 << 20),
            car={"launch": "plain", "blocks": 8, "threads": 256}, like="eight blocks"),
        # Starts just below the last epoch: all ranks clear their memory and begin again on the way.
        Job("allreduce", ("--cases", 40, "--max-bytes", 1 << 20), car={"first_epoch": (1 << 32) - 96}),
        # The AVX loops are not those that the fold is compared with.
        Job("types", ("--reference", "no")),
        Job("ops", ("--expect", "served")),
        Job("derived"),
        Job("erroneous"),
        Job("alternate", ("--rounds", 500), car={"push_max": 0, "pull_max": 65536, "blocks": 8, "zero_copy_min": 0}),
        # So small a grid and a piece that pulls of 36 and 64 KB take five and eight exchanges.
        Job("alternate", ("--rounds", 500),
            car={"push_max": 0, "pull_max": 65536, "blocks": 2, "threads": 64, "memory": 1 << 20, "zero_copy_min": 0}),
        Job("alternate", ("--rounds", 500, "--packets", "yes"),
            car={"push_max": 65536, "two_shot_push_max": 1000000, "blocks": 8, "zero_copy_min": 0}),
        Job("fuzz", ("--seconds", fuzz_seconds, "--seed", int(time.time()))),
        # Between two calls operands are written, and some are of memory for which nothing stays.
        Job("stay", ("--rounds", 5000, "--served", 500), car={"stay": "always", "stay_us": 1000, "stay_total_us": 20000}),
        # Calls that several of its blocks share.
        Job("stay", ("--rounds", 3000, "--most", 30000, "--large", 2, "--served", 300),
            car={"stay": "always", "stay_us": 1000, "stay_total_us": 20000}),
        Job("stay", ("--case", "changes", "--rounds", 2000, "--gap", 60), car={"stay": "always"}),
        Job("stay", ("--case", "between", "--between", "device", "--rounds", 3000, "--stays", 10), car={"stay": "adaptive"}),
        Job("fuzz", ("--seconds", 4, "--max-bytes", 4096), car={"stay": "always"}),
        Job("communicators"),
        Job("communicators", ("--case", "halves")),
        Job("communicators", ("--case", "many")),
        Job("threads", ("--threads", 4)),
        Job("mixed"),
        Job("mixed", env={"CUDA_LAUNCH_BLOCKING": "1"}),
        Job("context", ("--own", own)),
        Job("late", ("--limit-ms", limit_ms)),
        Job("progress", env=launch.NO_SINGLE_COPY),
        Job("lifecycle", ("--rounds", 60)),
        Job("spawn"),
        Job("sessions"),
        Job("stream_order", ("--expect", "after"), car={"stream_order": "legacy"}),
        Job("stream_order", ("--expect", "after", "--stream", "per-thread"), car={"stream_order": "legacy"}),
        Job("whole"),
        Job("big", ("--bytes", big_bytes, "--overhead", 128 << 20)),
    ]
    jobs += [Job("big", ("--bytes", 64 << 20, "--overhead", 128 << 20), car={"algorithm": algorithm, "zero_copy_min": 0})
             for algorithm in ("one_shot_pull", "two_shot")]
    if ranks == 2:  # more than 2^31 bytes, once
        jobs.append(Job("fuzz", ("--huge", "yes", "--seconds", 1, "--max-bytes", 65536), timeout=60))
    return jobs + other_forms(ranks)


def other_forms(ranks):
    """Nonblocking and persistent calls and zero copy, at sizes that are quickly compared on the host; a part with each number of ranks."""
    zero_copy = {"zero_copy_min": 1 << 20}
    nonblocking, persistent = ({"CAR_TEST_FORM": form} for form in ("nonblocking", "persistent"))
    jobs = [Job("allreduce", ("--kinds", GPU_KINDS, "--cases", 40, "--max-bytes", 1 << 20), env=env,
                car={"blocks": 8, "threads": 256}, like="eight blocks") for env in (nonblocking, persistent)]
    jobs += [
        Job("outstanding", ("--max-bytes", 1 << 20), car=zero_copy),
        Job("persistent", ("--room", "maybe")),
        Job("zero_copy", ("--times", 200), car=zero_copy),
    ]
    if ranks == 2:
        jobs += [Job(program, arguments, env=env) for program, arguments in (("mixed", ()), ("types", ("--reference", "no")))
                 for env in (nonblocking, persistent)]
        jobs.append(Job("idup", ("--rounds", 6)))
        jobs.append(Job("reset", ("--who", "all")))
    if ranks == 4:
        jobs += [
            Job("outstanding", ("--integers", "yes", "--room", "no", "--fill-ms", 10, "--max-bytes", 1 << 20), car={"memory": 1 << 20}),
            Job("outstanding", ("--threads", 4, "--calls", 20, "--complete", "other")),
            Job("persistent", ("--requests", 15, "--rounds", 25),
                car={"first_epoch": (1 << 32) - 5, "push_max": 0, "zero_copy_min": 0}),
            Job("unsupported", ("--rounds", 3)),
            Job("zero_copy", ("--case", "many"), car={**zero_copy, "map_max": 8}),
            Job("late", ("--limit-ms", 50, "--ms", 1000), env=nonblocking),
        ]
    return jobs


def faults():
    """A rank that is killed, then one that is stopped for a while: in set-up, and at some moment in each way of doing calls."""
    moments = random.Random(5)
    ways = [("blocking", 4000, {}), ("blocking", 300000, {"zero_copy_min": 0}), ("blocking", 3000000, {}), ("nonblocking", 4000, {}),
            ("persistent", 300000, {}), ("blocking", 100, {"stay": "always"})]

    def job(signal, form, size, car, before):
        # Before the first call there is all of the set-up, and a call takes longer the larger it is, for the program above all.
        at = moments.randrange(20000 if before == 0 else 5000 + size // 100)
        arguments = ("--how", "amid", "--signal", signal, "--at-us", at, "--form", form, "--bytes", size, "--before", before)
        if signal == "stop":
            arguments += ("--expect", "right", "--ms", 700, "--calls", 30)
        return Job("gone", arguments, car=car, killed=signal == "kill")

    return [job(signal, *way, before) for signal in ("kill", "stop")
            for before, some in ((0, ways[:1]), (3, ways)) for way in some]


def sections():
    few = ("--types", "int32,float,double", "--kinds", "device", "--borders", "no")
    sanitized = (*few, "--max-bytes", 20000, "--cases", 5)
    found = [Section(f"one rank per GPU, {n} GPUs", n, False, programs(n, 1 << 30, 50), gpus_needed=n)
             for n in (2, 4, 8)]
    found += [Section(f"{n} ranks under MPS", n, True, programs(n, (1 << 30) // n * 2, 50, mps=True)) for n in (2, 4, 8)]
    # Contexts take turns there, and every exchange costs turns.
    found.append(Section("2 ranks on one GPU without MPS", 2, False, one_gpu=True, jobs=[
        Job("allreduce", (*few, "--cases", 20, "--max-bytes", 1 << 20), timeout=90),
        Job("mixed", ("--cases", 20), timeout=60),
        Job("late", ("--limit-ms", 300)),
        Job("lifecycle", ("--rounds", 5), timeout=60),
        Job("allreduce", (*few, "--cases", 20, "--max-bytes", 1 << 20), env={"CAR_TEST_FORM": "nonblocking"}, timeout=60),
        Job("allreduce", (*few, "--cases", 10, "--max-bytes", 1 << 20), env={"CAR_TEST_FORM": "persistent"}, timeout=60),
        Job("outstanding", ("--calls", 20), timeout=60),
        Job("persistent", ("--requests", 30), timeout=60),
        Job("zero_copy", ("--times", 50), car={"zero_copy_min": 1 << 20}, timeout=60),
    ]))
    found.append(Section("one rank per GPU, 2 GPUs, faults", 2, False, faults(), gpus_needed=2, faults=True))
    found += [Section(f"3 ranks {how} MPS, faults", 3, how == "under", faults(), one_gpu=True, faults=True)
              for how in ("under", "without")]
    tools = [("compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *more)
             for tool, more in (("memcheck", ("--report-api-errors", "no")), ("racecheck", ()), ("synccheck", ()))]
    # Pairs with gaps, elements of 16 bytes and of one: the kernels that find type and operation themselves.
    sanitized_programs = (("allreduce", sanitized),
                          ("types", ("--reference", "no", "--types", "short_int,double_int,c_double_complex,int8")))
    checked = [Job(program, arguments, car={"algorithm": algorithm}, timeout=90, under=tool)
               for program, arguments in sanitized_programs for tool in tools for algorithm in ALGORITHMS]
    found.append(Section("compute-sanitizer", 2, False, checked, one_gpu=True, tool="compute-sanitizer"))
    # Over a link: peers' memory, and kernels that stay, as they do where ranks' kernels run beside each other. They wait longer for a
    # call than it takes here; under racecheck, to which a link is nothing, none comes within a time that would do.
    staying = {"stay": "always", "stay_us": 200000, "stay_total_us": 1000000}
    found.append(Section("compute-sanitizer, 2 GPUs", 2, False, gpus_needed=2, tool="compute-sanitizer", jobs=checked[:len(ALGORITHMS)] + [
        Job("stay", ("--rounds", 60, "--served", 10), car=staying, timeout=90, under=tool) for tool in tools if "racecheck" not in tool]))
    # On one GPU those take turns with each other, which is slow: each waits for the other's slice.
    in_turns = {**staying, "two_phase": "never", "spin_us": 1000000}
    found.append(Section("compute-sanitizer, kernels that stay", 2, False, one_gpu=True, tool="compute-sanitizer", jobs=[
        Job("stay", ("--rounds", 30, "--served", 3), car=in_turns, timeout=90, under=tool) for tool in tools]))
    return found


# --- GPUs and MPS -----------------------------------------------------------------------------------------------------

def find_tool(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/cuda/bin:/usr/local/cuda/compute-sanitizer")


def count_gpus():
    if find_tool("nvidia-smi") is None:
        return 0
    listed = subprocess.run([find_tool("nvidia-smi"), "-L"], capture_output=True, text=True, timeout=60, check=False)
    return len(re.findall(r"^GPU ", listed.stdout, re.MULTILINE))


class Failure(Exception):
    """In words for the user."""


@contextlib.contextmanager
def placed(section):
    """The environment for a section's jobs. A daemon lives as long as the section: one that lost a client is of no use."""
    folder = tempfile.mkdtemp()
    environment = {"CUDA_MPS_PIPE_DIRECTORY": folder + "/pipe", "CUDA_MPS_LOG_DIRECTORY": folder + "/log"}
    if section.one_gpu:
        environment["CUDA_VISIBLE_DEVICES"] = "0"
    everything = {**os.environ, **environment}
    for path in ("pipe", "log"):
        os.mkdir(os.path.join(folder, path))
    try:
        if section.mps:
            try:
                subprocess.run([find_tool("nvidia-cuda-mps-control"), "-d"], env=everything, timeout=30, check=True)
            except subprocess.SubprocessError as why:
                raise Failure(f"the MPS daemon does not start: {why}") from why
        # Without a daemon the empty folder keeps a daemon of somebody else's out.
        yield environment
    finally:
        if section.mps:
            subprocess.run([find_tool("nvidia-cuda-mps-control")], input="quit\n", text=True, env=everything, timeout=30,
                           capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def ranks_placed(build, one_gpu, ranks, simulated=0):
    """The environment for jobs of so many ranks: all on the first GPU, under MPS, or one on each; or on so many simulated GPUs."""
    gpus = simulated or count_gpus()
    if not one_gpu and ranks > gpus:
        raise Failure(f"{ranks} ranks with a GPU each, and here are {gpus}")
    if simulated:
        yield launch.simulated(build, devices=1 if one_gpu else simulated)
        return
    if one_gpu and find_tool("nvidia-cuda-mps-control") is None:
        raise Failure("no nvidia-cuda-mps-control: ranks that share a GPU are measured under MPS")
    with placed(Section("", ranks, one_gpu, [], one_gpu=one_gpu)) as environment:
        yield environment


def why_not(section, gpus):
    if gpus < section.gpus_needed:
        return f"needs {section.gpus_needed} GPUs, here are {gpus}"
    if section.mps and find_tool("nvidia-cuda-mps-control") is None:
        return "no nvidia-cuda-mps-control"
    if section.tool and find_tool(section.tool) is None:
        return f"no {section.tool}"
    return None


# --- running and counting ---------------------------------------------------------------------------------------------

class Tally:
    def __init__(self, seconds=SECONDS):
        self.passed = self.failed = self.skipped = 0
        self.end = time.monotonic() + seconds

    def left(self):
        return self.end - time.monotonic()

    def say(self, text):
        print(text, flush=True)

    def one_passed(self, name, seconds):
        self.passed += 1
        self.say(f"PASS {name} ({seconds:.1f} s)")

    def one_failed(self, name, why):
        self.failed += 1
        self.say(f"FAIL {name}\n{why}")

    def one_skipped(self, name, why):
        self.skipped += 1
        self.say(f"SKIP {name}: {why}")


def passed(job, ranks, result):
    if not job.killed:
        return result.passed
    well = [line for line in result.output.splitlines() if line.startswith(("ok gone:", "well gone:"))]
    return result.status is not None and len(well) == ranks - 1


def run_job(build, section, job, name, environment, tally, digests):
    under = tuple(find_tool(word) if i == 0 else word for i, word in enumerate(job.under))
    limit = min(job.timeout, max(1, tally.left()))
    result = launch.run(build, job.program, *job.arguments, ranks=section.ranks, car={"verbose": 1, **job.car},
                        env={**environment, **job.env}, under=under, options=GO_ON if job.killed else (), timeout=limit)
    if result.skipped:
        tally.one_skipped(name, result.skipped)
    elif not passed(job, section.ranks, result):
        tally.one_failed(name, result)
    elif job.like and digests.setdefault(job.like, result.digest) != result.digest:
        tally.one_failed(name, f"its digest is not that of the jobs before it\n{result}")
    else:
        tally.one_passed(name, result.seconds)


# Whether a new process can use the GPU.
CLIENT = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
context = ctypes.c_void_p()
sys.exit(cuda.cuInit(0) != 0 or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) != 0)
"""


class Clients(threading.Thread):
    """New clients one after the other, while a job runs and until one is served again, for how long none is."""

    def __init__(self, environment):
        super().__init__()
        self.environment = {**os.environ, **environment}
        self.job_runs, self.refused_from, self.refused_for = True, None, 0.0

    def run(self):
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up and (self.job_runs or self.refused_from is not None):
            began = time.monotonic()
            try:
                served = subprocess.run([sys.executable, "-c", CLIENT], env=self.environment, timeout=20, check=False).returncode == 0
            except subprocess.TimeoutExpired:
                served = False
            ended = time.monotonic()
            # One that had to wait for long was not served until then.
            self.refused_from = began if self.refused_from is None and (not served or ended - began > 2) else self.refused_from
            if self.refused_from is not None:
                self.refused_for = max(self.refused_for, ended - self.refused_from)
            self.refused_from = None if served else self.refused_from


def run_fault(build, section, job, name, tally):
    """The job, then another: at once without a daemon, and with one as soon as it takes clients."""
    with placed(section) as environment:
        clients = Clients(environment)
        if section.mps:
            clients.start()
        try:
            run_job(build, section, job, name, environment, tally, {})
        finally:
            clients.job_runs = False
        if section.mps:
            clients.join()
            tally.say(f"     new clients of the daemon were refused for {clients.refused_for:.2f} s")
        run_job(build, dataclasses.replace(section, ranks=2), Job("gone", ("--how", "late", "--ms", 0, "--expect", "right")),
                name + ": the job behind it", environment, tally, {})


def run_section(build, section, gpus, wanted, tally):
    jobs = [(job, f"{build.version}: {section.name}: {job.name}") for job in section.jobs]
    jobs = [(job, name) for job, name in jobs if not wanted or any(word in name for word in wanted)]
    reason = why_not(section, gpus)
    if reason is None and not build.nvcc:
        reason = "this build has no kernels for real GPUs"
    digests = {}
    if reason is not None or not jobs:
        for _, name in jobs:
            tally.one_skipped(name, reason)
        return
    with contextlib.nullcontext() if section.faults else placed(section) as environment:
        for job, name in jobs:
            if tally.left() <= 0:
                tally.one_failed(name, f"not run: {SECONDS} s are over")
            elif section.faults:
                run_fault(build, section, job, name, tally)
            else:
                run_job(build, section, job, name, environment, tally, digests)


def main(words):
    builds, gpus, tally = launch.builds(), count_gpus(), Tally()
    if "--list" in words:
        for section in sections():
            for job in section.jobs:
                print(f"{section.name}: {job.name}")
        return 0
    if not builds:
        print('COLL_CAR_BUILDS names no build: COLL_CAR_BUILDS="5.0.7=PATH"')
        return 2
    for number, build in enumerate(builds):
        for section in sections():
            # The kernels are the same for every Open MPI: all of it with the first, a sample with the others.
            if number > 0:
                section.jobs = section.jobs[:1]
            run_section(build, section, gpus, words, tally)
    print(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
