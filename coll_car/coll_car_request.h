/*
 * Requests of nonblocking and persistent calls.
 */
#ifndef COLL_CAR_REQUEST_H
#define COLL_CAR_REQUEST_H

#include "coll_car_module.h"

#include "car_persistent.h"
#include "coll_car_bounce.h"

/* Who does a call. */
typedef enum {
    COLL_CAR_QUEUED,            /* nonblocking: the communicator's queue */
    /* nonblocking: the saved module, on copies in host memory, by a request of its own */
    COLL_CAR_BOUNCED,
    COLL_CAR_PERSISTENT,        /* persistent: the engine */
    /* persistent: the saved module, by a request of its own, on copies of device buffers */
    COLL_CAR_PERSISTENT_SAVED
} coll_car_how_t;

typedef struct coll_car_request {
    ompi_coll_base_nbc_request_t super;
    /* in a list of those that have ended, or of the module's that are under way */
    struct coll_car_request *next;
    /* retained, as its communicator is, until the request is freed */
    mca_coll_car_module_t *module;
    struct ompi_communicator_t *comm;
    struct ompi_op_t *op_kept;        /* likewise, where they are the user's; or NULL */
    struct ompi_datatype_t *type_kept;
    coll_car_how_t how;
    bool failed;
    car_call_t op;                    /* QUEUED */
    car_persistent_t *persistent;     /* PERSISTENT */
    coll_car_fold_t fold;
    coll_car_bounce_t bounce;
    struct ompi_request_t *inner; /* of the saved module */
} coll_car_request_t;

OBJ_CLASS_DECLARATION(coll_car_request_t);

/*
 * A request of that communicator, active if it is not persistent; NULL without memory. The caller
 * sets the functions that start and free it.
 */
coll_car_request_t *coll_car_request_new(mca_coll_car_module_t *module, bool persistent);

/*
 * Whether the user may free the operation or the type while a request uses them; and keeps them
 * alive until the request is freed. Open MPI does it for requests that are active when the call
 * that makes them returns: not for persistent ones.
 */
bool coll_car_may_be_freed(struct ompi_op_t *op, const struct ompi_datatype_t *dtype);
void coll_car_request_keep(coll_car_request_t *request, struct ompi_op_t *op,
                           struct ompi_datatype_t *dtype);

/*
 * What the thread did that has completed a request comes before what this one does with it. Open
 * MPI's own order says so as well; this does not rest on it, and tools that look for data races can
 * see it.
 */
void coll_car_request_sync(void);

/* Gives its memory back, and what it retained. */
void coll_car_request_give(coll_car_request_t *request);

/* To the user: the requests of that list have ended. Not under the lock. Returns how many. */
int coll_car_requests_complete(coll_car_request_t *ended);

/*
 * Under the lock: moves the module's requests on; those that have ended are put behind *ended. True
 * while there are others.
 */
bool coll_car_requests_poll(mca_coll_car_module_t *module, coll_car_request_t **ended);

/* Under the lock: moves a persistent request that has been started on; true once it has ended. */
bool coll_car_persistent_poll(coll_car_request_t *request);

/* Counts a call that a lane has done. */
void coll_car_count(const car_call_t *op);

/* At the component's end. */
void coll_car_requests_close(void);

#endif /* COLL_CAR_REQUEST_H */
