"""
Mutations of the kernels: each release, acquire, fence and block barrier taken away or weakened, one at a time, must make a
test fail on simulated GPUs with weak memory. They are found in the sources, so a new safeguard is one more that a test must
miss. Only kernels are compiled anew, from a changed copy; all else is taken from the build tree.

    COLL_CAR_BUILDS="4.1.4=BUILD-TREE" python3 tests/suite/mutations.py [WORD]

prints a line for each (those whose name has WORD in it) and their count.
"""
import dataclasses
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

import launch

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
FILES = ["car_sync.cuh", "one_shot_push.cu", "one_shot_pull.cu", "two_shot.cu"]
SEEDS = range(1, 7)

# What takes the place of a call, by what it is called. Barriers that order nothing still wait.
WAYS = {
    "car_block_barrier": {"removed": "((void) 0)", "orders nothing": "(void) simgpu_barrier(true, false)"},
    "car_block_all": {"removed": "({})", "orders nothing": "simgpu_barrier({}, false)"},
    "car_store_release_sys": {"relaxed": "car_store_relaxed_sys({})",
                              "gpu scope": "(car_fence_gpu(), car_store_relaxed_sys({}))"},
    "car_load_acquire_sys": {"relaxed": "car_load_relaxed_sys({})", "gpu scope": "mutant_load_acquire_gpu({})"},
    "car_fence_gpu": {"removed": "((void) 0)"},
    "car_fence_sys": {"removed": "((void) 0)", "gpu scope": "car_fence_gpu()"},
}
HELPERS = """
CAR_DEVICE uint32_t mutant_load_acquire_gpu(const uint32_t *address)
{
    const uint32_t value = car_load_relaxed_sys(address);
    car_fence_gpu();
    return value;
}
"""
CALL = re.compile("|".join(WAYS))
FUNCTION = re.compile(r"^(?:template.*>\s)?CAR_DEVICE\b.*?\b(car_\w+)\(")


@dataclasses.dataclass(frozen=True)
class Mutation:
    file: str
    function: str
    call: str
    number: int  # of this call in this function, from 1
    way: str
    start: int  # of the call in the file
    end: int
    text: str

    def __str__(self):
        return f"{self.function}: {self.call} {self.number}: {self.way}"


def end_of_call(text, opening):
    """The place behind the parenthesis that closes the one at `opening`."""
    depth = 0
    for place in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    raise ValueError("a parenthesis is not closed")


def mutations_of(file):
    with open(os.path.join(SOURCES, "kernels", file), encoding="utf-8") as source:
        text = source.read()
    code = re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.DOTALL)
    functions = [(place, m.group(1)) for place, line in zip(line_starts(code), code.splitlines())
                 if (m := FUNCTION.match(line))]
    seen, found = {}, []
    for match in CALL.finditer(code):
        if code[match.end()] != "(":
            continue
        function = [name for place, name in functions if place < match.start()][-1]
        number = seen[function, match.group()] = seen.get((function, match.group()), 0) + 1
        end = end_of_call(code, match.end())
        for way, becomes in WAYS[match.group()].items():
            found.append(Mutation(file, function, match.group(), number, way, match.start(), end,
                                  becomes.format(text[match.end() + 1:end - 1])))
    return found


def line_starts(text):
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def all_mutations():
    return [mutation for file in FILES for mutation in mutations_of(file)]


# --- jobs that a mutation may fail --------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Job:
    algorithm: str
    devices: int = 3
    kinds: str = "device"
    blocks: int = 0
    spin_us: int = 300
    cases: int = 100

    def run(self, build, library, seed):
        gpus = launch.simulated(build, devices=self.devices, weak=seed)
        if library:
            gpus["LD_LIBRARY_PATH"] = library
        return launch.run(build, "allreduce", "--types", "int32", "--ops", "sum", "--kinds", self.kinds, "--borders", "no",
                          "--max-bytes", 40000, "--cases", self.cases, "--seed", seed, ranks=3, gpus=gpus, timeout=20,
                          car={"algorithm": self.algorithm, "blocks": self.blocks, "spin_us": self.spin_us})


