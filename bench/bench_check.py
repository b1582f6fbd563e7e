"""
Has anything become slower? Compares a run of car_bench with a stored one, both as written by --csv, size by size and form
by form, by the ratio of the median to the floor of its own run: so a machine that is slower as a whole, or another of
the same kind, does not count. Fails (1) on a step back of more than the limit, and where the two have nothing in common.

Says besides, without failing, what a run should not have: a larger message that is faster than a smaller one by more
than 10 %, and a p99 of more than 2.5 times the median.

    bench_check.py RUN.csv STORED.csv [--limit PERCENT]
"""
import argparse
import sys

import bench_csv

LIMIT = 15      # percent
STEP = 10       # percent
SPREAD = 2.5    # p99 / median


def relative(row, prefix):
    """The median over the floor, or None where this form was not measured."""
    median = row.number(prefix + "median_us")
    return median / row.floor if median is not None else None


def compare(run, stored, limit=LIMIT):
    """(lines about all that both have, the number of those that are a step back)."""
    known = {row.key: row for row in stored}
    lines, worse = [], 0
    for row in run:
        for form, prefix in bench_csv.FORMS.items():
            now = relative(row, prefix)
            before = relative(known[row.key], prefix) if row.key in known else None
            if now is None or before is None:
                continue
            change = 100 * (now / before - 1)
            too_much = change > limit
            worse += too_much
            lines.append(f"{row['ranks']} ranks, {bench_csv.size(row.bytes)}, {form}: {now:.2f} times the floor, was "
                         f"{before:.2f}: {change:+.1f} %{'  STEP BACK' if too_much else ''}")
    return lines, worse


def series(rows):
    """((ranks, form, prefix), rows in the order of their sizes) of all that belongs together."""
    groups = {}
    for row in rows:
        groups.setdefault(row.key[:-1], []).append(row)
    for group in groups.values():
        group.sort(key=lambda row: row.bytes)
        for form, prefix in bench_csv.FORMS.items():
            measured = [row for row in group if row.number(prefix + "median_us") is not None]
            if measured:
                yield (group[0]["ranks"], form, prefix), measured


def oddities(rows):
    """Lines about what no run should have."""
    found = []
    for (ranks, form, prefix), measured in series(rows):
        slowest = measured[0]
        for row in measured:
            median, p99 = row.number(prefix + "median_us"), row.number(prefix + "p99_us")
            before = slowest.number(prefix + "median_us")
            if median < before * (1 - STEP / 100):
                found.append(f"{ranks} ranks, {form}: {bench_csv.size(row.bytes)} takes {median:.2f} us, the smaller "
                             f"{bench_csv.size(slowest.bytes)} {before:.2f}")
            if median >= before:
                slowest = row
            if p99 is not None and p99 > SPREAD * median:
                found.append(f"{ranks} ranks, {form}: {bench_csv.size(row.bytes)}: p99 is {p99:.2f} us, {p99 / median:.1f} "
                             f"times the median")
    return found


def main(words):
    parser = argparse.ArgumentParser(description="Compares a run of car_bench with a stored one.")
    parser.add_argument("run")
    parser.add_argument("stored")
    parser.add_argument("--limit", type=float, default=LIMIT, help="percent that a ratio to the floor may grow by (15)")
    arguments = parser.parse_args(words)
    try:
        run, stored = bench_csv.read(arguments.run), bench_csv.read(arguments.stored)
    except (OSError, ValueError) as error:
        print(f"bench-check: {error}", file=sys.stderr)
        return 2
    lines, worse = compare(run, stored, arguments.limit)
    for line in lines:
        print(line)
    for line in oddities(run):
        print(f"note: {line}")
    if not lines:
        print("bench-check: the two runs have no ranks, GPUs, type, buffers and size in common")
        return 1
    print(f"bench-check: {len(lines)} figures compared, {worse} more than {arguments.limit:g} % worse")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
