"""
How long an allreduce should take: a cost model of coll/car's algorithms, by number of ranks and GPUs. docs/performance.md
("The cost model") says what its terms are, what they were fitted to, and which of its predictions nobody has measured.

    cost_model.py [--gpus N] [--ranks N] [--floor US] [--link GBS] [--copy GBS]     prints a table
"""
import argparse
import dataclasses
import math
import sys

import bench_csv

# What is known of an H100 80 GB HBM3, driver 580; microseconds and GB/s.
LINK = 360.0  # per direction, both at once, kernels that write
COPY = 2970.0  # bytes read plus written
FLOOR, FLOOR_PER_SHARER, FLOOR_PER_RANK = 5.2, 0.33, 0.05


@dataclasses.dataclass(frozen=True)
class Machine:
    """Ranks on equal GPUs; what was not measured there is what is known of an H100."""

    ranks: int
    gpus: int
    floor: float = 0.0
    link: float = 0.0
    copy: float = 0.0

    @property
    def sharers(self):
        """Ranks on one GPU."""
        return math.ceil(self.ranks / self.gpus)

    def known(self):
        """The same machine with all figures."""
        floor = FLOOR + FLOOR_PER_SHARER * self.sharers + FLOOR_PER_RANK * self.ranks
        return Machine(self.ranks, self.gpus, self.floor or floor, self.link or LINK, self.copy or COPY)

    def bound(self, size):
        """As car_bench has it: the floor and the least traffic."""
        m = self.known()
        link = 2 * size * (m.gpus - 1) / m.gpus / m.link if m.gpus > 1 else 0
        memory = 2 * m.sharers * size / m.copy if m.sharers > 1 else 0
        return m.floor + max(link, memory) * 1e-3


@dataclasses.dataclass(frozen=True)
class Costs:
    """
    Microseconds on top of the floor: always; for each peer; where data crosses a link; where more than one block, or, for zero
    copy, more than one rank's kernel works (for each peer then). Rates of bytes over links, in memory, and in memory beyond what
    the cache takes, as parts of what a link and a copy give. Whether links and memory follow each other, or overlap.
    """

    start: float
    peer: float
    hop: float
    wide: float
    link: float
    memory: float
    beyond: float
    in_turn: bool


# With several GPUs: a version of November 2026 whose small and middle calls took 0.7 to 2 us longer on one GPU than today's do.
COSTS = {
    "one_shot_push": Costs(2.83, 0.25, 0.29, 0.51, 0.90, 0.82, 0.82, in_turn=False),
    "one_shot_pull": Costs(4.6, 0.3, 2.63, 0.0, 1.0, 1.63, 1.24, in_turn=True),
    "two_shot": Costs(5.6, 0.6, 5.26, 0.0, 1.0, 1.63, 1.24, in_turn=True),
    "zero_copy": Costs(5.09, 0.17, 1.39, 0.50, 0.95, 2.79, 0.90, in_turn=False),
}
# All ranks on one GPU; the same columns.
COSTS_ONE_GPU = {
    "one_shot_push": Costs(1.36, 0.57, 0.0, 0.14, 1.0, 0.52, 0.52, in_turn=False),
    "one_shot_pull": Costs(4.4, 0.4, 0.0, 0.0, 1.0, 1.65, 1.65, in_turn=False),
    "two_shot": Costs(6.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, in_turn=False),
    "zero_copy": Costs(2.34, 0.0, 0.0, 0.22, 1.0, 1.56, 0.90, in_turn=False),
}
# one_shot_push with a second hop of packets inside the kernel, 0.7 us, on one GPU as over a link. Never measured, and not chosen
# by size, so it is left out of the table of the quickest.
UNMEASURED = {"two_shot_push": Costs(3.53, 0.25, 0.29, 0.51, 0.90, 0.82, 0.82, in_turn=False)}
UNMEASURED_ONE_GPU = {"two_shot_push": Costs(2.06, 0.57, 0.0, 0.14, 1.0, 0.52, 0.52, in_turn=False)}
CACHE_BYTES = 21.3e6  # of one GPU's traffic in a call, at the first of the two rates
ONE_BLOCK = 4096  # bytes up to which one block does a push
# Bytes up to which one rank does a zero copy for all, on one GPU of each and on several of all of them: car_thresholds.def.
ALONE_ONE_GPU, ALONE_SEVERAL = 1 << 20, 256 << 10
PULL_LEAST_TRAFFIC = 7  # on one GPU: two ranks wait for exchanges as long as four

# A call that is rung for: no floor in it, as nothing is launched. One and two H200, 2 to 8 ranks. Where several blocks share it, it is
# handed on to them. Times for each KB to each peer, by one block and by several; how large it may be, times the peers.
STAYING_START, STAYING_PEER, STAYING_HOP, STAYING_HAND_ON = 3.75, 0.26, 0.4, 0.9
STAYING_KB_ONE, STAYING_KB = 0.03, 0.0083
STAYING_MOST = 384 << 10

