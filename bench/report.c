#include "bench.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/*
 * The kernel module's version, of which the driver API tells nothing; it stands as the first number
 * with a point.
 */
static void find_driver(char *text, size_t size)
{
    FILE *f = fopen("/proc/driver/nvidia/version", "r");
    char line[256] = "";
    int cuda = 0;

    if (gpu_in_use() >= 0) {
        (void) gpu.DriverGetVersion(&cuda);
    }
    if (NULL != f) {
        (void) !fgets(line, sizeof(line), f);
        fclose(f);
    }
    const char *version = strtok(line, " \t\n");
    while (NULL != version
           && (NULL == strchr("0123456789", *version) || NULL == strchr(version, '.'))) {
        version = strtok(NULL, " \t\n");
    }
    snprintf(text, size, "%s%sCUDA %d.%d%s", NULL == version ? "" : version,
             NULL == version ? "for " : " (", cuda / 1000, cuda % 1000 / 10,
             NULL == version ? "" : ")");
}

void bench_find_origin(bench_origin_t *origin)
{
    char library[MPI_MAX_LIBRARY_VERSION_STRING];
    const time_t now = time(NULL);
    int length;

    strftime(origin->date, sizeof(origin->date), "%Y-%m-%d %H:%M", localtime(&now));
    MPI_Get_library_version(library, &length);
    library[strcspn(library, ",\n")] = '\0';
    snprintf(origin->library, sizeof(origin->library), "%.120s", library);
    find_driver(origin->driver, sizeof(origin->driver));
}

static void say_machine(const bench_machine_t *m)
{
    if (0 == m->gpus) {
        printf("# no GPU is touched: no floor and no bound\n");
        return;
    }
    printf("# floor %.2f us (plain launch %.2f, graph %.2f); ", m->floor, m->floor_plain,
           m->floor_graph);
    if (m->link > 0) {
        printf("link %.0f GB/s each way, both at once; ", m->link);
    }
    printf("copy %.0f GB/s read plus written\n", m->copy);
    printf("# bound(S) = floor + %s\n",
           1 == m->ranks_per_gpu ? "2 S (N-1)/N / link"
           : 1 == m->gpus
               ? "2 N S / copy"
               : "the larger of 2 S (GPUs-1)/GPUs / link and 2 S (ranks on a GPU) / copy");
    if (m->parts.measured) {
        printf("# parts: the least kernel that exchanges a packet with all, launched and heard of, "
               "%.2f us (slowest rank %.2f); "
               "%.2f for each exchange more; the floor's slowest rank %.2f; a bell and its answer "
               "%.2f, a look at the bell %.2f\n",
               m->parts.exchange, m->parts.exchange_slowest, m->parts.hop, m->parts.floor_slowest,
               m->parts.doorbell, m->parts.look);
    }
    if (gpu_simulated()) {
        printf("# SIMULATED GPUs: the times mean nothing\n");
    } else if (!m->known) {
        printf("# no floor or bandwidth is known of this GPU to compare with\n");
    } else if ('\0' != m->doubts[0]) {
        printf("# THIS RUN DOES NOT COUNT, something is more than 10 %% worse than known of this "
               "GPU: %s\n",
               m->doubts);
    }
}

static void say_missing(const bench_peers_t *peers, const char *const missing[BENCH_WAYS])
{
    for (bench_way_t way = 0; way < BENCH_WAYS; ++way) {
        if (NULL != missing[way]) {
            printf("# no %s: %s\n", bench_way_name(way), missing[way]);
        }
    }
    if (NULL != peers->nccl) {
        const int version = bench_nccl_version(peers->nccl);
        printf("# NCCL %d.%d.%d, NVLink multicast off\n", version / 10000, version / 100 % 100,
               version % 100);
    }
}

/* Whether a way has columns of its own in the table, beside the one that the table is about. */
static bool is_peer(const bench_options_t *o, bench_way_t way)
{
    return o->wanted[way] && way != o->main;
}

void bench_report_head(const bench_options_t *o, const bench_machine_t *m,
                       const bench_peers_t *peers, const char *const missing[BENCH_WAYS])
{
    bench_origin_t from;

    bench_find_origin(&from);
    printf("# car_bench, %s: %s\n", from.date, o->command);
    printf("# %d ranks on %d GPU%s (%s), up to %d on one; driver %s; %s; coll/car %s\n", test.size,
           m->gpus, 1 == m->gpus ? "" : "s", m->gpu, m->ranks_per_gpu, from.driver, from.library,
           test.counted ? "loaded" : "not loaded");
    printf("# %s %s, %s buffers%s, %d pair%s of them in turn; results %s; %s calls\n",
           o->type->mpi_name, data_op_name(o->op), gpu_kind_name(o->memory),
           o->in_place ? ", in place" : "", o->rotate, 1 == o->rotate ? "" : "s",
           0 == o->check_max ? "not checked" : "checked", bench_way_name(o->main));
    say_machine(m);
    say_missing(peers, missing);
    printf("#%11s %-14s %9s %9s %10s %9s", "bytes", "algorithm", "median us", "mean", "slowest rk",
           "p99");
    for (bench_way_t way = 0; way < BENCH_WAYS; ++way) {
        if (is_peer(o, way)) {
            printf(" %11s %7s", bench_way_name(way), "ratio");
        }
    }
    printf(" %9s %7s", "bound", "ratio");
    for (int i = 0; i < BENCH_PHASES; ++i) {
        if (o->phases && bench_phase_known(i)) {
            printf(" %7s", bench_phase_name(i));
        }
    }
    printf("%s\n", o->overlap ? "  hidden behind host  GPU" : "");
    fflush(stdout);
}

/* A peer's median, and how many times ours it is. */
static void say_peer(const bench_times_t *peer, const bench_times_t *ours)
{
    if (peer->measured) {
        printf(" %11.2f %7.2f", peer->median, peer->median / ours->median);
    } else {
        printf(" %11s %7s", "-", "-");
    }
}

void bench_report_row(const bench_options_t *o, const bench_machine_t *m, const bench_row_t *r)
{
    const bench_times_t *ours = &r->times[o->main];
    const double bound = bench_bound(m, r->bytes);

    printf("%12zu %-14s %9.2f %9.2f %10.2f %9.2f", r->bytes, ours->algorithm, ours->median,
           ours->mean, ours->max_rank, ours->p99);
    for (bench_way_t way = 0; way < BENCH_WAYS; ++way) {
        if (is_peer(o, way)) {
            say_peer(&r->times[way], ours);
        }
    }
    if (bound > 0) {
        printf(" %9.2f %7.2f", bound, ours->median / bound);
    } else {
        printf(" %9s %7s", "-", "-");
    }
    for (int i = 0; i < BENCH_PHASES; ++i) {
        if (o->phases && bench_phase_known(i)) {
            printf(" %7.2f", ours->phases[i]);
        }
    }
    if (r->overlap.measured) {
        printf(" %17.0f %% %3.0f %%", r->overlap.host, r->overlap.gpu);
    }
    printf("%s\n", r->wrong > 0 ? "  WRONG" : r->checked ? "" : "  not checked");
    fflush(stdout);
}
