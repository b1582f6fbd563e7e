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

double bench_median_of_means(const double *mine, int n)
{
    double *sums = malloc((size_t) n * sizeof(double));

    MPI_Reduce(mine, sums, n, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    const double median = 0 == test.rank ? bench_median(sums, n) / test.size : 0;
    free(sums);
    return median;
}

int bench_calls_for(double seconds, double microseconds, int least, int most)
{
    const double wanted = seconds * 1e6 / (microseconds + 5); /* 5 us: a barrier and reading the clock */
    int calls = wanted < least ? least : wanted > most ? most : (int) wanted;

    MPI_Bcast(&calls, 1, MPI_INT, 0, MPI_COMM_WORLD);
    return calls;
}
