/*
 * The counters of a lane: how far each rank has come with the phases of its steps (car_step.c).
 */
#include "car_lane_parts.h"

/*
 * Others' counters are read only where what is known of them does not do: each look at a line that
 * its rank has written since takes a tenth of a microsecond.
 */
#define ALL_AT_LEAST(lane, counter, value)                                                         \
    uint64_t least = (lane)->come.counter;                                                         \
    if (least < (value)) {                                                                         \
        least = UINT64_MAX;                                                                        \
        for (int r = 0; r < (lane)->size; ++r) {                                                   \
            const uint64_t come =                                                                  \
                atomic_load_explicit(&car_lane_words((lane), r)->counter, memory_order_acquire);   \
            least = come < least ? come : least;                                                   \
        }                                                                                          \
        (lane)->come.counter = least;                                                              \
    }                                                                                              \
    return least >= (value)

bool car_lane_all_settled(car_lane_t *lane, uint64_t value)
{
    ALL_AT_LEAST(lane, settled, value);
}

bool car_lane_all_staged(car_lane_t *lane, uint64_t value) { ALL_AT_LEAST(lane, staged, value); }

bool car_lane_all_done(car_lane_t *lane, uint64_t value) { ALL_AT_LEAST(lane, done, value); }

static bool all_reduced(car_lane_t *lane, uint64_t value)
{
    ALL_AT_LEAST(lane, reduced, value);
}

/*
 * The step behind this one is staged when all are done with the one before, which most are by now:
 * that is looked at while the lines are here.
 */
bool car_lane_all_reduced(car_lane_t *lane, uint64_t value)
{
    const bool reduced = all_reduced(lane, value);

    if (reduced) {
        (void) car_lane_all_done(lane, value - 1);
    }
    return reduced;
}

#define BEHIND(lane, counter, value)                                                               \
    uint32_t behind = 0;                                                                           \
    for (int r = 0; r < (lane)->size; ++r) {                                                       \
        const uint64_t come =                                                                      \
            atomic_load_explicit(&car_lane_words((lane), r)->counter, memory_order_acquire);       \
        behind |= (uint32_t) (come < (value)) << r;                                                \
    }                                                                                              \
    return behind

static uint32_t behind_staging(const car_lane_t *lane, uint64_t step)
{
    BEHIND(lane, staged, step);
}

static uint32_t behind_reducing(const car_lane_t *lane, uint64_t step)
{
    BEHIND(lane, reduced, step);
}

static uint32_t behind_ending(const car_lane_t *lane, uint64_t step) { BEHIND(lane, done, step); }

uint32_t car_lane_step_missing(const car_lane_t *lane, const char **phase)
{
    const uint32_t others = ~(UINT32_C(1) << lane->rank);
    uint32_t missing = 0;

    if (lane->gather_next
        <= atomic_load_explicit(&car_lane_words(lane, lane->rank)->reduced, memory_order_relaxed)) {
        *phase = "until all have reduced their shares";
        missing = others & behind_reducing(lane, lane->gather_next);
    }
    if (0 == missing && lane->reduce_next < lane->stage_next) {
        *phase = "until all operands are there";
        missing = others & behind_staging(lane, lane->reduce_next);
    }
    if (0 == missing && lane->stage_next > CAR_LANE_STEPS && lane->stage_next <= lane->steps) {
        *phase = "until memory of an earlier step is free";
        missing = others & behind_ending(lane, lane->stage_next - CAR_LANE_STEPS);
    }
    return missing;
}
