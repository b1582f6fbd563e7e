/*
 * What kernels do not serve, as nonblocking and persistent calls on device memory: operations of
 * the user's (one of which does not commute), long double, types with gaps, and the shape that Open
 * MPI's own calls have. They are under way together with calls that kernels serve and with the
 * user's other nonblocking collectives on the same communicators. Nothing crosses, every result is
 * right, what lies in the gaps of a type stays, and coll/car counts who had which call. Operations
 * and types are freed while nonblocking calls use them, and before persistent requests of them are
 * started, as MPI allows.
 *
 *   --calls N      of a round (60)
 *   --rounds N     (6)
 *   --forms LIST   of the calls that are not served (nonblocking,persistent)
 *   --room yes|no  there is device memory for kernels to serve the others (yes)
 *   --seed N
 */
#include <stdlib.h>
#include <string.h>

#include "flight.h"
#include "form.h"

#define COMMUNICATORS 2
#define COUNT_MOST 3000
#define BYTES_MOST (COUNT_MOST * sizeof(long double))
#define WORDS 64

typedef enum {
    SERVED,
    USER_OP,
    NOT_COMMUTING,
    LONG_DOUBLE,
    GAPS,
    OPEN_MPIS_SHAPE,
    BROADCAST,
    GATHER,
    BARRIER,
    SORTS
} sort_t;

static const char *const sorts[SORTS] = {
    "served",      "a user's operation", "an operation that does not commute",
    "long double", "a type with gaps",   "one MPI_INT with MPI_MAX",
    "a broadcast", "an allgather",       "a barrier"};

typedef struct {
    sort_t sort;
    MPI_Comm comm;
    int rank, size, count;
    uint32_t seed;
    bool in_place;
    gpu_buffer_t in, out; /* of BYTES_MOST */
    flight_t call;
    int32_t mine[WORDS], all[16 * WORDS];
    MPI_Request request;
} item_t;

static struct {
    uint64_t seed, draws;
    flight_space_t space;
    MPI_Op add, compose, later[2];
    MPI_Datatype pair, gaps;
    item_t *items;
    MPI_Request *requests;
    int number;
    char *image, *was;
    unsigned long long served, forwarded;
} run;

static uint64_t own(void)
{
    return test_random(run.seed + 77 * (uint64_t) (test.rank + 1), ++run.draws);
}

/* --- operations and types --------------------------------------------------------------------- */

/* On elements of 32 bits, of whatever type they are. */
static void add(void *in, void *inout, int *count, MPI_Datatype *type)
{
    const bool gaps = run.gaps == *type;

    for (int i = 0; i < *count; ++i) {
        const int at = gaps ? 3 * i : i;
        ((uint32_t *) inout)[at] += ((uint32_t *) in)[at];
        if (gaps) {
            ((uint32_t *) inout)[at + 2] += ((uint32_t *) in)[at + 2];
        }
    }
}

typedef struct {
    uint32_t a, b;
} pair_t;

/* x -> a x + b, one after the other: associates, and does not commute. */
static pair_t composed(pair_t first, pair_t then)
{
    return (pair_t){first.a * then.a, first.b * then.a + then.b};
}

static void compose(void *in, void *inout, int *count, MPI_Datatype *type)
{
    (void) type;
    for (int i = 0; i < *count; ++i) {
        ((pair_t *) inout)[i] = composed(((pair_t *) in)[i], ((pair_t *) inout)[i]);
    }
}

/* Of three words the middle one is a gap. */
static void make_types(void)
{
    MPI_Type_contiguous(2, MPI_UINT32_T, &run.pair);
    MPI_Type_commit(&run.pair);
    MPI_Type_vector(2, 1, 2, MPI_UINT32_T, &run.gaps);
    MPI_Type_commit(&run.gaps);
    MPI_Op_create(add, 1, &run.add);
    MPI_Op_create(compose, 0, &run.compose);
}

static void not_this_one(void *in, void *inout, int *count, MPI_Datatype *type)
{
    (void) in;
    (void) inout;
    (void) type;
    CHECK(false, "%d elements were reduced by an operation that was made later", *count);
}