def jobs_for(mutation):
    if mutation.file == "one_shot_push.cu":
        return [Job("one_shot_push", spin_us=5), Job("one_shot_push", devices=1, spin_us=5)]
    if mutation.function == "car_end":
        kinds = "managed" if mutation.call == "car_fence_sys" else "device"
        return [Job(algorithm, kinds=kinds, blocks=4) for algorithm in ("one_shot_pull", "two_shot", "one_shot_push")]
    return [Job("one_shot_pull"), Job("two_shot"), Job("one_shot_pull", devices=1)]


# --- kernels of a changed source ----------------------------------------------------------------------------------------

class Workshop:
    """Makes libraries of simulated GPUs whose kernels come from a copy of the sources."""

    def __init__(self, build, folder):
        self.build, self.folder = build, folder
        self.objects = [o for o in glob.glob(os.path.join(build.path, "tests/simgpu/**/.libs/*.o"), recursive=True)
                        if "nvidia" not in o and "selftest" not in o]

    def library(self, mutation, algorithm):
        """The folder of a libcuda.so.1 with the mutation (None: with none) in one algorithm's kernels."""
        home = os.path.join(self.folder, "lib")
        copy = os.path.join(self.folder, "kernels")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(os.path.join(SOURCES, "kernels"), copy)
        if mutation is not None:
            path = os.path.join(copy, mutation.file)
            with open(path, encoding="utf-8") as source:
                text = source.read()
            text = text[:mutation.start] + mutation.text + text[mutation.end:]
            if mutation.way == "gpu scope":
                text = text.replace("#include <car_primitives.cuh>\n", "#include <car_primitives.cuh>\n" + HELPERS, 1)
            with open(path, "w", encoding="utf-8") as source:
                source.write(text)
        os.makedirs(home, exist_ok=True)
        changed = os.path.join(self.folder, algorithm + ".o")
        folders = ["tests/simgpu/device", "tests/simgpu", "coll_car"]
        self.call("g++", "-std=gnu++17", "-O1", "-w", "-fPIC", "-fvisibility=hidden", "-ftls-model=initial-exec",
                  "-ffp-contract=off", *[f"-I{os.path.join(SOURCES, f)}" for f in folders], "-I" + copy, "-x", "c++", "-c",
                  os.path.join(copy, algorithm + ".cu"), "-o", changed)
        others = [o for o in self.objects if not o.endswith(f"-{algorithm}.o")]
        self.call("g++", "-shared", "-Wl,-soname,libcuda.so.1", "-o", os.path.join(home, "libcuda.so.1"), changed, *others,
                  "-lpthread")
        nvml = os.path.join(self.build.path, "tests/simgpu/lib/libnvidia-ml.so.1")
        if not os.path.lexists(os.path.join(home, "libnvidia-ml.so.1")):
            os.symlink(os.path.realpath(nvml), os.path.join(home, "libnvidia-ml.so.1"))
        return home

    @staticmethod
    def call(*command):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, " ".join(command) + "\n" + done.stderr


@dataclasses.dataclass
class Verdict:
    mutation: Mutation
    caught: bool
    how: str

    def __str__(self):
        return f"{'caught' if self.caught else 'MISSED'}  {self.mutation}: {self.how}"


def what_went_wrong(result):
    if result.status is None:
        return "it never ended"
    line = next((line for line in result.output.splitlines() if "allreduce:" in line or " is " in line), "")
    return f"status {result.status}: {line.strip()[:100]}"


def judge(workshop, mutation):
    runs = 0
    for job in jobs_for(mutation):
        library = workshop.library(mutation, job.algorithm)
        for seed in SEEDS:
            result = job.run(workshop.build, library, seed)
            runs += 1
            if not result.passed:
                return Verdict(mutation, True, f"{job.algorithm}, {job.devices} GPUs, {job.kinds}, run {runs}: "
                                               f"{what_went_wrong(result)}")
    return Verdict(mutation, False, f"{runs} runs passed")


def main(word=""):
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(launch.builds()[0], folder)
        verdicts = []
        for mutation in all_mutations():
            if word in str(mutation):
                verdicts.append(judge(workshop, mutation))
                print(verdicts[-1], flush=True)
    missed = sum(not v.caught for v in verdicts)
    print(f"{len(verdicts)} mutations: {len(verdicts) - missed} caught, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
