/*
 * A kernel on the caller's default stream fills the buffer late, and nobody waits for it before
 * MPI_Allreduce.
 *
 *   --stream legacy|per-thread
 *                    what default stream: the second is that of programs compiled for one per
 *                    thread, which the legacy one waits for (legacy)
 *   --expect after   coll_car_stream_order=legacy: the allreduce sees what the kernel wrote
 *   --expect before  without: it has run by then, in one of three rounds at least, as the machine
 *                    may be busy. That is no promise; it shows that the test can tell
 */
#include <string.h>

#include "test_kernel_args.h"
#include "testing.h"

#define COUNT 2000
#define OLD 1000u
#define NEW 7u

static CUstream default_stream;

static void fill_late(CUfunction kernel, void *address, uint32_t delay_us)
{
    test_kernel_args_t args = {.address = address,
                               .count = COUNT,
                               .value = NEW + (uint32_t) test.rank,
                               .delay_us = delay_us};
    void *parameters[] = {&args};

    GPU_OK(gpu.LaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, default_stream, parameters, NULL));
}

static void set(void *address, uint32_t value)
{
    uint32_t data[COUNT];

    for (int i = 0; i < COUNT; ++i) {
        data[i] = value;
    }
    gpu_write(address, data, sizeof(data));
}

int main(int argc, char **argv)
{
    uint32_t data[COUNT];

    test_options(argc, argv, "expect stream ms");
    test_begin(&argc, &argv, "stream_order");
    test_use_gpu();
    default_stream = 0 == strcmp("per-thread", test_option("stream", "legacy"))
                         ? CU_STREAM_PER_THREAD
                         : CU_STREAM_LEGACY;
    const bool after = 0 == strcmp("after", test_option("expect", "after"));
    const uint32_t delay_us = (uint32_t) test_number("ms", 300) * 1000;
    const CUfunction kernel = gpu_kernel("fill_delay");
    gpu_buffer_t in = gpu_allocate(GPU_DEVICE, sizeof(data)),
                 out = gpu_allocate(GPU_DEVICE, sizeof(data));
    const uint32_t ranks = (uint32_t) test.size, sum_of_ranks = ranks * (ranks - 1) / 2;

    /*
     * What a kernel needs to be loaded, and what coll/car does when it first sees a buffer, is done
     * here.
     */
    fill_late(kernel, in.address, 0);
    GPU_OK(gpu.StreamSynchronize(CU_STREAM_LEGACY));
    for (int i = 0; i < 2; ++i) {
        MPI_Allreduce(in.address, out.address, COUNT, MPI_UINT32_T, MPI_SUM, MPI_COMM_WORLD);
    }
    int came_before = 0;
    for (int round = 0; round < 3; ++round) {
        set(in.address, OLD);
        set(out.address, 0);
        MPI_Barrier(MPI_COMM_WORLD);
        const car_counters_t before = test_counters();
        fill_late(kernel, in.address, delay_us);
        MPI_Allreduce(in.address, out.address, COUNT, MPI_UINT32_T, MPI_SUM, MPI_COMM_WORLD);
        const car_counters_t since = test_since(&before);
        CHECK(1 == test_served(&since), "the kernels served %llu calls", test_served(&since));
        gpu_read(data, out.address, sizeof(data));
        const uint32_t wanted = NEW * ranks + sum_of_ranks;
        came_before += data[0] == OLD * ranks;
        for (int i = 0; after && i < COUNT; ++i) {
            if (!CHECK(data[i] == wanted, "round %d: element %d is %u, not %u", round, i, data[i],
                       wanted)) {
                break;
            }
        }
    }
    CHECK(after || came_before > 0, "the allreduce saw what the kernel wrote in all rounds");
    gpu_free(&in);
    gpu_free(&out);
    return test_end("the allreduce came %s the default stream's kernel",
                    after ? "after" : "before");
}
