/*
 * The driver fails on one rank in the middle of a run (the suite makes it fail, on simulated GPUs):
 * every rank gets an error from MPI_Allreduce within a few calls, from then on always, whatever
 * buffers it brings, and nobody waits for ever.
 *
 *   --at-once N   nonblocking calls, so many under way at a time (0: MPI_Allreduce)
 *   --made yes    then persistent requests that were made before are started: each gives an error,
 *                 and none launches a kernel (no)
 */
#include <string.h>

#include "form.h"
#include "testing.h"

#define CALLS 40
#define COUNT 40000
#define AT_ONCE_MAX 10

static MPI_Comm comm;
static int first_error = -1;

static void judge(int call, int error)
{
    if (MPI_SUCCESS != error && first_error < 0) {
        first_error = call;
    }
    CHECK((MPI_SUCCESS != error) == (first_error >= 0),
          "call %d gives %d after an error in call %d", call, error, first_error);
}

/*
 * Ranks differ in what they bring; at least one brings device memory. Counts change, so pieces grow
 * too.
 */
static void *choose(int call, const gpu_buffer_t *device, const gpu_buffer_t *host)
{
    return call % test.size == test.rank || 0 == call ? device->address : host->address;
}

static int count_of(int call)
{
    return 1 + COUNT / CALLS * call;
}

/* Each on memory of its own. */
static void call_at_once(int first, int number)
{
    gpu_buffer_t device[AT_ONCE_MAX], host[AT_ONCE_MAX];
    MPI_Request requests[AT_ONCE_MAX];
    int errors[AT_ONCE_MAX];

    for (int i = 0; i < number; ++i) {
        device[i] = gpu_allocate(GPU_DEVICE, COUNT * sizeof(float));
        host[i] = gpu_allocate(GPU_HOST, COUNT * sizeof(float));
        errors[i] = MPI_Iallreduce(MPI_IN_PLACE, choose(first + i, &device[i], &host[i]),
                                   count_of(first + i), MPI_FLOAT, MPI_MAX, comm, &requests[i]);
    }
    for (int i = 0; i < number; ++i) {
        judge(first + i,
              MPI_SUCCESS != errors[i] ? errors[i] : MPI_Wait(&requests[i], MPI_STATUS_IGNORE));
        gpu_free(&device[i]);
        gpu_free(&host[i]);
    }
}

/* --- requests that were made before ----------------------------------------------------------- */

static const int bytes[] = {4000, 5000000}; /* by kernels that wait for each other; zero copy */
#define REQUESTS ((int) (sizeof(bytes) / sizeof(bytes[0])))

static MPI_Request requests[REQUESTS];
static gpu_buffer_t buffers[REQUESTS];

static void make_requests(void)
{
    for (int i = 0; i < REQUESTS; ++i) {
        buffers[i] = gpu_allocate(GPU_DEVICE, (size_t) bytes[i]);
        const int error = form_allreduce_init(MPI_IN_PLACE, buffers[i].address, bytes[i] / 4,
                                              MPI_FLOAT, MPI_MAX, comm, &requests[i]);
        CHECK(MPI_SUCCESS == error, "making a request of %d bytes gives %d", bytes[i], error);
    }
}

static void start_requests(void)
{
    for (int i = 0; i < REQUESTS; ++i) {
        const long long before = gpu_simulated_calls("cuGraphLaunch");
        int error = MPI_Start(&requests[i]);
        error = MPI_SUCCESS == error ? MPI_Wait(&requests[i], MPI_STATUS_IGNORE) : error;
        CHECK(MPI_SUCCESS != error, "a start of %d bytes gives no error", bytes[i]);
        CHECK(before == gpu_simulated_calls("cuGraphLaunch"), "a start of %d bytes launches",
              bytes[i]);
        if (MPI_REQUEST_NULL != requests[i]) { /* Open MPI frees what has failed */
            MPI_Request_free(&requests[i]);
        }
        gpu_free(&buffers[i]);
    }
}

int main(int argc, char **argv)
{
    int latest = 0;

    test_options(argc, argv, "at-once made");
    test_begin(&argc, &argv, "broken");
    test_use_gpu();
    const int at_once = (int) test_number("at-once", 0), more = at_once > 0 ? at_once : 1;
    const bool made = 0 == strcmp("yes", test_option("made", "no")) && form_has_persistent();
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    gpu_buffer_t device = gpu_allocate(GPU_DEVICE, COUNT * sizeof(float));
    gpu_buffer_t host = gpu_allocate(GPU_HOST, COUNT * sizeof(float));
    if (made) {
        make_requests();
    }
    for (int call = 0; call < CALLS; call += more) {
        if (at_once > 0) {
            call_at_once(call, at_once);
        } else {
            judge(call, MPI_Allreduce(MPI_IN_PLACE, choose(call, &device, &host), count_of(call),
                                      MPI_FLOAT, MPI_MAX, comm));
        }
    }
    CHECK(first_error >= 0, "no error in %d calls", CALLS);
    MPI_Allreduce(&first_error, &latest, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    CHECK(latest - first_error <= 1 + more, "an error in call %d here, in %d elsewhere",
          first_error, latest);
    if (made) {
        start_requests();
    }
    /* Other communicators are not affected. */
    MPI_Allreduce(MPI_IN_PLACE, &latest, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    MPI_Comm_free(&comm);
    gpu_free(&device);
    gpu_free(&host);
    return test_end("an error on every rank, first in call %d", first_error);
}
