/*
 * MPI ends in whatever state the program leaves it: without a crash and without waiting for ever.
 *
 *   --how LIST   of what happens before, in this order, separated by commas:
 *         unused        nothing: the GPU is there, and no allreduce has used it
 *         outstanding   nonblocking calls of all ranks have never been waited for
 *         started       nor has the start of a persistent request, and neither it nor the
 *                       communicator has been freed
 *         sticky        a kernel of the application's writes where no memory is: its context is of
 *                       no use any more
 *         reset         the device has been reset
 *         called        allreduces that come then give an error on all ranks within a second
 *         freed         the communicator is freed
 *         atexit        MPI_Finalize is called while the process ends
 *   --who all|one   ranks on which the device is reset or the kernel fails (all)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "form.h"
#include "test_kernel_args.h"
#include "testing.h"

#define COUNT 50000
#define GONE_BYTES ((size_t) 64 << 20)
#define REQUESTS 4

static void finalize(void)
{
    MPI_Finalize();
    if (0 == test.rank) {
        printf("%s finale: %s\n", 0 == test_failures() ? "ok" : "FAILED", test_option("how", ""));
    }
}

static bool listed(const char *what)
{
    return test_listed(what, test_option("how", "unused"));
}

/* Memory that was there. */
static void write_to_nowhere(void)
{
    gpu_buffer_t gone = gpu_allocate(GPU_DEVICE, GONE_BYTES);
    test_kernel_args_t args = {.address = gone.address, .count = COUNT, .value = 1};
    void *parameters[] = {&args};
    CUfunction kernel = gpu_kernel("fill_delay");

    gpu_free(&gone);
    GPU_OK(gpu.LaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, NULL, parameters, NULL));
    const CUresult result = gpu.CtxSynchronize();
    CHECK(CUDA_ERROR_ILLEGAL_ADDRESS == result, "the kernel ends with %d", result);
}

static void call(MPI_Comm comm, const gpu_buffer_t *buffer)
{
    for (int i = 0; i < 3; ++i) {
        const double before = test_ms();
        const int error =
            MPI_Allreduce(MPI_IN_PLACE, buffer->address, COUNT, MPI_FLOAT, MPI_SUM, comm);
        CHECK(MPI_SUCCESS != error, "call %d gives no error", i);
        CHECK(test_ms() - before < 1000, "call %d gives an error after %.0f ms", i,
              test_ms() - before);
    }
}

int main(int argc, char **argv)
{
    MPI_Request requests[REQUESTS];
    gpu_buffer_t buffer[REQUESTS];
    MPI_Comm comm;

    test_options(argc, argv, "how who");
    test_begin(&argc, &argv, "finale");
    test_use_gpu();
    const bool struck = 0 == strcmp("all", test_option("who", "all")) || 1 == test.rank;

    for (int i = 0; i < REQUESTS; ++i) {
        buffer[i] = gpu_allocate(GPU_DEVICE, COUNT * sizeof(float));
    }
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    /* a rank may still be making calls when another has been struck */
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (!listed("unused")) {
        MPI_Allreduce(MPI_IN_PLACE, buffer[0].address, COUNT, MPI_FLOAT, MPI_SUM, comm);
        MPI_Allreduce(MPI_IN_PLACE, buffer[0].address, 10, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    }
    for (int i = 0; i < REQUESTS && listed("outstanding"); ++i) {
        MPI_Iallreduce(MPI_IN_PLACE, buffer[i].address, COUNT, MPI_FLOAT, MPI_SUM,
                       i % 2 ? comm : MPI_COMM_WORLD, &requests[i]);
    }
    if (listed("started") && form_has_persistent()) {
        form_allreduce_init(MPI_IN_PLACE, buffer[0].address, COUNT, MPI_FLOAT, MPI_SUM, comm,
                            &requests[0]);
        MPI_Start(&requests[0]);
    }
    if (listed("sticky") && struck) {
        write_to_nowhere();
    }
    if (listed("reset") && struck) {
        GPU_OK(gpu.DevicePrimaryCtxReset(gpu_in_use()));
    }
    if (listed("called")) {
        if (listed("reset") && struck) {
            gpu_use(gpu_in_use());
            /* the old one is no memory any more */
            buffer[0] = gpu_allocate(GPU_DEVICE, COUNT * sizeof(float));
        }
        call(comm, &buffer[0]);
    }
    if (listed("freed")) {
        MPI_Comm_free(&comm);
    }
    if (listed("atexit")) {
        atexit(finalize);
        exit(0);
    }
    finalize();
    return 0 != test_failures();
}
