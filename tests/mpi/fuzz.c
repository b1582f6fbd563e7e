/*
 * Random calls against a fold on the host: communicators, types, operations, counts, addresses, kinds of memory, in place
 * or not; ranks of one call differ in their memory and in when they come. Everything follows from a seed, so whatever goes
 * wrong can be had again: calls come in generations, each with communicators of its own, and a generation depends on the
 * seed and its number only.
 *
 *   --seed N           (1)
 *   --seconds N        stop after so long (10); --generations N: after so many instead
 *   --first N          the first generation (0)
 *   --max-bytes N      no message is larger (1 MB)
 *   --huge yes|no      also one message of more than 2^31 bytes (no)
 *
 * On a failure the line says which options bring it back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "borders.h"
#include "data.h"
#include "testing.h"

#define CALLS 100 /* of a generation */
#define COMMUNICATORS 6
#define GUARD 64
#define GUARD_BYTE 0x5a
#define SHIFTS 16

typedef struct {
    const data_type_t *type;
    data_op_t op;
} pair_t;

typedef struct {
    gpu_buffer_t in, out;
} memory_t;

/* One call as one rank has it. */
typedef struct {
    pair_t pair;
    uint64_t count, seed;
    bool in_place;
    int in_kind, out_kind; /* indices of fuzz.kind */
    size_t in_shift, out_shift; /* bytes */
} call_t;

static struct {
    uint64_t seed;
    long generation, call;
    size_t max_bytes, room;
    pair_t pairs[DATA_TYPES * DATA_OPS];
    int number_of_pairs;
    gpu_kind_t kind[GPU_KINDS];
    int kinds, first_host_kind;
    memory_t memory[GPU_KINDS];
    char *image, *result, *expected, *scratch;
    MPI_Comm control; /* coll/car is not used there */
    unsigned long long calls, served, host, by_algorithm[CAR_ALGORITHMS];
} fuzz;

static const char *where(void)
{
    static char text[120];

    snprintf(text, sizeof(text), "--seed %llu --first %ld --generations 1 --max-bytes %zu, call %ld",
             (unsigned long long) fuzz.seed, fuzz.generation, fuzz.max_bytes, fuzz.call);
    return text;
}

/* The n-th number of what is being decided; the same on all ranks. */
static uint64_t draw(uint64_t n)
{
    return test_random(fuzz.seed * 1000003 + (uint64_t) fuzz.generation, (uint64_t) fuzz.call << 20 | n);
}

/* --- communicators -------------------------------------------------------------------------------------------------- */

static MPI_Comm subset(uint64_t random)
{
    MPI_Comm comm;
    MPI_Group all, some;
    int ranks[16], n = 0;

    for (int r = 0; r < test.size; ++r) {
        if (0 != (random >> r & 1)) {
            ranks[n++] = r;
        }
    }
    for (int i = n - 1; i > 0; --i) {
        const int j = (int) (test_random(random, (uint64_t) i) % (unsigned) (i + 1)), r = ranks[i];
        ranks[i] = ranks[j];
        ranks[j] = r;
    }
    MPI_Comm_group(fuzz.control, &all);
    MPI_Group_incl(all, n, ranks, &some);
    MPI_Comm_create(fuzz.control, some, &comm); /* the parent leaves coll/car out; its children do not */
    MPI_Group_free(&some);
    MPI_Group_free(&all);
    return comm;
}

/* NULL on ranks that are not in it. */
static MPI_Comm make_communicator(int index, uint64_t random)
{
    MPI_Comm comm;
    int color;

    switch (0 == index ? 0 : random % 4) {
    case 0:
        MPI_Comm_dup(MPI_COMM_WORLD, &comm);
        break;
    case 1:
        MPI_Comm_split(MPI_COMM_WORLD, 0, -test.rank, &comm);
        break;
    case 2:
        color = (int) (test_random(random, (uint64_t) test.rank) & 1);
        MPI_Comm_split(MPI_COMM_WORLD, color, (int) (test_random(random, 100 + (uint64_t) test.rank) % 64), &comm);
        break;
    default:
        comm = subset(random >> 8 | 3);
        break;
    }
    return comm;
}

/* --- one call -------------------------------------------------------------------------------------------------------- */

/* Around a power of two bytes, where thresholds of coll/car on host memory and of Open MPI are. */
static uint64_t around_power(uint64_t random, size_t bytes, uint64_t most)
{
    const uint64_t count = (UINT64_C(1) << random % 21) / bytes + (random >> 8) % 3;

    return 0 == count ? 0 : count - 1 < most ? count - 1 : most;
}

