/* The ranks' GPUs, whether they do what is known of them, and what could be had of them at best. */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * One run each on machines of this kind, driver 580, one-node graphs, ranks that share a GPU under
 * MPS, November 2026; what is not known is 0.
 */
static const struct {
    const char *gpu;
    double link, copy; /* GB/s */
    struct {
        int gpus, ranks;
        double us;
    } floor[6];
} known[] = {
    {"NVIDIA H100 80GB HBM3",
     360,
     2600,
     {{1, 2, 6.6}, {1, 4, 6.9}, {1, 8, 8.0}, {2, 2, 5.6}, {2, 4, 6.4}, {2, 8, 7.3}}},
    {"NVIDIA H200", 0, 4300, {{1, 2, 5.4}, {1, 4, 6.5}, {1, 8, 8.5}}},
};

/* GPUs are told apart by their place on the PCI bus: ordinals differ from process to process. */
static void find_gpus(bench_machine_t *m)
{
    int mine[3], *all = malloc((size_t) test.size * sizeof(mine));
    int *ranks = calloc((size_t) test.size, sizeof(int));

    GPU_OK(gpu.DeviceGetAttribute(&mine[0], CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID, gpu_in_use()));
    GPU_OK(gpu.DeviceGetAttribute(&mine[1], CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, gpu_in_use()));
    GPU_OK(gpu.DeviceGetAttribute(&mine[2], CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, gpu_in_use()));
    MPI_Allgather(mine, 3, MPI_INT, all, 3, MPI_INT, MPI_COMM_WORLD);
    m->gpu_of = malloc((size_t) test.size * sizeof(int));
    for (int r = 0; r < test.size; ++r) {
        int q = 0;
        while (0 != memcmp(all + 3 * r, all + 3 * q, sizeof(mine))) {
            ++q;
        }
        m->gpu_of[r] = q < r ? m->gpu_of[q] : m->gpus++;
        const int here = ++ranks[m->gpu_of[r]];
        m->ranks_per_gpu = here > m->ranks_per_gpu ? here : m->ranks_per_gpu;
    }
    free(all);
    free(ranks);
}

int bench_leader(const bench_machine_t *m, int gpu_number)
{
    int rank = 0;

    while (m->gpu_of[rank] != gpu_number) {
        ++rank;
    }
    return rank;
}

/* Adds to the doubts that `what` is more than 10 % worse than known. */
static void doubt(bench_machine_t *m, const char *what, double measured, double expected,
                  bool worse)
{
    const size_t used = strlen(m->doubts);

    if (worse) {
        snprintf(m->doubts + used, sizeof(m->doubts) - used, "%s%s %.4g, known is %.4g",
                 0 == used ? "" : "; ", what, measured, expected);
    }
}

static void compare_with_known(bench_machine_t *m)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); ++i) {
        if (0 != strcmp(m->gpu, known[i].gpu)) {
            continue;
        }
        m->known = true;
        for (size_t k = 0; k < sizeof(known[i].floor) / sizeof(known[i].floor[0]); ++k) {
            if (known[i].floor[k].gpus == m->gpus && known[i].floor[k].ranks == test.size) {
                doubt(m, "floor", m->floor, known[i].floor[k].us,
                      m->floor > 1.1 * known[i].floor[k].us);
            }
        }
        doubt(m, "link", m->link, known[i].link, m->gpus > 1 && m->link < 0.9 * known[i].link);
        doubt(m, "copy", m->copy, known[i].copy, m->copy < 0.9 * known[i].copy);
    }
}

void bench_measure_machine(bench_machine_t *m)
{
    memset(m, 0, sizeof(*m));
    GPU_OK(gpu.DeviceGetName(m->gpu, sizeof(m->gpu), gpu_in_use()));
    find_gpus(m);
    m->floor_plain = bench_measure_floor(false);
    m->floor_graph = bench_measure_floor(true);
    m->floor = fmin(m->floor_plain, m->floor_graph);
    m->link = m->gpus > 1 ? bench_measure_link(m) : 0;
    m->copy = bench_measure_copy(m);
    compare_with_known(m);
}

double bench_bound(const bench_machine_t *m, size_t bytes)
{
    const double s = (double) bytes, g = m->gpus;
    const double link = m->link > 0 ? 2 * s * (g - 1) / g / (m->link * 1e3) : 0;
    const double memory = m->ranks_per_gpu > 1 ? 2 * m->ranks_per_gpu * s / (m->copy * 1e3) : 0;

    return m->floor + fmax(link, memory);
}
