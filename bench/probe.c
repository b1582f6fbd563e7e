/*
 * What the machine gives: the floor (the least time from a launch to the host's knowledge of its end), the bandwidth of
 * the link between neighbours and that of one GPU's memory.
 */
#include "bench.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "bench_image.h"
#include "bench_kernel_args.h"

#define FLOOR_CALLS 2000
#define FLOOR_WARM_UP 200
#define LINK_BYTES ((size_t) 64 << 20)
#define COPY_BYTES ((size_t) 1 << 30)

CUfunction bench_kernel(const char *name)
{
    static CUmodule module;
    CUfunction function;

    if (NULL == module) {
        GPU_OK(gpu.ModuleLoadData(&module, bench_kernels_image()));
    }
    GPU_OK(gpu.ModuleGetFunction(&function, module, name));
    return function;
}

/* --- the floor ------------------------------------------------------------------------------------------------------- */

typedef struct {
    bool graph;
    CUfunction function;
    CUstream stream;
    volatile uint32_t *word;
    bench_kernel_args_t args;
    CUgraph whole;
    CUgraphNode node;
    CUgraphExec exec;
} floor_t;

static CUDA_KERNEL_NODE_PARAMS node_of(floor_t *f, void **parameters)
{
    return (CUDA_KERNEL_NODE_PARAMS){.func = f->function, .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 32,
                                     .blockDimY = 1, .blockDimZ = 1, .kernelParams = parameters};
}

static double floor_call(floor_t *f, uint32_t value)
{
    void *parameters[] = {&f->args};

    MPI_Barrier(MPI_COMM_WORLD);
    const double start = MPI_Wtime();
    f->args.value = value;
    if (f->graph) {
        const CUDA_KERNEL_NODE_PARAMS node = node_of(f, parameters);
        GPU_OK(gpu.GraphExecKernelNodeSetParams(f->exec, f->node, &node));
        GPU_OK(gpu.GraphLaunch(f->exec, f->stream));
    } else {
        GPU_OK(gpu.LaunchKernel(f->function, 1, 1, 1, 32, 1, 1, 0, f->stream, parameters, NULL));
    }
    while (value != *f->word) {
        if (gpu_simulated()) {
            (void) gpu.StreamQuery(f->stream); /* gives the CPU away now and then */
        }
    }
    return (MPI_Wtime() - start) * 1e6;
}

double bench_measure_floor(bool graph)
{
    floor_t f = {.graph = graph, .function = bench_kernel("bench_flag")};
    void *parameters[] = {&f.args};
    void *word;
    CUdeviceptr device_word;
    const int calls = gpu_simulated() ? 50 : FLOOR_CALLS;
    double *mine = malloc((size_t) calls * sizeof(double));

    GPU_OK(gpu.MemHostAlloc(&word, 64, CU_MEMHOSTALLOC_DEVICEMAP));
    GPU_OK(gpu.MemHostGetDevicePointer(&device_word, word, 0));
    f.word = word;
    *f.word = 0;
    f.args.to = (void *) (uintptr_t) device_word;
    GPU_OK(gpu.StreamCreate(&f.stream, CU_STREAM_NON_BLOCKING));
    if (graph) {
        const CUDA_KERNEL_NODE_PARAMS node = node_of(&f, parameters);
        GPU_OK(gpu.GraphCreate(&f.whole, 0));
        GPU_OK(gpu.GraphAddKernelNode(&f.node, f.whole, NULL, 0, &node));
        GPU_OK(gpu.GraphInstantiateWithFlags(&f.exec, f.whole, 0));
    }
    uint32_t value = 0;
    for (int i = 0; i < (gpu_simulated() ? 5 : FLOOR_WARM_UP); ++i) {
        (void) floor_call(&f, ++value);
    }
    for (int i = 0; i < calls; ++i) {
        mine[i] = floor_call(&f, ++value);
    }
    const double median = bench_median_of_means(mine, calls);
    GPU_OK(gpu.StreamSynchronize(f.stream));
    if (graph) {
        GPU_OK(gpu.GraphExecDestroy(f.exec));
        GPU_OK(gpu.GraphDestroy(f.whole));
    }
    GPU_OK(gpu.StreamDestroy(f.stream));
    GPU_OK(gpu.MemFreeHost(word));
    free(mine);
    return median;
}

/* --- bandwidths ------------------------------------------------------------------------------------------------------ */

/*
 * Copies by one kernel of so many blocks; the best of a few times, microseconds. Collective: all copy at once, and who has
 * nothing to copy (to == NULL) only keeps them company.
 */