/* Around a count from which kernels do a call in another way. */
static uint64_t around_border(uint64_t random, int size, size_t bytes, uint64_t most)
{
    uint64_t counts[BORDERS_MAX];
    const int borders = borders_find(size, bytes, fuzz.max_bytes, counts);

    return 0 == borders ? most : counts[random % (unsigned) borders];
}

static uint64_t draw_count(uint64_t random, int size, size_t bytes)
{
    const uint64_t most = fuzz.max_bytes / bytes;

    switch (random % 8) {
    case 0:
        return (random >> 16) % 4;
    case 1:
        return around_power(random >> 8, bytes, most);
    case 2:
        return most - (random >> 16) % (most / 8 + 1);
    case 3:
    case 4:
        return around_border(random >> 16, size, bytes, most);
    default: /* every magnitude as often as any other */
        return (random >> 16) % ((most >> (random >> 8) % 18) + 1);
    }
}

/* Some bytes behind a 16-byte boundary: none, elements, or, where coll/car is to serve the call, what no element may have. */
static size_t draw_shift(uint64_t random, size_t align, bool all_host)
{
    switch (random & 7) {
    case 0:
    case 1:
    case 2:
        return 0;
    case 3:
        return all_host ? 0 : (random >> 4) % (SHIFTS * align);
    default:
        return (random >> 4) % SHIFTS * align;
    }
}

/* What rank r brings: kinds and places of its buffers. */
static void draw_rank(call_t *c, uint64_t random, int r)
{
    const uint64_t own = test_random(random, (uint64_t) r + 7);
    const bool all_host = 0 == (random >> 8) % 6, mixed = 0 == (random >> 12) % 3;
    const uint64_t kinds = mixed ? own : random >> 20;
    const int host_kinds = fuzz.kinds - fuzz.first_host_kind;

    c->out_kind = (int) (kinds % (unsigned) fuzz.kinds);
    c->in_kind = (int) ((kinds >> 8) % (unsigned) fuzz.kinds);
    if (all_host) {
        c->out_kind = fuzz.first_host_kind + (int) (kinds % (unsigned) host_kinds);
        c->in_kind = fuzz.first_host_kind + (int) ((kinds >> 8) % (unsigned) host_kinds);
    }
    c->in_kind = c->in_place ? c->out_kind : c->in_kind;
    c->out_shift = draw_shift(own >> 16, c->pair.type->align, all_host);
    c->in_shift = c->in_place ? c->out_shift : draw_shift(own >> 32, c->pair.type->align, all_host);
}

static size_t used(const call_t *c)
{
    return 2 * GUARD + SHIFTS * c->pair.type->align + c->count * c->pair.type->bytes;
}

static void check_result(const call_t *c, const char *output, const char *before, MPI_Comm comm, bool exact)
{
    const data_type_t *type = c->pair.type;
    const size_t start = GUARD + c->out_shift, end = start + c->count * type->bytes;
    char got[DATA_TEXT], wanted[DATA_TEXT];
    int size;

    MPI_Comm_size(comm, &size);
    gpu_read(fuzz.result, output, used(c));
    data_expect(fuzz.expected, fuzz.scratch, type, c->pair.op, c->seed, size, 0, c->count);
    const uint64_t at = exact ? data_differ(fuzz.result + start, fuzz.expected, type, c->count) : c->count;
    if (at < c->count) {
        CHECK(at == c->count, "%s: %s %s of %llu on %d ranks, %s%s to %s: element %llu is %s, not %s", where(), type->name,
              data_op_name(c->pair.op), (unsigned long long) c->count, size, gpu_kind_name(fuzz.kind[c->in_kind]),
              c->in_place ? " in place" : "", gpu_kind_name(fuzz.kind[c->out_kind]), (unsigned long long) at,
              data_text(fuzz.result + start, type, at, got), data_text(fuzz.expected, type, at, wanted));
    }
    CHECK(data_gaps_differ(fuzz.result + start, before + start, type, c->count) == c->count,
          "%s: %s: a gap was written", where(), type->name);
    for (size_t i = 0; i < used(c); ++i) {
        if ((i < start || i >= end) && GUARD_BYTE != (unsigned char) fuzz.result[i]) {
            CHECK(GUARD_BYTE == fuzz.result[i], "%s: memory beside the output was written", where());
            break;
        }
    }
}

/*
 * Open MPI folds floats in an order of its own, its AVX loops saturate sums of narrow integers, and 4.1.4 compares unsigned
 * long as signed: what is left is checked.
 */
static bool exact_on_the_host(const pair_t *pair)
{
    return (DATA_C_INTEGER == pair->type->group || DATA_FORTRAN_INTEGER == pair->type->group) && pair->type->bytes >= 4
           && DATA_MIN != pair->op && DATA_MAX != pair->op;
}

