"""
Thresholds of coll/car from measured times, and the tune file that holds them. docs/tuning.md says how they are found,
and what the file looks like; tools/tune measures the times.
"""
import math
import statistics

KERNELS = ("one_shot_push", "one_shot_pull", "two_shot")
# Zero copy is measured with each rank folding its share, and with one of them folding for all.
ZERO_COPIES = ("zero_copy", "zero_copy_alone")
WAYS = KERNELS + ZERO_COPIES
ALL, NEVER = "all", "never"
SAVES = 2.0  # microseconds of a call that repay mapping a buffer, which takes a millisecond, within some hundred calls


def curve(runs, way):
    """{bytes: median over runs of the median}, of rows of car_bench where that way served all calls."""
    served = ZERO_COPIES[0] if way in ZERO_COPIES else way
    times = {}
    for rows in runs:
        for row in rows:
            if row["algorithm"] == served:
                times.setdefault(row.bytes, []).append(row.number("median_us"))
    return {size: statistics.median(found) for size, found in times.items()}


def crossing(sizes, at, gain):
    """
    The size between sizes[at - 1] and sizes[at] from which the later way wins, whose gain over the earlier is known by
    size. Where noise has put the limit elsewhere than between a loss and a gain, the middle.
    """
    low, high = sizes[at - 1], sizes[at]
    place = -gain[low] / (gain[high] - gain[low]) if gain[low] <= 0 < gain[high] else 0.5
    return low * (high / low) ** place


def best_split(sizes, gain):
    """How many of the sizes to leave to the earlier way, so that the gain of the later over all others is the greatest."""
    return max(range(len(sizes) + 1), key=lambda at: (math.fsum(gain[size] for size in sizes[at:]), at))


def split_kernels(curves, sizes):
    """(sizes of push, sizes of push and pull) with which all calls together take least, each size counting alike."""
    logs = {way: [math.log(curves[way][size]) for size in sizes] for way in KERNELS}
    pairs = [(push, pull) for pull in range(len(sizes) + 1) for push in range(pull + 1)]

    def cost(pair):
        push, pull = pair
        return math.fsum(logs["one_shot_push"][:push] + logs["one_shot_pull"][push:pull] + logs["two_shot"][pull:])
    # Of equals that with the largest sizes: two_shot only where it shows that it is better.
    return min(pairs, key=lambda pair: (round(cost(pair), 9), -pair[1], -pair[0]))


def gain_of(later, earlier, sizes):
    return {size: math.log(earlier[size] / later[size]) for size in sizes}


def kernel_thresholds(curves, sizes):
    """({push_max, pull_max}, {bytes: time of the kernel that these choose})."""
    push, pull = split_kernels(curves, sizes)
    way = ["one_shot_push"] * push + ["one_shot_pull"] * (pull - push) + ["two_shot"] * (len(sizes) - pull)
    chosen = {size: curves[name][size] for size, name in zip(sizes, way)}
    found = {"push_max": 0, "pull_max": ALL}
    if push == len(sizes):
        found["push_max"] = sizes[-1]  # what comes above was not seen, and packets are twice the data
    elif push > 0:
        found["push_max"] = crossing(sizes, push, gain_of(curves[way[push]], curves["one_shot_push"], sizes))
    if pull == push and pull < len(sizes):
        found["pull_max"] = found["push_max"]
    elif pull < len(sizes):
        found["pull_max"] = crossing(sizes, pull, gain_of(curves["two_shot"], curves["one_shot_pull"], sizes))
    return found, chosen


def alone_threshold(curves, sizes):
    """({alone_max}, {bytes: time of the zero copy that this chooses})."""
    alone, shares = curves["zero_copy_alone"], curves["zero_copy"]
    gain = gain_of(shares, alone, sizes)
    split = best_split(sizes, gain)
    most = ALL if split == len(sizes) else 0 if split == 0 else crossing(sizes, split, gain)
    return {"alone_max": most}, {size: (alone if at < split else shares)[size] for at, size in enumerate(sizes)}


def zero_copy_thresholds(kernels, zero_copy, sizes):
    gain = gain_of(zero_copy, kernels, sizes)
    split = best_split(sizes, gain)
    if split == len(sizes):
        return {"zero_copy_min": NEVER, "zero_copy_again": NEVER}
    again = 1 if split == 0 else crossing(sizes, split, gain)
    # In parts of the call's time, so that large calls do not outweigh all others.
    saved = {size: (kernels[size] - zero_copy[size] - SAVES) / kernels[size] for size in sizes}
    split = best_split(sizes, saved)
    least = sizes[-1] if split == len(sizes) else 1 if split == 0 else crossing(sizes, split, saved)
    return {"zero_copy_min": max(least, again), "zero_copy_again": again}


def find(curves):
    """{threshold: bytes, ALL or NEVER} from {way: {bytes: microseconds}}; ValueError where a way is missing."""
    missing = [way for way in WAYS if len(curves.get(way, {})) < 2]
    if missing:
        raise ValueError(f"no times of {', '.join(missing)}")
    sizes = sorted(set.intersection(*(set(curves[way]) for way in WAYS)))
    if len(sizes) < 2:
        raise ValueError("the ways have no sizes in common")
    found, chosen = kernel_thresholds(curves, sizes)
    alone, zero_copy = alone_threshold(curves, sizes)
    return {**found, **alone, **zero_copy_thresholds(chosen, zero_copy, sizes)}


# --- the file ---------------------------------------------------------------------------------------------------------

def written(value):
    """As a tune file has it; of more than 16 KB only whole KB, as nothing was measured that finely."""
    if isinstance(value, str):
        return value
    size = round(value)
    if size >= 1 << 14:
        size = round(size / 1024) * 1024
    for unit, shift in (("m", 20), ("k", 10)):
        if size and size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return str(size)


def table(curves):
    """Comment lines with what was measured; the quickest is marked."""
    yield "#" + f"{'bytes':>11}" + "".join(f"{way:>16}" for way in WAYS)
    for size in sorted(set().union(*(curves[way] for way in WAYS))):
        times = {way: curves[way][size] for way in WAYS if size in curves[way]}
        best = min(times, key=times.get)
        yield "#" + f"{size:>11}" + "".join(
            f"{times[way]:>15.2f}{'*' if way == best else ' '}" if way in times else f"{'-':>15} " for way in WAYS).rstrip()


def lines(place, curves):
    """Lines of a tune file for a place, as sm_90.one_gpu.4: what was measured, then what follows from it."""
    return [*table(curves), *(f"{place}.{name} = {written(value)}" for name, value in find(curves).items())]
