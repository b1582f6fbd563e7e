#include "car_watch.h"

#include <stdio.h>
#include <string.h>

#include "car_clock.h"

#define CAR_MS UINT64_C(1000000)
#define CAR_S UINT64_C(1000000000)

/*
 * How often a wait asks whether those it waits for are there: a death is to be noticed within a
 * second.
 */
#define CAR_ASK_NS (100 * CAR_MS)

/*
 * Between two looks at the clock a rank may have been elsewhere, computing; what is longer than
 * this it has not waited.
 */
#define CAR_GAP_NS CAR_S

#define CAR_TEXT 600

bool car_watch_time(car_watch_t *watch)
{
    const uint64_t now = car_now();
    const uint64_t gap = 0 == watch->looked_ns ? 0 : now - watch->looked_ns;

    watch->looked_ns = now;
    watch->waited_ns += gap < CAR_GAP_NS ? gap : CAR_GAP_NS;
    if (watch->waited_ns - watch->asked_ns < CAR_ASK_NS) {
        return false;
    }
    watch->asked_ns = watch->waited_ns;
    return true;
}

/* --- messages --------------------------------------------------------------------------------- */

static const char *call_name(const car_wait_t *wait, char text[64])
{
    static const char *const names[] = {[CAR_WAIT_CALL] = "MPI_Allreduce",
                                        [CAR_WAIT_QUEUE] = "MPI_Iallreduce",
                                        [CAR_WAIT_START] = "a persistent allreduce",
                                        [CAR_WAIT_TOGETHER] = "an exchange of all ranks"};

    snprintf(text, 64, "%s, number %llu", names[wait->kind], (unsigned long long) wait->number);
    return text;
}

/* "rank 2 (pid 4711, stopped), rank 3 (pid 4712)" */
static void name_ranks(const car_control_t *control, uint32_t ranks, char *text, size_t bytes)
{
    size_t at = 0;

    for (int r = 0; 0 != ranks >> r && at < bytes; ++r) {
        if (0 != (ranks >> r & 1)) {
            at += (size_t) snprintf(
                text + at, bytes - at, "%srank %d (pid %d%s)", at > 0 ? ", " : "", r,
                car_control_pid(control, r),
                CAR_PROCESS_STOPPED == car_control_look(control, r) ? ", stopped" : "");
        }
    }
}

static void say_late(car_control_t *control, const car_wait_t *wait, uint64_t waited_ns)
{
    const car_control_hooks_t *hooks = car_control_hooks(control);
    char call[64], who[CAR_TEXT / 2], text[CAR_TEXT];

    /* Everybody who waits would say the same. */
    if (NULL == hooks->say
        || !car_control_first_to_warn(control, wait->number << 2 | (uint64_t) wait->kind)) {
        return;
    }
    name_ranks(control, wait->missing, who, sizeof(who));
    snprintf(text, sizeof(text),
             "%s (%s): waiting for %llu s for %s. That is no error, and the call goes on when all "
             "have come; coll_car_timeout sets a limit",
             call_name(wait, call), wait->phase, (unsigned long long) (waited_ns / CAR_S), who);
    hooks->say(hooks->owner, text);
}

static void end_wait(car_control_t *control, const car_wait_t *wait, car_fault_t fault,
                     uint32_t whose, const char *what)
{
    char call[64], who[CAR_TEXT / 2], text[CAR_TEXT];

    name_ranks(control, whose, who, sizeof(who));
    snprintf(text, sizeof(text), "%s (%s): %s%s", call_name(wait, call), wait->phase, who, what);
    car_control_break(control, fault, text);
}

/* --- asking ----------------------------------------------------------------------------------- */

static uint32_t dead_ones(const car_control_t *control, uint32_t ranks)
{
    uint32_t dead = 0;

    for (int r = 0; 0 != ranks >> r; ++r) {
        if (0 != (ranks >> r & 1) && CAR_PROCESS_DEAD == car_control_look(control, r)) {
            dead |= UINT32_C(1) << r;
        }
    }
    return dead;
}

bool car_watch_ask(car_watch_t *watch, car_control_t *control, const car_wait_t *wait)
{
    const car_control_hooks_t *hooks = car_control_hooks(control);
    const car_fault_t fault = NULL == hooks->look ? CAR_FAULT_NONE : hooks->look(hooks->owner);
    const uint32_t dead = dead_ones(control, wait->missing | wait->needed);

    if (0 != dead) {
        end_wait(control, wait, CAR_FAULT_DIED, dead, " died while other ranks waited for it");
    } else if (CAR_FAULT_NONE != fault) {
        end_wait(control, wait, fault, 0,
                 CAR_FAULT_REVOKED == fault ? "the communicator was revoked"
                                            : "a process of the communicator has failed");
    } else if (0 != wait->missing && 0 != hooks->timeout
               && watch->waited_ns >= hooks->timeout * CAR_S) {
        end_wait(control, wait, CAR_FAULT_LATE, wait->missing,
                 " did not come within coll_car_timeout");
    } else if (0 != wait->missing && 0 != hooks->warn_after && !watch->warned
               && watch->waited_ns >= hooks->warn_after * CAR_S) {
        watch->warned = true;
        say_late(control, wait, watch->waited_ns);
    }
    return car_control_broken(control) < 0;
}

bool car_watch_exchange(car_control_t *control, const void *mine, size_t bytes, void *all,
                        car_progress_fn_t progress, const char *phase)
{
    car_watch_t watch = {0};

    car_control_exchange_begin(control, mine, bytes);
    while (!car_control_exchange_test(control, bytes, all)) {
        if (car_control_broken(control) >= 0) {
            return false;
        }
        progress();
        if (car_watch_due(&watch)) {
            const car_wait_t wait = {CAR_WAIT_TOGETHER, car_control_exchanges(control), phase,
                                     car_control_exchange_missing(control), 0};
            (void) car_watch_ask(&watch, control, &wait);
        }
    }
    return true;
}

bool car_watch_agree(car_control_t *control, car_wait_kind_t kind, uint64_t number,
                     const car_what_t *mine, int r, const car_what_t *theirs)
{
    const car_wait_t wait = {.kind = kind, .number = number};
    char call[64], here[CAR_WHAT_TEXT], there[CAR_WHAT_TEXT], text[CAR_TEXT];

    if (car_what_same(mine, theirs)) {
        return true;
    }
    snprintf(text, sizeof(text),
             "%s: the ranks do not make the same call: %s on rank %d, %s on rank %d. Count, type, "
             "operation and the order of calls must be the same on all ranks",
             call_name(&wait, call), car_what_text(mine, here), car_control_rank(control),
             car_what_text(theirs, there), r);
    car_control_break(control, CAR_FAULT_DIFFER, text);
    return false;
}