static void count(const car_counters_t *d)
{
    ++fuzz.calls;
    fuzz.served += test_served(d);
    fuzz.host += d->calls_host + d->calls_host_small;
    fuzz.by_algorithm[CAR_ONE_SHOT_PUSH] += d->calls_one_shot_push;
    fuzz.by_algorithm[CAR_ONE_SHOT_PULL] += d->calls_one_shot_pull;
    fuzz.by_algorithm[CAR_TWO_SHOT] += d->calls_two_shot;
}

static void one_call(MPI_Comm comm)
{
    const uint64_t random = draw(1), size_random = draw(2);
    call_t c = {.pair = fuzz.pairs[random % (unsigned) fuzz.number_of_pairs], .seed = draw(3)};
    bool device = false;
    int rank, size;

    if (MPI_COMM_NULL == comm) {
        return;
    }
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &size);
    if (size < 2) {
        return;
    }
    c.count = draw_count(size_random, size, c.pair.type->bytes);
    c.in_place = 0 == (random >> 40) % 3;
    for (int r = 0; r < size; ++r) {
        draw_rank(&c, draw(4), r);
        device = device || !gpu_kind_is_host(fuzz.kind[c.in_kind]) || !gpu_kind_is_host(fuzz.kind[c.out_kind]);
    }
    draw_rank(&c, draw(4), rank);
    const data_type_t *type = c.pair.type;
    char *const out = fuzz.memory[c.out_kind].out.address;
    char *const in = c.in_place ? out : fuzz.memory[c.in_kind].in.address;
    const size_t in_start = GUARD + c.in_shift, out_start = GUARD + c.out_shift;

    memset(fuzz.image, GUARD_BYTE, used(&c));
    if (!c.in_place) {
        gpu_write(out, fuzz.image, used(&c));
    }
    data_fill(fuzz.scratch, type, c.seed, rank, 0, c.count); /* at an address that the CPU may use for any type */
    memcpy(fuzz.image + in_start, fuzz.scratch, c.count * type->bytes);
    gpu_write(in, fuzz.image, used(&c));
    if (!c.in_place) {
        memset(fuzz.image, GUARD_BYTE, used(&c));
    }
    if (0 == test_random(c.seed, (uint64_t) rank) % 64) {
        usleep(500); /* longer than kernels wait */
    }
    const car_counters_t before = test_counters();
    const int rc = MPI_Allreduce(c.in_place ? MPI_IN_PLACE : in + in_start, out + out_start, (int) c.count, type->type,
                                 data_mpi_op(c.pair.op), comm);
    const car_counters_t since = test_since(&before);
    CHECK(MPI_SUCCESS == rc, "%s: error %d", where(), rc);
    const bool kernels = device && c.count > 0 && data_for_gpu(type);
    CHECK((kernels ? 1 : 0) == test_served(&since), "%s: %s: served %llu times", where(), type->name,
          test_served(&since));
    check_result(&c, out, fuzz.image, comm, kernels || exact_on_the_host(&c.pair));
    count(&since);
}

static void one_generation(void)
{
    MPI_Comm comms[COMMUNICATORS];

    fuzz.call = 0;
    for (int i = 0; i < COMMUNICATORS; ++i) {
        comms[i] = make_communicator(i, draw(10 + (uint64_t) i));
    }
    for (fuzz.call = 1; fuzz.call <= CALLS; ++fuzz.call) {
        const uint64_t random = draw(0);
        const int i = (int) (random % COMMUNICATORS);
        if (0 == (random >> 8) % 32) { /* while the others are in use */
            if (MPI_COMM_NULL != comms[i]) {
                MPI_Comm_free(&comms[i]);
            }
            comms[i] = make_communicator(i, random >> 16);
        }
        one_call(comms[i]);
    }
    for (int i = 0; i < COMMUNICATORS; ++i) {
        if (MPI_COMM_NULL != comms[i]) {
            MPI_Comm_free(&comms[i]);
        }
    }
}

