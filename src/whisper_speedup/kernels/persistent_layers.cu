// All decoder layers of a step in one launch; persistent_layers.py has the formula, the layouts and the reasons.
//
// Given by the host: WIDTH, FFN, HEADS, ROWS (at most, of a launch), GRID (blocks, one a multiprocessor), SLOTS of SLOT
// bytes (a warp's ring of weights), AHEAD (slots of a warp that may be on their way at once), BATCH (groups of 32 of K that
// a warp reads at once), UNITS (of 32 keys that a warp attends to), HEAD_BLOCKS (blocks that share a head's
// cross-attention), PATIENCE (looks at a word before the launch is given up).

constexpr int WARPS = 8, THREADS = 32 * WARPS, HEAD = 64;  // and one warp more, which asks for what the others read
constexpr int RING = SLOTS * SLOT;
constexpr int UNIT = 32 * HEAD * 4;  // bytes of 32 keys and 32 values
constexpr int MOST = (FFN > 3 * WIDTH ? FFN : 3 * WIDTH);
constexpr int EVEN = (ROWS + 1) / 2 * 2;
DEVICE constexpr int tiles(int n) { return (2 * ((n / 2 + GRID - 1) / GRID) + 15) / 16; }  // of 16 of a block's columns
constexpr int COLUMNS = 16 * tiles(MOST);
constexpr int REDUCE = COLUMNS + 4;  // twice this is 8 more than a multiple of 32: lanes write to banks of their own
constexpr int PART = HEAD + 8;       // likewise
constexpr int SCRATCH = WARPS * EVEN * (REDUCE > PART ? REDUCE : PART);  // floats
constexpr int PARTS = (WIDTH + 7) / 8 > 256 ? (WIDTH + 7) / 8 : 256;     // room of kernels/stream.py's sums
constexpr int STATS = 4 * WARPS * EVEN;  // floats: two numbers a warp and row, twice

// What blocks hand to each other in a layer, numbers of 16 bits, (rows, N) each; then the partial cross-attentions, fp32.
constexpr int INPUT = 0, QKV = INPUT + ROWS * WIDTH, ATTENDED = QKV + 3 * ROWS * WIDTH, AFTER_SELF = ATTENDED + ROWS * WIDTH;
constexpr int QUERY = AFTER_SELF + ROWS * WIDTH, CONTEXT = QUERY + ROWS * WIDTH, AFTER_CROSS = CONTEXT + ROWS * WIDTH;
constexpr int HIDDEN = AFTER_CROSS + ROWS * WIDTH, PARTIAL = HIDDEN + ROWS * FFN;
constexpr int RECORD = (PARTIAL + 2 * HEADS * HEAD_BLOCKS * ROWS * (HEAD + 2) + 7) / 8 * 8;  // in 16 bits
constexpr u32 EMPTY = 0xffffffffu;  // not yet written: a NaN that no arithmetic gives

struct Shared {
    char* ring;       // this warp's
    char* units;      // this warp's keys and values
    float* scratch;   // the block's, twice
    float* stats;     // likewise
    u64* full;        // this warp's, one a slot
    u64* units_full;  // this warp's
    int* read;        // this warp's: slots that it needs no more
    int* units_read;  // this warp's: layers whose keys and values it needs no more
    int turn = 0;     // which of the two scratches is next: one barrier of the block between two uses is enough then

    DEVICE Shared(int warp) {
        char* memory = shared_memory();
        ring = memory + warp * RING;
        memory += WARPS * RING;
        units = memory + warp * UNITS * UNIT;
        memory += WARPS * UNITS * UNIT;
        scratch = (float*)memory;
        stats = scratch + 2 * SCRATCH;
        u64* barriers = (u64*)(stats + STATS);
        full = barriers + warp * (SLOTS + 1);
        units_full = full + SLOTS;
        int* counts = (int*)(barriers + WARPS * (SLOTS + 1));
        read = counts + warp;
        units_read = counts + WARPS + warp;
    }
    DEVICE void next() { turn ^= 1; }
    DEVICE float* space() const { return scratch + turn * SCRATCH; }
    DEVICE float* peaks() const { return stats + turn * STATS / 2; }
    DEVICE float* norms() const { return peaks() + STATS / 4; }
};

