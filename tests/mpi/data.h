/*
 * Types, operations, operands and expected results: values that every rank can compute for all
 * ranks, and a fold on the host in rank order. The arithmetic here is a second opinion: it calls
 * neither MPI nor anything of the component's.
 */
#ifndef TEST_DATA_H
#define TEST_DATA_H

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What an element is: X(name, C type). I, U: integers; F: floats, F80 the x87 one in 16 bytes; C:
 * complex, named by the bits of a part; then the pairs of MPI_MINLOC and MPI_MAXLOC, value and
 * index.
 */
#define DATA_ELEMENTS_OF(X)                                                                        \
    X(I32, int32_t)                                                                                \
    X(U32, uint32_t)                                                                               \
    X(I64, int64_t)                                                                                \
    X(U64, uint64_t)                                                                               \
    X(F32, float)                                                                                  \
    X(F64, double)                                                                                 \
    X(I8, int8_t)                                                                                  \
    X(U8, uint8_t)                                                                                 \
    X(I16, int16_t)                                                                                \
    X(U16, uint16_t)                                                                               \
    X(BOOL, _Bool)                                                                                 \
    X(F16, data_half_t)                                                                            \
    X(F80, long double)                                                                            \
    X(C16, data_c16_t)                                                                             \
    X(C32, data_c32_t)                                                                             \
    X(C64, data_c64_t)                                                                             \
    X(C80, data_c80_t)                                                                             \
    X(F32_I32, data_f32_i32_t)                                                                     \
    X(F64_I32, data_f64_i32_t)                                                                     \
    X(I64_I32, data_i64_i32_t)                                                                     \
    X(I32_I32, data_i32_i32_t)                                                                     \
    X(I16_I32, data_i16_i32_t)                                                                     \
    X(F80_I32, data_f80_i32_t)                                                                     \
    X(F32_F32, data_f32_f32_t)                                                                     \
    X(F64_F64, data_f64_f64_t)

/* IEEE binary16 as its bits: not every compiler has a type for it. */
typedef uint16_t data_half_t;

#define DATA_COMPLEX(name, T)                                                                      \
    typedef struct {                                                                               \
        T re, im;                                                                                  \
    } name;
#define DATA_PAIR(name, V, K)                                                                      \
    typedef struct {                                                                               \
        V v;                                                                                       \
        K k;                                                                                       \
    } name;
DATA_COMPLEX(data_c16_t, data_half_t)
DATA_COMPLEX(data_c32_t, float)
DATA_COMPLEX(data_c64_t, double)
DATA_COMPLEX(data_c80_t, long double)
DATA_PAIR(data_f32_i32_t, float, int32_t)
DATA_PAIR(data_f64_i32_t, double, int32_t)
DATA_PAIR(data_i64_i32_t, int64_t, int32_t)
DATA_PAIR(data_i32_i32_t, int32_t, int32_t)
DATA_PAIR(data_i16_i32_t, int16_t, int32_t)
DATA_PAIR(data_f80_i32_t, long double, int32_t)
DATA_PAIR(data_f32_f32_t, float, float)
DATA_PAIR(data_f64_f64_t, double, double)

typedef enum {
#define DATA_ELEMENT(name, T) DATA_##name,
    DATA_ELEMENTS_OF(DATA_ELEMENT)
#undef DATA_ELEMENT
    DATA_ELEMENTS
} data_element_t;

/* Groups of MPI 4.1, section 6.9.2; operations are defined on groups. */
typedef enum {
    DATA_C_INTEGER,
    DATA_FORTRAN_INTEGER,
    DATA_FLOATING_POINT,
    DATA_LOGICAL,
    DATA_COMPLEX_NUMBER,
    DATA_RAW_BYTE,
    DATA_MULTI_LANGUAGE,
    DATA_LOCATED
} data_group_t;

typedef struct {
    const char *name;     /* also the word for it on the command line */
    const char *mpi_name; /* as "MPI_INT" */
    MPI_Datatype type;    /* MPI_DATATYPE_NULL where this Open MPI has no such handle */
    data_element_t element;
    size_t bytes; /* from one element to the next */
    size_t align; /* any address that is a multiple of it is allowed */
    data_group_t group;
} data_type_t;

/* The first six are DATA_I32 to DATA_F64. */
#define DATA_TYPES 63
extern const data_type_t data_types[DATA_TYPES];

typedef enum {
    DATA_SUM,
    DATA_PROD,
    DATA_MIN,
    DATA_MAX,
    DATA_LAND,
    DATA_LOR,
    DATA_LXOR,
    DATA_BAND,
    DATA_BOR,
    DATA_BXOR,
    DATA_MINLOC,
    DATA_MAXLOC,
    DATA_OPS
} data_op_t;
MPI_Op data_mpi_op(data_op_t op);
const char *data_op_name(data_op_t op);

/* Whether this Open MPI has the type, in the form that the table expects. */
bool data_has(const data_type_t *type);
/* Whether MPI 4.1 defines the operation on the type. */
bool data_allowed(const data_type_t *type, data_op_t op);
/* Whether this Open MPI has the type and does what is allowed. After MPI_Init. */
bool data_offered(const data_type_t *type, data_op_t op);
/* Whether kernels are to serve it: all but the floats that GPUs have no arithmetic for. */
bool data_for_gpu(const data_type_t *type);

/*
 * Elements [first, first + count) of what rank `rank` passes in. Floats: mostly plain numbers; one
 * element in 16 is NaN, infinite, a signed zero, denormal or large enough to overflow on some
 * ranks. Integers wrap; one element in four has on most ranks what is false, or true in an odd way.
 * Pairs: many values are equal. The gaps of pairs are random, too.
 */
void data_fill(void *to, const data_type_t *type, uint64_t seed, int rank, uint64_t first,
               uint64_t count);

/* acc[i] = acc[i] op next[i]; 16-bit floats have no such step, see data_expect. */
void data_fold(void *acc, const void *next, data_element_t element, data_op_t op, uint64_t count);

/*
 * What all ranks must get: acc = acc op next from rank 0 on; `scratch` has room for `count`
 * elements. 16-bit floats are accumulated in 32-bit ones and rounded once. Leaves the gaps of pairs
 * undefined.
 */
void data_expect(void *to, void *scratch, const data_type_t *type, data_op_t op, uint64_t seed,
                 int size, uint64_t first, uint64_t count);

/*
 * Bit for bit, but any NaN equals any NaN, and gaps are not looked at; the first index where they
 * differ, or `count`.
 */
uint64_t data_differ(const void *a, const void *b, const data_type_t *type, uint64_t count);
/* The first index where the gap within an element is not the same, or `count`. */
uint64_t data_gaps_differ(const void *a, const void *b, const data_type_t *type, uint64_t count);
/* Element `index` as text. */
#define DATA_TEXT 128
const char *data_text(const void *data, const data_type_t *type, uint64_t index,
                      char text[DATA_TEXT]);

/* Carries a digest on over these elements, with all NaN as one and without gaps. */
uint64_t data_digest(uint64_t digest, const void *data, const data_type_t *type, uint64_t count);

/* binary16: exact, and to the nearest, ties to even. */
float data_from_half(data_half_t half);
data_half_t data_to_half(float value);

#endif /* TEST_DATA_H */
