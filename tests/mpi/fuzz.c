/*
 * Random calls against a fold on the host: communicators, types, operations, counts, addresses,
 * kinds of memory, in place or not; blocking, nonblocking or persistent, several under way on one
 * and on many communicators, completed in any order; ranks of one call differ in their memory and
 * in when they come. Everything follows from a seed, so whatever goes wrong can be had again: calls
 * come in generations, each with communicators of its own, and a generation depends on the seed and
 * its number only.
 *
 *   --seed N           (1)
 *   --seconds N        stop after so long (10); --generations N: after so many instead
 *   --first N          the first generation (0)
 *   --max-bytes N      no message is larger (1 MB)
 *   --forms WHICH      all; nonblocking: and blocking, but no persistent requests; or blocking: one
 *                      call at a time (all)
 *   --huge yes|no      also one message of more than 2^31 bytes (no)
 *
 * On a failure the line says which options bring it back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

#define CALLS 100 /* of a generation */

fuzz_t fuzz;
static bool run_forms; /* not only blocking calls */

const char *fuzz_where(long call)
{
    static char text[120];

    snprintf(text, sizeof(text),
             "--seed %llu --first %ld --generations 1 --max-bytes %zu, call %ld",
             (unsigned long long) fuzz.seed, fuzz.generation, fuzz.max_bytes, call);
    return text;
}

/* --- one call --------------------------------------------------------------------------------- */

size_t fuzz_used(const call_t *c)
{
    return 2 * FUZZ_GUARD + FUZZ_SHIFTS * c->pair.type->align + c->count * c->pair.type->bytes;
}

void fuzz_fill(const call_t *c, char *in, char *out, char *before)
{
    const data_type_t *type = c->pair.type;

    memset(before, FUZZ_GUARD_BYTE, fuzz_used(c));
    if (!c->in_place) {
        gpu_write(out, before, fuzz_used(c));
    }
    /* at an address that the CPU may use for any type */
    data_fill(fuzz.scratch, type, c->seed, c->rank, 0, c->count);
    memcpy(before + FUZZ_GUARD + c->in_shift, fuzz.scratch, c->count * type->bytes);
    gpu_write(in, before, fuzz_used(c));
    if (!c->in_place) {
        memset(before, FUZZ_GUARD_BYTE, fuzz_used(c));
    }
}

void fuzz_check(const call_t *c, const char *out, const char *before, bool exact)
{
    const data_type_t *type = c->pair.type;
    const size_t start = FUZZ_GUARD + c->out_shift, end = start + c->count * type->bytes;
    char got[DATA_TEXT], wanted[DATA_TEXT];

    gpu_read(fuzz.result, out, fuzz_used(c));
    data_expect(fuzz.expected, fuzz.scratch, type, c->pair.op, c->seed, c->size, 0, c->count);
    const uint64_t at =
        exact ? data_differ(fuzz.result + start, fuzz.expected, type, c->count) : c->count;
    if (at < c->count) {
        CHECK(at == c->count,
              "%s: %s %s of %llu on %d ranks, %s%s to %s: element %llu is %s, not %s",
              fuzz_where(c->number), type->name, data_op_name(c->pair.op),
              (unsigned long long) c->count, c->size, gpu_kind_name(fuzz.kind[c->in_kind]),
              c->in_place ? " in place" : "", gpu_kind_name(fuzz.kind[c->out_kind]),
              (unsigned long long) at, data_text(fuzz.result + start, type, at, got),
              data_text(fuzz.expected, type, at, wanted));
    }
    CHECK(data_gaps_differ(fuzz.result + start, before + start, type, c->count) == c->count,
          "%s: %s: a gap was written", fuzz_where(c->number), type->name);
    for (size_t i = 0; i < fuzz_used(c); ++i) {
        if ((i < start || i >= end) && FUZZ_GUARD_BYTE != (unsigned char) fuzz.result[i]) {
            CHECK(FUZZ_GUARD_BYTE == fuzz.result[i], "%s: memory beside the output was written",
                  fuzz_where(c->number));
            break;
        }
    }
}

/*
 * Open MPI folds floats in an order of its own, its AVX loops saturate sums of narrow integers, and
 * 4.1.4 compares unsigned long as signed: what is left is checked.
 */