// The packed weights of one warp of one block, in the order in which it reads them, through a ring in shared memory.
struct Ring {
    char* memory;
    u64* full;
    int* read;
    int ready = 0;  // slots that have arrived
    int ready_at = 0;
    u32 parity = 0;
    int position = 0;  // bytes read
    int offset = 0;    // the same, within the ring
#ifdef TIMELINE
    long long* timeline;
    int marks = 0;
    long long stall = 0;
#endif
};

#ifdef TIMELINE
#define MARK(ring) if (thread_index() == 0) (ring).timeline[512 + (ring).marks] = (ring).stall, (ring).timeline[(ring).marks++] = clock64()
#else
#define MARK(ring)
#endif

// The ninth warp: a lane for each of the others asks for its slots, as far ahead as the ring has room and AHEAD allows. A
// warp that asked for its own would stand still whenever the copy engine is busy. The other lanes empty what the launch
// after this one will hand over in.
DEVICE void ask(const char* packed, const long long* bases, const char* cross, char* spare, int layers, int lane) {
    const int block = block_index();
    const Shared shared(lane % WARPS);
    const bool asks = lane < WARPS;
    const long long base = bases[block * WARPS + lane % WARPS];
    const char* source = packed + base;
    const int total = asks ? (int)((bases[block * WARPS + lane + 1] - base) / SLOT) : 0;
    constexpr int PIECE = UNITS * UNIT / 4;
    const int pieces = asks && block < HEADS * HEAD_BLOCKS ? 4 * layers : 0;
    const u64 words = (u64)layers * RECORD / 8, last = asks ? 0 : words * (block + 1) / GRID;
    u64 word = asks ? 0 : words * block / GRID + lane - WARPS;
    int issued = 0, at = 0, landed = 0, landed_at = 0, asked = 0;
    u32 parity = 0;
    while (issued < total || asked < pieces || word < last) {
        if (word < last) {
            store(spare + 16 * word, {EMPTY, EMPTY, EMPTY, EMPTY});
            word += 32 - WARPS;
        }
        while (landed < issued && barrier_test(shared.full + landed_at, parity)) {
            ++landed;
            if (++landed_at == SLOTS) landed_at = 0, parity ^= 1;
        }
        if (issued - landed < AHEAD) {
            if (issued < total && issued - SLOTS < load_acquire_shared(shared.read)) {
                expect(shared.full + at, SLOT);
                copy_in(shared.ring + at * SLOT, source + (u64)issued * SLOT, SLOT, shared.full + at);
                ++issued;
                if (++at == SLOTS) at = 0;
            }
            if (asked < pieces && (asked % 4 || asked / 4 <= load_acquire_shared(shared.units_read))) {
                if (asked % 4 == 0) expect(shared.units_full, UNITS * UNIT);
                const u64 from = (((u64)(asked / 4) * HEADS * HEAD_BLOCKS + block) * WARPS + lane) * UNITS * UNIT;
                copy_in(shared.units + asked % 4 * PIECE, cross + from + asked % 4 * PIECE, PIECE, shared.units_full);
                ++asked;
            }
        }
        give_way();
    }
}

// All slots of the next `bytes`: a lane looks at each.
DEVICE void await(Ring& ring, int bytes, int lane) {
    const int need = (ring.position + bytes + SLOT - 1) / SLOT - ring.ready;
    if (need <= 0) return;
    int slot = ring.ready_at + lane;
    u32 parity = ring.parity;
    if (slot >= SLOTS) slot -= SLOTS, parity ^= 1;
#ifdef TIMELINE
    const long long before = clock64();
#endif
    while (!all_lanes(lane >= need || barrier_test(ring.full + slot, parity))) give_way();
#ifdef TIMELINE
    ring.stall += clock64() - before;
#endif
    ring.ready += need;
    ring.ready_at += need;
    if (ring.ready_at >= SLOTS) ring.ready_at -= SLOTS, ring.parity ^= 1;
}

DEVICE Vec4 read(const Ring& ring, int at) {
    at += ring.offset;
    return load_shared(ring.memory + (at >= RING ? at - RING : at));
}

DEVICE void advance(Ring& ring, int bytes, int lane) {
    ring.position += bytes;
    ring.offset += bytes;
    while (ring.offset >= RING) ring.offset -= RING;
    sync_warp();  // every lane has read what may be overwritten
    if (lane == 0) store_release_shared(ring.read, ring.position / SLOT);
}

