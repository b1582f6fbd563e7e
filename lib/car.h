/*
 * libcar: reductions of 16-bit floats, for any MPI.
 *
 *     MPI_Op sum;
 *     CAR_Op_create_bf16_sum(&sum);
 *     MPI_Allreduce(MPI_IN_PLACE, gradients, count, MPI_UINT16_T, sum, MPI_COMM_WORLD);
 *     MPI_Op_free(&sum);
 *
 * bf16 is the upper half of a float32 (8 bits of exponent, 7 of mantissa); half is IEEE 754
 * binary16 (5 and 10).
 *
 * Datatypes. An operation takes whatever consists of elements of 2 bytes: MPI_UINT16_T,
 * MPI_INT16_T, MPI_SHORT, MPI_UNSIGNED_SHORT, Open MPI's MPIX_SHORT_FLOAT, and datatypes derived
 * from these, with or without gaps. What is not of the elements (padding, gaps) is not touched. A
 * datatype of whose data nothing can be said (an odd size, a predefined one of another size than 2,
 * elements of 2 GB or more) ends the program by MPI_Abort with a message: MPI gives the function of
 * an operation no other way to fail. That members of a derived datatype have 2 bytes is not checked
 * beyond that. The data of datatypes with gaps inside go through MPI_Pack, which takes longer.
 *
 * Rounding. Each step converts both operands to float32, operates there, and rounds to the nearest
 * number of the type, ties to even; overflow gives an infinity, denormal numbers count (those of
 * bf16 are denormal in float32 too: a processor that is told to take these for zero does so here).
 * MPI applies a step to two operands at a time, so with n ranks a result is rounded n - 1 times, in
 * an order that MPI chooses. coll/car's kernels for GPU buffers accumulate in float32 in the order
 * of the ranks and round once at the end: their results are more accurate, and need not be the same
 * bits. With 2 ranks, and wherever no rounding takes place, both agree.
 *
 * MIN and MAX keep what is there unless the next is less (greater): acc = next < acc ? next : acc.
 * A NaN does not compare: it stays where it is the accumulator and is passed over where it is the
 * next, so with NaN among the operands, or zeros of both signs, the result depends on the order
 * that MPI chooses. A NaN that is a result is a quiet one.
 *
 * All operations are commutative to MPI (MPI_Op_commutative).
 */
#ifndef CAR_H
#define CAR_H

#include <mpi.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Each creates an operation, which the caller frees with MPI_Op_free. MPI_ERR_ARG where `op` is
 * NULL, or else what MPI_Op_create returns. Like that, they may be called once MPI is initialised.
 */
int CAR_Op_create_bf16_sum(MPI_Op *op);
int CAR_Op_create_bf16_prod(MPI_Op *op);
int CAR_Op_create_bf16_min(MPI_Op *op);
int CAR_Op_create_bf16_max(MPI_Op *op);
int CAR_Op_create_half_sum(MPI_Op *op);
int CAR_Op_create_half_prod(MPI_Op *op);
int CAR_Op_create_half_min(MPI_Op *op);
int CAR_Op_create_half_max(MPI_Op *op);

/*
 * For MPI components, not for programs: the functions that the operations above are made with, so
 * that a component can tell what an operation computes by the address of its function, and compute
 * it elsewhere. A component finds the table by dlsym in what dlopen("libcar.so.0", RTLD_NOLOAD)
 * gives, or in RTLD_DEFAULT; a program that is linked with libcar.a shows it there only if it
 * exports it (-rdynamic). The last entry's function is NULL. Entries may be added before it.
 */
typedef struct {
    MPI_User_function *function;
    const char *name; /* "bf16_sum", "bf16_prod", "bf16_min", "bf16_max", "half_sum", ... */
} car_op_entry_t;

extern const car_op_entry_t CAR_Op_functions[];

#ifdef __cplusplus
}
#endif

#endif /* CAR_H */
