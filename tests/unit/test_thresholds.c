/*
 * Thresholds: the built-in table as a whole, what lies between its entries, and what comes before
 * what.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "car_kernel_args.h"
#include "car_thresholds.h"

#define KB UINT64_C(1024)
#define ALL CAR_ALL_SIZES
#define MEASURED true
#define DERIVED false

static const struct {
    int generation;
    car_sharing_t sharing;
    int ranks;
    bool measured;
    uint64_t bytes[CAR_THRESHOLDS];
} entries[] = {
#define X(generation, sharing, ranks, basis, ...)                                                  \
    {generation, CAR_##sharing, ranks, basis, {__VA_ARGS__}},
#include "car_thresholds.def"
#undef X
};

#define ENTRIES (sizeof(entries) / sizeof(entries[0]))

static const car_params_t none = {
    .push_max = -1, .pull_max = -1, .alone_max = -1, .zero_copy_min = -1, .zero_copy_again = -1};

static car_thresholds_t find(const car_params_t *params, int generation, car_sharing_t sharing,
                             int ranks)
{
    car_thresholds_t found;

    memset(&found, 0, sizeof(found));
    car_thresholds_find(params, generation, sharing, ranks, &found);
    return found;
}

static car_tuned_t tuned(int generation, car_sharing_t sharing, int ranks, car_threshold_t which,
                         uint64_t bytes)
{
    return (car_tuned_t){.generation = generation,
                         .sharing = sharing,
                         .ranks = ranks,
                         .which = which,
                         .bytes = bytes};
}

static void an_entry_of_the_table_is_found_as_it_stands_there(void **state)
{
    (void) state;
    for (size_t i = 0; i < ENTRIES; ++i) {
        const car_thresholds_t found =
            find(&none, entries[i].generation, entries[i].sharing, entries[i].ranks);
        assert_memory_equal(entries[i].bytes, found.bytes, sizeof(found.bytes));
        assert_int_equal(entries[i].measured ? CAR_FROM_MEASURED : CAR_FROM_DERIVED,
                         found.from[CAR_PUSH_MAX]);
        assert_int_equal(entries[i].measured && CAR_ONE_GPU == entries[i].sharing
                             ? CAR_FROM_MEASURED
                             : CAR_FROM_DERIVED,
                         found.from[CAR_ALONE_MAX]);
    }
}

/*
 * More ranks: more traffic for push and pull, so never a larger threshold; and buffers that are
 * known never wait longer.
 */
static void thresholds_fall_with_the_number_of_ranks(void **state)
{
    static const int generations[] = {70, 80, 86, 90, 100, 120};

    (void) state;
    for (size_t g = 0; g < sizeof(generations) / sizeof(generations[0]); ++g) {
        for (int s = 0; s < CAR_SHARINGS; ++s) {
            car_thresholds_t before = find(&none, generations[g], (car_sharing_t) s, 2);
            for (int ranks = 2; ranks <= CAR_MAX_RANKS; ++ranks) {
                const car_thresholds_t found =
                    find(&none, generations[g], (car_sharing_t) s, ranks);
                for (int t = 0; t < CAR_THRESHOLDS; ++t) {
                    assert_true(found.bytes[t] > 0 && found.bytes[t] <= before.bytes[t]);
                }
                assert_true(found.bytes[CAR_PUSH_MAX] <= found.bytes[CAR_PULL_MAX]);
                assert_true(found.bytes[CAR_ZERO_COPY_AGAIN] <= found.bytes[CAR_ZERO_COPY_MIN]);
                before = found;
            }
        }
    }
}

