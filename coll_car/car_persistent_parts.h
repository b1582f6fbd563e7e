/*
 * What the two files of persistent requests share: car_persistent.c makes them with all ranks, and
 * gives back what they had; car_persistent_kernels.c runs those that are done by kernels which wait
 * for each other. The others run in a lane.
 */
#ifndef CAR_PERSISTENT_PARTS_H
#define CAR_PERSISTENT_PARTS_H

#include "car_persistent.h"

typedef enum {
    BY_KERNELS,   /* kernels that wait for each other, in a piece of its own */
    BY_ZERO_COPY, /* a lane of its own, on the users' buffers */
    BY_STAGING,   /* a lane of its own, through staging of its own */
    BY_NONE       /* not here */
} car_persistent_how_t;

struct car_persistent {
    car_comm_t *comm;
    car_persistent_how_t how;
    int index; /* of its lane */
    size_t piece;
    bool failed;
    uint64_t starts;

    /* BY_KERNELS: the communicator once more, with a piece, a stream and a word of its own. */
    car_comm_t branch;
    car_graph_t graph;
    car_plan_t plan;
    car_kernel_args_t args;
    enum { UNDER_WAY, LEFT, CLEARING, CLEARED } state;
    uint64_t renewals;
    uint64_t looked_ns;
    uint32_t polls;
    car_watch_t watch; /* of this start */
    uint64_t draining_ns;

    /* Otherwise: */
    car_lane_t lane;
    car_call_t call; /* what it is, in any case */
};

/* How a rank's attempt at a way has ended, as all ranks hear. */
typedef struct {
    int ok;
    uint64_t offset;
} car_persistent_verdict_t;

static inline car_lane_words_t *car_persistent_words(const car_persistent_t *p, int r)
{
    return car_control_lane(p->comm->control, p->index, r);
}

/* Breaks the communicator for a failure of the driver's, once; false. */
bool car_persistent_broken(car_persistent_t *p, const char *what, CUresult result);

/*
 * What a request by kernels needs: a piece, a stream, a word, cleared memory, with the context
 * current. False if something is not to be had; what was taken stands in the request and is given
 * back by who called.
 */
bool car_persistent_prepare_kernels(car_persistent_t *p);

/* When all ranks have that: where everybody's piece is. */
void car_persistent_finish_kernels(car_persistent_t *p, const car_persistent_verdict_t *all);

/*
 * Begins a start; moves it on, and tells whether it has ended. Where the driver fails, p->failed is
 * set.
 */
void car_persistent_start_kernels(car_persistent_t *p);
bool car_persistent_poll_kernels(car_persistent_t *p);

#endif /* CAR_PERSISTENT_PARTS_H */
