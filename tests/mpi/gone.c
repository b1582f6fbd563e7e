/*
 * The last rank goes, or does not come, while the others wait for it: they do not wait for ever for
 * one that is dead, and are patient with one that is late.
 *
 *   --how kill|exit|late|stop   it kills itself; ends by _exit; comes after --ms; stops itself, to
 *                               be continued after --ms;
 *         driver                the environment makes it die, or stop, at some call of the driver
 *                               (SIMGPU_SIGNAL)
 *         amid                  it kills or stops itself (--signal kill|stop) --at-us microseconds
 *                               after the others and itself have begun to make calls, mostly while
 *                               it waits in one, as the others come late to each
 *   --ms N                      (2000)
 *   --form blocking|nonblocking|persistent
 *   --bytes N  --buffers device|host
 *   --before N                  calls before (3)
 *   --calls N                   calls while it may stop, and after that (10)
 *   --expect error|right        of the others: that of a rank which died within --limit-ms (1500),
 *                               or a right result
 *   --then end|shrink           after an error: nothing more, or (ULFM) the survivors go on without
 *                               the last rank
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "form.h"
#include "testing.h"

#if OMPI_MAJOR_VERSION >= 5
#include <mpi-ext.h>
#endif

#define LATE_US 500

static const char *wanted_form;

/* One call, in the form that is wanted. */
static int allreduce(void *buffer, int count, MPI_Comm comm)
{
    MPI_Request request;
    int rc;

    if (0 == strcmp("blocking", wanted_form)) {
        return MPI_Allreduce(MPI_IN_PLACE, buffer, count, MPI_UINT32_T, MPI_SUM, comm);
    }
    if (0 == strcmp("nonblocking", wanted_form)) {
        rc = MPI_Iallreduce(MPI_IN_PLACE, buffer, count, MPI_UINT32_T, MPI_SUM, comm, &request);
        return MPI_SUCCESS == rc ? MPI_Wait(&request, MPI_STATUS_IGNORE) : rc;
    }
    rc = form_allreduce_init(MPI_IN_PLACE, buffer, count, MPI_UINT32_T, MPI_SUM, comm, &request);
    if (MPI_SUCCESS == rc) {
        rc = MPI_Start(&request);
        rc = MPI_SUCCESS == rc ? MPI_Wait(&request, MPI_STATUS_IGNORE) : rc;
        if (MPI_REQUEST_NULL != request) { /* Open MPI frees what has failed */
            MPI_Request_free(&request);
        }
    }
    return rc;
}

static int checked_allreduce(const gpu_buffer_t *buffer, int count, MPI_Comm comm, int call)
{
    uint32_t *data = malloc((size_t) count * sizeof(uint32_t)), sum = 0;
    int rank, size;

    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &size);
    for (int r = 0; r < size; ++r) {
        sum += (uint32_t) (r + 1 + call);
    }
    for (int i = 0; i < count; ++i) {
        data[i] = (uint32_t) (rank + 1 + call) * (uint32_t) (i + 1);
    }
    gpu_write(buffer->address, data, (size_t) count * sizeof(uint32_t));
    const int rc = allreduce(buffer->address, count, comm);
    if (MPI_SUCCESS == rc) {
        gpu_read(data, buffer->address, (size_t) count * sizeof(uint32_t));
        for (int i = 0; i < count; ++i) {
            if (!CHECK(data[i] == sum * (uint32_t) (i + 1), "call %d: element %d is %u", call, i,
                       data[i])) {
                break;
            }
        }
    }
    free(data);
    return rc;
}

/* Whenever it may have stopped. */
static void *continue_it(void *pid)
{
    for (;;) {
        usleep((useconds_t) test_number("ms", 2000) * 1000);
        kill(*(pid_t *) pid, SIGCONT);
    }
    return NULL;
}

static int fired; /* it has */

static void *signal_itself(void *number)
{
    usleep((useconds_t) test_number("at-us", 0));
    __atomic_store_n(&fired, 1, __ATOMIC_RELEASE);
    kill(getpid(), *(int *) number);
    return NULL;
}

static void go(const char *how)
{
    if (0 == strcmp("kill", how)) {
        kill(getpid(), SIGKILL);
    } else if (0 == strcmp("exit", how)) {
        _exit(3);
    } else if (0 == strcmp("late", how)) {
        usleep((useconds_t) test_number("ms", 2000) * 1000);
    } else if (0 == strcmp("stop", how)) {
        kill(getpid(), SIGSTOP);
    }
}

/* The others have given it up meanwhile. */
static void come_back(MPI_Comm comm, const gpu_buffer_t *buffer, int count)
{
    CHECK(MPI_SUCCESS != allreduce(buffer->address, count, comm),
          "no error for a rank that came too late");
    _exit(0 != test_failures());
}

/*
 * Survivors cannot end MPI in the usual way: they say what they have found, and the first of them
 * for all.
 */
static void end_alone(const char *text)
{
    fflush(stdout);
    if (0 == test_failures()) {
        printf("%s gone: rank %d, %s\n", 0 == test.rank ? "ok" : "well", test.rank, text);
    } else {
        printf("FAILED gone: rank %d\n", test.rank);
    }
    fflush(stdout);
    usleep(300 * 1000); /* the others' messages come before the launcher ends the job */
    _exit(0 != test_failures());
}