bool fuzz_exact_on_the_host(const call_t *c)
{
    const data_type_t *type = c->pair.type;

    return (DATA_C_INTEGER == type->group || DATA_FORTRAN_INTEGER == type->group)
           && type->bytes >= 4 && DATA_MIN != c->pair.op && DATA_MAX != c->pair.op;
}

/* At once, on buffers that stay. */
static void call_blocking(const call_t *c, MPI_Comm comm)
{
    char *const out = fuzz.memory[c->out_kind].out.address;
    char *const in = c->in_place ? out : fuzz.memory[c->in_kind].in.address;
    const bool kernels = c->device && c->count > 0;

    fuzz_fill(c, in, out, fuzz.image);
    const car_counters_t before = test_counters();
    const int rc = PMPI_Allreduce(c->in_place ? MPI_IN_PLACE : in + FUZZ_GUARD + c->in_shift,
                                  out + FUZZ_GUARD + c->out_shift, (int) c->count,
                                  c->pair.type->type, data_mpi_op(c->pair.op), comm);
    const car_counters_t since = test_since(&before);
    CHECK(MPI_SUCCESS == rc, "%s: error %d", fuzz_where(c->number), rc);
    /* Those that are under way may end meanwhile. */
    CHECK(run_forms ? test_served(&since) >= (kernels ? 1 : 0)
                    : test_served(&since) == (kernels ? 1 : 0),
          "%s: %s: served %llu times", fuzz_where(c->number), c->pair.type->name,
          test_served(&since));
    fuzz_check(c, out, fuzz.image, kernels || fuzz_exact_on_the_host(c));
    fuzz.by_algorithm[CAR_ONE_SHOT_PUSH] += since.calls_one_shot_push;
    fuzz.by_algorithm[CAR_TWO_SHOT_PUSH] += since.calls_two_shot_push;
    fuzz.by_algorithm[CAR_ONE_SHOT_PULL] += since.calls_one_shot_pull;
    fuzz.by_algorithm[CAR_TWO_SHOT] += since.calls_two_shot;
}

static void one_call(MPI_Comm comm)
{
    const uint64_t random = fuzz_draw(1);
    call_t c = {.pair = fuzz.pairs[random % (unsigned) fuzz.number_of_pairs],
                .seed = fuzz_draw(3),
                .number = fuzz.call};

    if (MPI_COMM_NULL == comm) {
        return;
    }
    MPI_Comm_rank(comm, &c.rank);
    MPI_Comm_size(comm, &c.size);
    if (c.size < 2) {
        return;
    }
    c.count = fuzz_count(fuzz_draw(2), c.size, c.pair.type->bytes);
    c.in_place = 0 == (random >> 40) % 3;
    for (int r = 0; r < c.size; ++r) {
        fuzz_rank(&c, fuzz_draw(4), r);
        c.device = c.device || !gpu_kind_is_host(fuzz.kind[c.in_kind])
                   || !gpu_kind_is_host(fuzz.kind[c.out_kind]);
    }
    fuzz_rank(&c, fuzz_draw(4), c.rank);
    if (0 == test_random(c.seed, (uint64_t) c.rank) % 64) {
        usleep(500); /* longer than kernels wait */
    }
    ++fuzz.calls;
    fuzz.device += c.device && c.count > 0 ? 1 : 0;
    if (run_forms && 0 != fuzz_draw(5) % 3) {
        fuzz_post(&c, comm, fuzz_draw(5));
    } else {
        call_blocking(&c, comm);
    }
    fuzz_complete_some(test_random(fuzz_draw(6), (uint64_t) test.rank));
}

static void one_generation(void)
{
    MPI_Comm comms[FUZZ_COMMUNICATORS];

    fuzz.call = 0;
    for (int i = 0; i < FUZZ_COMMUNICATORS; ++i) {
        comms[i] = fuzz_communicator(i, fuzz_draw(10 + (uint64_t) i));
    }
    for (fuzz.call = 1; fuzz.call <= CALLS; ++fuzz.call) {
        const uint64_t random = fuzz_draw(0);
        const int i = (int) (random % FUZZ_COMMUNICATORS);
        if (0 == (random >> 8) % 32) { /* while the others are in use */
            if (MPI_COMM_NULL != comms[i]) {
                fuzz_complete_left(comms[i]);
                MPI_Comm_free(&comms[i]);
            }
            comms[i] = fuzz_communicator(i, random >> 16);
        }
        one_call(comms[i]);
    }
    if (0 == fuzz_draw(7) % 2) { /* else requests outlive their communicators */
        fuzz_complete_all();
    }
    for (int i = 0; i < FUZZ_COMMUNICATORS; ++i) {
        if (MPI_COMM_NULL != comms[i]) {
            fuzz_complete_left(comms[i]);
            MPI_Comm_free(&comms[i]);
        }
    }
    fuzz_complete_all();
}

