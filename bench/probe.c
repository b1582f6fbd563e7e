/*
 * What the machine gives: the floor (the least time from a launch to the host's knowledge of its
 * end), the least that an exchange adds to it, the bandwidth of the link between neighbours and
 * that of one GPU's memory.
 */
#include "bench.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "bench_image.h"
#include "bench_kernel_args.h"

#define PROBE_CALLS 2000
#define PROBE_WARM_UP 200
#define PROBE_FEW 10
#define PROBE_SLOW_US 500
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

/* --- kernels that the host waits for ---------------------------------------------------------- */

/*
 * A kernel of one block that says its end by storing `*value`, of its arguments, into mapped host
 * memory.
 */
typedef struct {
    CUfunction function;
    void *args;
    uint32_t *value;
    bool graph;
    CUstream stream;
    volatile uint32_t *word;
    CUgraph whole;
    CUgraphNode node;
    CUgraphExec exec;
} probe_t;

static CUDA_KERNEL_NODE_PARAMS node_of(probe_t *p, void **parameters)
{
    return (CUDA_KERNEL_NODE_PARAMS){.func = p->function,
                                     .gridDimX = 1,
                                     .gridDimY = 1,
                                     .gridDimZ = 1,
                                     .blockDimX = 32,
                                     .blockDimY = 1,
                                     .blockDimZ = 1,
                                     .kernelParams = parameters};
}

/* `to` becomes the address of the word for the kernel. */
static void probe_new(probe_t *p, void **to)
{
    void *parameters[] = {p->args};
    void *word;
    CUdeviceptr device_word;

    GPU_OK(gpu.MemHostAlloc(&word, 64, CU_MEMHOSTALLOC_DEVICEMAP));
    GPU_OK(gpu.MemHostGetDevicePointer(&device_word, word, 0));
    p->word = word;
    *p->word = 0;
    *to = (void *) (uintptr_t) device_word;
    GPU_OK(gpu.StreamCreate(&p->stream, CU_STREAM_NON_BLOCKING));
    if (p->graph) {
        const CUDA_KERNEL_NODE_PARAMS node = node_of(p, parameters);
        GPU_OK(gpu.GraphCreate(&p->whole, 0));
        GPU_OK(gpu.GraphAddKernelNode(&p->node, p->whole, NULL, 0, &node));
        GPU_OK(gpu.GraphInstantiateWithFlags(&p->exec, p->whole, 0));
    }
}

static void probe_free(probe_t *p)
{
    GPU_OK(gpu.StreamSynchronize(p->stream));
    if (p->graph) {
        GPU_OK(gpu.GraphExecDestroy(p->exec));
        GPU_OK(gpu.GraphDestroy(p->whole));
    }
    GPU_OK(gpu.StreamDestroy(p->stream));
    GPU_OK(gpu.MemFreeHost((void *) (uintptr_t) p->word));
}

/* From its launch by all ranks together until this rank knows of its end; microseconds. */
static double probe_call(probe_t *p)
{
    void *parameters[] = {p->args};

    MPI_Barrier(MPI_COMM_WORLD);
    const double start = MPI_Wtime();
    ++*p->value;
    if (p->graph) {
        const CUDA_KERNEL_NODE_PARAMS node = node_of(p, parameters);
        GPU_OK(gpu.GraphExecKernelNodeSetParams(p->exec, p->node, &node));
        GPU_OK(gpu.GraphLaunch(p->exec, p->stream));
    } else {
        GPU_OK(gpu.LaunchKernel(p->function, 1, 1, 1, 32, 1, 1, 0, p->stream, parameters, NULL));
    }
    while (*p->value != *p->word) {
        if (gpu_simulated()) {
            (void) gpu.StreamQuery(p->stream); /* gives the CPU away now and then */
        }
    }
    return (MPI_Wtime() - start) * 1e6;
}

/* Medians over calls; on rank 0. */
typedef struct {
    double mean, slowest; /* of what ranks took for a call */
    int calls;            /* on all ranks */
} probe_times_t;

