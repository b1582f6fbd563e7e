/* Every other symbol of libcuda, so that whatever links against it loads. */
#include <cstdio>

static int not_supported(const char *name, bool *said)
{
    if (!*said) {
        *said = true;
        fprintf(stderr, "simgpu: %s is not supported\n", name);
    }
    return 801; /* CUDA_ERROR_NOT_SUPPORTED */
}

#define UNSUPPORTED(name)                                                                                              \
    extern "C" __attribute__((visibility("default"))) int name()                                                       \
    {                                                                                                                  \
        static bool said;                                                                                              \
        return not_supported(#name, &said);                                                                            \
    }
#include "unsupported.def"
