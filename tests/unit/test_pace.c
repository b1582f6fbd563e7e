/*
 * When a kernel stays: where the mean time from call to call is shorter with it than without,
 * whatever the reason, and less and less often where it is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "car_pace.h"

#define STAY_NS 30000
#define MS UINT64_C(1000000)

/* What a call takes on the GPU that the default of coll_car_stay_us was chosen for, roughly. */
#define LAUNCHED_NS 8000
#define RUNG_NS 4600

/*
 * A program that computes for a while between calls, and its GPU. A stay ends when it has waited
 * for STAY_NS, or after `most` calls.
 */
typedef struct {
    car_pace_t pace;
    uint64_t now, number;
    uint64_t gap;      /* nanoseconds between two calls */
    uint64_t jitter;   /* and up to so many more or less */
    uint64_t slower;   /* so many more while a kernel stays */
    uint64_t hiccup;   /* so many more in one of... */
    uint32_t hiccups;  /* ...so many calls; 0: none */
    uint32_t burst;    /* the gap comes after so many calls; 0: after each */
    uint32_t most;     /* 0: no limit */
    bool waits;        /* for the end of the stay, after each call */
    bool here, never;  /* a kernel stays; none ever does */
    uint32_t left, stays, served;
    uint64_t seed;
} program_t;

static program_t program(uint64_t gap)
{
    return (program_t) {.now = MS, .gap = gap};
}

/* Below `of`; the same in each run. */
static uint64_t draw(program_t *p, uint64_t of)
{
    p->seed = p->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (p->seed >> 33) % of;
}

static uint64_t computation(program_t *p)
{
    uint64_t gap = 0;

    if (0 == p->burst || 0 == p->number % p->burst) {
        gap = p->gap - p->jitter + (0 != p->jitter ? draw(p, 2 * p->jitter) : 0);
    }
    if (0 != p->hiccups && 0 == p->number % p->hiccups) {
        gap += p->hiccup;
    }
    if (p->here) {
        gap += p->waits ? STAY_NS - 5000 : p->slower;
    }
    return gap;
}

static void gone(program_t *p)
{
    p->here = false;
    car_pace_gone(&p->pace);
}

/* The next call begins; whether a kernel has stayed that serves it. */
static bool begin(program_t *p)
{
    const uint64_t gap = computation(p);

    p->now += gap;
    car_pace_begin(&p->pace, p->now, ++p->number, STAY_NS);
    if (p->here && (gap >= STAY_NS || p->waits || 0 == p->left)) {
        gone(p);
    }
    if (p->here) {
        --p->left;
        ++p->served;
        car_pace_served(&p->pace);
        return true;
    }
    if (!p->never && car_pace_wants(&p->pace)) {
        p->here = true;
        p->left = 0 == p->most ? UINT32_MAX : p->most;
        ++p->stays;
        car_pace_stays(&p->pace);
    }
    return false;
}

static void end(program_t *p, uint64_t took)
{
    p->now += took;
    if (!car_pace_end(&p->pace, p->now, p->here, STAY_NS) && p->here) {
        gone(p);
    }
}

/* How many of so many calls are served. */
static uint32_t run(program_t *p, uint32_t calls)
{
    const uint32_t before = p->served;

    for (uint32_t i = 0; i < calls; ++i) {
        end(p, begin(p) ? RUNG_NS : LAUNCHED_NS);
    }
    return p->served - before;
}

/* Its total time with such stays as there are, in parts of 10000 of that without any. */
static uint64_t costs(program_t p, uint32_t calls)
{
    program_t without = p;

    without.never = true;
    run(&p, calls);
    run(&without, calls);
    return 10000 * (p.now - MS) / (without.now - MS);
}

/* --- where it pays ---------------------------------------------------------------------------- */

static void quick_calls_are_served(void **state)
{
    program_t p = program(0);

    (void) state;
    assert_true(run(&p, 10000) > 9900);
    assert_int_equal(0, p.pace.pause);
}

static void calls_with_jitter_are_served(void **state)
{
    (void) state;
    for (uint64_t jitter = 0; jitter <= 10000; jitter += 2000) {
        for (uint64_t seed = 0; seed < 20; ++seed) {
            program_t p = program(20000);
            p.jitter = jitter;
            p.seed = seed;
            p.most = 200;
            assert_true(run(&p, 20000) > 18000);
        }
    }
}

/*
 * One call in fifteen comes too late for the stay: some stays are short, and the others pay for
 * them.
 */
static void late_calls_now_and_then_are_no_reason(void **state)
{
    program_t p = program(20000);

    (void) state;
    p.jitter = 11500;
    assert_true(run(&p, 100000) > 80000);
}

/* One of them makes the mean of 32 as long as if all calls had been launched, even cut off. */
static void long_periods_now_and_then_do_not_decide(void **state)
{
    program_t p = program(0);

    (void) state;
    p.hiccups = 500;
    p.hiccup = 1000 * MS;
    assert_true(run(&p, 100000) > 95000);
}

