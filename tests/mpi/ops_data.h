/*
 * 16-bit floats for the test of libcar's operations: values that every rank can compute for all
 * ranks, and what steps must give. Conversions here go by the definition of the formats, and share
 * nothing with the library's.
 */
#ifndef TEST_OPS_DATA_H
#define TEST_OPS_DATA_H

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

#include "data.h"

typedef struct {
    int mantissa_bits, bias;
    uint16_t infinity;
} ops_format_t;

typedef struct {
    const char *name; /* as in CAR_Op_functions */
    const ops_format_t *format;
    data_op_t op;
    int (*create)(MPI_Op *op);
} ops_op_t;

#define OPS 8
extern const ops_op_t ops[OPS];

float ops_float(const ops_format_t *format, uint16_t bits);
uint16_t ops_round(const ops_format_t *format, float value);
bool ops_is_nan(const ops_format_t *format, uint16_t bits);

/* acc op next in float32. */
float ops_step(data_op_t op, float acc, float next);

typedef enum {
    OPS_ANY,     /* all kinds of numbers, NaN among them */
    OPS_NUMBERS, /* the same without NaN */
    OPS_EXACT    /* such that no step rounds, in whatever order, for up to 8 ranks */
} ops_values_t;

uint16_t ops_value(const ops_op_t *op, ops_values_t values, uint64_t seed, int rank,
                   uint64_t index);

/* A fold in the order of the ranks: rounded at every step, or once at the end. */
uint16_t ops_fold(const ops_op_t *op, ops_values_t values, uint64_t seed, int ranks, uint64_t index,
                  bool once);

#endif /* TEST_OPS_DATA_H */
