/* The figures for other programs: CSV and JSON, a line or an object per size. */
#include "bench.h"

#include <stdio.h>

/* --- what there is of one way ----------------------------------------------------------------- */

enum { CALLS, MEDIAN, MEAN, FASTEST, SLOWEST, P99, FIGURES };

static const char *const figure_names[FIGURES] = {"calls",           "median_us",       "mean_us",
                                                  "fastest_rank_us", "slowest_rank_us", "p99_us"};

static void figures_of(const bench_times_t *t, double figures[FIGURES])
{
    figures[CALLS] = t->calls;
    figures[MEDIAN] = t->median;
    figures[MEAN] = t->mean;
    figures[FASTEST] = t->min_rank;
    figures[SLOWEST] = t->max_rank;
    figures[P99] = t->p99;
}

static bool has_phase(const bench_options_t *o, bench_way_t way, int phase)
{
    return o->phases && way < BENCH_FORMS && bench_phase_known(phase);
}

/* --- CSV -------------------------------------------------------------------------------------- */

static void write_csv_head(FILE *f, const bench_options_t *o)
{
    fprintf(f, "date,library,ranks,gpus,ranks_per_gpu,gpu,type,op,buffers,in_place,rotate,floor_us,"
               "link_gbs,copy_gbs,bytes,"
               "bound_us,wrong");
    for (bench_way_t way = 0; way < BENCH_WAYS; ++way) {
        const char *prefix = bench_way_prefix(way);
        fprintf(f, ",%salgorithm", prefix);
        for (int i = 0; i < FIGURES; ++i) {
            fprintf(f, ",%s%s", prefix, figure_names[i]);
        }
        for (int i = 0; i < BENCH_PHASES; ++i) {
            if (has_phase(o, way, i)) {
                fprintf(f, ",%s%s_us", prefix, bench_phase_name(i));
            }
        }
    }
    fprintf(f, ",overlap_pure_us,overlap_host_percent,overlap_gpu_percent\n");
}

static void write_csv_way(FILE *f, const bench_options_t *o, const bench_row_t *r, bench_way_t way)
{
    const bench_times_t *t = &r->times[way];
    double figures[FIGURES];

    figures_of(t, figures);
    fprintf(f, ",%s", t->measured ? t->algorithm : "");
    for (int i = 0; i < FIGURES; ++i) {
        if (t->measured) {
            fprintf(f, CALLS == i ? ",%.0f" : ",%.3f", figures[i]);
        } else {
            fprintf(f, ",");
        }
    }
    for (int i = 0; i < BENCH_PHASES; ++i) {
        if (has_phase(o, way, i) && t->measured) {
            fprintf(f, ",%.3f", t->phases[i]);
        } else if (has_phase(o, way, i)) {
            fprintf(f, ",");
        }
    }
}

static void write_csv(FILE *f, const bench_options_t *o, const bench_machine_t *m,
                      const bench_row_t *rows, int n)
{
    bench_origin_t from;

    bench_find_origin(&from);
    write_csv_head(f, o);
    for (int i = 0; i < n; ++i) {
        const bench_row_t *r = &rows[i];
        fprintf(f, "%s,%s,%d,%d,%d,%s,%s,%s,%s,%d,%d,%.3f,%.1f,%.1f,%zu,%.3f,", from.date,
                from.library, test.size, m->gpus, m->ranks_per_gpu, m->gpu, o->type->mpi_name,
                data_op_name(o->op), gpu_kind_name(o->memory), o->in_place, o->rotate, m->floor,
                m->link, m->copy, r->bytes, bench_bound(m, r->bytes));
        if (r->checked) {
            fprintf(f, "%ld", r->wrong);
        }
        for (bench_way_t way = 0; way < BENCH_WAYS; ++way) {
            write_csv_way(f, o, r, way);
        }
        if (r->overlap.measured) {
            fprintf(f, ",%.3f,%.1f,%.1f\n", r->overlap.pure, r->overlap.host, r->overlap.gpu);
        } else {
            fprintf(f, ",,,\n");
        }
    }
}

/* --- JSON ------------------------------------------------------------------------------------- */

static void write_string(FILE *f, const char *prefix, const char *name, const char *value)
{
    fprintf(f, "\"%s%s\": \"", prefix, name);
    for (const unsigned char *c = (const unsigned char *) value; '\0' != *c; ++c) {
        if ('"' == *c || '\\' == *c || *c < ' ') {
            fprintf(f, "\\u%04x", *c);
        } else {
            fputc(*c, f);
        }
    }
    fprintf(f, "\", ");
}

