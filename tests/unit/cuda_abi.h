/*
 * What car_cuda_api.h and the toolkit's cuda.h each say of the same things; two objects, as no file
 * can include both.
 */
#ifndef CUDA_ABI_H
#define CUDA_ABI_H

typedef struct {
    const char *name;
    long long value; /* of a constant; or a size, or an offset */
} cuda_abi_t;

/* Both in the same order and of the same length; `theirs` is empty where there was no toolkit. */
extern const cuda_abi_t cuda_abi_ours[], cuda_abi_theirs[];
extern const int cuda_abi_ours_count, cuda_abi_theirs_count;

#endif /* CUDA_ABI_H */
