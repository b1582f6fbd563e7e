/*
 * A program that never uses CUDA: MPI_Allreduce on host memory, and then which CUDA libraries this
 * process has mapped, which device files it has open, and, on simulated GPUs, how often it called
 * the driver to begin with. The suite compares that with a run without coll/car.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "testing.h"

#define COUNT 1000

static int cuda_libraries(void)
{
    char line[PATH_MAX + 200];
    int n = 0;
    FILE *maps = fopen("/proc/self/maps", "r");

    while (NULL != maps && NULL != fgets(line, sizeof(line), maps)) {
        n += NULL != strstr(line, "libcuda.so") || NULL != strstr(line, "libnvidia");
    }
    if (NULL != maps) {
        fclose(maps);
    }
    return n;
}

static int device_files(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");

    for (struct dirent *e; NULL != d && NULL != (e = readdir(d));) {
        char name[300], target[PATH_MAX] = "";
        snprintf(name, sizeof(name), "/proc/self/fd/%s", e->d_name);
        if (readlink(name, target, sizeof(target) - 1) > 0) {
            n += NULL != strstr(target, "/dev/nvidia");
        }
    }
    if (NULL != d) {
        closedir(d);
    }
    return n;
}

/* Where the process has a simulated driver. */
static long initialisations(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    long (*count)(const char *) =
        NULL == library ? NULL : (long (*)(const char *)) dlsym(library, "simgpu_call_count");

    return NULL == count
               ? 0
               : count("cuInit") + count("cuDevicePrimaryCtxRetain") + count("cuCtxCreate");
}

int main(int argc, char **argv)
{
    int data[COUNT];

    test_options(argc, argv, "");
    test_begin(&argc, &argv, "nocuda");
    for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < COUNT; ++i) {
            data[i] = test.rank + i;
        }
        MPI_Allreduce(MPI_IN_PLACE, data, COUNT, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
        for (int i = 0; i < COUNT; ++i) {
            const int wanted = test.size * (test.size - 1) / 2 + test.size * i;
            if (!CHECK(data[i] == wanted, "element %d is %d, not %d", i, data[i], wanted)) {
                break;
            }
        }
    }
    return test_end(
        "CUDA libraries mapped in %d places, device files open %d, driver initialised %ld times",
        cuda_libraries(), device_files(), initialisations());
}
