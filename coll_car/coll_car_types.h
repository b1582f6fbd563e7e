/*
 * MPI's types and operations, as the engine knows them.
 */
#ifndef COLL_CAR_TYPES_H
#define COLL_CAR_TYPES_H

#include "coll_car_compat.h"

#include "car_reduction.h"

/* What an MPI_Datatype and an MPI_Op come to on the GPU. */
typedef struct {
    car_reduction_t reduction;
    uint32_t per_element; /* of the engine's elements, in one of MPI's */
    struct ompi_datatype_t *one; /* the predefined type that MPI's consists of */
    /* the operation is one of libcar's: for communicators whose ranks all have it */
    bool ready_made;
} coll_car_reduction_t;

/*
 * False where the GPU does not reduce that: the call is the saved module's, on all ranks. The
 * answer follows from type and operation alone, but for libcar's functions: where `ready_made` is
 * set and the function is not known here, the engine's reduction is not set, *known is false, and
 * the same holds on a rank that does know it as far as the first call goes.
 */
bool coll_car_find_reduction(struct ompi_datatype_t *dtype, struct ompi_op_t *op,
                             coll_car_reduction_t *found, bool *known);

/* Whether libcar's operations are loaded in this process. */
bool coll_car_has_ready_made(void);

#endif /* COLL_CAR_TYPES_H */
