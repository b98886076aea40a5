// The few things that persistent_layers.cu needs of the machine, one function each, so that its tests can put a host's
// emulation in their place (tests/kernels/emulated.h). Compute capability 9.0: bulk copies and memory barriers.

#define KERNEL __global__ void __launch_bounds__(288, 1)
#define DEVICE __device__ __forceinline__

typedef unsigned int u32;
typedef unsigned long long u64;
struct alignas(16) Vec4 { u32 x, y, z, w; };  // 8 numbers of 16 bits

DEVICE int thread_index() { return threadIdx.x; }
DEVICE int block_index() { return blockIdx.x; }
DEVICE char* shared_memory() { extern __shared__ __align__(1024) char memory[]; return memory; }
DEVICE u32 shared_address(const void* at) { return (u32)__cvta_generic_to_shared(at); }
DEVICE void sync_all() { __syncthreads(); }
DEVICE void sync_block() { asm volatile("bar.sync 1, 256;" ::: "memory"); }  // of the eight warps that compute
DEVICE void sync_warp() { __syncwarp(); }
DEVICE float shuffle_xor(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
DEVICE u32 as_word(float value) { return __float_as_uint(value); }
DEVICE float as_float(u32 word) { return __uint_as_float(word); }
DEVICE void give_way() {}
#ifdef NO_PAUSE
DEVICE void pause() {}
#else
DEVICE void pause() { __nanosleep(40); }  // the asking warp leaves the schedulers to the others
#endif

// Numbers of 16 bits: two in a word, the first in its low half.
#ifdef BF16
DEVICE u32 pack(float low, float high) {
    u32 word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
DEVICE float low_of(u32 word) { return __uint_as_float(word << 16); }
DEVICE float high_of(u32 word) { return __uint_as_float(word & 0xffff0000u); }
#define MMA "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
#else
DEVICE u32 pack(float low, float high) {
    u32 word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
DEVICE float low_of(u32 word) {
    float value;
    asm("{.reg .f16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, low;}" : "=f"(value) : "r"(word));
    return value;
}
DEVICE float high_of(u32 word) {
    float value;
    asm("{.reg .f16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, high;}" : "=f"(value) : "r"(word));
    return value;
}
#define MMA "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
#endif

// c (16 x 8) += a (16 x 16) b (16 x 8). Lane 4 g + t holds of a: rows g, g + 8, g, g + 8 and columns 2 t, 2 t + 1 (the
// last two words: plus 8); of b: column g and the same rows; of c: rows g (c0, c1) and g + 8, columns 2 t, 2 t + 1.
DEVICE void multiply(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm volatile(MMA " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// From and to L2 and past L1, which does not see what other SMs write.
DEVICE Vec4 load(const void* at) {
    Vec4 v;
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(at)
                 : "memory");
    return v;
}
DEVICE u32 load_word(const void* at) {
    u32 word;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(word) : "l"(at) : "memory");
    return word;
}
DEVICE void store_word(void* at, u32 word) { asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(at), "r"(word) : "memory"); }
DEVICE void store(void* at, Vec4 v) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(at), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}
DEVICE float load_float(const float* at) { return as_float(load_word(at)); }
DEVICE int load_int(const int* at) { return (int)load_word(at); }
DEVICE float load_16(const unsigned short* at) { return low_of((u32)__ldcg(at)); }
DEVICE void store_16(unsigned short* at, float value) { *at = (unsigned short)pack(value, 0.0f); }
DEVICE Vec4 load_shared(const char* at) { return *(const Vec4*)at; }

// Counters that blocks of one launch share.
DEVICE void add_one(u32* counter) { asm volatile("red.relaxed.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory"); }
DEVICE u32 add_acquire_release(u32* counter) {
    u32 before;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
    return before;
}
// Ends the launch, and the context with it; the host finds a 1 in its memory at `tell`.
DEVICE void give_up(u32* tell) {
    *(volatile u32*)tell = 1;
    __threadfence_system();
    asm volatile("trap;");
}

// A barrier in shared memory that counts the bytes of bulk copies.
DEVICE void barrier_init(u64* barrier) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(barrier)) : "memory");
}
DEVICE void barriers_visible() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
DEVICE void expect(u64* barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}
#ifdef KEEP_STREAMS
DEVICE void copy_in(char* to, const char* from, u32 bytes, u64* barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(barrier))
                 : "memory");
}
#else
// What is streamed leaves L2 first: nobody reads it again in this step, and what blocks hand to each other must stay there.
DEVICE void copy_in(char* to, const char* from, u32 bytes, u64* barrier) {
    u64 policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
                 : "memory");
}
#endif
DEVICE bool barrier_test(u64* barrier, u32 parity) {
    u32 done;
    asm volatile(
        "{.reg .pred done;\n"
        "mbarrier.test_wait.parity.shared::cta.b64 done, [%1], %2;\n"
        "selp.u32 %0, 1, 0, done;}"
        : "=r"(done)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
    return done;
}
DEVICE int load_shared_int(const int* at) { return *(volatile const int*)at; }
DEVICE void store_shared_int(int* at, int value) { *(volatile int*)at = value; }
DEVICE void barrier_wait(u64* barrier, u32 parity) {
    asm volatile(
        "{.reg .pred done;\n"
        "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;}" ::"r"(shared_address(barrier)), "r"(parity)
        : "memory");
}
