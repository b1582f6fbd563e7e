/*
 * How much of a nonblocking allreduce is hidden behind a computation, as osu_iallreduce of the OSU
 * micro-benchmarks has it: first the time of the allreduce alone; then MPI_Iallreduce, a
 * computation as long as that, during which MPI_Test is called a few times, MPI_Wait. What the
 * whole takes beyond the computation is what was not hidden.
 *
 * The host's computation lasts a given time, which MPI_Test does not count as part of. The GPU's is
 * an amount of work, as it may have to share the GPU with the allreduce: its time alone is measured
 * too, in turns with the others.
 */
#include "bench.h"

#include <math.h>
#include <stdlib.h>

#include "bench_kernel_args.h"

#define WARM_UP 5
#define CALLS_MIN 10
#define CALLS_MAX 500

enum { PURE, HOST, GPU_ALONE, GPU, SERIES };

static struct {
    CUfunction function;
    CUstream stream; /* the application's */
    CUdeviceptr sink;
    unsigned blocks, threads;
    double step_us; /* of the kernel, without its launch */
} computation;

/* --- the GPU's computation -------------------------------------------------------------------- */

static void launch(uint32_t steps)
{
    bench_kernel_args_t args = {.to = (void *) (uintptr_t) computation.sink, .value = steps};
    void *parameters[] = {&args};

    GPU_OK(gpu.LaunchKernel(computation.function, computation.blocks, 1, 1, computation.threads, 1,
                            1, 0, computation.stream, parameters, NULL));
}

static double kernel_time(uint32_t steps)
{
    double best = 1e30;

    for (int i = 0; i < 4; ++i) {
        const double start = MPI_Wtime();
        launch(steps);
        GPU_OK(gpu.StreamSynchronize(computation.stream));
        best = fmin(best, (MPI_Wtime() - start) * 1e6);
    }
    return best;
}

/*
 * A block of 256 threads on each multiprocessor, which leaves most of its threads to others. Ranks
 * that share a GPU compute at the same time, and calibrate so.
 */
static void open_computation(void)
{
    const uint32_t few = gpu_simulated() ? 10 : 10000, many = gpu_simulated() ? 100 : 100000;
    int multiprocessors;

    if (NULL != computation.function) {
        return;
    }
    GPU_OK(gpu.DeviceGetAttribute(&multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
                                  gpu_in_use()));
    computation.blocks = (unsigned) multiprocessors;
    computation.threads = gpu_simulated() ? 32 : 256;
    GPU_OK(gpu.StreamCreate(&computation.stream, CU_STREAM_NON_BLOCKING));
    GPU_OK(
        gpu.MemAlloc(&computation.sink, computation.blocks * computation.threads * sizeof(float)));
    computation.function = bench_kernel("bench_compute");
    MPI_Barrier(MPI_COMM_WORLD);
    const double short_time = kernel_time(few), long_time = kernel_time(many);
    computation.step_us = fmax((long_time - short_time) / (many - few), 1e-6);
}

static uint32_t steps_for(double microseconds)
{
    const double steps = microseconds / computation.step_us;
    const double most = gpu_simulated() ? 1000 : 1e9;

    return (uint32_t) fmin(fmax(steps, 1), most);
}

/* --- one of each ------------------------------------------------------------------------------ */

/*
 * Computes for so long, in as many parts as there are probes and one more, with a test after each
 * part but the last.
 */
static void compute_on_host(MPI_Request *request, double microseconds, int probes)
{
    static volatile double sink;
    int done;

    for (int i = 0; i <= probes; ++i) {
        const double end = MPI_Wtime() + microseconds * 1e-6 / (probes + 1);
        do {
            for (int k = 0; k < 20; ++k) {
                sink = sink * 0.5 + 1;
            }
        } while (MPI_Wtime() < end);
        if (i < probes) {
            MPI_Test(request, &done, MPI_STATUS_IGNORE);
        }
    }
}

/* The host waits for its kernel, and tests at the same moments. */
static void compute_on_gpu(MPI_Request *request, double microseconds, int probes)
{
    const double start = MPI_Wtime();
    int tested = 0, done;

    launch(steps_for(microseconds));
    while (CUDA_ERROR_NOT_READY == gpu.StreamQuery(computation.stream)) {
        if (tested < probes
            && (MPI_Wtime() - start) * 1e6 > microseconds * (tested + 1) / (probes + 1)) {
            MPI_Test(request, &done, MPI_STATUS_IGNORE);
            ++tested;
        }
    }
    GPU_OK(gpu.StreamSynchronize(computation.stream));
}

static double one(const bench_options_t *o, bench_call_t *call, int what, int turn,
                  double microseconds)
{
    MPI_Request request = MPI_REQUEST_NULL;

    MPI_Barrier(MPI_COMM_WORLD);
    const double start = MPI_Wtime();
    if (GPU_ALONE != what) {
        request = bench_call_start(call, turn);
    }
    if (HOST == what) {
        compute_on_host(&request, microseconds, o->probes);
    } else if (PURE != what) {
        compute_on_gpu(&request, microseconds, o->probes);
    }
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    return (MPI_Wtime() - start) * 1e6;
}

static double hidden(double pure, double computation_alone, double total)
{
    return fmin(100, fmax(0, 100 * (1 - (total - computation_alone) / pure)));
}

void bench_measure_overlap(const bench_options_t *o, const bench_peers_t *peers,
                           const bench_buffers_t *b, bench_overlap_t *overlap)
{
    bench_call_t call;
    double first[CALLS_MIN], *times[SERIES], median[SERIES];

    open_computation();
    bench_call_new(&call, BENCH_NONBLOCKING, o, peers, b);
    for (int i = 0; i < WARM_UP + CALLS_MIN; ++i) {
        first[i % CALLS_MIN] = one(o, &call, PURE, i, 0);
    }
    double length = bench_median_of_means(first, CALLS_MIN);
    MPI_Bcast(&length, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    const int calls = 0 < o->iterations
                          ? o->iterations
                          : bench_calls_for(o->seconds, SERIES * length, CALLS_MIN, CALLS_MAX);
    for (int k = 0; k < SERIES; ++k) {
        times[k] = malloc((size_t) calls * sizeof(double));
    }
    for (int i = 0; i < calls; ++i) {
        for (int k = 0; k < SERIES; ++k) {
            times[k][i] = one(o, &call, k, i, length);
        }
    }
    for (int k = 0; k < SERIES; ++k) {
        median[k] = bench_median_of_means(times[k], calls);
        free(times[k]);
    }
    bench_call_free(&call);
    overlap->measured = true;
    overlap->pure = median[PURE];
    overlap->host = hidden(median[PURE], length, median[HOST]);
    overlap->gpu = hidden(median[PURE], median[GPU_ALONE], median[GPU]);
}
