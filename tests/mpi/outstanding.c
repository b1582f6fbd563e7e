/*
 * Hundreds of MPI_Iallreduce are under way on several communicators at once, with the user's other
 * nonblocking collectives, messages and blocking calls between them. Ranks post in other orders
 * across the communicators and complete in any order, by every call that MPI has for that. Nothing
 * locks up, and every result is right, bit for bit.
 *
 *   --calls N          of a round and communicator (60)
 *   --rounds N         (2)
 *   --kinds LIST       of memory; ranks of one call differ in it (all)
 *   --max-bytes N      of most calls; one in 16 may be 8 times as large (256 KB)
 *   --integers yes|no  only sums that come out alike whoever folds them (no)
 *   --room WHICH       yes: there is device memory for every communicator, so kernels serve every
 *                      call with a device buffer; no: only for some; none: for none (yes)
 *   --fill-ms N        a kernel of the program's own fills the GPU for so long, again and again (0)
 *   --threads N        MPI_THREAD_MULTIPLE: so many threads, each with communicators of its own (1)
 *   --complete WHO     own: the thread that posted; other: one thread completes everybody's, the
 *                      others are not in MPI (own)
 *   --seed N
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flight.h"
#include "test_kernel_args.h"

#define COMMUNICATORS 6
#define PHASES 5
#define THREADS_MAX 8
#define WORDS 300 /* of a message or broadcast */

typedef enum { ALLREDUCE, BROADCAST, BARRIER, MESSAGE } what_t;

typedef struct {
    what_t what;
    flight_t call;
    int32_t sent[WORDS], got[WORDS];
    int32_t wanted;
    int requests; /* that have not completed */
} item_t;

typedef struct {
    int number;
    uint64_t seed;
    MPI_Comm parent, comms[COMMUNICATORS];
    flight_space_t space;
    item_t *items; /* of a round, communicator after communicator */
    int items_each;
    MPI_Request *requests; /* two for each item */
    int *indices;
    MPI_Status *statuses;
    uint64_t draws; /* of this rank's own decisions */
    unsigned long long device, host, calls;
    pthread_t thread;
    atomic_int posted; /* rounds */
    atomic_int completed;
} worker_t;

static struct {
    int rounds;
    bool others, fill;
    uint32_t fill_us;
    size_t most;
    CUfunction spin;
    CUstream stream;
    int processors;
} run;

static uint64_t own(worker_t *w)
{
    return test_random(w->seed + 77 * (uint64_t) (test.rank + 1), ++w->draws);
}

/* --- what is under way ------------------------------------------------------------------------ */

static void prepare_item(worker_t *w, item_t *item, MPI_Comm comm, uint64_t seed)
{
    int rank, size;

    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &size);
    *item = (item_t){.what = ALLREDUCE};
    /*
     * Alone, a rank is not coll/car's, and Open MPI loses the current context over memory from
     * pools.
     */
    switch (1 == size && seed % 16 > 1 ? 1 : seed % 16) {
    case 0:
        item->what = BROADCAST;
        item->wanted = (int32_t) (seed >> 8);
        for (int i = 0; i < WORDS; ++i) {
            item->got[i] = 0 == rank ? item->wanted + i : 0;
        }
        return;
    case 1:
        item->what = BARRIER;
        return;
    case 2:
        item->what = MESSAGE;
        item->wanted = (int32_t) (seed >> 8) + (rank + size - 1) % size;
        for (int i = 0; i < WORDS; ++i) {
            item->sent[i] = (int32_t) (seed >> 8) + rank + i;
        }
        return;
    default:
        item->call = flight_draw(&w->space, comm, seed, run.most * (0 == seed / 16 % 16 ? 8 : 1));
        flight_fill(&w->space, &item->call, seed);
        w->device += item->call.device ? 1 : 0;
        w->host += item->call.device ? 0 : 1;
        ++w->calls;
        return;
    }
}

static void post(worker_t *w, int index, MPI_Comm comm)
{
    item_t *item = &w->items[index];
    MPI_Request *request = &w->requests[2 * index];
    int rank, size;

    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &size);
    request[0] = request[1] = MPI_REQUEST_NULL;
    item->requests = 1;
    switch (item->what) {
    case BROADCAST:
        MPI_Ibcast(item->got, WORDS, MPI_INT, 0, comm, request);
        return;
    case BARRIER:
        MPI_Ibarrier(comm, request);
        return;
    case MESSAGE:
        item->requests = 2;
        MPI_Irecv(item->got, WORDS, MPI_INT, (rank + size - 1) % size, index, comm, &request[0]);
        MPI_Isend(item->sent, WORDS, MPI_INT, (rank + 1) % size, index, comm, &request[1]);
        return;
    default:
        MPI_Iallreduce(flight_send(&item->call), item->call.out, (int) item->call.count,
                       item->call.type->type, data_mpi_op(item->call.op), comm, request);
        return;
    }
}

