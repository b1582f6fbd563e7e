# Unit tests that need neither MPI nor a driver. Included by the top Makefile.am.
check_PROGRAMS += tests/unit/cuda_abi
TESTS += tests/unit/cuda_abi

if HAVE_NVCC
cuda_abi_toolkit = -DCAR_HAVE_CUDA_H=1 -isystem `dirname $(NVCC)`/../include
else
cuda_abi_toolkit = -DCAR_HAVE_CUDA_H=0
endif

tests_unit_cuda_abi_SOURCES = \
	tests/unit/cuda_abi.c tests/unit/cuda_abi.h tests/unit/cuda_abi_ours.c tests/unit/cuda_abi_table.h \
	tests/unit/cuda_abi_theirs.c
nodist_tests_unit_cuda_abi_SOURCES = tests/unit/cuda_abi_lists.h
tests_unit_cuda_abi_CPPFLAGS = -I$(srcdir)/tests/unit -Itests/unit -I$(srcdir)/coll_car $(cuda_abi_toolkit)
tests_unit_cuda_abi_CFLAGS = -std=gnu11 $(CAR_WARNINGS)

# The header's constants and its lists of entry points, without its types.
tests/unit/cuda_abi_lists.h: coll_car/car_cuda_api.h
	$(AM_V_GEN)$(MKDIR_P) $(@D) && { \
		echo '#define CAR_ABI_CONSTANTS(X) \'; \
		sed -n 's/^    \(CU_[A-Z0-9_]*\|CUDA_[A-Z0-9_]*\) = [0-9]*,\{0,1\}$$/    X(\1) \\/p' \
			$(srcdir)/coll_car/car_cuda_api.h; \
		echo; \
		sed -n '/^#define CAR_CUDA_NEEDED/,/^$$/p; /^#define CAR_CUDA_OPTIONAL/,/^$$/p' \
			$(srcdir)/coll_car/car_cuda_api.h; \
	} >$@
tests/unit/cuda_abi-cuda_abi_ours.$(OBJEXT) tests/unit/cuda_abi-cuda_abi_theirs.$(OBJEXT): tests/unit/cuda_abi_lists.h
CLEANFILES += tests/unit/cuda_abi_lists.h