DEVICE bool there(Vec4 v) { return v.x != EMPTY && v.y != EMPTY && v.z != EMPTY && v.w != EMPTY; }

DEVICE void impatient(int& tries) {
    give_way();
    if (++tries == PATIENCE) give_up();
}

// What another block wrote or will write: the words themselves say whether they are there, so there is no barrier, and no
// round trip before this one. The first of a lane's words is looked at until it is there; the others are then, mostly.
template <int COUNT>
DEVICE void fetch(Vec4 (&in)[COUNT], const unsigned short* from, int count, bool live) {
    int tries = 0;
    if (live && count > 0) {
        in[0] = load(from);
#ifndef FETCH_ALL
        while (!there(in[0])) {
            impatient(tries);
            in[0] = load(from);
        }
#endif
    } else {
        in[0] = Vec4{0, 0, 0, 0};
    }
#pragma unroll
    for (int i = 1; i < COUNT; ++i) in[i] = live && i < count ? load(from + 32 * i) : Vec4{0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        while (!there(in[i])) {
            impatient(tries);
            in[i] = load(from + 32 * i);
        }
    }
}

DEVICE Vec4 fetch_one(const unsigned short* from) {
    Vec4 in[1];
    fetch(in, from, 1, true);
    return in[0];
}

DEVICE float fetch_float(const float* from) {
    int tries = 0;
    u32 word = load_word(from);
    while (word == EMPTY) {
        impatient(tries);
        word = load_word(from);
    }
    return as_float(word);
}

// Columns n, n + 1 of a row, by the even lane of the two; every lane of the warp takes part.
DEVICE void hand_over(unsigned short* row, int n, float value, bool live) {
    const float other = shuffle_xor(value, 1);
    if (live && n % 2 == 0) store_word(row + n, pack(value, other));
}

DEVICE int begin_of(int total, int index, int parts) { return (int)((long long)total * index / parts); }

// This block's columns [first, first + count) of N, both even.
template <int N>
struct Columns {
    int first, count;
    DEVICE Columns() {
        first = 2 * begin_of(N / 2, block_index(), GRID);
        count = 2 * begin_of(N / 2, block_index() + 1, GRID) - first;
    }
};

constexpr u32 ONES =
#ifdef BF16
    0x3f803f80u;
#else
    0x3c003c00u;
#endif

// The block's columns of x W^T, summed over K by warps: the scratch (warp, row, column) holds each warp's share. x (rows, K).
// With NORM the stats hold each warp's share of the rows' sums of squares and sums (as peaks and norms).
template <int K, int N, bool NORM>
DEVICE void product(Ring& ring, const unsigned short* x, int rows, int count, Shared& shared) {
    constexpr int GROUPS = K / 32, MINE = (GROUPS + WARPS - 1) / WARPS, TILES = tiles(N);
    const int warp = thread_index() / 32, lane = thread_index() % 32, g = lane / 4, t = lane % 4;
    const int first = begin_of(GROUPS, warp, WARPS), mine = begin_of(GROUPS, warp + 1, WARPS) - first;
    Vec4 in[MINE];
    fetch(in, x + g * K + first * 32 + t * 8, mine, g < rows);
    MARK(ring);
    float sum[TILES][2][4] = {};
    float gram[4] = {};
    const int bytes = count * 64;
#pragma unroll
    for (int begin = 0; begin < MINE; begin += BATCH) {
        const int here = mine - begin < BATCH ? mine - begin : BATCH;
        if (here > 0) await(ring, here * bytes, lane);
#pragma unroll
        for (int i = begin; i < begin + BATCH && i < MINE; ++i) {
            if (i < mine) {
                const int at = (i - begin) * bytes + t * 16;
#pragma unroll
                for (int tile = 0; tile < TILES; ++tile) {
                    const int upper = 16 * tile + g, lower = upper + 8;
                    const Vec4 a = upper < count ? read(ring, at + upper * 64) : Vec4{0, 0, 0, 0};
                    const Vec4 b = lower < count ? read(ring, at + lower * 64) : Vec4{0, 0, 0, 0};
                    multiply(sum[tile][0], a.x, b.x, a.y, b.y, in[i].x, in[i].y);
                    multiply(sum[tile][1], a.z, b.z, a.w, b.w, in[i].z, in[i].w);
                }
                if (NORM) {  // rows of x, and of ones below: x x^T, whose diagonal counts, and the sums
                    multiply(gram, in[i].x, ONES, in[i].y, ONES, in[i].x, in[i].y);
                    multiply(gram, in[i].z, ONES, in[i].w, ONES, in[i].z, in[i].w);
                }
            }
        }
        if (here > 0) advance(ring, here * bytes, lane);
    }
    shared.next();
    float* mine_at = shared.space() + (warp * EVEN + 2 * t) * REDUCE + g;
    if (2 * t < EVEN) {
#pragma unroll
        for (int tile = 0; tile < TILES; ++tile) {
            mine_at[16 * tile] = sum[tile][0][0] + sum[tile][1][0];
            mine_at[16 * tile + REDUCE] = sum[tile][0][1] + sum[tile][1][1];
            mine_at[16 * tile + 8] = sum[tile][0][2] + sum[tile][1][2];
            mine_at[16 * tile + 8 + REDUCE] = sum[tile][0][3] + sum[tile][1][3];
        }
        if (NORM) {
            if (g / 2 == t && g < EVEN) shared.peaks()[warp * EVEN + g] = g % 2 ? gram[1] : gram[0];
            if (g == 0) {
                shared.norms()[warp * EVEN + 2 * t] = gram[2];
                shared.norms()[warp * EVEN + 2 * t + 1] = gram[3];
            }
        }
    }
    sync_block();
}

