/*
 * Weak memory: what kernels store is delayed and reordered, and what they load may be old, as far as the PTX memory model
 * allows and docs/simgpu.md ("Weak memory") says. One launch is a thread's affair, so its stores need no lock.
 */
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <queue>
#include <unordered_map>

#include "simgpu.h"

bool simgpu_weak;
static uint64_t seed;

void simgpu_weak_init()
{
    seed = (uint64_t) simgpu_env("SIMGPU_WEAK", 0);
    simgpu_weak = 0 != seed;
}

enum { GPU, SYSTEM, SCOPES };

/* Not in device memory: mapped host memory, managed memory. */
#define ELSEWHERE (-1)

/* No time is fixed: the store waits for a release, or the end of the launch. */
#define SOMETIME UINT64_MAX

#define DELAY_BITS_MIN 6
#define DELAY_BITS_MAX 18 /* a quarter of a millisecond: about what a wait in a kernel lasts before its block leaves */
#define END_DELAY_BITS 21 /* two milliseconds: long enough for a host that has heard of the end too early to read */

/* What is published with a release, or with the first strong store after a fence: this block's stores that came before. */
struct release {
    unsigned block, thread;
    uint64_t phase, number;
    bool system; /* else only what lies in this GPU's memory, and for readers on this GPU and the host */
};

struct store {
    uint64_t place; /* as kernels reach it */
    unsigned char value[16];
    unsigned bytes;
    bool weak, gone;
    int home; /* whose memory it goes to: a GPU, or ELSEWHERE */
    unsigned block, thread;
    uint64_t phase, number, due;
    release after[SCOPES]; /* it is not seen before what these cover */
    int releases;
    store *next; /* in the same 16 bytes, in the order in which they were issued */
};

/* How much a thread is bound to see, and has published. */
struct view {
    uint64_t sees[SCOPES]; /* nothing that was overwritten before this time */
    release fence[SCOPES]; /* number 0: none */
    std::vector<release> read; /* releases of others that an atomic has read, for the next fence to acquire */
};

struct block_state {
    uint64_t phase = 0; /* barriers so far */
    std::vector<store *> waiting;
    std::vector<view> views; /* of its threads */
};

struct later {
    bool operator()(const store *a, const store *b) const { return a->due > b->due; }
};

struct known_range {
    uint64_t start, end;
    int home;
};

static thread_local struct {
    int gpu;
    uint64_t id, start, now, issued, pending; /* start, now: nanoseconds; pending: stores that others do not see */
    uint64_t random;
    unsigned delay_bits, threads, depth;
    std::vector<block_state> blocks;
    std::deque<store> stores;
    std::unordered_map<uint64_t, store *> by_place; /* the first one pending in every 16 bytes */
    std::priority_queue<store *, std::vector<store *>, later> timed;
    std::unordered_map<uint64_t, std::vector<release>> published; /* by the atomics on a word */
    std::vector<known_range> ranges;
} launch;

static uint64_t clock_now()
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t draw() { return mix(launch.random += UINT64_C(0x9e3779b97f4a7c15)); }

/* Every magnitude up to 2^bits nanoseconds as often as any other. */
static uint64_t draw_delay(unsigned bits)
{
    const uint64_t limit = UINT64_C(1) << draw() % (bits + 1);
    return draw() % limit;
}

static view &own_view() { return launch.blocks[simgpu_self->block].views[simgpu_self->thread]; }

static int home_of(uint64_t place)
{
    if (place - SIMGPU_SHADOW - SIMGPU_WINDOW >= SIMGPU_WINDOW_BYTES) {
        return ELSEWHERE;
    }
    for (const known_range &r : launch.ranges) {
        if (place - r.start < r.end - r.start) {
            return r.home;
        }
    }
    simgpu_guard guard(simgpu_lock);
    const simgpu_allocation *a = simgpu_find(place - SIMGPU_SHADOW);
    if (nullptr == a) {
        return ELSEWHERE;
    }
    const uint64_t start = a->address + SIMGPU_SHADOW;
    launch.ranges.push_back({start, start + a->bytes, a->physical});
    return a->physical;
}

/* --- history: what stood in 16 bytes of device memory before the last weak store to them ---------------------------- */

