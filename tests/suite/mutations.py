"""
Mutations of the kernels: each release, acquire, fence and block barrier taken away or weakened, one at a time, must make a
test fail on simulated GPUs with weak memory. They are found in the sources, so a new safeguard is one more that a test must
miss. Only kernels are compiled anew, from a changed copy; all else is taken from the build tree.

    COLL_CAR_BUILDS="4.1.4=BUILD-TREE" python3 tests/suite/mutations.py [--strong] [WORD]

prints a line for each (those whose name has WORD in it) and their count. With --strong memory is as strong as the CPU's: that
shows which of them take weak memory to be found.
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
SYNC = "car_sync.cuh"
FILES = [SYNC, "car_packets.cuh", "one_shot_push.cuh", "one_shot_push_stay.cu", "two_shot_push.cu", "one_shot_pull.cu",
         "two_shot.cu"]
SEEDS = range(1, 7)

# What takes the place of a call, by what it is called. A barrier that orders nothing still waits.
WAYS = {
    "car_block_barrier": {"removed": "((void) 0)", "orders nothing": "(void) simgpu_barrier(true, false)"},
    "car_block_all": {"removed": "({})", "orders nothing": "simgpu_barrier({}, false)"},
    "car_store_release_sys": {"relaxed": "car_store_relaxed_sys({})",
                              "gpu scope": "(car_fence_gpu(), car_store_relaxed_sys({}))"},
    "car_load_acquire_sys": {"relaxed": "car_load_relaxed_sys({})", "gpu scope": "mutant_load_acquire_gpu({})"},
    "car_load_packet_acquire": {"relaxed": "car_load_packet({})"},
    "car_fence_gpu": {"removed": "((void) 0)"},
    "car_fence_sys": {"removed": "((void) 0)", "gpu scope": "car_fence_gpu()"},
    "car_atomic_add_ordered_gpu": {"relaxed": "car_atomic_add_gpu({})"},
    # One use of these, in an algorithm: a release, or an acquire, at that place only.
    "car_signal": {"relaxed": "mutant_signal({})"},
    "car_wait": {"relaxed": "mutant_wait({})"},
}
USES = ("car_signal", "car_wait")

# Those that no test need find, and why.
OWN_PACKETS = ("a packet proves its own arrival and each thread uses its own, so the block has to meet there, and no more; the "
               "hardware's barrier orders as well, at no cost that could be saved")
EXPLAINED = {
    ("car_push_fold", "car_block_all", "orders nothing"): OWN_PACKETS,
    ("car_reduce_unit", "car_block_all", "orders nothing"): OWN_PACKETS,
    ("car_gather_units", "car_block_all", "orders nothing"): OWN_PACKETS,
    ("car_go", "car_fence_sys", "gpu scope"): "of the second fence: what each block's own has covered at system scope is in a simulated "
                                              "GPU's memory when the last block counts; PTX wants a release to the host at that scope",
}

ACQUIRE_GPU = """
CAR_DEVICE uint32_t mutant_load_acquire_gpu(const uint32_t *address)
{
    const uint32_t value = car_load_relaxed_sys(address);
    car_fence_gpu();
    return value;
}
"""
CALL = re.compile(r"\b(" + "|".join(WAYS) + r")\(")
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

    @property
    def explained(self):
        return EXPLAINED.get((self.function, self.call, self.way))


def source_of(file):
    with open(os.path.join(SOURCES, "kernels", file), encoding="utf-8") as source:
        return source.read()


def without_comments(text):
    """Of the same length."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.DOTALL)