// One row's value in one of the block's columns: the warps' shares, added in their order.
DEVICE float gathered(const Shared& shared, int row, int column) {
    float sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < WARPS; ++warp) sum += shared.space()[(warp * EVEN + row) * REDUCE + column];
    return sum;
}

// Mean and reciprocal standard deviation of a row.
struct Statistics {
    float mean, scale;
    DEVICE Statistics(const Shared& shared, int row, float eps) {
        float sum = 0.0f, square = 0.0f;
#pragma unroll
        for (int warp = 0; warp < WARPS; ++warp) {
            square += shared.peaks()[warp * EVEN + row];
            sum += shared.norms()[warp * EVEN + row];
        }
        mean = sum / WIDTH;
        scale = rsqrtf(square / WIDTH - mean * mean + eps);
    }
};

// The block's columns of x * gamma, and the sums of x and x^2 over them: as kernels/stream.py has it, for the vocabulary
// projection behind the last layer.
DEVICE void leave(float x, bool live, int row, int column, float gamma, unsigned short* scaled, float* sums, int lane) {
    if (live) store_16(scaled + row * WIDTH + column, x * gamma);
    float sum = live ? x : 0.0f, square = live ? x * x : 0.0f;
#pragma unroll
    for (int mask = 16; mask; mask /= 2) {
        sum += shuffle_xor(sum, mask);
        square += shuffle_xor(square, mask);
    }
    if (lane == 0) {
        sums[block_index() * 8 + row] = sum;
        sums[(PARTS + block_index()) * 8 + row] = square;
    }
}

DEVICE float half_dot(Vec4 a, Vec4 b) {
    return low_of(a.x) * low_of(b.x) + high_of(a.x) * high_of(b.x) + low_of(a.y) * low_of(b.y) + high_of(a.y) * high_of(b.y) +
           low_of(a.z) * low_of(b.z) + high_of(a.z) * high_of(b.z) + low_of(a.w) * low_of(b.w) + high_of(a.w) * high_of(b.w);
}

constexpr float SCALE = 0.125f * 1.4426950408889634f;  // 1 / sqrt(64), and exponentials with base 2
constexpr float NONE = -1e30f;                         // a score that no key has

// Running softmax over keys, eight of the head's dimensions a lane.
struct Running {
    float peak = NONE, norm = 0.0f, sum[8] = {};
    DEVICE void merge(float other_peak, float other_norm, const float (&other)[8]) {
        const float top = fmaxf(peak, other_peak), mine = exp2f(peak - top), theirs = exp2f(other_peak - top);
        norm = norm * mine + other_norm * theirs;
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[i] = sum[i] * mine + other[i] * theirs;
        peak = top;
    }
    DEVICE void add(float score, Vec4 v) {
        const float value[8] = {low_of(v.x), high_of(v.x), low_of(v.y), high_of(v.y), low_of(v.z), high_of(v.z), low_of(v.w), high_of(v.w)};
        merge(score, 1.0f, value);
    }
};

