#include "coll_car_progress.h"

#include <pthread.h>
#include <stdatomic.h>

#include "car_free_events.h"
#include "coll_car_request.h"

/*
 * Recursive: what is called with it held may send a message, whose progress may free a
 * communicator.
 */
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
/* written under the lock, atomically, as it is looked at without */
static mca_coll_car_module_t *busy;
static unsigned int departures; /* modules that have left the list otherwise than by being polled */
static bool polling;
static bool registered;

void coll_car_lock(void)
{
    pthread_mutex_lock(&lock);
}

void coll_car_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

/*
 * Registered once, at the first need, and never taken back: unregistering would not wait for a
 * thread that is inside. With nothing under way it is one look at a pointer.
 */
void coll_car_make_busy(mca_coll_car_module_t *module)
{
    if (!module->busy) {
        module->busy = true;
        module->next_busy = busy;
        __atomic_store_n(&busy, module, __ATOMIC_RELAXED);
    }
    if (!registered) {
        registered = OPAL_SUCCESS == opal_progress_register(coll_car_poll);
    }
}

/* Registered once, too: only where there are such events. */
void coll_car_hear_frees(void)
{
    static atomic_flag listening = ATOMIC_FLAG_INIT;

    if (!atomic_flag_test_and_set(&listening)) {
        (void) opal_progress_register_lp(car_free_events_hear);
    }
}

static void take_out(mca_coll_car_module_t *module)
{
    mca_coll_car_module_t **link = &busy;

    while (NULL != *link && module != *link) {
        link = &(*link)->next_busy;
    }
    if (NULL != *link) {
        __atomic_store_n(link, module->next_busy, __ATOMIC_RELAXED);
    }
    module->busy = false;
}

void coll_car_idle(mca_coll_car_module_t *module)
{
    coll_car_lock();
    if (module->busy) {
        take_out(module);
        ++departures;
    }
    coll_car_unlock();
}

/*
 * Polls one module; what has ended is put in front of *ended. True while it has something under
 * way.
 */
static bool poll_module(mca_coll_car_module_t *module, coll_car_request_t **ended)
{
    if (module->wake.under_way && !coll_car_wake_poll(module)) {
        return true;
    }
    return coll_car_requests_poll(module, ended);
}

int coll_car_poll(void)
{
    coll_car_request_t *ended = NULL;

    /*
     * Another thread is at it, or we are called from within: by a call of MPI's that polling has
     * made.
     */
    if (NULL == __atomic_load_n(&busy, __ATOMIC_RELAXED) || 0 != pthread_mutex_trylock(&lock)) {
        return 0;
    }
    if (polling) {
        pthread_mutex_unlock(&lock);
        return 0;
    }
    polling = true;
    const unsigned int before = departures;
    for (mca_coll_car_module_t *module = busy, *next; NULL != module && before == departures;
         module = next) {
        next = module->next_busy;
        if (!poll_module(module, &ended) && before == departures) {
            take_out(module);
        }
    }
    polling = false;
    pthread_mutex_unlock(&lock);
    return coll_car_requests_complete(ended);
}
