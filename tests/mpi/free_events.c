/*
 * What a rank frees is not kept by its peers: with UCM's events (coll_car_ucx) their mappings go in
 * their next progress, without another allreduce; without, with the next large call. Nothing else
 * is disturbed, and results are right whatever happens when.
 *
 *   --case NAME    alone       buffers are freed and no call follows
 *                  others      calls on other buffers are under way meanwhile, with one rank that
 *                              is late
 *                  early       a rank frees as soon as its call has ended, while the others may
 *                              still be in theirs
 *                  cycles      memory is freed and allocated again, mostly at the same address
 *                  kept        what was about to be freed is not, and is used again
 *                  storm       another thread frees all the time, from anywhere
 *                  (all)
 *   --expect WHEN  at_once or later: whether there are events (at_once)
 *   --bytes N      of a call (coll_car_zero_copy_min, and some)
 *   --times N      of cycles (300)
 *
 * Where the library is the tests' own (tests/ucm) the program says there what it frees; else that
 * hooks the driver itself.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "testing.h"

static struct {
    MPI_Comm comm;
    uint32_t count; /* elements */
    uint32_t calls;
    uint32_t *values;
    long long mapped; /* IPC mappings when no buffer was */
    bool at_once;
    void (*tell)(void *, size_t); /* NULL: nobody has to be told */
} run;

static size_t bytes_of_call(void)
{
    return run.count * sizeof(uint32_t);
}

static long long mappings(void)
{
    return gpu_simulated_mappings() - run.mapped;
}

static gpu_buffer_t take(void)
{
    return gpu_allocate(GPU_DEVICE, bytes_of_call());
}

static void about_to_free(void *address)
{
    if (NULL != run.tell) {
        run.tell(address, bytes_of_call());
    }
}

static void give(gpu_buffer_t *buffer)
{
    about_to_free(buffer->address);
    gpu_free(buffer);
}

/* --- calls, in place -------------------------------------------------------------------------- */

static uint32_t value(uint32_t seed, uint32_t i)
{
    return seed * 2654435761u + i * 40503u;
}

static void fill(void *at, uint32_t seed)
{
    for (uint32_t i = 0; i < run.count; ++i) {
        run.values[i] = value(seed, i) * (uint32_t) (test.rank + 1);
    }
    gpu_write(at, run.values, bytes_of_call());
}

static void check(const void *at, uint32_t seed, const char *what)
{
    const uint32_t n = (uint32_t) test.size, ranks = n * (n + 1) / 2;

    gpu_read(run.values, at, bytes_of_call());
    for (uint32_t i = 0; i < run.count; ++i) {
        if (!CHECK(value(seed, i) * ranks == run.values[i], "%s, call %u: element %u is %u, not %u",
                   what, seed, i, run.values[i], value(seed, i) * ranks)) {
            return;
        }
    }
}

static void start(void *at, MPI_Request *request)
{
    fill(at, ++run.calls);
    MPI_Iallreduce(MPI_IN_PLACE, at, (int) run.count, MPI_UINT32_T, MPI_SUM, run.comm, request);
}

static void reduce(void *at, const char *what)
{
    const car_counters_t before = test_counters();

    fill(at, ++run.calls);
    MPI_Allreduce(MPI_IN_PLACE, at, (int) run.count, MPI_UINT32_T, MPI_SUM, run.comm);
    const car_counters_t since = test_since(&before);
    check(at, run.calls, what);
    CHECK(1 == since.calls_zero_copy, "%s, call %u: zero copy %llu times", what, run.calls,
          since.calls_zero_copy);
}