/*
 * While requests with them are there, as MPI allows; the handles stay known, for comparing. If
 * nobody keeps what is freed, the next that is made lies in its place.
 */
static void free_types(void)
{
    MPI_Datatype pair = run.pair, gaps = run.gaps;
    MPI_Op first = run.add, second = run.compose;

    MPI_Type_free(&pair);
    MPI_Type_free(&gaps);
    MPI_Op_free(&first);
    MPI_Op_free(&second);
    MPI_Op_create(not_this_one, 1, &run.later[0]);
    MPI_Op_create(not_this_one, 0, &run.later[1]);
}

static void free_later(void)
{
    MPI_Op_free(&run.later[0]);
    MPI_Op_free(&run.later[1]);
}

static MPI_Datatype type_of(const item_t *item)
{
    switch (item->sort) {
    case NOT_COMMUTING:
        return run.pair;
    case LONG_DOUBLE:
        return MPI_LONG_DOUBLE;
    case GAPS:
        return run.gaps;
    case OPEN_MPIS_SHAPE:
        return MPI_INT;
    default:
        return MPI_UINT32_T;
    }
}

static MPI_Op op_of(const item_t *item)
{
    return NOT_COMMUTING == item->sort     ? run.compose
           : LONG_DOUBLE == item->sort     ? MPI_SUM
           : OPEN_MPIS_SHAPE == item->sort ? MPI_MAX
                                           : run.add;
}

/* --- values ----------------------------------------------------------------------------------- */

static uint32_t word(const item_t *item, int rank, int i)
{
    return item->seed * 2654435761u + (uint32_t) (rank + 1) * (uint32_t) (i + 3);
}

static size_t bytes_of(const item_t *item)
{
    static const size_t element[SORTS] = {[USER_OP] = 4,
                                          [NOT_COMMUTING] = 8,
                                          [LONG_DOUBLE] = sizeof(long double),
                                          [GAPS] = 12,
                                          [OPEN_MPIS_SHAPE] = 4};
    return (size_t) item->count * element[item->sort];
}

/* Gaps, and what long doubles have as padding, are the rank's own. */
static void operand(const item_t *item, int rank, void *to)
{
    memset(to, 0x40 + rank, bytes_of(item));
    for (int i = 0; i < item->count; ++i) {
        switch (item->sort) {
        case NOT_COMMUTING:
            ((pair_t *) to)[i] = (pair_t){word(item, rank, i) | 1, word(item, rank, i + 7)};
            break;
        case LONG_DOUBLE:
            ((long double *) to)[i] = word(item, rank, i) % 100000;
            break;
        case GAPS:
            ((uint32_t *) to)[3 * i] = word(item, rank, i);
            ((uint32_t *) to)[3 * i + 2] = ~word(item, rank, i);
            break;
        case OPEN_MPIS_SHAPE:
            *(int32_t *) to = (int32_t) (word(item, rank, i) >> 1);
            break;
        default:
            ((uint32_t *) to)[i] = word(item, rank, i);
            break;
        }
    }
}

/* `to`: what all ranks up to this one make, and this one's. */
static void fold(const item_t *item, const void *next, void *to)
{
    int count = item->count;
    MPI_Datatype type = type_of(item);

    for (int i = 0; i < count; ++i) {
        if (NOT_COMMUTING == item->sort) {
            ((pair_t *) to)[i] = composed(((pair_t *) to)[i], ((const pair_t *) next)[i]);
        } else if (LONG_DOUBLE == item->sort) {
            ((long double *) to)[i] += ((const long double *) next)[i];
        } else if (OPEN_MPIS_SHAPE == item->sort) {
            const int32_t other = *(const int32_t *) next;
            *(int32_t *) to = other > *(int32_t *) to ? other : *(int32_t *) to;
        }
    }
    if (USER_OP == item->sort || GAPS == item->sort) {
        add((void *) next, to, &count, &type);
    }
}

/* --- items ------------------------------------------------------------------------------------ */

