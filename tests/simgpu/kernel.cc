/*
 * Kernels on the CPU: every CUDA thread is a fiber, all blocks of a launch that the device holds at a time take turns on
 * the OS thread of their stream. Turns are given up only in waits: a fiber runs until it pauses, meets a barrier or ends.
 */
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "simgpu.h"

__thread simgpu_thread *simgpu_self;

static simgpu_kernel *kernels;

simgpu_kernel::simgpu_kernel(const char *n, size_t bytes, void (*f)(const void *))
    : name(n), argument_bytes(bytes), run(f), next(kernels)
{
    kernels = this;
}

const simgpu_kernel *simgpu_kernel_named(const char *name)
{
    for (const simgpu_kernel *k = kernels; nullptr != k; k = k->next) {
        if (0 == strcmp(k->name, name)) {
            return k;
        }
    }
    return nullptr;
}

/* --- switching ------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
/* Saves the callee-saved registers on the stack it leaves, takes them from the one it enters. */
extern "C" void simgpu_switch(void **leave, void *enter);
__asm__(".text\n.type simgpu_switch,@function\nsimgpu_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
        ".size simgpu_switch,.-simgpu_switch\n");

static void *first_frame(char *top, void (*entry)())
{
    /* As simgpu_switch leaves a stack; the slot above the return address keeps the ABI's alignment at entry. */
    void **sp = (void **) (((uintptr_t) top & ~(uintptr_t) 15) - 16);
    sp[1] = nullptr;
    sp[0] = (void *) entry;
    sp -= 6;
    memset(sp, 0, 6 * sizeof(*sp));
    return sp;
}
#elif defined(__aarch64__)
extern "C" void simgpu_switch(void **leave, void *enter);
__asm__(".text\n.type simgpu_switch,%function\nsimgpu_switch:\n"
        "sub sp, sp, #160\n"
        "stp x19, x20, [sp, #0]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\nstp x25, x26, [sp, #48]\n"
        "stp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\n"
        "stp d8, d9, [sp, #96]\nstp d10, d11, [sp, #112]\nstp d12, d13, [sp, #128]\nstp d14, d15, [sp, #144]\n"
        "mov x9, sp\nstr x9, [x0]\nmov sp, x1\n"
        "ldp x19, x20, [sp, #0]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\nldp x25, x26, [sp, #48]\n"
        "ldp x27, x28, [sp, #64]\nldp x29, x30, [sp, #80]\n"
        "ldp d8, d9, [sp, #96]\nldp d10, d11, [sp, #112]\nldp d12, d13, [sp, #128]\nldp d14, d15, [sp, #144]\n"
        "add sp, sp, #160\nret\n"
        ".size simgpu_switch,.-simgpu_switch\n");

static void *first_frame(char *top, void (*entry)())
{
    char *sp = (char *) ((uintptr_t) top & ~(uintptr_t) 15) - 160;
    memset(sp, 0, 160);
    memcpy(sp + 88, &entry, sizeof(entry)); /* x30, where ret goes */
    return sp;
}
#else
#error "simgpu knows how to switch fibers on x86-64 and aarch64 only"
#endif

/* --- blocks and their threads ------------------------------------------------------------------------------------ */

#define STACK_BYTES (64 * 1024)

enum state { READY, AT_BARRIER, ENDED };

struct block;

struct fiber {
    simgpu_thread self; /* first: simgpu_self points here */
    state now;
    block *home;
    void *sp;
    char *stack;
};

struct block {
    std::vector<fiber *> fibers;
    unsigned at_barrier, ended;
    bool all, verdict; /* the predicates of the barrier under way, and the result of the last */
    std::map<const void *, std::vector<char>> shared;
};

/* What one OS thread needs to run a launch. */
struct machine {
    const simgpu_launch *launch;
    void *sp; /* of the scheduler */
    bool progress;
    bool faulted;
    std::vector<fiber *> spare;

    ~machine(); /* with the thread, which ends with its stream */
};

static __thread machine *here;

static fiber *self() { return (fiber *) simgpu_self; }

static void to_scheduler() { simgpu_switch(&self()->sp, here->sp); }

void simgpu_pause() { to_scheduler(); }

bool simgpu_barrier(bool predicate, bool orders)
{
    fiber *f = self();
    block *b = f->home;

    b->all = b->all && predicate;
    here->progress = true;
    if (++b->at_barrier + b->ended == b->fibers.size()) {
        b->verdict = b->all;
        b->all = true;
        if (simgpu_weak && orders) {
            simgpu_weak_barrier(f->self.block);
        }
        b->at_barrier = 0;
        for (fiber *other : b->fibers) {
            if (AT_BARRIER == other->now) {
                other->now = READY;
            }
        }
    } else {
        f->now = AT_BARRIER;
        to_scheduler();
    }
    return b->verdict;
}

void *simgpu_shared(const void *key, size_t bytes)
{
    std::vector<char> &storage = self()->home->shared[key];
    if (storage.empty()) {
        storage.resize(bytes);
    }
    return storage.data();
}