def end_of(text, opening):
    """The place behind the bracket that closes the one at `opening`."""
    depth, pair = 0, {"(": "()", "{": "{}"}[text[opening]]
    for place in range(opening, len(text)):
        depth += {pair[0]: 1, pair[1]: -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    raise ValueError("a bracket is not closed")


def functions_of(code):
    """[(start, name)] in the order of the text."""
    lines, place = [], 0
    for line in code.splitlines(keepends=True):
        match = FUNCTION.match(line)
        if match:
            lines.append((place, match.group(1)))
        place += len(line)
    return lines


def mutations_of(file):
    text = source_of(file)
    code = without_comments(text)
    functions, seen, found = functions_of(code), {}, []
    for match in CALL.finditer(code):
        call = match.group(1)
        if file == SYNC and call in USES:
            continue
        function = [name for place, name in functions if place < match.start()][-1]
        number = seen[function, call] = seen.get((function, call), 0) + 1
        end = end_of(code, match.end() - 1)
        for way, becomes in WAYS[call].items():
            found.append(Mutation(file, function, call, number, way, match.start(), end,
                                  becomes.format(text[match.end():end - 1])))
    return found


def all_mutations():
    return [mutation for file in FILES for mutation in mutations_of(file)]


def relaxed_function(name):
    """A function of car_sync.cuh once more, as mutant_..., without its release or acquire."""
    text = without_comments(source_of(SYNC))
    start = next(place for place, found in functions_of(text) if found == name)
    function = text[start:end_of(text, text.index("{", start))]
    for strong, weak in (("car_store_release_sys", "car_store_relaxed_sys"),
                         ("car_load_acquire_sys", "car_load_relaxed_sys"), (name, name.replace("car_", "mutant_", 1))):
        function = function.replace(strong, weak)
    return "\n" + function + "\n"


def mutated(mutation):
    """The text of the file with the mutation in it."""
    text = source_of(mutation.file)
    text = text[:mutation.start] + mutation.text + text[mutation.end:]
    if mutation.call in USES:
        return text.replace(f'#include "{SYNC}"\n', f'#include "{SYNC}"\n' + relaxed_function(mutation.call), 1)
    return text.replace("#include <car_primitives.cuh>\n", "#include <car_primitives.cuh>\n" + ACQUIRE_GPU, 1)


# --- jobs that a mutation may fail --------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Job:
    algorithm: str
    devices: int = 3
    kinds: str = "device"
    blocks: int = 0
    threads: int = 0
    spin_us: int = 300

    def run(self, build, library, seed, weak=True):
        gpus = launch.simulated(build, devices=self.devices, weak=seed if weak else 0)
        if library:
            gpus["LD_LIBRARY_PATH"] = library
        return launch.run(build, *self.program(), "--seed", seed, ranks=3, gpus=gpus, car=self.parameters(), timeout=20)

    def program(self):
        return ["allreduce", "--types", "int32", "--ops", "sum", "--kinds", self.kinds, "--borders", "no", "--max-bytes", 40000,
                "--cases", 100]

    def parameters(self):
        return {"algorithm": self.algorithm, "blocks": self.blocks, "threads": self.threads, "spin_us": self.spin_us}


@dataclasses.dataclass(frozen=True)
class StayJob(Job):
    algorithm: str = "one_shot_push_stay"
    stay_us: int = 20000
    gap: int = 0
    large: int = 8

    def program(self):
        return ["stay", "--rounds", 1000, "--gap", self.gap, "--large", self.large, "--served", 1]

    def parameters(self):
        return {"stay": "always", "stay_us": self.stay_us, "stay_total_us": 1000000, "spin_us": self.spin_us}


def jobs_for(mutation):
    if mutation.file == "one_shot_push_stay.cu":
        # What goes wrong where it goes takes stays that go at once.
        short = mutation.function == "car_go"
        return [StayJob(stay_us=us, gap=2 * us, large=large, spin_us=spin)
                for us, large, spin in ((50, 1, 300), (10, 8, 300), (50, 1, 1))] if short else [StayJob(), StayJob(devices=1)]
    if mutation.file in ("car_packets.cuh", "one_shot_push.cuh", "two_shot_push.cu"):
        algorithm = "two_shot_push" if mutation.file == "two_shot_push.cu" else "one_shot_push"
        return [Job(algorithm, spin_us=1), Job(algorithm, devices=1, spin_us=1)]
    if mutation.function == "car_tell_host":
        # More blocks than the host has words for.
        kinds = "managed" if mutation.call == "car_fence_sys" else "device"
        return [Job(algorithm, kinds=kinds, blocks=64, threads=32) for algorithm in ("one_shot_push", "one_shot_pull", "two_shot")]
    if mutation.function in ("car_end", "car_fence_for_host"):
        kinds = "managed" if mutation.call == "car_fence_sys" else "device"
        return [Job(algorithm, kinds=kinds, blocks=4) for algorithm in ("one_shot_pull", "two_shot", "one_shot_push")]
    if mutation.file == "two_shot.cu":
        return [Job("two_shot"), Job("two_shot", devices=1)]
    return [Job("one_shot_pull"), Job("one_shot_pull", devices=1)]


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
            with open(os.path.join(copy, mutation.file), "w", encoding="utf-8") as source:
                source.write(mutated(mutation))
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

    @property
    def word(self):
        return "caught" if self.caught else "needless" if self.mutation.explained else "MISSED"

    def __str__(self):
        return f"{self.word:8}  {self.mutation}: {self.how}"


def what_went_wrong(result):
    if result.status is None:
        return "it never ended"
    line = next((line for line in result.output.splitlines() if "does not hold" in line), f"status {result.status}")
    return line.split("does not hold: ")[-1].strip()[:100]


def judge(workshop, mutation, weak=True):
    runs = 0
    for job in jobs_for(mutation):
        library = workshop.library(mutation, job.algorithm)
        for seed in SEEDS:
            result = job.run(workshop.build, library, seed, weak)
            runs += 1
            if not result.passed:
                return Verdict(mutation, True, f"{job.algorithm}, {job.devices} GPUs, {job.kinds} memory, run {runs}: "
                                               f"{what_went_wrong(result)}")
    return Verdict(mutation, False, mutation.explained or f"{runs} runs passed")


def main(*arguments):
    words = [word for word in arguments if word != "--strong"]
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(launch.builds()[0], folder)
        for mutation in all_mutations():
            if all(word in str(mutation) for word in words):
                verdict = judge(workshop, mutation, "--strong" not in arguments)
                counts[verdict.word] = counts.get(verdict.word, 0) + 1
                print(verdict, flush=True)
    print(f"{sum(counts.values())} mutations: {', '.join(f'{n} {word}' for word, n in sorted(counts.items()))}")
    return 1 if counts.get("MISSED") else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
