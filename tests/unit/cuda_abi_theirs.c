#include "cuda_abi.h"

#if CAR_HAVE_CUDA_H

/*
 * With this, the names of old versions stand for themselves, as they do for dlsym, and not for the
 * newest.
 */
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#define NODE_PARAMS CUDA_KERNEL_NODE_PARAMS_v1
#include "cuda_abi_table.h"

/*
 * The parameters that we call an entry point with are those that it is declared with: else this
 * does not compile.
 */
#define CUDA_KERNEL_NODE_PARAMS CUDA_KERNEL_NODE_PARAMS_v1
#define SIGNATURE(field, symbol, parameters)                                                       \
    _Static_assert(__builtin_types_compatible_p(__typeof__(symbol), CUresult parameters), #symbol);
CAR_CUDA_NEEDED(SIGNATURE)
CAR_CUDA_OPTIONAL(SIGNATURE)

const cuda_abi_t cuda_abi_theirs[] = {CUDA_ABI_TABLE};
const int cuda_abi_theirs_count = sizeof(cuda_abi_theirs) / sizeof(cuda_abi_theirs[0]);

#else

const cuda_abi_t cuda_abi_theirs[] = {{"", 0}};
const int cuda_abi_theirs_count = 0;

#endif
