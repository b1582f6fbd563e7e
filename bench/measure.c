/*
 * One size: barrier, call, time; in rounds, coll/car and the baseline in turns. Data changes every round, the output is
 * poisoned before and compared after, outside of the timed calls.
 */
#include "bench.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 4
#define WARM_UP 5
#define CALLS_MIN 5
#define CALLS_MAX 2000

/* --- data ------------------------------------------------------------------------------------------------------------ */

/* Small whole numbers: sums of 16 of them are exact in every type, and so are products of ones and twos. */
static double value_of(const bench_options_t *o, int rank, size_t i, unsigned seed)
{
    const uint64_t n = test_random(seed * 131u + (unsigned) rank, i);
    return MPI_PROD == o->op ? (double) (1 + n % 2) : (double) (n % 1000);
}

static void put(const bench_options_t *o, void *host, size_t i, double value)
{
    if (MPI_FLOAT == o->type) {
        ((float *) host)[i] = (float) value;
    } else if (MPI_DOUBLE == o->type) {
        ((double *) host)[i] = value;
    } else if (4 == o->element) {
        ((int32_t *) host)[i] = (int32_t) value;
    } else {
        ((int64_t *) host)[i] = (int64_t) value;
    }
}

static double expected(const bench_options_t *o, size_t i, unsigned seed)
{
    double acc = value_of(o, 0, i, seed);
    for (int r = 1; r < test.size; ++r) {
        const double next = value_of(o, r, i, seed);
        if (MPI_SUM == o->op) {
            acc += next;
        } else if (MPI_PROD == o->op) {
            acc *= next;
        } else {
            acc = MPI_MIN == o->op ? fmin(acc, next) : fmax(acc, next);
        }
    }
    return acc;
}

/* Of large messages only so many elements, spread over all of it, are compared each time. */
#define CHECKED ((size_t) 1 << 16)

typedef struct {
    gpu_buffer_t *input, *output; /* `rotate` of each */
    void *host;
    size_t count;
} buffers_t;

static void fill(const bench_options_t *o, buffers_t *b, unsigned seed)
{
    for (size_t i = 0; i < b->count; ++i) {
        put(o, b->host, i, value_of(o, test.rank, i, seed));
    }
    for (int k = 0; k < o->rotate; ++k) {
        gpu_write(o->in_place ? b->output[k].address : b->input[k].address, b->host, b->count * o->element);
    }
    if (!o->in_place) {
        memset(b->host, 0xff, b->count * o->element);
        for (int k = 0; k < o->rotate; ++k) {
            gpu_write(b->output[k].address, b->host, b->count * o->element);
        }
    }
}

static long compare(const bench_options_t *o, buffers_t *b, unsigned seed)
{
    const size_t stride = b->count / CHECKED + 1;
    long wrong = 0;

    gpu_read(b->host, b->output[0].address, b->count * o->element);
    for (size_t i = seed % stride; i < b->count; i += stride) {
        uint64_t right = 0;
        put(o, &right, 0, expected(o, i, seed));
        wrong += 0 != memcmp(&right, (char *) b->host + i * o->element, o->element);
    }
    return wrong;
}

/* --- timing ------------------------------------------------------------------------------------------------------------ */

static double one_call(const bench_options_t *o, buffers_t *b, int turn, MPI_Comm comm)
{
    const int k = turn % o->rotate;
    const void *input = o->in_place ? MPI_IN_PLACE : b->input[k].address;

    MPI_Barrier(MPI_COMM_WORLD);
    const double start = MPI_Wtime();
    MPI_Allreduce(input, b->output[k].address, (int) b->count, o->type, o->op, comm);
    return (MPI_Wtime() - start) * 1e6;
}

typedef struct {
    MPI_Comm comm;
    int calls, room;
    double *times; /* of this rank */
    car_counters_t served;
} series_t;

