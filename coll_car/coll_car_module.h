/*
 * The life of a communicator with coll/car: its states, and how it goes from one to the next.
 * docs/design.md has the table; every transition is taken by all ranks on the same call, from facts
 * that all of them have read.
 */
#ifndef COLL_CAR_MODULE_H
#define COLL_CAR_MODULE_H

#include "coll_car.h"

#include "car_comm.h"
#include "car_lane.h"
#include "car_setup.h"
#include "coll_car_exchange.h"

typedef enum {
    COLL_CAR_ASLEEP,   /* nothing allocated; nobody has called MPI_Allreduce yet */
    /* the control segment exists, and every call posts its kind of buffer there */
    COLL_CAR_WATCHING,
    COLL_CAR_ACTIVE,   /* device memory is shared and the kernels are loaded */
    COLL_CAR_OFF,      /* for good: all calls go to the saved module */
    COLL_CAR_BROKEN    /* a fault in a call: all calls return an error */
} coll_car_state_t;

/* What a rank can say of itself when the communicator leaves ASLEEP. */
typedef struct {
    uint32_t host_max;
    unsigned char possible, ready_made;
    car_control_place_t place; /* of the control segment, from rank 0 */
    int error;                 /* of making it */
} coll_car_hello_t;

/*
 * Leaving ASLEEP by messages of our own: coll_car_wake.c. Part of the module, so that no rank lacks
 * memory for it.
 */
typedef struct {
    bool under_way;
    /* the hellos have come; now the ranks tell each other how mapping the segment went */
    bool heard;
    bool failed; /* a message has */
    coll_car_exchange_t exchange;
    coll_car_hello_t mine, all[CAR_MAX_RANKS];
    int error, errors[CAR_MAX_RANKS]; /* of mapping the segment */
} coll_car_wake_t;

typedef struct mca_coll_car_module_t {
    mca_coll_base_module_t super;
    char spare[COLL_CAR_MODULE_SPARE];

    coll_car_saved_t saved;
    struct ompi_communicator_t *comm; /* not retained: the module dies with it */
    coll_car_state_t state;
    /* in OFF: no buffer can be device memory, so calls are handed on unseen */
    bool no_device_memory;
    bool ready_made;        /* all ranks have libcar's operations */
    /* bytes of host memory that go through the control segment: rank 0's parameter */
    uint32_t host_max;
    uint64_t call;          /* number of the last blocking call that was posted */
    car_control_t *control; /* from WATCHING on; in ACTIVE the engine's */
    car_comm_t *engine;
    car_setup_t *setup;     /* in WATCHING */
    bool setting_up;

    /*
     * Nonblocking calls change the state at a time of their own on each rank. Blocking ones first
     * wait until that has happened for all calls before (coll_car_catch_up). `firm`: one has, so
     * all ranks are known to be in one state.
     */
    bool firm;
    bool behind;            /* nonblocking calls have been made since */
    coll_car_wake_t wake;   /* a nonblocking call has begun to leave ASLEEP */
    /* a call could not be made on this rank: broken as soon as all ranks can see that */
    bool doomed;
    car_lane_t queue;       /* of nonblocking calls */
    /* the queue's first call, where there is no control segment */
    struct coll_car_plain *plain;
    struct coll_car_request *started; /* persistent requests that are under way */
    struct coll_car_request *bounced; /* nonblocking calls that the saved module does on copies */
    /* nonblocking calls that met their peers at once, against those that did not */
    int look_score;
    /* small blocking calls that go to kernels that stay without asking for zero copy */
    uint32_t quick;
    /* blocking calls in a row that asked for zero copy in vain, and then do not ask for a while */
    uint32_t strangers;
    car_lane_t calls;       /* of blocking calls that the host takes from phase to phase */
    struct mca_coll_car_module_t *next_busy; /* in the list of coll_car_progress.c */
    bool busy;
} mca_coll_car_module_t;

/*
 * ASLEEP -> WATCHING or OFF: small exchanges through the communicator's other collectives.
 * Collective, blocking. OMPI_SUCCESS, or the error of those collectives.
 */
