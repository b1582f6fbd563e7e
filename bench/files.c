/* The figures for other programs: CSV and JSON, a line or an object per size. */
#include "bench.h"

#include <stdio.h>

/* What is written of each implementation; of coll/car without the prefix. */
static const char *const prefixes[BENCH_IMPLEMENTATIONS] = {"", "baseline_", "reference_"};

static void write_csv(FILE *f, const bench_machine_t *m, const bench_row_t *rows, int n)
{
    fprintf(f, "ranks,gpus,gpu,floor_us,link_gbs,copy_gbs,bytes,algorithm,bound_us,wrong");
    for (int k = 0; k < BENCH_IMPLEMENTATIONS; ++k) {
        const char *p = prefixes[k];
        fprintf(f, ",%scalls,%smedian_us,%smean_us,%sfastest_rank_us,%sslowest_rank_us,%sp99_us", p, p, p, p, p, p);
    }
    fprintf(f, "\n");
    for (int i = 0; i < n; ++i) {
        const bench_row_t *r = &rows[i];
        fprintf(f, "%d,%d,%s,%.3f,%.1f,%.1f,%zu,%s,%.3f,%ld", test.size, m->gpus, m->gpu, m->floor, m->link, m->copy,
                r->bytes, r->times[BENCH_CAR].algorithm, bench_bound(m, r->bytes), r->wrong);
        for (int k = 0; k < BENCH_IMPLEMENTATIONS; ++k) {
            const bench_times_t *t = &r->times[k];
            if (t->measured) {
                fprintf(f, ",%d,%.3f,%.3f,%.3f,%.3f,%.3f", t->calls, t->median, t->mean, t->min_rank, t->max_rank, t->p99);
            } else {
                fprintf(f, ",,,,,,");
            }
        }
        fprintf(f, "\n");
    }
}

static void write_string(FILE *f, const char *name, const char *value)
{
    fprintf(f, "\"%s\": \"", name);
    for (const unsigned char *c = (const unsigned char *) value; '\0' != *c; ++c) {
        if ('"' == *c || '\\' == *c || *c < ' ') {
            fprintf(f, "\\u%04x", *c);
        } else {
            fputc(*c, f);
        }
    }
    fprintf(f, "\", ");
}

static void write_row(FILE *f, const bench_machine_t *m, const bench_row_t *r)
{
    fprintf(f, "{");
    write_string(f, "algorithm", r->times[BENCH_CAR].algorithm);
    for (int k = 0; k < BENCH_IMPLEMENTATIONS; ++k) {
        const bench_times_t *t = &r->times[k];
        const char *p = prefixes[k];
        if (t->measured) {
            fprintf(f, "\"%scalls\": %d, \"%smedian_us\": %.3f, \"%smean_us\": %.3f, \"%sfastest_rank_us\": %.3f, "
                       "\"%sslowest_rank_us\": %.3f, \"%sp99_us\": %.3f, ",
                    p, t->calls, p, t->median, p, t->mean, p, t->min_rank, p, t->max_rank, p, t->p99);
        }
    }
    fprintf(f, "\"bytes\": %zu, \"bound_us\": %.3f, \"wrong\": %ld}", r->bytes, bench_bound(m, r->bytes), r->wrong);
}

static void write_json(FILE *f, const bench_options_t *o, const bench_machine_t *m, const bench_row_t *rows, int n)
{
    bench_origin_t from;

    bench_find_origin(&from);
    fprintf(f, "{");
    write_string(f, "date", from.date);
    write_string(f, "command", o->command);
    write_string(f, "library", from.library);
    write_string(f, "driver", from.driver);
    write_string(f, "gpu", m->gpu);
    write_string(f, "type", o->type_name);
    write_string(f, "op", o->op_name);
    write_string(f, "buffers", gpu_kind_name(o->memory));
    write_string(f, "doubts", gpu_simulated() ? "simulated" : m->doubts);
    fprintf(f, "\n \"ranks\": %d, \"gpus\": %d, \"ranks_per_gpu\": %d, \"in_place\": %s, \"rotate\": %d, "
               "\"checked\": %s,\n \"floor_us\": %.3f, \"floor_plain_us\": %.3f, \"floor_graph_us\": %.3f, "
               "\"link_gbs\": %.1f, \"copy_gbs\": %.1f,\n \"rows\": [",
            test.size, m->gpus, m->ranks_per_gpu, o->in_place ? "true" : "false", o->rotate, o->check ? "true" : "false",
            m->floor, m->floor_plain, m->floor_graph, m->link, m->copy);
    for (int i = 0; i < n; ++i) {
        fprintf(f, "%s\n  ", 0 == i ? "" : ",");
        write_row(f, m, &rows[i]);
    }
    fprintf(f, "\n ]}\n");
}

bool bench_report_files(const bench_options_t *o, const bench_machine_t *m, const bench_row_t *rows, int n)
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
            write_csv(f, m, rows, n);
        } else {
            write_json(f, o, m, rows, n);
        }
        written = 0 == fclose(f) && written;
    }
    return written;
}
