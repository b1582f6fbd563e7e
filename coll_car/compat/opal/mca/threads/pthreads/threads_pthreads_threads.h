/*
 * Our own short form of a header that Open MPI 5 names in opal_config.h and does not install.
 * Searched last (-idirafter), so an installed one wins.
 */
#ifndef OPAL_MCA_THREADS_PTHREADS_THREADS_PTHREADS_THREADS_H
#define OPAL_MCA_THREADS_PTHREADS_THREADS_PTHREADS_THREADS_H

#include <pthread.h>
#include <sched.h>

/* Open MPI lets a parameter choose how it yields; its headers only need some way to. */
static inline void opal_thread_yield(void)
{
    sched_yield();
}

#endif /* OPAL_MCA_THREADS_PTHREADS_THREADS_PTHREADS_THREADS_H */
