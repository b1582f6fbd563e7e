/*
 * The steps of a lane's calls. Each has three phases, and a counter of every rank says how far it
 * has come:
 *
 *   stage   this rank's operands are put where peers can read them                  -> staged
 *   reduce  when all have staged: operands of all ranks are folded                   -> reduced
 *   gather  where ranks have folded shares, when all have: results come together     -> done
 *
 * car_step_host.c and car_step_device.c have what is done in a phase, this file when.
 *
 * Two steps are under way at a time: step k + 2 is staged when all ranks are done with step k.
 */
#include "car_step_parts.h"

/* --- what steps are --------------------------------------------------------------------------- */

void car_lane_give_steps(car_lane_t *lane, car_call_t *op)
{
    const size_t element = op->reduction.element;

    op->step_elements =
        CAR_PATH_ZERO_COPY == op->path ? op->count
        : CAR_PATH_HOST == op->path
            ? car_control_chunk_bytes(lane->control) / CAR_PACK_BYTES * CAR_PACK_BYTES / element
            : lane->slot_bytes / CAR_PACK_BYTES * CAR_PACK_BYTES / element;
    op->steps = (op->count + op->step_elements - 1) / op->step_elements;
    op->first_step = lane->steps + 1;
    lane->steps += op->steps;
}

static car_call_t *op_of(const car_lane_t *lane, uint64_t step)
{
    car_call_t *op = lane->first;

    while (step >= op->first_step + op->steps) {
        op = op->next;
    }
    return op;
}

car_part_t car_step_part(const car_call_t *op, uint64_t step)
{
    const uint64_t start = (step - op->first_step) * op->step_elements;
    return (car_part_t){start, op->count - start < op->step_elements ? op->count - start
                                                                     : op->step_elements};
}

car_part_t car_step_share(const car_call_t *op, uint64_t count, int index, int shares)
{
    const uint64_t pack = CAR_PACK_BYTES / op->reduction.element;
    const uint64_t packs = (count + pack - 1) / pack,
                   each = (packs + (uint64_t) shares - 1) / (uint64_t) shares * pack;
    const uint64_t start = each * (uint64_t) index < count ? each * (uint64_t) index : count;
    return (car_part_t){start, count - start < each ? count - start : each};
}

bool car_step_by_shares(const car_lane_t *lane, const car_call_t *op)
{
    switch (op->path) {
    case CAR_PATH_ZERO_COPY:
        return true;
    case CAR_PATH_HOST:
        return op->count * op->reduction.element
               >= (uint64_t) CAR_SHARE_LEAST * (uint64_t) lane->size;
    default:
        return lane->shares;
    }
}

/* --- stage ------------------------------------------------------------------------------------ */

static bool stage(car_lane_t *lane)
{
    const uint64_t step = lane->stage_next;
    uint32_t *ticket = &lane->stage_ticket[step % CAR_LANE_STEPS];

    if (step > lane->steps
        || (step > CAR_LANE_STEPS && !car_lane_all_done(lane, step - CAR_LANE_STEPS))) {
        return false;
    }
    car_call_t *op = op_of(lane, step);
    *ticket = 0;
    if (CAR_PATH_HOST == op->path) {
        if (!car_step_stage_on_host(lane, op, step)) {
            return false;
        }
    } else if (!car_lane_driver(lane) || !car_step_stage_on_device(lane, op, step, ticket)) {
        return false;
    }
    ++lane->stage_next;
    return true;
}

static bool tell_staged(car_lane_t *lane)
{
    const uint64_t step = lane->staged + 1;

    if (step >= lane->stage_next
        || !car_lane_reached(lane, lane->stage_ticket[step % CAR_LANE_STEPS])) {
        return false;
    }
    lane->staged = step;
    atomic_store_explicit(&car_lane_words(lane, lane->rank)->staged, step, memory_order_release);
    return true;
}

/* --- reduce ----------------------------------------------------------------------------------- */

static bool reduce(car_lane_t *lane)
{
    const uint64_t step = lane->reduce_next;
    uint32_t *ticket = &lane->reduce_ticket[step % CAR_LANE_STEPS];
    bool launched = true;

    if (step >= lane->stage_next) {
        return false;
    }
    car_call_t *op = op_of(lane, step);
    /*
     * Records of zero copy say as much as its counter would: who has posted one has his buffers
     * ready.
     */
    if (!(lane->records && CAR_PATH_ZERO_COPY == op->path) && !car_lane_all_staged(lane, step)) {
        return false;
    }
    *ticket = 0;
    if (CAR_PATH_HOST == op->path) {
        launched = car_step_reduce_on_host(lane, op, step);
    } else {
        if (!car_lane_driver(lane)) {
            return false;
        }
        launched = car_step_reduce_on_device(lane, op, step, ticket);
    }
    lane->reduce_next += launched ? 1 : 0;
    return launched;
}

static bool tell_reduced(car_lane_t *lane)
{
    const uint64_t step = lane->reduced + 1;

    if (step >= lane->reduce_next
        || !car_lane_reached(lane, lane->reduce_ticket[step % CAR_LANE_STEPS])) {
        return false;
    }
    lane->reduced = step;
    atomic_store_explicit(&car_lane_words(lane, lane->rank)->reduced, step, memory_order_release);
    return true;
}

/* --- gather ----------------------------------------------------------------------------------- */

static bool gather(car_lane_t *lane)
{
    const uint64_t step = lane->gather_next;

    if (step > lane->reduced) {
        return false;
    }
    car_call_t *op = op_of(lane, step);
    if (car_step_by_shares(lane, op) && !car_lane_all_reduced(lane, step)) {
        return false;
    }
    uint32_t *ticket = &lane->gather_ticket[step % CAR_LANE_STEPS];
    *ticket = 0;
    if (CAR_PATH_HOST == op->path) {
        if (car_step_by_shares(lane, op) && !car_step_gather_on_host(lane, op, step)) {
            return false;
        }
    } else if (!car_step_gather_on_device(lane, op, step, ticket)) {
        return false;
    }
    ++lane->gather_next;
    return true;
}

static bool tell_done(car_lane_t *lane)
{
    const uint64_t step = lane->done + 1;

    if (step >= lane->gather_next
        || !car_lane_reached(lane, lane->gather_ticket[step % CAR_LANE_STEPS])) {
        return false;
    }
    lane->done = step;
    atomic_store_explicit(&car_lane_words(lane, lane->rank)->done, step, memory_order_release);
    if (step == lane->first->first_step + lane->first->steps - 1) {
        car_lane_end_first(lane, lane->off && car_control_spoiled(lane->control));
    }
    return true;
}

/* Latest phases first: what they free is wanted by the others. */
bool car_lane_step(car_lane_t *lane)
{
    bool moved = false;

    if (NULL == lane->first || lane->broken) {
        return false;
    }
    moved = gather(lane);
    moved = (!lane->broken && tell_done(lane)) || moved;
    if (NULL == lane->first || lane->broken) {
        return moved;
    }
    moved = tell_reduced(lane) || moved;
    moved = reduce(lane) || moved;
    moved = tell_staged(lane) || moved;
    return (!lane->broken && stage(lane)) || moved;
}
