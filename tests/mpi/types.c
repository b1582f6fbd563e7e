/*
 * Every predefined operation on every predefined type that MPI 4.1 (section 6.9.2) allows and this
 * Open MPI has: in place or not, at any element-aligned address, kernels give the fold in rank
 * order bit for bit and write neither beside the output nor into the gaps of pairs; what they do
 * not serve is what the same call on host memory gives without coll/car. The fold itself is
 * compared with MPI_Reduce_local. What Open MPI refuses on host memory it refuses on device memory
 * in the same way.
 *
 *   --expect WHO        car: kernels serve all that data_for_gpu says; declined: coll/car leaves
 *                       every call; any: whoever
 *   --reference yes|no  compare the fold with MPI_Reduce_local (yes); that needs Open MPI's plain C
 *                       loops: --mca op ^avx
 *   --table yes|no      print a Markdown table of who served what (no)
 *   --types LIST        of data_types.c, separated by commas (all)
 *   --seed N
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data.h"
#include "form.h"
#include "testing.h"

#define GUARD 128 /* bytes on each side of a buffer that nobody may touch */
#define GUARD_BYTE 0xa5
#define COUNT_MAX 1001
#define SHIFT_MAX 5 /* elements' alignments */
#define ELEMENT_MAX 32
#define BYTES (2 * GUARD + (COUNT_MAX + SHIFT_MAX) * ELEMENT_MAX)

static const uint64_t counts[] = {1, 2, 3, 7, 64, COUNT_MAX};

typedef struct {
    const data_type_t *type;
    data_op_t op;
    uint64_t count, seed;
    bool in_place;
    size_t in_shift, out_shift; /* bytes */
} case_t;

/* Who had the calls of a type and an operation. */
typedef enum { NOBODY, HOST, KERNELS, BOTH } who_t;

static struct {
    const char *expect;
    bool reference;
    MPI_Comm plain; /* without coll/car */
    gpu_buffer_t in, out;
    /*
     * What the buffers hold: the operand, the output before and after. As aligned as any element.
     */
    _Alignas(ELEMENT_MAX) char sent[BYTES];
    _Alignas(ELEMENT_MAX) char before[BYTES];
    _Alignas(ELEMENT_MAX) char after[BYTES];
    _Alignas(ELEMENT_MAX) char expected[BYTES];
    _Alignas(ELEMENT_MAX) char scratch[BYTES];
    who_t who[DATA_TYPES][DATA_OPS];
    long calls, pairs, refused;
} run;

static const char *describe(const case_t *c)
{
    static char text[200];

    snprintf(text, sizeof(text), "%s %s of %llu, from +%zu%s to +%zu, seed %llx", c->type->mpi_name,
             data_op_name(c->op), (unsigned long long) c->count, c->in_shift,
             c->in_place ? " (in place)" : "", c->out_shift, (unsigned long long) c->seed);
    return text;
}

static void check_equal(const void *got, const void *wanted, const case_t *c, const char *what)
{
    char text[DATA_TEXT], other[DATA_TEXT];
    const uint64_t at = data_differ(got, wanted, c->type, c->count);

    if (at < c->count) {
        CHECK(at == c->count, "%s: %s: element %llu is %s, not %s", describe(c), what,
              (unsigned long long) at, data_text(got, c->type, at, text),
              data_text(wanted, c->type, at, other));
    }
}

/* --- the fold --------------------------------------------------------------------------------- */

/*
 * 16-bit floats are rounded by Open MPI after every step, and by us at the end. Open MPI 4.1.4
 * takes MPI_UNSIGNED_LONG for a signed integer where it compares, which is wrong.
 */
static bool comparable(const data_type_t *type, data_op_t op)
{
    const bool half = DATA_F16 == type->element || DATA_C16 == type->element;
    const bool mistaken = OMPI_MAJOR_VERSION < 5 && MPI_UNSIGNED_LONG == type->type
                          && (DATA_MIN == op || DATA_MAX == op);

    return !half && !mistaken;
}

static void check_reference(const case_t *c)
{
    char *acc = run.before, *next = run.after;

    data_expect(run.expected, run.scratch, c->type, c->op, c->seed, test.size, 0, c->count);
    data_fill(acc, c->type, c->seed, 0, 0, c->count);
    for (int r = 1; r < test.size; ++r) {
        char *const result = next;
        data_fill(next, c->type, c->seed, r, 0, c->count);
        MPI_Reduce_local(acc, next, (int) c->count, c->type->type, data_mpi_op(c->op));
        next = acc;
        acc = result;
    }
    check_equal(run.expected, acc, c, "the fold of these tests beside MPI_Reduce_local");
}

/* --- a call ----------------------------------------------------------------------------------- */

