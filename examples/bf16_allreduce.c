/*
 * The sum of bf16 numbers over all ranks, as a training step has it. docs/libcar.md says how to
 * compile this: with -DUSE_CUDA the numbers are in GPU memory, and coll/car or a CUDA-aware MPI is
 * needed.
 */
#include <car.h>
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef USE_CUDA
#include <cuda_runtime.h>
#endif

#define COUNT 1000000

/* Whole numbers of little size: cutting off the lower half of a float32 loses nothing. */
static uint16_t bf16(float whole)
{
    uint32_t bits;

    memcpy(&bits, &whole, sizeof(bits));
    return (uint16_t) (bits >> 16);
}

static void *allocate(size_t bytes)
{
    void *buffer = NULL;

#ifdef USE_CUDA
    cudaMalloc(&buffer, bytes);
#else
    buffer = malloc(bytes);
#endif
    if (NULL == buffer) {
        fprintf(stderr, "no memory\n");
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    return buffer;
}

static void copy(void *to, const void *from, size_t bytes)
{
#ifdef USE_CUDA
    cudaMemcpy(to, from, bytes, cudaMemcpyDefault);
#else
    memcpy(to, from, bytes);
#endif
}

static void release(void *buffer)
{
#ifdef USE_CUDA
    cudaFree(buffer);
#else
    free(buffer);
#endif
}

int main(int argc, char **argv)
{
    int rank, size, wrong = 0;
    MPI_Op sum;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
#ifdef USE_CUDA
    int devices = 1;
    cudaGetDeviceCount(&devices);
    cudaSetDevice(rank % devices);
#endif

    uint16_t *values = malloc(COUNT * sizeof(*values));
    uint16_t *gradients = allocate(COUNT * sizeof(*gradients));
    for (int i = 0; i < COUNT; ++i) {
        values[i] = bf16((float) (i % 8));
    }
    copy(gradients, values, COUNT * sizeof(*gradients));

    CAR_Op_create_bf16_sum(&sum);
    MPI_Allreduce(MPI_IN_PLACE, gradients, COUNT, MPI_UINT16_T, sum, MPI_COMM_WORLD);
    MPI_Op_free(&sum);

    copy(values, gradients, COUNT * sizeof(*gradients));
    for (int i = 0; i < COUNT; ++i) {
        wrong += values[i] != bf16((float) (i % 8 * size)); /* exact for up to 36 ranks */
    }
    printf("rank %d of %d: %d of %d sums are wrong\n", rank, size, wrong, COUNT);
    release(gradients);
    free(values);
    MPI_Finalize();
    return 0 != wrong;
}
