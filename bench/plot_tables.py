"""
Draws tables of docs/performance.md, times and multiples of the bound by size:

    plot_tables.py docs/performance.md

Where an image stands in the text, ![title](file), the next table by size behind it, with the columns `blocking` and `bound`, is drawn into
that file. It ends in a comment with a number made of the table's figures, so that a test can tell plots that are out of date.
Needs gnuplot.
"""
import dataclasses
import os
import re
import subprocess
import sys
import zlib

import bench_csv

# Of columns, as car_bench --plot has them: how they are called, and drawn.
WAYS = {"blocking": ("coll/car", "#0072b2", 7), "nonblocking": ("coll/car, nonblocking", "#56b4e9", 5),
        "persistent": ("coll/car, persistent", "#009e73", 9), "stock": ("Open MPI without coll/car", "#d55e00", 11),
        "engines' way": ("the inference engines' way", "#cc79a7", 13), "NCCL": ("NCCL", "#e69f00", 3)}


@dataclasses.dataclass
class Table:
    title: str
    path: str
    columns: dict  # {name: {bytes: microseconds}}

    @property
    def number(self):
        return zlib.crc32(repr((self.title, self.columns)).encode())


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables(path):
    with open(path, encoding="utf-8") as text:
        lines = text.read().splitlines()
    found, image, at = [], None, 0
    while at < len(lines):
        image = re.match(r"!\[(.*)\]\((.*)\)$", lines[at]) or image
        names = cells(lines[at]) if lines[at].startswith("| size |") else []
        at += 1
        if image and {"size", "blocking", "bound"} <= set(names):
            columns = {name: {} for name in (*WAYS, "bound") if name in names}
            for at in range(at + 1, len(lines)):
                if not lines[at].startswith("|"):
                    break
                row = cells(lines[at])
                for name, column in columns.items():
                    figure = row[names.index(name)]
                    if figure != "-":
                        column[bench_csv.size_of(row[0])] = float(figure)
            found.append(Table(image[1], os.path.join(os.path.dirname(path), image[2]), columns))
            image = None
    return found


def script_of(table):
    """gnuplot's commands: times on the left, their ratio to the bound on the right."""
    blocks, times, ratios = [], [], []
    bound = table.columns["bound"]
    for place, (name, column) in enumerate(table.columns.items()):
        blocks += [f"$d{place} << end", *(f"{size} {us} {us / bound[size]:.4f}" for size, us in column.items()), "end"]
        if name == "bound":
            times.append(f"$d{place} using 1:2 with lines lw 1.2 dt 2 lc rgb '#000000' title 'the bound'")
            continue
        title, colour, mark = WAYS[name]
        look = f"lw 1.4 pt {mark} ps 0.4 lc rgb '{colour}'"
        times.append(f"$d{place} using 1:2 with linespoints {look} title \"{title}\"")
        if name != "stock":  # off the scale
            ratios.append(f"$d{place} using 1:3 with linespoints {look} notitle")
    tics = ", ".join(f"'{bench_csv.size(1 << power)}' {1 << power}" for power in range(3, 31, 3))
    return "\n".join([
        "set terminal svg size 1100,470 dynamic noenhanced background rgb 'white' font 'Helvetica,Arial,sans-serif,12'",
        f"set output '{table.path}'", *blocks, f"set multiplot layout 1,2 title \"{table.title}\"", "set logscale x",
        f"set xtics ({tics}) nomirror rotate by -45", "set ytics nomirror", "set border 3 lc rgb '#606060'",
        "set grid lc rgb '#d8d8d8' lw 0.7", "set key top left reverse Left", "set logscale y", "set ylabel 'microseconds'",
        "plot " + ", ".join(times), "unset logscale y", "set yrange [0:*]", "set ylabel 'times the bound'",
        "plot " + ", ".join(ratios) + ", 1 with lines lw 1.2 dt 2 lc rgb '#000000' notitle", "unset multiplot"]) + "\n"


def mark_of(table):
    return f"<!-- figures {table.number} -->\n"


def draw(table):
    os.makedirs(os.path.dirname(table.path), exist_ok=True)
    subprocess.run(["gnuplot"], input=script_of(table), text=True, timeout=60, check=True)
    with open(table.path, "a", encoding="utf-8") as file:
        file.write(mark_of(table))


def main(words):
    if len(words) != 1:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    for table in tables(words[0]):
        draw(table)
        print(f"{table.path}: {table.title}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
