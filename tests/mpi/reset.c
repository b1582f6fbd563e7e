/*
 * One rank resets its device between two calls, as cudaDeviceReset does (what is in it is gone, and
 * the context too). All ranks get an error from every later call on a communicator that was in use,
 * nobody waits for ever; the rank begins anew with a communicator of its new context, which is
 * served, and the old one can be freed.
 *
 *   --who all|one    ranks that do so (one)
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "checked.h"

#define BYTES 50000

int main(int argc, char **argv)
{
    static char on_host[BYTES];
    MPI_Comm used, fresh, unused;

    test_options(argc, argv, "who then");
    test_begin(&argc, &argv, "reset");
    test_use_gpu();
    const bool mine = 0 == strcmp(test_option("who", "one"), "all") || 1 == test.rank;
    MPI_Comm_dup(MPI_COMM_WORLD, &used);
    MPI_Comm_dup(MPI_COMM_WORLD, &unused);
    MPI_Comm_set_errhandler(used, MPI_ERRORS_RETURN);
    checked_space_t space = checked_allocate(GPU_DEVICE, BYTES);
    for (int call = 0; call < 6; ++call) {
        checked_allreduce_by(CHECKED_BY_KERNELS, used, &space, BYTES, 1, "before the reset");
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (mine) {
        GPU_OK(gpu.DevicePrimaryCtxReset(gpu_in_use()));
        gpu_use(gpu_in_use());
        space = checked_allocate(GPU_DEVICE, BYTES);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    /* Who brings host memory then waits for the others without asking the driver for anything. */
    const bool host = 0 == strcmp(test_option("then", "device"), "host");
    if (host && !mine) {
        usleep(300000);
    }
    for (int call = 0; call < 3; ++call) {
        void *buffer = host && mine ? on_host : space.buffer.address;
        const int error =
            MPI_Allreduce(MPI_IN_PLACE, buffer, BYTES / 4, MPI_FLOAT, MPI_SUM, used);
        CHECK(MPI_SUCCESS != error, "call %d after the reset gives no error", call);
    }
    MPI_Comm_dup(MPI_COMM_WORLD, &fresh);
    checked_allreduce_by(CHECKED_BY_KERNELS, unused, &space, BYTES, 2,
                         "a communicator first used after the reset");
    checked_allreduce_by(CHECKED_BY_KERNELS, fresh, &space, BYTES, 3,
                         "a communicator made after the reset");
    MPI_Comm_free(&used);
    checked_allreduce_by(CHECKED_BY_KERNELS, fresh, &space, 40, 4, "after the old one is freed");
    MPI_Comm_free(&unused);
    MPI_Comm_free(&fresh);
    checked_free(&space);
    return test_end("%s reset", test_option("who", "one"));
}