static void end_fiber()
{
    fiber *f = self();
    f->now = ENDED;
    ++f->home->ended;
    here->progress = true;
    to_scheduler();
    abort(); /* nobody enters an ended fiber */
}

static void fiber_main()
{
    here->launch->kernel->run(here->launch->argument.data());
    end_fiber();
}

static fiber *take_fiber(machine &m, block *home, unsigned thread, unsigned number)
{
    fiber *f;
    if (m.spare.empty()) {
        f = new fiber();
        f->stack = (char *) mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (MAP_FAILED == f->stack) {
            abort();
        }
    } else {
        f = m.spare.back();
        m.spare.pop_back();
    }
    f->self = {thread, number, m.launch->block, m.launch->grid};
    f->now = READY;
    f->home = home;
    f->sp = first_frame(f->stack + STACK_BYTES, fiber_main);
    return f;
}

machine::~machine()
{
    for (fiber *f : spare) {
        munmap(f->stack, STACK_BYTES);
        delete f;
    }
}

static block *start_block(machine &m, unsigned number)
{
    block *b = new block();
    b->at_barrier = b->ended = 0;
    b->all = b->verdict = true;
    if (simgpu_weak) {
        simgpu_weak_start_block(number);
    }
    for (unsigned t = 0; t < m.launch->block; ++t) {
        b->fibers.push_back(take_fiber(m, b, t, number));
    }
    return b;
}

static void end_block(machine &m, block *b)
{
    m.spare.insert(m.spare.end(), b->fibers.begin(), b->fibers.end());
    delete b;
}

/* --- faults -------------------------------------------------------------------------------------------------------- */

static struct sigaction before;

/*
 * A kernel has touched device memory that is not there: the launch is over. The handler runs on the fiber's stack and
 * leaves it for the scheduler's for good. Anybody else's fault goes where it would have gone without us.
 */
static void on_fault(int number, siginfo_t *info, void *context)
{
    const uint64_t address = (uint64_t) (uintptr_t) info->si_addr;
    if (nullptr != here && nullptr != simgpu_self && address - SIMGPU_WINDOW < 2 * SIMGPU_SHADOW + SIMGPU_WINDOW_BYTES) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGSEGV);
        pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
        here->faulted = true;
        to_scheduler();
    }
    if (0 != (before.sa_flags & SA_SIGINFO) && nullptr != before.sa_sigaction) {
        before.sa_sigaction(number, info, context);
        return;
    }
    sigaction(SIGSEGV, &before, nullptr);
}

/* Before each launch: others (Open MPI, UCX, cmocka) install handlers of their own, at any time. */
static void catch_faults()
{
    static std::mutex mutex;
    std::lock_guard<std::mutex> guard(mutex);
    struct sigaction now;

    sigaction(SIGSEGV, nullptr, &now);
    if (0 != (now.sa_flags & SA_SIGINFO) && on_fault == now.sa_sigaction) {
        return;
    }
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    before = now;
    sigaction(SIGSEGV, &action, nullptr);
}

/* --- the scheduler --------------------------------------------------------------------------------------------------- */

unsigned simgpu_resident_blocks(unsigned threads)
{
    const unsigned largest = (unsigned) simgpu_env("SIMGPU_BLOCK", 64);

    return 2 * (threads < largest ? largest / threads : 1);
}

bool simgpu_run(const simgpu_launch &launch)
{
    /* As many blocks as the device would hold: a waiting grid that is larger than that deadlocks here as it does there. */
    const unsigned resident =
        (unsigned) simgpu_env("SIMGPU_SMS", 2) * simgpu_resident_blocks(launch.block);
    static thread_local machine m;
    std::vector<block *> blocks;
    unsigned next = 0;

    catch_faults();
    m.launch = &launch;
    m.faulted = false;
    here = &m;
    if (simgpu_weak) {
        simgpu_weak_begin(launch);
    }
    while (!m.faulted && (next < launch.grid || !blocks.empty())) {
        while (next < launch.grid && blocks.size() < resident) {
            blocks.push_back(start_block(m, next++));
        }
        m.progress = false;
        simgpu_turn();
        for (size_t i = 0; i < blocks.size() && !m.faulted;) {
            block *b = blocks[i];
            for (size_t t = 0; t < b->fibers.size() && !m.faulted; ++t) {
                fiber *f = b->fibers[t];
                if (READY == f->now) {
                    simgpu_self = &f->self;
                    simgpu_switch(&m.sp, f->sp);
                }
            }
            if (b->ended == b->fibers.size()) {
                end_block(m, b);
                blocks.erase(blocks.begin() + (long) i);
            } else {
                ++i;
            }
        }
        if (simgpu_weak) {
            simgpu_self = nullptr;
            simgpu_weak_deliver();
        }
        if (!m.progress) {
            sched_yield(); /* all of them wait for somebody else */
        }
    }
    simgpu_self = nullptr;
    if (simgpu_weak) {
        simgpu_weak_end(m.faulted);
    }
    for (block *b : blocks) {
        end_block(m, b);
    }
    here = nullptr;
    return !m.faulted;
}
