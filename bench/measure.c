/*
 * One size: barrier, call, time; in rounds, all implementations in turns. Data changes every round, the output is poisoned
 * before and compared after, outside of the timed calls.
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
    MPI_Comm comm;                /* or MPI_COMM_NULL: */
    bench_reference_t *reference;
    int calls, per_round;
    double *times; /* of this rank */
    car_counters_t served;
} series_t;

static double one_call(const bench_options_t *o, bench_buffers_t *b, int turn, series_t *s)
{
    void *output = b->output[turn % o->rotate].address;
    const void *input = o->in_place ? MPI_IN_PLACE : b->input[turn % o->rotate].address;

    MPI_Barrier(MPI_COMM_WORLD);
    const double start = MPI_Wtime();
    if (MPI_COMM_NULL == s->comm) {
        bench_reference_allreduce(s->reference, o->in_place ? output : input, output, b->count);
    } else {
        MPI_Allreduce(input, output, (int) b->count, o->type, o->op, s->comm);
    }
    return (MPI_Wtime() - start) * 1e6;
}

/* Warms up, and decides on a number of calls, the same on all ranks, so that all rounds take about o->seconds. */
static void prepare(const bench_options_t *o, bench_buffers_t *b, series_t *s)
{
    int calls = (o->iterations + ROUNDS - 1) / ROUNDS;
    double time = 0;

    for (int i = 0; i < WARM_UP; ++i) {
        time = one_call(o, b, i, s);
    }
    if (0 == o->iterations) {
        const double wanted = o->seconds * 1e6 / ROUNDS / (time + 5);
        calls = wanted < CALLS_MIN ? CALLS_MIN : wanted > CALLS_MAX ? CALLS_MAX : (int) wanted;
    }
    MPI_Bcast(&calls, 1, MPI_INT, 0, MPI_COMM_WORLD);
    s->per_round = calls;
    s->times = malloc((size_t) calls * ROUNDS * sizeof(double));
}

static long one_round(const bench_options_t *o, bench_buffers_t *b, series_t *s, unsigned seed)
{
    long wrong = 0;

    /* In place, every call reduces what the last left: only a first call can be compared with anything. */
    if (o->check) {
        bench_fill(o, b, seed);
        (void) one_call(o, b, 0, s);
        wrong = bench_compare(o, b, 0, seed);
    }
    const car_counters_t before = test_counters();
    for (int i = 0; i < s->per_round; ++i) {
        s->times[s->calls++] = one_call(o, b, i, s);
    }
    const car_counters_t since = test_since(&before);
    s->served.calls_one_shot_push += since.calls_one_shot_push;
    s->served.calls_one_shot_pull += since.calls_one_shot_pull;
    s->served.calls_two_shot += since.calls_two_shot;
    s->served.calls_host_small += since.calls_host_small;
    if (o->check && !o->in_place) {
        wrong += bench_compare(o, b, s->per_round - 1, seed);
    }
    return wrong;
}

/* --- figures --------------------------------------------------------------------------------------------------------- */

static const char *algorithm_of(const series_t *s)
{
    const car_counters_t *c = &s->served;
    const unsigned long long calls = (unsigned long long) s->calls;

    return calls == c->calls_host_small      ? "shared_memory"
           : 0 == test_served(c)             ? "old path"
           : calls == c->calls_one_shot_push ? "one_shot_push"
           : calls == c->calls_one_shot_pull ? "one_shot_pull"
           : calls == c->calls_two_shot      ? "two_shot"
                                             : "mixed";
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

double bench_median(double *numbers, int n)
{
    qsort(numbers, (size_t) n, sizeof(double), ascending);
    return n % 2 ? numbers[n / 2] : (numbers[n / 2 - 1] + numbers[n / 2]) / 2;
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
    if (0 == test.rank) {
        for (int i = 0; i < s->calls; ++i) {
            sums[i] /= test.size;
            t->mean += sums[i] / s->calls;
        }
        t->median = bench_median(sums, s->calls); /* sorts */
        t->p99 = sums[s->calls - 1 - s->calls / 100];
    }
    t->measured = true;
    t->calls = s->calls;
    t->algorithm = MPI_COMM_NULL == s->comm ? "reference" : algorithm_of(s);
    free(sums);
    free(s->times);
}

void bench_measure_size(const bench_options_t *o, const bench_peers_t *peers, size_t bytes, bench_row_t *row)
{
    bench_buffers_t b;
    series_t series[BENCH_IMPLEMENTATIONS] = {
        [BENCH_CAR] = {.comm = MPI_COMM_WORLD},
        [BENCH_BASELINE] = {.comm = peers->baseline},
        [BENCH_REFERENCE] = {.comm = MPI_COMM_NULL, .reference = peers->reference},
    };
    const bool wanted[BENCH_IMPLEMENTATIONS] = {
        [BENCH_CAR] = true,
        [BENCH_BASELINE] = MPI_COMM_NULL != peers->baseline && bytes <= o->baseline_max,
        [BENCH_REFERENCE] = NULL != peers->reference,
    };
    long wrong = 0;
    unsigned seed = 0;

    bench_buffers_new(o, &b, bytes);
    bench_fill(o, &b, seed);
    for (int i = 0; i < BENCH_IMPLEMENTATIONS; ++i) {
        if (wanted[i]) {
            prepare(o, &b, &series[i]);
        }
    }
    for (int i = 0; i < ROUNDS * BENCH_IMPLEMENTATIONS; ++i) {
        if (wanted[i % BENCH_IMPLEMENTATIONS]) {
            wrong += one_round(o, &b, &series[i % BENCH_IMPLEMENTATIONS], ++seed);
        }
    }
    memset(row, 0, sizeof(*row));
    row->bytes = b.count * o->element;
    MPI_Allreduce(&wrong, &row->wrong, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    for (int i = 0; i < BENCH_IMPLEMENTATIONS; ++i) {
        if (wanted[i]) {
            evaluate(&series[i], &row->times[i]);
        }
    }
    bench_buffers_free(o, &b);
}