struct history {
    unsigned char old[16];
    uint64_t time, writer; /* of the store; 0: none yet */
};
static_assert(16 * SIMGPU_HISTORY == sizeof(history), "history has its share of a memory's file");

static history *history_of(uint64_t place)
{
    return (history *) (SIMGPU_HISTORY_WINDOW + (place - SIMGPU_SHADOW - SIMGPU_WINDOW) / 16 * sizeof(history));
}

#define WRITER(id, block, gpu) ((id) << 24 | (uint64_t) (block) << 8 | (uint64_t) (gpu))

/* Whether a weak load may still give what was there before. One thread decides the same until it acquires again. */
static bool may_be_old(const history *h, uint64_t place, const view &v)
{
    const uint64_t time = __atomic_load_n(&h->time, __ATOMIC_ACQUIRE), writer = h->writer;
    const unsigned gpu = writer & 255;

    if (0 == time || writer == WRITER(launch.id, simgpu_self->block, launch.gpu)
        || time <= v.sees[gpu == (unsigned) launch.gpu ? GPU : SYSTEM]) {
        return false;
    }
    const uint64_t who = (uint64_t) simgpu_self->block << 32 | simgpu_self->thread;
    return 0 == mix(seed ^ mix(launch.id) ^ mix(who) ^ mix(v.sees[SYSTEM]) ^ place >> 4) % 4;
}

/* --- stores ------------------------------------------------------------------------------------------------------------ */

static void write(const store *s)
{
    if (s->weak && ELSEWHERE != s->home) {
        history *h = history_of(s->place);
        memcpy(h->old, (const void *) (s->place & ~UINT64_C(15)), sizeof(h->old));
        h->writer = WRITER(launch.id, s->block, launch.gpu);
        __atomic_store_n(&h->time, launch.now, __ATOMIC_RELEASE);
    }
    __atomic_thread_fence(__ATOMIC_RELEASE);
    switch (s->bytes) {
    case 4: {
        uint32_t v;
        memcpy(&v, s->value, sizeof(v));
        __atomic_store_n((uint32_t *) s->place, v, __ATOMIC_RELAXED);
        break;
    }
    case 8: {
        uint64_t v;
        memcpy(&v, s->value, sizeof(v));
        __atomic_store_n((uint64_t *) s->place, v, __ATOMIC_RELAXED);
        break;
    }
    default:
        memcpy((void *) s->place, s->value, s->bytes);
    }
}

static bool covers(const release &r, const store *s)
{
    return s->number < r.number && (s->thread == r.thread || s->phase < r.phase) && (r.system || s->home == launch.gpu);
}

static void deliver(store *s);

static void deliver_covered(const release &r)
{
    std::vector<store *> &waiting = launch.blocks[r.block].waiting;
    size_t left = 0;

    ++launch.depth;
    for (size_t i = 0; i < waiting.size(); ++i) {
        if (!waiting[i]->gone && covers(r, waiting[i])) {
            deliver(waiting[i]);
        }
    }
    if (0 != --launch.depth) {
        return; /* a caller goes through the same list, perhaps */
    }
    for (store *s : waiting) {
        if (!s->gone) {
            waiting[left++] = s;
        }
    }
    waiting.resize(left);
}

static bool overlap(const store *a, uint64_t place, unsigned bytes)
{
    return a->place < place + bytes && place < a->place + a->bytes;
}

/* What stands before `until` in the same bytes comes first: one place has one order. */
static void deliver_earlier(uint64_t place, unsigned bytes, const store *until)
{
    for (;;) {
        const auto first = launch.by_place.find(place >> 4);
        store *s = launch.by_place.end() == first ? nullptr : first->second;
        while (nullptr != s && s != until && (s->gone || !overlap(s, place, bytes))) {
            s = s->next;
        }
        if (nullptr == s || s == until) {
            return;
        }
        deliver(s);
    }
}

/* Makes a store visible to everybody, after all that has to be visible before it: those were issued earlier. */
static void deliver(store *s)
{
    s->gone = true;
    for (int i = 0; i < s->releases; ++i) {
        deliver_covered(s->after[i]);
    }
    deliver_earlier(s->place, s->bytes, s);
    write(s);
    --launch.pending;
    const auto first = launch.by_place.find(s->place >> 4);
    store **link = &first->second;
    while (*link != s) {
        link = &(*link)->next;
    }
    *link = s->next;
    if (nullptr == first->second) {
        launch.by_place.erase(first);
    }
}

