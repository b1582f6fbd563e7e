/*
 * The ranks do not make the same call, an error of the program: every rank gets an error within a
 * few calls (that of the faulty call may have ended well on some of them, where nothing was
 * missing), and nobody waits for ever or crashes.
 *
 *   --what count|type|op|order     in which the last rank's call differs
 *   --bytes N                      of the others' (4000)
 *   --buffers device|host|mixed    of the ranks (device); mixed: the last one's is host memory
 *   --form blocking|nonblocking|persistent
 *   --before N                     calls that are right, first (3); 0: the first call is the faulty
 *                                  one
 */
#include <string.h>

#include "form.h"
#include "testing.h"

#define CALLS_AFTER 4

typedef struct {
    int count;
    MPI_Datatype type;
    MPI_Op op;
} call_t;

static int allreduce(void *buffer, const call_t *call, MPI_Comm comm)
{
    const char *name = test_option("form", "blocking");
    MPI_Request request;
    int rc;

    if (0 == strcmp("blocking", name)) {
        return MPI_Allreduce(MPI_IN_PLACE, buffer, call->count, call->type, call->op, comm);
    }
    if (0 == strcmp("nonblocking", name)) {
        rc =
            MPI_Iallreduce(MPI_IN_PLACE, buffer, call->count, call->type, call->op, comm, &request);
        return MPI_SUCCESS == rc ? MPI_Wait(&request, MPI_STATUS_IGNORE) : rc;
    }
    rc = form_allreduce_init(MPI_IN_PLACE, buffer, call->count, call->type, call->op, comm,
                             &request);
    if (MPI_SUCCESS != rc) {
        return rc;
    }
    MPI_Start(&request);
    rc = MPI_Wait(&request, MPI_STATUS_IGNORE);
    if (MPI_REQUEST_NULL != request) { /* Open MPI frees what has failed */
        MPI_Request_free(&request);
    }
    return rc;
}

static call_t other(call_t call, const char *what)
{
    if (0 == strcmp("count", what)) {
        call.count += 100;
    } else if (0 == strcmp("type", what)) {
        call.type = MPI_INT32_T;
    } else {
        call.op = MPI_MAX;
    }
    return call;
}

int main(int argc, char **argv)
{
    int errors = 0, first = -1;
    MPI_Comm comm;

    test_options(argc, argv, "what bytes buffers form before");
    test_begin(&argc, &argv, "disagree");
    test_use_gpu();
    const char *what = test_option("what", "count"), *buffers = test_option("buffers", "device");
    const bool last = test.size - 1 == test.rank;
    const bool host = 0 == strcmp("host", buffers) || (last && 0 == strcmp("mixed", buffers));
    const size_t bytes = (size_t) test_number("bytes", 4000);
    const call_t right = {(int) (bytes / sizeof(float)), MPI_FLOAT, MPI_SUM};
    gpu_buffer_t buffer = gpu_allocate(host ? GPU_HOST : GPU_DEVICE, bytes + 800);

    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    for (int call = 0; call < test_number("before", 3); ++call) {
        CHECK(MPI_SUCCESS == allreduce(buffer.address, &right, comm), "call %d gives an error",
              call);
    }
    const bool order = 0 == strcmp("order", what);
    const call_t second = other(right, order ? "count" : what);
    for (int call = 0; call < CALLS_AFTER; ++call) {
        /* In another order: the last rank makes the second call first. */
        const call_t *mine = order               ? (0 == call   ? (last ? &second : &right)
                                                    : 1 == call ? (last ? &right : &second)
                                                                : &right)
                             : last && 0 == call ? &second
                                                 : &right;
        const int error = allreduce(buffer.address, mine, comm);
        errors += MPI_SUCCESS != error;
        first = first < 0 && MPI_SUCCESS != error ? call : first;
        CHECK((MPI_SUCCESS != error) == (first >= 0), "call %d gives %d after an error in call %d",
              call, error, first);
    }
    CHECK(first == 0 || first == 1, "the first error comes in call %d", first);
    MPI_Comm_free(&comm);
    gpu_free(&buffer);
    return test_end("%s: %d errors in %d calls", what, errors, CALLS_AFTER);
}