struct SelfAttention {
    const unsigned short *fresh, *keys, *values;  // this step's queries, keys and values; the layer's caches
    const int* ancestry;
    int beams, positions, start, prompt, rows;

    DEVICE int length(int row) const { return prompt ? start + row + 1 : start + 1; }
    DEVICE void old(int row, int time, int column, Vec4& key, Vec4& value) const {
        const long long at = ((long long)time * beams + load_int(ancestry + row * positions + time)) * WIDTH + column;
        key = load(keys + at);
        value = load(values + at);
    }
};

// One unit is a head of a row; lanes in groups of 8 take a key each. The first 64 keys and values of earlier steps are
// asked for before this step's own exist.
struct EarlyKeys {
    Vec4 key[2], value[2];
    DEVICE void ask(const SelfAttention& s, int unit) {
        const int lane = thread_index() % 32, warp = thread_index() / 32;
#pragma unroll
        for (int pass = 0; pass < 2; ++pass) {
            const int time = pass * 32 + warp * 4 + lane / 8;
            if (unit < HEADS * s.rows && time < s.start) s.old(unit / HEADS, time, unit % HEADS * HEAD + lane % 8 * 8, key[pass], value[pass]);
        }
    }
};

DEVICE void self_attention(const SelfAttention& s, EarlyKeys& early, unsigned short* out, Shared& shared) {
    const int thread = thread_index(), lane = thread % 32, warp = thread / 32;
    for (int unit = block_index(); unit < HEADS * s.rows; unit += GRID) {
        if (unit != block_index()) early.ask(s, unit);
        const int row = unit / HEADS, head = unit % HEADS * HEAD, column = head + lane % 8 * 8, length = s.length(row);
        const Vec4 q = fetch_one(s.fresh + row * 3 * WIDTH + column);
        Running running;
        for (int pass = 0; pass * 32 < length; ++pass) {
            const int time = pass * 32 + warp * 4 + lane / 8;
            Vec4 key{0, 0, 0, 0}, value{0, 0, 0, 0};
            if (time >= s.start && time < length) {
                const unsigned short* own = s.fresh + (s.prompt ? time - s.start : row) * 3 * WIDTH + WIDTH + column;
                key = fetch_one(own);
                value = fetch_one(own + WIDTH);
            } else if (time < length) {
                if (pass == 0) {
                    key = early.key[0], value = early.value[0];
                } else if (pass == 1) {
                    key = early.key[1], value = early.value[1];
                } else {
                    s.old(row, time, column, key, value);
                }
            }
            float score = half_dot(q, key);
#pragma unroll
            for (int mask = 4; mask; mask /= 2) score += shuffle_xor(score, mask);
            if (time < length) running.add(score * SCALE, value);
        }
#pragma unroll
        for (int mask = 8; mask < 32; mask *= 2) {
            const float peak = shuffle_xor(running.peak, mask), norm = shuffle_xor(running.norm, mask);
            float sum[8];
#pragma unroll
            for (int i = 0; i < 8; ++i) sum[i] = shuffle_xor(running.sum[i], mask);
            running.merge(peak, norm, sum);
        }
        shared.next();
        float* space = shared.space();
        if (lane < 8) {
#pragma unroll
            for (int i = 0; i < 8; ++i) space[warp * PART + lane * 8 + i] = running.sum[i];
            if (lane == 0) shared.peaks()[warp] = running.peak, shared.norms()[warp] = running.norm;
        }
        sync_block();
        if (thread < HEAD) {
            float peak = NONE, norm = 0.0f, sum = 0.0f;
#pragma unroll
            for (int w = 0; w < WARPS; ++w) peak = fmaxf(peak, shared.peaks()[w]);
#pragma unroll
            for (int w = 0; w < WARPS; ++w) {
                const float weight = exp2f(shared.peaks()[w] - peak);
                norm += shared.norms()[w] * weight;
                sum += space[w * PART + thread] * weight;
            }
            hand_over(out + row * WIDTH + head, thread, sum / norm, true);
        }
    }
}