/* What is published by a release of this thread now. */
static release release_now(bool system)
{
    return {simgpu_self->block, simgpu_self->thread, launch.blocks[simgpu_self->block].phase, launch.issued + 1, system};
}

static uint64_t due_time(const store *s)
{
    return s->weak && 0 != draw() % 4 ? SOMETIME : launch.now + draw_delay(launch.delay_bits);
}

/* A fence orders all strong stores behind it for the observers in its scope, who are where the store goes, and the host. */
static void order_after_fences(store *s, const view &v)
{
    for (int scope = GPU; scope < SCOPES; ++scope) {
        const bool reaches = SYSTEM == scope || s->home == launch.gpu || ELSEWHERE == s->home;
        if (0 != v.fence[scope].number && reaches) {
            s->after[s->releases++] = v.fence[scope];
        }
    }
}

/* A bad address is the fault of the thread that uses it, now. */
static void touch(uint64_t place) { (void) *(const volatile unsigned char *) place; }

void simgpu_weak_store(void *address, const void *value, unsigned bytes, simgpu_order order)
{
    const uint64_t place = (uint64_t) simgpu_at((char *) address);
    block_state &b = launch.blocks[simgpu_self->block];

    touch(place);
    launch.stores.emplace_back();
    store *s = &launch.stores.back();
    s->place = place;
    memcpy(s->value, value, bytes);
    s->bytes = bytes;
    s->weak = SIMGPU_PLAIN == order;
    s->gone = false;
    s->home = home_of(place);
    s->block = simgpu_self->block;
    s->thread = simgpu_self->thread;
    s->phase = b.phase;
    s->releases = 0;
    if (SIMGPU_RELEASE == order) {
        s->after[s->releases++] = release_now(true);
    } else if (SIMGPU_RELAXED == order) {
        order_after_fences(s, own_view());
    }
    s->number = ++launch.issued;
    s->due = due_time(s);
    s->next = nullptr;
    store **link = &launch.by_place[place >> 4];
    while (nullptr != *link) {
        link = &(*link)->next;
    }
    *link = s;
    b.waiting.push_back(s);
    if (SOMETIME != s->due) {
        launch.timed.push(s);
    }
    ++launch.pending;
    if (!launch.published.empty()) {
        launch.published.erase(place);
    }
}

/* --- loads, fences, atomics, barriers ---------------------------------------------------------------------------------- */

/* The thread's own stores, and those of its block before the last barrier, whether anybody else sees them or not. */
static void lay_own_stores_over(uint64_t place, unsigned char *value, unsigned bytes)
{
    const auto first = launch.by_place.find(place >> 4);
    const uint64_t phase = launch.blocks[simgpu_self->block].phase;

    for (const store *s = launch.by_place.end() == first ? nullptr : first->second; nullptr != s; s = s->next) {
        if (s->gone || s->block != simgpu_self->block || (s->thread != simgpu_self->thread && s->phase == phase)) {
            continue;
        }
        for (unsigned i = 0; i < s->bytes; ++i) {
            if (s->place + i - place < bytes) {
                value[s->place + i - place] = s->value[i];
            }
        }
    }
}

static void read_memory(uint64_t place, void *value, unsigned bytes)
{
    if (4 == bytes) {
        const uint32_t v = __atomic_load_n((const uint32_t *) place, __ATOMIC_ACQUIRE);
        memcpy(value, &v, bytes);
    } else if (8 == bytes) {
        const uint64_t v = __atomic_load_n((const uint64_t *) place, __ATOMIC_ACQUIRE);
        memcpy(value, &v, bytes);
    } else {
        memcpy(value, (const void *) place, bytes);
    }
}

