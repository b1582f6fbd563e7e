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
    bool in_place, check, baseline, reference, activate;
    int rotate;                /* buffers used in turn */
    const char *csv, *json;    /* files, or NULL */
    char command[512];         /* the arguments, as given */
} bench_options_t;

/* Ends the program with usage or a message where the arguments are wrong. */
void bench_read_options(int argc, char **argv, bench_options_t *options);

/* --- machine.c --- */

typedef struct {
    char gpu[64];
    int gpus;            /* different ones among the ranks */
    int *gpu_of;         /* which of them, from 0, each rank uses */
    int ranks_per_gpu;   /* the most on one */
    double floor_plain, floor_graph, floor; /* us; the last is the better one; on rank 0 */
    double link;         /* GB/s per direction, both at once; 0: all ranks on one GPU, or no way between two */
    double copy;         /* GB/s, bytes read plus written */
    bool known;          /* there are figures of this GPU to compare with */
    char doubts[200];    /* what is more than 10 % worse than they are; the run then counts for nothing */
} bench_machine_t;

/* Collective. Measures what the machine gives. The caller frees gpu_of. */
void bench_measure_machine(bench_machine_t *machine);

/* The lowest rank on that GPU. */
int bench_leader(const bench_machine_t *machine, int gpu_number);

/*
 * The time below which an allreduce of `bytes` cannot come: each of G GPUs receives at least 2 S (G-1)/G over its link, and
 * the R ranks on one move 2 R S through its memory. Rank 0.
 */
double bench_bound(const bench_machine_t *machine, size_t bytes);

/* --- probe.c: all collective --- */

/* Median over calls of the mean over ranks, on rank 0. */
double bench_measure_floor(bool graph);
/*
 * Both ways at once between neighbouring GPUs 2k and 2k + 1, one rank on each, by kernels that read and by kernels that
 * write; the best way, of the slowest pair. 0 where they cannot reach each other.
 */
double bench_measure_link(const bench_machine_t *machine);
/* A large copy on each GPU in turn, by one rank; the slowest GPU. */
double bench_measure_copy(const bench_machine_t *machine);

/* A kernel of bench_kernels.cu. */
CUfunction bench_kernel(const char *name);

/* --- reference.c: all collective --- */

typedef struct bench_reference bench_reference_t;

/* For messages up to `bytes`; NULL where the ranks cannot map each other's memory. */
bench_reference_t *bench_reference_new(const bench_machine_t *machine, size_t bytes);
/* Sums of floats in device memory, in place or not. Returns when the output is there. */
void bench_reference_allreduce(bench_reference_t *reference, const void *input, void *output, size_t count);
void bench_reference_free(bench_reference_t *reference);

/* --- data.c --- */

typedef struct {
    gpu_buffer_t *input, *output; /* `rotate` of each */
    void *host;
    size_t count;
} bench_buffers_t;

void bench_buffers_new(const bench_options_t *options, bench_buffers_t *buffers, size_t bytes);
void bench_buffers_free(const bench_options_t *options, bench_buffers_t *buffers);
/* Inputs from `seed`; outputs that no call may leave as they are. */
void bench_fill(const bench_options_t *options, bench_buffers_t *buffers, unsigned seed);
/* The number of wrong elements in the output of that turn. */
long bench_compare(const bench_options_t *options, bench_buffers_t *buffers, int turn, unsigned seed);

/* --- measure.c --- */

typedef enum {
    BENCH_CAR,
    BENCH_BASELINE,  /* the same Open MPI without coll/car */
    BENCH_REFERENCE, /* reference.c */
    BENCH_IMPLEMENTATIONS
} bench_implementation_t;

typedef struct {
    MPI_Comm baseline;            /* or MPI_COMM_NULL */
    bench_reference_t *reference; /* or NULL */
} bench_peers_t;

typedef struct {
    bool measured;
    int calls;
    double median, mean, p99; /* over calls, of the mean over ranks */
    double min_rank, max_rank; /* the mean over calls, of the fastest and the slowest rank */
    const char *algorithm;     /* that served all calls; "old path" if none did, "mixed" */
} bench_times_t;

typedef struct {
    size_t bytes;
    bench_times_t times[BENCH_IMPLEMENTATIONS];
    long wrong; /* elements */
} bench_row_t;

/* Collective. Rank 0's row is complete. */
void bench_measure_size(const bench_options_t *options, const bench_peers_t *peers, size_t bytes, bench_row_t *row);

/* Sorts the n numbers. */
double bench_median(double *numbers, int n);

/* --- report.c: rank 0 only --- */

/* When a run was made, and with what. */
typedef struct {
    char date[32], library[128], driver[64]; /* "580.159.04 (CUDA 13.0)" */
} bench_origin_t;

void bench_find_origin(bench_origin_t *origin);

/* `no_baseline`, `no_reference`: why something asked for is not measured, or NULL. */
void bench_report_head(const bench_options_t *options, const bench_machine_t *machine, const char *no_baseline,
                       const char *no_reference);
void bench_report_row(const bench_options_t *options, const bench_machine_t *machine, const bench_row_t *row);

/* --- files.c: rank 0 only --- */

/* Writes the files that were asked for; false if one could not be written. */
bool bench_report_files(const bench_options_t *options, const bench_machine_t *machine, const bench_row_t *rows, int n);

#endif /* BENCH_H */
