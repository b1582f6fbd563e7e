"""summary.md of a report, and a plot of what was measured over what the cost model says."""
import csv
import os
import shutil
import statistics
import subprocess

import bench_check
import bench_csv
import cost_model

MODEL_OFF = 0.25     # from here on a prediction is called wrong
NCCL_SLOWER = 1.03   # coll/car is nowhere to take longer than that many times NCCL's time
NCCL_FASTER = 1.7    # and to be so many times faster up to:
NCCL_FASTER_MAX = 256 << 10
FLOOR_TIMES = 1.6    # 8 bytes within so many times the floor
SLOW_LINK = 0.8      # of the median of all links
MODELLED_GPU = "H100"


def ratio(measured, expected):
    return f"{measured / expected:.2f}" if measured is not None and expected else "-"


def figure(value, digits=2):
    return f"{value:.{digits}f}" if value is not None else "-"


def machine_of(row):
    """As it was measured: what is compared is the algorithms, the machine's own figures stand in a table of their own."""
    return cost_model.Machine(int(row["ranks"]), int(row["gpus"]), row.floor, row.number("link_gbs") or 0.0,
                              row.number("copy_gbs") or 0.0)


def read_links(path):
    """{"pairs": [(name, read, write)], "all": [...]} of a file of car_bench --links."""
    found = {"pairs": [], "all": []}
    if os.path.exists(path):
        with open(path, encoding="utf-8", newline="") as lines:
            for line in csv.DictReader(lines):
                where = "all" if line["peer"] == "all" else "pairs"
                found[where].append((f"{line['gpu']}-{line['peer']}", float(line["read_gbs"]), float(line["write_gbs"])))
    return found


