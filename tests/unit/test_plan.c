/*
 * Plans: what kernels take for granted of them, over every algorithm, rank count, element size and
 * many counts. The kernels' own formulas for where a block's elements lie are repeated here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "car_kernel_args.h"
#include "car_plan.h"

static const size_t pieces[] = {CAR_PIECE_MIN, 3 * CAR_PIECE_MIN, 8 << 20, CAR_PIECE_MAX};
static const uint32_t grids[] = {1, 2, 7, 33, 128, CAR_MAX_BLOCKS};

static car_limits_t limits_of(int ranks, int algorithm, size_t piece, uint32_t blocks,
                              uint32_t threads)
{
    car_limits_t limits = {.ranks = ranks,
                           .algorithm = algorithm,
                           .push_max = 64 << 10,
                           .pull_max = 1 << 20,
                           .blocks = blocks,
                           .threads = threads};
    car_layout_make(piece, ranks, &limits.layout);
    return limits;
}

static void regions_of_a_piece_do_not_overlap(void **state)
{
    (void) state;
    for (size_t p = 0; p < sizeof(pieces) / sizeof(pieces[0]); ++p) {
        for (uint32_t n = 2; n <= CAR_MAX_RANKS; ++n) {
            car_layout_t l;
            car_layout_make(pieces[p], (int) n, &l);
            assert_true(l.own_offset >= sizeof(car_flags_t));
            assert_true(l.own_offset + sizeof(car_own_words_t) <= l.push_offset);
            assert_true(l.push_offset + CAR_SLOTS * n * l.push_slot <= l.staging_offset);
            assert_true(2 * n * l.two_shot_slot <= l.staging_slot);
            assert_true(l.staging_offset + CAR_SLOTS * l.staging_slot <= l.local_offset);
            assert_true(l.local_offset + l.local_bytes <= pieces[p]);
            assert_int_equal(0, (l.push_offset | l.staging_offset | l.local_offset) % 16);
            assert_int_equal(
                0, (l.push_slot / 2 | l.staging_slot / CAR_PULL_HALVES | l.two_shot_slot) % 16);
        }
    }
}

/*
 * What a block stores in a round fits the slot, and what one round of all blocks takes fits the
 * local copy.
 */
static void check_room(const car_limits_t *limits, const car_plan_t *plan, size_t element,
                       size_t unit)
{
    const car_layout_t *l = &limits->layout;
    const uint64_t tile_bytes = plan->tile * element;

    switch (plan->algorithm) {
    case CAR_ONE_SHOT_PUSH:
        assert_int_equal(0, tile_bytes % unit);
        assert_true(tile_bytes / unit <= plan->threads);
        assert_true(plan->blocks * tile_bytes / CAR_PACKET_PAYLOAD * CAR_PACK_BYTES
                    <= l->push_slot);
        assert_int_equal(plan->tile * plan->blocks, plan->round);
        break;
    case CAR_TWO_SHOT_PUSH:
        assert_int_equal(0, tile_bytes % unit);
        assert_true(tile_bytes / unit <= plan->threads);
        assert_true(plan->blocks * tile_bytes / CAR_PACKET_PAYLOAD * CAR_PACK_BYTES
                    <= l->push_slot / 2);
        assert_int_equal(plan->tile * plan->blocks * (uint64_t) limits->ranks, plan->round);
        break;
    case CAR_ONE_SHOT_PULL:
        assert_int_equal(0, tile_bytes % CAR_PACK_BYTES);
        assert_true(plan->blocks * tile_bytes <= l->staging_slot / CAR_PULL_HALVES);
        assert_int_equal(plan->tile * plan->blocks, plan->round);
        break;
    default:
        assert_int_equal(0, tile_bytes % CAR_PACK_BYTES);
        assert_true(plan->blocks * tile_bytes <= l->two_shot_slot);
        assert_int_equal(plan->tile * plan->blocks * (uint64_t) limits->ranks, plan->round);
        break;
    }
    assert_true(plan->round * element <= l->local_bytes);
}

