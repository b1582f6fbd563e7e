/*
 * The life of a communicator with coll/car: its states, and how it goes from one to the next. docs/design.md has the
 * table; every transition is taken by all ranks on the same call, from facts that all of them have read.
 */
#ifndef COLL_CAR_MODULE_H
#define COLL_CAR_MODULE_H

#include "coll_car.h"

#include "car_comm.h"

typedef enum {
    COLL_CAR_ASLEEP,   /* nothing allocated; nobody has called MPI_Allreduce yet */
    COLL_CAR_WATCHING, /* the control segment exists, and every call posts its kind of buffer there */
    COLL_CAR_ACTIVE,   /* device memory is shared and the kernels are loaded */
    COLL_CAR_OFF,      /* for good: all calls go to the saved module */
    COLL_CAR_BROKEN    /* a fault in an active call: all calls return an error */
} coll_car_state_t;

typedef struct mca_coll_car_module_t {
    mca_coll_base_module_t super;
    char spare[COLL_CAR_MODULE_SPARE];

    coll_car_saved_allreduce_t saved;
    struct ompi_communicator_t *comm; /* not retained: the module dies with it */
    coll_car_state_t state;
    bool no_device_memory;  /* in OFF: no buffer can be device memory, so calls are handed on unseen */
    bool ready_made;        /* all ranks have libcar's operations */
    uint32_t host_max;      /* bytes of host memory that go through the control segment: rank 0's parameter */
    uint64_t call;          /* number of the last call that was posted */
    car_control_t *control; /* in WATCHING; from ACTIVE on it is the engine's */
    car_comm_t *engine;
} mca_coll_car_module_t;

/*
 * ASLEEP -> WATCHING or OFF: small exchanges through the communicator's other collectives. Collective, blocking.
 * OMPI_SUCCESS, or the error of those collectives.
 */
int coll_car_wake(mca_coll_car_module_t *module);

/*
 * WATCHING -> ACTIVE or OFF. Collective. `buffer` is a device buffer of the call, 0 if this rank's are host memory.
 */
void coll_car_activate(mca_coll_car_module_t *module, CUdeviceptr buffer);

/* ACTIVE -> BROKEN, with a line that says why. */
void coll_car_break(mca_coll_car_module_t *module, const char *reason);

/* Hands a call to the saved module; device buffers by way of host memory where that module cannot read them. */
int coll_car_forward(mca_coll_car_module_t *module, const void *sbuf, void *rbuf, coll_car_count_t count,
                     struct ompi_datatype_t *dtype, struct ompi_op_t *op);

#endif /* COLL_CAR_MODULE_H */