static void write_row(FILE *f, const bench_options_t *o, const bench_machine_t *m,
                      const bench_row_t *r)
{
    double figures[FIGURES];

    fprintf(f, "{");
    for (bench_way_t way = 0; way < BENCH_WAYS; ++way) {
        const bench_times_t *t = &r->times[way];
        const char *prefix = bench_way_prefix(way);
        if (!t->measured) {
            continue;
        }
        write_string(f, prefix, "algorithm", t->algorithm);
        figures_of(t, figures);
        for (int i = 0; i < FIGURES; ++i) {
            fprintf(f, "\"%s%s\": %.3f, ", prefix, figure_names[i], figures[i]);
        }
        for (int i = 0; i < BENCH_PHASES; ++i) {
            if (has_phase(o, way, i)) {
                fprintf(f, "\"%s%s_us\": %.3f, ", prefix, bench_phase_name(i), t->phases[i]);
            }
        }
    }
    if (r->overlap.measured) {
        fprintf(f,
                "\"overlap_pure_us\": %.3f, \"overlap_host_percent\": %.1f, "
                "\"overlap_gpu_percent\": %.1f, ",
                r->overlap.pure, r->overlap.host, r->overlap.gpu);
    }
    if (r->checked) {
        fprintf(f, "\"wrong\": %ld, ", r->wrong);
    }
    fprintf(f, "\"bytes\": %zu, \"bound_us\": %.3f}", r->bytes, bench_bound(m, r->bytes));
}

static void write_json(FILE *f, const bench_options_t *o, const bench_machine_t *m,
                       const bench_row_t *rows, int n)
{
    bench_origin_t from;

    bench_find_origin(&from);
    fprintf(f, "{");
    write_string(f, "", "date", from.date);
    write_string(f, "", "command", o->command);
    write_string(f, "", "library", from.library);
    write_string(f, "", "driver", from.driver);
    write_string(f, "", "gpu", m->gpu);
    write_string(f, "", "type", o->type->mpi_name);
    write_string(f, "", "op", data_op_name(o->op));
    write_string(f, "", "buffers", gpu_kind_name(o->memory));
    write_string(f, "", "doubts", gpu_simulated() ? "simulated" : m->doubts);
    fprintf(f,
            "\n \"ranks\": %d, \"gpus\": %d, \"ranks_per_gpu\": %d, \"in_place\": %s, \"rotate\": "
            "%d,\n "
            "\"floor_us\": %.3f, \"floor_plain_us\": %.3f, \"floor_graph_us\": %.3f, "
            "\"link_gbs\": %.1f, \"copy_gbs\": %.1f,\n ",
            test.size, m->gpus, m->ranks_per_gpu, o->in_place ? "true" : "false", o->rotate,
            m->floor, m->floor_plain, m->floor_graph, m->link, m->copy);
    if (m->parts.measured) {
        fprintf(f,
                "\"floor_slowest_us\": %.3f, \"exchange_us\": %.3f, \"exchange_slowest_us\": %.3f, "
                "\"hop_us\": %.3f, "
                "\"doorbell_us\": %.3f, \"look_us\": %.3f,\n ",
                m->parts.floor_slowest, m->parts.exchange, m->parts.exchange_slowest, m->parts.hop,
                m->parts.doorbell, m->parts.look);
    }
    fprintf(f, "\"rows\": [");
    for (int i = 0; i < n; ++i) {
        fprintf(f, "%s\n  ", 0 == i ? "" : ",");
        write_row(f, o, m, &rows[i]);
    }
    fprintf(f, "\n ]}\n");
}

bool bench_report_files(const bench_options_t *o, const bench_machine_t *m, const bench_row_t *rows,
                        int n)
{
    const char *const names[] = {o->csv, o->json};
    bool written = true;

    for (int i = 0; i < 2; ++i) {
        FILE *f = NULL == names[i] ? NULL : fopen(names[i], "w");
        if (NULL == names[i]) {
            continue;
        }
        if (NULL == f) {
            perror(names[i]);
            written = false;
            continue;
        }
        if (0 == i) {
            write_csv(f, o, m, rows, n);
        } else {
            write_json(f, o, m, rows, n);
        }
        written = 0 == fclose(f) && written;
    }
    return written;
}