static void between_two_entries_lies_the_geometric_mean(void **state)
{
    car_tune_t tune = {2,
                       {tuned(90, CAR_ONE_GPU, 2, CAR_PUSH_MAX, 1 << 20),
                        tuned(90, CAR_ONE_GPU, 8, CAR_PUSH_MAX, 1 << 16)}};
    car_params_t params = none;

    (void) state;
    params.tune = &tune;
    assert_int_equal(1 << 20, find(&params, 90, CAR_ONE_GPU, 2).bytes[CAR_PUSH_MAX]);
    assert_int_equal(1 << 18, find(&params, 90, CAR_ONE_GPU, 4).bytes[CAR_PUSH_MAX]);
    assert_int_equal(1 << 16, find(&params, 90, CAR_ONE_GPU, 8).bytes[CAR_PUSH_MAX]);
    const uint64_t three = find(&params, 90, CAR_ONE_GPU, 3).bytes[CAR_PUSH_MAX]; /* 2^20 (2/3)^2 */
    assert_true(three > 466032 && three < 466036);
    /* The built-in table does the same, and says that this was not measured. */
    const car_thresholds_t built_in = find(&none, 90, CAR_ONE_GPU, 3);
    assert_true(built_in.bytes[CAR_PUSH_MAX] > 128 * KB
                && built_in.bytes[CAR_PUSH_MAX] < 1024 * KB);
    assert_int_equal(CAR_FROM_DERIVED, built_in.from[CAR_PUSH_MAX]);
}

static void no_size_lies_half_way_to_all_or_never(void **state)
{
    car_tune_t tune = {4,
                       {tuned(90, CAR_SEVERAL_GPUS, 2, CAR_PULL_MAX, ALL),
                        tuned(90, CAR_SEVERAL_GPUS, 8, CAR_PULL_MAX, 64 * KB),
                        tuned(90, CAR_SEVERAL_GPUS, 2, CAR_PUSH_MAX, 0),
                        tuned(90, CAR_SEVERAL_GPUS, 8, CAR_PUSH_MAX, 64 * KB)}};
    car_params_t params = none;

    (void) state;
    params.tune = &tune;
    for (int ranks = 2; ranks <= 8; ++ranks) {
        const car_thresholds_t found = find(&params, 90, CAR_SEVERAL_GPUS, ranks);
        assert_true(found.bytes[CAR_PULL_MAX] == (ranks <= 4 ? ALL : 64 * KB));
        assert_true(found.bytes[CAR_PUSH_MAX] == (ranks <= 4 ? 0 : 64 * KB));
    }
}

static void other_generations_use_the_nearest_older_entries(void **state)
{
    static const struct {
        int asked, used;
    } pairs[] = {{70, 80}, {86, 80}, {89, 80}, {103, 100}, {120, 100}};

    (void) state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); ++i) {
        const car_thresholds_t asked = find(&none, pairs[i].asked, CAR_SEVERAL_GPUS, 4);
        const car_thresholds_t used = find(&none, pairs[i].used, CAR_SEVERAL_GPUS, 4);
        assert_memory_equal(used.bytes, asked.bytes, sizeof(asked.bytes));
    }
    /* Only one has entries for ranks that share a GPU; of another GPU they are not measured. */
    const car_thresholds_t a100 = find(&none, 80, CAR_ONE_GPU, 2),
                           h100 = find(&none, 90, CAR_ONE_GPU, 2);
    assert_memory_equal(h100.bytes, a100.bytes, sizeof(a100.bytes));
    assert_int_equal(CAR_FROM_MEASURED, h100.from[CAR_PUSH_MAX]);
    assert_int_equal(CAR_FROM_DERIVED, a100.from[CAR_PUSH_MAX]);
}

static void a_file_speaks_for_its_own_gpus_and_ranks_only(void **state)
{
    car_tune_t tune = {2,
                       {tuned(90, CAR_ONE_GPU, 4, CAR_PUSH_MAX, 5000),
                        tuned(90, CAR_ONE_GPU, 6, CAR_PUSH_MAX, 5000)}};
    car_params_t params = none;

    (void) state;
    params.tune = &tune;
    for (int ranks = 2; ranks <= CAR_MAX_RANKS; ++ranks) {
        const car_thresholds_t found = find(&params, 90, CAR_ONE_GPU, ranks);
        const car_thresholds_t built_in = find(&none, 90, CAR_ONE_GPU, ranks);
        const bool spoken_for = ranks >= 4 && ranks <= 6;
        assert_true(found.bytes[CAR_PUSH_MAX]
                    == (spoken_for ? 5000 : built_in.bytes[CAR_PUSH_MAX]));
        assert_int_equal(spoken_for, CAR_FROM_FILE == found.from[CAR_PUSH_MAX]);
        assert_true(found.bytes[CAR_PULL_MAX] == built_in.bytes[CAR_PULL_MAX]);
    }
    assert_true(5000 != find(&params, 90, CAR_SEVERAL_GPUS, 4).bytes[CAR_PUSH_MAX]);
    assert_true(5000 != find(&params, 100, CAR_ONE_GPU, 4).bytes[CAR_PUSH_MAX]);
}

