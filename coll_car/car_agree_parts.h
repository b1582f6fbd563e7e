/*
 * What the files of an agreement have of each other: car_agree.c decides on calls,
 * car_agree_records.c has the records that all ranks decide from, car_agree_piece.c the larger
 * piece that some decide to take.
 */
#ifndef CAR_AGREE_PARTS_H
#define CAR_AGREE_PARTS_H

#include "car_lane_parts.h"

/* Calls that go without after something has been refused. */
#define CAR_PAUSE 64

static inline uint64_t car_call_bytes(const car_call_t *op)
{
    return op->count * op->reduction.element;
}

/* What a call may want: the same on all ranks, when it is the next to be decided. */
static inline bool car_agree_may_be_zero_copy(const car_lane_t *lane)
{
    return NULL != lane->comm && 0 != lane->comm->zero_copy_min;
}

bool car_agree_may_grow(const car_lane_t *lane, const car_call_t *op);

/* --- records ---------------------------------------------------------------------------------- */

/* Posts the record of the next call that has none. False: there is no such call, or no place. */
bool car_agree_post_next(car_lane_t *lane);

/* The ranks that have not entered it. */
uint32_t car_agree_not_entered(const car_lane_t *lane, uint64_t number);

/*
 * Whether all ranks have made the same calls, as far as all have entered them; decisions may have
 * come before, where they needed no records. False: they have not, and the communicator is broken.
 */
bool car_agree_compare(car_lane_t *lane);

/* This rank has read all that it wants of the records of calls decided on and compared. */
void car_agree_tell_settled(car_lane_t *lane);

/*
 * Copies everybody's record, and looks at the copies: they are what is used. Of buffers that are a
 * set which the lane remembers it does not read the handles that mapping them takes. False: broken.
 */
bool car_agree_hear(car_lane_t *lane, const car_call_t *op);

/* Reads those, too, of the call that has been heard. */
void car_agree_hear_handles(car_lane_t *lane);

/* What rank r has said cannot be: breaks the communicator. Returns false. */
bool car_agree_damaged(car_lane_t *lane, int r, const char *what);

/* The second part: 1: all ranks have said yes; 0: one has said no; -1: one has said nothing yet. */
void car_agree_say_second(car_lane_t *lane, car_call_t *op, bool ok, uint64_t offset);
int car_agree_heard_second(car_lane_t *lane, const car_call_t *op);

/* The ranks that have not said it. */
uint32_t car_agree_second_missing(const car_lane_t *lane, const car_call_t *op);

/* --- a larger piece --------------------------------------------------------------------------- */

/* Bytes of device memory that this rank could take for a call that may want them. */
uint64_t car_agree_room(const car_lane_t *lane, const car_call_t *op);

/*
 * For a call that may want it, once its records have been heard: exchanges the queue's piece for a
 * larger one, if every rank has the room. False: not all are through with it yet, or the
 * communicator is broken; true: the call is staged, with whatever piece there is now.
 */
bool car_agree_grow(car_lane_t *lane, car_call_t *op);

/*
 * When a call is decided on. The same on all ranks for the same call: pauses are counted in calls
 * that would have liked something.
 */
void car_agree_count_pause(car_lane_t *lane, const car_call_t *op);

#endif /* CAR_AGREE_PARTS_H */
