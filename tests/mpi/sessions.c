/*
 * Sessions of MPI 4: device memory on communicators of a session's groups, with MPI_COMM_WORLD at
 * the same time or without. One session is left before the next; the first stays open meanwhile, as
 * Open MPI 5.0.7 cannot begin anew after the last.
 *
 *   --world yes|no   MPI_Init besides (yes)
 *   --rounds N       of sessions (3)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"

#define BYTES 50000

#ifndef MPI_SESSION_NULL /* Open MPI 5.0 says that it is MPI 3.1, but has them */

int main(int argc, char **argv)
{
    test_options(argc, argv, "world rounds");
    test_begin(&argc, &argv, "sessions");
    test_skip("this Open MPI has no sessions");
}

#else

static checked_space_t space;

static void use(MPI_Comm comm, uint64_t seed, const char *what)
{
    checked_allreduce_by(CHECKED_BY_KERNELS, comm, &space, 40, seed, what);
    checked_allreduce_by(CHECKED_BY_KERNELS, comm, &space, BYTES, seed + 1, what);
}

/* A communicator of all ranks, as that session sees them. */
static MPI_Comm everybody(MPI_Session session, const char *tag)
{
    MPI_Group group;
    MPI_Comm comm;

    MPI_Group_from_session_pset(session, "mpi://WORLD", &group);
    MPI_Comm_create_from_group(group, tag, MPI_INFO_NULL, MPI_ERRORS_ARE_FATAL, &comm);
    MPI_Group_free(&group);
    return comm;
}

static MPI_Session begin(void)
{
    MPI_Session session;

    MPI_Session_init(MPI_INFO_NULL, MPI_ERRORS_ARE_FATAL, &session);
    return session;
}

static void one_round(int number, MPI_Comm others)
{
    char tag[40];
    MPI_Comm dup, part;
    int rank;
    MPI_Session session = begin();

    snprintf(tag, sizeof(tag), "coll/car sessions %d", number);
    MPI_Comm all = everybody(session, tag);
    MPI_Comm_rank(all, &rank);
    MPI_Comm_dup(all, &dup);
    MPI_Comm_split(all, rank % 2, -rank, &part);
    use(all, 1, "a session's communicator");
    use(others, 3, "another session's communicator");
    use(dup, 5, "a duplicate of a session's communicator");
    use(part, 7, "a part of a session's communicator");
    MPI_Comm_free(&all);
    use(dup, 9, "a duplicate after its origin");
    MPI_Comm_free(&dup);
    MPI_Comm_free(&part);
    MPI_Session_finalize(&session);
    use(others, 11, "another session's communicator afterwards");
}

int main(int argc, char **argv)
{
    int sum = 0;

    test_options(argc, argv, "world rounds");
    const bool world = 0 == strcmp(test_option("world", "yes"), "yes");
    if (world) {
        test_begin(&argc, &argv, "sessions");
    } else {
        gpu_load();
    }
    MPI_Session first = begin();
    MPI_Comm comm = everybody(first, "coll/car sessions, the first");
    if (!world) {
        test_begin_without_world("sessions", comm);
    }
    test_use_gpu();
    const int rounds = (int) test_number("rounds", 3);
    space = checked_allocate(GPU_DEVICE, BYTES);
    use(comm, 21, "the first session's communicator");
    for (int i = 0; i < rounds; ++i) {
        if (world) {
            use(MPI_COMM_WORLD, 23, "MPI_COMM_WORLD");
        }
        one_round(i, comm);
    }
    checked_free(&space);
    if (world) {
        MPI_Comm_free(&comm);
        MPI_Session_finalize(&first);
        return test_end("%d sessions beside MPI_COMM_WORLD", rounds + 1);
    }
    const int failures = test_failures();
    MPI_Allreduce(&failures, &sum, 1, MPI_INT, MPI_SUM, comm);
    if (0 == test.rank) {
        printf(0 == sum ? "ok sessions: %d ranks, %d sessions without MPI_Init\n"
                        : "FAILED sessions: %d ranks, %d sessions\n",
               test.size, rounds + 1);
    }
    MPI_Comm_free(&comm);
    MPI_Session_finalize(&first);
    return 0 != sum;
}

#endif