# NCCL 2.28.3 without multicast, two H100; the time for each further rank is a guess.
NCCL_START, NCCL_PEER, NCCL_LINK = 20.0, 1.0, 285.0


def is_wide(algorithm, m, size):
    if algorithm == "zero_copy":
        return m.ranks * size > ALONE_SEVERAL if m.gpus > 1 else size > ALONE_ONE_GPU
    return size > ONE_BLOCK


def traffic(algorithm, m, size):
    """Bytes over a GPU's link in one direction, and in its memory, by all ranks on it."""
    others = m.ranks - m.sharers
    share = {"one_shot_push": 2, "one_shot_pull": 1, "two_shot": 2 / m.ranks, "zero_copy": 2 / m.ranks,
             "two_shot_push": 4 / m.ranks}[algorithm]
    if algorithm == "zero_copy" and not is_wide(algorithm, m, size):
        share = 1  # one rank reads and writes everything
    moved = {"one_shot_push": 2 + 4 * (m.ranks - 1), "one_shot_pull": 3 + m.ranks, "two_shot": 6, "zero_copy": 2,
             "two_shot_push": 2 + 8 * (m.ranks - 1) / m.ranks}[algorithm]
    if algorithm == "one_shot_pull" and m.gpus == 1:
        moved = max(moved, PULL_LEAST_TRAFFIC)
    return m.sharers * others * share * size, m.sharers * moved * size


def predict(algorithm, machine, size):
    """Microseconds of a blocking call on device buffers that come again; None for what there is no model of."""
    m = machine.known()
    if algorithm == "nccl":
        return NCCL_START + NCCL_PEER * (m.ranks - 2) + 2e-3 * size * (m.ranks - 1) / m.ranks / (NCCL_LINK * m.link / LINK)
    if algorithm == "staying":
        shared, sent = size > ONE_BLOCK, size / 1024 * (m.ranks - 1)
        return (STAYING_START + STAYING_PEER * (m.ranks - 1) + (STAYING_HOP if m.gpus > 1 else 0)
                + (STAYING_HAND_ON + STAYING_KB * sent if shared else STAYING_KB_ONE * sent))
    linked = m.gpus > 1
    costs = ({**COSTS, **UNMEASURED} if linked else {**COSTS_ONE_GPU, **UNMEASURED_ONE_GPU}).get(algorithm)
    if costs is None:
        return None
    time = m.floor + costs.start + costs.peer * (m.ranks - 1) + (costs.hop if linked else 0)
    if is_wide(algorithm, m, size):
        time += costs.wide * (m.ranks - 1 if algorithm == "zero_copy" else 1)
    link, memory = traffic(algorithm, m, size)
    over_link = link / (costs.link * m.link)
    in_memory = (min(memory, CACHE_BYTES) / costs.memory + max(0, memory - CACHE_BYTES) / costs.beyond) / m.copy
    return time + 1e-3 * (over_link + in_memory if costs.in_turn else max(over_link, in_memory))


def predict_blocking(algorithm, machine, size):
    """The same of blocking calls that follow each other, as car_bench makes them: small ones need no launch."""
    rung = algorithm in ("one_shot_push", "mixed") and size * (machine.ranks - 1) <= STAYING_MOST
    return predict("staying" if rung else algorithm, machine, size)


def best(machine, size):
    """(algorithm, microseconds) of the quickest."""
    return min(((name, predict(name, machine, size)) for name in COSTS), key=lambda pair: pair[1])


def table(machine):
    """Lines of a table by size."""
    m = machine.known()
    yield (f"{m.ranks} ranks on {m.gpus} GPUs, predicted: floor {m.floor:.2f} us, link {m.link:.0f} GB/s, copy {m.copy:.0f} "
           f"GB/s")
    yield f"{'size':>8} " + " ".join(f"{name:>14}" for name in COSTS) + f" {'nccl':>10} {'bound':>10}  quickest"
    for power in range(3, 31):
        size = 1 << power
        times = " ".join(f"{predict(name, m, size):14.2f}" for name in COSTS)
        nccl = f"{predict('nccl', m, size):10.2f}" if m.sharers == 1 else f"{'-':>10}"
        name, time = best(m, size)
        yield f"{bench_csv.size(size):>8} {times} {nccl} {m.bound(size):10.2f}  {name}, {time / m.bound(size):.2f} of the bound"


def main(words):
    parser = argparse.ArgumentParser(description="Predicts the time of MPI_Allreduce with coll/car.")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--ranks", type=int, help="one per GPU if not given")
    parser.add_argument("--floor", type=float, default=0.0, help="us, as car_bench measured it")
    parser.add_argument("--link", type=float, default=0.0, help="GB/s each way")
    parser.add_argument("--copy", type=float, default=0.0, help="GB/s, read plus written")
    a = parser.parse_args(words)
    for line in table(Machine(a.ranks or a.gpus, a.gpus, a.floor, a.link, a.copy)):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