/* More than 2^31 bytes, once: integers that are quickly made and checked. */
static void huge_call(void)
{
    const uint64_t elements = (UINT64_C(1) << 31) / sizeof(uint32_t) + 12345, part = UINT64_C(1)
                                                                                     << 20;
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
    PMPI_Allreduce(MPI_IN_PLACE, buffer.address, (int) elements, MPI_UINT32_T, MPI_SUM,
                   MPI_COMM_WORLD);
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

/* --- set-up ----------------------------------------------------------------------------------- */

static void prepare(void)
{
    for (int t = 0; t < DATA_TYPES; ++t) {
        for (int op = 0; op < DATA_OPS; ++op) {
            if (data_for_gpu(&data_types[t]) && data_offered(&data_types[t], (data_op_t) op)) {
                fuzz.pairs[fuzz.number_of_pairs++] = (pair_t){&data_types[t], (data_op_t) op};
            }
        }
    }
    fuzz.room = fuzz.max_bytes + 2 * FUZZ_GUARD + FUZZ_SHIFTS * 16;
    for (int k = 0; k < GPU_KINDS; ++k) {
        if (!gpu_kind_possible((gpu_kind_t) k)) {
            continue;
        }
        if (GPU_HOST == k) {
            fuzz.first_host_kind = fuzz.kinds;
        }
        fuzz.memory[fuzz.kinds] = (memory_t){gpu_allocate((gpu_kind_t) k, fuzz.room),
                                             gpu_allocate((gpu_kind_t) k, fuzz.room)};
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
    int on =
        generations > 0 ? fuzz.generation < test_number("first", 0) + generations : test_ms() < end;

    MPI_Bcast(&on, 1, MPI_INT, 0, fuzz.control);
    PMPI_Allreduce(&failed, &any, 1, MPI_INT, MPI_MAX, fuzz.control);
    return on && !any;
}

int main(int argc, char **argv)
{
    test_options(argc, argv, "seed seconds generations first max-bytes huge forms");
    test_begin(&argc, &argv, "fuzz");
    test_use_gpu();
    fuzz.seed = (uint64_t) test_number("seed", 1);
    fuzz.max_bytes = (size_t) test_number("max-bytes", 1 << 20);
    run_forms = 0 != strcmp("blocking", test_option("forms", "all"));
    fuzz.persistent = 0 == strcmp("all", test_option("forms", "all"));
    prepare();
    if (0 == test.rank) {
        printf("fuzz: seed %llu\n", (unsigned long long) fuzz.seed);
        fflush(stdout);
    }
    if (0 == strcmp("yes", test_option("huge", "no"))) {
        huge_call();
    }
    const double end = test_ms() + 1000.0 * (double) test_number("seconds", 10);
    for (fuzz.generation = test_number("first", 0); goes_on(end, test_number("generations", 0));
         ++fuzz.generation) {
        one_generation();
    }
    for (int k = 0; k < fuzz.kinds; ++k) {
        gpu_free(&fuzz.memory[k].in);
        gpu_free(&fuzz.memory[k].out);
    }
    MPI_Comm_free(&fuzz.control);
    return test_end(
        "%ld generations, %llu calls of rank 0: %llu with device memory, %llu nonblocking, %llu "
        "persistent starts; blocking by one_shot_push %llu, two_shot_push %llu, one_shot_pull "
        "%llu, two_shot %llu",
        fuzz.generation - test_number("first", 0), fuzz.calls, fuzz.device, fuzz.nonblocking,
        fuzz.starts, fuzz.by_algorithm[CAR_ONE_SHOT_PUSH], fuzz.by_algorithm[CAR_TWO_SHOT_PUSH],
        fuzz.by_algorithm[CAR_ONE_SHOT_PULL], fuzz.by_algorithm[CAR_TWO_SHOT]);
}
