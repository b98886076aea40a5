// All decoder layers of a step in one launch; persistent_layers.py has the formula, the layouts and the reasons.
//
// Given by the host: WIDTH, FFN, HEADS, GRID (blocks, one a multiprocessor), SLOTS of SLOT bytes (a warp's ring of
// weights), AHEAD (slots of a warp that may be on their way at once),
// BATCH (groups of 32 of K that a warp reads at once), UNITS (of 32 keys that a warp attends to), HEAD_BLOCKS (blocks that
// share a head's cross-attention), PATIENCE (looks at a barrier before the launch is given up).

constexpr int WARPS = 8, THREADS = 32 * WARPS, ROWS = 8, HEAD = 64;  // and one warp more, which asks for what they read
constexpr int RING = SLOTS * SLOT;
constexpr int UNIT = 32 * HEAD * 4;  // bytes of 32 keys and 32 values
constexpr int MOST = (FFN > 3 * WIDTH ? FFN : 3 * WIDTH);
DEVICE constexpr int tiles(int n) { return ((n + GRID - 1) / GRID + 15) / 16; }  // of 16 of a block's columns
constexpr int COLUMNS = 16 * tiles(MOST);
constexpr int REDUCE = COLUMNS + 4;  // twice this is 8 more than a multiple of 32: lanes write to banks of their own
constexpr int PART = HEAD + 8;       // likewise
constexpr int SCRATCH = WARPS * ROWS * (REDUCE > PART ? REDUCE : PART);  // floats

constexpr int PARTS = (WIDTH + 7) / 8 > 256 ? (WIDTH + 7) / 8 : 256;  // room of kernels/stream.py's sums

struct Shared {
    char* ring;        // this warp's
    char* units;       // this warp's keys and values
    float* scratch;    // the block's
    float* peaks;      // (warps, rows)
    float* norms;      // (warps, rows)
    u64* full;         // this warp's, one a slot
    u64* units_full;   // this warp's
    int* read;         // this warp's: slots that it needs no more
    int* units_read;   // this warp's: layers whose keys and values it needs no more
    int* flag;

    DEVICE Shared(int warp) {
        char* memory = shared_memory();
        ring = memory + warp * RING;
        memory += WARPS * RING;
        units = memory + warp * UNITS * UNIT;
        memory += WARPS * UNITS * UNIT;
        scratch = (float*)memory;
        peaks = scratch + SCRATCH;
        norms = peaks + WARPS * ROWS;
        u64* barriers = (u64*)(norms + WARPS * ROWS);
        full = barriers + warp * (SLOTS + 1);
        units_full = full + SLOTS;
        int* counts = (int*)(barriers + WARPS * (SLOTS + 1));
        read = counts + warp;
        units_read = counts + WARPS + warp;
        flag = counts + 2 * WARPS;
    }
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
    long long stall = 0;
#endif
};

