/*
 * An exchange between all ranks of a communicator by messages of coll/car's own, for calls that may
 * not block and may not disturb the order of other collectives. One after the other on a
 * communicator: all have the same tag.
 */
#ifndef COLL_CAR_EXCHANGE_H
#define COLL_CAR_EXCHANGE_H

#include "coll_car_compat.h"

#include "car_kernel_args.h"

typedef struct {
    struct ompi_request_t *requests[2 * CAR_MAX_RANKS];
    int count;
    bool failed; /* a message has: what it was to bring is not there */
} coll_car_exchange_t;

/*
 * All ranks bring `bytes` and get everybody's, in rank order, `stride` apart. Whatever fails, the
 * other messages are sent, as their receivers wait for them.
 */
static inline void coll_car_exchange_begin(coll_car_exchange_t *exchange,
                                           struct ompi_communicator_t *comm, const void *mine,
                                           size_t bytes, size_t stride, void *all)
{
    const int rank = ompi_comm_rank(comm), size = ompi_comm_size(comm);

    exchange->count = 0;
    exchange->failed = false;
    memcpy((char *) all + (size_t) rank * stride, mine, bytes);
    for (int i = 1; i < size; ++i) {
        const int from = (rank + size - i) % size;
        const int rc =
            MCA_PML_CALL(irecv((char *) all + (size_t) from * stride, bytes, MPI_BYTE, from,
                               COLL_CAR_TAG, comm, &exchange->requests[exchange->count]));
        exchange->count += OMPI_SUCCESS == rc ? 1 : 0;
        exchange->failed = exchange->failed || OMPI_SUCCESS != rc;
    }
    for (int i = 1; i < size; ++i) {
        const int rc = MCA_PML_CALL(isend(mine, bytes, MPI_BYTE, (rank + i) % size, COLL_CAR_TAG,
                                          MCA_PML_BASE_SEND_STANDARD, comm,
                                          &exchange->requests[exchange->count]));
        exchange->count += OMPI_SUCCESS == rc ? 1 : 0;
        exchange->failed = exchange->failed || OMPI_SUCCESS != rc;
    }
}

/* True once everything has come and gone, or failed; the messages' requests are freed then. */
static inline bool coll_car_exchange_ended(coll_car_exchange_t *exchange)
{
    for (int i = 0; i < exchange->count; ++i) {
        if (!REQUEST_COMPLETE(exchange->requests[i])) {
            coll_car_request_look(exchange->requests[i]);
            return false;
        }
    }
    for (int i = 0; i < exchange->count; ++i) {
        exchange->failed =
            exchange->failed || MPI_SUCCESS != exchange->requests[i]->req_status.MPI_ERROR;
        (void) ompi_request_free(&exchange->requests[i]);
    }
    exchange->count = 0;
    return true;
}

#endif /* COLL_CAR_EXCHANGE_H */
