/*
 * Our own short form of a header that ompi/op/op.h includes and that no Open MPI installs.
 * Searched last (-idirafter), so an installed one wins.
 */
#ifndef OMPI_FORTRAN_BASE_FINT_2_INT_H
#define OMPI_FORTRAN_BASE_FINT_2_INT_H

#include "ompi_config.h"
#include "mpi.h"

#define OMPI_INT_2_FINT(value) ((MPI_Fint) (value))
#define OMPI_FINT_2_INT(value) ((int) (value))

#endif /* OMPI_FORTRAN_BASE_FINT_2_INT_H */