/* One of its requests has completed. */
static void completed(worker_t *w, int request)
{
    item_t *item = &w->items[request / 2];

    if (0 != --item->requests) {
        return;
    }
    if (ALLREDUCE == item->what) {
        flight_check(&w->space, &item->call, "outstanding");
    } else if (BARRIER != item->what) {
        CHECK(item->got[0] == item->wanted && item->got[WORDS - 1] == item->wanted + WORDS - 1,
              "%s %d: %d, not %d", BROADCAST == item->what ? "broadcast" : "message", request / 2,
              item->got[0], item->wanted);
    }
}

/* --- completing ------------------------------------------------------------------------------- */

static void all_completed(worker_t *w, int n, const int *indices)
{
    for (int i = 0; i < n; ++i) {
        completed(w, indices[i]);
    }
}

/* Any one that is under way, or -1. */
static int draw_request(worker_t *w, int n)
{
    const int start = (int) (own(w) % (unsigned) n);

    for (int i = 0; i < n; ++i) {
        if (MPI_REQUEST_NULL != w->requests[(start + i) % n]) {
            return (start + i) % n;
        }
    }
    return -1;
}

/* Completes some that can be, without waiting. */
static void test_some(worker_t *w, int n)
{
    int flag = 0, index, some = 0;

    switch (own(w) % 4) {
    case 0:
        MPI_Testany(n, w->requests, &index, &flag, MPI_STATUS_IGNORE);
        if (flag && MPI_UNDEFINED != index) {
            completed(w, index);
        }
        return;
    case 1:
        MPI_Testsome(n, w->requests, &some, w->indices, w->statuses);
        all_completed(w, MPI_UNDEFINED == some ? 0 : some, w->indices);
        return;
    case 2:
        if ((index = draw_request(w, n)) >= 0) {
            MPI_Test(&w->requests[index], &flag, MPI_STATUS_IGNORE);
        }
        break;
    default: /* one that has completed is freed */
        if ((index = draw_request(w, n)) >= 0) {
            MPI_Request_get_status(w->requests[index], &flag, MPI_STATUS_IGNORE);
        }
        if (flag) {
            MPI_Request_free(&w->requests[index]);
        }
        break;
    }
    if (flag) {
        completed(w, index);
    }
}

static void wait_for_all(worker_t *w, int n)
{
    int left = 0;

    for (int i = 0; i < n; ++i) {
        if (MPI_REQUEST_NULL != w->requests[i]) {
            w->indices[left++] = i;
        }
    }
    MPI_Waitall(n, w->requests, MPI_STATUSES_IGNORE);
    all_completed(w, left, w->indices);
}

/* Waits for one or some; false when there is none left. */
static bool wait_for_some(worker_t *w, int n)
{
    int index, some;

    switch (own(w) % 4) {
    case 0:
        MPI_Waitany(n, w->requests, &index, MPI_STATUS_IGNORE);
        if (MPI_UNDEFINED == index) {
            return false;
        }
        completed(w, index);
        return true;
    case 1:
        MPI_Waitsome(n, w->requests, &some, w->indices, w->statuses);
        all_completed(w, MPI_UNDEFINED == some ? 0 : some, w->indices);
        return MPI_UNDEFINED != some;
    case 2:
        if ((index = draw_request(w, n)) < 0) {
            return false;
        }
        MPI_Wait(&w->requests[index], MPI_STATUS_IGNORE);
        completed(w, index);
        return true;
    default:
        test_some(w, n);
        return draw_request(w, n) >= 0;
    }
}

/* --- a round ---------------------------------------------------------------------------------- */

/* The GPU is full of the program's own blocks. */
static void fill_gpu(void)
{
    test_kernel_args_t args = {.delay_us = run.fill_us};
    void *parameters[] = {&args};
    const bool simulated = gpu_simulated();

    if (run.fill) {
        GPU_OK(gpu.LaunchKernel(run.spin, simulated ? 4 : 4 * (unsigned) run.processors, 1, 1,
                                simulated ? 32 : 512, 1, 1, 0, run.stream, parameters, NULL));
    }
}