/* Nothing but MPI's progress, until so many buffers are mapped, or that time has passed. */
static void progress_until(long long wanted, double ms)
{
    const double end = test_ms() + ms;

    while (wanted != mappings() && test_ms() < end) {
        int flag;
        MPI_Iprobe(MPI_ANY_SOURCE, 99, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
    }
}

/* Long where something has to happen, short where nothing may. */
static double patience(void)
{
    return run.at_once ? 10000 : 200;
}

/* --- cases ------------------------------------------------------------------------------------ */

static void alone(void)
{
    enum { BUFFERS = 6 };
    gpu_buffer_t buffer[BUFFERS], kept = take();
    const long long each = test.size - 1;

    reduce(kept.address, "the buffer that stays");
    for (int i = 0; i < BUFFERS; ++i) {
        buffer[i] = take();
        reduce(buffer[i].address, "buffers that go");
    }
    CHECK((1 + BUFFERS) * each == mappings(), "%lld buffers are mapped, not %lld", mappings(),
          (1 + BUFFERS) * each);
    MPI_Barrier(MPI_COMM_WORLD);
    for (int i = 0; i < BUFFERS; ++i) {
        give(&buffer[i]);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    progress_until(each, patience());
    const long long left = run.at_once ? each : (1 + BUFFERS) * each;
    CHECK(left == mappings(), "freed: %lld buffers are mapped, not %lld", mappings(), left);
    MPI_Barrier(MPI_COMM_WORLD);
    reduce(kept.address, "after they have gone");
    CHECK(each == mappings(), "the next call: %lld buffers are mapped, not %lld", mappings(), each);
    give(&kept);
}

static void others(void)
{
    enum { BUFFERS = 3 };

    for (int turn = 0; turn < 10; ++turn) {
        gpu_buffer_t used[BUFFERS], gone = take();
        MPI_Request request[BUFFERS];
        uint32_t call[BUFFERS];
        reduce(gone.address, "a buffer that goes");
        for (int i = 0; i < BUFFERS; ++i) {
            used[i] = take();
        }
        for (int i = 0; i < BUFFERS; ++i) {
            if (test.rank == turn % test.size) { /* it is late: the others' calls are under way */
                progress_until(-1, 20);
            }
            start(used[i].address, &request[i]);
            call[i] = run.calls;
            if (0 == i) {
                give(&gone);
            }
        }
        MPI_Waitall(BUFFERS, request, MPI_STATUSES_IGNORE);
        for (int i = 0; i < BUFFERS; ++i) {
            check(used[i].address, call[i], "other buffers");
            give(&used[i]);
        }
    }
}

static void early(void)
{
    for (int i = 0; i < 100; ++i) {
        gpu_buffer_t buffer = take();
        MPI_Request request;
        start(buffer.address, &request);
        MPI_Wait(&request, MPI_STATUS_IGNORE);
        if (0 != (test_random((uint64_t) i, (uint64_t) test.rank) & 1)) {
            check(buffer.address, run.calls, "freed as soon as it has ended");
        }
        give(&buffer);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    progress_until(0, patience());
    CHECK(!run.at_once || 0 == mappings(), "%lld buffers are mapped", mappings());
}

static void cycles(void)
{
    const long times = test_number("times", 300);
    gpu_buffer_t buffer[2] = {take(), take()};
    long again = 0;

    for (long i = 0; i < times; ++i) {
        const uint64_t random = test_random((uint64_t) i, (uint64_t) test.rank);
        gpu_buffer_t *const which = &buffer[random & 1];
        if (0 != (random & 6)) {
            const void *const before = which->address;
            give(which);
            *which = take();
            again += before == which->address;
        }
        reduce(buffer[i % 2].address, "allocated anew");
    }
    CHECK(again > times / 10, "only %ld times of %ld memory had the address that was freed before",
          again, times);
    give(&buffer[0]);
    give(&buffer[1]);
    MPI_Barrier(MPI_COMM_WORLD);
    progress_until(0, patience());
    CHECK(!run.at_once || 0 == mappings(), "all is freed: %lld buffers are mapped", mappings());
}

/* A driver refuses to free while a stream is captured, say. */
static void kept(void)
{
    gpu_buffer_t buffer = take();

    for (int i = 0; i < 40; ++i) {
        reduce(buffer.address, "it is still there");
        if (0 != (test_random((uint64_t) i, (uint64_t) test.rank + 77) & 1)) {
            about_to_free(buffer.address);
        }
        if (0 == i % 3) {
            progress_until(0, 5);
        }
    }
    give(&buffer);
}

static atomic_bool stop;

static void *free_all_the_time(void *at)
{
    for (uint64_t i = 0; !stop; ++i) {
        about_to_free(0 == test_random(i, 3) % 1000 ? at
                                                    : (void *) (uintptr_t) (4096 * (1 + i % 1000)));
        usleep(20);
    }
    return NULL;
}

static void storm(void)
{
    gpu_buffer_t buffer[2] = {take(), take()};
    pthread_t thread;

    stop = false;
    CHECK(0 == pthread_create(&thread, NULL, free_all_the_time, buffer[0].address), "no thread");
    for (int i = 0; i < 100; ++i) {
        reduce(buffer[i % 2].address, "while others free");
    }
    stop = true;
    pthread_join(thread, NULL);
    give(&buffer[0]);
    give(&buffer[1]);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {{"alone", alone},   {"others", others}, {"early", early},
             {"cycles", cycles}, {"kept", kept},     {"storm", storm}};

/* ISO C has no way from an object pointer to a function but this. */
static void find_standin(void)
{
    void *library = dlopen(test_mca("ucx", "none"), RTLD_LAZY | RTLD_NOLOAD);
    void *symbol = NULL == library ? NULL : dlsym(library, "standin_freed");

    memcpy(&run.tell, &symbol, sizeof(symbol));
}

int main(int argc, char **argv)
{
    uint32_t word = 1;

    test_options(argc, argv, "case expect bytes times");
    test_begin(&argc, &argv, "free_events");
    test_use_gpu();
    if (!gpu_simulated()) {
        test_skip("nobody counts mappings on real GPUs");
    }
    const char *only = test_option("case", NULL);
    run.count = (uint32_t) (test_number("bytes", atol(test_mca("zero_copy_min", "4194304")) + 5000)
                            / (long) sizeof(uint32_t));
    run.values = malloc(bytes_of_call());
    run.at_once = 0 == strcmp("at_once", test_option("expect", "at_once"));
    MPI_Comm_dup(MPI_COMM_WORLD, &run.comm);
    /* It sets up what there is to set up, and stays: where ranks take turns it is mapped, too. */
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, sizeof(word));
    gpu_write(buffer.address, &word, sizeof(word));
    MPI_Allreduce(MPI_IN_PLACE, buffer.address, 1, MPI_UINT32_T, MPI_SUM, run.comm);
    find_standin();
    run.mapped = gpu_simulated_mappings();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
        if (NULL == only || 0 == strcmp(only, cases[i].name)) {
            cases[i].run();
        }
    }
    CHECK(run.calls > 0, "no such case");
    free(run.values);
    gpu_free(&buffer);
    MPI_Comm_free(&run.comm);
    return test_end("%u calls of %zu bytes", run.calls, bytes_of_call());
}
