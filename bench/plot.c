/*
 * --plot: gnuplot, as a child, draws what was measured: latency on the left, bandwidth on the
 * right, both log-log.
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Colours that the colour-blind can tell apart (Okabe and Ito), and marks that anybody can. */
static const struct {
    const char *colour;
    int mark;
} looks[BENCH_WAYS] = {
    [BENCH_BLOCKING] = {"#0072b2", 7},   [BENCH_NONBLOCKING] = {"#56b4e9", 5},
    [BENCH_PERSISTENT] = {"#009e73", 9}, [BENCH_BASELINE] = {"#d55e00", 11},
    [BENCH_REFERENCE] = {"#cc79a7", 13}, [BENCH_NCCL] = {"#e69f00", 3},
};

bool bench_can_plot(void)
{
    char path[4096];
    const char *folders = getenv("PATH");

    while (NULL != folders && '\0' != *folders) {
        const size_t length = strcspn(folders, ":");
        snprintf(path, sizeof(path), "%.*s/gnuplot", (int) length, folders);
        if (0 == access(path, X_OK)) {
            return true;
        }
        folders += length + (':' == folders[length]);
    }
    return false;
}

static const char *title(const bench_options_t *o, bench_way_t way)
{
    const bool alone = o->main == way && !test.counted;

    switch (way) {
    case BENCH_BASELINE: return "Open MPI without coll/car";
    case BENCH_REFERENCE: return "the inference engines' way";
    case BENCH_NCCL: return "NCCL";
    case BENCH_NONBLOCKING: return alone ? "Open MPI, nonblocking" : "coll/car, nonblocking";
    case BENCH_PERSISTENT: return alone ? "Open MPI, persistent" : "coll/car, persistent";
    default: return alone ? "Open MPI" : "coll/car";
    }
}

static bool measured(const bench_row_t *rows, int n, bench_way_t way)
{
    bool any = false;

    for (int i = 0; i < n; ++i) {
        any = any || rows[i].times[way].measured;
    }
    return any;
}

/* Named data: bytes, median, p99 of each way; bytes, bound, floor. */
static void write_data(FILE *f, const bench_machine_t *m, const bench_row_t *rows, int n)
{
    for (bench_way_t way = 0; way < BENCH_WAYS; ++way) {
        fprintf(f, "$%s << end\n", bench_way_name(way));
        for (int i = 0; i < n; ++i) {
            const bench_times_t *t = &rows[i].times[way];
            if (t->measured) {
                fprintf(f, "%zu %.3f %.3f\n", rows[i].bytes, t->median, t->p99);
            }
        }
        fprintf(f, "end\n");
    }
    fprintf(f, "$bound << end\n");
    for (int i = 0; i < n; ++i) {
        fprintf(f, "%zu %.3f %.3f\n", rows[i].bytes, bench_bound(m, rows[i].bytes), m->floor);
    }
    fprintf(f, "end\n");
}

/* A label every so many powers of two, from the first on, so that there are about eight. */
static void write_byte_tics(FILE *f, size_t min, size_t max)
{
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
    int first = 0, last = 0;

    while ((size_t) 1 << first < min) {
        ++first;
    }
    while ((size_t) 2 << last <= max) {
        ++last;
    }
    fprintf(f, "set xrange [%zu:%zu]\nset xtics (", min, max > min ? max : 2 * min);
    for (int power = first; power <= last; power += (last - first) / 8 + 1) {
        fprintf(f, "%s\"%d %s\" %zu", first == power ? "" : ", ", 1 << power % 10,
                units[power / 10], (size_t) 1 << power);
    }
    fprintf(f, ") nomirror\n");
}

static void write_head(FILE *f, const bench_options_t *o, const bench_machine_t *m,
                       const bench_row_t *rows, int n)
{
    bench_origin_t from;

    bench_find_origin(&from);
    fprintf(f,
            "set terminal svg size 1240,560 dynamic noenhanced background rgb 'white' font "
            "'Helvetica,Arial,sans-serif,13'\n"
            "set output '%s'\n"
            "set multiplot layout 1,2 title \"%s%s, %s, %d ranks on %d %s%s, %s buffers%s\\n%s, "
            "driver %s, %s\" font ',15'\n"
            "set logscale xy\nset border 3 lc rgb '#606060'\nset grid xtics ytics lc rgb '#d8d8d8' "
            "lw 0.7\n"
            "set tics textcolor rgb '#303030'\nset ytics nomirror\nset format y '%%g'\n"
            "set key reverse Left samplen 2.2 spacing 1.15\nset xlabel 'message'\n"
            "set lmargin 11\nset rmargin 2\nset tmargin 2.5\nset bmargin 4\n",
            o->plot, gpu_simulated() ? "SIMULATED, TIMES MEAN NOTHING: " : "", o->type->mpi_name,
            data_op_name(o->op), test.size, m->gpus, m->gpu,
            m->ranks_per_gpu > 1 && m->gpus > 1 ? " (shared)" : "", gpu_kind_name(o->memory),
            o->in_place ? ", in place" : "", from.date, from.driver, from.library);
    write_byte_tics(f, rows[0].bytes, rows[n - 1].bytes);
}

/*
 * One panel: every way that was measured, and what the machine would allow; `value` is of gnuplot's
 * columns 1 and 2.
 */
static void write_panel(FILE *f, const bench_options_t *o, const bench_row_t *rows, int n,
                        bool latency)
{
    const char *value = latency ? "2" : "($1/$2*1e-3)";

    fprintf(f, "set title '%s'\nset ylabel '%s'\nset key %s\nplot ",
            latency ? "time of a call: median, shaded up to the 99th percentile"
                    : "bytes of the message / time of a call",
            latency ? "microseconds" : "GB/s", latency ? "top left" : "bottom right");
    if (latency) {
        fprintf(f,
                "$%s using 1:2:3 with filledcurves fc rgb '%s' fs transparent solid 0.15 noborder "
                "notitle, ",
                bench_way_name(o->main), looks[o->main].colour);
    }
    for (bench_way_t way = 0; way < BENCH_WAYS; ++way) {
        if (measured(rows, n, way)) {
            fprintf(
                f,
                "$%s using 1:%s with linespoints lc rgb '%s' lw %.1f pt %d ps 0.55 title \"%s\", ",
                bench_way_name(way), value, looks[way].colour, o->main == way ? 2.4 : 1.6,
                looks[way].mark, title(o, way));
        }
    }
    fprintf(f,
            "$bound using 1:%s with lines lc rgb '#000000' lw 1.4 dt 2 title 'bound: floor and "
            "traffic'",
            value);
    if (latency) {
        fprintf(f, ", $bound using 1:3 with lines lc rgb '#808080' lw 1.2 dt 3 title 'floor: an "
                   "empty kernel'");
    }
    fprintf(f, "\n");
}

bool bench_plot(const bench_options_t *o, const bench_machine_t *m, const bench_row_t *rows, int n)
{
    FILE *f;

    if (NULL != strchr(o->plot, '\'')) {
        fprintf(stderr, "car_bench: no quotes in the name of a plot, please: %s\n", o->plot);
        return false;
    }
    f = popen("gnuplot", "w");
    if (NULL == f) {
        perror("gnuplot");
        return false;
    }
    write_data(f, m, rows, n);
    write_head(f, o, m, rows, n);
    write_panel(f, o, rows, n, true);
    write_panel(f, o, rows, n, false);
    fprintf(f, "unset multiplot\n");
    if (0 != pclose(f)) {
        fprintf(stderr, "car_bench: gnuplot did not draw %s\n", o->plot);
        return false;
    }
    return true;
}
