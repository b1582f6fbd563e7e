# car_bench, built by make; it shares the tests' way to the driver and to the component's counters.
noinst_PROGRAMS += bench/car_bench

bench_car_bench_SOURCES = \
	bench/car_bench.c bench/bench.h bench/call.c bench/data.c bench/files.c bench/links.c bench/machine.c bench/measure.c \
	bench/nccl.c bench/options.c bench/overlap.c bench/peers.c bench/phases.c bench/plot.c bench/probe.c bench/reference.c bench/report.c \
	bench/statistics.c \
	bench/bench_image.c bench/bench_image.h bench/bench_kernel_args.h
bench_car_bench_CPPFLAGS = -I$(srcdir)/coll_car -I$(srcdir)/tests/mpi -I$(srcdir)/kernels -I$(srcdir)/bench \
	$(MPI_CPPFLAGS) -DCAR_HAVE_FATBINS=$(car_have_fatbins)
bench_car_bench_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
bench_car_bench_LDADD = tests/mpi/libcommon.la $(MPI_LIBS) -ldl -lm

# What an iteration of a program costs, with and without kernels that stay; bench/stay_table runs it.
noinst_PROGRAMS += bench/car_gaps
bench_car_gaps_SOURCES = bench/car_gaps.c
bench_car_gaps_CPPFLAGS = $(bench_car_bench_CPPFLAGS) -I$(srcdir)/tests/kernels
bench_car_gaps_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
bench_car_gaps_LDADD = $(bench_car_bench_LDADD)
EXTRA_DIST += bench/stay_table bench/compare bench/questions
EXTRA_DIST += bench/bench_kernels.cu bench/reference.cuh

if HAVE_NVCC
bench_object = bench/car_bench-bench_image.o
$(bench_object): bench/bench_kernels.fatbin
CLEANFILES += bench/bench_kernels.fatbin bench/bench_kernels.fatbin.d
-include bench/bench_kernels.fatbin.d
endif

# For the tests: NCCL's entry points without NCCL.
check_LTLIBRARIES += bench/libnccl_stand_in.la
bench_libnccl_stand_in_la_SOURCES = bench/nccl_stand_in.c
bench_libnccl_stand_in_la_CPPFLAGS = -I$(srcdir)/coll_car $(MPI_CPPFLAGS)
bench_libnccl_stand_in_la_CFLAGS = -std=gnu11 -Wall -Wextra
bench_libnccl_stand_in_la_LDFLAGS = -rpath /nowhere -module -avoid-version
bench_libnccl_stand_in_la_LIBADD = $(MPI_LIBS) -ldl

# A run, of `car_bench --csv RUN` on a GPU machine, beside a stored one of such a machine.
.PHONY: bench-check
bench-check:
	@if test -z "$(RUN)" || test -z "$(STORED)"; then \
		echo "usage: make bench-check RUN=new.csv STORED=old.csv, both written by car_bench --csv"; exit 2; fi
	$(PYTHON3) -B $(srcdir)/bench/bench_check.py "$(RUN)" "$(STORED)"
PYTHON3 = python3

EXTRA_DIST += bench/bench_check.py bench/bench_csv.py bench/cost_model.py bench/plot_tables.py bench/thresholds.py
