/*
 * The form of a program's allreduces: its MPI_Allreduce is done as what the environment's
 * CAR_TEST_FORM says, blocking (default), nonblocking (MPI_Iallreduce, then MPI_Wait) or persistent
 * (MPI_Allreduce_init, one start or more, MPI_Request_free). So one program, one table of cases,
 * tests all forms.
 */
#ifndef TEST_FORM_H
#define TEST_FORM_H

#include <mpi.h>
#include <stdbool.h>

typedef enum { FORM_BLOCKING, FORM_NONBLOCKING, FORM_PERSISTENT } form_t;

form_t form(void);

/* Whether this MPI has persistent collectives. */
bool form_has_persistent(void);

/* MPI_Allreduce_init or what this MPI calls it. */
int form_allreduce_init(const void *sbuf, void *rbuf, int count, MPI_Datatype type, MPI_Op op,
                        MPI_Comm comm, MPI_Request *request);

/*
 * A nonblocking call of that shape may be one of Open MPI's own while it makes communicators, so
 * coll/car leaves it to the saved module.
 */
bool form_may_be_open_mpis(int count, MPI_Datatype type, MPI_Op op);

/* Whether this program's allreduces are nonblocking, and one of that shape. */
bool form_is_left(int count, MPI_Datatype type, MPI_Op op);

/*
 * How often a persistent request is started, unless it is in place, where a second start would have
 * another operand; 1.
 */
extern unsigned long long form_starts;

/*
 * Calls that a program's MPI_Allreduce comes to, where kernels serve it; a persistent request that
 * is left counts once.
 */
unsigned long long form_calls(bool in_place);

#endif /* TEST_FORM_H */
