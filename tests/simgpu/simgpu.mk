# The simulated CUDA driver: libcuda.so.1 and libnvidia-ml.so.1, and a folder tests/simgpu/lib of the build tree that
# holds nothing but links to them, to be put first on LD_LIBRARY_PATH.
#
# Kernels are compiled for the CPU by including their .cu in a .cc of tests/simgpu/kernels, with the folder of the
# simulated primitives first on the include path. Whoever has kernels of his own adds such a file to simgpu_kernels.

simgpu_kernels = \
	tests/simgpu/kernels/one_shot_push.cc tests/simgpu/kernels/two_shot_push.cc tests/simgpu/kernels/one_shot_pull.cc \
	tests/simgpu/kernels/two_shot.cc tests/simgpu/kernels/fold.cc tests/simgpu/kernels/one_shot_push_stay.cc \
	tests/simgpu/kernels/test_kernels.cc tests/simgpu/kernels/bench_kernels.cc tests/simgpu/kernels/litmus.cc

simgpu_sources = \
	tests/simgpu/copy.cc tests/simgpu/device.cc tests/simgpu/ipc.cc tests/simgpu/kernel.cc tests/simgpu/launch.cc tests/simgpu/memory.cc \
	tests/simgpu/stream.cc tests/simgpu/vmm.cc tests/simgpu/weak.cc tests/simgpu/unsupported.cc tests/simgpu/unsupported.def tests/simgpu/simgpu.h tests/simgpu/simgpu_kernel.h \
	tests/simgpu/litmus.h \
	tests/simgpu/device/car_primitives.cuh $(simgpu_kernels)

EXTRA_DIST += tests/kernels/test_kernels.cu tests/kernels/test_kernel_args.h

if SIMGPU
# noinst with an rpath makes libtool build shared libraries that are never installed.
noinst_LTLIBRARIES += tests/simgpu/libcuda.la tests/simgpu/libnvidia-ml.la

simgpu_cxxflags = -std=gnu++17 $(CAR_CXX_WARNINGS) -Wno-unknown-pragmas -fvisibility=hidden -ftls-model=initial-exec \
	-ffp-contract=off

tests_simgpu_libcuda_la_SOURCES = $(simgpu_sources)
tests_simgpu_libcuda_la_CPPFLAGS = -I$(srcdir)/tests/simgpu/device -I$(srcdir)/tests/simgpu -I$(srcdir)/coll_car \
	-I$(srcdir)/kernels
tests_simgpu_libcuda_la_CXXFLAGS = $(simgpu_cxxflags)
tests_simgpu_libcuda_la_LDFLAGS = -rpath /nowhere -version-info 1:0:0 -no-undefined
tests_simgpu_libcuda_la_LIBADD = -lpthread

tests_simgpu_libnvidia_ml_la_SOURCES = tests/simgpu/nvml.cc
tests_simgpu_libnvidia_ml_la_CXXFLAGS = $(simgpu_cxxflags)
tests_simgpu_libnvidia_ml_la_LDFLAGS = -rpath /nowhere -version-info 1:0:0 -no-undefined

simgpu_links = tests/simgpu/lib/libcuda.so.1 tests/simgpu/lib/libnvidia-ml.so.1
noinst_DATA += $(simgpu_links)
CLEANFILES += $(simgpu_links)

tests/simgpu/lib/libcuda.so.1: tests/simgpu/libcuda.la
	$(AM_V_GEN)$(MKDIR_P) $(@D) && ln -sf ../.libs/libcuda.so.1 $@

tests/simgpu/lib/libnvidia-ml.so.1: tests/simgpu/libnvidia-ml.la
	$(AM_V_GEN)$(MKDIR_P) $(@D) && ln -sf ../.libs/libnvidia-ml.so.1 $@
endif

if SIMGPU
if HAVE_CMOCKA
check_PROGRAMS += tests/simgpu/selftest
TESTS += tests/simgpu/selftest
tests_simgpu_selftest_SOURCES = tests/simgpu/selftest.c
tests_simgpu_selftest_CPPFLAGS = -I$(srcdir)/coll_car -I$(srcdir)/tests/simgpu -I$(srcdir)/tests/kernels $(CMOCKA_CFLAGS)
tests_simgpu_selftest_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_simgpu_selftest_LDADD = tests/simgpu/libcuda.la $(CMOCKA_LIBS)
# A kernel of ours by itself.
check_PROGRAMS += tests/unit/test_stay_kernel
TESTS += tests/unit/test_stay_kernel
tests_unit_test_stay_kernel_SOURCES = tests/unit/test_stay_kernel.c
tests_unit_test_stay_kernel_CPPFLAGS = -I$(srcdir)/coll_car -I$(srcdir)/kernels $(CMOCKA_CFLAGS)
tests_unit_test_stay_kernel_CFLAGS = -std=gnu11 $(CAR_WARNINGS)
tests_unit_test_stay_kernel_LDADD = tests/simgpu/libcuda.la $(CMOCKA_LIBS)
endif
endif
