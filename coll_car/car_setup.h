/*
 * Setting up a communicator: collective and all-or-nothing. On every rank it succeeds, or on every
 * rank it fails with the same reason. docs/protocol.md has the steps.
 */
#ifndef CAR_SETUP_H
#define CAR_SETUP_H

#include "car_comm.h"

/* What a rank brings to the set-up. */
typedef struct {
    int rank;
    int size;
    /* processes of the job on this node: they may share the GPUs with this communicator */
    int node_processes;
    /* a device buffer of the call that started the set-up; 0 if this rank's are host memory */
    CUdeviceptr buffer;
    car_control_t *control;
    const car_params_t *params;
    car_counters_t *counters;
    car_progress_fn_t progress;
} car_comm_config_t;

/* Why a set-up failed: the same on all ranks. */
typedef struct {
    int rank;       /* the first that could not do its part */
    bool by_choice; /* nothing is wrong: coll/car is not meant for these GPUs */
    char reason[CAR_REASON_BYTES];
} car_failure_t;

typedef enum {
    CAR_SETUP_UNDER_WAY,
    CAR_SETUP_DONE,
    CAR_SETUP_FAILED,
    CAR_SETUP_BROKEN
} car_setup_state_t;

typedef struct car_setup car_setup_t;

/*
 * All the host memory that a set-up needs, so that nothing runs out while others wait; NULL if
 * there is not so much.
 */
car_setup_t *car_setup_new(void);
void car_setup_free(car_setup_t *setup);

/*
 * Begins it, once all ranks are bound to begin it too; then poll until it has ended. DONE: *comm is
 * the communicator. FAILED on all ranks, with the failure: what each had set up for it is undone.
 * BROKEN: so it is, or *comm is not NULL and is to be freed as a communicator, as peers may still
 * use what it has. The control segment stays the caller's unless there is a *comm, which has it
 * then. What belongs to the process (kernels, the arena) stays for communicators to come.
 */
void car_setup_begin(car_setup_t *setup, const car_comm_config_t *config);
car_setup_state_t car_setup_poll(car_setup_t *setup, car_comm_t **comm, car_failure_t *failure);

#endif /* CAR_SETUP_H */
