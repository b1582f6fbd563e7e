/*
 * To be loaded before all other libraries (LD_PRELOAD): host memory that runs out for one of them.
 *
 *   SCARCE_FROM=TEXT    counts what libraries with TEXT in their file's name allocate
 *                       (mca_coll_car)
 *   SCARCE_FAIL=N[+]    the N-th allocation fails, with + all from the N-th on
 *   SCARCE_LOG=1        says at the end how many there were
 */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What glibc's own are called, too. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);

static atomic_long count;

static bool from_there(const void *caller)
{
    static __thread bool asking; /* dladdr may allocate */
    const char *from = getenv("SCARCE_FROM");
    Dl_info object;

    if (asking) {
        return false;
    }
    asking = true;
    const bool there = 0 != dladdr(caller, &object) && NULL != object.dli_fname
                       && NULL != strstr(object.dli_fname, NULL == from ? "mca_coll_car" : from);
    asking = false;
    return there;
}

static bool fails(const void *caller)
{
    const char *wish = getenv("SCARCE_FAIL");
    char *plus;

    if (!from_there(caller)) {
        return false;
    }
    const long number = ++count;
    if (NULL == wish) {
        return false;
    }
    const long first = strtol(wish, &plus, 10);
    return '+' == *plus ? number >= first : number == first;
}

void *malloc(size_t bytes)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t number, size_t bytes)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(number, bytes);
}

void *realloc(void *memory, size_t bytes)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(memory, bytes);
}

static void __attribute__((destructor)) say(void)
{
    if (NULL != getenv("SCARCE_LOG")) {
        fprintf(stderr, "scarce: %ld allocations\n", atomic_load(&count));
    }
}
