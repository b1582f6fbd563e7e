#include "form.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Open MPI 5.0 has persistent collectives, although it says MPI 3.1; 4.1 has them as an extension.
 */
#if MPI_VERSION >= 4 || OMPI_MAJOR_VERSION >= 5
#define FORM_STANDARD 1
#else
#include <mpi-ext.h>
#endif

unsigned long long form_starts = 1;

form_t form(void)
{
    const char *name = getenv("CAR_TEST_FORM");

    return NULL == name || 0 == strcmp(name, "blocking") ? FORM_BLOCKING
           : 0 == strcmp(name, "nonblocking")            ? FORM_NONBLOCKING
           : 0 == strcmp(name, "persistent")
               ? FORM_PERSISTENT
               : (fprintf(stderr, "CAR_TEST_FORM=%s?\n", name), exit(2), FORM_BLOCKING);
}

bool form_has_persistent(void)
{
#if defined(FORM_STANDARD) || defined(OMPI_HAVE_MPI_EXT_PCOLLREQ)
    return true;
#else
    return false;
#endif
}

int form_allreduce_init(const void *sbuf, void *rbuf, int count, MPI_Datatype type, MPI_Op op,
                        MPI_Comm comm, MPI_Request *request)
{
#if defined(FORM_STANDARD)
    return MPI_Allreduce_init(sbuf, rbuf, count, type, op, comm, MPI_INFO_NULL, request);
#elif defined(OMPI_HAVE_MPI_EXT_PCOLLREQ)
    return MPIX_Allreduce_init(sbuf, rbuf, count, type, op, comm, MPI_INFO_NULL, request);
#else
    (void) sbuf;
    (void) rbuf;
    (void) count;
    (void) type;
    (void) op;
    (void) comm;
    (void) request;
    return MPI_ERR_UNSUPPORTED_OPERATION;
#endif
}

bool form_may_be_open_mpis(int count, MPI_Datatype type, MPI_Op op)
{
    return 1 == count && MPI_INT == type && (MPI_MIN == op || MPI_MAX == op);
}

bool form_is_left(int count, MPI_Datatype type, MPI_Op op)
{
    return FORM_NONBLOCKING == form() && form_may_be_open_mpis(count, type, op);
}

unsigned long long form_calls(bool in_place)
{
    return FORM_PERSISTENT == form() && !in_place ? form_starts : 1;
}

static int nonblocking(const void *sbuf, void *rbuf, int count, MPI_Datatype type, MPI_Op op,
                       MPI_Comm comm)
{
    MPI_Request request;

    const int rc = MPI_Iallreduce(sbuf, rbuf, count, type, op, comm, &request);
    return MPI_SUCCESS == rc ? MPI_Wait(&request, MPI_STATUS_IGNORE) : rc;
}

static int persistent(const void *sbuf, void *rbuf, int count, MPI_Datatype type, MPI_Op op,
                      MPI_Comm comm)
{
    MPI_Request request;

    int rc = form_allreduce_init(sbuf, rbuf, count, type, op, comm, &request);
    if (MPI_SUCCESS != rc) {
        return rc;
    }
    for (unsigned long long start = 0;
         start < form_calls(MPI_IN_PLACE == sbuf) && MPI_SUCCESS == rc; ++start) {
        rc = MPI_Start(&request);
        rc = MPI_SUCCESS == rc ? MPI_Wait(&request, MPI_STATUS_IGNORE) : rc;
    }
    /* Open MPI frees requests that have failed, persistent ones, too. */
    const int freed = MPI_REQUEST_NULL == request ? MPI_SUCCESS : MPI_Request_free(&request);
    return MPI_SUCCESS == rc ? freed : rc;
}

/* In the place of the library's, which stays reachable as PMPI_Allreduce. */
int MPI_Allreduce(const void *sbuf, void *rbuf, int count, MPI_Datatype type, MPI_Op op,
                  MPI_Comm comm)
{
    switch (form()) {
    case FORM_NONBLOCKING:
        return nonblocking(sbuf, rbuf, count, type, op, comm);
    case FORM_PERSISTENT:
        return persistent(sbuf, rbuf, count, type, op, comm);
    default:
        return PMPI_Allreduce(sbuf, rbuf, count, type, op, comm);
    }
}