static void fill(item_t *item)
{
    if (SERVED == item->sort) {
        flight_fill(&run.space, &item->call, item->seed);
    } else if (item->sort < BROADCAST) {
        memset(run.image, 0x33, bytes_of(item));
        gpu_write(item->out.address, run.image, bytes_of(item));
        operand(item, item->rank, run.image);
        gpu_write(item->in_place ? item->out.address : item->in.address, run.image, bytes_of(item));
    } else {
        for (int i = 0; i < WORDS; ++i) {
            item->mine[i] = BROADCAST == item->sort && 0 != item->rank
                                ? 0
                                : (int32_t) word(item, item->rank, i);
        }
    }
}

static void prepare(item_t *item, MPI_Comm comm, uint64_t random)
{
    const sort_t sort = (sort_t) (random % SORTS);

    item->sort = sort;
    item->comm = comm;
    MPI_Comm_rank(comm, &item->rank);
    MPI_Comm_size(comm, &item->size);
    item->seed = (uint32_t) (random >> 8);
    item->in_place = 0 == (random >> 40) % 3;
    item->count = OPEN_MPIS_SHAPE == sort
                      ? 1
                      : 1 + (int) ((random >> 48) % (COUNT_MOST >> (random >> 42) % 10));
    if (SERVED == sort) {
        item->call = flight_draw(&run.space, comm, random, 100000);
    }
    fill(item);
}

static const void *send_of(const item_t *item)
{
    return item->in_place ? MPI_IN_PLACE : item->in.address;
}

static void post(item_t *item)
{
    switch (item->sort) {
    case SERVED:
        MPI_Iallreduce(flight_send(&item->call), item->call.out, (int) item->call.count,
                       item->call.type->type, data_mpi_op(item->call.op), item->comm,
                       &item->request);
        run.served += item->call.device ? 1 : 0;
        break;
    case BROADCAST:
        MPI_Ibcast(item->mine, WORDS, MPI_INT, 0, item->comm, &item->request);
        break;
    case GATHER:
        MPI_Iallgather(item->mine, WORDS, MPI_INT, item->all, WORDS, MPI_INT, item->comm,
                       &item->request);
        break;
    case BARRIER:
        MPI_Ibarrier(item->comm, &item->request);
        break;
    default:
        MPI_Iallreduce(send_of(item), item->out.address, item->count, type_of(item), op_of(item),
                       item->comm, &item->request);
        ++run.forwarded;
        break;
    }
}

/* Nobody writes to gaps: they are the operand's in place, else what was there. */
static void check_gaps(const item_t *item)
{
    operand(item, item->rank, run.was);
    if (!item->in_place) {
        memset(run.was, 0x33, bytes_of(item));
    }
    for (int i = 0; i < item->count; ++i) {
        if (!CHECK(((uint32_t *) run.image)[3 * i + 1] == ((uint32_t *) run.was)[3 * i + 1],
                   "gap %d was written", i)) {
            return;
        }
    }
}

static void check_reduced(const item_t *item, const char *how)
{
    char *const wanted = run.was, *const next = run.was + BYTES_MOST;
    const size_t step = bytes_of(item) / (size_t) item->count;

    gpu_read(run.image, item->out.address, bytes_of(item));
    if (GAPS == item->sort) {
        check_gaps(item);
    }
    operand(item, 0, wanted);
    for (int r = 1; r < item->size; ++r) {
        operand(item, r, next);
        fold(item, next, wanted);
    }
    for (int i = 0; i < item->count; ++i) {
        const char *const is = run.image + (size_t) i * step, *const should =
                                                                  wanted + (size_t) i * step;
        /* Ten bytes of a long double have its value. */
        const bool same = GAPS == item->sort
                              ? 0 == memcmp(is, should, 4) && 0 == memcmp(is + 8, should + 8, 4)
                              : 0 == memcmp(is, should, LONG_DOUBLE == item->sort ? 10 : step);
        if (!CHECK(same, "%s, %s: element %d of %d is wrong%s", sorts[item->sort], how, i,
                   item->count, item->in_place ? " (in place)" : "")) {
            return;
        }
    }
}

