/*
 * Many persistent allreduces at once, more than coll/car keeps memory for on one communicator: all
 * kinds of memory and sizes, started in another order on every rank, one by one and together, again
 * and again, with nonblocking and blocking calls between. Requests are freed at any time, on some
 * ranks earlier than on others, before the communicator and after it. What all ranks have agreed on
 * while a request was made holds for every start: kernels serve it, or the saved module.
 *
 *   --requests N       (240; two thirds of them on one communicator)
 *   --rounds N         (8)
 *   --kinds LIST       of memory (all)
 *   --max-bytes N      of most; one in 32 may be 16 times as large (64 KB)
 *   --room WHICH       yes: there is device memory for all that can be served, as long as they are
 *                      no more than 126; no: there is less; maybe: that is not known (yes)
 *   --expect WHO       car, or declined: coll/car leaves every call (car)
 *   --seed N
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flight.h"
#include "form.h"

#define COMMUNICATORS 3
#define LANES 126 /* of persistent requests on a communicator */
#define LATE_US 3000 /* longer than kernels wait */

typedef struct {
    flight_t call;
    MPI_Request request;
    int comm;
    bool ours;    /* coll/car serves it */
    bool alive;   /* to the program: it may be started */
    bool freed;   /* by this rank */
    bool started; /* in this round */
    int last;     /* round */
    int free_at;  /* this rank does in that round */
} slot_t;

static struct {
    uint64_t seed, draws;
    size_t most;
    int slots;
    slot_t *slot;
    int *order, *indices;
    MPI_Request *requests;
    MPI_Comm comms[COMMUNICATORS], control;
    flight_space_t space;
    unsigned long long made, ours, starts, served;
} run;

/* The same on all ranks; this rank's own. */
static uint64_t shared(uint64_t what, uint64_t n)
{
    return test_random(run.seed * 31 + what, n);
}

static uint64_t own(void)
{
    return test_random(run.seed + 77 * (uint64_t) (test.rank + 1), ++run.draws);
}

/* --- making and freeing ----------------------------------------------------------------------- */

static bool all_fit(void)
{
    return 2 * run.slots / 3 < LANES && 0 == strcmp("yes", test_option("room", "yes"))
           && 0 == strcmp("car", test_option("expect", "car"));
}

/* Of all ranks alike: from what coll/car counts it follows whether it has the request. */
static void make(int i, int round)
{
    slot_t *s = &run.slot[i];
    const uint64_t random = shared(1 + (uint64_t) round, (uint64_t) i);
    const size_t most = run.most * (0 == random % 32 ? 16 : 1);
    int mine, all, any;

    s->comm = i % 3 < 2 ? 0 : 1 + i / 3 % (COMMUNICATORS - 1);
    s->call = flight_draw(&run.space, run.comms[s->comm], random, most);
    const flight_t *c = &s->call;
    const car_counters_t before = test_counters();
    const int rc = form_allreduce_init(flight_send(c), c->out, (int) c->count, c->type->type,
                                       data_mpi_op(c->op), c->comm, &s->request);
    const car_counters_t since = test_since(&before);
    CHECK(MPI_SUCCESS == rc, "error %d", rc);
    s->ours = 0 == since.calls_forwarded && 0 != strcmp("declined", test_option("expect", "car"));
    mine = s->ours;
    PMPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_LAND, run.control);
    PMPI_Allreduce(&mine, &any, 1, MPI_INT, MPI_LOR, run.control);
    CHECK(all == any || c->size < test.size, "request %d is served on this rank %d, elsewhere %d",
          i, mine, any);
    CHECK(c->device || !s->ours, "a request of host memory is served");
    /* The lanes of requests that all ranks have freed are free again. */
    CHECK(!all_fit() || c->device == s->ours, "request %d, made in round %d, is left", i, round);
    s->alive = true;
    s->freed = s->started = false;
    s->last = round + 2 + (int) (random >> 8) % 5;
    s->free_at = s->last + 1 + (int) (own() % 3);
    ++run.made;
    run.ours += s->ours ? 1 : 0;
}

static void release(slot_t *s)
{
    MPI_Request_free(&s->request);
    CHECK(MPI_REQUEST_NULL == s->request, "a freed request is not null");
    s->freed = true;
}

/*
 * Those whose time has come; three rounds after its last one a request is freed everywhere, and
 * there is another.
 */
static void come_and_go(int round)
{
    for (int i = 0; i < run.slots; ++i) {
        slot_t *s = &run.slot[i];
        if (s->alive && round > s->last) {
            s->alive = false;
        }
        if (!s->freed && round >= s->free_at) {
            release(s);
        }
    }
    for (int i = 0; i < run.slots; ++i) {
        if (round == run.slot[i].last + 4) {
            make(i, round);
        }
    }
}

/* --- starting --------------------------------------------------------------------------------- */

