// hopper.cuh's functions on a host: each thread of the grid is a fiber, and a seeded scheduler lets any of them run next.
//
// Bulk copies land late and in any order, so that a read before its barrier sees poison. What it cannot show: a missing
// fence, for there is one memory.
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#define KERNEL extern "C" void
#define DEVICE inline

typedef unsigned int u32;
typedef unsigned long long u64;
struct alignas(16) Vec4 { u32 x, y, z, w; };

constexpr int BLOCK = 288, COMPUTING = 256;
struct Fiber {
    ucontext_t context;  // for its start alone: swapcontext asks the kernel about signals each time
    jmp_buf at;
    std::vector<char> stack;
    int block, thread;
    bool started = false, done = false;
};
struct Meeting { int waiting = 0, round = 0; };  // of a warp or a block
struct Copy { char* to; const char* from; u32 bytes; u64* barrier; };

static std::vector<Fiber> fibers;
static std::vector<std::vector<char>> memories;  // shared memory, one a block
static std::vector<Meeting> warps, blocks, wholes;
static std::vector<std::vector<u32>> words;  // what lanes exchange, one a warp
static std::vector<Copy> copies;
static jmp_buf scheduler;
static Fiber* self_;
static u64 seed_ = 1;

static u32 random_below(u32 n) {
    seed_ = seed_ * 6364136223846793005ull + 1442695040888963407ull;
    return (u32)((seed_ >> 33) % n);
}
static void give_way() {
    if (!_setjmp(self_->at)) _longjmp(scheduler, 1);
}
static void pause() { give_way(); }
static int thread_index() { return self_->thread; }
static int block_index() { return self_->block; }
static char* shared_memory() {
    char* at = memories[self_->block].data();
    return at + (1024 - (u64)at % 1024) % 1024;
}
static void meet(Meeting& m, int count) {
    const int round = m.round;
    if (++m.waiting == count) {
        m.waiting = 0;
        ++m.round;
    }
    while (m.round == round) give_way();
}
static int warp_of() { return self_->block * (BLOCK / 32) + self_->thread / 32; }
static void sync_all() { meet(wholes[self_->block], BLOCK); }
static void sync_block() { meet(blocks[self_->block], COMPUTING); }
static void sync_warp() { meet(warps[warp_of()], 32); }

// Every lane's words, behind two meetings of the warp.
static std::vector<u32> exchanged(const std::vector<u32>& mine) {
    std::vector<u32>& all = words[warp_of()];
    const int lane = self_->thread % 32, count = (int)mine.size();
    all.resize(32 * count);
    sync_warp();
    for (int i = 0; i < count; ++i) all[lane * count + i] = mine[i];
    sync_warp();
    std::vector<u32> copy = all;
    sync_warp();
    return copy;
}
static u32 bits(float value) { u32 word; memcpy(&word, &value, 4); return word; }
static float number(u32 word) { float value; memcpy(&value, &word, 4); return value; }
static float shuffle_xor(float value, int mask) { return number(exchanged({bits(value)})[(self_->thread % 32) ^ mask]); }

static bool all_lanes(bool value) {
    bool all = true;
    for (const u32 one : exchanged({value})) all = all && one;
    return all;
}
static u32 as_word(float value) { return bits(value); }
static float as_float(u32 word) { return number(word); }

static u32 half_bits(float value) { _Float16 h = (_Float16)value; unsigned short word; memcpy(&word, &h, 2); return word; }
static float half_value(u32 word) { unsigned short low = (unsigned short)word; _Float16 h; memcpy(&h, &low, 2); return (float)h; }
static u32 pack(float low, float high) { return half_bits(low) | half_bits(high) << 16; }
static float low_of(u32 word) { return half_value(word); }
static float high_of(u32 word) { return half_value(word >> 16); }

static void multiply(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    const std::vector<u32> all = exchanged({a0, a1, a2, a3, b0, b1});
    const int lane = self_->thread % 32;
    auto element = [&](int from, int word, int odd) { return half_value(all[from * 6 + word] >> 16 * odd); };
    for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
        double sum = 0;
        for (int k = 0; k < 16; ++k) {
            const int pair = k % 8 / 2;
            sum += (double)element(row % 8 * 4 + pair, row / 8 + 2 * (k / 8), k % 2) * element(column * 4 + pair, 4 + k / 8, k % 2);
        }
        c[i] += (float)sum;
    }
}