static void check(const item_t *item, const char *how)
{
    switch (item->sort) {
    case SERVED:
        flight_check(&run.space, &item->call, how);
        break;
    case BROADCAST:
        for (int i = 0; i < WORDS; ++i) {
            CHECK(item->mine[i] == (int32_t) word(item, 0, i), "%s: word %d of a broadcast", how,
                  i);
        }
        break;
    case GATHER:
        for (int i = 0; i < WORDS * item->size; ++i) {
            CHECK(item->all[i] == (int32_t) word(item, i / WORDS, i % WORDS),
                  "%s: word %d of an allgather", how, i);
        }
        break;
    case BARRIER:
        break;
    default:
        check_reduced(item, how);
        break;
    }
}

/* --- rounds ----------------------------------------------------------------------------------- */

/* All are under way at a time; ranks complete them in orders of their own. */
static void complete(int n, const char *how)
{
    int index;

    for (int i = 0; i < n; ++i) {
        run.requests[i] = run.items[i].request;
    }
    for (int left = n; left > 0;) {
        const int i = (int) (own() % (unsigned) n);
        if (0 == own() % 2) {
            MPI_Waitany(n, run.requests, &index, MPI_STATUS_IGNORE);
            check(&run.items[index], how);
            --left;
        } else if (MPI_REQUEST_NULL != run.requests[i]) {
            MPI_Wait(&run.requests[i], MPI_STATUS_IGNORE);
            check(&run.items[i], how);
            --left;
        }
    }
}

static void nonblocking(MPI_Comm comms[COMMUNICATORS], int round)
{
    const int n = run.number;
    const car_counters_t before = test_counters();

    make_types();
    flight_reset(&run.space);
    run.served = run.forwarded = 0;
    for (int i = 0; i < n; ++i) {
        prepare(&run.items[i], comms[i % COMMUNICATORS],
                test_random(run.seed + (uint64_t) round, (uint64_t) i));
    }
    /* Even ranks begin with one communicator, odd ranks with the other. */
    for (int c = 0; c < COMMUNICATORS; ++c) {
        for (int i = (c + test.rank) % COMMUNICATORS; i < n; i += COMMUNICATORS) {
            post(&run.items[i]);
        }
    }
    free_types();
    complete(n, "nonblocking");
    free_later();
    const car_counters_t since = test_since(&before);
    const bool room = 0 == strcmp("yes", test_option("room", "yes"));
    CHECK(room ? run.forwarded == since.calls_forwarded : run.forwarded <= since.calls_forwarded,
          "%llu calls were left, not %llu", since.calls_forwarded, run.forwarded);
    CHECK(run.served == test_served(&since) || !room, "kernels served %llu calls, not %llu",
          test_served(&since), run.served);
}

/*
 * The requests of a round, each started three times, in another order on every rank, beside the
 * user's other calls.
 */
static void persistent(MPI_Comm comms[COMMUNICATORS], int round)
{
    item_t other = {.sort = BARRIER};
    int n = run.number / 2, made = 0;

    make_types();
    flight_reset(&run.space);
    for (int i = 0; i < n; ++i) {
        item_t *item = &run.items[made];
        prepare(item, comms[i % COMMUNICATORS],
                test_random(run.seed + 1000 + (uint64_t) round, (uint64_t) i));
        if (item->sort < BROADCAST) {
            const bool served = SERVED == item->sort;
            form_allreduce_init(served ? flight_send(&item->call) : send_of(item),
                                served ? item->call.out : item->out.address,
                                served ? (int) item->call.count : item->count,
                                served ? item->call.type->type : type_of(item),
                                served ? data_mpi_op(item->call.op) : op_of(item), item->comm,
                                &run.requests[made++]);
        }
    }
    free_types();
    for (int turn = 0; turn < 3; ++turn) {
        const int first = (int) (own() % (unsigned) made), step = 0 == test.rank % 2 ? 1 : made - 1;
        for (int k = 0, i = first; k < made; ++k, i = (i + step) % made) {
            run.items[i].seed += (uint32_t) turn;
            fill(&run.items[i]);
            MPI_Start(&run.requests[i]);
            if (k == made / 2) { /* on the same communicator, while half of them are under way */
                other = (item_t){.sort = GATHER, .comm = comms[0], .seed = (uint32_t) turn};
                MPI_Comm_rank(comms[0], &other.rank);
                MPI_Comm_size(comms[0], &other.size);
                fill(&other);
                post(&other);
            }
        }
        for (int k = 0, i = (int) (own() % (unsigned) made); k < made; ++k, i = (i + 1) % made) {
            MPI_Wait(&run.requests[i], MPI_STATUS_IGNORE);
            check(&run.items[i], "persistent");
        }
        MPI_Wait(&other.request, MPI_STATUS_IGNORE);
        check(&other, "beside persistent ones");
    }
    for (int i = 0; i < made; ++i) {
        MPI_Request_free(&run.requests[i]);
    }
    free_later();
}

