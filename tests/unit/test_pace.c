/*
 * When a kernel stays: while calls come quickly and it serves them, and less and less often where it does not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "car_pace.h"

#define STAY_NS 30000

/* A program that calls every `period` nanoseconds; a kernel that stays serves `serves` calls before it has gone. */
typedef struct {
    car_pace_t pace;
    uint64_t now;
    uint32_t left; /* calls that the kernel still serves; 0: none stays */
    unsigned int stays, served;
} program_t;

static void call(program_t *p, uint64_t period, uint32_t serves)
{
    p->now += period;
    car_pace_begin(&p->pace, p->now, STAY_NS);
    if (p->left > 1) {
        --p->left;
        car_pace_served(&p->pace);
        ++p->served;
    } else {
        if (1 == p->left) {
            p->left = 0;
            car_pace_gone(&p->pace, STAY_NS);
        }
        if (car_pace_wants(&p->pace)) {
            p->left = serves + 1;
            car_pace_stays(&p->pace);
            ++p->stays;
        }
    }
    p->now += 5000;
    car_pace_end(&p->pace, p->now);
}

static program_t run(int calls, uint64_t period, uint32_t serves)
{
    program_t p = {.now = 1000000};

    for (int i = 0; i < calls; ++i) {
        call(&p, period, serves);
    }
    return p;
}

static void quick_calls_are_served(void **state)
{
    (void) state;
    const program_t p = run(10000, 2000, 200);
    assert_true(p.served > 9900);
    assert_int_equal(0, p.pace.pause);
}

static void slow_calls_have_no_stay(void **state)
{
    (void) state;
    assert_int_equal(0, run(10000, STAY_NS + 1, 200).stays);
}

static void stays_that_serve_nobody_become_rare(void **state)
{
    (void) state;
    assert_in_range(run(100, 2000, 0).stays, 1, 2);
    assert_in_range(run(1000, 2000, 0).stays, 3, 5);
    assert_in_range(run(100000, 2000, 0).stays, 8, 12);
    /* And not for ever: within the longest pause another one is tried. */
    assert_true(run(3 * CAR_PACE_PAUSE_MOST, 2000, 0).stays > run(CAR_PACE_PAUSE_MOST, 2000, 0).stays);
}

static void a_few_served_calls_are_not_worth_it(void **state)
{
    (void) state;
    assert_true(run(10000, 2000, car_pace_worth(STAY_NS) - 1).stays < 20);
    assert_true(run(10000, 2000, car_pace_worth(STAY_NS)).stays > 300);
}

static void a_program_may_change_its_ways(void **state)
{
    program_t p = run(1000, 2000, 0);
    const unsigned int before = p.served;

    (void) state;
    for (int i = 0; i < 3 * CAR_PACE_PAUSE_MOST; ++i) {
        call(&p, 2000, 200);
    }
    assert_true(p.served - before > CAR_PACE_PAUSE_MOST);
    assert_int_equal(0, p.pace.pause);
}

/* Forty calls in quick succession, then a long computation: the end of each stay is waited for in vain, and it is worth it. */
static void bursts_are_served(void **state)
{
    program_t p = {.now = 1000000};

    (void) state;
    for (int burst = 0; burst < 100; ++burst) {
        call(&p, 500000, 0 == p.left ? 1000 : 0);
        if (p.left > 0) { /* the long gap has ended it */
            p.left = 0;
            car_pace_gone(&p.pace, STAY_NS);
        }
        for (int i = 1; i < 40; ++i) {
            call(&p, 2000, 1000);
        }
        p.left = p.left > 0 ? 1 : 0;
    }
    assert_true(p.served > 100 * 34);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quick_calls_are_served),
        cmocka_unit_test(slow_calls_have_no_stay),
        cmocka_unit_test(stays_that_serve_nobody_become_rare),
        cmocka_unit_test(a_few_served_calls_are_not_worth_it),
        cmocka_unit_test(a_program_may_change_its_ways),
        cmocka_unit_test(bursts_are_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