void simgpu_weak_load(const void *address, void *value, unsigned bytes, simgpu_order order)
{
    const uint64_t place = (uint64_t) simgpu_at((const char *) address);

    touch(place);
    if (SIMGPU_PLAIN == order && ELSEWHERE != home_of(place) && may_be_old(history_of(place), place, own_view())) {
        memcpy(value, history_of(place)->old + place % 16, bytes);
    } else {
        read_memory(place, value, bytes);
    }
    if (0 != launch.pending) {
        lay_own_stores_over(place, (unsigned char *) value, bytes);
    }
    if (SIMGPU_ACQUIRE == order) {
        view &v = own_view();
        v.sees[GPU] = v.sees[SYSTEM] = clock_now();
    }
}

void simgpu_weak_fence(bool system)
{
    view &v = own_view();

    v.fence[system ? SYSTEM : GPU] = release_now(system);
    v.sees[GPU] = clock_now();
    if (system) {
        v.sees[SYSTEM] = v.sees[GPU];
    }
    for (release r : v.read) {
        r.system = r.system && system;
        deliver_covered(r);
    }
    v.read.clear();
}

uint32_t simgpu_weak_add(uint32_t *address, uint32_t value)
{
    const uint64_t place = (uint64_t) simgpu_at(address);
    view &v = own_view();

    touch(place);
    deliver_earlier(place, sizeof(value), nullptr);
    std::vector<release> &published = launch.published[place];
    v.read.insert(v.read.end(), published.begin(), published.end());
    for (const release &fence : v.fence) {
        if (0 != fence.number) {
            published.push_back(fence);
        }
    }
    return __atomic_fetch_add((uint32_t *) place, value, __ATOMIC_RELAXED);
}

void simgpu_weak_barrier(unsigned block)
{
    block_state &b = launch.blocks[block];
    uint64_t sees[SCOPES] = {0, 0};

    ++b.phase;
    for (const view &v : b.views) {
        for (int scope = GPU; scope < SCOPES; ++scope) {
            sees[scope] = v.sees[scope] > sees[scope] ? v.sees[scope] : sees[scope];
        }
    }
    for (view &v : b.views) {
        memcpy(v.sees, sees, sizeof(sees));
    }
}

/* --- the launch -------------------------------------------------------------------------------------------------------- */

void simgpu_weak_begin(const simgpu_launch &l)
{
    static std::atomic<uint64_t> launches;
    const uint64_t number = ++launches;

    launch.gpu = simgpu_devices[(size_t) l.context->device].physical;
    launch.id = ((uint64_t) getpid() << 18 | (number & 0x3ffff)) & ((UINT64_C(1) << 40) - 1);
    launch.start = launch.now = clock_now();
    launch.issued = launch.pending = 0;
    launch.random = mix(seed ^ launch.id);
    launch.delay_bits = DELAY_BITS_MIN + (unsigned) (draw() % (DELAY_BITS_MAX - DELAY_BITS_MIN + 1));
    launch.threads = l.block;
    launch.depth = 0;
    launch.blocks.clear();
    launch.blocks.resize(l.grid);
    launch.ranges.clear();
    launch.published.clear();
}

void simgpu_weak_start_block(unsigned block)
{
    view v = {};
    v.sees[GPU] = v.sees[SYSTEM] = launch.start;
    launch.blocks[block].views.assign(launch.threads, v);
}

static void forget_stores()
{
    launch.by_place.clear();
    launch.timed = {};
    for (block_state &b : launch.blocks) {
        b.waiting.clear();
    }
    launch.stores.clear();
    launch.pending = 0;
}

void simgpu_weak_deliver()
{
    if (0 == launch.pending) {
        if (!launch.stores.empty()) {
            forget_stores();
        }
        return;
    }
    launch.now = clock_now();
    while (!launch.timed.empty() && launch.timed.top()->due <= launch.now) {
        store *s = launch.timed.top();
        launch.timed.pop();
        if (!s->gone) {
            deliver(s);
        }
    }
}

void simgpu_weak_end(bool faulted)
{
    if (faulted) {
        forget_stores();
        return;
    }
    launch.now = clock_now();
    for (store &s : launch.stores) {
        if (!s.gone && SOMETIME == s.due) {
            s.due = launch.now + draw_delay(END_DELAY_BITS);
            launch.timed.push(&s);
        }
    }
    while (0 != launch.pending) {
        simgpu_weak_deliver();
        sched_yield();
    }
    forget_stores();
}
