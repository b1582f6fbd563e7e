/*
 * What an iteration of a program costs that makes a small allreduce, then something else, again and
 * again: for judging what a kernel that stays on the GPU (coll_car_stay) gains and what it costs
 * others. bench/stay_table runs it with each setting.
 *
 *   mpirun -n RANKS car_gaps [--gaps 0,5,...] [--bytes N] [--iterations N]
 *
 * prints CSV: pattern, gap_us, us, stayed. `us` is the time of an iteration, gap included, the mean
 * over iterations and ranks: a median would not see what happens now and then. `stayed` is the part
 * of the calls of rank 0 that needed no launch. Each pattern has a communicator of its own, so that
 * none has learnt from the one before; its first iterations, which set it up, do not count. What is
 * done in each iteration, before a pause of the host for the gap:
 *
 *   allreduce   nothing else
 *   stream      cuStreamSynchronize of an idle stream of the program's
 *   kernel      a kernel of one block that writes the operand, on that stream, then the same
 *   full        a kernel that fills the GPU with blocks, each for 5 us, then the same
 *   device      the kernel of one block, then cuCtxSynchronize
 *   free        cuMemAlloc and cuMemFree of 1 MB
 *   burst       cuCtxSynchronize, but in each 12th iteration only; in the others nothing else, and
 *               no pause
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#include "test_kernel_args.h"

#define BURST_CALLS 12
#define WARM_UP 100

enum { ALLREDUCE, STREAM, KERNEL, FULL, DEVICE, FREE, BURST, PATTERNS };
static const char *const names[PATTERNS] = {"allreduce", "stream", "kernel", "full",
                                            "device",    "free",   "burst"};

static struct {
    CUstream stream;
    gpu_buffer_t buffer;
    int count;
    unsigned int multiprocessors;
} program;

static void pause_for(double us)
{
    for (const double end = MPI_Wtime() + us * 1e-6; us > 0 && MPI_Wtime() < end;) {
    }
}

static void launch(const char *kernel, unsigned int blocks, unsigned int threads, uint32_t delay_us)
{
    test_kernel_args_t args = {.address = program.buffer.address,
                               .count = (uint64_t) program.count,
                               .value = 1,
                               .delay_us = delay_us};
    void *parameters[] = {&args};

    GPU_OK(gpu.LaunchKernel(gpu_kernel(kernel), blocks, 1, 1, threads, 1, 1, 0, program.stream,
                            parameters, NULL));
}

static void something_else(int pattern)
{
    CUdeviceptr memory;

    switch (pattern) {
    case KERNEL:
        launch("iota", 1, 64, 0);
        break;
    case FULL:
        launch("spin", gpu_simulated() ? 4 : 4 * program.multiprocessors,
               gpu_simulated() ? 32 : 512, 5);
        break;
    case DEVICE:
        launch("iota", 1, 64, 0);
        GPU_OK(gpu.CtxSynchronize());
        return;
    case FREE:
        GPU_OK(gpu.MemAlloc(&memory, 1 << 20));
        GPU_OK(gpu.MemFree(memory));
        return;
    case ALLREDUCE:
        return;
    default:
        break;
    }
    GPU_OK(gpu.StreamSynchronize(program.stream));
}

static void iterate(MPI_Comm comm, int pattern, double gap_us, int iterations)
{
    for (int i = 1; i <= iterations; ++i) {
        MPI_Allreduce(MPI_IN_PLACE, program.buffer.address, program.count, MPI_UINT32_T, MPI_SUM,
                      comm);
        if (BURST != pattern) {
            something_else(pattern);
            pause_for(gap_us);
        } else if (0 == i % BURST_CALLS) {
            GPU_OK(gpu.CtxSynchronize());
            pause_for(gap_us);
        }
    }
}

static void measure(int pattern, double gap_us, int iterations)
{
    MPI_Comm comm;
    double mean;

    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Barrier(comm);
    /*
     * Straight on: a barrier behind these would be late for a kernel that stays, and the first try
     * a failure.
     */
    iterate(comm, pattern, gap_us, WARM_UP);
    const car_counters_t before = test_counters();
    const double start = MPI_Wtime();
    iterate(comm, pattern, gap_us, iterations);
    const double us = (MPI_Wtime() - start) * 1e6 / iterations / test.size;
    const car_counters_t since = test_since(&before);
    MPI_Reduce(&us, &mean, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    if (0 == test.rank) {
        printf("%s,%g,%.2f,%.2f\n", names[pattern], gap_us, mean,
               (double) since.calls_stayed / iterations);
        fflush(stdout);
    }
    MPI_Comm_free(&comm);
}

int main(int argc, char **argv)
{
    int multiprocessors;

    test_options(argc, argv, "gaps bytes iterations");
    test_begin(&argc, &argv, "car_gaps");
    test_use_gpu();
    char list[256];
    snprintf(list, sizeof(list), "%s", test_option("gaps", "0,5,10,20,50,100,200"));
    program.count = (int) (test_number("bytes", 8) / (long) sizeof(uint32_t));
    GPU_OK(gpu.DeviceGetAttribute(&multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
                                  gpu_in_use()));
    program.multiprocessors = (unsigned int) multiprocessors;
    GPU_OK(gpu.StreamCreate(&program.stream, CU_STREAM_NON_BLOCKING));
    program.buffer = gpu_allocate(GPU_DEVICE, (size_t) program.count * sizeof(uint32_t));
    launch("iota", 1, 64, 0);
    launch("spin", 1, 32, 0);
    GPU_OK(gpu.CtxSynchronize());
    if (0 == test.rank) {
        printf("pattern,gap_us,us,stayed\n");
    }
    for (int pattern = 0; pattern < PATTERNS; ++pattern) {
        char copy[256], *rest = copy;
        memcpy(copy, list, sizeof(copy));
        for (char *gap = strtok_r(rest, ",", &rest); NULL != gap;
             gap = strtok_r(rest, ",", &rest)) {
            measure(pattern, strtod(gap, NULL), (int) test_number("iterations", 2000));
        }
    }
    gpu_free(&program.buffer);
    GPU_OK(gpu.StreamDestroy(program.stream));
    MPI_Finalize();
    return 0;
}
