# car_bench, built by make; it shares the tests' way to the driver and to the component's counters.
noinst_PROGRAMS += bench/car_bench

bench_car_bench_SOURCES = \
	bench/car_bench.c bench/bench.h bench/call.c bench/data.c bench/files.c bench/links.c bench/machine.c bench/measure.c \
	bench/nccl.c bench/options.c bench/overlap.c bench/phases.c bench/plot.c bench/probe.c bench/reference.c bench/report.c \
	bench/statistics.c \
	bench/bench_image.c bench/bench_image.h bench/bench_kernel_args.h
bench_car_bench_CPPFLAGS = -I$(srcdir)/coll_car -I$(srcdir)/tests/mpi -I$(srcdir)/kernels -I$(srcdir)/bench \
	$(MPI_CPPFLAGS) -DCAR_HAVE_FATBINS=$(car_have_fatbins)
bench_car_bench_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
bench_car_bench_LDADD = tests/mpi/libcommon.la $(MPI_LIBS) -ldl -lm

EXTRA_DIST += bench/bench_kernels.cu bench/reference.cuh

if HAVE_NVCC
bench_object = bench/car_bench-bench_image.o
$(bench_object): bench/bench_kernels.fatbin
CLEANFILES += bench/bench_kernels.fatbin bench/bench_kernels.fatbin.d
-include bench/bench_kernels.fatbin.d
endif
