/*
 * The links of a machine with several GPUs, by copies that kernels make, one rank on each GPU:
 * every pair alone, both ways at once, which shows slow or missing links; and all GPUs to all
 * others at once, which shows what the switch between them can take. The last is what an allreduce
 * does.
 */
#include "bench.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench_kernel_args.h"

#define BYTES ((size_t) 64 << 20)
#define TIMES 5
#define BLOCKS                                                                                     \
    64 /* of 512 threads: 95 % of what an H100's links give, whoever is at the other end           \
          (docs/performance.md) */

typedef struct {
    const bench_machine_t *machine;
    size_t bytes;
    CUfunction copy;
    int gpu; /* of this rank; -1: another rank stands for it */
    CUdeviceptr own, local, peer[BENCH_MAX_RANKS]; /* by GPU; 0: out of reach */
    CUstream stream[BENCH_MAX_RANKS];
} links_t;

/* Everybody's handle, opened by everybody who stands for a GPU. */
static void open_links(links_t *l)
{
    CUipcMemHandle mine = {{0}}, all[BENCH_MAX_RANKS];

    if (0 <= l->gpu) {
        GPU_OK(gpu.MemAlloc(&l->own, l->bytes));
        GPU_OK(gpu.MemAlloc(&l->local, l->bytes));
        GPU_OK(gpu.IpcGetMemHandle(&mine, l->own));
    }
    MPI_Allgather(&mine, sizeof(mine), MPI_BYTE, all, sizeof(mine), MPI_BYTE, MPI_COMM_WORLD);
    for (int g = 0; 0 <= l->gpu && g < l->machine->gpus; ++g) {
        GPU_OK(gpu.StreamCreate(&l->stream[g], CU_STREAM_NON_BLOCKING));
        if (g != l->gpu
            && CUDA_SUCCESS != gpu.IpcOpenMemHandle(&l->peer[g], all[bench_leader(l->machine, g)],
                                                    CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)) {
            l->peer[g] = 0;
        }
    }
}

static void close_links(links_t *l)
{
    for (int g = 0; 0 <= l->gpu && g < l->machine->gpus; ++g) {
        if (0 != l->peer[g]) {
            GPU_OK(gpu.IpcCloseMemHandle(l->peer[g]));
        }
        GPU_OK(gpu.StreamDestroy(l->stream[g]));
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (0 <= l->gpu) {
        GPU_OK(gpu.MemFree(l->local));
        GPU_OK(gpu.MemFree(l->own));
    }
}

/* Starts a copy of so many bytes between this GPU and another, from the same offset on both. */
static void start_copy(const links_t *l, int peer, size_t offset, size_t bytes, unsigned blocks,
                       bool writes)
{
    const CUdeviceptr far = l->peer[peer] + offset, near = l->local + offset;
    const CUdeviceptr to = writes ? far : near, from = writes ? near : far;
    bench_kernel_args_t args = {.to = (void *) (uintptr_t) to,
                                .from = (const void *) (uintptr_t) from,
                                .packs = bytes / 16};
    void *parameters[] = {&args};

    GPU_OK(gpu.LaunchKernel(l->copy, blocks, 1, 1, gpu_simulated() ? 64 : 512, 1, 1, 0,
                            l->stream[peer], parameters, NULL));
}

/*
 * GB/s of this GPU; the best of a few times. The peers are those from `first` to `last`; nothing to
 * do, or out of reach: 0. Collective, as all copy at once. Where the peers are several each gets
 * its part of the bytes and of the blocks.
 */
static double rate(const links_t *l, int first, int last, bool writes)
{
    const int peers = last - first + 1 - (first <= l->gpu && l->gpu <= last ? 1 : 0);
    const size_t part = peers > 0 ? l->bytes / (size_t) peers / 16 * 16 : 0;
    const unsigned blocks = gpu_simulated() ? 2
                            : peers > 1     ? 2 * BLOCKS / (unsigned) peers
                                            : BLOCKS;
    double best = 1e30;
    size_t copied = 0;

    for (int i = 0; i < TIMES; ++i) {
        MPI_Barrier(MPI_COMM_WORLD);
        const double start = MPI_Wtime();
        copied = 0;
        /*
         * From the next GPU on, so that not all begin with the same; and no two use the same part
         * of one GPU's memory.
         */
        for (int k = 1; 0 <= l->gpu && k < l->machine->gpus; ++k) {
            const int g = (l->gpu + k) % l->machine->gpus;
            if (first <= g && g <= last && 0 != l->peer[g]) {
                start_copy(l, g, (size_t) (peers > 1 ? k - 1 : 0) * part, part, blocks, writes);
                copied += part;
            }
        }
        GPU_OK(gpu.CtxSynchronize());
        best = fmin(best, (MPI_Wtime() - start) * 1e6);
    }
    return (double) copied / best * 1e-3;
}

/*
 * Rank 0 writes what the ranks that stand for `gpu` and, where there is one, for `peer` have
 * measured: the slower of both.
 */
static void write_line(const links_t *l, FILE *f, int gpu_number, int peer, double read,
                       double write)
{
    const bool counts = 0 <= l->gpu && (gpu_number == l->gpu || peer == l->gpu);
    double mine[2] = {counts ? read : 1e30, counts ? write : 1e30}, slower[2];

    MPI_Reduce(mine, slower, 2, MPI_DOUBLE, MPI_MIN, 0, MPI_COMM_WORLD);
    if (NULL != f && peer < 0) {
        fprintf(f, "%d,all,%.1f,%.1f\n", gpu_number, slower[0], slower[1]);
    } else if (NULL != f) {
        fprintf(f, "%d,%d,%.1f,%.1f\n", gpu_number, peer, slower[0], slower[1]);
    }
}

static void measure_pair(const links_t *l, FILE *f, int a, int b)
{
    const int other = l->gpu == a ? b : l->gpu == b ? a : -1;
    /* Who is not of the pair has no peer in an empty range, and keeps them company. */
    const double read = rate(l, other, other < 0 ? -2 : other, false),
                 write = rate(l, other, other < 0 ? -2 : other, true);

    write_line(l, f, a, b, read, write);
}

bool bench_measure_all_links(const bench_machine_t *m, const char *file)
{
    const int stands_for = m->gpu_of[test.rank];
    links_t l = {.machine = m,
                 .bytes = gpu_simulated() ? 1 << 18 : BYTES,
                 .copy = bench_kernel("bench_copy"),
                 .gpu = bench_leader(m, stands_for) == test.rank ? stands_for : -1};
    FILE *f = 0 == test.rank ? fopen(file, "w") : NULL;
    int written = 0 != test.rank || NULL != f;

    if (!written) {
        perror(file);
    }
    open_links(&l);
    if (NULL != f) {
        fprintf(f, "gpu,peer,read_gbs,write_gbs\n");
    }
    for (int a = 0; a < m->gpus; ++a) {
        for (int b = a + 1; b < m->gpus; ++b) {
            measure_pair(&l, f, a, b);
        }
    }
    if (m->gpus > 1) {
        const double read = rate(&l, 0, m->gpus - 1, false), write = rate(&l, 0, m->gpus - 1, true);
        for (int g = 0; g < m->gpus; ++g) {
            write_line(&l, f, g, -1, read, write);
        }
    }
    close_links(&l);
    written = (NULL == f || 0 == fclose(f)) && written;
    MPI_Bcast(&written, 1, MPI_INT, 0, MPI_COMM_WORLD);
    return 0 != written;
}
