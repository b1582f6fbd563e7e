#include "bench.h"

#include <stdlib.h>

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

double bench_median(double *numbers, int n)
{
    qsort(numbers, (size_t) n, sizeof(double), ascending);
    return n % 2 ? numbers[n / 2] : (numbers[n / 2 - 1] + numbers[n / 2]) / 2;
}

static double median_over_ranks(const double *mine, int n, MPI_Op op)
{
    double *all = malloc((size_t) n * sizeof(double));

    MPI_Reduce(mine, all, n, MPI_DOUBLE, op, 0, MPI_COMM_WORLD);
    const double median = 0 == test.rank ? bench_median(all, n) : 0;
    free(all);
    return median;
}

double bench_median_of_means(const double *mine, int n)
{
    return median_over_ranks(mine, n, MPI_SUM) / test.size;
}

double bench_median_of_slowest(const double *mine, int n)
{
    return median_over_ranks(mine, n, MPI_MAX);
}

int bench_calls_for(double seconds, double microseconds, int least, int most)
{
    /* 5 us: a barrier and reading the clock */
    const double wanted = seconds * 1e6 / (microseconds + 5);
    int calls = wanted < least ? least : wanted > most ? most : (int) wanted;

    MPI_Bcast(&calls, 1, MPI_INT, 0, MPI_COMM_WORLD);
    return calls;
}
