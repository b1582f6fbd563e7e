/*
 * MPI_THREAD_MULTIPLE: threads, each on a communicator of its own, all in MPI_Allreduce at once.
 * They set up at the same time, and free at the same time. Half of the communicators are
 * duplicates, the others have some ranks only, or all in another order.
 *
 *   --threads N      (4)
 *   --rounds N       of making, using and freeing (3)
 *   --calls N        on each communicator, of different sizes (6)
 *   --devices N      that a rank's threads use in turn (1)
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "checked.h"

#define THREADS_MAX 16

static const size_t sizes[] = {8, 200, 4000, 30000, 100000, 256 << 10};
#define SIZES (int) (sizeof(sizes) / sizeof(sizes[0]))

typedef struct {
    int number, rounds, calls;
    CUdevice device;
    MPI_Comm parent; /* nobody else makes communicators of it */
    pthread_t thread;
} worker_t;

static pthread_barrier_t together; /* of this rank's threads */

static MPI_Comm make(const worker_t *w, int round)
{
    MPI_Comm comm;

    switch ((w->number + round) % 4) {
    case 1:
        MPI_Comm_split(w->parent, 0, -test.rank, &comm);
        return comm;
    case 3:
        MPI_Comm_split(w->parent, test.rank % 2, 0, &comm);
        return comm;
    default:
        MPI_Comm_dup(w->parent, &comm);
        return comm;
    }
}

static void *work(void *argument)
{
    const worker_t *w = argument;
    CUcontext context;

    GPU_OK(gpu.DevicePrimaryCtxRetain(&context, w->device));
    GPU_OK(gpu.CtxSetCurrent(context));
    checked_space_t space = checked_allocate(GPU_DEVICE, sizes[SIZES - 1]);
    for (int round = 0; round < w->rounds; ++round) {
        const uint64_t seed = (uint64_t) (100 * w->number + round);
        MPI_Comm comm = make(w, round);
        pthread_barrier_wait(&together); /* the first calls, which set up, at once */
        for (int call = 0; call < w->calls; ++call) {
            checked_allreduce(comm, &space, sizes[(call + w->number) % SIZES],
                              seed + (uint64_t) call, "a thread");
        }
        pthread_barrier_wait(&together); /* all free at once */
        MPI_Comm_free(&comm);
    }
    checked_free(&space);
    return NULL;
}

/* What threads of this rank are on communicators of one rank only: they are not served. */
static unsigned long long expected(int threads, int rounds, int calls)
{
    const int same_parity = (test.size + 1 - test.rank % 2) / 2;
    unsigned long long n = 0;

    for (int t = 0; t < threads; ++t) {
        for (int round = 0; round < rounds; ++round) {
            n += 3 == (t + round) % 4 && 1 == same_parity ? 0 : (unsigned) calls;
        }
    }
    return n;
}

int main(int argc, char **argv)
{
    worker_t workers[THREADS_MAX];

    test_options(argc, argv, "threads rounds calls devices");
    test_begin_threads(&argc, &argv, "threads", MPI_THREAD_MULTIPLE);
    test_use_gpu();
    const int threads = (int) test_number("threads", 4), devices = (int) test_number("devices", 1);
    const int rounds = (int) test_number("rounds", 3), calls = (int) test_number("calls", 6);
    const car_counters_t before = test_counters();
    pthread_barrier_init(&together, NULL, (unsigned) threads);
    for (int t = 0; t < threads && t < THREADS_MAX; ++t) {
        workers[t] = (worker_t){.number = t,
                                .rounds = rounds,
                                .calls = calls,
                                .device = (gpu_in_use() + t % devices) % gpu_count()};
        MPI_Comm_dup(MPI_COMM_WORLD, &workers[t].parent);
    }
    for (int t = 0; t < threads; ++t) {
        pthread_create(&workers[t].thread, NULL, work, &workers[t]);
    }
    for (int t = 0; t < threads; ++t) {
        pthread_join(workers[t].thread, NULL);
        MPI_Comm_free(&workers[t].parent);
    }
    const car_counters_t since = test_since(&before);
    CHECK(expected(threads, rounds, calls) == test_served(&since),
          "the kernels served %llu of %llu calls", test_served(&since),
          expected(threads, rounds, calls));
    return test_end("%d threads on %d devices each rank, %d rounds", threads, devices, rounds);
}