/* More than 2^31 bytes, once: integers that are quickly made and checked. */
static void huge_call(void)
{
    const uint64_t elements = (UINT64_C(1) << 31) / sizeof(uint32_t) + 12345, part = UINT64_C(1) << 20;
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, elements * sizeof(uint32_t));
    uint32_t *values = malloc(part * sizeof(*values));

    for (uint64_t i = 0; i < elements; i += part) {
        const uint64_t n = elements - i < part ? elements - i : part;
        for (uint64_t k = 0; k < n; ++k) {
            values[k] = (uint32_t) ((i + k) * 2654435761u) + (uint32_t) test.rank;
        }
        gpu_write((char *) buffer.address + i * sizeof(*values), values, n * sizeof(*values));
    }
    const car_counters_t before = test_counters();
    MPI_Allreduce(MPI_IN_PLACE, buffer.address, (int) elements, MPI_UINT32_T, MPI_SUM, MPI_COMM_WORLD);
    const car_counters_t since = test_since(&before);
    CHECK(1 == test_served(&since), "the huge message was served %llu times", test_served(&since));
    const uint32_t size = (uint32_t) test.size, ranks = size * (size - 1) / 2;
    for (uint64_t i = 0; i < elements && 0 == test_failures(); i += part) {
        const uint64_t n = elements - i < part ? elements - i : part;
        gpu_read(values, (char *) buffer.address + i * sizeof(*values), n * sizeof(*values));
        for (uint64_t k = 0; k < n; ++k) {
            const uint32_t wanted = size * (uint32_t) ((i + k) * 2654435761u) + ranks;
            if (!CHECK(values[k] == wanted, "element %llu of the huge message is %u, not %u",
                       (unsigned long long) (i + k), values[k], wanted)) {
                break;
            }
        }
    }
    free(values);
    gpu_free(&buffer);
}

/* --- set-up ---------------------------------------------------------------------------------------------------------- */

static void prepare(void)
{
    for (int t = 0; t < DATA_TYPES; ++t) {
        for (int op = 0; op < DATA_OPS; ++op) {
            if (data_for_gpu(&data_types[t]) && data_offered(&data_types[t], (data_op_t) op)) {
                fuzz.pairs[fuzz.number_of_pairs++] = (pair_t){&data_types[t], (data_op_t) op};
            }
        }
    }
    fuzz.room = fuzz.max_bytes + 2 * GUARD + SHIFTS * 16;
    for (int k = 0; k < GPU_KINDS; ++k) {
        if (!gpu_kind_possible((gpu_kind_t) k)) {
            continue;
        }
        if (GPU_HOST == k) {
            fuzz.first_host_kind = fuzz.kinds;
        }
        fuzz.memory[fuzz.kinds] = (memory_t){gpu_allocate((gpu_kind_t) k, fuzz.room), gpu_allocate((gpu_kind_t) k, fuzz.room)};
        fuzz.kind[fuzz.kinds++] = (gpu_kind_t) k;
    }
    fuzz.image = malloc(fuzz.room);
    fuzz.result = malloc(fuzz.room);
    fuzz.expected = malloc(fuzz.room);
    fuzz.scratch = malloc(fuzz.room);
    fuzz.control = test_without_car(MPI_COMM_WORLD);
}

/* Rank 0's word, on which all agree. */
static bool goes_on(double end, long generations)
{
    int failed = test_failures() > 0, any;
    int on = generations > 0 ? fuzz.generation < test_number("first", 0) + generations : test_ms() < end;

    MPI_Bcast(&on, 1, MPI_INT, 0, fuzz.control);
    MPI_Allreduce(&failed, &any, 1, MPI_INT, MPI_MAX, fuzz.control);
    return on && !any;
}

int main(int argc, char **argv)
{
    test_options(argc, argv, "seed seconds generations first max-bytes huge");
    test_begin(&argc, &argv, "fuzz");
    test_use_gpu();
    fuzz.seed = (uint64_t) test_number("seed", 1);
    fuzz.max_bytes = (size_t) test_number("max-bytes", 1 << 20);
    prepare();
    if (0 == test.rank) {
        printf("fuzz: seed %llu\n", (unsigned long long) fuzz.seed);
        fflush(stdout);
    }
    if (0 == strcmp("yes", test_option("huge", "no"))) {
        huge_call();
    }
    const double end = test_ms() + 1000.0 * (double) test_number("seconds", 10);
    for (fuzz.generation = test_number("first", 0); goes_on(end, test_number("generations", 0)); ++fuzz.generation) {
        one_generation();
    }
    for (int k = 0; k < fuzz.kinds; ++k) {
        gpu_free(&fuzz.memory[k].in);
        gpu_free(&fuzz.memory[k].out);
    }
    MPI_Comm_free(&fuzz.control);
    return test_end("%ld generations, %llu calls of rank 0: %llu served by kernels (one_shot_push %llu, one_shot_pull %llu, "
                    "two_shot %llu), %llu of host memory",
                    fuzz.generation - test_number("first", 0), fuzz.calls, fuzz.served,
                    fuzz.by_algorithm[CAR_ONE_SHOT_PUSH], fuzz.by_algorithm[CAR_ONE_SHOT_PULL],
                    fuzz.by_algorithm[CAR_TWO_SHOT], fuzz.host);
}