// A block's share of one head's keys, the beams as rows of the tensor cores' tiles; merged by `merge`.
DEVICE void cross_attention(const unsigned short* query, int rows, int keys, int layer, float* partial, Shared& shared) {
    const int thread = thread_index(), lane = thread % 32, warp = thread / 32, g = lane / 4, t = lane % 4;
    const int head = block_index() / HEAD_BLOCKS, share = block_index() % HEAD_BLOCKS;
    barrier_wait(shared.units_full, layer & 1);
    Vec4 q[2];
    fetch(q, query + g * WIDTH + head * HEAD + t * 8, 2, g < rows);
    float peak = NONE, norm = 0.0f, sum[8][4] = {};
#pragma unroll
    for (int unit = 0; unit < UNITS; ++unit) {
        const int first = ((share * WARPS + warp) * UNITS + unit) * 32;
        if (first >= keys) break;
        const char* at = shared.units + unit * UNIT + t * 16;
        float score[4][4] = {};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const Vec4 k = load_shared(at + half * 2048 + (8 * i + g) * 64);
                multiply(score[i], q[half].x, 0, q[half].y, 0, k.x, k.y);
                multiply(score[i], q[half].z, 0, q[half].w, 0, k.z, k.w);
            }
        }
        float top = peak;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                score[i][e] = first + 8 * i + 2 * t + e < keys ? score[i][e] * SCALE : NONE;
                top = fmaxf(top, score[i][e]);
            }
        }
        top = fmaxf(top, shuffle_xor(top, 1));
        top = fmaxf(top, shuffle_xor(top, 2));
        const float shrink = exp2f(peak - top);
        float total = 0.0f;
        u32 weights[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float a = exp2f(score[i][0] - top), b = exp2f(score[i][1] - top);
            total += a + b;
            weights[i] = pack(a, b);
        }
        total += shuffle_xor(total, 1);
        total += shuffle_xor(total, 2);
        norm = norm * shrink + total;
        peak = top;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            sum[i][0] *= shrink;
            sum[i][1] *= shrink;
            const Vec4 v = load_shared(at + 4096 + (8 * i + g) * 64);
            multiply(sum[i], weights[0], 0, weights[1], 0, v.x, v.y);
            multiply(sum[i], weights[2], 0, weights[3], 0, v.z, v.w);
        }
    }
    shared.next();
    if (g < EVEN) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            float* to = shared.space() + (warp * EVEN + g) * PART + 8 * i + 2 * t;
            to[0] = sum[i][0];
            to[1] = sum[i][1];
        }
        if (t == 0) shared.peaks()[warp * EVEN + g] = peak, shared.norms()[warp * EVEN + g] = norm;
    }
    sync_block();
    if (lane == 0) store_release_shared(shared.units_read, layer + 1);
    for (int index = thread; index < rows * HEAD; index += THREADS) {
        const int row = index / HEAD, column = index % HEAD;
        float top = NONE, total = 0.0f, value = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; ++w) top = fmaxf(top, shared.peaks()[w * EVEN + row]);
#pragma unroll
        for (int w = 0; w < WARPS; ++w) {
            const float weight = exp2f(shared.peaks()[w * EVEN + row] - top);
            total += shared.norms()[w * EVEN + row] * weight;
            value += shared.space()[(w * EVEN + row) * PART + column] * weight;
        }
        float* to = partial + ((u64)block_index() * ROWS + row) * (HEAD + 2);
        store_word(to + column, as_word(value));
        if (column < 2) store_word(to + HEAD + column, as_word(column ? total : top));
    }
}

// The shares of one head of one row: a unit as in self-attention.
DEVICE void merge(const float* partial, int rows, unsigned short* out) {
    const int thread = thread_index();
    if (thread >= HEAD) return;
    for (int unit = block_index(); unit < HEADS * rows; unit += GRID) {
        const int row = unit / HEADS, head = unit % HEADS;
        float tops[HEAD_BLOCKS], norms[HEAD_BLOCKS], values[HEAD_BLOCKS];
#pragma unroll
        for (int i = 0; i < HEAD_BLOCKS; ++i) {
            const float* from = partial + ((u64)(head * HEAD_BLOCKS + i) * ROWS + row) * (HEAD + 2);
            values[i] = fetch_float(from + thread);
            tops[i] = fetch_float(from + HEAD);
            norms[i] = fetch_float(from + HEAD + 1);
        }
        float top = NONE, total = 0.0f, value = 0.0f;
#pragma unroll
        for (int i = 0; i < HEAD_BLOCKS; ++i) top = fmaxf(top, tops[i]);
#pragma unroll
        for (int i = 0; i < HEAD_BLOCKS; ++i) {
            const float weight = exp2f(tops[i] - top);
            total += norms[i] * weight;
            value += values[i] * weight;
        }
        hand_over(out + row * WIDTH + head * HEAD, thread, value / total, true);
    }
}