static void prepare(const case_t *c)
{
    memset(run.sent, GUARD_BYTE, BYTES);
    data_fill(run.sent + GUARD + c->in_shift, c->type, c->seed, test.rank, 0, c->count);
    memset(run.before, GUARD_BYTE, BYTES);
    if (c->in_place) {
        memcpy(run.before, run.sent, BYTES);
    } else {
        gpu_write(run.in.address, run.sent, BYTES);
    }
    gpu_write(run.out.address, run.before, BYTES);
}

/* What the same call gives on host memory. */
static void call_on_host(const case_t *c)
{
    char *const operand = c->in_place ? run.expected : run.scratch;

    data_fill(operand, c->type, c->seed, test.rank, 0, c->count);
    MPI_Allreduce(c->in_place ? MPI_IN_PLACE : operand, run.expected, (int) c->count, c->type->type,
                  data_mpi_op(c->op), run.plain);
}

static bool beside_untouched(const case_t *c)
{
    const size_t start = GUARD + c->out_shift, end = start + c->count * c->type->bytes;

    return 0 == memcmp(run.before, run.after, start)
           && 0 == memcmp(run.before + end, run.after + end, BYTES - end);
}

static void check_output(const case_t *c, bool by_kernels)
{
    const size_t start = GUARD + c->out_shift;

    gpu_read(run.after, run.out.address, BYTES);
    if (by_kernels) {
        data_expect(run.expected, run.scratch, c->type, c->op, c->seed, test.size, 0, c->count);
    } else {
        call_on_host(c);
    }
    check_equal(run.after + start, run.expected, c,
                by_kernels ? "by kernels" : "by the saved module");
    CHECK(beside_untouched(c), "%s: memory beside the output was written", describe(c));
    /* Open MPI's own algorithms may move gaps along with what is around them. */
    CHECK(!by_kernels
              || data_gaps_differ(run.after + start, run.before + start, c->type, c->count)
                     == c->count,
          "%s: the gap within an element was written", describe(c));
    if (!c->in_place) {
        gpu_read(run.after, run.in.address, BYTES);
        CHECK(0 == memcmp(run.after, run.sent, BYTES), "%s: the input was changed", describe(c));
    }
}

static void check_who(const case_t *c, const car_counters_t *d)
{
    const bool kernels = 0 == strcmp(run.expect, "car") && data_for_gpu(c->type)
                         && !form_is_left((int) c->count, c->type->type, data_mpi_op(c->op));

    CHECK(1 == test_served(d) + test_left(d),
          "%s: %llu calls served by kernels, %llu left to others", describe(c), test_served(d),
          test_left(d));
    if (0 != strcmp(run.expect, "any")) {
        CHECK(kernels == (1 == test_served(d)), "%s: %s", describe(c),
              kernels ? "left to the saved module" : "served by kernels");
    }
    who_t *who = &run.who[c->type - data_types][c->op];
    *who = (who_t) (*who | (1 == test_served(d) ? KERNELS : HOST));
}

static void try_case(const case_t *c)
{
    char *const send = (char *) run.in.address + GUARD + c->in_shift;
    char *const receive = (char *) run.out.address + GUARD + c->out_shift;

    prepare(c);
    const car_counters_t before = test_counters();
    const int rc = MPI_Allreduce(c->in_place ? MPI_IN_PLACE : send, receive, (int) c->count,
                                 c->type->type, data_mpi_op(c->op), MPI_COMM_WORLD);
    const car_counters_t since = test_since(&before);
    CHECK(MPI_SUCCESS == rc, "%s: error %d", describe(c), rc);
    check_output(c, 0 != test_served(&since));
    check_who(c, &since);
    ++run.calls;
}

static void try_pair(const data_type_t *type, data_op_t op, uint64_t seed)
{
    for (size_t k = 0; k < sizeof(counts) / sizeof(counts[0]); ++k) {
        const uint64_t random =
            test_random(seed, (uint64_t) (type - data_types) * 1000 + (uint64_t) op * 10 + k);
        case_t c = {.type = type, .op = op, .count = counts[k], .seed = random};

        c.in_place = 0 != (random >> 8 & 1);
        c.out_shift = (random >> 16) % (SHIFT_MAX + 1) * type->align;
        c.in_shift = c.in_place ? c.out_shift : (random >> 24) % (SHIFT_MAX + 1) * type->align;
        if (run.reference && comparable(type, op)) {
            check_reference(&c);
        }
        try_case(&c);
    }
    ++run.pairs;
}

/* --- what Open MPI refuses -------------------------------------------------------------------- */

static int class_of(int rc)
{
    int class = 0;

    MPI_Error_class(rc, &class);
    return class;
}

