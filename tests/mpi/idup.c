/*
 * Communicators are made while MPI_Iallreduce is under way on their parent: by MPI_Comm_idup, whose
 * own nonblocking calls on the parent come between the program's in an order of their own on every
 * rank, by MPI_Comm_dup and MPI_Comm_split. Ranks sleep, and let MPI move on, at other places. All
 * sums are right. (Stock Open MPI gives wrong ones, of host memory.)
 *
 * Then the new ones are used at once: the first call on each is nonblocking, in opposite orders on
 * different ranks, with a blocking one right behind it.
 *
 *   --rounds N     (12)
 *   --kinds LIST   of memory, in which the ranks of one call differ (device,host,managed,other)
 *   --room yes|no  there is device memory for every communicator, so kernels serve every call with
 *                  a device buffer (yes)
 *   --sleep-us N   at most (4000)
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flight.h"

#define CALLS 15
#define FRESH 5 /* communicators of a round */
#define EACH 3  /* first calls on each of them */
#define MOST 40000

static struct {
    uint64_t draws;
    flight_space_t space;
    unsigned int sleep_us;
    unsigned long long device, host;
} run;

static uint64_t own(void)
{
    return test_random(4242 + 77 * (uint64_t) (test.rank + 1), ++run.draws);
}

/*
 * A rank sleeps, or it lets MPI move on for as long, so that calls which MPI_Comm_idup makes there
 * come before the program's next one on some ranks, and behind it on others.
 */
