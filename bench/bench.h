/*
 * car_bench: what its files share. Times are microseconds, rates bytes per microsecond times 1e-3
 * (GB/s).
 */
#ifndef BENCH_H
#define BENCH_H

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>

#include "../tests/mpi/data.h"
#include "../tests/mpi/gpu.h"
#include "../tests/mpi/testing.h"
#include "bench_kernel_args.h"

/* --- call.c: the ways to an allreduce --------------------------------------------------------- */

typedef enum {
    BENCH_BLOCKING,    /* MPI_Allreduce, with coll/car if that is loaded */
    BENCH_NONBLOCKING, /* the same with MPI_Iallreduce and MPI_Wait */
    BENCH_PERSISTENT,  /* the same with MPI_Start and MPI_Wait of a persistent request */
    BENCH_FORMS,
    BENCH_BASELINE = BENCH_FORMS, /* MPI_Allreduce of the same Open MPI without coll/car */
    BENCH_REFERENCE,              /* reference.c */
    BENCH_NCCL,                   /* nccl.c */
    BENCH_WAYS
} bench_way_t;

const char *bench_way_name(bench_way_t way);
/* What its columns in files begin with; nothing for blocking calls. */
const char *bench_way_prefix(bench_way_t way);

/* --- options.c -------------------------------------------------------------------------------- */

typedef struct {
    size_t min, max, step;     /* bytes; each size is `step` times the one before */
    size_t baseline_max;       /* bytes up to which the baseline is measured */
    size_t check_max;          /* bytes up to which results are checked */
    double seconds;            /* that a size may take for one way */
    int iterations;            /* per size; 0: from `seconds` */
    const data_type_t *type;
    data_op_t op;
    gpu_kind_t memory;
    bool in_place, activate, phases, overlap, parts;
    bool no_gpu; /* CUDA is left alone; the machine has 0 GPUs then */
    bool wanted[BENCH_WAYS];
    bench_way_t main;          /* the form that the table is about and ratios are taken of */
    int probes;                /* calls of MPI_Test during a computation */
    int rotate;                /* buffers used in turn */
    const char *nccl_library;
    const char *csv, *json, *plot, *links; /* files, or NULL */
    char command[512];         /* the arguments, as given */
} bench_options_t;

/* Ends the program with usage or a message where the arguments are wrong. */
void bench_read_options(int argc, char **argv, bench_options_t *options);
/* The same for what the machine cannot do. Collective. `why` may be NULL. */
void bench_refuse(const char *what, const char *why) __attribute__((noreturn));
/* Before MPI_Init: turns the component's timers on where they are asked for. */
void bench_prepare_environment(int argc, char **argv);

/* --- machine.c -------------------------------------------------------------------------------- */

/* What a small call cannot do without, us; medians over calls, on rank 0. */
typedef struct {
    /* on all ranks; not where they cannot map each other's memory, or are too many */
    bool measured;
    /* of the rank that was the last to know of the end of its own kernel */
    double floor_slowest;
    /* a launch of the least kernel that exchanges a packet: mean over ranks, and slowest */
    double exchange, exchange_slowest;
    double hop;                        /* what each further exchange of that kernel takes */
    /* from a word that the host writes to the answer of a kernel that is there */
    double doorbell;
    /* of those, of rank 0: a look of the kernel's at that word */
    double look;
} bench_parts_t;

typedef struct {
    char gpu[64];
    int gpus;            /* different ones among the ranks */
    int *gpu_of;         /* which of them, from 0, each rank uses */
    int ranks_per_gpu;   /* the most on one */
    double floor_plain, floor_graph, floor; /* us; the last is the better one; on rank 0 */
    /* GB/s per direction, both at once; 0: all ranks on one GPU, or no way between two */
    double link;
    double copy;         /* GB/s, bytes read plus written */
    bench_parts_t parts; /* where they are asked for */
    bool known;          /* there are figures of this GPU to compare with */
    /* what is more than 10 % worse than they are; the run then counts for nothing */
    char doubts[200];
} bench_machine_t;

/* Collective. Measures what the machine gives. The caller frees gpu_of. */
void bench_measure_machine(bench_machine_t *machine);

