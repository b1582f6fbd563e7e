/*
 * What peers say is looked at before it is used: everything that cannot be is refused, whatever
 * else is right.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "car_check.h"

#define ARENA ((uint64_t) 64 << 20)

static car_offer_t right_offer(void)
{
    return (car_offer_t){.pid = 4711,
                         .node_processes = 8,
                         .devices = 2,
                         .resident_blocks = 528,
                         .threads = 512,
                         .arena_bytes = ARENA,
                         .algorithm = CAR_ALGORITHM_AUTO,
                         .two_shot_push_max = 0,
                         .generation = 90,
                         .first_epoch = 1};
}

#define REFUSED(field, value)                                                                      \
    do {                                                                                           \
        car_offer_t offer = right_offer();                                                         \
        offer.field = (value);                                                                     \
        assert_non_null(car_check_offer(&offer));                                                  \
    } while (0)

static void an_offer_is_refused_for_each_field_that_cannot_be(void **state)
{
    const car_offer_t right = right_offer();

    (void) state;
    assert_null(car_check_offer(&right));
    REFUSED(pid, 0);
    REFUSED(pid, -1);
    REFUSED(node_processes, 0);
    REFUSED(node_processes, INT32_MAX);
    REFUSED(devices, -1);
    REFUSED(devices, INT32_MAX);
    REFUSED(resident_blocks, 0);
    REFUSED(resident_blocks, UINT32_MAX);
    REFUSED(threads, 0);
    REFUSED(threads, 513);
    REFUSED(arena_bytes, 0);
    REFUSED(arena_bytes, ARENA + 1);
    REFUSED(arena_bytes, UINT64_MAX - 4095);
    REFUSED(generation, 0);
    REFUSED(generation, -90);
    REFUSED(generation, 1000);
    REFUSED(algorithm, -1);
    REFUSED(algorithm, CAR_ALGORITHM_AUTO + 1);
    REFUSED(two_shot_push_max, -1);
    REFUSED(two_phase, -1);
    REFUSED(two_phase, CAR_TWO_PHASE_ALWAYS + 1);
    REFUSED(blocks_wanted, CAR_MAX_BLOCKS + 1);
    REFUSED(threads_wanted, 513);
    REFUSED(first_epoch, 0);
}

static void a_piece_lies_inside_its_arena(void **state)
{
    (void) state;
    assert_null(car_check_piece(0, ARENA, ARENA));
    assert_null(car_check_piece(ARENA - 4096, 4096, ARENA));
    assert_null(car_check_piece(ARENA, 0, ARENA));
    assert_non_null(car_check_piece(1, 4096, ARENA));
    assert_non_null(car_check_piece(ARENA - 4096, 4097, ARENA));
    assert_non_null(car_check_piece(ARENA, 1, ARENA));
    assert_non_null(car_check_piece(0, ARENA + 1, ARENA));
    assert_non_null(car_check_piece(4096, UINT64_MAX, ARENA));
    assert_non_null(car_check_piece(UINT64_MAX - 4095, 8192, ARENA));
    assert_non_null(car_check_piece(UINT64_MAX - 4095, UINT64_MAX, ARENA));
}

static void a_buffer_lies_inside_its_allocation(void **state)
{
    car_export_t told = {.id = 1, .bytes = 1000, .offset = 200};

    (void) state;
    assert_null(car_check_export(&told, 800, 8));
    assert_non_null(car_check_export(&told, 801, 8));
    assert_non_null(car_check_export(&told, UINT64_MAX, 8));
    assert_non_null(car_check_export(&told, 100, 16));
    told.offset = 1000;
    assert_non_null(car_check_export(&told, 1, 1));
    told.offset = UINT64_MAX - 7;
    assert_non_null(car_check_export(&told, 8, 8));
    told.bytes = UINT64_MAX;
    assert_non_null(car_check_export(&told, 8, 8));
    told.id = 0;
    assert_null(car_check_export(&told, 8, 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_offer_is_refused_for_each_field_that_cannot_be),
        cmocka_unit_test(a_piece_lies_inside_its_arena),
        cmocka_unit_test(a_buffer_lies_inside_its_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