/* Calls per round, so that all rounds take about o->seconds; the same on all ranks. */
static int calls_per_round(const bench_options_t *o, buffers_t *b, series_t *s)
{
    int calls = o->iterations / ROUNDS;
    double time = 0;

    for (int i = 0; i < WARM_UP; ++i) {
        time = one_call(o, b, i, s->comm);
    }
    if (0 == o->iterations) {
        calls = (int) (o->seconds * 1e6 / ROUNDS / (time + 5));
    }
    calls = calls < CALLS_MIN ? CALLS_MIN : calls > CALLS_MAX ? CALLS_MAX : calls;
    MPI_Bcast(&calls, 1, MPI_INT, 0, MPI_COMM_WORLD);
    s->room = calls * ROUNDS;
    s->times = malloc((size_t) s->room * sizeof(double));
    return calls;
}

static long one_round(const bench_options_t *o, buffers_t *b, series_t *s, int calls, unsigned seed)
{
    const car_counters_t before = test_counters();
    long wrong = 0;

    /* In place, every call reduces what the last left: only a single call can be compared with anything. */
    if (o->check) {
        fill(o, b, seed);
        (void) one_call(o, b, 0, s->comm);
        wrong = compare(o, b, seed);
    }
    for (int i = 0; i < calls; ++i) {
        s->times[s->calls++] = one_call(o, b, i, s->comm);
    }
    if (o->check && !o->in_place) {
        wrong += compare(o, b, seed);
    }
    const car_counters_t since = test_since(&before);
    s->served.calls_one_shot_push += since.calls_one_shot_push;
    s->served.calls_one_shot_pull += since.calls_one_shot_pull;
    s->served.calls_two_shot += since.calls_two_shot;
    return wrong;
}

static const char *algorithm_of(const car_counters_t *c)
{
    const int kinds = (c->calls_one_shot_push > 0) + (c->calls_one_shot_pull > 0) + (c->calls_two_shot > 0);

    if (0 == kinds) {
        return "old path";
    }
    if (kinds > 1) {
        return "mixed";
    }
    return c->calls_one_shot_push > 0 ? "one_shot_push" : c->calls_one_shot_pull > 0 ? "one_shot_pull" : "two_shot";
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

double bench_p99(double *numbers, int n)
{
    qsort(numbers, (size_t) n, sizeof(double), ascending);
    return numbers[n - 1 - n / 100];
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
        t->mean = 0;
        for (int i = 0; i < s->calls; ++i) {
            sums[i] /= test.size;
            t->mean += sums[i] / s->calls;
        }
        t->median = bench_median(sums, s->calls);
        t->p99 = bench_p99(sums, s->calls);
    }
    t->measured = true;
    t->calls = s->calls;
    t->algorithm = algorithm_of(&s->served);
    free(sums);
    free(s->times);
}

void bench_measure_size(const bench_options_t *o, MPI_Comm other, size_t bytes, bench_row_t *row)
{
    buffers_t b = {.count = bytes / o->element};
    series_t car = {.comm = MPI_COMM_WORLD}, baseline = {.comm = other};
    const bool both = MPI_COMM_NULL != other && bytes <= o->baseline_max;
    long wrong = 0;

    b.host = malloc(bytes);
    b.input = malloc((size_t) o->rotate * sizeof(gpu_buffer_t));
    b.output = malloc((size_t) o->rotate * sizeof(gpu_buffer_t));
    for (int k = 0; k < o->rotate; ++k) {
        b.input[k] = gpu_allocate(o->memory, bytes);
        b.output[k] = gpu_allocate(o->memory, bytes);
    }
    fill(o, &b, 0);
    const int calls = calls_per_round(o, &b, &car);
    const int baseline_calls = both ? calls_per_round(o, &b, &baseline) : 0;
    for (unsigned round = 1; round <= ROUNDS; ++round) {
        wrong += one_round(o, &b, &car, calls, 2 * round);
        if (both) {
            wrong += one_round(o, &b, &baseline, baseline_calls, 2 * round + 1);
        }
    }
    memset(row, 0, sizeof(*row));
    row->bytes = b.count * o->element;
    MPI_Allreduce(&wrong, &row->wrong, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    evaluate(&car, &row->car);
    if (both) {
        evaluate(&baseline, &row->baseline);
    }
    for (int k = 0; k < o->rotate; ++k) {
        gpu_free(&b.input[k]);
        gpu_free(&b.output[k]);
    }
    free(b.input);
    free(b.output);
    free(b.host);
}
