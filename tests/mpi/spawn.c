/*
 * MPI_Comm_spawn: parents and children reduce device memory in their own worlds and in the merged
 * communicator, which is all on one node, too; then part, and end. More than once, with the worlds
 * used in between.
 *
 *   --children N     (2)
 *   --rounds N       (2)
 */
#include <stdio.h>
#include <string.h>

#include "checked.h"

#define BYTES 50000

static checked_space_t space;

static void use(MPI_Comm comm, uint64_t seed, const char *what)
{
    checked_allreduce_by(CHECKED_BY_KERNELS, comm, &space, 40, seed, what);
    checked_allreduce_by(CHECKED_BY_KERNELS, comm, &space, BYTES, seed + 1, what);
}

/* What both sides do with what is between them. */
static void meet(MPI_Comm inter, bool parents)
{
    MPI_Comm merged, backwards;
    int rank;

    use(MPI_COMM_WORLD, 1, parents ? "the parents' world" : "the children's world");
    MPI_Intercomm_merge(inter, !parents, &merged);
    use(merged, 3, "parents and children");
    MPI_Comm_rank(merged, &rank);
    MPI_Comm_split(merged, 0, -rank, &backwards);
    use(backwards, 5, "parents and children, backwards");
    MPI_Comm_free(&merged);
    use(backwards, 7, "parents and children, after what they come from");
    use(MPI_COMM_WORLD, 9, "the own world again");
    MPI_Comm_free(&backwards);
}

/* No failure of theirs may get lost: their world's number goes to the parents. */
static void child(MPI_Comm parent)
{
    int failures, none = 0;

    meet(parent, false);
    failures = test_failures();
    MPI_Reduce(&failures, &none, 1, MPI_INT, MPI_SUM, 0, parent);
    MPI_Comm_disconnect(&parent);
}

static void parent(char *program, int children)
{
    MPI_Comm inter;
    int failures = 0;

    MPI_Comm_spawn(program, MPI_ARGV_NULL, children, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &inter,
                   MPI_ERRCODES_IGNORE);
    meet(inter, true);
    MPI_Reduce(NULL, &failures, 1, MPI_INT, MPI_SUM, 0 == test.rank ? MPI_ROOT : MPI_PROC_NULL,
               inter);
    CHECK(0 == failures, "the children have %d failures", failures);
    MPI_Comm_disconnect(&inter);
    use(MPI_COMM_WORLD, 11, "the parents' world without children");
}

int main(int argc, char **argv)
{
    MPI_Comm parents;

    test_options(argc, argv, "children rounds");
    test_begin(&argc, &argv, "spawn");
    test_use_gpu();
    const int children = (int) test_number("children", 2), rounds = (int) test_number("rounds", 2);
    space = checked_allocate(GPU_DEVICE, BYTES);
    MPI_Comm_get_parent(&parents);
    if (MPI_COMM_NULL != parents) {
        child(parents);
        checked_free(&space);
        return test_end_silently();
    }
    for (int i = 0; i < rounds; ++i) {
        parent(argv[0], children);
    }
    checked_free(&space);
    return test_end("%d children, %d times", children, rounds);
}
