/*
 * Where the time of a call goes, as the component counts it: MPI_T performance variables
 * coll_car_ns_<phase>, sums of nanoseconds. A component without them, or none, leaves their columns
 * out.
 */
#include "bench.h"

#include <stdio.h>

static const char *const names[BENCH_PHASES] = {"post", "launch", "wait", "other"};

static MPI_T_pvar_session session;
static struct {
    bool known;
    MPI_T_pvar_handle handle;
} timers[BENCH_PHASES];

static bool find(int phase)
{
    static const int classes[] = {MPI_T_PVAR_CLASS_COUNTER, MPI_T_PVAR_CLASS_AGGREGATE,
                                  MPI_T_PVAR_CLASS_TIMER};
    char name[64];
    int index, count;

    snprintf(name, sizeof(name), "coll_car_ns_%s", names[phase]);
    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); ++i) {
        if (MPI_SUCCESS == MPI_T_pvar_get_index(name, classes[i], &index)) {
            return MPI_SUCCESS
                       == MPI_T_pvar_handle_alloc(session, index, NULL, &timers[phase].handle,
                                                  &count)
                   && 1 == count;
        }
    }
    return false;
}

void bench_phases_open(void)
{
    int provided;

    MPI_T_init_thread(MPI_THREAD_SINGLE, &provided);
    MPI_T_pvar_session_create(&session);
    for (int i = 0; i < BENCH_PHASES; ++i) {
        int known = find(i);
        MPI_Allreduce(MPI_IN_PLACE, &known, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
        timers[i].known = 0 != known;
    }
}

const char *bench_phase_name(int phase)
{
    return names[phase];
}

bool bench_phase_known(int phase)
{
    return timers[phase].known;
}

void bench_phases_read(double nanoseconds[BENCH_PHASES])
{
    for (int i = 0; i < BENCH_PHASES; ++i) {
        unsigned long long value = 0;
        if (timers[i].known) {
            MPI_T_pvar_read(session, timers[i].handle, &value);
        }
        nanoseconds[i] = (double) value;
    }
}
