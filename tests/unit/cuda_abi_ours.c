#include "car_cuda_api.h"

#define NODE_PARAMS CUDA_KERNEL_NODE_PARAMS
/* Those of the header itself, not the copies. */
#undef CAR_CUDA_NEEDED
#undef CAR_CUDA_OPTIONAL
#include "cuda_abi_table.h"

const cuda_abi_t cuda_abi_ours[] = {CUDA_ABI_TABLE};
const int cuda_abi_ours_count = sizeof(cuda_abi_ours) / sizeof(cuda_abi_ours[0]);
