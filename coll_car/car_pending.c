#include "car_pending.h"

#include <pthread.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

typedef struct car_pending {
    struct car_pending *next;
    car_device_t *device;
    car_control_t *control;
    int count;
    size_t pieces[];
} car_pending_t;

static car_pending_t *pending;

static _Atomic(void (*)(void)) after_unlock; /* NULL: there are no such events */

void car_devices_lock(void)
{
    pthread_mutex_lock(&lock);
}

bool car_devices_trylock(void)
{
    return 0 == pthread_mutex_trylock(&lock);
}

void car_devices_unlock_only(void)
{
    pthread_mutex_unlock(&lock);
}

void car_devices_unlock(void)
{
    void (*const look)(void) = atomic_load_explicit(&after_unlock, memory_order_relaxed);

    pthread_mutex_unlock(&lock);
    if (NULL != look) {
        look();
    }
}

void car_devices_after_unlock(void (*look)(void))
{
    atomic_store_explicit(&after_unlock, look, memory_order_relaxed);
}

bool car_pending_add(car_device_t *device, const size_t *pieces, int count, car_control_t *control)
{
    car_pending_t *p = malloc(sizeof(*p) + (size_t) count * sizeof(p->pieces[0]));

    if (NULL == p) {
        return false;
    }
    *p = (car_pending_t){.next = pending, .device = device, .control = control, .count = count};
    for (int i = 0; i < count; ++i) {
        p->pieces[i] = pieces[i];
        for (int j = 0; j < i; ++j) {
            p->pieces[i] = p->pieces[j] == pieces[i] ? CAR_NO_PIECE : p->pieces[i];
        }
    }
    pending = p;
    return true;
}

void car_pending_reclaim(void)
{
    for (car_pending_t **link = &pending; NULL != *link;) {
        car_pending_t *p = *link;
        if (car_control_all_gone(p->control)) {
            *link = p->next;
            for (int i = 0; i < p->count; ++i) {
                if (CAR_NO_PIECE != p->pieces[i]) {
                    car_arena_give(&p->device->arena, p->pieces[i]);
                }
            }
            car_control_detach(p->control);
            free(p);
        } else {
            link = &p->next;
        }
    }
}