/* Posts a part of every communicator's calls: in an order that is this rank's own across them. */
static void post_phase(worker_t *w, int phase)
{
    int next[COMMUNICATORS], end[COMMUNICATORS], left = 0;

    for (int c = 0; c < COMMUNICATORS; ++c) {
        next[c] = w->items_each * phase / PHASES;
        end[c] = w->items_each * (phase + 1) / PHASES;
        left += end[c] - next[c];
    }
    for (int turn = test.rank % 2 ? COMMUNICATORS - 1 : 0; left > 0; --left) {
        if (phase % 2) { /* all mixed up */
            turn = (int) (own(w) % COMMUNICATORS);
        }
        while (next[turn] == end[turn]) { /* one after the other, in opposite orders */
            turn = (turn + (test.rank % 2 ? COMMUNICATORS - 1 : 1)) % COMMUNICATORS;
        }
        post(w, turn * w->items_each + next[turn]++, w->comms[turn]);
    }
}

/* A blocking call while all else is under way; all ranks make these in one order. */
static void block(worker_t *w, uint64_t seed)
{
    MPI_Comm comm = w->comms[seed % COMMUNICATORS];
    int size;

    MPI_Comm_size(comm, &size);
    if (1 == size) {
        return;
    }
    flight_t call = flight_draw(&w->space, comm, seed, run.most);
    flight_fill(&w->space, &call, seed);
    PMPI_Allreduce(flight_send(&call), call.out, (int) call.count, call.type->type,
                   data_mpi_op(call.op), comm);
    flight_check(&w->space, &call, "a blocking call between");
    w->device += call.device ? 1 : 0;
    w->host += call.device ? 0 : 1;
}

static void post_round(worker_t *w, int round)
{
    const int n = 2 * COMMUNICATORS * w->items_each;

    flight_reset(&w->space);
    for (int i = 0; i < n; ++i) {
        w->requests[i] = MPI_REQUEST_NULL;
    }
    for (int c = 0; c < COMMUNICATORS; ++c) {
        for (int i = 0; i < w->items_each; ++i) {
            prepare_item(
                w, &w->items[c * w->items_each + i], w->comms[c],
                test_random(w->seed + 1000 * (uint64_t) c + (uint64_t) round, (uint64_t) i));
        }
    }
    for (int phase = 0; phase < PHASES; ++phase) {
        fill_gpu();
        post_phase(w, phase);
        if (run.others) {
            continue;
        }
        for (uint64_t tests = own(w) % 10; tests > 0; --tests) {
            test_some(w, n);
        }
        if (phase + 1 < PHASES) {
            block(w, test_random(w->seed + 5, (uint64_t) (round * PHASES + phase)));
        }
    }
}

static void work(worker_t *w)
{
    const int n = 2 * COMMUNICATORS * w->items_each;

    for (int round = 0; round < run.rounds; ++round) {
        post_round(w, round);
        if (run.others) {
            atomic_store(&w->posted, round + 1);
            while (atomic_load(&w->completed) <= round) {
                usleep(1000);
            }
        } else {
            const int least = round % 2 ? n / 4 : 0; /* the last ones together */
            for (int turns = n - least; turns > 0 && wait_for_some(w, n);) {
                turns -= least > 0 ? 1 : 0;
            }
            wait_for_all(w, n);
        }
    }
}

/* --- set-up ----------------------------------------------------------------------------------- */

static void open_worker(worker_t *w, int number, int items, bool integers)
{
    const int n = COMMUNICATORS * items;

    *w = (worker_t){.number = number, .items_each = items};
    w->seed = test_random((uint64_t) test_number("seed", 1), (uint64_t) number);
    MPI_Comm_dup(MPI_COMM_WORLD, &w->parent);
    for (int c = 0; c < COMMUNICATORS; ++c) {
        switch (c % 3) {
        case 0:
            MPI_Comm_dup(w->parent, &w->comms[c]);
            break;
        case 1:
            MPI_Comm_split(w->parent, 0, -test.rank, &w->comms[c]);
            break;
        default:
            MPI_Comm_split(w->parent, c < 3 ? test.rank % 2 : test.rank < (test.size + 1) / 2, 0,
                           &w->comms[c]);
            break;
        }
    }
    flight_open(&w->space,
                test_option("kinds", "device,managed,pool,vmm,other,host,registered,mapped"),
                8 * run.most, integers);
    w->items = calloc((size_t) n, sizeof(item_t));
    w->requests = malloc(2 * (size_t) n * sizeof(MPI_Request));
    w->indices = malloc(2 * (size_t) n * sizeof(int));
    w->statuses = malloc(2 * (size_t) n * sizeof(MPI_Status));
}

static void close_worker(worker_t *w)
{
    for (int c = 0; c < COMMUNICATORS; ++c) {
        MPI_Comm_free(&w->comms[(c + test.rank) % COMMUNICATORS]);
    }
    MPI_Comm_free(&w->parent);
    flight_close(&w->space);
    free(w->items);
    free(w->requests);
    free(w->indices);
    free(w->statuses);
}

static CUcontext context;