/* The same error on device memory as on host memory, and nothing is written. */
static void try_refused(const data_type_t *type, MPI_Op op, const char *name)
{
    const uint64_t count = 5;

    memset(run.sent, GUARD_BYTE, BYTES);
    data_fill(run.sent + GUARD, type, 1, test.rank, 0, count);
    memset(run.scratch, 0, BYTES);
    const int on_host = class_of(
        MPI_Allreduce(run.sent + GUARD, run.scratch, (int) count, type->type, op, run.plain));
    for (int in_place = 0; in_place < 2; ++in_place) {
        gpu_write(run.in.address, run.sent, BYTES);
        gpu_write(run.out.address, run.sent, BYTES);
        const int on_device = class_of(MPI_Allreduce(
            in_place ? MPI_IN_PLACE : (char *) run.in.address + GUARD,
            (char *) run.out.address + GUARD, (int) count, type->type, op, MPI_COMM_WORLD));
        CHECK(MPI_SUCCESS != on_host && on_device == on_host,
              "%s of %s: error class %d on host memory, %d on device memory", name, type->mpi_name,
              on_host, on_device);
        gpu_read(run.after, run.out.address, BYTES);
        CHECK(0 == memcmp(run.after, run.sent, BYTES), "%s of %s was refused, but wrote", name,
              type->mpi_name);
    }
    ++run.refused;
}

static void refused(void)
{
    const data_type_t *some[] = {&data_types[DATA_I32], &data_types[DATA_F64]};

    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(run.plain, MPI_ERRORS_RETURN);
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); ++i) {
        try_refused(some[i], MPI_REPLACE, "MPI_REPLACE");
        try_refused(some[i], MPI_NO_OP, "MPI_NO_OP");
    }
    /* Allowed, but this Open MPI has no such operation: 2REAL without Fortran. */
    for (int t = 0; t < DATA_TYPES; ++t) {
        for (int op = 0; op < DATA_OPS; ++op) {
            const data_type_t *type = &data_types[t];
            if (data_has(type) && data_allowed(type, (data_op_t) op)
                && !data_offered(type, (data_op_t) op)) {
                try_refused(type, data_mpi_op((data_op_t) op), data_op_name((data_op_t) op));
            }
        }
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
}

/* --- the whole -------------------------------------------------------------------------------- */

static void print_table(void)
{
    static const char *const words[] = {
        [NOBODY] = "", [HOST] = "host", [KERNELS] = "GPU", [BOTH] = "GPU or host"};
    char line[512];
    int used = snprintf(line, sizeof(line), "| MPI type |");

    for (int op = 0; op < DATA_OPS; ++op) {
        used += snprintf(line + used, sizeof(line) - (size_t) used, " %s |",
                         data_op_name((data_op_t) op));
    }
    printf("%s\n|---|", line);
    for (int op = 0; op < DATA_OPS; ++op) {
        printf("---|");
    }
    printf("\n");
    for (int t = 0; t < DATA_TYPES; ++t) {
        bool any = false;
        used = snprintf(line, sizeof(line), "| %s |", data_types[t].mpi_name);
        for (int op = 0; op < DATA_OPS; ++op) {
            any = any || NOBODY != run.who[t][op];
            used += snprintf(line + used, sizeof(line) - (size_t) used, "%s%s |",
                             NOBODY == run.who[t][op] ? "" : " ", words[run.who[t][op]]);
        }
        if (any) {
            printf("%s\n", line);
        }
    }
}

static void everything(uint64_t seed)
{
    const char *list = test_option("types", NULL);

    for (int t = 0; t < DATA_TYPES; ++t) {
        if (NULL != list && !test_listed(data_types[t].name, list)) {
            continue;
        }
        for (int op = 0; op < DATA_OPS; ++op) {
            if (data_offered(&data_types[t], (data_op_t) op)) {
                try_pair(&data_types[t], (data_op_t) op, seed);
            }
        }
    }
}

int main(int argc, char **argv)
{
    test_options(argc, argv, "expect reference table types seed");
    test_begin(&argc, &argv, "types");
    test_use_gpu();
    run.expect = test_option("expect", "car");
    run.reference = 0 == strcmp("yes", test_option("reference", "yes"));
    run.plain = test_without_car(MPI_COMM_WORLD);
    run.in = gpu_allocate(GPU_DEVICE, BYTES);
    run.out = gpu_allocate(GPU_DEVICE, BYTES);
    everything((uint64_t) test_number("seed", 1));
    refused();
    if (0 == test.rank && 0 == strcmp("yes", test_option("table", "no"))) {
        print_table();
    }
    gpu_free(&run.in);
    gpu_free(&run.out);
    MPI_Comm_free(&run.plain);
    CHECK(test.counted, "coll/car is not loaded");
    return test_end(
        "%ld pairs of type and operation, %ld calls; %ld pairs refused as on host memory",
        run.pairs, run.calls, run.refused);
}