class Summary:
    def __init__(self, folder, measured, tally, simulated):
        self.folder, self.measured, self.tally, self.simulated = folder, measured, tally, simulated
        self.lines, self.notes = [], []
        self.rows = {}  # by name of the measurement
        for job, _ in measured:
            path = os.path.join(folder, job.name + ".csv")
            try:
                self.rows[job.name] = bench_csv.read(path)
            except (OSError, ValueError):
                self.rows[job.name] = []

    def say(self, *lines):
        self.lines += lines

    # --- the machine -------------------------------------------------------------------------------------------------

    def machine_row(self, what, measured, expected, known):
        said = ratio(measured, expected)
        self.say(f"| {what} | {figure(measured, 2)} | {figure(expected, 2)}{'' if known else ' (not measured by us)'} | {said} |")
        if expected and measured is not None and abs(measured / expected - 1) > MODEL_OFF:
            self.notes.append(f"{what}: {measured:.2f}, expected {expected:.2f}")

    def machine_table(self):
        self.say("## The machine", "", "| figure | measured | model | ratio |", "|---|---|---|---|")
        for job, _ in self.measured:
            rows = self.rows[job.name]
            if not rows:
                continue
            row, model = rows[0], cost_model.Machine(job.ranks, job.gpus).known()
            at = f"{job.ranks} ranks on {job.gpus} GPUs"
            self.machine_row(f"floor, us, {at}", row.floor, model.floor, job.gpus <= 2)
            if row.number("link_gbs"):
                self.machine_row(f"link between neighbours, GB/s, {at}", row.number("link_gbs"), model.link, job.gpus == 2)
            self.machine_row(f"copy, GB/s, {at}", row.number("copy_gbs"), model.copy, True)
        for job, _ in self.measured:
            self.links(read_links(os.path.join(self.folder, job.name + "-links.csv")))
        self.say("")

    def links(self, found):
        for what, links in (("all at once", found["all"]), ("a pair alone", found["pairs"])):
            for place, way in ((1, "read"), (2, "write")):
                rates = [link[place] for link in links]
                if not rates:
                    continue
                self.machine_row(f"{way} over links, {what}, GB/s, slowest of {len(rates)}", min(rates), cost_model.LINK,
                                 len(rates) == 1)
                middle = statistics.median(rates)
                self.notes += [f"{way} {link[0]}, {what}: {link[place]:.1f} GB/s, the median is {middle:.1f}"
                               for link in links if link[place] < SLOW_LINK * middle]

    # --- the latencies -----------------------------------------------------------------------------------------------

    def judge(self, row, at, predicted):
        ours, nccl = row.number("median_us"), row.number("nccl_median_us")
        size = bench_csv.size(row.bytes)
        if predicted and abs(ours / predicted - 1) > MODEL_OFF:
            self.notes.append(f"{at}, {size}: {ours:.2f} us, the model says {predicted:.2f}")
        if row.bytes == 8 and ours > FLOOR_TIMES * row.floor:
            self.notes.append(f"{at}, {size}: {ours / row.floor:.2f} times the floor, {FLOOR_TIMES} is wanted")
        if nccl is not None and ours > NCCL_SLOWER * nccl:
            self.notes.append(f"{at}, {size}: slower than NCCL: {ours:.2f} us, {nccl:.2f}")
        if nccl is not None and row.bytes <= NCCL_FASTER_MAX and nccl < NCCL_FASTER * ours:
            self.notes.append(f"{at}, {size}: {nccl / ours:.2f} times faster than NCCL, {NCCL_FASTER} is wanted")
        if row.get("wrong") not in (None, "", "0"):
            self.notes.append(f"{at}, {size}: {row['wrong']} WRONG elements")

    def said(self, job):
        """What car_bench said about itself: what it could not compare with, NCCL's version, doubts about the machine."""
        path = os.path.join(self.folder, job.name + ".txt")
        if not os.path.exists(path):
            return []
        with open(path, encoding="utf-8") as text:
            return [line[2:].strip() for line in text if line.startswith(("# no ", "# NCCL", "# THIS RUN", "# THE BASELINE"))]

    def latency_table(self, job, became):
        rows = self.rows[job.name]
        at = f"{job.ranks} ranks on {job.gpus} GPUs"
        self.say(f"## {at}{', under MPS' if job.mps else ''}: {became}", "")
        self.say(*(f"- {line}" for line in self.said(job)), "")
        if not rows:
            return
        row = rows[0]
        known = "this layout was fitted" if job.gpus <= 2 else "a prediction that was not measured before"
        self.say(f"Floor {row.floor:.2f} us, link {figure(row.number('link_gbs'), 0)} GB/s, copy "
                 f"{figure(row.number('copy_gbs'), 0)} GB/s; microseconds, medians. The model: {known}; with these three figures.",
                 "", "| size | algorithm | coll/car | p99 | model | / model | / bound | NCCL | model | / coll/car | engines' way "
                 "| / coll/car | stock | / coll/car |", "|" + "---|" * 14)
        for row in rows:
            ours = row.number("median_us")
            predicted = cost_model.predict_blocking(row["algorithm"], machine_of(row), row.bytes)
            nccl_predicted = cost_model.predict("nccl", machine_of(row), row.bytes) if job.ranks == job.gpus else None
            peers = [row.number(prefix + "median_us") for prefix in ("nccl_", "reference_", "baseline_")]
            _, engines, stock = (f"{figure(peer)} | {ratio(peer, ours)}" for peer in peers)
            self.say(f"| {bench_csv.size(row.bytes)} | {row['algorithm']} | {figure(ours)} | {figure(row.number('p99_us'))} | "
                     f"{figure(predicted)} | {ratio(ours, predicted)} | {ratio(ours, row.number('bound_us'))} | "
                     f"{figure(peers[0])} | {figure(nccl_predicted)} | {ratio(peers[0], ours)} | {engines} | {stock} |")
            self.judge(row, at, predicted)
        self.notes += [f"{line} ({job.gpus} GPUs)" for line in bench_check.oddities(rows)]
        self.say("")

    # --- all of it ---------------------------------------------------------------------------------------------------

    def text(self):
        self.machine_table()
        for job, became in self.measured:
            self.latency_table(job, became)
        first = next((rows[0] for rows in self.rows.values() if rows), {})
        gpu = first.get("gpu", "unknown GPU")
        head = [f"# coll/car on {gpu}, {first.get('date', '')}", ""]
        if self.simulated:
            head += ["**Simulated GPUs: the times mean nothing.**", ""]
        elif MODELLED_GPU not in gpu:
            head += [f"The model's constants are an {MODELLED_GPU}'s; on this GPU only its shape can be compared.", ""]
        head += [f"{first.get('library', '')}. Tests: {self.tally}. Files: machine.txt (topology), tests.txt, bench-*.txt, .csv, "
                 ".json, .svg, model.svg.", "", "## What to look at", ""]
        head += [f"- FAILED: {name}" for name in self.tally.failures]
        head += [f"- {job.name}: {became}" for job, became in self.measured if became != "complete"]
        head += [f"- {note}" for note in self.notes] or ["- nothing is out of the ordinary"]
        return "\n".join(head + [""] + self.lines) + "\n"

    def plot(self):
        """Points: measured; lines: the model, with the machine's figures of that run."""
        if shutil.which("gnuplot") is None:
            return
        colours = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933")
        script, curves = [], []
        for place, (job, _) in enumerate(self.measured):
            points = [(row, cost_model.predict_blocking(row["algorithm"], machine_of(row), row.bytes))
                      for row in self.rows[job.name]]
            data = [f"{row.bytes} {row['median_us']} {predicted:.3f}" for row, predicted in points if predicted is not None]
            if not data:
                continue
            script += [f"$d{place} << end", *data, "end"]
            look = f"lc rgb '{colours[place % len(colours)]}'"
            curves += [f"$d{place} using 1:2 with points pt 7 ps 0.5 {look} title '{job.ranks} ranks, {job.gpus} GPUs'",
                       f"$d{place} using 1:3 with lines lw 1.4 {look} notitle"]
        if not curves:
            return
        tics = ", ".join(f'"{bench_csv.size(1 << power)}" {1 << power}' for power in range(3, 31, 3))
        script += ["set terminal svg size 900,620 dynamic noenhanced background rgb 'white' "
                   "font 'Helvetica,Arial,sans-serif,13'",
                   f"set output '{os.path.join(self.folder, 'model.svg')}'", "set logscale xy", f"set xtics ({tics}) nomirror",
                   "set ytics nomirror", "set border 3 lc rgb '#606060'", "set grid lc rgb '#d8d8d8' lw 0.7",
                   "set key top left reverse Left", "set xlabel 'message'", "set ylabel 'microseconds'",
                   "set title 'coll/car: measured (points) and what the cost model says (lines)'", "plot " + ", ".join(curves)]
        subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True, timeout=20, check=False)


def write(folder, measured, tally, simulated):
    """summary.md and model.svg from the files in `folder`."""
    summary = Summary(folder, measured, tally, simulated)
    with open(os.path.join(folder, "summary.md"), "w", encoding="utf-8") as text:
        text.write(summary.text())
    try:
        summary.plot()
    except subprocess.TimeoutExpired:
        print("gnuplot did not come to an end: no model.svg")
