/* What goes into the buffers and what must come out. */
#include "bench.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Of large messages only so many elements, spread over all of it, are compared each time. */
#define COMPARED ((size_t) 1 << 16)

/*
 * Operands repeat after so many elements, which spares time: a prime, as what goes wrong is off by
 * rounder numbers.
 */
#define PERIOD ((size_t) 65521)

/* The largest element has 32 bytes. */
typedef struct {
    _Alignas(32) char bytes[32];
} element_t;

const data_type_t *bench_find_type(const char *name)
{
    for (size_t i = 0; i < DATA_TYPES; ++i) {
        if (0 == strcmp(name, data_types[i].name)
            || 0 == strcasecmp(name, data_types[i].mpi_name)) {
            return &data_types[i];
        }
    }
    return NULL;
}

data_op_t bench_find_op(const char *name)
{
    const char *word = 0 == strncasecmp(name, "MPI_", 4) ? name + 4 : name;
    int op = 0;

    while (op < DATA_OPS && 0 != strcasecmp(word, data_op_name((data_op_t) op))) {
        ++op;
    }
    return (data_op_t) op;
}

/*
 * Small whole numbers, chosen so that the result is exact in whatever order ranks are folded, and
 * no integer overflows: Open MPI's own loops saturate some of them. Sums of 16 operands stay below
 * 128 in 8 bits and below 2048 in binary16.
 */
static unsigned operand(data_element_t element, data_op_t op, int rank, uint32_t n)
{
    const bool tiny = DATA_I8 == element || DATA_U8 == element,
               half = DATA_F16 == element || DATA_C16 == element;

    switch (op) {
    case DATA_PROD:
        return rank < 6 && n % 2 ? 2 : 1;
    case DATA_LAND:
        return 0 != n % 8;
    case DATA_LOR:
        return 0 == n % 8;
    case DATA_LXOR:
        return n % 2;
    default:
        return n % (tiny ? 8 : half ? 64 : 1000);
    }
}

/* Element i of a rank's operand, in that form, which may be wider than the type's own. */
static void put(const bench_options_t *o, data_element_t element, void *to, int rank, size_t i,
                unsigned seed)
{
    const uint64_t n = test_random(seed * 131u + (unsigned) rank, i % PERIOD);
    const unsigned v = operand(o->type->element, o->op, rank, (uint32_t) n);
    const unsigned w =
        DATA_PROD == o->op ? 0 : operand(o->type->element, o->op, rank, (uint32_t) (n >> 32));

    if (DATA_BAND == o->op || DATA_BOR == o->op || DATA_BXOR == o->op) {
        memcpy(to, &n, o->type->bytes);
        return;
    }
    switch (element) {
#define NUMBER(name, T) case DATA_##name: *(T *) to = (T) v; break;
#define TWO(name, T, V, W) case DATA_##name: *(T *) to = (T){(V) v, (W) w}; break;
        NUMBER(I8, int8_t)
        NUMBER(U8, uint8_t) NUMBER(I16, int16_t) NUMBER(U16, uint16_t) NUMBER(I32, int32_t)
            NUMBER(U32, uint32_t) NUMBER(I64, int64_t) NUMBER(U64, uint64_t) NUMBER(BOOL, _Bool)
                NUMBER(F32, float) NUMBER(F64, double) NUMBER(F80, long double)
                    TWO(C32, data_c32_t, float, float) TWO(C64, data_c64_t, double, double)
                        TWO(C80, data_c80_t, long double, long double)
                            TWO(F32_I32, data_f32_i32_t, float, int32_t)
                                TWO(F64_I32, data_f64_i32_t, double, int32_t)
                                    TWO(I64_I32, data_i64_i32_t, int64_t, int32_t)
                                        TWO(I32_I32, data_i32_i32_t, int32_t, int32_t)
                                            TWO(I16_I32, data_i16_i32_t, int16_t, int32_t)
                                                TWO(F80_I32, data_f80_i32_t, long double, int32_t)
                                                    TWO(F32_F32, data_f32_f32_t, float, float)
                                                        TWO(F64_F64, data_f64_f64_t, double, double)
#undef NUMBER
#undef TWO
                                                            case DATA_F16
            : *(data_half_t *) to = data_to_half((float) v);
        break;
    case DATA_C16:
        *(data_c16_t *) to = (data_c16_t){data_to_half((float) v), data_to_half((float) w)};
        break;
    default:
        abort();
    }
}

/* 16-bit floats are folded as 32-bit ones, in which the same small numbers are exact, too. */
static void expect(const bench_options_t *o, void *to, size_t i, unsigned seed)
{
    const data_element_t element = o->type->element;
    const data_element_t wide = DATA_F16 == element   ? DATA_F32
                                : DATA_C16 == element ? DATA_C32
                                                      : element;
    element_t acc, next;

    put(o, wide, &acc, 0, i, seed);
    for (int r = 1; r < test.size; ++r) {
        put(o, wide, &next, r, i, seed);
        data_fold(&acc, &next, wide, o->op, 1);
    }
    if (DATA_F16 == element) {
        *(data_half_t *) to = data_to_half(*(const float *) &acc);
    } else if (DATA_C16 == element) {
        const data_c32_t *c = (const data_c32_t *) &acc;
        *(data_c16_t *) to = (data_c16_t){data_to_half(c->re), data_to_half(c->im)};
    } else {
        memcpy(to, &acc, o->type->bytes);
    }
}

void bench_buffers_new(const bench_options_t *o, bench_buffers_t *b, size_t bytes)
{
    b->count = bytes / o->type->bytes;
    b->host = calloc(1, bytes);
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

/* This rank's operand, of which only the first period is computed. */
static void compute(const bench_options_t *o, bench_buffers_t *b, unsigned seed)
{
    const size_t bytes = b->count * o->type->bytes, period = PERIOD * o->type->bytes;
    char *host = b->host;

    for (size_t i = 0; i < b->count && i < PERIOD; ++i) {
        put(o, o->type->element, host + i * o->type->bytes, test.rank, i, seed);
    }
    for (size_t done = period; done < bytes; done += period) {
        memcpy(host + done, host, bytes - done < period ? bytes - done : period);
    }
}

void bench_fill(const bench_options_t *o, bench_buffers_t *b, unsigned seed)
{
    const size_t bytes = b->count * o->type->bytes;

    compute(o, b, seed);
    for (int k = 0; k < o->rotate; ++k) {
        gpu_write(o->in_place ? b->output[k].address : b->input[k].address, b->host, bytes);
    }
    if (!o->in_place) {
        memset(b->host, 0xff, bytes);
        for (int k = 0; k < o->rotate; ++k) {
            gpu_write(b->output[k].address, b->host, bytes);
        }
    }
}

long bench_compare(const bench_options_t *o, bench_buffers_t *b, int turn, unsigned seed)
{
    const size_t stride = b->count / COMPARED + 1;
    long wrong = 0;

    gpu_read(b->host, b->output[turn % o->rotate].address, b->count * o->type->bytes);
    for (size_t i = seed % stride; i < b->count; i += stride) {
        element_t right;
        expect(o, &right, i, seed);
        wrong += 0 == data_differ(&right, (char *) b->host + i * o->type->bytes, o->type, 1);
    }
    return wrong;
}
