/*
 * Communicators of every origin: each that has 2 ranks or more on one node is served, with its
 * ranks in their own order.
 *
 *   --case NAME      one of the cases below; without it those that need no more than ranks of one
 *                    node and a GPU
 *   --many N         communicators alive at once in cases many and crowd (100)
 *   --device yes|no  whether calls that coll/car leaves alone may have device memory (no): then
 *                    Open MPI must read it
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checked.h"

#define SMALL 8192
#define LARGE (1 << 20)
#define INTEGERS                                                                                   \
    120000 /* from which on checked_allreduce has numbers that any order sums to the same */
#define HUGE (4 << 20)

static checked_space_t space; /* device memory */
static checked_space_t host;
static uint64_t seed;
static int communicators;

/* Two sizes on a communicator that coll/car serves; nothing where this process is not in it. */
static void use(MPI_Comm comm, const char *what)
{
    if (MPI_COMM_NULL == comm) {
        return;
    }
    ++communicators;
    checked_allreduce_by(CHECKED_BY_KERNELS, comm, &space, 40, seed + 1, what);
    checked_allreduce_by(CHECKED_BY_KERNELS, comm, &space, 50000, seed + 2, what);
}

static void drop(MPI_Comm *comm)
{
    if (MPI_COMM_NULL != *comm) {
        MPI_Comm_free(comm);
    }
}

/* Of memory that whoever serves it can read. */
static void use_without_car(MPI_Comm comm, const char *what)
{
    const bool device = 0 == strcmp(test_option("device", "no"), "yes");

    checked_allreduce_by(CHECKED_ABSENT, comm, device ? &space : &host, 20000, seed + 3, what);
    checked_allreduce_by(CHECKED_ABSENT, comm, &host, 200, seed + 4, what);
}

/* --- groups, in any order --------------------------------------------------------------------- */

/*
 * Order `which` of n ranks of MPI_COMM_WORLD that start at some rank: upwards, downwards, stirred.
 */
static void order(int which, int n, int *ranks)
{
    const int start = which % (test.size - n + 1);

    for (int i = 0; i < n; ++i) {
        ranks[i] = start + (1 == which % 3 ? n - 1 - i : i);
    }
    for (int i = n - 1; 2 == which % 3 && i > 0; --i) {
        const int j = (int) (test_random((uint64_t) which, (uint64_t) i) % (unsigned) (i + 1)),
                  kept = ranks[i];
        ranks[i] = ranks[j];
        ranks[j] = kept;
    }
}

static void groups(void)
{
    MPI_Group world, group;
    MPI_Comm comm;

    MPI_Comm_group(MPI_COMM_WORLD, &world);
    for (int n = 2; n <= test.size; ++n) {
        for (int which = 0; which < 4; ++which) {
            int *ranks = malloc((size_t) n * sizeof(*ranks)), mine;
            order(which, n, ranks);
            MPI_Group_incl(world, n, ranks, &group);
            MPI_Group_rank(group, &mine);
            comm = MPI_COMM_NULL;
            if (0 == which % 2) {
                MPI_Comm_create(MPI_COMM_WORLD, group, &comm);
            } else if (MPI_UNDEFINED != mine) {
                /* only the members call */
                MPI_Comm_create_group(MPI_COMM_WORLD, group, which, &comm);
            }
            use(comm, "a group in some order");
            drop(&comm);
            MPI_Group_free(&group);
            free(ranks);
        }
    }
    MPI_Group_free(&world);
}

/* --- overlapping ------------------------------------------------------------------------------ */

