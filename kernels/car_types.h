/*
 * The numbers of types, operations and kernels, for host code and kernels alike; and which
 * operations a class of types has.
 */
#ifndef CAR_TYPES_H
#define CAR_TYPES_H

#define CAR_COMMA ,

/* CAR_TYPE's data where every byte carries some. */
#define CAR_NO_GAPS 0xffff

typedef enum {
#define CAR_TYPE(name, type, bytes, alignment, data, class_) CAR_TYPE_##name,
#define CAR_COMMON(type, op)
#include "car_types.def"
    CAR_TYPES
} car_type_t;

/* X(number, name): the operations of MPI, section 6.9.2, in the standard's order. */
#define CAR_OPS_LIST(X)                                                                            \
    X(MAX, max)                                                                                    \
    X(MIN, min)                                                                                    \
    X(SUM, sum)                                                                                    \
    X(PROD, prod)                                                                                  \
    X(LAND, land)                                                                                  \
    X(BAND, band)                                                                                  \
    X(LOR, lor)                                                                                    \
    X(BOR, bor)                                                                                    \
    X(LXOR, lxor)                                                                                  \
    X(BXOR, bxor)                                                                                  \
    X(MAXLOC, maxloc)                                                                              \
    X(MINLOC, minloc)

typedef enum {
#define CAR_OP_NUMBER(number, name) CAR_OP_##number,
    CAR_OPS_LIST(CAR_OP_NUMBER)
#undef CAR_OP_NUMBER
    CAR_OPS
} car_op_t;

/*
 * X(type, operation): what a class of types can do. LOGICAL and BYTE types of MPI are INTEGER here.
 */
#define CAR_OPS_OF_INTEGER(X, type)                                                                \
    X(type, MAX)                                                                                   \
    X(type, MIN) X(type, SUM) X(type, PROD) X(type, LAND) X(type, BAND) X(type, LOR) X(type, BOR)  \
        X(type, LXOR) X(type, BXOR)
#define CAR_OPS_OF_REAL(X, type) X(type, MAX) X(type, MIN) X(type, SUM) X(type, PROD)
#define CAR_OPS_OF_COMPLEX(X, type) X(type, PROD)
#define CAR_OPS_OF_LOCATED(X, type) X(type, MAXLOC) X(type, MINLOC)

/* Kernels of each algorithm. */
typedef enum {
#define CAR_TYPE(name, type, bytes, alignment, data, class_)
#define CAR_COMMON(type, op) CAR_KERNEL_##type##_##op,
#include "car_types.def"
    CAR_KERNEL_ANY,
    CAR_KERNELS
} car_kernel_t;

#endif /* CAR_TYPES_H */
