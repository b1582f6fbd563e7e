/*
 * What the machine gives: the floor (the least time from a launch to the host's knowledge of its end), the bandwidth of the link and
 * that of memory. Reference figures say whether the machine is as it should be.
 */
#include "bench.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bench_image.h"
#include "bench_kernel_args.h"

#define FLOOR_CALLS 2000
#define FLOOR_WARM_UP 200
#define LINK_BYTES ((size_t) 64 << 20)
#define COPY_BYTES ((size_t) 1 << 30)

/* One run each on machines of this kind, driver 580, November 2026; figures that are not known are 0. */
static const struct {
    const char *gpu;
    double floor_2_ranks; /* us, two ranks on one GPU under MPS, graph */
    double link, copy;    /* GB/s */
} known[] = {
    {"NVIDIA H100 80GB HBM3", 6.6, 360, 2600},
    {"NVIDIA H200", 5.4, 0, 4300},
};

static CUfunction kernel(const char *name)
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

/* Median over calls of the mean over ranks, on rank 0. */
static double measure_floor(bool graph)
{
    floor_t f = {.graph = graph, .function = kernel("bench_flag")};
    void *parameters[] = {&f.args};
    void *word;
    CUdeviceptr device_word;
    const int calls = gpu_simulated() ? 50 : FLOOR_CALLS;
    double *mine = malloc((size_t) calls * sizeof(double)), *sums = malloc((size_t) calls * sizeof(double));

    GPU_OK(gpu.MemHostAlloc(&word, 64, CU_MEMHOSTALLOC_DEVICEMAP));
    GPU_OK(gpu.MemHostGetDevicePointer(&device_word, word, 0));
    f.word = word;
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
    MPI_Reduce(mine, sums, calls, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    const double median = 0 == test.rank ? bench_median(sums, calls) / test.size : 0;
    GPU_OK(gpu.StreamSynchronize(f.stream));
    if (graph) {
        GPU_OK(gpu.GraphExecDestroy(f.exec));
        GPU_OK(gpu.GraphDestroy(f.whole));
    }
    GPU_OK(gpu.StreamDestroy(f.stream));
    GPU_OK(gpu.MemFreeHost(word));
    free(mine);
    free(sums);
    return median;
}

/* --- bandwidths ------------------------------------------------------------------------------------------------------- */

static double copy_time(CUfunction function, void *to, const void *from, size_t bytes, unsigned blocks)
{
    bench_kernel_args_t args = {.to = to, .from = from, .packs = bytes / 16};
    void *parameters[] = {&args};
    double best = 1e30;

    for (int i = 0; i < 5; ++i) {
        MPI_Barrier(MPI_COMM_WORLD);
        const double start = MPI_Wtime();
        for (int k = 0; k < 4; ++k) {
            GPU_OK(gpu.LaunchKernel(function, blocks, 1, 1, gpu_simulated() ? 64 : 512, 1, 1, 0, NULL, parameters, NULL));
        }
        GPU_OK(gpu.CtxSynchronize());
        const double time = (MPI_Wtime() - start) * 1e6 / 4;
        best = time < best ? time : best;
    }
    return best;
}

/* Both ways at once between neighbours 2k and 2k + 1, by kernels that read and by kernels that write; the best. GB/s. */
static double measure_link(void)
{
    const size_t bytes = gpu_simulated() ? 1 << 20 : LINK_BYTES;
    const int peer = test.rank ^ 1;
    const bool alone = peer >= test.size;
    CUfunction function = kernel("bench_copy");
    CUipcMemHandle handle, theirs;
    CUdeviceptr mine, other, local;
    double best = 0;

    GPU_OK(gpu.MemAlloc(&mine, bytes));
    GPU_OK(gpu.MemAlloc(&local, bytes));
    GPU_OK(gpu.IpcGetMemHandle(&handle, mine));
    other = mine;
    if (!alone) {
        MPI_Sendrecv(&handle, sizeof(handle), MPI_BYTE, peer, 0, &theirs, sizeof(theirs), MPI_BYTE, peer, 0,
                     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (CUDA_SUCCESS != gpu.IpcOpenMemHandle(&other, theirs, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)) {
            other = 0;
        }
    }
    int all, possible = 0 != other;
    MPI_Allreduce(&possible, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    for (unsigned blocks = 32; all && blocks <= (gpu_simulated() ? 32u : 256u); blocks *= 2) {
        const double read = copy_time(function, (void *) (uintptr_t) local, (void *) (uintptr_t) other, bytes, blocks);
        const double write = copy_time(function, (void *) (uintptr_t) other, (void *) (uintptr_t) local, bytes, blocks);
        const double rate = (double) bytes / fmin(read, write) * 1e-3;
        best = alone || rate < best ? best : rate;
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (!alone && 0 != other) {
        GPU_OK(gpu.IpcCloseMemHandle(other));
    }
    MPI_Barrier(MPI_COMM_WORLD);
    GPU_OK(gpu.MemFree(mine));
    GPU_OK(gpu.MemFree(local));
    double least, own = alone ? 1e30 : best;
    MPI_Allreduce(&own, &least, 1, MPI_DOUBLE, MPI_MIN, MPI_COMM_WORLD);
    return least;
}

/* cuMemcpyDtoD on one GPU, by one rank, the others idle; bytes read plus bytes written. GB/s. */
static double measure_copy(void)
{
    double rate = 0;

    if (0 == test.rank) {
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
            const double time = (MPI_Wtime() - start) * 1e6;
            best = time < best ? time : best;
        }
        GPU_OK(gpu.MemFree(a));
        GPU_OK(gpu.MemFree(b));
        rate = 2 * (double) bytes / best * 1e-3;
    }
    MPI_Bcast(&rate, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    return rate;
}

/* GPUs are told apart by their place on the PCI bus: ordinals differ from process to process. */
static void count_gpus(bench_machine_t *m)
{
    int mine[3], *all = malloc((size_t) test.size * sizeof(mine));

    GPU_OK(gpu.DeviceGetAttribute(&mine[0], CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID, gpu_in_use()));
    GPU_OK(gpu.DeviceGetAttribute(&mine[1], CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, gpu_in_use()));
    GPU_OK(gpu.DeviceGetAttribute(&mine[2], CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, gpu_in_use()));
    MPI_Allgather(mine, 3, MPI_INT, all, 3, MPI_INT, MPI_COMM_WORLD);
    m->gpus = m->ranks_per_gpu = 0;
    for (int r = 0; r < test.size; ++r) {
        int here = 0, before = 0;
        for (int q = 0; q < test.size; ++q) {
            const bool same = 0 == memcmp(all + 3 * r, all + 3 * q, sizeof(mine));
            here += same;
            before += same && q < r;
        }
        m->gpus += 0 == before;
        m->ranks_per_gpu = here > m->ranks_per_gpu ? here : m->ranks_per_gpu;
    }
    free(all);
}

static bool as_known(const bench_machine_t *m)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); ++i) {
        if (0 == strcmp(m->gpu, known[i].gpu)) {
            return (2 != test.size || 1 != m->gpus || m->floor <= 1.1 * known[i].floor_2_ranks)
                   && (0 == known[i].link || 0 == m->link || 2 != m->gpus || m->link >= 0.9 * known[i].link)
                   && m->copy >= 0.9 * known[i].copy;
        }
    }
    return true;
}

void bench_measure_machine(bench_machine_t *m)
{
    memset(m, 0, sizeof(*m));
    GPU_OK(gpu.DeviceGetName(m->gpu, sizeof(m->gpu), gpu_in_use()));
    count_gpus(m);
    m->floor_plain = measure_floor(false);
    m->floor_graph = measure_floor(true);
    m->floor = fmin(m->floor_plain, m->floor_graph);
    m->link = m->gpus > 1 ? measure_link() : 0;
    m->copy = measure_copy();
    m->counts = as_known(m);
}

double bench_bound(const bench_machine_t *m, size_t bytes)
{
    const double s = (double) bytes, n = test.size;
    const double link = m->gpus > 1 && m->link > 0 ? 2 * s * (n - 1) / n / (m->link * 1e3) : 0;
    const double memory = m->ranks_per_gpu > 1 ? 2 * m->ranks_per_gpu * s / (m->copy * 1e3) : 0;

    return m->floor + fmax(link, memory);
}
