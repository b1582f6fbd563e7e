/*
 * The way of the inference engines, for comparison in the same run: copy in, one kernel, wait for
 * the stream. Kernels and the reasons why they are right: reference.cuh.
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_kernel_args.h"

struct bench_reference {
    CUstream stream;
    CUfunction one_shot, two_shot;
    CUdeviceptr own, mapped[BENCH_MAX_RANKS]; /* flags, staging, partial sums */
    volatile uint32_t *failed;
    unsigned blocks, threads;
    bench_reference_args_t args;
};

/* Bytes up to which the engines stay with one-shot, fully connected GPUs. */
static size_t one_shot_max(int ranks)
{
    return 2 == ranks ? SIZE_MAX : ranks <= 4 ? 512 << 10 : 256 << 10;
}

static size_t round_up(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

/*
 * 36 blocks of 512 threads are the engines' grid. All ranks' blocks on a GPU must be resident
 * together, as they wait for each other: where fewer fit, fewer; the least of all ranks, as equal
 * blocks meet.
 */
static void choose_grid(bench_reference_t *r, int ranks_per_gpu)
{
    int fit, multiprocessors, blocks = BENCH_REFERENCE_BLOCKS;

    r->threads = gpu_simulated() ? 32 : 512;
    for (int i = 0; i < 2; ++i) {
        GPU_OK(gpu.OccupancyMaxActiveBlocksPerMultiprocessor(
            &fit, 0 == i ? r->one_shot : r->two_shot, (int) r->threads, 0));
        GPU_OK(gpu.DeviceGetAttribute(&multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
                                      gpu_in_use()));
        fit = fit * multiprocessors / ranks_per_gpu;
        blocks = fit < blocks ? fit : blocks;
    }
    blocks = blocks < 1 ? 1 : gpu_simulated() && blocks > 2 ? 2 : blocks;
    MPI_Allreduce(MPI_IN_PLACE, &blocks, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    r->blocks = (unsigned) blocks;
}

bench_reference_t *bench_reference_new(const bench_machine_t *m, size_t bytes)
{
    bench_reference_t *r = calloc(1, sizeof(*r));
    const size_t staging = round_up(sizeof(bench_flags_t)),
                 partial = staging + round_up(bytes + 16);
    const size_t whole = partial + round_up(bytes / (size_t) test.size + 32);
    CUdeviceptr word;
    void *host;

    GPU_OK(gpu.StreamCreate(&r->stream, CU_STREAM_NON_BLOCKING));
    r->one_shot = bench_kernel("bench_reference_one_shot");
    r->two_shot = bench_kernel("bench_reference_two_shot");
    choose_grid(r, m->ranks_per_gpu);
    GPU_OK(gpu.MemHostAlloc(&host, 64, CU_MEMHOSTALLOC_DEVICEMAP));
    GPU_OK(gpu.MemHostGetDevicePointer(&word, host, 0));
    r->failed = host;
    *r->failed = 0;
    GPU_OK(gpu.MemAlloc(&r->own, whole));
    GPU_OK(gpu.MemsetD8Async(r->own, 0, whole, r->stream));
    GPU_OK(gpu.StreamSynchronize(r->stream));
    if (!bench_map_peers(r->own, r->mapped)) {
        bench_reference_free(r);
        return NULL;
    }
    r->args.failed = (uint32_t *) (uintptr_t) word;
    r->args.rank = (uint32_t) test.rank;
    r->args.size = (uint32_t) test.size;
    for (int i = 0; i < test.size; ++i) {
        r->args.flags[i] = (bench_flags_t *) (uintptr_t) r->mapped[i];
        r->args.staging[i] = (const float *) (uintptr_t) (r->mapped[i] + staging);
        r->args.partial[i] = (float *) (uintptr_t) (r->mapped[i] + partial);
    }
    return r;
}

void bench_reference_allreduce(bench_reference_t *r, const void *input, void *output, size_t count)
{
    void *parameters[] = {&r->args};
    const size_t bytes = count * sizeof(float);
    const CUdeviceptr staging = (CUdeviceptr) (uintptr_t) r->args.staging[test.rank];
    const CUfunction function = bytes <= one_shot_max(test.size) ? r->one_shot : r->two_shot;

    r->args.output = output;
    r->args.count = count;
    ++r->args.call;
    GPU_OK(gpu.MemcpyAsync(staging, (CUdeviceptr) (uintptr_t) input, bytes, r->stream));
    GPU_OK(gpu.LaunchKernel(function, r->blocks, 1, 1, r->threads, 1, 1, 0, r->stream, parameters,
                            NULL));
    GPU_OK(gpu.StreamSynchronize(r->stream));
    if (0 != *r->failed) {
        fprintf(stderr, "car_bench: rank %d: in the reference a peer did not come within seconds\n",
                test.rank);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
}

void bench_reference_free(bench_reference_t *r)
{
    bench_unmap_peers(r->mapped);
    GPU_OK(gpu.MemFree(r->own));
    GPU_OK(gpu.MemFreeHost((void *) (uintptr_t) r->failed));
    GPU_OK(gpu.StreamDestroy(r->stream));
    free(r);
}