/* The lowest rank on that GPU. */
int bench_leader(const bench_machine_t *machine, int gpu_number);

/*
 * The time below which an allreduce of `bytes` cannot come: each of G GPUs receives at least 2 S
 * (G-1)/G over its link, and the R ranks on one move 2 R S through its memory. Rank 0.
 */
double bench_bound(const bench_machine_t *machine, size_t bytes);

/* --- probe.c: all collective ------------------------------------------------------------------ */

/* Median over calls of the mean over ranks, on rank 0. */
double bench_measure_floor(bool graph);

/* The machine's parts, by the better kind of launch. */
void bench_measure_parts(bench_machine_t *machine);
/*
 * Both ways at once between neighbouring GPUs 2k and 2k + 1, one rank on each, by kernels that read
 * and by kernels that write; the best way, of the slowest pair. 0 where they cannot reach each
 * other.
 */
double bench_measure_link(const bench_machine_t *machine);
/* A large copy on each GPU in turn, by one rank; the slowest GPU. */
double bench_measure_copy(const bench_machine_t *machine);

/* A kernel of bench_kernels.cu. */
CUfunction bench_kernel(const char *name);

/* --- peers.c: collective, at most BENCH_MAX_RANKS ranks --------------------------------------- */

/*
 * Maps everybody's memory, own[..] of cuMemAlloc; false, on all ranks, if one cannot. To be
 * unmapped either way.
 */
bool bench_map_peers(CUdeviceptr own, CUdeviceptr mapped[]);
/* After this `own` may be freed. */
void bench_unmap_peers(CUdeviceptr mapped[]);

/* --- links.c: collective ---------------------------------------------------------------------- */

/*
 * Bandwidth between all pairs of GPUs, one pair at a time and both ways at once, and of every GPU
 * to all others at once; writes "gpu,peer,read_gbs,write_gbs" to a file. False, on all ranks, where
 * that cannot be written.
 */
bool bench_measure_all_links(const bench_machine_t *machine, const char *file);

/* --- reference.c: all collective -------------------------------------------------------------- */

typedef struct bench_reference bench_reference_t;

/* For messages up to `bytes`; NULL where the ranks cannot map each other's memory. */
bench_reference_t *bench_reference_new(const bench_machine_t *machine, size_t bytes);
/* Sums of floats in device memory, in place or not. Returns when the output is there. */
void bench_reference_allreduce(bench_reference_t *reference, const void *input, void *output,
                               size_t count);
void bench_reference_free(bench_reference_t *reference);

/* --- nccl.c: all collective ------------------------------------------------------------------- */

typedef struct bench_nccl bench_nccl_t;

/*
 * NULL, with *why, where NCCL is not there, may not be used, or does not have the type or the
 * operation.
 */
bench_nccl_t *bench_nccl_new(const bench_options_t *options, const bench_machine_t *machine,
                             const char **why);
/* Device memory, in place or not. Returns when the output is there. */
void bench_nccl_allreduce(bench_nccl_t *nccl, const void *input, void *output, size_t count);
/* As 22809. */
int bench_nccl_version(const bench_nccl_t *nccl);
void bench_nccl_free(bench_nccl_t *nccl);

/* --- data.c ----------------------------------------------------------------------------------- */

/* The type or operation of that name, "MPI_FLOAT" or "float"; NULL or DATA_OPS if there is none. */
const data_type_t *bench_find_type(const char *name);
data_op_t bench_find_op(const char *name);

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
long bench_compare(const bench_options_t *options, bench_buffers_t *buffers, int turn,
                   unsigned seed);

/* --- call.c, again: one way, on one set of buffers -------------------------------------------- */

typedef struct {
    MPI_Comm baseline;            /* or MPI_COMM_NULL */
    bench_reference_t *reference; /* or NULL */
    bench_nccl_t *nccl;           /* or NULL */
} bench_peers_t;

typedef struct {
    bench_way_t way;
    const bench_options_t *options;
    const bench_peers_t *peers;
    const bench_buffers_t *buffers;
    MPI_Request *requests; /* BENCH_PERSISTENT: one for each pair of buffers */
} bench_call_t;

