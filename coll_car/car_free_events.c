#include "car_free_events.h"

#include <pthread.h>
#include <stdlib.h>

#include "car_free_source.h"
#include "car_lane_parts.h"
#include "car_pending.h"

/* A communicator that is told and tells. The list is under the lock of car_pending.h. */
typedef struct car_watched {
    struct car_watched *next;
    car_comm_t *comm;
    car_lane_t *lanes[2];
    uint64_t bell;                 /* how often peers had rung when this rank last listened */
    uint64_t heard[CAR_MAX_RANKS]; /* of each peer's ids */
} car_watched_t;

static car_watched_t *_Atomic watches;

/* --- events: from anywhere, so nothing is waited for ------------------------------------------ */

/*
 * Ranges that are about to be freed, until somebody has the lock: no more are under way than
 * threads that free. One that finds no place is forgotten, and the records of a later call tell of
 * it.
 */
#define RANGES 64

static struct {
    uint64_t from, end;
} range[RANGES];
static _Atomic uint64_t taken; /* a bit each */
static _Atomic uint64_t full;

static void put_range(uint64_t from, uint64_t end)
{
    for (int i = 0; i < RANGES; ++i) {
        const uint64_t bit = UINT64_C(1) << i;
        if (0 == (atomic_fetch_or_explicit(&taken, bit, memory_order_acquire) & bit)) {
            range[i].from = from;
            range[i].end = end;
            atomic_fetch_or_explicit(&full, bit, memory_order_release);
            return;
        }
    }
}

/*
 * Under the lock: all communicators of the device are told of what this process had told its peers
 * of, and is in the range.
 */
static void tell(car_device_t *device, uint64_t from, uint64_t end)
{
    for (uint64_t id; 0 != (id = car_registry_forget_range(device, from, end));) {
        for (car_watched_t *w = watches; NULL != w; w = w->next) {
            if (device == w->comm->device) {
                car_control_tell_freed(w->comm->control, id);
            }
        }
    }
}

static void take_ranges(void)
{
    const uint64_t bits = atomic_exchange_explicit(&full, 0, memory_order_acquire);

    for (int i = 0; i < RANGES && 0 != bits; ++i) {
        if (0 != (bits >> i & 1)) {
            for (car_watched_t *w = watches; NULL != w; w = w->next) {
                tell(w->comm->device, range[i].from, range[i].end);
            }
        }
    }
    atomic_fetch_and_explicit(&taken, ~bits, memory_order_release);
}

/*
 * Who has put a range and does not get the lock leaves it to whoever has that, who looks here after
 * giving it back. The fence is the same on both sides: one of the two sees what the other has done.
 */
static void settle(void)
{
    atomic_thread_fence(memory_order_seq_cst);
    while (0 != atomic_load_explicit(&full, memory_order_relaxed) && car_devices_trylock()) {
        take_ranges();
        car_devices_unlock_only();
        atomic_thread_fence(memory_order_seq_cst);
    }
}

static void freed(int type, const car_ucm_freed_t *event, void *arg)
{
    const uint64_t from = (uint64_t) (uintptr_t) event->address;

    (void) arg;
    if (CAR_UCM_EVENT_MEM_TYPE_FREE == type && 0 != from
        && NULL != atomic_load_explicit(&watches, memory_order_relaxed)) {
        put_range(from, from + (event->size > 0 ? event->size : 1));
        settle();
    }
}

/*
 * Once for the process: hooks cannot be taken out safely, so what could not be had is not tried
 * again.
 */
static bool start(const char *library)
{
    static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
    static bool tried, started;

    pthread_mutex_lock(&once);
    if (!tried) {
        tried = true;
        started = car_free_source_open(library, freed);
        if (started) {
            car_devices_after_unlock(settle);
        }
    }
    const bool answer = started;
    pthread_mutex_unlock(&once);
    return answer;
}

/* --- who is told ------------------------------------------------------------------------------ */

bool car_free_events_watch(car_comm_t *comm, car_lane_t *queue, car_lane_t *calls)
{
    if (0 == comm->zero_copy_min || !start(comm->params->ucx)) {
        return false;
    }
    car_watched_t *w = calloc(1, sizeof(*w));
    if (NULL == w) {
        return false;
    }
    w->comm = comm;
    w->lanes[0] = queue;
    w->lanes[1] = calls;
    car_devices_lock();
    w->next = watches;
    watches = w;
    car_devices_unlock();
    return true;
}

void car_free_events_unwatch(const car_comm_t *comm)
{
    car_watched_t *gone = NULL, *before = NULL;

    car_devices_lock();
    for (gone = watches; NULL != gone && comm != gone->comm; gone = gone->next) {
        before = gone;
    }
    if (NULL != gone && NULL == before) {
        watches = gone->next;
    } else if (NULL != gone) {
        before->next = gone->next;
    }
    car_devices_unlock();
    free(gone);
}

static void hear_peer(car_watched_t *w, int r)
{
    uint64_t ids[CAR_GONE_AT_ONCE] = {0};

    while (0 != (ids[0] = car_control_freed(w->comm->control, r, &w->heard[r]))) {
        for (int i = 0; i < 2; ++i) {
            car_lane_let_go(w->lanes[i], r, ids[0]);
        }
        car_registry_drop(w->comm->device, &w->comm->peer[r].arena, ids);
    }
}

static void hear(car_watched_t *w)
{
    const uint64_t bell = car_control_freed_bell(w->comm->control);
    const car_device_t *device = w->comm->device;
    car_cuda_guard_t guard;

    if (bell == w->bell) {
        return;
    }
    w->bell = bell;
    if (car_device_lost(device)
        || CUDA_SUCCESS != car_cuda_enter(device->cuda, device->context, &guard)) {
        return;
    }
    for (int r = 0; r < w->comm->size; ++r) {
        if (r != w->comm->rank) {
            hear_peer(w, r);
        }
    }
    car_cuda_leave(device->cuda, &guard);
}

int car_free_events_hear(void)
{
    if (NULL != atomic_load_explicit(&watches, memory_order_relaxed) && car_devices_trylock()) {
        for (car_watched_t *w = watches; NULL != w; w = w->next) {
            hear(w);
        }
        car_devices_unlock();
    }
    return 0;
}