static Vec4 load(const void* at) {
    if ((u64)at % 16) { fprintf(stderr, "a load that is not aligned\n"); exit(3); }
    Vec4 v;
    memcpy(&v, at, 16);
    return v;
}
static Vec4 load_shared(const char* at) { return load(at); }
static u32 load_word(const void* at) { return *(volatile const u32*)at; }
static float load_float(const float* at) { return *(volatile const float*)at; }
static void store_word(void* at, u32 word) { *(u32*)at = word; }
static void store(void* at, Vec4 v) { memcpy(at, &v, 16); }
static int load_int(const int* at) { return *at; }
static float load_16(const unsigned short* at) { return half_value(*at); }
static float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
static void store_16(unsigned short* at, float value) { *at = (unsigned short)half_bits(value); }
static void add_one(u32* counter) { ++*counter; }
static u32 add_acquire_release(u32* counter) { return (*counter)++; }
static void give_up(u32*) { fprintf(stderr, "a barrier that never opens\n"); exit(3); }

// A barrier: the phase in bit 63, then pending bytes. What is copied in is poison until it lands.
static void barrier_init(u64* barrier) { *barrier = 0; }
static void barriers_visible() {}
static void expect(u64* barrier, u32 bytes) {
    if (*barrier & 0xffffffff) { fprintf(stderr, "a barrier that waits for two rounds\n"); exit(3); }
    *barrier += bytes;
}
static void copy_in(char* to, const char* from, u32 bytes, u64* barrier) {
    if ((u64)to % 16 || (u64)from % 16 || bytes % 16) { fprintf(stderr, "a copy that is not aligned\n"); exit(3); }
    memset(to, 0xff, bytes);
    copies.push_back({to, from, bytes, barrier});
}
static bool barrier_test(u64* barrier, u32 parity) { return (*barrier >> 63) != parity; }
static int load_shared_int(const int* at) { return *(volatile const int*)at; }
static void store_shared_int(int* at, int value) { *at = value; }
static void barrier_wait(u64* barrier, u32 parity) {
    while ((*barrier >> 63) == parity) give_way();
}
static void land_a_copy() {
    const u32 index = random_below((u32)copies.size());
    const Copy copy = copies[index];
    copies[index] = copies.back();
    copies.pop_back();
    memcpy(copy.to, copy.from, copy.bytes);
    *copy.barrier -= copy.bytes;
    if (!(*copy.barrier & 0xffffffff)) *copy.barrier ^= 1ull << 63;
}

static std::function<void()> body;
static void enter() {
    body();
    self_->done = true;
    _longjmp(scheduler, 1);
}
static __attribute__((noinline)) void resume(Fiber& fiber) {
    self_ = &fiber;
    if (_setjmp(scheduler)) return;  // it has given way
    if (fiber.started) _longjmp(fiber.at, 1);
    fiber.started = true;
    setcontext(&fiber.context);
}
static void run_grid(int grid, size_t shared_bytes, u64 seed) {
    seed_ = seed;
    const int count = grid * BLOCK;
    fibers = std::vector<Fiber>(count);
    memories.assign(grid, std::vector<char>(shared_bytes + 1024, (char)0xff));
    warps.assign(count / 32, Meeting());
    blocks.assign(grid, Meeting());
    wholes.assign(grid, Meeting());
    words.assign(count / 32, {});
    for (int i = 0; i < count; ++i) {
        Fiber& fiber = fibers[i];
        fiber.block = i / BLOCK;
        fiber.thread = i % BLOCK;
        fiber.stack.resize(1 << 16);
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        makecontext(&fiber.context, enter, 0);
    }
    int left = count;
    while (left) {
        // Round the fibers from a random one on, now and then with a copy that lands.
        const int first = (int)random_below(count);
        for (int i = 0; i < count; ++i) {
            Fiber& fiber = fibers[(first + i) % count];
            if (fiber.done) continue;
            resume(fiber);
            left -= fiber.done;
            if (!copies.empty() && random_below(64) == 0) land_a_copy();
        }
        if (!copies.empty()) land_a_copy();
    }
}
