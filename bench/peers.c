/* The ranks' memory, mapped by all of them. */
#include "bench.h"

bool bench_map_peers(CUdeviceptr own, CUdeviceptr mapped[])
{
    CUipcMemHandle mine, all[BENCH_MAX_RANKS];
    int possible = 1;

    GPU_OK(gpu.IpcGetMemHandle(&mine, own));
    MPI_Allgather(&mine, sizeof(mine), MPI_BYTE, all, sizeof(mine), MPI_BYTE, MPI_COMM_WORLD);
    for (int r = 0; r < test.size; ++r) {
        if (r == test.rank) {
            mapped[r] = own;
        } else if (CUDA_SUCCESS
                   != gpu.IpcOpenMemHandle(&mapped[r], all[r],
                                           CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)) {
            mapped[r] = 0;
            possible = 0;
        }
    }
    MPI_Allreduce(MPI_IN_PLACE, &possible, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    return 0 != possible;
}

void bench_unmap_peers(CUdeviceptr mapped[])
{
    for (int r = 0; r < test.size; ++r) {
        if (r != test.rank && 0 != mapped[r]) {
            GPU_OK(gpu.IpcCloseMemHandle(mapped[r]));
        }
    }
    MPI_Barrier(MPI_COMM_WORLD);
}
