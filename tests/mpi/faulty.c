/*
 * The driver fails somewhere (the suite says where, SIMGPU_FAIL, for coll/car's own calls), or host
 * memory does (SCARCE_FAIL): on several communicators, one after the other, every call in every
 * form, set-up and tear-down ends; on every rank in the right result or in an error of MPI's; never
 * in a crash, or in a rank that waits for ever.
 *
 *   --communicators N   (2)
 *   --descriptors N     rank 1 can open so many files more (-1: as many as it may)
 */
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "form.h"
#include "testing.h"

typedef struct {
    int bytes;
    bool host; /* on the last rank: it brings host memory */
} call_t;

/*
 * Push, a larger piece, zero copy; staged where a rank brings host memory; on the host where all
 * do: see main.
 */
static const call_t calls[] = {{4000, false}, {300000, false}, {5000000, false},
                               {4000, true},  {300000, true},  {4000, false}};
#define CALLS ((int) (sizeof(calls) / sizeof(calls[0])))
#define BYTES_MOST 5000000

static MPI_Comm plain; /* without coll/car: ranks tell each other how it went */
static int errors;

static bool all_well(int error)
{
    int worst = MPI_SUCCESS != error;

    errors += worst;
    PMPI_Allreduce(MPI_IN_PLACE, &worst, 1, MPI_INT, MPI_MAX, plain);
    return 0 == worst;
}

static void fill(void *buffer, uint32_t *data, int count, uint32_t seed)
{
    for (int i = 0; i < count; ++i) {
        data[i] = (seed + (uint32_t) i) * (uint32_t) (test.rank + 1);
    }
    gpu_write(buffer, data, (size_t) count * sizeof(uint32_t));
}

static void check(const void *buffer, uint32_t *data, int count, uint32_t seed, const char *form,
                  int bytes)
{
    const uint32_t ranks = (uint32_t) (test.size * (test.size + 1) / 2);

    gpu_read(data, buffer, (size_t) count * sizeof(uint32_t));
    for (int i = 0; i < count; ++i) {
        if (!CHECK(data[i] == (seed + (uint32_t) i) * ranks, "%s, %d bytes: element %d is %u", form,
                   bytes, i, data[i])) {
            return;
        }
    }
}

static void blocking(void *buffer, uint32_t *data, int count, MPI_Comm comm, uint32_t seed)
{
    fill(buffer, data, count, seed);
    const int error = MPI_Allreduce(MPI_IN_PLACE, buffer, count, MPI_UINT32_T, MPI_SUM, comm);
    if (MPI_SUCCESS == error) {
        check(buffer, data, count, seed, "blocking", count * 4);
    }
    (void) all_well(error);
}

static void nonblocking(void *buffer, uint32_t *data, int count, MPI_Comm comm, uint32_t seed)
{
    MPI_Request request = MPI_REQUEST_NULL;

    fill(buffer, data, count, seed);
    int error = MPI_Iallreduce(MPI_IN_PLACE, buffer, count, MPI_UINT32_T, MPI_SUM, comm, &request);
    if (MPI_SUCCESS == error) {
        error = MPI_Wait(&request, MPI_STATUS_IGNORE);
    }
    if (MPI_SUCCESS == error) {
        check(buffer, data, count, seed, "nonblocking", count * 4);
    }
    (void) all_well(error);
}

static void persistent(void *buffer, uint32_t *data, int count, MPI_Comm comm, uint32_t seed)
{
    MPI_Request request = MPI_REQUEST_NULL;

    int error =
        form_allreduce_init(MPI_IN_PLACE, buffer, count, MPI_UINT32_T, MPI_SUM, comm, &request);
    bool well = all_well(error);
    for (int start = 0; start < 2 && well; ++start, ++seed) {
        fill(buffer, data, count, seed);
        error = MPI_Start(&request);
        error = MPI_SUCCESS == error ? MPI_Wait(&request, MPI_STATUS_IGNORE) : error;
        if (MPI_SUCCESS == error) {
            check(buffer, data, count, seed, "persistent", count * 4);
        }
        well = all_well(error);
    }
    if (MPI_REQUEST_NULL != request) {
        MPI_Request_free(&request);
    }
}

static void use(MPI_Comm comm, void *device, void *host, uint32_t *data, uint32_t seed)
{
    for (int i = 0; i < CALLS; ++i) {
        void *buffer = calls[i].host && test.rank == test.size - 1 ? host : device;
        const int count = calls[i].bytes / 4;
        blocking(buffer, data, count, comm, seed + 4 * (uint32_t) i);
        nonblocking(buffer, data, count, comm, seed + 4 * (uint32_t) i + 1);
        if (form_has_persistent()) {
            persistent(buffer, data, count, comm, seed + 4 * (uint32_t) i + 2);
        }
    }
    blocking(host, data, 100, comm, seed + 100);
}

static void limit_descriptors(long more)
{
    const int next = dup(STDIN_FILENO);
    struct rlimit limit;

    close(next);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = (rlim_t) (next + more);
    CHECK(next >= 0 && 0 == setrlimit(RLIMIT_NOFILE, &limit),
          "the number of descriptors cannot be limited");
}

int main(int argc, char **argv)
{
    int all = 0;

    test_options(argc, argv, "communicators descriptors");
    test_begin(&argc, &argv, "faulty");
    test_use_gpu();
    plain = test_without_car(MPI_COMM_WORLD);
    gpu_buffer_t device = gpu_allocate(GPU_DEVICE, BYTES_MOST),
                 host = gpu_allocate(GPU_HOST, BYTES_MOST);
    uint32_t *data = malloc(BYTES_MOST);
    if (1 == test.rank && test_number("descriptors", -1) >= 0) {
        limit_descriptors(test_number("descriptors", -1));
    }
    for (int i = 0; i < test_number("communicators", 2); ++i) {
        MPI_Comm comm;
        MPI_Comm_dup(MPI_COMM_WORLD, &comm);
        MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
        use(comm, device.address, host.address, data, 1000 * (uint32_t) i);
        MPI_Comm_free(&comm);
    }
    PMPI_Allreduce(&errors, &all, 1, MPI_INT, MPI_SUM, plain);
    MPI_Comm_free(&plain);
    gpu_free(&device);
    gpu_free(&host);
    free(data);
    return test_end("%d errors", all);
}
