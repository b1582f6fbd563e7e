/*
 * Operands and expected results: values that every rank can compute for all ranks, and a fold on the host in rank order.
 */
#ifndef TEST_DATA_H
#define TEST_DATA_H

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { DATA_I32, DATA_U32, DATA_I64, DATA_U64, DATA_F32, DATA_F64 } data_element_t;

typedef struct {
    const char *name; /* also the word for it on the command line */
    MPI_Datatype type;
    data_element_t element;
    size_t bytes;
} data_type_t;

#define DATA_TYPES 11
extern const data_type_t data_types[DATA_TYPES];

typedef enum { DATA_SUM, DATA_PROD, DATA_MIN, DATA_MAX, DATA_OPS } data_op_t;
MPI_Op data_mpi_op(data_op_t op);
const char *data_op_name(data_op_t op);

/*
 * Elements [first, first + count) of what rank `rank` passes in. Floats: mostly plain numbers; one element in 16 is NaN,
 * infinite, a signed zero, denormal or large enough to overflow on some ranks. Integers wrap.
 */
void data_fill(void *to, const data_type_t *type, uint64_t seed, int rank, uint64_t first, uint64_t count);

/* What all ranks must get: acc = acc op next from rank 0 on; `scratch` has room for `count` elements. */
void data_expect(void *to, void *scratch, const data_type_t *type, data_op_t op, uint64_t seed, int size, uint64_t first,
                 uint64_t count);

/* Bit for bit, but any NaN equals any NaN; the first index where they differ, or `count`. */
uint64_t data_differ(const void *a, const void *b, const data_type_t *type, uint64_t count);
/* Element `index` as text. */
const char *data_text(const void *data, const data_type_t *type, uint64_t index, char text[40]);

/* Carries a digest on over these elements, with all NaN as one. */
uint64_t data_digest(uint64_t digest, const void *data, const data_type_t *type, uint64_t count);

#endif /* TEST_DATA_H */