/* Which ones: the same on all ranks. In what order: this rank's own. */
static int choose(int round)
{
    int n = 0;

    for (int i = 0; i < run.slots; ++i) {
        slot_t *s = &run.slot[i];
        s->started = s->alive && 0 != shared(900 + (uint64_t) round, (uint64_t) i) % 5;
        if (s->started) {
            flight_fill(&run.space, &s->call, shared(1800 + (uint64_t) round, (uint64_t) i));
            run.order[n++] = i;
        }
    }
    for (int i = n - 1; i > 0; --i) {
        const int j = (int) (own() % (unsigned) (i + 1)), other = run.order[i];
        run.order[i] = run.order[j];
        run.order[j] = other;
    }
    return n;
}

static void start(int n)
{
    for (int i = 0, together; i < n; i += together) {
        const uint64_t random = own();
        MPI_Request batch[8];
        together = 1 + (int) (random % 8);
        together = together < n - i ? together : n - i;
        for (int k = 0; k < together; ++k) {
            batch[k] = run.slot[run.order[i + k]].request;
        }
        if (1 == together) {
            MPI_Start(batch);
        } else {
            MPI_Startall(together, batch);
        }
        for (int k = 0; k < together; ++k) {
            run.slot[run.order[i + k]].request = batch[k];
        }
        if (0 == (random >> 8) % 64) {
            usleep(LATE_US);
        }
    }
}

/* All that are alive, started or not: those that are not are complete. */
static int collect(void)
{
    for (int i = 0; i < run.slots; ++i) {
        run.requests[i] = run.slot[i].freed ? MPI_REQUEST_NULL : run.slot[i].request;
    }
    return run.slots;
}

static void ended(int i, int *left)
{
    slot_t *s = &run.slot[i];

    if (CHECK(s->started, "request %d has completed, and was not started", i)) {
        s->started = false;
        --*left;
        flight_check(&run.space, &s->call, s->ours ? "persistent, served" : "persistent, left");
        CHECK(MPI_REQUEST_NULL != run.requests[i], "request %d was freed by completing", i);
    }
}

/* One that has been started and not waited for yet. */
static int draw_started(void)
{
    int i = (int) (own() % (unsigned) run.slots);

    while (!run.slot[i].started) {
        i = (i + 1) % run.slots;
    }
    return i;
}

static void complete(int left)
{
    const int n = collect();
    int index, flag, some;

    while (left > 0) {
        switch (own() % 5) {
        case 0:
            index = draw_started();
            MPI_Wait(&run.requests[index], MPI_STATUS_IGNORE);
            ended(index, &left);
            break;
        case 1:
            index = draw_started();
            MPI_Test(&run.requests[index], &flag, MPI_STATUS_IGNORE);
            if (flag) {
                ended(index, &left);
            }
            break;
        case 2:
            MPI_Waitany(n, run.requests, &index, MPI_STATUS_IGNORE);
            ended(index, &left);
            break;
        case 3:
            MPI_Testsome(n, run.requests, &some, run.indices, MPI_STATUSES_IGNORE);
            for (int k = 0; MPI_UNDEFINED != some && k < some; ++k) {
                ended(run.indices[k], &left);
            }
            break;
        default:
            if (left < n / 4) {
                MPI_Waitall(n, run.requests, MPI_STATUSES_IGNORE);
                for (int i = 0; i < n; ++i) {
                    if (run.slot[i].started) {
                        ended(i, &left);
                    }
                }
            }
            break;
        }
    }
}

/* A nonblocking call that stays under way, and a blocking one, while requests are. */
static void others(int round, flight_t *call, MPI_Request *request)
{
    const uint64_t random = shared(2700, (uint64_t) round);
    MPI_Comm comm = run.comms[0];

    *call = flight_draw(&run.space, comm, random, run.most);
    flight_fill(&run.space, call, random);
    MPI_Iallreduce(flight_send(call), call->out, (int) call->count, call->type->type,
                   data_mpi_op(call->op), comm, request);
    flight_t between = flight_draw(&run.space, comm, ~random, run.most);
    flight_fill(&run.space, &between, ~random);
    PMPI_Allreduce(flight_send(&between), between.out, (int) between.count, between.type->type,
                   data_mpi_op(between.op), comm);
    flight_check(&run.space, &between, "a blocking call between");
}

static void one_round(int round)
{
    unsigned long long mine = 0;
    MPI_Request request;
    flight_t call;

    come_and_go(round);
    const int n = choose(round);
    for (int i = 0; i < n; ++i) {
        mine += run.slot[run.order[i]].ours ? 1 : 0;
    }
    const car_counters_t before = test_counters();
    start(n / 2);
    others(round, &call, &request);
    for (int i = 0; i < n - n / 2; ++i) {
        run.order[i] = run.order[n / 2 + i];
    }
    start(n - n / 2);
    complete(n);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    flight_check(&run.space, &call, "a nonblocking call between");
    const car_counters_t since = test_since(&before);
    CHECK(mine == since.calls_persistent, "%llu of %llu starts counted", since.calls_persistent,
          mine);
    if (0 == strcmp("car", test_option("expect", "car"))) {
        CHECK(test_served(&since) >= mine, "kernels served %llu starts of %llu",
              test_served(&since), mine);
    }
    run.starts += (unsigned) n;
    run.served += mine;
}