KERNEL persistent_layers(const char* packed, const long long* bases, const float* vectors, const unsigned short* embedding,
                         const unsigned short* places, const int* tokens, const int* start_at, const int* ancestry,
                         unsigned short* keys, unsigned short* values, const char* cross, unsigned short* exchange,
                         float* residual, unsigned short* last_scaled, float* last_sums, u32* counters, int layers, int rows,
                         int beams, int positions, int source_positions, int prompt, double eps
#ifdef TIMELINE
                         , long long* timeline
#endif
                         ) {
    const int thread = thread_index(), lane = thread % 32, warp = thread / 32, block = block_index();
    Shared shared(warp % WARPS);
    if (warp < WARPS && lane == 0) {
        for (int i = 0; i <= SLOTS; ++i) barrier_init(shared.full + i);
        *shared.read = 0;
        *shared.units_read = 0;
        barriers_visible();
    }
    // Two sets of records: this launch hands over in one and empties the other for the next.
    const u64 set = (u64)layers * RECORD;
    const u32 odd = *(volatile u32*)(counters + 1) & 1;
    sync_all();
    if (warp == WARPS) {
        ask(packed, bases, cross, (char*)(exchange + (odd ? 0 : set)), layers, lane);
        return;
    }
    unsigned short* record = exchange + (odd ? set : 0);
    Ring ring{shared.ring, shared.full, shared.read};
#ifdef TIMELINE
    ring.timeline = timeline + block * 1024;
#endif
    const Columns<WIDTH> own;
    const Columns<3 * WIDTH> thirds;
    const Columns<FFN> inner;
    const bool mine = lane < own.count && warp < rows;  // the one column of the residual stream that this lane keeps
    const int row = warp < rows ? warp : 0, column = own.first + lane, start = load_int(start_at);
    float x = 0.0f;

    // Token embedding plus position embedding, rounded as transformers' addition is.
    if (mine) {
        const u64 token = (u64)load_int(tokens + row), place = (u64)(start + (prompt ? row : 0));
        x = load_16(embedding + token * WIDTH + column) + load_16(places + place * WIDTH + column);
        x = low_of(pack(x, 0.0f));
    }
    hand_over(record + INPUT + row * WIDTH + own.first, lane, x, mine);
    MARK(ring);

    constexpr int VECTORS = 11 * WIDTH + 2 * FFN;
    for (int layer = 0; layer < layers; ++layer, record += RECORD) {
        // qkv: sums of weights, offset (3 each) | out: bias | query: sums, offset | out: bias | fc1: sums, offset (FFN each)
        // | fc2: bias
        const float* qkv_v = vectors + WIDTH + (u64)layer * VECTORS;
        const float* self_v = qkv_v + 6 * WIDTH;
        const float* query_v = self_v + WIDTH;
        const float* cross_v = query_v + 2 * WIDTH;
        const float* fc1_v = cross_v + WIDTH;
        const float* fc2_v = fc1_v + 2 * FFN;
        const long long layer_keys = (long long)layer * positions * beams * WIDTH;
        {
            constexpr int EACH = (tiles(3 * WIDTH) * 16 + 31) / 32;
            float sums[EACH], offset[EACH];
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                const int n = lane + 32 * i;
                sums[i] = n < thirds.count ? qkv_v[thirds.first + n] : 0.0f;
                offset[i] = n < thirds.count ? qkv_v[3 * WIDTH + thirds.first + n] : 0.0f;
            }
            product<WIDTH, 3 * WIDTH, true>(ring, record + INPUT, rows, thirds.count, shared);
            if (warp < rows) {
                const Statistics norm(shared, row, (float)eps);
                const long long slot = (prompt ? (long long)(start + row) * beams : (long long)start * beams + row) * WIDTH;
#pragma unroll
                for (int i = 0; i < EACH; ++i) {
                    const int n = lane + 32 * i, at = thirds.first + n;
                    const bool live = n < thirds.count;
                    const float y = live ? norm.scale * (gathered(shared, row, n) - norm.mean * sums[i]) + offset[i] : 0.0f;
                    hand_over(record + QKV + row * 3 * WIDTH + thirds.first, n, y, live);
                    // For the steps to come.
                    if (live && at >= WIDTH) store_16((at < 2 * WIDTH ? keys - WIDTH : values - 2 * WIDTH) + layer_keys + slot + at, y);
                }
            }
            MARK(ring);
        }
        {
            const SelfAttention self{record + QKV, keys + layer_keys, values + layer_keys, ancestry, beams, positions, start, prompt, rows};
            EarlyKeys early;
            early.ask(self, block);
            self_attention(self, early, record + ATTENDED, shared);
            MARK(ring);
        }
        {
            const float bias = mine ? self_v[column] : 0.0f;
            product<WIDTH, WIDTH, false>(ring, record + ATTENDED, rows, own.count, shared);
            if (mine) x += gathered(shared, row, lane) + bias;
            hand_over(record + AFTER_SELF + row * WIDTH + own.first, lane, x, mine);
            MARK(ring);
        }
        {
            const float sums = mine ? query_v[column] : 0.0f, offset = mine ? query_v[WIDTH + column] : 0.0f;
            product<WIDTH, WIDTH, true>(ring, record + AFTER_SELF, rows, own.count, shared);
            const Statistics norm(shared, row, (float)eps);
            const float y = mine ? norm.scale * (gathered(shared, row, lane) - norm.mean * sums) + offset : 0.0f;
            hand_over(record + QUERY + row * WIDTH + own.first, lane, y, mine);
            MARK(ring);
        }
        if (block < HEADS * HEAD_BLOCKS) cross_attention(record + QUERY, rows, source_positions, layer, (float*)(record + PARTIAL), shared);
        MARK(ring);
        merge((const float*)(record + PARTIAL), rows, record + CONTEXT);
        MARK(ring);
        {
            const float bias = mine ? cross_v[column] : 0.0f;
            product<WIDTH, WIDTH, false>(ring, record + CONTEXT, rows, own.count, shared);
            if (mine) x += gathered(shared, row, lane) + bias;
            hand_over(record + AFTER_CROSS + row * WIDTH + own.first, lane, x, mine);
            MARK(ring);
        }
        {
            constexpr int EACH = (tiles(FFN) * 16 + 31) / 32;
            float sums[EACH], offset[EACH];
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                const int n = lane + 32 * i;
                sums[i] = n < inner.count ? fc1_v[inner.first + n] : 0.0f;
                offset[i] = n < inner.count ? fc1_v[FFN + inner.first + n] : 0.0f;
            }
            product<WIDTH, FFN, true>(ring, record + AFTER_CROSS, rows, inner.count, shared);
            if (warp < rows) {
                const Statistics norm(shared, row, (float)eps);
#pragma unroll
                for (int i = 0; i < EACH; ++i) {
                    const int n = lane + 32 * i;
                    const bool live = n < inner.count;
                    float y = live ? norm.scale * (gathered(shared, row, n) - norm.mean * sums[i]) + offset[i] : 0.0f;
                    y = 0.5f * y * (1.0f + erff(y * 0.7071067811865476f));
                    hand_over(record + HIDDEN + row * FFN + inner.first, n, y, live);
                }
            }
            MARK(ring);
        }
        {
            const float bias = mine ? fc2_v[column] : 0.0f;
            product<FFN, WIDTH, false>(ring, record + HIDDEN, rows, own.count, shared);
            if (mine) x += gathered(shared, row, lane) + bias;
            if (layer + 1 < layers) {
                hand_over(record + RECORD + INPUT + row * WIDTH + own.first, lane, x, mine);
            } else {
                if (mine) residual[row * WIDTH + column] = x;
                leave(x, mine, warp, column, mine ? vectors[column] : 0.0f, last_scaled, last_sums, lane);
            }
            MARK(ring);
        }
    }
    // The last block to end turns the sets round.
    sync_block();
    if (thread == 0 && add_acquire_release(counters) == GRID - 1) counters[0] = 0, counters[1] = odd ^ 1;
}
