/*
 * An exchange between all ranks of a communicator by messages of coll/car's own, for calls that may not block and may not
 * disturb the order of other collectives. One after the other on a communicator: all have the same tag.
 */
#ifndef COLL_CAR_EXCHANGE_H
#define COLL_CAR_EXCHANGE_H

#include "coll_car_compat.h"

#include "car_kernel_args.h"

typedef struct {
    struct ompi_request_t *requests[2 * CAR_MAX_RANKS];
    int count;
} coll_car_exchange_t;

/* All ranks bring `bytes` and get everybody's, in rank order. Returns OMPI_SUCCESS or the error of a message. */
static inline int coll_car_exchange_begin(coll_car_exchange_t *exchange, struct ompi_communicator_t *comm,
                                          const void *mine, size_t bytes, void *all)
{
    const int rank = ompi_comm_rank(comm), size = ompi_comm_size(comm);
    int rc = OMPI_SUCCESS;

    exchange->count = 0;
    memcpy((char *) all + (size_t) rank * bytes, mine, bytes);
    for (int i = 1; i < size && OMPI_SUCCESS == rc; ++i) {
        const int from = (rank + size - i) % size;
        rc = MCA_PML_CALL(irecv((char *) all + (size_t) from * bytes, bytes, MPI_BYTE, from, COLL_CAR_TAG, comm,
                                &exchange->requests[exchange->count]));
        exchange->count += OMPI_SUCCESS == rc ? 1 : 0;
    }
    for (int i = 1; i < size && OMPI_SUCCESS == rc; ++i) {
        rc = MCA_PML_CALL(isend(mine, bytes, MPI_BYTE, (rank + i) % size, COLL_CAR_TAG, MCA_PML_BASE_SEND_STANDARD, comm,
                                &exchange->requests[exchange->count]));
        exchange->count += OMPI_SUCCESS == rc ? 1 : 0;
    }
    return rc;
}

/* True once everything has come and gone; the messages' requests are freed then. */
static inline bool coll_car_exchange_ended(coll_car_exchange_t *exchange)
{
    for (int i = 0; i < exchange->count; ++i) {
        if (!REQUEST_COMPLETE(exchange->requests[i])) {
            return false;
        }
    }
    for (int i = 0; i < exchange->count; ++i) {
        (void) ompi_request_free(&exchange->requests[i]);
    }
    exchange->count = 0;
    return true;
}

#endif /* COLL_CAR_EXCHANGE_H */