static void *thread(void *argument)
{
    GPU_OK(gpu.CtxSetCurrent(context));
    work(argument);
    return NULL;
}

/* Everybody's requests, by this thread alone. */
static void complete_for(worker_t *workers, int threads)
{
    for (int left = threads * run.rounds; left > 0;) {
        for (int t = 0; t < threads; ++t) {
            worker_t *w = &workers[t];
            const int n = 2 * COMMUNICATORS * w->items_each;
            if (atomic_load(&w->posted) > atomic_load(&w->completed)) {
                test_some(w, n);
                if (draw_request(w, n) < 0) {
                    atomic_fetch_add(&w->completed, 1);
                    --left;
                }
            }
        }
    }
}

static void prepare_fill(void)
{
    run.fill_us = (uint32_t) test_number("fill-ms", 0) * 1000;
    run.fill = run.fill_us > 0;
    if (run.fill) {
        GPU_OK(gpu.DeviceGetAttribute(&run.processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
                                      gpu_in_use()));
        GPU_OK(gpu.StreamCreate(&run.stream, CU_STREAM_NON_BLOCKING));
        run.spin = gpu_kernel("spin");
    }
}

static void check_who(const worker_t *workers, int threads, const car_counters_t *since)
{
    unsigned long long device = 0, host = 0, calls = 0;

    for (int t = 0; t < threads; ++t) {
        device += workers[t].device;
        host += workers[t].host;
        calls += workers[t].calls;
    }
    CHECK(calls <= since->calls_nonblocking, "%llu nonblocking calls of %llu came to coll/car",
          since->calls_nonblocking, calls);
    if (0 == strcmp("none", test_option("room", "yes"))) {
        CHECK(0 == test_served(since), "kernels served %llu calls", test_served(since));
        return;
    }
    if (0 != strcmp("yes", test_option("room", "yes"))) {
        /* Requests for memory cross: a rank may find itself in refused communicators alone. */
        unsigned long long served = test_served(since), all = 0;

        CHECK(served <= device, "kernels served %llu calls of %llu", served, device);
        MPI_Allreduce(&served, &all, 1, MPI_UNSIGNED_LONG_LONG, MPI_SUM, MPI_COMM_WORLD);
        CHECK(0 < all, "kernels served no call of any rank");
        return;
    }
    CHECK(device == test_served(since), "kernels served %llu calls of %llu", test_served(since),
          device);
    CHECK(host == since->calls_host + since->calls_host_small, "%llu calls of %llu were host calls",
          since->calls_host + since->calls_host_small, host);
    CHECK(0 < since->calls_two_phase, "none through staging");
    if (atol(test_mca("zero_copy_min", "4194304")) < (long) run.most) {
        CHECK(0 < since->calls_zero_copy, "none was zero copy");
    }
}

int main(int argc, char **argv)
{
    static worker_t workers[THREADS_MAX];
    unsigned long long calls = 0;

    test_options(argc, argv,
                 "calls rounds kinds max-bytes integers room fill-ms threads complete seed");
    const int threads = (int) test_number("threads", 1);
    run.others = 0 == strcmp("other", test_option("complete", "own"));
    test_begin_threads(&argc, &argv, "outstanding",
                       threads > 1 || run.others ? MPI_THREAD_MULTIPLE : MPI_THREAD_FUNNELED);
    test_use_gpu();
    GPU_OK(gpu.CtxGetCurrent(&context));
    run.rounds = (int) test_number("rounds", 2);
    run.most = (size_t) test_number("max-bytes", 256 << 10);
    prepare_fill();
    for (int t = 0; t < threads; ++t) {
        open_worker(&workers[t], t, (int) test_number("calls", 60),
                    0 == strcmp("yes", test_option("integers", "no")));
    }
    const car_counters_t before = test_counters();
    for (int t = 0; t < threads && (threads > 1 || run.others); ++t) {
        pthread_create(&workers[t].thread, NULL, thread, &workers[t]);
    }
    if (run.others) {
        complete_for(workers, threads);
    } else if (1 == threads) {
        work(&workers[0]);
    }
    for (int t = 0; t < threads && (threads > 1 || run.others); ++t) {
        pthread_join(workers[t].thread, NULL);
    }
    const car_counters_t since = test_since(&before);
    check_who(workers, threads, &since);
    for (int t = 0; t < threads; ++t) {
        calls += workers[t].calls;
        close_worker(&workers[t]);
    }
    return test_end("%llu nonblocking calls: %llu two_phase, %llu zero copy, %llu on the host, "
                    "%llu left; %llu served at once",
                    calls, since.calls_two_phase, since.calls_zero_copy, since.calls_host_small,
                    since.calls_forwarded,
                    test_served(&since) - since.calls_two_phase - since.calls_zero_copy);
}
