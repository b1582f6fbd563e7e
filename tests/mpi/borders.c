#include "borders.h"

#include <stdbool.h>
#include <stdlib.h>

#include "car_plan.h"
#include "car_thresholds.h"
#include "testing.h"

/* Of the GPUs that are simulated, and of those that the figures came from. */
#define GENERATION 90

typedef struct {
    uint64_t *counts;
    int number;
    uint64_t most;
} list_t;

static void add(list_t *list, uint64_t count)
{
    for (int i = 0; i < list->number; ++i) {
        if (list->counts[i] == count) {
            return;
        }
    }
    if (count > 0 && count <= list->most && list->number < BORDERS_MAX) {
        list->counts[list->number++] = count;
    }
}

static void add_around(list_t *list, uint64_t count)
{
    add(list, count - 1);
    add(list, count);
    add(list, count + 1);
}

/* Where the table goes from one algorithm to the next: the largest count of the former. */
static void add_thresholds(list_t *list, const car_limits_t *limits, size_t element, size_t unit)
{
    for (uint64_t low = 1; low < list->most; low *= 2) {
        uint64_t below = low, above = 2 * low;
        if (car_plan_make(limits, below, element, unit).algorithm
            == car_plan_make(limits, above, element, unit).algorithm) {
            continue;
        }
        while (above - below > 1) {
            const uint64_t middle = (below + above) / 2;
            const bool same = car_plan_make(limits, middle, element, unit).algorithm
                              == car_plan_make(limits, low, element, unit).algorithm;
            *(same ? &below : &above) = middle;
        }
        add_around(list, below);
    }
}

static void add_rounds(list_t *list, car_limits_t limits, size_t element, size_t unit)
{
    for (int algorithm = 0; algorithm < CAR_ALGORITHMS; ++algorithm) {
        limits.algorithm = algorithm;
        const car_plan_t full = car_plan_make(&limits, UINT64_C(1) << 40, element, unit);
        add_around(list, full.tile);
        for (uint64_t k = 1; k <= 3; ++k) {
            add_around(list, k * full.round);
        }
    }
}

int borders_find(int ranks, size_t element, size_t max_bytes, uint64_t counts[BORDERS_MAX])
{
    list_t list = {.counts = counts, .most = max_bytes / element};
    /* of the rarer pairs always 16: their borders lie on some of these too */
    const size_t unit = element > 8 ? 16 : 8;
    car_limits_t limits = {.ranks = ranks,
                           .algorithm = CAR_ALGORITHM_AUTO,
                           .two_shot_push_max = (uint64_t) atol(test_mca("two_shot_push_max", "0")),
                           .blocks = (uint32_t) atoi(test_mca("blocks", "2")),
                           .threads = (uint32_t) atoi(test_mca("threads", "128"))};

    const car_params_t params = {.push_max = atoi(test_mca("push_max", "-1")),
                                 .pull_max = atoi(test_mca("pull_max", "-1"))};

    if (ranks < 2 || ranks > 16) {
        return 0; /* not for coll/car */
    }
    limits.blocks = 0 == limits.blocks ? 2 : limits.blocks;
    limits.threads = 0 == limits.threads ? 128 : limits.threads;
    /* Pieces start small and grow, here to what 512 KB take. */
    const size_t pieces[] = {CAR_PIECE_MIN, CAR_PIECE_MAX / 4};
    for (size_t p = 0; p < sizeof(pieces) / sizeof(pieces[0]); ++p) {
        car_layout_make(pieces[p], ranks, &limits.layout);
        for (int sharing = 0; sharing < CAR_SHARINGS; ++sharing) {
            car_thresholds_t thresholds;
            car_thresholds_find(&params, GENERATION, (car_sharing_t) sharing, ranks, &thresholds);
            limits.push_max = thresholds.bytes[CAR_PUSH_MAX];
            limits.pull_max = thresholds.bytes[CAR_PULL_MAX];
            add_thresholds(&list, &limits, element, unit);
        }
        add_rounds(&list, limits, element, unit);
    }
    return list.number;
}