static void move_on_unevenly(void)
{
    const unsigned int us = (unsigned int) (own() % (run.sleep_us + 1));
    int flag;

    switch (own() % 3) {
    case 0:
        return;
    case 1:
        usleep(us);
        return;
    default:
        for (const double end = test_ms() + us / 1000.0; test_ms() < end;) {
            MPI_Iprobe(MPI_ANY_SOURCE, 0, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
        }
        return;
    }
}

static void count(const flight_t *call)
{
    run.device += call->device ? 1 : 0;
    run.host += call->device ? 0 : 1;
}

/* The same on all ranks, if they come here in the same order. */
static flight_t prepare(MPI_Comm comm, uint64_t seed)
{
    flight_t call = flight_draw(&run.space, comm, seed, MOST);

    flight_fill(&run.space, &call, seed);
    return call;
}

static void post(flight_t *call, MPI_Request *request)
{
    if (1 == call->size) {
        *request = MPI_REQUEST_NULL;
        return;
    }
    count(call);
    MPI_Iallreduce(flight_send(call), call->out, (int) call->count, call->type->type,
                   data_mpi_op(call->op), call->comm, request);
}

static void check(flight_t *call, const char *what)
{
    if (call->size > 1) {
        flight_check(&run.space, call, what);
    }
}

static void block(MPI_Comm comm, uint64_t seed)
{
    flight_t call = prepare(comm, seed);

    if (call.size > 1) {
        count(&call);
        PMPI_Allreduce(flight_send(&call), call.out, (int) call.count, call.type->type,
                       data_mpi_op(call.op), comm);
        check(&call, "a blocking call behind nonblocking ones");
    }
}

/* --- the new ones ----------------------------------------------------------------------------- */

static void use_fresh(MPI_Comm comms[FRESH], uint64_t seed)
{
    flight_t calls[FRESH][EACH];
    MPI_Request requests[FRESH * EACH];
    const bool backwards = 0 != (own() & 1);

    for (int c = 0; c < FRESH; ++c) {
        for (int i = 0; i < EACH; ++i) {
            calls[c][i] = prepare(comms[c], test_random(seed, (uint64_t) (100 * c + i)));
        }
    }
    for (int turn = 0; turn < FRESH; ++turn) {
        const int c = backwards ? FRESH - 1 - turn : turn;
        for (int i = 0; i < EACH; ++i) {
            post(&calls[c][i], &requests[c * EACH + i]);
        }
        move_on_unevenly();
    }
    for (int c = 0; c < FRESH; ++c) {
        block(comms[c], test_random(seed + 1, (uint64_t) c));
    }
    MPI_Waitall(FRESH * EACH, requests, MPI_STATUSES_IGNORE);
    for (int c = 0; c < FRESH; ++c) {
        for (int i = 0; i < EACH; ++i) {
            check(&calls[c][i], "the first calls of a communicator");
        }
    }
}

/* --- a round ---------------------------------------------------------------------------------- */

/* Makes the i-th communicator of the round, while calls are under way on its parent. */
static void make(int i, MPI_Comm parent, MPI_Comm *comm)
{
    switch (i) {
    case 1:
        MPI_Comm_dup(parent, comm);
        break;
    case 2:
        MPI_Comm_split(parent, 0, -test.rank, comm);
        break;
    default:
        MPI_Comm_split(parent, test.rank < (test.size + 1) / 2, 0, comm);
        break;
    }
}

static void one_round(MPI_Comm parent, int round)
{
    flight_t calls[CALLS];
    MPI_Request requests[CALLS + 2]; /* the last two: of MPI_Comm_idup */
    MPI_Comm comms[FRESH];
    int index;

    flight_reset(&run.space);
    for (int i = 0; i < CALLS; ++i) {
        calls[i] = prepare(parent, test_random((uint64_t) round + 5, (uint64_t) i));
    }
    for (int i = 0; i < CALLS; ++i) {
        if (2 == i) {
            MPI_Comm_idup(parent, &comms[0], &requests[CALLS]);
        }
        if (8 == i) { /* two at a time of one parent lock up in stock Open MPI */
            MPI_Wait(&requests[CALLS], MPI_STATUS_IGNORE);
            MPI_Comm_idup(parent, &comms[4], &requests[CALLS + 1]);
        }
        post(&calls[i], &requests[i]);
        move_on_unevenly();
    }
    for (int left = CALLS + 1; left > 0; --left) {
        if (0 == left % 4) {
            move_on_unevenly();
        }
        MPI_Waitany(CALLS + 2, requests, &index, MPI_STATUS_IGNORE);
        if (index < CALLS) {
            check(&calls[index], "beside MPI_Comm_idup");
        }
    }
    for (int i = 0; i < CALLS; ++i) {
        calls[i] = prepare(parent, test_random((uint64_t) round + 6, (uint64_t) i));
        post(&calls[i], &requests[i]);
        if (3 == i || 6 == i || 9 == i) {
            make(i / 3, parent, &comms[i / 3]);
        }
        move_on_unevenly();
    }
    use_fresh(comms, (uint64_t) round + 7000);
    MPI_Waitall(CALLS, requests, MPI_STATUSES_IGNORE);
    for (int i = 0; i < CALLS; ++i) {
        check(&calls[i], "beside MPI_Comm_dup and MPI_Comm_split");
    }
    for (int c = 0; c < FRESH; ++c) {
        MPI_Comm_free(&comms[(c + test.rank) % FRESH]);
    }
}

int main(int argc, char **argv)
{
    MPI_Comm parents[3];

    test_options(argc, argv, "rounds kinds room sleep-us");
    test_begin(&argc, &argv, "idup");
    test_use_gpu();
    const int rounds = (int) test_number("rounds", 12);
    const bool room = 0 == strcmp("yes", test_option("room", "yes"));
    run.sleep_us = (unsigned int) test_number("sleep-us", 4000);
    flight_open(&run.space, test_option("kinds", "device,host,managed,other"), MOST, !room);
    MPI_Comm_dup(MPI_COMM_WORLD, &parents[0]);
    MPI_Comm_split(MPI_COMM_WORLD, 0, -test.rank, &parents[1]);
    const car_counters_t before = test_counters();
    for (int round = 0; round < rounds; ++round) {
        if (0 == round % 3) { /* one that has never been used */
            MPI_Comm_dup(parents[1], &parents[2]);
        }
        one_round(parents[round % 3], round);
        if (2 == round % 3) {
            MPI_Comm_free(&parents[2]);
        }
    }
    const car_counters_t since = test_since(&before);
    CHECK(!room || run.device == test_served(&since), "kernels served %llu calls of %llu",
          test_served(&since), run.device);
    CHECK(!room || run.host == since.calls_host + since.calls_host_small,
          "%llu calls of %llu were host calls", since.calls_host + since.calls_host_small,
          run.host);
    CHECK(test_served(&since) > 0 || 0 == run.device, "kernels served nothing");
    if (0 != rounds % 3) {
        MPI_Comm_free(&parents[2]);
    }
    MPI_Comm_free(&parents[0]);
    MPI_Comm_free(&parents[1]);
    flight_close(&run.space);
    return test_end("%d rounds, %llu calls with device memory, %llu without", rounds, run.device,
                    run.host);
}
