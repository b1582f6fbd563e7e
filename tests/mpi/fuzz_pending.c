/*
 * Calls that stay under way, each with memory of its own, allocated for it and freed after it.
 */
#include <stdlib.h>
#include <string.h>

#include "form.h"
#include "fuzz.h"

#define PENDING 16

typedef struct {
    bool used, persistent, exact;
    /* to Open MPI, whose requests must not outlive their communicator, though MPI allows it */
    bool left;
    MPI_Comm comm;
    call_t c;
    gpu_buffer_t in, out;
    char *before; /* what stood in the output */
    MPI_Request request;
} pending_t;

static pending_t pending[PENDING];

static char *in_of(const pending_t *p)
{
    return p->c.in_place ? p->out.address : p->in.address;
}

static void fill(pending_t *p)
{
    fuzz_fill(&p->c, in_of(p), p->out.address, p->before);
}

static const void *send_of(const pending_t *p)
{
    return p->c.in_place ? MPI_IN_PLACE : in_of(p) + FUZZ_GUARD + p->c.in_shift;
}

static void *receive_of(const pending_t *p)
{
    return (char *) p->out.address + FUZZ_GUARD + p->c.out_shift;
}

/* --- completing ------------------------------------------------------------------------------- */

static void release(pending_t *p)
{
    if (p->persistent) {
        MPI_Request_free(&p->request);
    }
    gpu_free(&p->out);
    if (!p->c.in_place) {
        gpu_free(&p->in);
    }
    free(p->before);
    p->used = false;
}

static void completed(pending_t *p)
{
    fuzz_check(&p->c, p->out.address, p->before, p->exact);
    release(p);
}

static int collect(MPI_Request requests[PENDING])
{
    int n = 0;

    for (int i = 0; i < PENDING; ++i) {
        requests[i] = pending[i].used ? pending[i].request : MPI_REQUEST_NULL;
        n += pending[i].used;
    }
    return n;
}

/* A persistent request has the same handle when it has completed. */
static void take_back(const MPI_Request requests[PENDING], int index)
{
    pending[index].request = requests[index];
    completed(&pending[index]);
}

static void complete_one(uint64_t random)
{
    MPI_Request requests[PENDING];
    int index = (int) ((random >> 8) % PENDING), flag = 0;

    if (0 == collect(requests)) {
        return;
    }
    while (!pending[index].used) {
        index = (index + 1) % PENDING;
    }
    switch (random % 4) {
    case 0:
        MPI_Waitany(PENDING, requests, &index, MPI_STATUS_IGNORE);
        take_back(requests, index);
        break;
    case 1:
        MPI_Wait(&requests[index], MPI_STATUS_IGNORE);
        take_back(requests, index);
        break;
    case 2:
        MPI_Testany(PENDING, requests, &index, &flag, MPI_STATUS_IGNORE);
        break;
    default:
        MPI_Test(&requests[index], &flag, MPI_STATUS_IGNORE);
        break;
    }
    if (flag) {
        take_back(requests, index);
    }
}

void fuzz_complete_some(uint64_t random)
{
    for (uint64_t i = 0; i < (random >> 40) % 5; ++i) {
        complete_one(test_random(random, i));
    }
}

void fuzz_complete_left(MPI_Comm comm)
{
    for (int i = 0; i < PENDING; ++i) {
        if (pending[i].used && pending[i].left && comm == pending[i].comm) {
            MPI_Wait(&pending[i].request, MPI_STATUS_IGNORE);
            completed(&pending[i]);
        }
    }
}

void fuzz_complete_all(void)
{
    MPI_Request requests[PENDING];

    collect(requests);
    MPI_Waitall(PENDING, requests, MPI_STATUSES_IGNORE);
    for (int i = 0; i < PENDING; ++i) {
        if (pending[i].used) {
            take_back(requests, i);
        }
    }
}

/* --- posting ---------------------------------------------------------------------------------- */

static pending_t *find_place(uint64_t random)
{
    for (uint64_t attempt = 0;; ++attempt) {
        for (int i = 0; i < PENDING; ++i) {
            if (!pending[i].used) {
                return &pending[i];
            }
        }
        /* of calls that all ranks have made, or will before they wait for this one */
        complete_one(test_random(random, attempt));
    }
}

static pending_t *take_place(const call_t *c, MPI_Comm comm, uint64_t random)
{
    pending_t *p = find_place(test_random(random, (uint64_t) test.rank));

    *p = (pending_t){.used = true, .comm = comm, .c = *c, .before = malloc(fuzz_used(c))};
    p->out = gpu_allocate(fuzz.kind[c->out_kind], fuzz_used(c));
    if (!c->in_place) {
        p->in = gpu_allocate(fuzz.kind[c->in_kind], fuzz_used(c));
    }
    fill(p);
    return p;
}

static void post_nonblocking(pending_t *p, MPI_Comm comm)
{
    const call_t *c = &p->c;
    const MPI_Op op = data_mpi_op(c->pair.op);
    const bool left = form_may_be_open_mpis((int) c->count, c->pair.type->type, op),
               served = c->device && c->count > 0 && !left;

    p->exact = served || fuzz_exact_on_the_host(c);
    const car_counters_t before = test_counters();
    const int rc = MPI_Iallreduce(send_of(p), receive_of(p), (int) c->count, c->pair.type->type, op,
                                  comm, &p->request);
    const car_counters_t since = test_since(&before);
    CHECK(MPI_SUCCESS == rc, "%s: error %d", fuzz_where(c->number), rc);
    CHECK((c->count > 0 ? 1 : 0) == since.calls_nonblocking
              && (left ? 1 : 0) == since.calls_forwarded,
          "%s: coll/car had the call %llu times, and left it %llu times", fuzz_where(c->number),
          since.calls_nonblocking, since.calls_forwarded);
    p->left = since.calls_forwarded > 0;
    ++fuzz.nonblocking;
}

/* Started up to three times at once, and the last time it stays under way. */
static void post_persistent(pending_t *p, MPI_Comm comm, uint64_t starts)
{
    const call_t *c = &p->c;
    const car_counters_t before = test_counters();
    const int rc =
        form_allreduce_init(send_of(p), receive_of(p), (int) c->count, c->pair.type->type,
                            data_mpi_op(c->pair.op), comm, &p->request);
    const car_counters_t since = test_since(&before);
    /* Where there is no memory for one more it is left. */
    const bool served = c->device && c->count > 0 && 0 == since.calls_forwarded;

    CHECK(MPI_SUCCESS == rc, "%s: error %d", fuzz_where(c->number), rc);
    p->persistent = true;
    p->left = since.calls_forwarded > 0;
    p->exact = served || fuzz_exact_on_the_host(c);
    for (uint64_t start = 0; start <= starts; ++start) {
        if (start > 0) {
            MPI_Wait(&p->request, MPI_STATUS_IGNORE);
            fuzz_check(c, p->out.address, p->before, p->exact);
            p->c.seed += start;
            fill(p);
        }
        MPI_Start(&p->request);
        ++fuzz.starts;
    }
}

void fuzz_post(const call_t *c, MPI_Comm comm, uint64_t random)
{
    pending_t *p = take_place(c, comm, random);

    if (fuzz.persistent && 0 == (random >> 20) % 3 && form_has_persistent()) {
        post_persistent(p, comm, (random >> 24) % 3);
    } else {
        post_nonblocking(p, comm);
    }
}
