/*
 * car_cuda_api.h says of constants, structures and entry points what the toolkit's cuda.h says.
 * Signatures are compared when this is compiled. Skipped where the build found no toolkit.
 */
#include <stdio.h>
#include <string.h>

#include "cuda_abi.h"

int main(void)
{
    int failures = 0;

    if (0 == cuda_abi_theirs_count) {
        printf("skip: no CUDA toolkit was found when this was built\n");
        return 77;
    }
    if (cuda_abi_ours_count != cuda_abi_theirs_count) {
        printf("FAILED: %d entries of ours, %d of cuda.h\n", cuda_abi_ours_count,
               cuda_abi_theirs_count);
        return 1;
    }
    for (int i = 0; i < cuda_abi_ours_count; ++i) {
        if (cuda_abi_ours[i].value != cuda_abi_theirs[i].value) {
            printf("FAILED: %s is %lld in car_cuda_api.h and %lld in cuda.h\n",
                   cuda_abi_ours[i].name, cuda_abi_ours[i].value, cuda_abi_theirs[i].value);
            ++failures;
        }
    }
    printf("%d constants, sizes and offsets compared\n", cuda_abi_ours_count);
    return 0 != failures;
}
