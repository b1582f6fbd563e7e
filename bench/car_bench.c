/*
 * car_bench: how long MPI_Allreduce on CUDA buffers takes, and how far that is from what the
 * machine gives.
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mpi-ext.h>

#define SIZES_MAX 64

/* Why this Open MPI alone cannot be asked to reduce such buffers, or NULL if it can. */
static const char *impossible_alone(const bench_options_t *o)
{
    if (gpu_kind_is_host(o->memory) || GPU_MANAGED == o->memory) {
        return NULL;
    }
#if defined(MPIX_CUDA_AWARE_SUPPORT)
    if (1 == MPIX_Query_cuda_support()) {
        return NULL;
    }
#endif
    return "this Open MPI is built without CUDA and would read device memory with the CPU";
}

static bool has_nonblocking(const bench_options_t *o)
{
    return o->wanted[BENCH_NONBLOCKING] || o->wanted[BENCH_PERSISTENT] || o->overlap;
}

static void check_possible(const bench_options_t *o)
{
    const bool device = !gpu_kind_is_host(o->memory) && GPU_MANAGED != o->memory;
    int possible = gpu_kind_possible(o->memory);

    MPI_Allreduce(MPI_IN_PLACE, &possible, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    if (!possible) {
        bench_refuse("this machine has no such buffers", gpu_kind_name(o->memory));
    }
    if (!test.counted && NULL != impossible_alone(o)) {
        bench_refuse("coll/car is not loaded", impossible_alone(o));
    }
    /* Built with CUDA or not: seen in 4.1.4 and 5.0.7. */
    if (!test.counted && device && has_nonblocking(o)) {
        bench_refuse(
            "coll/car is not loaded",
            "Open MPI alone reads device memory with the CPU in nonblocking and persistent calls");
    }
}

/* The communicator comes to share device memory. */
static void activate(void)
{
    float one = 1;
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, sizeof(one));

    gpu_write(buffer.address, &one, sizeof(one));
    MPI_Allreduce(MPI_IN_PLACE, buffer.address, 1, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    gpu_free(&buffer);
}

/*
 * Measures all sizes, and returns how many there were. Files are written after each, so that a run
 * that is cut short leaves what it has.
 */
static int measure_all(const bench_options_t *o, const bench_machine_t *m,
                       const bench_peers_t *peers, bench_row_t *rows, bool *written)
{
    int n = 0;

    for (size_t bytes = o->min; bytes <= o->max && n < SIZES_MAX; bytes *= o->step) {
        bench_measure_size(o, peers, bytes, &rows[n]);
        if (0 == test.rank) {
            bench_report_row(o, m, &rows[n]);
            *written = bench_report_files(o, m, rows, n + 1) && *written;
        }
        ++n;
    }
    return n;
}

/* False, on all ranks, if a result was wrong or the baseline was none. Says so. */
static bool sound(const bench_row_t *rows, int n)
{
    long wrong = 0;
    bool baseline = true;

    for (int i = 0; i < n; ++i) {
        const bench_times_t *t = &rows[i].times[BENCH_BASELINE];
        wrong += rows[i].wrong;
        baseline = baseline && (!t->measured || 0 == strcmp(t->algorithm, "old path"));
    }
    if (0 == test.rank && wrong > 0) {
        printf("# %ld elements were WRONG\n", wrong);
    }
    if (0 == test.rank && !baseline) {
        printf("# THE BASELINE IS NONE: coll/car served it, as this Open MPI does not heed "
               "ompi_comm_coll_preference\n");
    }
    return 0 == wrong && baseline;
}

/* Everything that is to be compared with; where something cannot be, missing[] says why. */
static void open_peers(const bench_options_t *o, const bench_machine_t *m, bench_peers_t *peers,
                       const char *missing[BENCH_WAYS])
{
    *peers = (bench_peers_t){.baseline = MPI_COMM_NULL};
    if (o->wanted[BENCH_BASELINE]) {
        missing[BENCH_BASELINE] =
            test.counted ? impossible_alone(o)
                         : "coll/car is not loaded, all figures are of this Open MPI alone";
        peers->baseline =
            NULL == missing[BENCH_BASELINE] ? test_without_car(MPI_COMM_WORLD) : MPI_COMM_NULL;
    }
    if (o->wanted[BENCH_REFERENCE]) {
        peers->reference = bench_reference_new(m, o->max);
        missing[BENCH_REFERENCE] =
            NULL == peers->reference ? "the ranks cannot map each other's memory" : NULL;
    }
    if (o->wanted[BENCH_NCCL]) {
        peers->nccl = bench_nccl_new(o, m, &missing[BENCH_NCCL]);
    }
}

static void close_peers(bench_peers_t *peers)
{
    if (NULL != peers->nccl) {
        bench_nccl_free(peers->nccl);
    }
    if (NULL != peers->reference) {
        bench_reference_free(peers->reference);
    }
    if (MPI_COMM_NULL != peers->baseline) {
        MPI_Comm_free(&peers->baseline);
    }
}

int main(int argc, char **argv)
{
    bench_options_t options;
    bench_machine_t machine;
    bench_peers_t peers;
    bench_row_t rows[SIZES_MAX];
    const char *missing[BENCH_WAYS] = {NULL};

    bench_prepare_environment(argc, argv);
    test_begin(&argc, &argv, "car_bench");
    bench_read_options(argc, argv, &options);
    if (options.no_gpu) {
        machine = (bench_machine_t){.gpu = "none"};
    } else {
        test_use_gpu();
        check_possible(&options);
        bench_measure_machine(&machine);
        if (options.parts) {
            bench_measure_parts(&machine);
        }
        if (options.parts && !machine.parts.measured) {
            bench_refuse("--parts",
                         "the ranks cannot map each other's memory, or are more than 16");
        }
    }
    bool written = NULL == options.links || bench_measure_all_links(&machine, options.links);
    if (options.activate) {
        activate();
    }
    if (options.phases) {
        bench_phases_open();
    }
    open_peers(&options, &machine, &peers, missing);
    if (0 == test.rank) {
        bench_report_head(&options, &machine, &peers, missing);
    }
    const int n = measure_all(&options, &machine, &peers, rows, &written);
    const bool right = sound(rows, n);
    if (0 == test.rank && NULL != options.plot) {
        written = bench_plot(&options, &machine, rows, n) && written;
    }
    close_peers(&peers);
    free(machine.gpu_of);
    MPI_Finalize();
    return right && written ? 0 : 1;
}
