/*
 * One rank comes late (--ms, 3000 by default). The result is right, and in the meantime no kernel
 * of the others stays on its GPU: there another thread's cuCtxSynchronize returns within --limit-ms
 * (50 by default), again and again, though the rank waits in MPI_Allreduce.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "form.h"
#include "testing.h"

#define COUNT 5000

typedef struct {
    CUcontext context;
    atomic_bool stop;
    double longest_ms;
    int times;
} watcher_t;

/* Looks every 20 ms, beginning when the rank has been waiting for a while. */
static void *watch(void *argument)
{
    watcher_t *w = argument;

    GPU_OK(gpu.CtxSetCurrent(w->context));
    usleep(200 * 1000);
    while (!atomic_load(&w->stop)) {
        const double start = test_ms();
        GPU_OK(gpu.CtxSynchronize());
        const double took = test_ms() - start;
        if (!atomic_load(&w->stop)) { /* else the others may have come meanwhile */
            w->longest_ms = took > w->longest_ms ? took : w->longest_ms;
            ++w->times;
        }
        usleep(20 * 1000);
    }
    return NULL;
}

static void check_result(gpu_buffer_t *buffer)
{
    uint32_t data[COUNT];

    gpu_read(data, buffer->address, sizeof(data));
    for (uint32_t i = 0; i < COUNT; ++i) {
        const uint32_t wanted = (uint32_t) (test.size * (test.size - 1) / 2) * (i + 1);
        if (!CHECK(data[i] == wanted, "element %u is %u, not %u", i, data[i], wanted)) {
            return;
        }
    }
}

static void reduce(gpu_buffer_t *buffer, int late_rank, unsigned int late_ms, double limit_ms)
{
    uint32_t data[COUNT];
    watcher_t watcher = {.longest_ms = 0};
    pthread_t thread;

    for (uint32_t i = 0; i < COUNT; ++i) {
        data[i] = (uint32_t) test.rank * (i + 1);
    }
    gpu_write(buffer->address, data, sizeof(data));
    GPU_OK(gpu.CtxGetCurrent(&watcher.context));
    MPI_Barrier(MPI_COMM_WORLD);
    const car_counters_t before = test_counters();
    if (test.rank == late_rank) {
        usleep(late_ms * 1000);
    } else {
        pthread_create(&thread, NULL, watch, &watcher);
    }
    MPI_Allreduce(MPI_IN_PLACE, buffer->address, COUNT, MPI_UINT32_T, MPI_SUM, MPI_COMM_WORLD);
    atomic_store(&watcher.stop, true);
    const car_counters_t since = test_since(&before);
    CHECK(1 == test_served(&since), "the kernels served %llu calls", test_served(&since));
    if (test.rank != late_rank) {
        pthread_join(thread, NULL);
        CHECK(watcher.times > 0 && watcher.longest_ms < limit_ms,
              "cuCtxSynchronize took up to %.0f ms while this rank waited; %d times looked at",
              watcher.longest_ms, watcher.times);
        /* Where ranks take turns on a GPU, and in the other forms, no kernel waits for a peer. */
        CHECK(FORM_BLOCKING != form()
                  || since.relaunches + since.calls_zero_copy + since.calls_two_phase > 0,
              "no kernel left and was launched again");
    }
    check_result(buffer);
}

int main(int argc, char **argv)
{
    test_options(argc, argv, "ms limit-ms");
    test_begin(&argc, &argv, "late");
    test_use_gpu();
    const unsigned int late_ms = (unsigned int) test_number("ms", 3000);
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, COUNT * sizeof(uint32_t));
    /*
     * Set-up, and all the device memory that such a call wants, first: what waits there is no
     * kernel.
     */
    MPI_Allreduce(MPI_IN_PLACE, buffer.address, COUNT, MPI_UINT32_T, MPI_SUM, MPI_COMM_WORLD);
    reduce(&buffer, 0, late_ms, (double) test_number("limit-ms", 50));
    reduce(&buffer, test.size - 1, late_ms / 3, (double) test_number("limit-ms", 50));
    gpu_free(&buffer);
    return test_end("rank 0 came %u ms late", late_ms);
}