/* Every rank is in several: rings of neighbours, windows of three, all; used in turns. */
static void overlapping(void)
{
    enum { WIDEST = 3 };
    MPI_Group world, group;
    MPI_Comm *comms = malloc((size_t) (2 * test.size) * sizeof(MPI_Comm));

    MPI_Comm_group(MPI_COMM_WORLD, &world);
    for (int i = 0; i < 2 * test.size; ++i) {
        const int n = i < test.size ? 2 : test.size < WIDEST ? test.size : WIDEST;
        int ranks[WIDEST];
        for (int k = 0; k < n; ++k) {
            ranks[k] = (i + k) % test.size;
        }
        MPI_Group_incl(world, n, ranks, &group);
        MPI_Comm_create(MPI_COMM_WORLD, group, &comms[i]);
        MPI_Group_free(&group);
    }
    MPI_Group_free(&world);
    for (int turn = 0; turn < 3; ++turn) {
        /* In one order on all ranks: else two could wait for each other. */
        for (int i = 0; i < 2 * test.size; ++i) {
            use(comms[turn % 2 ? 2 * test.size - 1 - i : i], "overlapping communicators in turns");
        }
        use(MPI_COMM_WORLD, "MPI_COMM_WORLD between them");
    }
    for (int i = 0; i < 2 * test.size; ++i) {
        drop(&comms[i]);
    }
    free(comms);
}

/* --- duplicates and splits -------------------------------------------------------------------- */

static void splits(void)
{
    MPI_Comm dup, again, reversed, part, node, late;
    MPI_Request request;

    MPI_Comm_dup(MPI_COMM_WORLD, &dup);
    MPI_Comm_dup(dup, &again);
    MPI_Comm_split(again, 0, -test.rank, &reversed);
    MPI_Comm_split(reversed, 0 == test.rank ? MPI_UNDEFINED : test.rank % 2, 0, &part);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, -test.rank, MPI_INFO_NULL, &node);
    MPI_Comm_idup(reversed, &late, &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    use(again, "a duplicate of a duplicate");
    use(reversed, "all ranks backwards");
    use(part, "a part");
    use(node, "the ranks of the node, backwards");
    use(late, "a duplicate of MPI_Comm_idup");
    drop(&dup);
    drop(&again);
    drop(&reversed);
    use(late, "a duplicate whose origin is freed");
    drop(&part);
    drop(&node);
    drop(&late);
}

static void topologies(void)
{
    int extents[2] = {0, 0}, periodic[2] = {1, 0};
    const int rows[2] = {0, 1}, columns[2] = {1, 0};
    MPI_Comm grid, row, column, graph;
    int next = (test.rank + 1) % test.size, one = 1;

    MPI_Dims_create(test.size, 2, extents);
    MPI_Cart_create(MPI_COMM_WORLD, 2, extents, periodic, 1, &grid);
    MPI_Cart_sub(grid, rows, &row);
    MPI_Cart_sub(grid, columns, &column);
    MPI_Dist_graph_create(MPI_COMM_WORLD, 1, &test.rank, &one, &next, &one, MPI_INFO_NULL, 1,
                          &graph);
    for (int turn = 0; turn < 2; ++turn) {
        use(grid, "a grid");
        use(row, "a row of it");
        use(column, "a column of it");
        use(graph, "a graph");
    }
    drop(&grid);
    use(row, "a row of a grid that is freed");
    drop(&row);
    drop(&column);
    drop(&graph);
}

/* --- intercommunicators ----------------------------------------------------------------------- */

/* The other group's ranks, summed: both groups have two kinds of memory in turn. */
static void sum_of_others(MPI_Comm inter, bool device, int color)
{
    enum { COUNT = 3000 };
    int32_t numbers[COUNT], wanted = 0;
    gpu_buffer_t in = gpu_allocate(device ? GPU_DEVICE : GPU_HOST, sizeof(numbers));
    gpu_buffer_t out = gpu_allocate(device ? GPU_DEVICE : GPU_HOST, sizeof(numbers));

    for (int r = 0; r < test.size; ++r) {
        wanted += r % 2 == color ? 0 : r + 1;
    }
    for (int i = 0; i < COUNT; ++i) {
        numbers[i] = test.rank + 1;
    }
    gpu_write(in.address, numbers, sizeof(numbers));
    const car_counters_t before = test_counters();
    MPI_Allreduce(in.address, out.address, COUNT, MPI_INT32_T, MPI_SUM, inter);
    const car_counters_t since = test_since(&before);
    CHECK(0 == test_served(&since) + test_left(&since),
          "coll/car had a call on an intercommunicator");
    gpu_read(numbers, out.address, sizeof(numbers));
    for (int i = 0; i < COUNT; ++i) {
        if (!CHECK(numbers[i] == wanted, "intercommunicator, %s memory: element %d is %d, not %d",
                   device ? "device" : "host", i, numbers[i], wanted)) {
            break;
        }
    }
    gpu_free(&in);
    gpu_free(&out);
}

