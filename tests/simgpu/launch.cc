/* Modules, launches and graphs of kernel nodes. */
#include <string.h>

#include "simgpu.h"

const simgpu_kernel *simgpu_kernel_named(const char *name);

struct CUmod_st {
    CUctx_st *context;
    std::vector<std::unique_ptr<CUfunc_st>> functions;
};

struct CUfunc_st {
    const simgpu_kernel *kernel;
};

SIMGPU_API cuModuleLoadData(CUmodule *module, const void *image)
{
    SIMGPU_ENTER(true);
    CUctx_st *context;
    if (CUresult result = simgpu_need_context(&context)) {
        return result;
    }
    if (nullptr == image) {
        return CUDA_ERROR_INVALID_IMAGE;
    }
    *module = new CUmod_st{context, {}};
    return CUDA_SUCCESS;
}

SIMGPU_API cuModuleUnload(CUmodule module)
{
    SIMGPU_ENTER(true);
    delete module;
    return CUDA_SUCCESS;
}

SIMGPU_API cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    SIMGPU_ENTER(true);
    simgpu_guard guard(simgpu_lock);
    const simgpu_kernel *kernel = simgpu_kernel_named(name);
    if (nullptr == kernel) {
        return CUDA_ERROR_NOT_FOUND;
    }
    module->functions.emplace_back(new CUfunc_st{kernel});
    *function = module->functions.back().get();
    return CUDA_SUCCESS;
}

SIMGPU_API cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction)
{
    SIMGPU_ENTER(true);
    *value = CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK == attribute ? (int) simgpu_env("SIMGPU_BLOCK", 64) : 0;
    return CUDA_SUCCESS;
}

SIMGPU_API cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction, int threads, size_t)
{
    SIMGPU_ENTER(true);
    *blocks = (int) simgpu_resident_blocks((unsigned) threads);
    return CUDA_SUCCESS;
}

/* Copies the one argument of a kernel. */
static CUresult prepare(CUfunction function, unsigned grid, unsigned block, void **parameters, simgpu_launch *launch)
{
    if (nullptr == function || 0 == grid || 0 == block || (long) block > simgpu_env("SIMGPU_BLOCK", 64)
        || nullptr == parameters) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    const char *argument = (const char *) parameters[0];
    launch->kernel = function->kernel;
    launch->grid = grid;
    launch->block = block;
    launch->argument.assign(argument, argument + function->kernel->argument_bytes);
    return CUDA_SUCCESS;
}

static CUresult give(CUstream handle, simgpu_launch launch, simgpu_point *end)
{
    simgpu_guard guard(simgpu_lock);
    CUstream_st *stream = simgpu_stream(handle);
    if (nullptr == stream) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    CUctx_st *context = stream->context;
    if (!context->alive) {
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    }
    if (CUDA_SUCCESS != context->sticky) {
        return context->sticky;
    }
    if (stream->capturing) {
        return CUDA_SUCCESS; /* captured, and the graph of it is never looked at */
    }
    if (CUresult result = simgpu_legacy_check(stream)) {
        return result;
    }
    launch.context = context;
    *end = simgpu_give(stream, [context, launch] {
        if (CUDA_SUCCESS == context->sticky && !simgpu_run(launch)) {
            context->sticky = CUDA_ERROR_ILLEGAL_ADDRESS;
        }
    });
    return CUDA_SUCCESS;
}

static CUresult start(CUstream handle, const simgpu_launch &launch)
{
    static const bool blocking = 0 != simgpu_env("CUDA_LAUNCH_BLOCKING", 0);
    simgpu_point end;
    const CUresult result = give(handle, launch, &end);
    if (blocking) {
        simgpu_wait(end);
    }
    return result;
}

SIMGPU_API cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                          unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int,
                          CUstream stream, void **parameters, void **)
{
    SIMGPU_ENTER(true);
    simgpu_launch launch;
    if (1 != grid_y || 1 != grid_z || 1 != block_y || 1 != block_z) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    const CUresult result = prepare(function, grid_x, block_x, parameters, &launch);
    return CUDA_SUCCESS == result ? start(stream, launch) : result;
}

/* --- graphs ------------------------------------------------------------------------------------------------------------ */

struct CUgraphNode_st {
    simgpu_launch launch;
};

/* Nodes run in the order in which they were added, which every order that is asked for agrees with. */
struct CUgraph_st {
    std::vector<std::unique_ptr<CUgraphNode_st>> nodes;
};

struct CUgraphExec_st {
    std::map<CUgraphNode_st *, size_t> place;
    std::vector<simgpu_launch> launches;
};

SIMGPU_API cuGraphCreate(CUgraph *graph, unsigned int)
{
    SIMGPU_ENTER(true);
    *graph = new CUgraph_st();
    return CUDA_SUCCESS;
}

SIMGPU_API cuGraphDestroy(CUgraph graph)
{
    SIMGPU_ENTER(true);
    delete graph;
    return CUDA_SUCCESS;
}

SIMGPU_API cuGraphAddKernelNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *, size_t,
                                const CUDA_KERNEL_NODE_PARAMS *p)
{
    SIMGPU_ENTER(true);
    std::unique_ptr<CUgraphNode_st> made(new CUgraphNode_st());
    const CUresult result = prepare(p->func, p->gridDimX, p->blockDimX, p->kernelParams, &made->launch);
    if (CUDA_SUCCESS == result) {
        *node = made.get();
        graph->nodes.push_back(std::move(made));
    }
    return result;
}

SIMGPU_API cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long)
{
    SIMGPU_ENTER(true);
    *exec = new CUgraphExec_st();
    for (const auto &node : graph->nodes) {
        (*exec)->place[node.get()] = (*exec)->launches.size();
        (*exec)->launches.push_back(node->launch);
    }
    return CUDA_SUCCESS;
}

SIMGPU_API cuGraphExecKernelNodeSetParams(CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *p)
{
    SIMGPU_ENTER(true);
    const auto place = exec->place.find(node);
    if (exec->place.end() == place) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return prepare(p->func, p->gridDimX, p->blockDimX, p->kernelParams, &exec->launches[place->second]);
}

SIMGPU_API cuGraphExecDestroy(CUgraphExec exec)
{
    SIMGPU_ENTER(true);
    delete exec;
    return CUDA_SUCCESS;
}

SIMGPU_API cuGraphUpload(CUgraphExec, CUstream)
{
    SIMGPU_ENTER(true);
    return CUDA_SUCCESS;
}

SIMGPU_API cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
    SIMGPU_ENTER(true);
    for (const simgpu_launch &launch : exec->launches) {
        if (const CUresult result = start(stream, launch)) {
            return result;
        }
    }
    return CUDA_SUCCESS;
}
