/*
 * Whether small calls follow each other so quickly that a kernel which stays for the next one is worth it, and whether
 * that has worked out. One rank's own business: pure bookkeeping on times that the caller brings, no driver, no peers.
 */
#ifndef CAR_PACE_H
#define CAR_PACE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t returned; /* when the last small call returned, in nanoseconds; 0: there was none */
    uint32_t quick;    /* small calls in a row that came soon after the one before */
    uint32_t served;   /* calls that the present stay, or the last one, has served beyond its first */
    uint32_t wait;     /* small calls until a stay may be tried again */
    uint32_t pause;    /* what wait becomes with the next stay that was not worth it */
} car_pace_t;

/*
 * What a call that is served saves, in nanoseconds, at the least: a launch and what hearing of its end takes longer
 * then.
 */
#define CAR_PACE_SAVED_NS 1500

/* So many quick calls come before a stay. */
#define CAR_PACE_QUICK 2

#define CAR_PACE_PAUSE_LEAST 64
#define CAR_PACE_PAUSE_MOST 65536

/* A small call begins at `now`: counts whether it came within stay_ns of the last one. */
static inline void car_pace_begin(car_pace_t *p, uint64_t now, uint64_t stay_ns)
{
    p->quick = 0 != p->returned && now - p->returned < stay_ns ? p->quick + (p->quick < CAR_PACE_QUICK) : 0;
}

static inline void car_pace_end(car_pace_t *p, uint64_t now)
{
    p->returned = now;
}

/* A small call has to be launched, as no kernel stays: whether this one should. Asked once per such call. */
static inline bool car_pace_wants(car_pace_t *p)
{
    if (0 != p->wait) {
        --p->wait;
        return false;
    }
    return p->quick >= CAR_PACE_QUICK;
}

static inline void car_pace_stays(car_pace_t *p)
{
    p->served = 0;
}

static inline void car_pace_served(car_pace_t *p)
{
    ++p->served;
}

/*
 * So many calls have to be served for more time to be saved than others can have lost by waiting for the end of the
 * stay.
 */
static inline uint32_t car_pace_worth(uint64_t stay_ns)
{
    return (uint32_t) (stay_ns / CAR_PACE_SAVED_NS) + 1;
}

/* The kernel has gone, or been sent away. */
static inline void car_pace_gone(car_pace_t *p, uint64_t stay_ns)
{
    if (p->served >= car_pace_worth(stay_ns)) {
        p->pause = 0;
        return;
    }
    if (0 == p->pause) {
        p->pause = CAR_PACE_PAUSE_LEAST;
    } else if (p->pause < CAR_PACE_PAUSE_MOST) {
        p->pause *= 2;
    }
    p->wait = p->pause;
}

#endif /* CAR_PACE_H */
