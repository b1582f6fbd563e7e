/* What goes into the buffers and what must come out. */
#include "bench.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Of large messages only so many elements, spread over all of it, are compared each time. */
#define COMPARED ((size_t) 1 << 16)

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

void bench_buffers_new(const bench_options_t *o, bench_buffers_t *b, size_t bytes)
{
    b->count = bytes / o->element;
    b->host = malloc(bytes);
    b->input = malloc((size_t) o->rotate * sizeof(gpu_buffer_t));
    b->output = malloc((size_t) o->rotate * sizeof(gpu_buffer_t));
    for (int k = 0; k < o->rotate; ++k) {
        b->input[k] = gpu_allocate(o->memory, bytes);
        b->output[k] = gpu_allocate(o->memory, bytes);
    }
}

void bench_buffers_free(const bench_options_t *o, bench_buffers_t *b)
{
    for (int k = 0; k < o->rotate; ++k) {
        gpu_free(&b->input[k]);
        gpu_free(&b->output[k]);
    }
    free(b->input);
    free(b->output);
    free(b->host);
}

void bench_fill(const bench_options_t *o, bench_buffers_t *b, unsigned seed)
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

long bench_compare(const bench_options_t *o, bench_buffers_t *b, int turn, unsigned seed)
{
    const size_t stride = b->count / COMPARED + 1;
    long wrong = 0;

    gpu_read(b->host, b->output[turn % o->rotate].address, b->count * o->element);
    for (size_t i = seed % stride; i < b->count; i += stride) {
        uint64_t right = 0;
        put(o, &right, 0, expected(o, i, seed));
        wrong += 0 != memcmp(&right, (char *) b->host + i * o->element, o->element);
    }
    return wrong;
}