static void check_plan(const car_limits_t *limits, uint64_t count, size_t element, size_t unit)
{
    const car_plan_t plan = car_plan_make(limits, count, element, unit);

    assert_true(plan.blocks >= 1 && plan.blocks <= CAR_MAX_BLOCKS);
    assert_true(plan.threads >= 1 && plan.threads <= limits->threads);
    /* What is resident together: so many blocks of that size, or twice as many of half the size. */
    assert_true(plan.blocks <= limits->blocks
                || (plan.blocks <= 2 * limits->blocks && plan.threads <= limits->threads / 2));
    assert_true(plan.tile >= 1 && plan.rounds >= 1);
    /*
     * Every element lies in exactly one tile: tiles follow each other without gaps, and the last
     * round is not empty.
     */
    assert_true(plan.rounds * plan.round >= count);
    assert_true((plan.rounds - 1) * plan.round < count);
    check_room(limits, &plan, element, unit);
}

static void plans_cover_every_element_and_fit(void **state)
{
    (void) state;
    for (int algorithm = 0; algorithm <= CAR_ALGORITHM_AUTO; ++algorithm) {
        for (int ranks = 2; ranks <= CAR_MAX_RANKS; ++ranks) {
            for (size_t g = 0; g < sizeof(grids) / sizeof(grids[0]); ++g) {
                const car_limits_t limits = limits_of(ranks, algorithm, pieces[(size_t) ranks % 4],
                                                      grids[g], 0 == g % 2 ? 512 : 96);
                for (uint64_t count = 1; count < UINT64_C(1) << 33; count = count * 3 / 2 + 1) {
                    for (size_t element = 1; element <= 16; element *= 2) {
                        check_plan(&limits, count, element, 16);
                        if (element <= 8) {
                            check_plan(&limits, count, element, 8);
                        }
                    }
                }
            }
        }
    }
}

static void a_forced_algorithm_is_taken_and_thresholds_move_the_choice(void **state)
{
    (void) state;
    for (int algorithm = 0; algorithm < CAR_ALGORITHMS; ++algorithm) {
        const car_limits_t limits = limits_of(4, algorithm, 8 << 20, 64, 512);
        assert_int_equal(algorithm, car_plan_make(&limits, 1, 4, 8).algorithm);
        assert_int_equal(algorithm, car_plan_make(&limits, 1 << 24, 4, 8).algorithm);
    }
    car_limits_t limits = limits_of(4, CAR_ALGORITHM_AUTO, 8 << 20, 64, 512);
    limits.push_max = 1000;
    limits.pull_max = 2000;
    assert_int_equal(CAR_ONE_SHOT_PUSH, car_plan_make(&limits, 250, 4, 8).algorithm);
    assert_int_equal(CAR_ONE_SHOT_PULL, car_plan_make(&limits, 251, 4, 8).algorithm);
    assert_int_equal(CAR_ONE_SHOT_PULL, car_plan_make(&limits, 250, 8, 8).algorithm);
    assert_int_equal(CAR_TWO_SHOT, car_plan_make(&limits, 251, 8, 8).algorithm);
    limits.two_shot_push_max = 1500;
    assert_int_equal(CAR_ONE_SHOT_PUSH, car_plan_make(&limits, 250, 4, 8).algorithm);
    assert_int_equal(CAR_TWO_SHOT_PUSH, car_plan_make(&limits, 251, 4, 8).algorithm);
    assert_int_equal(CAR_TWO_SHOT_PUSH, car_plan_make(&limits, 375, 4, 8).algorithm);
    assert_int_equal(CAR_ONE_SHOT_PULL, car_plan_make(&limits, 376, 4, 8).algorithm);
}

static void a_piece_grows_only_as_far_as_it_saves_rounds(void **state)
{
    (void) state;
    for (int ranks = 2; ranks <= CAR_MAX_RANKS; ++ranks) {
        car_limits_t limits = limits_of(ranks, CAR_ALGORITHM_AUTO, CAR_PIECE_MIN, 64, 512);
        for (uint64_t count = 1; count < 1 << 26; count *= 4) {
            const size_t piece = car_plan_piece(&limits, count, 4, 8);
            assert_true(piece >= CAR_PIECE_MIN && piece <= CAR_PIECE_MAX);
            car_layout_make(piece, ranks, &limits.layout);
            const uint64_t rounds = car_plan_make(&limits, count, 4, 8).rounds;
            car_layout_make(CAR_PIECE_MAX, ranks, &limits.layout);
            assert_int_equal(rounds, car_plan_make(&limits, count, 4, 8).rounds);
            if (piece > CAR_PIECE_MIN) {
                car_layout_make(piece / 2 > CAR_PIECE_MIN ? piece / 2 : CAR_PIECE_MIN, ranks,
                                &limits.layout);
                assert_true(car_plan_make(&limits, count, 4, 8).rounds > rounds);
            }
        }
        assert_int_equal(CAR_PIECE_MIN, car_plan_piece(&limits, 1, 4, 8));
    }
}