/* --- begin and end ---------------------------------------------------------------------------- */

/* Nothing has been started: all are complete, and stay what they are. */
static void try_inactive(void)
{
    const int n = collect();
    int index = 0, flag = 0, some = 0;

    MPI_Waitall(n, run.requests, MPI_STATUSES_IGNORE);
    MPI_Testall(n, run.requests, &flag, MPI_STATUSES_IGNORE);
    MPI_Waitany(n, run.requests, &index, MPI_STATUS_IGNORE);
    MPI_Waitsome(n, run.requests, &some, run.indices, MPI_STATUSES_IGNORE);
    CHECK(flag && MPI_UNDEFINED == index && MPI_UNDEFINED == some,
          "inactive requests: Testall %d, Waitany %d, Waitsome %d", flag, index, some);
    MPI_Wait(&run.requests[0], MPI_STATUS_IGNORE);
    CHECK(MPI_REQUEST_NULL != run.requests[0], "waiting for an inactive request has freed it");
}

/* More than fit, none freed: as many as there are lanes are served, the others are left. */
static void check_number(void)
{
    int candidates = 0, served = 0;

    for (int i = 0; i < run.slots; ++i) {
        candidates += 0 == run.slot[i].comm && run.slot[i].call.device;
        served += 0 == run.slot[i].comm && run.slot[i].ours;
    }
    if (0 == strcmp("declined", test_option("expect", "car"))) {
        CHECK(0 == served, "%d requests are served", served);
    } else if (0 == strcmp("yes", test_option("room", "yes"))) {
        CHECK(served == (candidates < LANES ? candidates : LANES), "%d of %d requests are served",
              served, candidates);
    } else {
        CHECK(0 < served && served <= candidates - (0 == strcmp("no", test_option("room", "yes"))),
              "%d of %d requests are served", served, candidates);
    }
}

/*
 * The communicators go first on some ranks, requests on others; what is left is started once more
 * when they have gone.
 */
static void end(void)
{
    const bool first = 0 != test.rank % 2;

    for (int i = 0; i < run.slots && !first; i += 2) {
        if (!run.slot[i].freed) {
            release(&run.slot[i]);
        }
    }
    for (int c = 0; c < COMMUNICATORS; ++c) {
        MPI_Comm_free(&run.comms[c]);
    }
    const int n = choose(2000);
    int odd = 0;
    for (int i = 0; i < n; ++i) { /* the others may be freed already */
        run.slot[run.order[i]].started = 0 != run.order[i] % 2;
        if (0 != run.order[i] % 2) {
            run.order[odd++] = run.order[i];
        }
    }
    start(odd);
    complete(odd);
    for (int i = 0; i < run.slots; ++i) {
        if (!run.slot[i].freed) {
            release(&run.slot[i]);
        }
    }
}

int main(int argc, char **argv)
{
    test_options(argc, argv, "requests rounds kinds max-bytes room expect seed");
    test_begin(&argc, &argv, "persistent");
    test_use_gpu();
    if (!form_has_persistent()) {
        test_skip("this MPI has no persistent collectives");
    }
    run.seed = (uint64_t) test_number("seed", 1);
    run.slots = (int) test_number("requests", 240);
    run.most = (size_t) test_number("max-bytes", 64 << 10);
    run.slot = calloc((size_t) run.slots, sizeof(slot_t));
    run.order = malloc((size_t) run.slots * sizeof(int));
    run.indices = malloc((size_t) run.slots * sizeof(int));
    run.requests = malloc((size_t) run.slots * sizeof(MPI_Request));
    run.control = test_without_car(MPI_COMM_WORLD);
    MPI_Comm_dup(MPI_COMM_WORLD, &run.comms[0]);
    MPI_Comm_split(MPI_COMM_WORLD, 0, -test.rank, &run.comms[1]);
    MPI_Comm_dup(run.comms[1], &run.comms[2]);
    flight_open(&run.space,
                test_option("kinds", "device,managed,pool,vmm,other,host,registered,mapped"),
                16 * run.most,
                0 != strcmp("car", test_option("expect", "car"))
                    || 0 != strcmp("yes", test_option("room", "yes")));
    /*
     * What is left is folded in an order of its own, so that floats would come out in another way.
     */
    run.space.integers = run.space.integers || 2 * run.slots / 3 > LANES;
    for (int i = 0; i < run.slots; ++i) {
        make(i, 0);
    }
    check_number();
    try_inactive();
    const int rounds = (int) test_number("rounds", 8);
    for (int round = 1; round <= rounds; ++round) {
        one_round(round);
    }
    end();
    flight_close(&run.space);
    MPI_Comm_free(&run.control);
    free(run.slot);
    return test_end("%llu requests, %llu served; %llu starts, %llu served", run.made, run.ours,
                    run.starts, run.served);
}
