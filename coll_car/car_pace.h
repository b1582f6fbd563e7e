/*
 * Whether small calls follow each other so quickly that a kernel which stays for the next one is
 * worth it, and whether that has worked out. One rank's own business: pure bookkeeping on times
 * that the caller brings, no driver, no peers.
 *
 * What is compared is the time from the return of one small call to the return of the next, with a
 * kernel that stayed when it began and without. So all that the program does or waits for between
 * its calls counts, whatever the reason.
 *
 * A call is no quicker than its slowest rank, so a stay pays only where all ranks have one. Nobody
 * tells the others, but all pauses end at a call whose number is a multiple of a power of two,
 * whenever they began: ranks whose last tries did not meet double their pauses until they do.
 */
#ifndef CAR_PACE_H
#define CAR_PACE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t sum; /* nanoseconds */
    uint32_t count;
} car_periods_t;

/* All 0 before the first call. */
typedef struct {
    uint64_t returned; /* when the last small call returned, in nanoseconds; 0: there was none */
    uint64_t number;   /* of the present call, or the last one, the same on all ranks */
    uint64_t resume;   /* all calls before this one are launched, and none stays */
    uint64_t learnt;   /* in which CAR_PACE_FRESH calls `without` was last learnt */
    car_periods_t with;
    car_periods_t without;
    uint32_t pause;  /* how many calls the last pause was for; 0: it has paid since */
    uint32_t late;   /* calls in a row that came late, as far as CAR_PACE_LATE */
    uint32_t served; /* calls that the present stay, or the last one, has served beyond its first */
    uint32_t credit; /* short stays that are forgiven */
    bool stayed;     /* a kernel stayed when the last call returned */
    bool doubt;      /* it did not pay, when last looked at */
} car_pace_t;

/*
 * So many calls in a row that are late are a program that calls seldom, not one that hesitates: no
 * stay, no periods.
 */
#define CAR_PACE_LATE 2

/* A longer period counts as one of so many times the stay, so that rare ones do not decide. */
#define CAR_PACE_CUT 4

/* So many periods without come before a stay. */
#define CAR_PACE_LEARN 16

/* The periods without are halved then: old ones lose weight. */
#define CAR_PACE_MOST 64

/* What those before a pause weigh after it. */
#define CAR_PACE_OLD 4

/* So many periods with are compared; half of the weight remains if it pays. */
#define CAR_PACE_COMPARED 32

/* It pays if that mean is shorter by one part in so many. */
#define CAR_PACE_GAIN 64

/* After so many calls the mean without is learnt anew. A power of two, as the pauses. */
#define CAR_PACE_FRESH 4096

/*
 * A stay that has served fewer calls was short. Each that was not pays for one that is, and so many
 * are forgiven where stays pay: some calls may come late.
 */
#define CAR_PACE_FEW 4
#define CAR_PACE_CREDIT 3

/*
 * In which a try that has to wait for the whole stay, 30 us, costs about 1 % of calls that take 10;
 * half of that with each more.
 */
#define CAR_PACE_PAUSE_LEAST 256
#define CAR_PACE_PAUSE_MOST 65536

/* Small call `number`, of all calls of the communicator, begins at `now`. */
static inline void car_pace_begin(car_pace_t *p, uint64_t now, uint64_t number, uint64_t stay_ns)
{
    const bool soon = 0 != p->returned && now - p->returned < stay_ns;

    p->late = soon ? 0 : p->late + (p->late < CAR_PACE_LATE);
    p->number = number;
}

static inline bool car_pace_pauses(const car_pace_t *p)
{
    return p->number < p->resume;
}

/* A small call has to be launched, as no kernel stays: whether this one should. */
static inline bool car_pace_wants(const car_pace_t *p)
{
    return !car_pace_pauses(p) && p->late < CAR_PACE_LATE && p->without.count >= CAR_PACE_LEARN;
}

static inline void car_pace_stays(car_pace_t *p)
{
    p->served = 0;
}

static inline void car_pace_served(car_pace_t *p)
{
    ++p->served;
}

/* No stay before that call: time to learn what calls take without. */
static inline void car_pace_launch_until(car_pace_t *p, uint64_t number)
{
    p->resume = number;
    p->learnt = number / CAR_PACE_FRESH;
    p->with = (car_periods_t) {0};
    p->doubt = false;
    if (p->without.count > CAR_PACE_OLD) {
        p->without.sum = p->without.sum / p->without.count * CAR_PACE_OLD;
        p->without.count = CAR_PACE_OLD;
    }
}

static inline void car_pace_pause(car_pace_t *p)
{
    if (0 == p->pause) {
        p->pause = CAR_PACE_PAUSE_LEAST;
    } else if (p->pause < CAR_PACE_PAUSE_MOST) {
        p->pause *= 2;
    }
    p->credit = 0;
    car_pace_launch_until(p, (p->number / p->pause + 1) * p->pause);
}

/*
 * The kernel has gone, or been sent away. In a pause that is its consequence, and says nothing
 * more.
 */
static inline void car_pace_gone(car_pace_t *p)
{
    if (car_pace_pauses(p)) {
        return;
    }
    if (p->served >= CAR_PACE_FEW) {
        p->credit += p->credit < CAR_PACE_CREDIT;
    } else if (p->credit > 0) {
        --p->credit;
    } else {
        car_pace_pause(p);
    }
}

static inline void car_pace_charge(car_pace_t *p, uint64_t period)
{
    car_periods_t *periods = p->stayed ? &p->with : &p->without;

    /* What is left of a stay that a pause has ended has been judged. */
    if (p->stayed && car_pace_pauses(p)) {
        return;
    }
    periods->sum += period;
    ++periods->count;
    if (CAR_PACE_MOST == p->without.count) {
        p->without.sum /= 2;
        p->without.count /= 2;
    }
}

/*
 * Enough periods with: false if the second time in a row they are not shorter, as once may be one
 * long period.
 */
static inline bool car_pace_pays(car_pace_t *p)
{
    const uint64_t with = p->with.sum * p->without.count, without = p->without.sum * p->with.count;

    if (with * CAR_PACE_GAIN <= without * (CAR_PACE_GAIN - 1) && 0 != p->without.count) {
        p->with.sum /= 2;
        p->with.count /= 2;
        p->pause = 0;
        p->credit = CAR_PACE_CREDIT;
        p->doubt = false;
        return true;
    }
    p->with = (car_periods_t) {0};
    p->doubt = !p->doubt;
    return p->doubt;
}

/*
 * The call returns at `now`, and a kernel stays, or none. False: it is to be sent away, as it does
 * not pay, or to see whether it still does.
 */
static inline bool car_pace_end(car_pace_t *p, uint64_t now, bool stays, uint64_t stay_ns)
{
    const uint64_t most = CAR_PACE_CUT * stay_ns, period = now - p->returned;

    if (0 != p->returned && p->late < CAR_PACE_LATE) {
        car_pace_charge(p, period < most ? period : most);
    }
    p->returned = now;
    p->stayed = false;
    if (p->with.count >= CAR_PACE_COMPARED && !car_pace_pays(p)) {
        car_pace_pause(p);
        return false;
    }
    if (stays && p->number / CAR_PACE_FRESH != p->learnt) {
        car_pace_launch_until(p, p->number + 1 + CAR_PACE_LEARN);
        return false;
    }
    p->stayed = stays;
    return true;
}

#endif /* CAR_PACE_H */
