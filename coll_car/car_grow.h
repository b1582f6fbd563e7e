/*
 * How much device memory a communicator may have.
 */
#ifndef CAR_GROW_H
#define CAR_GROW_H

#include "car_comm.h"

/*
 * What this rank can offer of `wanted` bytes for a larger piece in place of the one at `present`,
 * if that has grown (CAR_NO_PIECE: none). Under the lock of car_pending.h.
 */
size_t car_grow_offered(const car_comm_t *comm, size_t present, size_t wanted);

#endif /* CAR_GROW_H */
