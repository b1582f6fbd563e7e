/*
 * A kernel that stays after a small call and is rung for with the next one: the host's side of
 * docs/protocol.md, "The kernel that stays". What a rank does here is between it and its own GPU;
 * peers see the packets of one_shot_push.
 *
 * Part of a communicator (car_comm.h): one call at a time, as for all of it. car_small.c uses it in
 * this order:
 *
 *   car_stay_allowed  may there be one at all?
 *   car_stay_begin    a small call begins
 *   car_stay_likely, car_stay_ready  where ranks agree on it first: would this one have a kernel
 *                                    that stays?
 *   car_stay_here     does a kernel stay that can take the call?
 *     car_stay_ring   then the call is its; done, gone or a failure follows
 *   car_stay_wanted   else: should the kernel that is launched now stay?
 *     car_stay_launch then it is this one
 *   car_stay_end      the call returns
 */
#ifndef CAR_STAY_H
#define CAR_STAY_H

#include <stdbool.h>
#include <stdint.h>

#include "car_device.h"
#include "car_kernel_args.h"
#include "car_launch.h"
#include "car_pace.h"
#include "car_plan.h"
#include "car_reduction.h"

struct car_comm;

/* A kernel that stays, or what a call wants of one. */
typedef struct {
    uint32_t blocks;
    uint32_t threads; /* of a block */
} car_stay_grid_t;

/* All 0 but for `bell`, -1, before the first use; nothing is allocated before the first stay. */
typedef struct {
    bool asked;   /* whether this process may have such kernels at all: `may` is the answer */
    bool may;
    uint32_t most; /* blocks */
    bool here;    /* a kernel stays, as far as this rank has heard */
    bool begun;   /* the pace knows of the present call */
    bool like;    /* it is of the same reduction as the small call before it */
    int bell;     /* index of the host's word; -1: none */
    uint32_t number;  /* of the stay, among those of the device */
    car_stay_grid_t grid;
    car_stay_grid_t largest; /* of what calls since it was launched want: what the next one gets */
    car_reduction_t reduction; /* that it does */
    car_reduction_t last;      /* of the present small call, or the last one */
    car_graph_t graphs[CAR_KERNELS];
    car_pace_t pace;
} car_stay_t;

/*
 * Whether there may be such kernels for this communicator, in this process. Looks once at what
 * cannot change.
 */
bool car_stay_allowed(struct car_comm *comm);

/*
 * Whether one could do a call with this plan, of one_shot_push and one round: it has few enough
 * blocks.
 */
bool car_stay_fits(const struct car_comm *comm, const car_plan_t *plan);

/*
 * A small call, `number` of all calls of the communicator, begins (said again, that is nothing
 * new); it returns. Times in nanoseconds. At its end the kernel is sent away if it has turned out
 * that a stay does not pay, or it is time to see whether it still does.
 */
void car_stay_begin(struct car_comm *comm, uint64_t number, const car_reduction_t *reduction,
                    uint64_t now);
void car_stay_end(struct car_comm *comm, uint64_t now);

/*
 * Whether a kernel stays that can take a call with this plan, which fits, and reduction. One that
 * cannot is sent away.
 */
bool car_stay_here(struct car_comm *comm, const car_plan_t *plan, const car_reduction_t *reduction);

/*
 * Whether a small call, if it is not done in another way, may be one for a kernel that stays: there
 * is one, or the one that is launched should. The second is asked only where the first has said so,
 * and knows the call. The answer promises nothing.
 */
bool car_stay_likely(struct car_comm *comm);
bool car_stay_ready(const struct car_comm *comm, const car_plan_t *plan,
                    const car_reduction_t *reduction);

/*
 * Blocks of the kernel that stays which share such a call, and tell their end: the first, or all.
 */
uint32_t car_stay_sharers(const struct car_comm *comm, const car_plan_t *plan);

/*
 * Rings for the call: buffers, count, tile, epoch, alignment and ticket of `args`. The ticket is
 * the last one's successor.
 */
void car_stay_ring(struct car_comm *comm, const car_plan_t *plan, const car_kernel_args_t *args);

/*
 * The kernel has gone: what it has taken has ended, and stands in the host's word; it takes nothing
 * more.
 */
bool car_stay_gone(const struct car_comm *comm);

/* It has gone without the call that it was rung for. */
void car_stay_missed(struct car_comm *comm);

/* It has finished a call that it was rung for. */
void car_stay_served(struct car_comm *comm);

/* Blocks of it have left a call because of a late peer: what is left of it is to go, too. */
void car_stay_left(struct car_comm *comm);

/*
 * Whether the kernel that such a call needs, as none stays, is to stay: it pays, is allowed, and is
 * the only one.
 */
bool car_stay_wanted(struct car_comm *comm);

/*
 * If so: launches it, on the communicator's stream, with the communicator's context current. False
 * where that fails: none stays then, and the call is launched as any other, with the same ticket.
 */
bool car_stay_launch(struct car_comm *comm, const car_plan_t *plan,
                     const car_reduction_t *reduction, const car_kernel_args_t *args);

/* If a kernel stays it goes at once, not at its time; returns without waiting for that. */
void car_stay_send_away(struct car_comm *comm);

/*
 * At the communicator's end, with its context current and its stream drained: gives back all that
 * there is but the bell, which car_stay_release gives back to the device under the lock of
 * car_pending.h, alive or not.
 */
void car_stay_destroy(struct car_comm *comm);
void car_stay_release(struct car_comm *comm);

#endif /* CAR_STAY_H */
