#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* dladdr */
#endif

#include "car_free_source.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/*
 * One that is in the process already, as MPI's own UCX, is the one whose hooks are in place: a
 * second would hook what the first has hooked. It is libucs that is opened: libucm needs it and
 * does not say so, and finds it as it comes along. All symbols are looked up now, as one that is
 * missing would end the process later. The references that dlopen counts are kept: the hooks must
 * not outlive the library.
 */
static void *open_ucx(const char *library)
{
    const char *slash = strrchr(library, '/');
    void *ucx = dlopen(NULL == slash ? library : slash + 1, RTLD_NOW | RTLD_NOLOAD);

    return NULL != ucx ? ucx : dlopen(library, RTLD_NOW);
}

/*
 * The hooks on CUDA are a module beside libucm, which the rest of UCX loads, and so do we where
 * nobody uses UCX. It registers itself with that, so it comes before the handler.
 */
static bool open_cuda_hooks(const void *symbol)
{
    char path[PATH_MAX];
    Dl_info where;

    if (0 == dladdr(symbol, &where) || NULL == where.dli_fname) {
        return false;
    }
    const char *slash = strrchr(where.dli_fname, '/');
    const int folder = NULL == slash ? 0 : (int) (slash + 1 - where.dli_fname);
    const int length =
        snprintf(path, sizeof(path), "%.*sucx/libucm_cuda.so.0", folder, where.dli_fname);
    return length > 0 && (size_t) length < sizeof(path) && NULL != dlopen(path, RTLD_NOW);
}

bool car_free_source_open(const char *library, car_ucm_callback_t callback)
{
    void *ucx = NULL != library && '\0' != *library ? open_ucx(library) : NULL;
    void *symbol = NULL != ucx ? dlsym(ucx, "ucm_set_event_handler") : NULL;
    car_ucm_set_handler_t set;

    if (NULL == symbol || !open_cuda_hooks(symbol)) {
        return false;
    }
    memcpy(&set, &symbol, sizeof(set));
    return 0 == set(CAR_UCM_EVENT_MEM_TYPE_FREE, 0, callback, NULL);
}