static void inter(void)
{
    MPI_Comm half, inter, merged;
    const int color = test.rank % 2;

    MPI_Comm_split(MPI_COMM_WORLD, color, 0, &half);
    MPI_Intercomm_create(half, 0, MPI_COMM_WORLD, 1 - color, 7, &inter);
    sum_of_others(inter, false, color);
    if (0 == strcmp(test_option("device", "no"), "yes")) {
        sum_of_others(inter, true, color);
    }
    MPI_Intercomm_merge(inter, color, &merged);
    use(half, "one side of an intercommunicator");
    use(merged, "both sides merged");
    drop(&inter);
    use(merged, "merged of what is freed");
    drop(&merged);
    drop(&half);
}

/* --- lives ------------------------------------------------------------------------------------ */

/* One after the other goes while the rest are used, and ranks come to that at different times. */
static void freed(void)
{
    enum { ALIVE = 6 };
    MPI_Comm comms[ALIVE];

    for (int i = 0; i < ALIVE; ++i) {
        if (0 == i % 2) {
            MPI_Comm_dup(MPI_COMM_WORLD, &comms[i]);
        } else {
            MPI_Comm_split(MPI_COMM_WORLD, test.rank < (test.size + 1) / 2, i, &comms[i]);
        }
        use(comms[i], "while there are ever more");
    }
    for (int i = 0; i < ALIVE; ++i) {
        usleep((useconds_t) ((test.rank + i) % test.size) * 2000);
        drop(&comms[i]);
        for (int k = ALIVE - 1; k > i; --k) {
            use(comms[k], "while others are freed");
        }
    }
}

/* All at once, small calls first, then large ones, for which none of them has the memory yet. */
static void many(void)
{
    const int number = (int) test_number("many", 100);
    MPI_Comm *comms = malloc((size_t) number * sizeof(MPI_Comm));

    for (int i = 0; i < number; ++i) {
        MPI_Comm_dup(MPI_COMM_WORLD, &comms[i]);
        checked_allreduce_by(CHECKED_BY_KERNELS, comms[i], &space, SMALL, seed + (uint64_t) i,
                             "one of many, small");
    }
    for (int i = 0; i < number; ++i) {
        checked_allreduce_by(CHECKED_BY_KERNELS, comms[i], &space, LARGE, seed + (uint64_t) i,
                             "one of many, large");
    }
    for (int i = 0; i < number; i += number > 10 ? number / 10 : 1) {
        checked_allreduce_by(CHECKED_BY_KERNELS, comms[i], &space, SMALL, seed,
                             "one of many, small again");
    }
    for (int i = 0; i < number; ++i) {
        drop(&comms[i]);
    }
    free(comms);
    communicators += number;
}

/*
 * More than coll_car_memory has room for: the first are served, the others never; when all are gone
 * there is room again.
 */
static void crowd(void)
{
    const int number = (int) test_number("many", 100);
    MPI_Comm *comms = malloc((size_t) number * sizeof(MPI_Comm)), later;
    unsigned long long most = 0;

    for (int turn = 0; turn < 2; ++turn) {
        for (int i = 0; i < number; ++i) {
            if (0 == turn) {
                MPI_Comm_dup(MPI_COMM_WORLD, &comms[i]);
            }
            const car_counters_t before = test_counters();
            checked_allreduce(comms[i], &space, INTEGERS, seed + (uint64_t) i, "one of a crowd");
            const car_counters_t since = test_since(&before);
            most += 0 == turn ? test_served(&since) : 0;
            CHECK(((unsigned long long) i < most) == (1 == test_served(&since))
                      && 1 == test_served(&since) + test_left(&since),
                  "communicator %d of %d, turn %d: served %llu times, left %llu times, where %llu "
                  "have memory",
                  i, number, turn, test_served(&since), test_left(&since), most);
        }
    }
    CHECK(0 < most && most < (unsigned long long) number, "%llu of %d communicators have memory",
          most, number);
    for (int i = 0; i < number; ++i) {
        drop(&comms[i]);
    }
    MPI_Barrier(MPI_COMM_WORLD); /* all have left all of them */
    MPI_Comm_dup(MPI_COMM_WORLD, &later);
    use(later, "after the crowd");
    drop(&later);
    free(comms);
}

