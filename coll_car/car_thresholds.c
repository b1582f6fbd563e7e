#include "car_thresholds.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define KB UINT64_C(1024)
#define ALL CAR_ALL_SIZES
#define MEASURED CAR_FROM_MEASURED
#define DERIVED CAR_FROM_DERIVED

typedef struct {
    int generation;
    car_sharing_t sharing;
    int ranks;
    car_threshold_from_t basis;
    uint64_t bytes[CAR_THRESHOLDS];
} entry_t;

static const entry_t table[] = {
#define X(generation, sharing, ranks, basis, push_max, pull_max, alone_max, zero_copy_min,         \
          zero_copy_again)                                                                         \
    {generation,                                                                                   \
     CAR_##sharing,                                                                                \
     ranks,                                                                                        \
     basis,                                                                                        \
     {push_max, pull_max, alone_max, zero_copy_min, zero_copy_again}},
#include "car_thresholds.def"
#undef X
};

#define ENTRIES (sizeof(table) / sizeof(table[0]))

static const char *const names[CAR_THRESHOLDS] = {"push_max", "pull_max", "alone_max",
                                                  "zero_copy_min", "zero_copy_again"};

/* --- between two numbers of ranks ------------------------------------------------------------- */

/*
 * What is known nearest to a number of ranks: of as many or fewer, and of as many or more; ranks 0:
 * nothing.
 */
typedef struct {
    int ranks;
    uint64_t bytes;
} known_t;

typedef struct {
    known_t below, above;
} around_t;

static void look_at(around_t *around, int ranks, int at, uint64_t bytes)
{
    const known_t known = {at, bytes};

    if (at <= ranks && at > around->below.ranks) {
        around->below = known;
    }
    if (at >= ranks && (0 == around->above.ranks || at < around->above.ranks)) {
        around->above = known;
    }
}

/*
 * Crossovers go with a power of the number of ranks: a straight line between logarithms. No size
 * lies half way to "all".
 */
static uint64_t between(const around_t *around, int ranks)
{
    const known_t low = around->below, high = around->above;

    if (low.bytes == high.bytes || low.ranks == high.ranks) {
        return low.bytes;
    }
    const double place = log((double) ranks / low.ranks) / log((double) high.ranks / low.ranks);
    if (0 == low.bytes || 0 == high.bytes || CAR_ALL_SIZES == low.bytes
        || CAR_ALL_SIZES == high.bytes) {
        return place <= 0.5 ? low.bytes : high.bytes;
    }
    return (uint64_t) llround((double) low.bytes
                              * pow((double) high.bytes / (double) low.bytes, place));
}

/* --- the three sources ------------------------------------------------------------------------ */

/* The one whose entries stand for a GPU: the newest that is no newer, else the oldest. */
static int generation_for(int generation, car_sharing_t sharing)
{
    int best = 0;

    for (size_t i = 0; i < ENTRIES; ++i) {
        const int here = table[i].generation;
        const bool better = here <= generation ? best > generation || here > best
                                               : best > generation && here < best;
        best = sharing == table[i].sharing && (0 == best || better) ? here : best;
    }
    return best;
}

static void from_table(int generation, car_sharing_t sharing, int ranks, car_threshold_t which,
                       car_thresholds_t *found)
{
    const int nearest = generation_for(generation, sharing);
    around_t around = {{0, 0}, {0, 0}};
    uint8_t from = CAR_FROM_DERIVED;

    for (size_t i = 0; i < ENTRIES; ++i) {
        const entry_t *entry = &table[i];
        if (nearest == entry->generation && sharing == entry->sharing) {
            look_at(&around, ranks, entry->ranks, entry->bytes[which]);
            from = ranks == entry->ranks && generation == nearest
                           && (CAR_ALONE_MAX != which || CAR_ONE_GPU == sharing)
                       ? (uint8_t) entry->basis
                       : from;
        }
    }
    around.below = 0 == around.below.ranks ? around.above : around.below;
    around.above = 0 == around.above.ranks ? around.below : around.above;
    found->bytes[which] = between(&around, ranks);
    found->from[which] = from;
}

/*
 * A file speaks for the numbers of ranks from its least to its greatest, on the GPUs that it names.
 */
static bool from_file(const car_tune_t *tune, int generation, car_sharing_t sharing, int ranks,
                      car_threshold_t which, car_thresholds_t *found)
{
    around_t around = {{0, 0}, {0, 0}};

    for (int i = 0; NULL != tune && i < tune->count; ++i) {
        const car_tuned_t *tuned = &tune->tuned[i];
        if (generation == tuned->generation && sharing == tuned->sharing && which == tuned->which) {
            look_at(&around, ranks, tuned->ranks, tuned->bytes);
        }
    }
    if (0 == around.below.ranks || 0 == around.above.ranks) {
        return false;
    }
    found->bytes[which] = between(&around, ranks);
    found->from[which] = CAR_FROM_FILE;
    return true;
}

static bool from_parameter(const car_params_t *params, car_threshold_t which,
                           car_thresholds_t *found)
{
    const int set[CAR_THRESHOLDS] = {params->push_max, params->pull_max, params->alone_max,
                                     params->zero_copy_min, params->zero_copy_again};

    if (set[which] < 0) {
        return false;
    }
    found->bytes[which] =
        CAR_ZERO_COPY_MIN == which && 0 == set[which] ? CAR_NEVER : (uint64_t) set[which];
    found->from[which] = CAR_FROM_PARAMETER;
    return true;
}

void car_thresholds_find(const car_params_t *params, int generation, car_sharing_t sharing,
                         int ranks, car_thresholds_t *thresholds)
{
    for (int i = 0; i < CAR_THRESHOLDS; ++i) {
        const car_threshold_t which = (car_threshold_t) i;
        if (!from_parameter(params, which, thresholds)
            && !from_file(params->tune, generation, sharing, ranks, which, thresholds)) {
            from_table(generation, sharing, ranks, which, thresholds);
        }
    }
}

/* --- for the user ----------------------------------------------------------------------------- */

const char *car_threshold_name(car_threshold_t which)
{
    return names[which];
}

bool car_threshold_is_least(car_threshold_t which)
{
    return which >= CAR_ZERO_COPY_MIN;
}

const char *car_sharing_name(car_sharing_t sharing)
{
    return CAR_ONE_GPU == sharing ? "one_gpu" : "several_gpus";
}

const char *car_threshold_from_name(uint8_t from)
{
    static const char *const said[] = {"built in, measured", "built in, not measured", "tune file",
                                       "parameter"};
    return from <= CAR_FROM_PARAMETER ? said[from] : "unknown";
}

void car_thresholds_text(const car_thresholds_t *thresholds, char text[CAR_THRESHOLDS_TEXT_BYTES])
{
    size_t used = 0;

    text[0] = '\0';
    for (int i = 0; i < CAR_THRESHOLDS && used < CAR_THRESHOLDS_TEXT_BYTES; ++i) {
        const uint64_t bytes = thresholds->bytes[i];
        char number[24];
        snprintf(number, sizeof(number), "%" PRIu64, bytes);
        used += (size_t) snprintf(text + used, CAR_THRESHOLDS_TEXT_BYTES - used, "%s%s %s (%s)",
                                  0 == i ? "" : ", ", names[i],
                                  UINT64_MAX != bytes                           ? number
                                  : car_threshold_is_least((car_threshold_t) i) ? "never"
                                                                                : "all",
                                  car_threshold_from_name(thresholds->from[i]));
    }
}
