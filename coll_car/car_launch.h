/*
 * How a kernel gets onto a stream.
 */
#ifndef CAR_LAUNCH_H
#define CAR_LAUNCH_H

#include "car_cuda.h"
#include "car_device.h"
#include "car_params.h"

/*
 * A launchable kernel: a graph of one node whose parameters are set before each launch; all NULL
 * until first used.
 */
typedef struct {
    CUgraph graph;
    CUgraphNode node;
    CUgraphExec exec;
} car_graph_t;

/*
 * Launches `function` with one argument, a struct that is copied, on a stream of the current
 * context. CUDA_SUCCESS or the driver's result.
 */
CUresult car_launch(const car_cuda_t *cuda, car_launch_how_t how, car_graph_t *graph,
                    CUfunction function, uint32_t blocks, uint32_t threads, CUstream stream,
                    void *argument);

/*
 * Which way of launching the host hears of sooner on this driver, measured with a fold of nothing
 * on an idle stream of the current context: each way several times, in turns. Plain launches are
 * chosen where they take a tenth less, or graphs do not work; graphs where it cannot be told.
 * `line` is one of the device's words, index `word`, that nobody else uses; where *ended comes back
 * false a kernel may still store to it, and it must not be used for anything else. On a GPU that
 * others keep busy it gives up, after 60 ms at most.
 */
car_launch_how_t car_launch_choose(car_device_t *device, CUstream stream, int word, bool *ended);

void car_graph_destroy(const car_cuda_t *cuda, car_graph_t *graph);

#endif /* CAR_LAUNCH_H */