int coll_car_wake(mca_coll_car_module_t *module);

/*
 * The same, begun by a nonblocking call, by messages of its own: polled, true once it has ended.
 * coll_car_wake.c
 */
void coll_car_wake_begin(mca_coll_car_module_t *module);
bool coll_car_wake_poll(mca_coll_car_module_t *module);

/*
 * Moves the queue of a communicator on that has no control segment: every rank sends all others its
 * operand. coll_car_plain.c
 */
void coll_car_plain_poll(mca_coll_car_module_t *module);

/* What this rank says; and the state that follows from what all have said. */
void coll_car_say_hello(mca_coll_car_module_t *module, coll_car_hello_t *mine, bool with_segment);
void coll_car_hear_hello(mca_coll_car_module_t *module, const coll_car_hello_t all[CAR_MAX_RANKS]);

/*
 * Maps the segment of rank 0's hello, with what a set-up needs, unless it is mapped; 0 or an errno
 * value. From all ranks' values the first that is none, and whether rank 0 has to give the segment
 * a name and all have to try once more. Then the state for good.
 */
int coll_car_map_control(mca_coll_car_module_t *module, const coll_car_hello_t *hello);
int coll_car_first_error(const mca_coll_car_module_t *module, const int errors[CAR_MAX_RANKS],
                         const coll_car_hello_t *hello, bool *again);
void coll_car_name_control(mca_coll_car_module_t *module, coll_car_hello_t *mine);
void coll_car_have_control(mca_coll_car_module_t *module, int error);

/*
 * Messages of leaving ASLEEP have failed on this rank: ASLEEP -> BROKEN, on all ranks that can see
 * it.
 */
void coll_car_lose_peers(mca_coll_car_module_t *module);

/*
 * This rank cannot make the call that the others make: its driver or its memory has failed. Breaks
 * the communicator on all ranks. Where there is no control segment (yet) only this rank knows (for
 * now).
 */
void coll_car_fail_alone(mca_coll_car_module_t *module, const char *what);

/*
 * WATCHING -> ACTIVE or OFF. Collective. `buffer` is a device buffer of the call, 0 if this rank's
 * are host memory.
 */
void coll_car_activate(mca_coll_car_module_t *module, CUdeviceptr buffer);

/* The same step by step: true once it has ended. Under the lock of coll_car_progress.h. */
bool coll_car_activate_poll(mca_coll_car_module_t *module, CUdeviceptr buffer);

/*
 * Waits until all nonblocking calls so far have been decided on, as all ranks do before the same
 * blocking call.
 */
void coll_car_catch_up(mca_coll_car_module_t *module);

/*
 * Whether the communicator has broken, here or on another rank: WATCHING or ACTIVE -> BROKEN. And
 * what its calls return then, as an error of MPI's. Who has broken it has said why.
 */
bool coll_car_is_broken(mca_coll_car_module_t *module);
int coll_car_error(mca_coll_car_module_t *module);

/*
 * What this rank gives the saved module is not its operand, as a copy has failed: said before it is
 * given, so whoever has ended that call sees it. From then on every call that is left to the saved
 * module returns an error, on all ranks, after it has been made.
 */
void coll_car_spoil(mca_coll_car_module_t *module);
bool coll_car_is_spoiled(const mca_coll_car_module_t *module);

/* At the component's end. */
void coll_car_modules_close(void);

/*
 * Hands a call to the saved module; device buffers by way of host memory where that module cannot
 * read them.
 */
int coll_car_forward(mca_coll_car_module_t *module, const void *sbuf, void *rbuf,
                     coll_car_count_t count, struct ompi_datatype_t *dtype, struct ompi_op_t *op);

/* What the host needs to fold a call's elements itself; for the engine's car_host_fold_fn_t. */
typedef struct {
    struct ompi_op_t *op;
    struct ompi_datatype_t *one; /* predefined */
    size_t element;              /* bytes of an element of the engine's */
} coll_car_fold_t;
void coll_car_fold(const void *fold, const void *const operand[], int operands, size_t elements,
                   void *result);

#endif /* COLL_CAR_MODULE_H */
