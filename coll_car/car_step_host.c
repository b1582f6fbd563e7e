/*
 * What the host does itself in the phases of a step, where all ranks have host memory or share no
 * device memory: it folds in the chunks of the control segment.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "car_step_parts.h"

/* --- copies ----------------------------------------------------------------------------------- */

/*
 * There may be no comm to break. Where the ranks have just agreed to leave all later calls to the
 * saved module, some may do so already, and would wait there for those that have heard of a break:
 * so nothing is broken, the call goes on, and it and all later ones end in an error, as those do
 * that are left to the saved module (protocol.md, "Spoiled"). True then.
 */
static bool host_broken(car_lane_t *lane, car_call_t *op, const char *what)
{
    char reason[CAR_REASON_BYTES];

    op->failed = true;
    snprintf(reason, sizeof(reason), "rank %d: %s", lane->rank, what);
    if (lane->off) {
        car_control_spoil(lane->control, reason);
        return true;
    }
    lane->broken = true;
    car_control_break(lane->control, CAR_FAULT_DRIVER, reason);
    return false;
}

/* To or from a chunk of the control segment. False: broken. */
static bool copy_host(car_lane_t *lane, car_call_t *op, void *to, const void *from, size_t bytes,
                      const car_buffer_t *buffer)
{
    if (CAR_MEMORY_DEVICE != buffer->memory) {
        memcpy(to, from, bytes);
        return true;
    }
    return CUDA_SUCCESS == car_buffer_copy(car_cuda(), to, from, bytes, buffer)
           || host_broken(lane, op, "copying between a device buffer and host memory failed");
}

/*
 * Results to the user's buffer, from `start` on in the call; where elements have gaps, around
 * these.
 */
static bool results_out(car_lane_t *lane, car_call_t *op, uint64_t start, uint64_t count,
                        const char *results)
{
    const size_t element = op->reduction.element, bytes = count * element;
    char *to = (char *) op->output.address + start * element;
    char *merged;

    if (CAR_NO_GAPS == op->reduction.data || 0 == bytes) {
        return copy_host(lane, op, to, results, bytes, &op->output);
    }
    merged = malloc(bytes);
    if (NULL == merged) {
        return host_broken(lane, op, "no host memory for a result");
    }
    bool copied = copy_host(lane, op, merged, to, bytes, &op->output);
    for (size_t i = 0; i < bytes && copied; ++i) {
        if (0 != (op->reduction.data >> i % CAR_PACK_BYTES & 1)) {
            merged[i] = results[i];
        }
    }
    copied = copied && copy_host(lane, op, to, merged, bytes, &op->output);
    free(merged);
    return copied;
}

/* --- the phases ------------------------------------------------------------------------------- */

bool car_step_stage_on_host(car_lane_t *lane, car_call_t *op, uint64_t step)
{
    const car_part_t part = car_step_part(op, step);
    const size_t element = op->reduction.element;

    return copy_host(lane, op, car_control_chunk(lane->control, step, lane->rank),
                     (const char *) op->input.address + part.start * element, part.count * element,
                     &op->input);
}

/*
 * Folds elements of all ranks' chunks into this rank's own chunk, or beside it, where others still
 * read that.
 */
static void chunks_fold(const car_lane_t *lane, const car_call_t *op, uint64_t step,
                        car_part_t part, char *result)
{
    const void *operands[CAR_MAX_RANKS];

    for (int r = 0; r < lane->size; ++r) {
        operands[r] = (const char *) car_control_chunk(lane->control, step, r)
                      + part.start * op->reduction.element;
    }
    if (part.count > 0) {
        op->fold(op->fold_context, operands, lane->size, part.count, result);
    }
}

bool car_step_reduce_on_host(car_lane_t *lane, car_call_t *op, uint64_t step)
{
    const car_part_t part = car_step_part(op, step);

    if (car_step_by_shares(lane, op)) {
        const car_part_t mine = car_step_rank_share(lane, op, part.count, lane->rank);
        chunks_fold(lane, op, step, mine,
                    (char *) car_control_chunk(lane->control, step, lane->rank)
                        + mine.start * op->reduction.element);
        return true;
    }
    _Alignas(CAR_PACK_BYTES) char beside[CAR_SHARE_LEAST * CAR_MAX_RANKS];
    chunks_fold(lane, op, step, (car_part_t){0, part.count}, beside);
    return results_out(lane, op, part.start, part.count, beside);
}

bool car_step_gather_on_host(car_lane_t *lane, car_call_t *op, uint64_t step)
{
    const car_part_t part = car_step_part(op, step);
    bool out = true;

    for (int r = 0; r < lane->size && out; ++r) {
        const car_part_t share = car_step_rank_share(lane, op, part.count, r);
        out = 0 == share.count
              || results_out(lane, op, part.start + share.start, share.count,
                             (const char *) car_control_chunk(lane->control, step, r)
                                 + share.start * op->reduction.element);
    }
    return out;
}
