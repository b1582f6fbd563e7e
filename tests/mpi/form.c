#include "form.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if MPI_VERSION < 4
#if defined(OMPI_HAVE_MPI_EXT) || defined(OPEN_MPI)
#include <mpi-ext.h>
#endif
#endif

form_t form(void)
{
    const char *name = getenv("CAR_TEST_FORM");

    return NULL == name || 0 == strcmp(name, "blocking")    ? FORM_BLOCKING
           : 0 == strcmp(name, "nonblocking")               ? FORM_NONBLOCKING
           : 0 == strcmp(name, "persistent")                ? FORM_PERSISTENT
                                                            : (fprintf(stderr, "CAR_TEST_FORM=%s?\n", name), exit(2), FORM_BLOCKING);
}

bool form_has_persistent(void)
{
#if MPI_VERSION >= 4 || defined(OMPI_HAVE_MPI_EXT_PCOLLREQ)
    return true;
#else
    return false;
#endif
}

int form_allreduce_init(const void *sbuf, void *rbuf, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm,
                        MPI_Request *request)
{
#if MPI_VERSION >= 4
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

bool form_is_left(int count, MPI_Datatype type, MPI_Op op)
{
    return FORM_NONBLOCKING == form() && 1 == count && MPI_INT == type && (MPI_MIN == op || MPI_MAX == op);
}

static int nonblocking(const void *sbuf, void *rbuf, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    MPI_Request request;

    const int rc = MPI_Iallreduce(sbuf, rbuf, count, type, op, comm, &request);
    return MPI_SUCCESS == rc ? MPI_Wait(&request, MPI_STATUS_IGNORE) : rc;
}

static int persistent(const void *sbuf, void *rbuf, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    MPI_Request request;

    int rc = form_allreduce_init(sbuf, rbuf, count, type, op, comm, &request);
    if (MPI_SUCCESS != rc) {
        return rc;
    }
    /* In place a second start would have another operand. */
    for (int start = 0; start < (MPI_IN_PLACE == sbuf ? 1 : 2) && MPI_SUCCESS == rc; ++start) {
        rc = MPI_Start(&request);
        rc = MPI_SUCCESS == rc ? MPI_Wait(&request, MPI_STATUS_IGNORE) : rc;
    }
    const int freed = MPI_Request_free(&request);
    return MPI_SUCCESS == rc ? freed : rc;
}

/* In the place of the library's, which stays reachable as PMPI_Allreduce. */
int MPI_Allreduce(const void *sbuf, void *rbuf, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
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
