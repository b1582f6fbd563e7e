/*
 * Device buffers by way of host memory, for modules that cannot read them.
 */
#ifndef COLL_CAR_BOUNCE_H
#define COLL_CAR_BOUNCE_H

#include "coll_car_compat.h"

#include "car_buffer.h"

/* A copy of a device buffer in host memory. */
typedef struct {
    void *memory; /* NULL: none is needed */
    bool pinned;
    size_t bytes;
    ptrdiff_t gap; /* from the buffer's address to its first byte of data */
} coll_car_copy_t;

typedef struct {
    const car_cuda_t *cuda;
    car_buffer_t input, output;
    bool in_place;
    coll_car_copy_t in, out;
    const void *sbuf; /* what to hand to the module in place of the user's buffers */
    void *rbuf;
} coll_car_bounce_t;

/*
 * Host memory for those of a call's buffers that are device memory. `input` is NULL for
 * MPI_IN_PLACE. OMPI_SUCCESS, or OMPI_ERR_OUT_OF_RESOURCE with nothing held.
 */
int coll_car_bounce_take(coll_car_bounce_t *bounce, const car_cuda_t *cuda,
                         const car_buffer_t *input, const car_buffer_t *output,
                         coll_car_count_t count, struct ompi_datatype_t *dtype);
void coll_car_bounce_give(coll_car_bounce_t *bounce);

/* Whether there are copies at all. */
static inline bool coll_car_bounce_copies(const coll_car_bounce_t *bounce)
{
    return NULL != bounce->in.memory || NULL != bounce->out.memory;
}

/* From the user's buffers, and back. False if the driver failed. */
bool coll_car_bounce_in(const coll_car_bounce_t *bounce);
bool coll_car_bounce_out(const coll_car_bounce_t *bounce);

#endif /* COLL_CAR_BOUNCE_H */
