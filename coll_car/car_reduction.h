/*
 * Types and operations as the engine knows them, and the kernels that serve them. kernels/car_instances.def is the list
 * that everything here comes from.
 */
#ifndef CAR_REDUCTION_H
#define CAR_REDUCTION_H

#include <stddef.h>

typedef enum {
    CAR_I32,
    CAR_U32,
    CAR_I64,
    CAR_U64,
    CAR_F32,
    CAR_F64,
    CAR_TYPES
} car_type_t;

typedef enum {
    CAR_SUM,
    CAR_PROD,
    CAR_MIN,
    CAR_MAX,
    CAR_OPS
} car_op_t;

typedef enum {
#define CAR_INSTANCE(name, type, op) CAR_REDUCTION_##name,
#include "car_instances.def"
#undef CAR_INSTANCE
    CAR_REDUCTIONS
} car_reduction_t;

/* The kernels for a type and an operation, or CAR_REDUCTIONS where there are none. */
car_reduction_t car_reduction_find(car_type_t type, car_op_t op);

/* Bytes of an element. */
size_t car_type_bytes(car_type_t type);

/* The name that a reduction's kernels carry after their algorithm's, as "f32_sum". */
const char *car_reduction_name(car_reduction_t reduction);

#endif /* CAR_REDUCTION_H */
