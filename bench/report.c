#include "bench.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static void head_of_run(const bench_options_t *o, const bench_machine_t *m)
{
    char library[MPI_MAX_LIBRARY_VERSION_STRING];
    int length, driver = 0;

    (void) gpu.DriverGetVersion(&driver);
    MPI_Get_library_version(library, &length);
    library[strcspn(library, ",\n")] = '\0';
    printf("# %d ranks on %d GPU%s (%s), up to %d on one; driver for CUDA %d.%d; %s; coll/car %s\n", test.size, m->gpus,
           1 == m->gpus ? "" : "s", m->gpu, m->ranks_per_gpu, driver / 1000, driver % 1000 / 10, library,
           test.counted ? "loaded" : "not loaded");
    printf("# %s %s, %s buffers%s, %d pair%s of them in turn; results %s\n", o->type_name, o->op_name,
           gpu_kind_name(o->memory), o->in_place ? ", in place" : "", o->rotate, 1 == o->rotate ? "" : "s",
           o->check ? "checked" : "not checked");
}

void bench_report_head(const bench_options_t *o, const bench_machine_t *m, int argc, char **argv, const char *no_baseline)
{
    const time_t now = time(NULL);
    char date[32];

    strftime(date, sizeof(date), "%Y-%m-%d %H:%M", localtime(&now));
    printf("# car_bench, %s:", date);
    for (int i = 1; i < argc; ++i) {
        printf(" %s", argv[i]);
    }
    printf("\n");
    head_of_run(o, m);
    if (gpu_simulated()) {
        printf("# SIMULATED GPUs: the times mean nothing\n");
    }
    if (NULL != no_baseline) {
        printf("# no baseline: %s\n", no_baseline);
    }
    printf("# floor %.2f us (plain launch %.2f, graph %.2f); ", m->floor, m->floor_plain, m->floor_graph);
    if (m->link > 0) {
        printf("link %.0f GB/s each way, both at once; ", m->link);
    }
    printf("copy %.0f GB/s read plus written\n", m->copy);
    printf("# bound(S) = floor + %s\n",
           1 == m->ranks_per_gpu ? "2 S (N-1)/N / link"
           : 1 == m->gpus        ? "2 N S / copy"
                                 : "the larger of 2 S (N-1)/N / link and 2 S (ranks on a GPU) / copy");
    if (!m->counts) {
        printf("# THIS RUN DOES NOT COUNT: the floor or a bandwidth is more than 10 %% worse than known of this GPU\n");
    }
    printf("#%11s %-14s %9s %9s %9s %9s %10s %7s %9s %7s\n", "bytes", "algorithm", "median us", "mean", "slowest rk", "p99",
           "baseline", "ratio", "bound", "ratio");
    fflush(stdout);
}

void bench_report_row(const bench_machine_t *m, const bench_row_t *r)
{
    const double bound = bench_bound(m, r->bytes);

    printf("%12zu %-14s %9.2f %9.2f %10.2f %9.2f", r->bytes, r->car.algorithm, r->car.median, r->car.mean,
           r->car.max_rank, r->car.p99);
    if (r->baseline.measured) {
        printf(" %10.1f %7.1f", r->baseline.median, r->baseline.median / r->car.median);
    } else {
        printf(" %10s %7s", "-", "-");
    }
    printf(" %9.2f %7.2f%s\n", bound, r->car.median / bound, r->wrong > 0 ? "  WRONG" : "");
    fflush(stdout);
}

static void write_csv(FILE *f, const bench_machine_t *m, const bench_row_t *rows, int n)
{
    fprintf(f, "ranks,gpus,gpu,floor_us,link_gbs,copy_gbs,bytes,algorithm,calls,median_us,mean_us,fastest_rank_us,"
               "slowest_rank_us,p99_us,baseline_median_us,bound_us,wrong\n");
    for (int i = 0; i < n; ++i) {
        const bench_row_t *r = &rows[i];
        fprintf(f, "%d,%d,%s,%.3f,%.1f,%.1f,%zu,%s,%d,%.3f,%.3f,%.3f,%.3f,%.3f,", test.size, m->gpus, m->gpu, m->floor,
                m->link, m->copy, r->bytes, r->car.algorithm, r->car.calls, r->car.median, r->car.mean, r->car.min_rank,
                r->car.max_rank, r->car.p99);
        if (r->baseline.measured) {
            fprintf(f, "%.3f", r->baseline.median);
        }
        fprintf(f, ",%.3f,%ld\n", bench_bound(m, r->bytes), r->wrong);
    }
}

static void write_json(FILE *f, const bench_options_t *o, const bench_machine_t *m, const bench_row_t *rows, int n)
{
    fprintf(f, "{\"ranks\": %d, \"gpus\": %d, \"gpu\": \"%s\", \"simulated\": %s, \"counts\": %s, \"type\": \"%s\", "
               "\"op\": \"%s\",\n \"floor_us\": %.3f, \"link_gbs\": %.1f, \"copy_gbs\": %.1f,\n \"rows\": [",
            test.size, m->gpus, m->gpu, gpu_simulated() ? "true" : "false", m->counts ? "true" : "false", o->type_name,
            o->op_name, m->floor, m->link, m->copy);
    for (int i = 0; i < n; ++i) {
        const bench_row_t *r = &rows[i];
        fprintf(f, "%s\n  {\"bytes\": %zu, \"algorithm\": \"%s\", \"calls\": %d, \"median_us\": %.3f, \"mean_us\": %.3f, "
                   "\"slowest_rank_us\": %.3f, \"p99_us\": %.3f, ",
                0 == i ? "" : ",", r->bytes, r->car.algorithm, r->car.calls, r->car.median, r->car.mean, r->car.max_rank,
                r->car.p99);
        if (r->baseline.measured) {
            fprintf(f, "\"baseline_median_us\": %.3f, ", r->baseline.median);
        }
        fprintf(f, "\"bound_us\": %.3f, \"wrong\": %ld}", bench_bound(m, r->bytes), r->wrong);
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
