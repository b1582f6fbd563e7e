/* The allocator of pieces: never two in one place, everything comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "car_arena.h"

#define PIECES 64

static void pieces_never_overlap_and_all_memory_comes_back(void **state)
{
    struct {
        size_t offset, bytes;
    } held[PIECES] = {{0}};
    car_arena_t arena;
    unsigned int seed = 1;

    (void) state;
    car_arena_init(&arena, 4 << 20);
    for (int step = 0; step < 20000; ++step) {
        const int i = rand_r(&seed) % PIECES;
        if (0 != held[i].bytes) {
            car_arena_give(&arena, held[i].offset);
            held[i].bytes = 0;
            continue;
        }
        const size_t bytes = 1 + (size_t) rand_r(&seed) % (200 << 10);
        if (!car_arena_take(&arena, bytes, rand_r(&seed) % 2 ? CAR_ARENA_LOW : CAR_ARENA_HIGH,
                            &held[i].offset)) {
            continue;
        }
        held[i].bytes = bytes;
        assert_int_equal(0, held[i].offset % CAR_ARENA_ALIGNMENT);
        assert_true(held[i].offset + bytes <= arena.bytes);
        for (int j = 0; j < PIECES; ++j) {
            assert_true(j == i || 0 == held[j].bytes || held[j].offset >= held[i].offset + bytes
                        || held[i].offset >= held[j].offset + held[j].bytes);
        }
    }
    for (int i = 0; i < PIECES; ++i) {
        if (0 != held[i].bytes) {
            car_arena_give(&arena, held[i].offset);
        }
    }
    assert_int_equal(4 << 20, car_arena_free_bytes(&arena));
    size_t offset;
    assert_true(car_arena_take(&arena, 4 << 20, CAR_ARENA_LOW, &offset));
    car_arena_fini(&arena);
}

static void a_full_arena_refuses_and_a_gap_is_used_again(void **state)
{
    car_arena_t arena;
    size_t a, b, c;

    (void) state;
    car_arena_init(&arena, 3 * CAR_ARENA_ALIGNMENT + 100);
    assert_true(car_arena_take(&arena, 1, CAR_ARENA_LOW, &a));
    assert_true(car_arena_take(&arena, CAR_ARENA_ALIGNMENT, CAR_ARENA_LOW, &b));
    assert_true(car_arena_take(&arena, CAR_ARENA_ALIGNMENT, CAR_ARENA_LOW, &c));
    assert_false(car_arena_take(&arena, 1, CAR_ARENA_LOW, &a));
    assert_int_equal(0, car_arena_free_bytes(&arena));
    car_arena_give(&arena, b);
    assert_false(car_arena_take(&arena, CAR_ARENA_ALIGNMENT + 1, CAR_ARENA_LOW, &a));
    assert_true(car_arena_take(&arena, CAR_ARENA_ALIGNMENT, CAR_ARENA_LOW, &a));
    assert_int_equal(b, a);
    car_arena_fini(&arena);
}

static void large_pieces_come_from_the_other_end(void **state)
{
    car_arena_t arena;
    size_t small, large, other;

    (void) state;
    car_arena_init(&arena, 16 * CAR_ARENA_ALIGNMENT);
    assert_true(car_arena_take(&arena, 1, CAR_ARENA_LOW, &small));
    assert_true(car_arena_take(&arena, 4 * CAR_ARENA_ALIGNMENT, CAR_ARENA_HIGH, &large));
    assert_int_equal(0, small);
    assert_int_equal(12 * CAR_ARENA_ALIGNMENT, large);
    assert_true(car_arena_take(&arena, 2 * CAR_ARENA_ALIGNMENT, CAR_ARENA_HIGH, &other));
    assert_int_equal(10 * CAR_ARENA_ALIGNMENT, other);
    assert_int_equal(6 * CAR_ARENA_ALIGNMENT, car_arena_used_above(&arena, CAR_ARENA_ALIGNMENT));
    car_arena_give(&arena, large);
    assert_true(car_arena_take(&arena, 1, CAR_ARENA_HIGH, &large));
    assert_int_equal(15 * CAR_ARENA_ALIGNMENT, large);
    car_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_never_overlap_and_all_memory_comes_back),
        cmocka_unit_test(large_pieces_come_from_the_other_end),
        cmocka_unit_test(a_full_arena_refuses_and_a_gap_is_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
