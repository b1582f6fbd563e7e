/*
 * car_bench: what its files share. Times are microseconds, rates bytes per microsecond times 1e-3 (GB/s).
 */
#ifndef BENCH_H
#define BENCH_H

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>

#include "../tests/mpi/gpu.h"
#include "../tests/mpi/testing.h"

/* --- options.c --- */

typedef struct {
    size_t min, max, step;     /* bytes; each size is `step` times the one before */
    size_t baseline_max;       /* bytes up to which the baseline is measured */
    double seconds;            /* that a size may take for one implementation */
    int iterations;            /* per size; 0: from `seconds` */
    MPI_Datatype type;
    size_t element;
    const char *type_name;
    MPI_Op op;
    const char *op_name;
    gpu_kind_t memory;
    bool in_place, check, baseline;
    int rotate;                /* buffers used in turn */
    const char *csv, *json;    /* files, or NULL */
} bench_options_t;

/* Ends the program with usage or a message where the arguments are wrong. */
void bench_read_options(int argc, char **argv, bench_options_t *options);

/* --- machine.c --- */

typedef struct {
    char gpu[64];
    int gpus;            /* different ones among the ranks */
    int ranks_per_gpu;   /* the most on one */
    double floor_plain, floor_graph, floor; /* us; the last is the better one */
    double link;         /* GB/s per direction, both at once; 0: all ranks on one GPU */
    double copy;         /* GB/s, bytes read plus written */
    bool counts;         /* none of them is more than 10 % worse than what is known of this GPU */
} bench_machine_t;

/* Collective. Measures what the machine gives. */
void bench_measure_machine(bench_machine_t *machine);

/* The time below which an allreduce of `bytes` cannot come. */
double bench_bound(const bench_machine_t *machine, size_t bytes);

/* --- measure.c --- */

typedef struct {
    bool measured;
    int calls;
    double median, mean, p99; /* over calls, of the mean over ranks */
    double min_rank, max_rank; /* the mean over calls, of the fastest and the slowest rank */
    const char *algorithm;     /* that served all calls; "old path" if none did, "mixed" */
} bench_times_t;

typedef struct {
    size_t bytes;
    bench_times_t car, baseline;
    long wrong; /* elements */
} bench_row_t;

/* Collective. `other` is a communicator without coll/car, or MPI_COMM_NULL. Rank 0's row is complete. */
void bench_measure_size(const bench_options_t *options, MPI_Comm other, size_t bytes, bench_row_t *row);

/* Median and 99th percentile of n numbers, which get sorted. */
double bench_median(double *numbers, int n);
double bench_p99(double *numbers, int n);

/* --- report.c: rank 0 only --- */

void bench_report_head(const bench_options_t *options, const bench_machine_t *machine, int argc, char **argv,
                       const char *no_baseline);
void bench_report_row(const bench_machine_t *machine, const bench_row_t *row);
/* Writes the files that were asked for; false if one could not be written. */
bool bench_report_files(const bench_options_t *options, const bench_machine_t *machine, const bench_row_t *rows, int n);

#endif /* BENCH_H */