static void bursts_are_served(void **state)
{
    program_t p = program(500000);

    (void) state;
    p.burst = 40;
    assert_true(run(&p, 40000) > 36000);
    p = program(500000);
    p.burst = 12;
    assert_true(run(&p, 40000) > 33000);
}

/* --- where it does not ------------------------------------------------------------------------ */

static void sixteen_launches_come_first(void **state)
{
    program_t p = program(0);

    (void) state;
    run(&p, 1 + CAR_PACE_LEARN); /* the first call ends no period */
    assert_int_equal(0, p.stays);
    run(&p, 1);
    assert_int_equal(1, p.stays);
}

static void slow_calls_have_no_stay(void **state)
{
    program_t p = program(STAY_NS);

    (void) state;
    run(&p, 10000);
    assert_int_equal(0, p.stays);
    /* Not even where quick calls have been seen before. */
    p = program(0);
    run(&p, 1000);
    p.gap = STAY_NS;
    const uint32_t before = p.stays;
    run(&p, 10000);
    assert_in_range(p.stays - before, 0, 1);
    p = program(STAY_NS);
    run(&p, 1000);
    /* Nor do their periods count as what quick calls take. */
    p.gap = 0;
    run(&p, CAR_PACE_LEARN);
    assert_int_equal(0, p.stays);
    run(&p, 1);
    assert_int_equal(1, p.stays);
}

/* Its own kernels want the place that the stay takes. */
static void a_program_that_is_slower_with_it_is_left_alone(void **state)
{
    program_t p = program(21700);

    (void) state;
    p.slower = LAUNCHED_NS - RUNG_NS + 1500;
    assert_true(costs(p, 20000) < 10100);
    assert_true(run(&p, 20000) < 600);
    assert_true(run(&p, 200000) < 600);
}

static void it_has_to_gain_one_part_in_64(void **state)
{
    const uint64_t saved = LAUNCHED_NS - RUNG_NS, gap = 24000,
                   least = (gap + LAUNCHED_NS) / CAR_PACE_GAIN;
    program_t p = program(gap);

    (void) state;
    p.slower = saved - least + 100;
    assert_true(run(&p, 20000) < 600);
    p = program(gap);
    p.slower = saved - least - 100;
    assert_true(run(&p, 20000) > 19000);
}

static void a_program_that_waits_for_its_end_loses_little(void **state)
{
    (void) state;
    for (uint64_t gap = 0; gap <= 20000; gap += 5000) {
        program_t p = program(gap);
        p.waits = true;
        assert_true(costs(p, 2000) < 10100);
        run(&p, 2000);
        assert_in_range(p.stays, 3, 8);
    }
}

static void short_stays_become_rare(void **state)
{
    program_t p = program(0);

    (void) state;
    p.most = CAR_PACE_FEW - 1;
    run(&p, 100000);
    assert_in_range(p.stays, 8, 13);
    const uint32_t before = p.stays;
    /* And not for ever: after the longest pause another one is tried. */
    run(&p, 3 * CAR_PACE_PAUSE_MOST);
    assert_in_range(p.stays - before, 2, 4);
    p = program(0);
    p.most = CAR_PACE_FEW;
    assert_true(run(&p, 10000) > 7500);
}

/* What is left of a stay that has ended in a pause says nothing more. */
static void a_pause_is_doubled_once(void **state)
{
    car_pace_t pace = {.pause = CAR_PACE_PAUSE_LEAST, .number = 100, .returned = 1, .stayed = true};

    (void) state;
    car_pace_stays(&pace);
    car_pace_pause(&pace);
    car_pace_gone(&pace);
    assert_int_equal(2 * CAR_PACE_PAUSE_LEAST, pace.pause);
    assert_true(car_pace_end(&pace, 10000, false, STAY_NS));
    assert_int_equal(0, pace.with.count);
}

static void long_periods_are_cut_off(void **state)
{
    program_t p = program(0);

    (void) state;
    run(&p, CAR_PACE_LEARN + 10);
    assert_true(p.here);
    const uint64_t before = p.pace.with.sum;
    p.gap = 1000 * MS;
    run(&p, 1);
    assert_int_equal(before + (uint64_t) CAR_PACE_CUT * STAY_NS, p.pace.with.sum);
    /* Without, one of a second in the first sixteen would let everything seem to pay, for ever. */
    p = program(21700);
    p.slower = LAUNCHED_NS - RUNG_NS + 1500;
    run(&p, 3);
    p.gap += 1000 * MS;
    run(&p, 1);
    p.gap -= 1000 * MS;
    assert_true(run(&p, 50000) < 6000);
}

/* --- where it changes ------------------------------------------------------------------------- */

static void it_notices_that_it_pays_no_more(void **state)
{
    program_t p = program(20000);

    (void) state;
    run(&p, 20000);
    p.slower = 5000;
    assert_true(run(&p, 20000) < 600);
    p = program(20000);
    run(&p, 20000);
    p.waits = true;
    const uint32_t before = p.stays;
    run(&p, 20000);
    assert_true(p.stays - before < 16);
}

