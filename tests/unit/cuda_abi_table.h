/*
 * The table, in terms of whichever header was included before. cuda_abi_lists.h is made from
 * car_cuda_api.h by the build: CAR_ABI_CONSTANTS(X) has all its constants, and the lists of entry
 * points stand in it as they do there.
 */
#include <stddef.h>

#include "cuda_abi.h"
#include "cuda_abi_lists.h"

#define CONSTANT(name) {#name, (long long) (name)},
#define SIZE(type) {"sizeof " #type, (long long) sizeof(type)},
#define OFFSET(type, member) {#type "." #member, (long long) offsetof(type, member)},

#define CUDA_ABI_TABLE                                                                             \
    CAR_ABI_CONSTANTS(CONSTANT)                                                                    \
    CONSTANT((unsigned long long) CU_STREAM_LEGACY)                                                \
    CONSTANT((unsigned long long) CU_STREAM_PER_THREAD)                                            \
    SIZE(CUdevice)                                                                                 \
    SIZE(CUdeviceptr)                                                                              \
    SIZE(CUmemGenericAllocationHandle)                                                             \
    SIZE(CUuuid)                                                                                   \
    SIZE(CUipcMemHandle)                                                                           \
    SIZE(CUipcEventHandle)                                                                         \
    SIZE(NODE_PARAMS)                                                                              \
    OFFSET(NODE_PARAMS, func)                                                                      \
    OFFSET(NODE_PARAMS, gridDimX)                                                                  \
    OFFSET(NODE_PARAMS, blockDimX)                                                                 \
    OFFSET(NODE_PARAMS, sharedMemBytes)                                                            \
    OFFSET(NODE_PARAMS, kernelParams)                                                              \
    OFFSET(NODE_PARAMS, extra)                                                                     \
    SIZE(CUmemLocation)                                                                            \
    OFFSET(CUmemLocation, id)                                                                      \
    SIZE(CUmemAllocationProp)                                                                      \
    OFFSET(CUmemAllocationProp, requestedHandleTypes)                                              \
    OFFSET(CUmemAllocationProp, location)                                                          \
    OFFSET(CUmemAllocationProp, win32HandleMetaData)                                               \
    OFFSET(CUmemAllocationProp, allocFlags)                                                        \
    SIZE(CUmemAccessDesc)                                                                          \
    OFFSET(CUmemAccessDesc, flags)