// The ninth warp: a lane for each of the others asks for its slots, as far ahead as the ring has room. No more than AHEAD
// are on their way, or the barrier of all blocks would queue behind them. A warp that asked for its own would stand still
// whenever the copy engine is busy.
DEVICE void ask(const char* packed, const long long* bases, const char* cross, int layers, int lane) {
    if (lane >= WARPS) return;
    const Shared shared(lane);
    const int block = block_index();
    const long long base = bases[block * WARPS + lane];
    const char* source = packed + base;
    const int total = (int)((bases[block * WARPS + lane + 1] - base) / SLOT);
    constexpr int PIECE = UNITS * UNIT / 4;
    const int pieces = block < HEADS * HEAD_BLOCKS ? 4 * layers : 0;
    int issued = 0, at = 0, landed = 0, landed_at = 0, asked = 0;
    u32 parity = 0;
    while (issued < total || asked < pieces) {
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

DEVICE void await(Ring& ring, int bytes) {
    int end = ring.position + bytes;
    while (ring.ready * SLOT < end) {
#ifdef TIMELINE
        const long long before = clock64();
#endif
        barrier_wait(ring.full + ring.ready_at, ring.parity);
#ifdef TIMELINE
        ring.stall += clock64() - before;
#endif
        ++ring.ready;
        if (++ring.ready_at == SLOTS) {
            ring.ready_at = 0;
            ring.parity ^= 1;
        }
    }
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

DEVICE int begin_of(int total, int index, int parts) { return (int)((long long)total * index / parts); }

// This block's columns [first, first + count) of N.
template <int N>
struct Columns {
    int first, count;
    DEVICE Columns() {
        first = begin_of(N, block_index(), GRID);
        count = begin_of(N, block_index() + 1, GRID) - first;
    }
};

// The block's columns of x W^T, summed over K by warps: scratch (warp, row, column) holds each warp's share. x (rows, K).
template <int K, int N>
DEVICE void product(Ring& ring, const unsigned short* x, int rows, int count, float* scratch) {
    constexpr int GROUPS = K / 32, MINE = (GROUPS + WARPS - 1) / WARPS, TILES = tiles(N);
    const int warp = thread_index() / 32, lane = thread_index() % 32, g = lane / 4, t = lane % 4;
    const int first = begin_of(GROUPS, warp, WARPS), mine = begin_of(GROUPS, warp + 1, WARPS) - first;
    Vec4 in[MINE];
#pragma unroll
    for (int i = 0; i < MINE; ++i)
        in[i] = i < mine && g < rows ? load(x + g * K + (first + i) * 32 + t * 8) : Vec4{0, 0, 0, 0};
    float sum[TILES][4] = {};
    const int bytes = count * 64;
#pragma unroll
    for (int i = 0; i < MINE; ++i) {
        if (i < mine) {
            await(ring, (i % BATCH + 1) * bytes);
            const int at = i % BATCH * bytes + t * 16;
#pragma unroll
            for (int tile = 0; tile < TILES; ++tile) {
                const int upper = 16 * tile + g, lower = upper + 8;
                const Vec4 a = upper < count ? read(ring, at + upper * 64) : Vec4{0, 0, 0, 0};
                const Vec4 b = lower < count ? read(ring, at + lower * 64) : Vec4{0, 0, 0, 0};
                multiply(sum[tile], a.x, b.x, a.y, b.y, in[i].x, in[i].y);
                multiply(sum[tile], a.z, b.z, a.w, b.w, in[i].z, in[i].w);
            }
        }
        if (i % BATCH == BATCH - 1 || i == MINE - 1) {
            const int done = mine - i / BATCH * BATCH;
            if (done > 0) advance(ring, (done < BATCH ? done : BATCH) * bytes, lane);
        }
    }
    float* mine_at = scratch + warp * ROWS * REDUCE + 2 * t * REDUCE + g;
#pragma unroll
    for (int tile = 0; tile < TILES; ++tile) {
        mine_at[16 * tile] = sum[tile][0];
        mine_at[16 * tile + REDUCE] = sum[tile][1];
        mine_at[16 * tile + 8] = sum[tile][2];
        mine_at[16 * tile + 8 + REDUCE] = sum[tile][3];
    }
    sync_block();
}

// One row's value in one of the block's columns: the warps' shares, added in their order.
DEVICE float gathered(const float* scratch, int row, int column) {
    float sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < WARPS; ++warp) sum += scratch[(warp * ROWS + row) * REDUCE + column];
    return sum;
}

// Mean and reciprocal standard deviation of a row from the blocks' sums (2, rows, blocks), the same in every lane.
struct Statistics {
    static constexpr int EACH = (GRID + 31) / 32;
    float sums[EACH], squares[EACH];
    float mean, scale;
    DEVICE void ask(const float* all, int row, int lane) {
#pragma unroll
        for (int i = 0; i < EACH; ++i) {
            const int part = lane + 32 * i;
            sums[i] = part < GRID ? load_float(all + row * GRID + part) : 0.0f;
            squares[i] = part < GRID ? load_float(all + (ROWS + row) * GRID + part) : 0.0f;
        }
    }
    DEVICE void make(float eps) {
        float sum = 0.0f, square = 0.0f;
#pragma unroll
        for (int i = 0; i < EACH; ++i) {
            sum += sums[i];
            square += squares[i];
        }
#pragma unroll
        for (int mask = 16; mask; mask /= 2) {
            sum += shuffle_xor(sum, mask);
            square += shuffle_xor(square, mask);
        }
        mean = sum / WIDTH;
        scale = rsqrtf(square / WIDTH - mean * mean + eps);
    }
};

#ifdef TIMELINE
#define MARK if (thread_index() == 0) timeline[512 + marks] = *stall, timeline[marks++] = clock64()
#else
#define MARK
#endif

struct Gate {  // a barrier of all blocks
    u32* counter;
    u32 target;
#ifdef TIMELINE
    long long* timeline;
    int marks;
    const long long* stall;
#endif
    DEVICE void arrive() {
        sync_block();
        MARK;
        if (thread_index() == 0) add_release(counter);
        target += GRID;
    }
    DEVICE void wait() {
        if (thread_index() == 0) {
            u32 tries = 0;
            while (load_acquire(counter) < target) {
                give_way();
                if (++tries == PATIENCE) give_up();
            }
        }
        sync_block();
        MARK;
    }
};

// What a block leaves for the layer norm to come: its columns of x * gamma, and the sums of x and x^2 over them.
template <bool LAST>
DEVICE void leave(float x, bool live, int row, int column, float gamma, unsigned short* scaled, float* sums, int lane) {
    if (live) store_16(scaled + row * WIDTH + column, x * gamma);
    float sum = live ? x : 0.0f, square = live ? x * x : 0.0f;
#pragma unroll
    for (int mask = 16; mask; mask /= 2) {
        sum += shuffle_xor(sum, mask);
        square += shuffle_xor(square, mask);
    }
    if (lane == 0) {
        const int block = block_index();
        if (LAST) {  // as kernels/stream.py has it, for the vocabulary projection
            sums[block * ROWS + row] = sum;
            sums[(PARTS + block) * ROWS + row] = square;
        } else {
            sums[row * GRID + block] = sum;
            sums[(ROWS + row) * GRID + block] = square;
        }
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
    const unsigned short *query, *keys, *values;  // of this layer
    const int* ancestry;
    int beams, positions, start, prompt;

    DEVICE long long place(int row, int time, int column) const {
        return ((long long)time * beams + load_int(ancestry + row * positions + time)) * WIDTH + column;
    }
};

// One unit is a head of a row; lanes in groups of 8 take a key each. `early`: the first 64 keys' words that are asked
// for before this step's own keys exist.
struct EarlyKeys {
    Vec4 key[2], value[2];
    DEVICE void ask(const SelfAttention& s, int unit, int rows, bool own) {
        const int lane = thread_index() % 32, warp = thread_index() / 32;
        const int row = unit / HEADS, column = unit % HEADS * HEAD + lane % 8 * 8;
        const int length = s.prompt ? s.start + row + 1 : s.start + 1;
#pragma unroll
        for (int pass = 0; pass < 2; ++pass) {
            const int time = pass * 32 + warp * 4 + lane / 8;
            if (unit < HEADS * rows && (own ? time >= s.start && time < length : time < s.start)) {
                const long long at = s.place(row, time, column);
                key[pass] = load(s.keys + at);
                value[pass] = load(s.values + at);
            }
        }
    }
};

DEVICE void self_attention(const SelfAttention& s, EarlyKeys& early, int rows, unsigned short* out, const Shared& shared) {
    const int thread = thread_index(), lane = thread % 32, warp = thread / 32;
    for (int unit = block_index(); unit < HEADS * rows; unit += GRID) {
        if (unit != block_index()) early.ask(s, unit, rows, false);
        early.ask(s, unit, rows, true);
        const int row = unit / HEADS, column = unit % HEADS * HEAD + lane % 8 * 8;
        const int length = s.prompt ? s.start + row + 1 : s.start + 1;
        const Vec4 q = load(s.query + row * WIDTH + column);
        Running running;
        for (int pass = 0; pass * 32 < length; ++pass) {
            const int time = pass * 32 + warp * 4 + lane / 8;
            Vec4 key{0, 0, 0, 0}, value{0, 0, 0, 0};
            if (time < length) {
                if (pass == 0) {
                    key = early.key[0], value = early.value[0];
                } else if (pass == 1) {
                    key = early.key[1], value = early.value[1];
                } else {
                    const long long at = s.place(row, time, column);
                    key = load(s.keys + at);
                    value = load(s.values + at);
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
        if (lane < 8) {
#pragma unroll
            for (int i = 0; i < 8; ++i) shared.scratch[warp * PART + lane * 8 + i] = running.sum[i];
            if (lane == 0) shared.peaks[warp] = running.peak, shared.norms[warp] = running.norm;
        }
        sync_block();
        if (thread < HEAD) {
            float peak = NONE, norm = 0.0f, sum = 0.0f;
#pragma unroll
            for (int w = 0; w < WARPS; ++w) peak = fmaxf(peak, shared.peaks[w]);
#pragma unroll
            for (int w = 0; w < WARPS; ++w) {
                const float weight = exp2f(shared.peaks[w] - peak);
                norm += shared.norms[w] * weight;
                sum += shared.scratch[w * PART + thread] * weight;
            }
            store_16(out + row * WIDTH + unit % HEADS * HEAD + thread, sum / norm);
        }
        if (unit + GRID < HEADS * rows) sync_block();
    }
}

struct CrossScratch {
    float* partial;  // (heads, blocks of a head, rows, 64)
    float* stats;    // (heads, blocks of a head, rows, 2): peak and norm
    u32* arrived;    // (heads,)
};

// A block's share of one head's keys, the beams as rows of the tensor cores' tiles.
DEVICE void cross_attention(const unsigned short* query, int rows, int keys, int layer, unsigned short* out, CrossScratch cross, const Shared& shared) {
    const int thread = thread_index(), lane = thread % 32, warp = thread / 32, g = lane / 4, t = lane % 4;
    const int head = block_index() / HEAD_BLOCKS, share = block_index() % HEAD_BLOCKS;
    Vec4 q[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) q[i] = g < rows ? load(query + g * WIDTH + head * HEAD + i * 32 + t * 8) : Vec4{0, 0, 0, 0};
    float peak = NONE, norm = 0.0f, sum[8][4] = {};
    barrier_wait(shared.units_full, layer & 1);
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
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        float* to = shared.scratch + (warp * ROWS + g) * PART + 8 * i + 2 * t;
        to[0] = sum[i][0];
        to[1] = sum[i][1];
    }
    if (t == 0) shared.peaks[warp * ROWS + g] = peak, shared.norms[warp * ROWS + g] = norm;
    sync_block();
    const u64 base = (u64)block_index() * ROWS;
    for (int index = thread; index < rows * HEAD; index += THREADS) {
        const int row = index / HEAD, column = index % HEAD;
        float top = NONE, total = 0.0f, value = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; ++w) top = fmaxf(top, shared.peaks[w * ROWS + row]);
#pragma unroll
        for (int w = 0; w < WARPS; ++w) {
            const float weight = exp2f(shared.peaks[w * ROWS + row] - top);
            total += shared.norms[w * ROWS + row] * weight;
            value += shared.scratch[(w * ROWS + row) * PART + column] * weight;
        }
        if (HEAD_BLOCKS == 1) {
            store_16(out + row * WIDTH + head * HEAD + column, value / total);
        } else {
            cross.partial[(base + row) * HEAD + column] = value;
            if (column == 0) cross.stats[(base + row) * 2] = top, cross.stats[(base + row) * 2 + 1] = total;
        }
    }
    if (HEAD_BLOCKS == 1) return;
    sync_block();
    if (thread == 0) *shared.flag = add_acquire_release(cross.arrived + head) == HEAD_BLOCKS - 1;
    sync_block();
    if (!*shared.flag) return;
    for (int index = thread; index < rows * HEAD; index += THREADS) {
        const int row = index / HEAD, column = index % HEAD;
        float tops[HEAD_BLOCKS], norms[HEAD_BLOCKS], values[HEAD_BLOCKS];
        float top = NONE, total = 0.0f, value = 0.0f;
#pragma unroll
        for (int i = 0; i < HEAD_BLOCKS; ++i) {
            const u64 at = ((u64)head * HEAD_BLOCKS + i) * ROWS + row;
            tops[i] = load_float(cross.stats + at * 2);
            norms[i] = load_float(cross.stats + at * 2 + 1);
            values[i] = load_float(cross.partial + at * HEAD + column);
        }
#pragma unroll
        for (int i = 0; i < HEAD_BLOCKS; ++i) top = fmaxf(top, tops[i]);
#pragma unroll
        for (int i = 0; i < HEAD_BLOCKS; ++i) {
            const float weight = exp2f(tops[i] - top);
            total += norms[i] * weight;
            value += values[i] * weight;
        }
        store_16(out + row * WIDTH + head * HEAD + column, value / total);
    }
    if (thread == 0) cross.arrived[head] = 0;
}

KERNEL persistent_layers(const char* packed, const long long* bases, const float* vectors, const unsigned short* embedding,
                         const unsigned short* places, const int* tokens, const int* start_at, const int* ancestry,
                         unsigned short* keys, unsigned short* values, const char* cross, unsigned short* query,
                         unsigned short* attended, unsigned short* hidden, unsigned short* scaled, float* sums,
                         float* residual, unsigned short* last_scaled, float* last_sums, float* partial, float* stats,
                         u32* arrived, u32* counters, int layers, int rows, int beams, int positions, int source_positions,
                         int prompt, double eps
#ifdef TIMELINE
                         , long long* timeline
#endif
                         ) {
    const int thread = thread_index(), lane = thread % 32, warp = thread / 32, block = block_index();
    const Shared shared(warp % WARPS);
    if (warp < WARPS && lane == 0) {
        for (int i = 0; i <= SLOTS; ++i) barrier_init(shared.full + i);
        *shared.read = 0;
        *shared.units_read = 0;
        barriers_visible();
    }
    sync_all();
    if (warp == WARPS) {
        ask(packed, bases, cross, layers, lane);
        return;
    }
    Ring ring{shared.ring, shared.full, shared.read};

    Gate gate{counters, 0};
#ifdef TIMELINE
    gate.timeline = timeline + block * 1024;
    gate.marks = 0;
    gate.stall = &ring.stall;
#endif
    const Columns<WIDTH> own;
    const Columns<3 * WIDTH> thirds;
    const Columns<FFN> inner;
    const bool mine = lane < own.count && warp < rows;  // the one column of the residual stream that this lane keeps
    const int column = own.first + lane, start = load_int(start_at);
    float x = 0.0f;

    // Token embedding plus position embedding, rounded as transformers' addition is.
    if (mine) {
        const u64 token = (u64)load_int(tokens + warp), place = (u64)(start + (prompt ? warp : 0));
        x = load_16(embedding + token * WIDTH + column) + load_16(places + place * WIDTH + column);
        x = low_of(pack(x, 0.0f));
    }
    constexpr int VECTORS = 14 * WIDTH + 2 * FFN;
    leave<false>(x, mine, warp, column, mine ? vectors[column] : 0.0f, scaled, sums, lane);
    gate.arrive();

    for (int layer = 0; layer < layers; ++layer) {
        // qkv: W gamma, offset (3 each) | out: bias, gamma | query: W gamma, offset | out: bias, gamma |
        // fc1: W gamma, offset (FFN each) | fc2: bias, the next layer's gamma
        const float* qkv_v = vectors + WIDTH + (u64)layer * VECTORS;
        const float* self_v = qkv_v + 6 * WIDTH;
        const float* query_v = self_v + 2 * WIDTH;
        const float* cross_v = query_v + 2 * WIDTH;
        const float* fc1_v = cross_v + 2 * WIDTH;
        const float* fc2_v = fc1_v + 2 * FFN;
        const long long layer_keys = (long long)layer * positions * beams * WIDTH;
        const SelfAttention self{query, keys + layer_keys, values + layer_keys, ancestry, beams, positions, start, prompt};
        Statistics norm;
        {
            constexpr int EACH = (tiles(3 * WIDTH) * 16 + 31) / 32;
            float w_gamma[EACH], offset[EACH];
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                const int n = lane + 32 * i;
                w_gamma[i] = n < thirds.count ? qkv_v[thirds.first + n] : 0.0f;
                offset[i] = n < thirds.count ? qkv_v[3 * WIDTH + thirds.first + n] : 0.0f;
            }
            gate.wait();
            norm.ask(sums, warp, lane);
            product<WIDTH, 3 * WIDTH>(ring, scaled, rows, thirds.count, shared.scratch);
            norm.make((float)eps);
            const long long slot = (prompt ? (long long)(start + warp) * beams : (long long)start * beams + warp) * WIDTH;
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                const int n = lane + 32 * i, at = thirds.first + n;
                if (n < thirds.count && warp < rows) {
                    const float y = norm.scale * (gathered(shared.scratch, warp, n) - norm.mean * w_gamma[i]) + offset[i];
                    if (at < WIDTH) store_16(query + warp * WIDTH + at, y);
                    else if (at < 2 * WIDTH) store_16(keys + layer_keys + slot + at - WIDTH, y);
                    else store_16(values + layer_keys + slot + at - 2 * WIDTH, y);
                }
            }
            gate.arrive();
        }
        {
            EarlyKeys early;
            early.ask(self, block, rows, false);
            gate.wait();
            self_attention(self, early, rows, attended, shared);
            gate.arrive();
        }
        {
            const float bias = mine ? self_v[column] : 0.0f, gamma = mine ? self_v[WIDTH + column] : 0.0f;
            gate.wait();
            product<WIDTH, WIDTH>(ring, attended, rows, own.count, shared.scratch);
            if (mine) x += gathered(shared.scratch, warp, lane) + bias;
            leave<false>(x, mine, warp, column, gamma, scaled, sums, lane);
            gate.arrive();
        }
        {
            const float w_gamma = mine ? query_v[column] : 0.0f, offset = mine ? query_v[WIDTH + column] : 0.0f;
            gate.wait();
            norm.ask(sums, warp, lane);
            product<WIDTH, WIDTH>(ring, scaled, rows, own.count, shared.scratch);
            norm.make((float)eps);
            if (mine) store_16(query + warp * WIDTH + column, norm.scale * (gathered(shared.scratch, warp, lane) - norm.mean * w_gamma) + offset);
            gate.arrive();
        }
        gate.wait();
        if (block < HEADS * HEAD_BLOCKS) cross_attention(query, rows, source_positions, layer, attended, {partial, stats, arrived}, shared);
        gate.arrive();
        if (lane == 0) store_release_shared(shared.units_read, layer + 1);
        {
            const float bias = mine ? cross_v[column] : 0.0f, gamma = mine ? cross_v[WIDTH + column] : 0.0f;
            gate.wait();
            product<WIDTH, WIDTH>(ring, attended, rows, own.count, shared.scratch);
            if (mine) x += gathered(shared.scratch, warp, lane) + bias;
            leave<false>(x, mine, warp, column, gamma, scaled, sums, lane);
            gate.arrive();
        }
        {
            constexpr int EACH = (tiles(FFN) * 16 + 31) / 32;
            float w_gamma[EACH], offset[EACH];
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                const int n = lane + 32 * i;
                w_gamma[i] = n < inner.count ? fc1_v[inner.first + n] : 0.0f;
                offset[i] = n < inner.count ? fc1_v[FFN + inner.first + n] : 0.0f;
            }
            gate.wait();
            norm.ask(sums, warp, lane);
            product<WIDTH, FFN>(ring, scaled, rows, inner.count, shared.scratch);
            norm.make((float)eps);
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                const int n = lane + 32 * i;
                if (n < inner.count && warp < rows) {
                    const float y = norm.scale * (gathered(shared.scratch, warp, n) - norm.mean * w_gamma[i]) + offset[i];
                    store_16(hidden + warp * FFN + inner.first + n, 0.5f * y * (1.0f + erff(y * 0.7071067811865476f)));
                }
            }
            gate.arrive();
        }
        {
            const bool last = layer + 1 == layers;
            const float bias = mine ? fc2_v[column] : 0.0f, gamma = mine ? fc2_v[WIDTH + column] : 0.0f;
            gate.wait();
            product<FFN, WIDTH>(ring, hidden, rows, own.count, shared.scratch);
            if (mine) x += gathered(shared.scratch, warp, lane) + bias;
            if (last) {
                if (mine) residual[warp * WIDTH + column] = x;
                leave<true>(x, mine, warp, column, gamma, last_scaled, last_sums, lane);
            } else {
                leave<false>(x, mine, warp, column, gamma, scaled, sums, lane);
                gate.arrive();
            }
        }
    }
    // The last block to end makes the counters ready for the next launch: by then all have passed every barrier.
    sync_block();
    if (thread == 0 && add_acquire_release(counters + 1) == GRID - 1) counters[0] = 0, counters[1] = 0;
}