static double copy_time(void *to, const void *from, size_t bytes, unsigned blocks)
{
    const unsigned threads = gpu_simulated() ? 64 : 512;
    bench_kernel_args_t args = {.to = to, .from = from, .packs = bytes / 16};
    void *parameters[] = {&args};
    CUfunction function = bench_kernel("bench_copy");
    double best = 1e30;

    for (int i = 0; i < 5; ++i) {
        MPI_Barrier(MPI_COMM_WORLD);
        const double start = MPI_Wtime();
        for (int k = 0; NULL != to && k < 4; ++k) {
            GPU_OK(gpu.LaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, NULL, parameters, NULL));
        }
        GPU_OK(gpu.CtxSynchronize());
        best = fmin(best, (MPI_Wtime() - start) * 1e6 / 4);
    }
    return best;
}

/* The rate of the slowest of all that copied, GB/s. */
static double slowest_rate(double time, bool copied, size_t bytes)
{
    double own = copied ? time : 0, worst;

    MPI_Allreduce(&own, &worst, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return (double) bytes / worst * 1e-3;
}

static double best_link_rate(void *local, void *remote, size_t bytes)
{
    const bool copies = NULL != remote;
    double best = 0;

    for (unsigned blocks = 32; blocks <= (gpu_simulated() ? 32u : 256u); blocks *= 2) {
        const double read = copy_time(copies ? local : NULL, remote, bytes, blocks);
        best = fmax(best, slowest_rate(read, copies, bytes));
        const double write = copy_time(remote, local, bytes, blocks);
        best = fmax(best, slowest_rate(write, copies, bytes));
    }
    return best;
}

double bench_measure_link(const bench_machine_t *m)
{
    const size_t bytes = gpu_simulated() ? 1 << 20 : LINK_BYTES;
    const int other_gpu = m->gpu_of[test.rank] ^ 1;
    const bool takes_part = bench_leader(m, m->gpu_of[test.rank]) == test.rank && other_gpu < m->gpus;
    CUipcMemHandle handle, theirs;
    CUdeviceptr mine = 0, remote = 0, local = 0;
    int possible = 1, all;

    if (takes_part) {
        const int peer = bench_leader(m, other_gpu);
        GPU_OK(gpu.MemAlloc(&mine, bytes));
        GPU_OK(gpu.MemAlloc(&local, bytes));
        GPU_OK(gpu.IpcGetMemHandle(&handle, mine));
        MPI_Sendrecv(&handle, sizeof(handle), MPI_BYTE, peer, 0, &theirs, sizeof(theirs), MPI_BYTE, peer, 0,
                     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        possible = CUDA_SUCCESS == gpu.IpcOpenMemHandle(&remote, theirs, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
    }
    MPI_Allreduce(&possible, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    const double rate = all ? best_link_rate((void *) (uintptr_t) local, (void *) (uintptr_t) remote, bytes) : 0;
    if (takes_part) {
        if (possible) {
            GPU_OK(gpu.IpcCloseMemHandle(remote));
        }
        GPU_OK(gpu.MemFree(local));
    }
    /* Memory is freed when no peer has it mapped any more. */
    MPI_Barrier(MPI_COMM_WORLD);
    if (takes_part) {
        GPU_OK(gpu.MemFree(mine));
    }
    return rate;
}

/* Of the GPU in use, GB/s, bytes read plus bytes written. */
static double copy_rate(void)
{
    size_t bytes = gpu_simulated() ? 1 << 24 : COPY_BYTES, free_bytes, all;
    CUdeviceptr a, b;
    double best = 1e30;

    GPU_OK(gpu.MemGetInfo(&free_bytes, &all));
    while (bytes > free_bytes / 4) {
        bytes /= 2;
    }
    GPU_OK(gpu.MemAlloc(&a, bytes));
    GPU_OK(gpu.MemAlloc(&b, bytes));
    for (int i = 0; i < 10; ++i) {
        const double start = MPI_Wtime();
        GPU_OK(gpu.MemcpyAsync(b, a, bytes, NULL));
        GPU_OK(gpu.CtxSynchronize());
        best = fmin(best, (MPI_Wtime() - start) * 1e6);
    }
    GPU_OK(gpu.MemFree(a));
    GPU_OK(gpu.MemFree(b));
    return 2 * (double) bytes / best * 1e-3;
}

double bench_measure_copy(const bench_machine_t *m)
{
    double own = 1e30, least;

    for (int g = 0; g < m->gpus; ++g) {
        MPI_Barrier(MPI_COMM_WORLD);
        if (bench_leader(m, g) == test.rank) {
            own = copy_rate();
        }
    }
    MPI_Allreduce(&own, &least, 1, MPI_DOUBLE, MPI_MIN, MPI_COMM_WORLD);
    return least;
}