/*
 * One request at a time, so that no other keeps what it uses. The first items have all kinds of
 * memory on either side.
 */
static void persistent_alone(MPI_Comm comm, int round)
{
    const int kinds = run.number < 8 ? run.number : 8;

    for (int i = 0; i < kinds * SORTS; ++i) {
        const sort_t sort = (sort_t) (i % SORTS);
        item_t *item = &run.items[i / SORTS];
        if (SERVED == sort || sort >= BROADCAST) {
            continue;
        }
        const uint64_t random = test_random(run.seed + 2000 + (uint64_t) round, (uint64_t) i);
        make_types();
        prepare(item, comm, random - random % SORTS + (uint64_t) sort);
        form_allreduce_init(send_of(item), item->out.address, item->count, type_of(item),
                            op_of(item), comm, &item->request);
        free_types();
        for (int turn = 0; turn < 2; ++turn) {
            item->seed += (uint32_t) turn;
            fill(item);
            MPI_Start(&item->request);
            MPI_Wait(&item->request, MPI_STATUS_IGNORE);
            check(item, "persistent, alone");
        }
        MPI_Request_free(&item->request);
        free_later();
    }
}

int main(int argc, char **argv)
{
    MPI_Comm comms[COMMUNICATORS];
    unsigned long long bounced;

    test_options(argc, argv, "calls rounds forms room seed");
    test_begin(&argc, &argv, "unsupported");
    test_use_gpu();
    const int rounds = (int) test_number("rounds", 6);
    const char *forms = test_option("forms", "nonblocking,persistent");
    run.seed = (uint64_t) test_number("seed", 1);
    run.number = (int) test_number("calls", 60);
    run.items = calloc((size_t) run.number, sizeof(item_t));
    run.requests = malloc((size_t) run.number * sizeof(MPI_Request));
    run.image = malloc(BYTES_MOST);
    run.was = malloc(2 * BYTES_MOST);
    /* Without room, calls are folded by others, too: integers come out alike. */
    flight_open(&run.space, "device,managed,host", 100000,
                0 != strcmp("yes", test_option("room", "yes")));
    for (int i = 0; i < run.number; ++i) {
        run.items[i].in = gpu_allocate(i % 4 ? GPU_DEVICE : GPU_HOST, BYTES_MOST);
        run.items[i].out = gpu_allocate(0 == i % 6 ? GPU_HOST
                                        : i % 5    ? GPU_DEVICE
                                                   : GPU_MANAGED,
                                        BYTES_MOST);
    }
    MPI_Comm_dup(MPI_COMM_WORLD, &comms[0]);
    MPI_Comm_split(MPI_COMM_WORLD, 0, -test.rank, &comms[1]);
    const car_counters_t before = test_counters();
    for (int round = 0; round < rounds; ++round) {
        if (test_listed("nonblocking", forms)) {
            nonblocking(comms, round);
        }
        if (test_listed("persistent", forms) && form_has_persistent()) {
            persistent(comms, round);
            persistent_alone(comms[round % COMMUNICATORS], round);
        }
    }
    const car_counters_t since = test_since(&before);
    bounced = since.calls_bounced;
    for (int i = 0; i < run.number; ++i) {
        gpu_free(&run.items[i].in);
        gpu_free(&run.items[i].out);
    }
    MPI_Comm_free(&comms[0]);
    MPI_Comm_free(&comms[1]);
    flight_close(&run.space);
    return test_end("%d rounds of %d calls, %llu through host memory", rounds, run.number, bounced);
}