static probe_times_t probe_measure(probe_t *p)
{
    int calls = gpu_simulated() ? 50 : PROBE_CALLS;
    double warm_up = 0, slowest;

    for (int i = 0; i < PROBE_FEW; ++i) {
        warm_up += probe_call(p);
    }
    MPI_Allreduce(&warm_up, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    /* Where kernels take turns on a GPU each call takes milliseconds. */
    calls = slowest / PROBE_FEW > PROBE_SLOW_US && calls > PROBE_FEW ? PROBE_FEW : calls;
    double *mine = malloc((size_t) calls * sizeof(double));
    for (int i = 0; PROBE_CALLS == calls && i < PROBE_WARM_UP; ++i) {
        (void) probe_call(p);
    }
    for (int i = 0; i < calls; ++i) {
        mine[i] = probe_call(p);
    }
    const probe_times_t times = {bench_median_of_means(mine, calls),
                                 bench_median_of_slowest(mine, calls), calls};
    free(mine);
    return times;
}

/* --- the floor -------------------------------------------------------------------------------- */

static probe_times_t floor_times(bool graph)
{
    bench_kernel_args_t args = {.value = 0};
    probe_t p = {.function = bench_kernel("bench_flag"),
                 .args = &args,
                 .value = &args.value,
                 .graph = graph};

    probe_new(&p, &args.to);
    const probe_times_t times = probe_measure(&p);
    probe_free(&p);
    return times;
}

double bench_measure_floor(bool graph)
{
    return floor_times(graph).mean;
}

/* --- the parts of a small call ---------------------------------------------------------------- */

/*
 * From a word of the host's to the answer of a kernel that is there; median over so many calls of
 * the mean over ranks. *look: how long that kernel takes to look at the word.
 */
static double doorbell(int calls, double *look)
{
    double *mine = malloc((size_t) calls * sizeof(double));
    bench_echo_args_t args = {.first = 1, .rounds = (uint32_t) calls};
    void *parameters[] = {&args}, *memory;
    CUdeviceptr on_device;
    CUstream stream;

    GPU_OK(gpu.MemHostAlloc(&memory, 3 * 64, CU_MEMHOSTALLOC_DEVICEMAP));
    GPU_OK(gpu.MemHostGetDevicePointer(&on_device, memory, 0));
    GPU_OK(gpu.StreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    volatile uint32_t *bell = memory, *answer = (volatile uint32_t *) memory + 16,
                      *looks = (volatile uint32_t *) memory + 32;
    *bell = *answer = 0;
    args.bell = (const uint32_t *) (uintptr_t) on_device;
    args.answer = (uint32_t *) (uintptr_t) on_device + 16;
    args.looks = (uint32_t *) (uintptr_t) on_device + 32;
    GPU_OK(gpu.LaunchKernel(bench_kernel("bench_echo"), 1, 1, 1, 32, 1, 1, 0, stream, parameters,
                            NULL));
    for (uint32_t i = 0; i < (uint32_t) calls; ++i) {
        MPI_Barrier(MPI_COMM_WORLD);
        const double start = MPI_Wtime();
        *bell = i + 1;
        while (*answer != i + 1) {
            if (gpu_simulated()) {
                (void) gpu.StreamQuery(stream);
            }
        }
        mine[i] = (MPI_Wtime() - start) * 1e6;
    }
    const double median = bench_median_of_means(mine, calls);
    GPU_OK(gpu.StreamSynchronize(stream));
    *look = 1e-3 * looks[1] / looks[0];
    GPU_OK(gpu.StreamDestroy(stream));
    GPU_OK(gpu.MemFreeHost(memory));
    free(mine);
    return median;
}

static bool measure_parts(bool graph, bench_parts_t *parts)
{
    bench_exchange_args_t args = {.rank = (uint32_t) test.rank, .size = (uint32_t) test.size};
    probe_t p = {.function = bench_kernel("bench_exchange"),
                 .args = &args,
                 .value = &args.value,
                 .graph = graph};
    const size_t bytes = 2 * BENCH_MAX_RANKS * BENCH_EXCHANGE_BYTES;
    CUdeviceptr own, mapped[BENCH_MAX_RANKS];

    const probe_times_t least = floor_times(graph);
    parts->floor_slowest = least.slowest;
    parts->doorbell = doorbell(least.calls, &parts->look);
    probe_new(&p, &args.to);
    GPU_OK(gpu.MemAlloc(&own, bytes));
    GPU_OK(gpu.MemsetD8Async(own, 0, bytes, p.stream));
    GPU_OK(gpu.StreamSynchronize(p.stream));
    const bool possible = bench_map_peers(own, mapped);
    for (int r = 0; r < test.size; ++r) {
        args.inbox[r] = (char *) (uintptr_t) mapped[r];
    }
    if (possible) {
        args.rounds = 1;
        const probe_times_t one = probe_measure(&p);
        args.rounds = gpu_simulated() ? 3 : BENCH_ROUNDS;
        const probe_times_t many = probe_measure(&p);
        parts->exchange = one.mean;
        parts->exchange_slowest = one.slowest;
        parts->hop = (many.slowest - one.slowest) / (args.rounds - 1);
    }
    probe_free(&p);
    bench_unmap_peers(mapped);
    GPU_OK(gpu.MemFree(own));
    return possible;
}

void bench_measure_parts(bench_machine_t *m)
{
    int graph = m->floor_graph < m->floor_plain; /* only rank 0 has them */

    MPI_Bcast(&graph, 1, MPI_INT, 0, MPI_COMM_WORLD);
    m->parts.measured = test.size <= BENCH_MAX_RANKS && measure_parts(0 != graph, &m->parts);
}

/* --- bandwidths ------------------------------------------------------------------------------- */

/*
 * Copies by one kernel of so many blocks; the best of a few times, microseconds. Collective: all
 * copy at once, and who has nothing to copy (to == NULL) only keeps them company.
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
            GPU_OK(
                gpu.LaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, NULL, parameters, NULL));
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
    const bool takes_part =
        bench_leader(m, m->gpu_of[test.rank]) == test.rank && other_gpu < m->gpus;
    CUipcMemHandle handle, theirs;
    CUdeviceptr mine = 0, remote = 0, local = 0;
    int possible = 1, all;

    if (takes_part) {
        const int peer = bench_leader(m, other_gpu);
        GPU_OK(gpu.MemAlloc(&mine, bytes));
        GPU_OK(gpu.MemAlloc(&local, bytes));
        GPU_OK(gpu.IpcGetMemHandle(&handle, mine));
        MPI_Sendrecv(&handle, sizeof(handle), MPI_BYTE, peer, 0, &theirs, sizeof(theirs), MPI_BYTE,
                     peer, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        possible = CUDA_SUCCESS
                   == gpu.IpcOpenMemHandle(&remote, theirs, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
    }
    MPI_Allreduce(&possible, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    const double rate =
        all ? best_link_rate((void *) (uintptr_t) local, (void *) (uintptr_t) remote, bytes) : 0;
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
