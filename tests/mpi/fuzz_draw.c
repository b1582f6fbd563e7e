#include "fuzz.h"

#include "borders.h"

uint64_t fuzz_draw(uint64_t n)
{
    return test_random(fuzz.seed * 1000003 + (uint64_t) fuzz.generation,
                       (uint64_t) fuzz.call << 20 | n);
}

/* --- communicators ---------------------------------------------------------------------------- */

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
    /* the parent leaves coll/car out; its children do not */
    MPI_Comm_create(fuzz.control, some, &comm);
    MPI_Group_free(&some);
    MPI_Group_free(&all);
    return comm;
}

MPI_Comm fuzz_communicator(int index, uint64_t random)
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
        MPI_Comm_split(MPI_COMM_WORLD, color,
                       (int) (test_random(random, 100 + (uint64_t) test.rank) % 64), &comm);
        break;
    default:
        comm = subset(random >> 8 | 3);
        break;
    }
    return comm;
}

/* --- a call ----------------------------------------------------------------------------------- */

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

uint64_t fuzz_count(uint64_t random, int size, size_t bytes)
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

/*
 * Some bytes behind a 16-byte boundary: none, elements, or, where coll/car is to serve the call,
 * what no element may have.
 */
static size_t draw_shift(uint64_t random, size_t align, bool all_host)
{
    switch (random & 7) {
    case 0:
    case 1:
    case 2:
        return 0;
    case 3:
        return all_host ? 0 : (random >> 4) % (FUZZ_SHIFTS * align);
    default:
        return (random >> 4) % FUZZ_SHIFTS * align;
    }
}

void fuzz_rank(call_t *c, uint64_t random, int r)
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
