/*
 * How a kernel gets onto a stream.
 */
#ifndef CAR_LAUNCH_H
#define CAR_LAUNCH_H

#include "car_cuda.h"
#include "car_params.h"

/* A launchable kernel: a graph of one node whose parameters are set before each launch; all NULL until first used. */
typedef struct {
    CUgraph graph;
    CUgraphNode node;
    CUgraphExec exec;
} car_graph_t;

/*
 * Launches `function` with one argument, a struct that is copied, on a stream of the current context. CUDA_SUCCESS or the
 * driver's result.
 */
CUresult car_launch(const car_cuda_t *cuda, car_launch_how_t how, car_graph_t *graph, CUfunction function, uint32_t blocks,
                    uint32_t threads, CUstream stream, void *argument);

void car_graph_destroy(const car_cuda_t *cuda, car_graph_t *graph);

#endif /* CAR_LAUNCH_H */