/* Two communicators without a common rank at once, on the same GPUs where those are shared. */
static void halves(void)
{
    MPI_Comm half;

    MPI_Comm_split(MPI_COMM_WORLD, test.rank < test.size / 2, 0, &half);
    for (int i = 0; i < 3; ++i) {
        MPI_Barrier(MPI_COMM_WORLD);
        checked_allreduce_by(CHECKED_BY_KERNELS, half, &space, HUGE, seed + (uint64_t) i,
                             "both halves at once, large");
        use(half, "both halves at once");
    }
    drop(&half);
}

/* --- who is asked for ------------------------------------------------------------------------- */

static MPI_Comm preferring(const char *words)
{
    MPI_Comm comm;
    MPI_Info info;

    MPI_Info_create(&info);
    MPI_Info_set(info, "ompi_comm_coll_preference", words);
    MPI_Comm_dup_with_info(MPI_COMM_WORLD, info, &comm);
    MPI_Info_free(&info);
    return comm;
}

static void preferences(void)
{
    static const char *const with[] = {"car", "car,^han", "car,tuned", "^han"}, *const without[] = {
                                                                                    "^car",
                                                                                    "tuned,^car"};

    for (size_t i = 0; i < sizeof(with) / sizeof(with[0]); ++i) {
        MPI_Comm comm = preferring(with[i]);
        use(comm, with[i]);
        drop(&comm);
    }
    for (size_t i = 0; i < sizeof(without) / sizeof(without[0]); ++i) {
        MPI_Comm comm = preferring(without[i]);
        use_without_car(comm, without[i]);
        drop(&comm);
    }
    use(MPI_COMM_WORLD, "MPI_COMM_WORLD after them");
}

/* --- nodes ------------------------------------------------------------------------------------ */

/* The job is on several nodes: each node's ranks are served, nobody else. */
static void nodes(void)
{
    MPI_Comm node, across, mixed;
    int here;

    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    MPI_Comm_size(node, &here);
    if (!CHECK(1 < here && here < test.size, "this rank's node has %d of %d ranks", here,
               test.size)) {
        return;
    }
    MPI_Comm_split(MPI_COMM_WORLD, test.local_rank, 0, &across);
    MPI_Comm_split(MPI_COMM_WORLD, 0, -test.rank, &mixed);
    for (int i = 0; i < 3; ++i) {
        use_without_car(MPI_COMM_WORLD, "MPI_COMM_WORLD on several nodes");
        use(node, "the ranks of one node");
        use_without_car(across, "one rank of each node");
        use_without_car(mixed, "all ranks, backwards");
    }
    drop(&across);
    drop(&mixed);
    use(node, "the ranks of one node");
    drop(&node);
}

static const struct {
    const char *name;
    void (*run)(void);
    bool everywhere; /* needs nothing special */
} cases[] = {
    {"groups", groups, true},  {"overlapping", overlapping, true},
    {"splits", splits, true},  {"topologies", topologies, true},
    {"inter", inter, true},    {"freed", freed, true},
    {"many", many, false},     {"crowd", crowd, false},
    {"halves", halves, false}, {"preferences", preferences, true},
    {"nodes", nodes, false},
};

int main(int argc, char **argv)
{
    int tried = 0;

    test_options(argc, argv, "case many device");
    test_begin(&argc, &argv, "communicators");
    test_use_gpu();
    const char *only = test_option("case", NULL);
    space = checked_allocate(GPU_DEVICE, HUGE);
    host = checked_allocate(GPU_HOST, HUGE);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
        if (NULL == only ? cases[i].everywhere : 0 == strcmp(only, cases[i].name)) {
            seed = 1000 * (i + 1);
            cases[i].run();
            ++tried;
        }
    }
    CHECK(tried > 0, "no such case");
    checked_free(&space);
    checked_free(&host);
    return test_end("%d cases, %d communicators of rank 0 served", tried, communicators);
}