void bench_call_new(bench_call_t *call, bench_way_t way, const bench_options_t *options,
                    const bench_peers_t *peers, const bench_buffers_t *buffers);
void bench_call_free(bench_call_t *call);
/* One allreduce on the buffers of that turn, from its begin to its end. */
void bench_call_do(bench_call_t *call, int turn);
/* BENCH_NONBLOCKING: its begin only. */
MPI_Request bench_call_start(bench_call_t *call, int turn);

/* --- phases.c: what the component says of the time in a call ---------------------------------- */

#define BENCH_PHASES 4

/* After MPI_Init, if at all. */
void bench_phases_open(void);
/* "post", "launch", "wait", "other". */
const char *bench_phase_name(int phase);
/* Whether the component has that timer, on all ranks. */
bool bench_phase_known(int phase);
/* Nanoseconds of this process so far. */
void bench_phases_read(double nanoseconds[BENCH_PHASES]);

/* --- overlap.c: collective -------------------------------------------------------------------- */

typedef struct {
    bool measured;
    double pure;      /* us, of MPI_Iallreduce and MPI_Wait */
    double host, gpu; /* percent of it that was hidden behind a computation there */
} bench_overlap_t;

/* Rank 0's result counts. */
void bench_measure_overlap(const bench_options_t *options, const bench_peers_t *peers,
                           const bench_buffers_t *buffers, bench_overlap_t *overlap);

/* --- measure.c -------------------------------------------------------------------------------- */

typedef struct {
    bool measured;
    int calls;
    double median, mean, p99; /* over calls, of the mean over ranks */
    double min_rank, max_rank; /* the mean over calls, of the fastest and the slowest rank */
    double phases[BENCH_PHASES]; /* us per call, the mean over calls and ranks */
    const char *algorithm;     /* that served all calls; "old path" if none did, "mixed" */
} bench_times_t;

typedef struct {
    size_t bytes;
    bench_times_t times[BENCH_WAYS];
    bench_overlap_t overlap;
    bool checked;
    long wrong; /* elements */
} bench_row_t;

/* Collective. Rank 0's row is complete. */
void bench_measure_size(const bench_options_t *options, const bench_peers_t *peers, size_t bytes,
                        bench_row_t *row);

/* --- statistics.c ----------------------------------------------------------------------------- */

/* Sorts the n numbers. */
double bench_median(double *numbers, int n);
/* The median of what all ranks have, each the mean over ranks; on rank 0. Collective. */
double bench_median_of_means(const double *mine, int n);
/* The same of the greatest of the ranks' numbers. */
double bench_median_of_slowest(const double *mine, int n);
/*
 * How many calls, the same on all ranks, take about that many seconds if one takes `microseconds`.
 * Collective.
 */
int bench_calls_for(double seconds, double microseconds, int least, int most);

/* --- report.c: rank 0 only -------------------------------------------------------------------- */

/* When a run was made, and with what. */
typedef struct {
    char date[32], library[128], driver[64]; /* "580.159.04 (CUDA 13.0)" */
} bench_origin_t;

void bench_find_origin(bench_origin_t *origin);

/* `missing`: why something asked for is not measured, or NULL. */
void bench_report_head(const bench_options_t *options, const bench_machine_t *machine,
                       const bench_peers_t *peers, const char *const missing[BENCH_WAYS]);
void bench_report_row(const bench_options_t *options, const bench_machine_t *machine,
                      const bench_row_t *row);

/* --- files.c, plot.c: rank 0 only ------------------------------------------------------------- */

/* Writes the files that were asked for; false if one could not be written. */
bool bench_report_files(const bench_options_t *options, const bench_machine_t *machine,
                        const bench_row_t *rows, int n);

/* Whether there is a gnuplot on PATH. */
bool bench_can_plot(void);
/*
 * Draws latency and bandwidth of all that was measured as SVG; false, after a message, where
 * gnuplot fails.
 */
bool bench_plot(const bench_options_t *options, const bench_machine_t *machine,
                const bench_row_t *rows, int n);

#endif /* BENCH_H */