#if defined(OMPI_HAVE_MPI_EXT_FTMPI)
static void shrink_and_go_on(MPI_Comm comm, gpu_buffer_t *buffer, int count, int error)
{
    MPI_Comm rest;
    int class;

    MPI_Error_class(error, &class);
    CHECK(MPIX_ERR_PROC_FAILED == class || MPIX_ERR_REVOKED == class,
          "the class of the error is %d", class);
    MPIX_Comm_revoke(comm);
    CHECK(MPI_SUCCESS == MPIX_Comm_shrink(comm, &rest), "the survivors cannot be brought together");
    const car_counters_t before = test_counters();
    for (int call = 0; call < 5; ++call) {
        CHECK(MPI_SUCCESS == checked_allreduce(buffer, count, rest, call),
              "call %d of the survivors", call);
    }
    const car_counters_t since = test_since(&before);
    CHECK(GPU_HOST == buffer->kind || test_served(&since) > 0,
          "kernels do not serve the survivors");
    MPI_Comm_free(&rest);
    MPI_Comm_free(&comm);
}
#else
static void shrink_and_go_on(MPI_Comm comm, gpu_buffer_t *buffer, int count, int error)
{
    (void) comm, (void) buffer, (void) count, (void) error;
    CHECK(false, "this MPI has no shrink");
}
#endif

static void survive(MPI_Comm comm, gpu_buffer_t *buffer, int count, pid_t pid, useconds_t late)
{
    const double start = test_ms();
    double took = 0;
    int error = MPI_SUCCESS;

    for (int call = 100; MPI_SUCCESS == error && test_ms() < start + 20000; ++call) {
        usleep(late);
        const double entered = test_ms();
        error = checked_allreduce(buffer, count, comm, call);
        took = test_ms() - entered;
    }
    CHECK(MPI_SUCCESS != error, "no error in 20 s");
    CHECK(took < (double) test_number("limit-ms", 1500), "the call took %.0f ms", took);
    CHECK(MPI_SUCCESS != allreduce(buffer->address, count, comm), "the next call gives no error");
    if (0 == strcmp("shrink", test_option("then", "end"))) {
        shrink_and_go_on(comm, buffer, count, error);
    }
    if (0 == strcmp("stop", test_option("how", "kill"))
        || 0 == strcmp("stop", test_option("signal", "kill"))) {
        kill(pid, SIGCONT);
    }
    char text[80];
    snprintf(text, sizeof(text), "an error after %.0f ms", took);
    end_alone(text);
}

/* All are there in the end; if the last one is to stop amid the calls, they go on until it has. */
static void go_on(MPI_Comm comm, const gpu_buffer_t *buffer, int count, useconds_t late,
                  bool until_fired)
{
    int over = 1;

    do {
        for (int call = 10; call < 10 + (int) test_number("calls", 10); ++call) {
            usleep(late);
            CHECK(MPI_SUCCESS == checked_allreduce(buffer, count, comm, call),
                  "call %d gives an error", call);
        }
        if (until_fired) {
            over = __atomic_load_n(&fired, __ATOMIC_ACQUIRE);
            MPI_Bcast(&over, 1, MPI_INT, test.size - 1, MPI_COMM_WORLD);
        }
    } while (!over && 0 == test_failures());
}

int main(int argc, char **argv)
{
    pid_t pid = getpid();
    pthread_t thread, alarm;
    MPI_Comm comm;

    test_options(argc, argv,
                 "how ms form bytes buffers before calls signal at-us expect then limit-ms");
    test_begin(&argc, &argv, "gone");
    test_use_gpu();
    wanted_form = test_option("form", "blocking");
    const char *how = test_option("how", "kill");
    const bool last = test.size - 1 == test.rank, driver = 0 == strcmp("driver", how),
               amid = 0 == strcmp("amid", how);
    const bool error = 0 == strcmp("error", test_option("expect", "error"));
    const int count = (int) (test_number("bytes", 4000) / 4);
    const useconds_t late = amid && !last ? LATE_US : 0;
    int number = 0 == strcmp("stop", test_option("signal", "kill")) ? SIGSTOP : SIGKILL;
    gpu_buffer_t buffer =
        gpu_allocate(0 == strcmp("host", test_option("buffers", "device")) ? GPU_HOST : GPU_DEVICE,
                     (size_t) count * sizeof(uint32_t));

    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    MPI_Bcast(&pid, sizeof(pid), MPI_BYTE, test.size - 1, MPI_COMM_WORLD);
    if (0 == test.rank && !error && driver) {
        pthread_create(&thread, NULL, continue_it, &pid);
    }
    for (int call = 0; call < test_number("before", 3) && !driver; ++call) {
        CHECK(MPI_SUCCESS == checked_allreduce(&buffer, count, comm, call),
              "call %d gives an error", call);
    }
    if (0 == test.rank && !error && !driver) {
        pthread_create(&thread, NULL, continue_it, &pid);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (last && amid) {
        pthread_create(&alarm, NULL, signal_itself, &number);
    } else if (last) {
        go(how);
    }
    if (error && !last) {
        survive(comm, &buffer, count, pid, late);
    }
    for (int call = 100; error && (driver || amid) && call < 1000; ++call) {
        (void) checked_allreduce(&buffer, count, comm, call); /* until it is killed */
    }
    if (error) {
        come_back(comm, &buffer, count);
    }
    go_on(comm, &buffer, count, late, amid);
    if (last && amid) {
        pthread_cancel(alarm);
        pthread_join(alarm, NULL);
    }
    MPI_Comm_free(&comm); /* waits for a kernel that stays, in which it may stop as well */
    gpu_free(&buffer);
    MPI_Barrier(MPI_COMM_WORLD); /* nothing continues it after this */
    if (0 == test.rank) {
        pthread_cancel(thread);
        pthread_join(thread, NULL);
    }
    return test_end("the last one %s", how);
}