static void parameters_come_before_the_file_and_the_file_before_the_table(void **state)
{
    car_tune_t tune = {2,
                       {tuned(90, CAR_ONE_GPU, 4, CAR_PUSH_MAX, 5000),
                        tuned(90, CAR_ONE_GPU, 4, CAR_ZERO_COPY_MIN, 6000)}};
    car_params_t params = none;

    (void) state;
    params.tune = &tune;
    params.push_max = 7000;
    params.zero_copy_again = 0;
    params.alone_max = 0;
    car_thresholds_t found = find(&params, 90, CAR_ONE_GPU, 4);
    assert_int_equal(7000, found.bytes[CAR_PUSH_MAX]);
    assert_int_equal(CAR_FROM_PARAMETER, found.from[CAR_PUSH_MAX]);
    assert_true(ALL == found.bytes[CAR_PULL_MAX]);
    assert_int_equal(CAR_FROM_MEASURED, found.from[CAR_PULL_MAX]);
    assert_int_equal(6000, found.bytes[CAR_ZERO_COPY_MIN]);
    assert_int_equal(CAR_FROM_FILE, found.from[CAR_ZERO_COPY_MIN]);
    assert_int_equal(0, found.bytes[CAR_ZERO_COPY_AGAIN]);
    assert_int_equal(0, found.bytes[CAR_ALONE_MAX]);
    params.zero_copy_min = 0;
    found = find(&params, 90, CAR_ONE_GPU, 4);
    assert_true(CAR_NEVER == found.bytes[CAR_ZERO_COPY_MIN]);
}

static void the_longest_text_fits(void **state)
{
    car_thresholds_t t = {
        .bytes = {UINT64_MAX - 1, UINT64_MAX - 1, UINT64_MAX - 1, UINT64_MAX - 1, UINT64_MAX - 1},
        .from = {CAR_FROM_DERIVED, CAR_FROM_DERIVED, CAR_FROM_DERIVED, CAR_FROM_DERIVED,
                 CAR_FROM_DERIVED}};
    char text[CAR_THRESHOLDS_TEXT_BYTES];

    (void) state;
    car_thresholds_text(&t, text);
    assert_int_equal(')', text[strlen(text) - 1]);
    t.bytes[CAR_PULL_MAX] = CAR_ALL_SIZES;
    t.bytes[CAR_ALONE_MAX] = CAR_ALL_SIZES;
    t.bytes[CAR_ZERO_COPY_MIN] = CAR_NEVER;
    t.from[CAR_ZERO_COPY_MIN] = 255; /* as a damaged peer would say */
    car_thresholds_text(&t, text);
    assert_non_null(strstr(text, "pull_max all (built in, not measured), alone_max all (built in, "
                                 "not measured), zero_copy_min never (unknown)"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_of_the_table_is_found_as_it_stands_there),
        cmocka_unit_test(thresholds_fall_with_the_number_of_ranks),
        cmocka_unit_test(between_two_entries_lies_the_geometric_mean),
        cmocka_unit_test(no_size_lies_half_way_to_all_or_never),
        cmocka_unit_test(other_generations_use_the_nearest_older_entries),
        cmocka_unit_test(a_file_speaks_for_its_own_gpus_and_ranks_only),
        cmocka_unit_test(parameters_come_before_the_file_and_the_file_before_the_table),
        cmocka_unit_test(the_longest_text_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
