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

/* A kernel with its grid and its one argument, a struct of so many bytes, which is copied. */
typedef struct {
    CUfunction function;
    uint32_t blocks, threads;
    void *argument;
    size_t bytes;
} car_launch_t;

/* Of an argument that can be foreseen, at most. */
#define CAR_FORESEEN_BYTES 512

/*
 * The launch that a stream is expected to get next. Programs make the same call again and again,
 * and setting a graph's parameters takes a third as long as launching it (0.6 and 1.9 us on one
 * H200, November 2026): it is done while the kernel before runs, if that had been foreseen, too.
 */
typedef struct {
    car_graph_t *graph;  /* NULL: nothing is foreseen */
    car_launch_t launch; /* its argument is the copy below */
    bool again;          /* the launch before this one came as foreseen */
    bool set;            /* the graph has these parameters */
    _Alignas(8) unsigned char argument[CAR_FORESEEN_BYTES];
} car_foreseen_t;

/*
 * Launches on a stream of the current context. `foreseen` is that of all launches of this graph, or
 * NULL; afterwards nothing is foreseen. CUDA_SUCCESS or the driver's result.
 */
CUresult car_launch(const car_cuda_t *cuda, car_launch_how_t how, car_graph_t *graph,
                    const car_launch_t *launch, car_foreseen_t *foreseen, CUstream stream);

/* What comes next, behind car_launch() of that graph; its argument is copied. */
void car_launch_foresee(car_foreseen_t *foreseen, car_graph_t *graph, const car_launch_t *next);

/* Whether preparing is worth it. */
static inline bool car_launch_wants_preparing(const car_foreseen_t *foreseen)
{
    return NULL != foreseen->graph && foreseen->again && !foreseen->set;
}

/*
 * For who has nothing to do until a kernel ends: sets what is foreseen, if that is worth it. Where
 * the driver refuses, the launch will say so.
 */
void car_launch_prepare(const car_cuda_t *cuda, car_foreseen_t *foreseen);

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
