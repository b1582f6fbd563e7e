"""car_bench's CSV files."""
import csv

FORMS = {"blocking": "", "nonblocking": "nonblocking_", "persistent": "persistent_"}
PEERS = {"baseline": "baseline_", "reference": "reference_", "nccl": "nccl_"}

# What must be the same for two rows to be about the same thing; files of before a column existed have its first value.
SAME = {"ranks": "", "gpus": "", "gpu": "", "type": "MPI_FLOAT", "op": "sum", "buffers": "device", "in_place": "0",
        "rotate": "1", "bytes": ""}


class Row(dict):
    """A line of a file, by column; figures that were not measured are None."""

    def number(self, column):
        text = self.get(column)
        return float(text) if text not in (None, "") else None

    @property
    def bytes(self):
        return int(self["bytes"])

    @property
    def floor(self):
        return float(self["floor_us"])

    @property
    def key(self):
        return tuple(self.get(column) or first for column, first in SAME.items())


def read(path):
    """The rows of a file, in its order; ValueError where it is none of car_bench's."""
    with open(path, encoding="utf-8", newline="") as lines:
        rows = [Row(line) for line in csv.DictReader(lines)]
    if not rows or not {"bytes", "floor_us", "median_us"} <= set(rows[0]):
        raise ValueError(f"{path}: no figures of car_bench --csv in it")
    return rows


UNITS = ("B", "KB", "MB", "GB")


def size_of(text):
    """1 MB as 1048576: what size() has written."""
    number, unit = text.split()
    return int(number) << 10 * UNITS.index(unit)


def size(number):
    """1048576 as "1 MB"."""
    for unit in UNITS[:-1]:
        if number < 1024:
            return f"{number:g} {unit}"
        number /= 1024
    return f"{number:g} {UNITS[-1]}"