/*
 * An eighth of a piece is what one_shot_pull and two_shot take in one exchange: no power of two
 * just misses it.
 */
static void messages_of_powers_of_two_fill_pieces(void **state)
{
    (void) state;
    for (int ranks = 2; ranks <= 8; ranks *= 2) {
        for (uint64_t bytes = 256 << 10; bytes <= 2 << 20; bytes *= 2) {
            for (int algorithm = CAR_ONE_SHOT_PULL; algorithm <= CAR_TWO_SHOT; ++algorithm) {
                const car_limits_t first = limits_of(ranks, algorithm, CAR_PIECE_MIN, 64, 512);
                assert_int_equal(8 * bytes, car_plan_piece(&first, bytes / 4, 4, 8));
                const car_limits_t limits = limits_of(ranks, algorithm, 8 * bytes, 64, 512);
                assert_int_equal(1, car_plan_make(&limits, bytes / 4, 4, 8).rounds);
            }
        }
        car_limits_t limits = limits_of(ranks, CAR_ONE_SHOT_PULL, CAR_PIECE_MAX, 64, 512);
        assert_int_equal(32, car_plan_make(&limits, 64 << 18, 4, 8).rounds);
        limits.algorithm = CAR_TWO_SHOT_PUSH;
        assert_int_equal(1, car_plan_make(&limits, 512 << 8, 4, 8).rounds);
        assert_int_equal(4, car_plan_make(&limits, 2 << 18, 4, 8).rounds);
    }
}

static void long_pulls_have_twice_the_blocks_of_half_the_size(void **state)
{
    (void) state;
    car_limits_t limits = limits_of(2, CAR_ONE_SHOT_PULL, CAR_PIECE_MAX, 128, 512);
    car_plan_t plan = car_plan_make(&limits, 4 << 18, 4, 8);
    assert_true(128 == plan.blocks && 512 == plan.threads && 2 == plan.rounds);
    plan = car_plan_make(&limits, 64 << 18, 4, 8);
    assert_true(256 == plan.blocks && 256 == plan.threads && 32 == plan.rounds);
    limits.fixed_grid = true;
    plan = car_plan_make(&limits, 64 << 18, 4, 8);
    assert_true(128 == plan.blocks && 512 == plan.threads && 32 == plan.rounds);
    limits = limits_of(8, CAR_ONE_SHOT_PULL, CAR_PIECE_MAX, 33, 512);
    plan = car_plan_make(&limits, 64 << 18, 4, 8);
    assert_true(33 == plan.blocks && 512 == plan.threads);
    limits = limits_of(2, CAR_ONE_SHOT_PULL, CAR_PIECE_MAX, 128, 96);
    plan = car_plan_make(&limits, 64 << 18, 4, 8);
    assert_true(128 == plan.blocks && 96 == plan.threads); /* half of that is no whole warps */
}

/*
 * What "at full speed" means for one of many communicators: no more rounds than with the largest
 * piece.
 */
static void the_first_piece_is_enough_for_8_KB_of_8_ranks(void **state)
{
    (void) state;
    for (int ranks = 2; ranks <= 8; ++ranks) {
        const car_limits_t limits = limits_of(ranks, CAR_ALGORITHM_AUTO, CAR_PIECE_MIN, 64, 512);
        for (size_t element = 1; element <= 16; element *= 2) {
            for (size_t unit = element > 8 ? 16 : 8; unit <= 16; unit += 8) {
                assert_int_equal(1, car_plan_make(&limits, 8192 / element, element, unit).rounds);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regions_of_a_piece_do_not_overlap),
        cmocka_unit_test(plans_cover_every_element_and_fit),
        cmocka_unit_test(a_forced_algorithm_is_taken_and_thresholds_move_the_choice),
        cmocka_unit_test(messages_of_powers_of_two_fill_pieces),
        cmocka_unit_test(long_pulls_have_twice_the_blocks_of_half_the_size),
        cmocka_unit_test(the_first_piece_is_enough_for_8_KB_of_8_ranks),
        cmocka_unit_test(a_piece_grows_only_as_far_as_it_saves_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