/* What calls took without long ago must not let it seem to pay. */
static void what_calls_take_without_is_learnt_anew(void **state)
{
    program_t p = program(27000);

    (void) state;
    run(&p, 20000);
    p.gap = 15000;
    p.slower = 5000;
    run(&p, 2 * CAR_PACE_FRESH);
    assert_true(run(&p, 50000) < 600);
}

/* Also where it happened in a long pause. */
static void what_calls_take_without_follows_the_program(void **state)
{
    program_t p = program(27000);

    (void) state;
    p.waits = true;
    run(&p, 40000);
    p.waits = false;
    p.gap = 15000;
    p.slower = 5000;
    assert_true(run(&p, 60000) < 600);
}

static void that_costs_little(void **state)
{
    program_t p = program(0);

    (void) state;
    run(&p, 5 * CAR_PACE_FRESH);
    const uint32_t stays = p.stays;
    const uint32_t served = run(&p, 10 * CAR_PACE_FRESH);
    assert_int_equal(10, p.stays - stays);
    assert_in_range(10 * CAR_PACE_FRESH - served, 10 * CAR_PACE_LEARN, 10 * (CAR_PACE_LEARN + 2));
}

static void it_notices_that_it_pays(void **state)
{
    program_t p = program(20000);

    (void) state;
    p.slower = 5000;
    run(&p, 1000);
    p.slower = 0;
    assert_true(run(&p, 20000) > 18000);
    p = program(2000);
    p.waits = true;
    run(&p, 300000);
    p.waits = false;
    assert_true(run(&p, 3 * CAR_PACE_PAUSE_MOST) > CAR_PACE_PAUSE_MOST);
    assert_int_equal(0, p.pace.pause);
}

/* --- where others decide too ------------------------------------------------------------------ */

/* All ranks make a call, which takes as long as that of the slowest. */
static void run_together(program_t *ranks, int size, uint32_t calls)
{
    for (uint32_t i = 0; i < calls; ++i) {
        bool all = true;
        uint64_t last = 0;
        for (int r = 0; r < size; ++r) {
            all = begin(&ranks[r]) && all;
            last = ranks[r].now > last ? ranks[r].now : last;
        }
        for (int r = 0; r < size; ++r) {
            end(&ranks[r], last - ranks[r].now + (all ? RUNG_NS : LAUNCHED_NS));
        }
    }
}

/* How many of 10000 calls are served some time after rank 1, of so many, has given up alone. */
static uint32_t served_after(int size, uint32_t calls, int pauses)
{
    program_t ranks[8];

    for (int r = 0; r < size; ++r) {
        ranks[r] = program(0);
    }
    run_together(ranks, size, calls);
    for (int i = 0; i < pauses; ++i) {
        car_pace_pause(&ranks[1].pace);
    }
    ranks[1].here = false;
    run_together(ranks, size, 3000);
    const uint32_t before = ranks[0].served;
    run_together(ranks, size, 10000);
    return ranks[0].served - before;
}

/* One rank gives up alone, and so the stays of the others pay no more. Soon all have them again. */
static void ranks_find_together_again(void **state)
{
    (void) state;
    for (int size = 2; size <= 8; size += 2) {
        for (uint32_t calls = 1000; calls < 1300; calls += 7) {
            for (int pauses = 1; pauses <= 3; ++pauses) {
                assert_true(served_after(size, calls, pauses) > 9800);
            }
        }
    }
}

static void ranks_with_jitter_are_served(void **state)
{
    enum { SIZE = 8 };
    program_t ranks[SIZE];

    (void) state;
    for (int r = 0; r < SIZE; ++r) {
        ranks[r] = program(20000);
        ranks[r].jitter = 4000;
        ranks[r].seed = (uint64_t) r;
        ranks[r].hiccup = 100000;
        ranks[r].hiccups = 3001 + 100 * (uint32_t) r;
    }
    run_together(ranks, SIZE, 50000);
    for (int r = 0; r < SIZE; ++r) {
        assert_true(ranks[r].served > 45000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quick_calls_are_served),
        cmocka_unit_test(calls_with_jitter_are_served),
        cmocka_unit_test(late_calls_now_and_then_are_no_reason),
        cmocka_unit_test(long_periods_now_and_then_do_not_decide),
        cmocka_unit_test(bursts_are_served),
        cmocka_unit_test(sixteen_launches_come_first),
        cmocka_unit_test(slow_calls_have_no_stay),
        cmocka_unit_test(a_program_that_is_slower_with_it_is_left_alone),
        cmocka_unit_test(it_has_to_gain_one_part_in_64),
        cmocka_unit_test(a_program_that_waits_for_its_end_loses_little),
        cmocka_unit_test(short_stays_become_rare),
        cmocka_unit_test(a_pause_is_doubled_once),
        cmocka_unit_test(long_periods_are_cut_off),
        cmocka_unit_test(it_notices_that_it_pays_no_more),
        cmocka_unit_test(what_calls_take_without_is_learnt_anew),
        cmocka_unit_test(what_calls_take_without_follows_the_program),
        cmocka_unit_test(that_costs_little),
        cmocka_unit_test(it_notices_that_it_pays),
        cmocka_unit_test(ranks_find_together_again),
        cmocka_unit_test(ranks_with_jitter_are_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
