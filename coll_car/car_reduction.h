/*
 * Types and operations as the engine knows them, and the kernels that serve them.
 * kernels/car_types.def is the list that everything here comes from.
 */
#ifndef CAR_REDUCTION_H
#define CAR_REDUCTION_H

#include <stdbool.h>
#include <stdint.h>

#include "car_types.h"

/* What kernels and plans need to know of a type and an operation. */
typedef struct {
    car_type_t type;
    car_op_t op;
    car_kernel_t kernel;
    uint32_t element;   /* bytes */
    uint32_t alignment; /* an element's address is a multiple of it */
    /* bytes that a thread exchanges in packets in a round: one packet, or two */
    uint32_t unit;
    uint32_t data;      /* which of 16 bytes carry data: bit i for byte i; the others are padding */
} car_reduction_t;

/* False where the GPU has no such operation. */
bool car_reduction_find(car_type_t type, car_op_t op, car_reduction_t *reduction);

/* The name that a kernel carries after its algorithm's, as "f32_SUM" or "any". */
const char *car_kernel_name(car_kernel_t kernel);

#endif /* CAR_REDUCTION_H */
