/*
 * One size: barrier, call, time; in rounds, all ways in turns. Data changes every round, the output
 * is poisoned before and compared after, outside of the timed calls.
 */
#include "bench.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 4
#define WARM_UP 5
#define CALLS_MIN 5
#define CALLS_MAX 2000

typedef struct {
    bench_call_t call;
    int calls, per_round;
    double *times;             /* of this rank, us */
    double phases[BENCH_PHASES]; /* of this rank, ns */
    car_counters_t served;
} series_t;

static double one_call(series_t *s, int turn)
{
    MPI_Barrier(MPI_COMM_WORLD);
    const double start = MPI_Wtime();
    bench_call_do(&s->call, turn);
    return (MPI_Wtime() - start) * 1e6;
}

/*
 * Warms up, and decides on a number of calls, the same on all ranks, so that all rounds take about
 * o->seconds.
 */
static void prepare(const bench_options_t *o, series_t *s)
{
    double time = 0;

    for (int i = 0; i < WARM_UP; ++i) {
        time = one_call(s, i);
    }
    s->per_round = 0 < o->iterations
                       ? (o->iterations + ROUNDS - 1) / ROUNDS
                       : bench_calls_for(o->seconds / ROUNDS, time, CALLS_MIN, CALLS_MAX);
    s->times = malloc((size_t) s->per_round * ROUNDS * sizeof(double));
}

/* The timed calls of a round. */
static void time_calls(series_t *s)
{
    double phases_before[BENCH_PHASES], phases[BENCH_PHASES];
    const car_counters_t before = test_counters();

    bench_phases_read(phases_before);
    for (int i = 0; i < s->per_round; ++i) {
        s->times[s->calls++] = one_call(s, i);
    }
    bench_phases_read(phases);
    for (int i = 0; i < BENCH_PHASES; ++i) {
        s->phases[i] += phases[i] - phases_before[i];
    }
    const car_counters_t since = test_since(&before);
    s->served.calls_one_shot_push += since.calls_one_shot_push;
    s->served.calls_two_shot_push += since.calls_two_shot_push;
    s->served.calls_one_shot_pull += since.calls_one_shot_pull;
    s->served.calls_two_shot += since.calls_two_shot;
    s->served.calls_zero_copy += since.calls_zero_copy;
    s->served.calls_two_phase += since.calls_two_phase;
    s->served.calls_host_small += since.calls_host_small;
}

static long one_round(const bench_options_t *o, bench_buffers_t *b, series_t *s, bool check,
                      unsigned seed)
{
    long wrong = 0;

    /*
     * In place, every call reduces what the last left: only a first call can be compared with
     * anything.
     */
    if (check) {
        bench_fill(o, b, seed);
        (void) one_call(s, 0);
        wrong = bench_compare(o, b, 0, seed);
    }
    time_calls(s);
    if (check && !o->in_place) {
        wrong += bench_compare(o, b, s->per_round - 1, seed);
    }
    return wrong;
}

/* --- figures ---------------------------------------------------------------------------------- */

static const char *algorithm_of(const series_t *s)
{
    const car_counters_t *c = &s->served;
    const unsigned long long calls = (unsigned long long) s->calls;

    if (BENCH_REFERENCE == s->call.way || BENCH_NCCL == s->call.way) {
        return bench_way_name(s->call.way);
    }
    return calls == c->calls_host_small      ? "shared_memory"
           : 0 == test_served(c)             ? "old path"
           : calls == c->calls_one_shot_push ? "one_shot_push"
           : calls == c->calls_two_shot_push ? "two_shot_push"
           : calls == c->calls_one_shot_pull ? "one_shot_pull"
           : calls == c->calls_two_shot      ? "two_shot"
           : calls == c->calls_zero_copy     ? "zero_copy"
           : calls == c->calls_two_phase     ? "two_phase"
                                             : "mixed";
}

static void evaluate(series_t *s, bench_times_t *t)
{
    double *sums = malloc((size_t) s->calls * sizeof(double)), own = 0;

    for (int i = 0; i < s->calls; ++i) {
        own += s->times[i] / s->calls;
    }
    MPI_Reduce(s->times, sums, s->calls, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    MPI_Reduce(&own, &t->min_rank, 1, MPI_DOUBLE, MPI_MIN, 0, MPI_COMM_WORLD);
    MPI_Reduce(&own, &t->max_rank, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    MPI_Reduce(s->phases, t->phases, BENCH_PHASES, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    if (0 == test.rank) {
        for (int i = 0; i < s->calls; ++i) {
            sums[i] /= test.size;
            t->mean += sums[i] / s->calls;
        }
        t->median = bench_median(sums, s->calls); /* sorts */
        t->p99 = sums[s->calls - 1 - s->calls / 100];
    }
    for (int i = 0; i < BENCH_PHASES; ++i) {
        t->phases[i] *= 1e-3 / s->calls / test.size;
    }
    t->measured = true;
    t->calls = s->calls;
    t->algorithm = algorithm_of(s);
    free(sums);
    free(s->times);
}

static bool is_wanted(const bench_options_t *o, const bench_peers_t *peers, bench_way_t way,
                      size_t bytes)
{
    switch (way) {
    case BENCH_BASELINE:
        return MPI_COMM_NULL != peers->baseline && bytes <= o->baseline_max;
    case BENCH_REFERENCE:
        return NULL != peers->reference;
    case BENCH_NCCL:
        return NULL != peers->nccl;
    default:
        return o->wanted[way];
    }
}

void bench_measure_size(const bench_options_t *o, const bench_peers_t *peers, size_t bytes,
                        bench_row_t *row)
{
    bench_buffers_t b;
    series_t series[BENCH_WAYS] = {0};
    long wrong = 0;
    unsigned seed = 0;
    int n = 0;

    memset(row, 0, sizeof(*row));
    row->checked = bytes <= o->check_max;
    bench_buffers_new(o, &b, bytes);
    bench_fill(o, &b, seed);
    for (bench_way_t way = 0; way < BENCH_WAYS; ++way) {
        if (is_wanted(o, peers, way, bytes)) {
            bench_call_new(&series[n].call, way, o, peers, &b);
            prepare(o, &series[n++]);
        }
    }
    for (int i = 0; i < ROUNDS * n; ++i) {
        wrong += one_round(o, &b, &series[i % n], row->checked, ++seed);
    }
    row->bytes = b.count * o->type->bytes;
    MPI_Allreduce(&wrong, &row->wrong, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    for (int i = 0; i < n; ++i) {
        evaluate(&series[i], &row->times[series[i].call.way]);
        bench_call_free(&series[i].call);
    }
    if (o->overlap) {
        bench_measure_overlap(o, peers, &b, &row->overlap);
    }
    bench_buffers_free(o, &b);
}
