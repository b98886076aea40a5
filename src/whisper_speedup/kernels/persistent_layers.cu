// All decoder layers of a step in one launch; persistent_layers.py has the formula, the layouts and the reasons.
//
// Given by the host: WIDTH, FFN, HEADS, ROWS (at most, of a launch), GRID (blocks, one a multiprocessor), RING (bytes of a
// block's ring), PIECE (bytes of weights that a warp gets at once, at most), AHEAD (pieces that may be on their way at once),
// PENDING (pieces in the ring, at most), KEYS (pieces of a block's keys and values), UNITS (of 32 keys that a warp attends to),
// HEAD_BLOCKS (blocks that share a head's cross-attention), WAYS (runs of blocks that are counted apart), LINE (words from one
// count to the next), PATIENCE (looks at a word before the launch is given up).

constexpr int WARPS = 8, HEAD = 64;  // and one warp more, which asks for what the others read
constexpr int UNIT = 32 * HEAD * 4;  // bytes of 32 keys and 32 values
constexpr int EVEN = (ROWS + 1) / 2 * 2;
DEVICE constexpr int columns_of(int n) { return 2 * ((n / 2 + GRID - 1) / GRID); }  // of a block, at most
DEVICE constexpr int tiles_of(int n) { return (columns_of(n) + 15) / 16; }
DEVICE constexpr int groups_of(int k) { return (k / 32 + WARPS - 1) / WARPS; }  // of 32 of K, a warp's
DEVICE constexpr int least(int a, int b) { return a < b ? a : b; }
DEVICE constexpr int greatest(int a, int b) { return a > b ? a : b; }
constexpr int REDUCE = 16 * tiles_of(greatest(FFN, 3 * WIDTH)) + 4;  // twice this is 8 more than a multiple of 32:
constexpr int PART = HEAD + 8;                                      // lanes write to banks of their own; likewise
constexpr int SCRATCH = WARPS * greatest(EVEN * REDUCE, ROWS * PART);  // floats
constexpr int PARTS = greatest((WIDTH + 7) / 8, 256);                // room of kernels/stream.py's sums
constexpr int STATS = 2 * WARPS * EVEN;                              // floats: two numbers a warp and row

// What blocks hand to each other in a layer, numbers of 16 bits, (rows, N) each; then the shares of cross-attention, fp32.
constexpr int INPUT = 0, QKV = INPUT + ROWS * WIDTH, ATTENDED = QKV + 3 * ROWS * WIDTH, AFTER_SELF = ATTENDED + ROWS * WIDTH;
constexpr int QUERY = AFTER_SELF + ROWS * WIDTH, CONTEXT = QUERY + ROWS * WIDTH, AFTER_CROSS = CONTEXT + ROWS * WIDTH;
constexpr int HIDDEN = AFTER_CROSS + ROWS * WIDTH, PARTIAL = HIDDEN + ROWS * FFN;
constexpr int RECORD = (PARTIAL + 2 * HEADS * HEAD_BLOCKS * ROWS * (HEAD + 2) + 7) / 8 * 8;
constexpr u32 EMPTY = 0xffffffffu;  // not yet written: a NaN that no arithmetic gives

// A product's weights come in pieces: some groups of 32 of K of all eight warps, warp by warp.
struct Piece {
    int group, groups, all, count;  // bytes of a warp's group; groups of a piece, at most, and of all; pieces
    DEVICE constexpr Piece(int columns, int of_warp)
        : group(64 * columns), groups(greatest(1, least(of_warp, PIECE / (64 * columns)))), all(of_warp), count((of_warp + groups - 1) / groups) {}
    DEVICE constexpr int share(int piece) const { return group * least(groups, all - piece * groups); }  // of a warp
    DEVICE constexpr int bytes(int piece) const { return WARPS * share(piece); }
};
constexpr Piece QKV_PIECE(columns_of(3 * WIDTH), groups_of(WIDTH)), SQUARE_PIECE(columns_of(WIDTH), groups_of(WIDTH));
constexpr Piece FC1_PIECE(columns_of(FFN), groups_of(WIDTH)), FC2_PIECE(columns_of(WIDTH), groups_of(FFN));
constexpr int LAYER_BYTES = WARPS * (QKV_PIECE.group * QKV_PIECE.all + 3 * SQUARE_PIECE.group * SQUARE_PIECE.all +
                                     FC1_PIECE.group * FC1_PIECE.all + FC2_PIECE.group * FC2_PIECE.all);
constexpr int KEYS_BYTES = WARPS / KEYS * UNITS * UNIT;  // of a piece of a block's keys and values

// What a block reads in a layer, piece by piece: the weights of qkv, out and query, cross-attention's keys and values, the
// weights of out, fc1 and fc2. Blocks without a share of cross-attention have none of its pieces.
struct Reading {
    int query, keys, out, fc1, all;  // pieces in a layer up to the end of each
    DEVICE constexpr Reading(bool crosses)
        : query(QKV_PIECE.count + 2 * SQUARE_PIECE.count), keys(query + (crosses ? KEYS : 0)), out(keys + SQUARE_PIECE.count),
          fc1(out + FC1_PIECE.count), all(fc1 + FC2_PIECE.count) {}
    DEVICE bool is_key(int piece) const { return piece >= query && piece < keys; }
    DEVICE int bytes(int piece) const {
        return piece < QKV_PIECE.count ? QKV_PIECE.bytes(piece)
               : is_key(piece)         ? KEYS_BYTES
               : piece < query         ? SQUARE_PIECE.bytes((piece - QKV_PIECE.count) % SQUARE_PIECE.count)
               : piece < out           ? SQUARE_PIECE.bytes(piece - keys)
               : piece < fc1           ? FC1_PIECE.bytes(piece - out)
                                       : FC2_PIECE.bytes(piece - fc1);
    }
};
constexpr int MOST_PIECES = Reading(true).all;

// Where in the ring a piece lies: behind the one before, or at its begin where that would reach past its end.
DEVICE int place(int end, int bytes) { return end + bytes > RING ? 0 : end; }

// Shared memory: the ring, the scratch and its numbers, barriers, counts, the pieces' bytes, whom to tell when giving up.
constexpr int BARRIERS = RING + 4 * (SCRATCH + STATS);
constexpr int COUNTS = BARRIERS + 8 * PENDING, SIZES = COUNTS + 4 * WARPS, TELL = (SIZES + 4 * MOST_PIECES + 7) / 8 * 8;

DEVICE void impatient(int& tries) {
    give_way();
    if (++tries == PATIENCE) give_up(*(u32**)(shared_memory() + TELL));
}

struct Shared {
    char* ring;
    float* scratch;
    float* peaks;  // (warps, rows)
    float* norms;  // (warps, rows)
    u64* full;     // a barrier a piece
    int* read;     // (warps,): pieces that a warp needs no more
    int* sizes;    // a layer's pieces' bytes

    DEVICE Shared() {
        ring = shared_memory();
        scratch = (float*)(ring + RING);
        peaks = scratch + SCRATCH;
        norms = peaks + WARPS * EVEN;
        full = (u64*)(ring + BARRIERS);
        read = (int*)(ring + COUNTS);
        sizes = (int*)(ring + SIZES);
    }
};

// What a warp reads next.
struct Ring {
    int end = 0, pieces = 0;
    // The next piece, whether it is there or not.
    DEVICE const char* pass(const Shared& shared, int bytes) {
        ++pieces;
        const int at = place(end, bytes);
        end = at + bytes;
        return shared.ring + at;
    }
    // The next piece, once it is there.
    DEVICE const char* take(const Shared& shared, int bytes) {
#ifdef TIMELINE
        const long long before = clock64();
#endif
        barrier_wait(shared.full + pieces % PENDING, pieces / PENDING & 1);
#ifdef TIMELINE
        stall += clock64() - before;
#endif
        return pass(shared, bytes);
    }
    // What was taken may be overwritten.
    DEVICE void release(const Shared& shared) const {
        sync_warp();
        if (thread_index() % 32 == 0) store_shared_int(shared.read + thread_index() / 32, pieces);
    }
#ifdef TIMELINE
    long long* timeline;
    int marks = 0;
    long long stall = 0;
#endif
};

#ifdef TIMELINE
#define MARK(ring) if (thread_index() == 0) (ring).timeline[1024 + (ring).marks] = (ring).stall, (ring).timeline[(ring).marks++] = clock64()
#else
#define MARK(ring)
#endif

// The ninth warp: its first lane asks for what the block reads, as far ahead as the ring has room. A warp that asked for its
// own would stand still whenever the copy engine is busy. Only AHEAD pieces are on their way at a time, or what blocks hand to
// each other would queue behind them. One warp alone goes through this loop, slowly: what need not be worked out in it is not.
// The other lanes empty what the next launch hands over in.
DEVICE void ask(const char* packed, const char* cross, char* spare, int layers, int lane) {
    const int block = block_index();
    const Shared shared;
    const Reading reading(block < HEADS * HEAD_BLOCKS);
    const char* weights = packed + (u64)block * layers * LAYER_BYTES;
    const char* keys = cross + (u64)block * KEYS * KEYS_BYTES;
    const int pieces = lane ? 0 : layers * reading.all;
    const u64 words = (u64)layers * RECORD / 8, last = lane ? words * (block + 1) / GRID : 0;
    u64 word = lane ? words * block / GRID + lane - 1 : 0;
    for (int i = lane; i < reading.all; i += 32) shared.sizes[i] = reading.bytes(i);
    sync_warp();
    // Pieces asked for, known to have landed, known to be read by all warps.
    int issued = 0, landed = 0, freed = 0;
    // Of the piece to be asked for next: its number in its layer, its bytes, its place; the same of the oldest in the ring. What
    // is in the ring goes from `begin` to `end`, maybe past the ring's own end.
    int newest = 0, bytes = shared.sizes[0], end = 0, at = 0, oldest = 0, oldest_bytes = bytes, begin = 0;
    while (issued < pieces || word < last) {
        if (issued < pieces) {
            int read = load_shared_int(shared.read);
#pragma unroll
            for (int warp = 1; warp < WARPS; ++warp) read = least(read, load_shared_int(shared.read + warp));
            for (; freed < read; ++freed) {
                const int freed_end = begin + oldest_bytes;
                if (++oldest == reading.all) oldest = 0;
                oldest_bytes = shared.sizes[oldest];
                begin = place(freed_end, oldest_bytes);
            }
            // What has been read has landed: a barrier's phase could otherwise be missed.
            landed = greatest(landed, read);
            while (landed < issued && barrier_test(shared.full + landed % PENDING, landed / PENDING & 1)) ++landed;
            const int ahead = landed == freed ? AHEAD + 1 : AHEAD;  // where a warp may be waiting
            while (issued < pieces && issued - landed < ahead && issued - freed < PENDING &&
                   (issued == freed || (at == end ? end > begin || end + bytes <= begin : end > begin && bytes <= begin))) {
                u64* full = shared.full + issued % PENDING;
                const bool key = reading.is_key(newest);
                expect(full, bytes);
                copy_in(shared.ring + at, key ? keys : weights, bytes, full);
                if (key)
                    keys += bytes;
                else
                    weights += bytes;
                if (++newest == reading.keys) keys += (u64)(HEADS * HEAD_BLOCKS - 1) * KEYS * KEYS_BYTES;
                if (newest == reading.all) newest = 0;
                ++issued;
                end = at + bytes;
                bytes = shared.sizes[newest];
                at = place(end, bytes);
            }
        }
        if (word < last) {
            store(spare + 16 * word, {EMPTY, EMPTY, EMPTY, EMPTY});
            word += 31;
        }
        pause();
    }
}

// When it is worth looking for what other blocks hand over: counts of the blocks that have written theirs. They order
// nothing. A fence before them would wait for every copy that is on its way to this multiprocessor, and those never cease; so
// the words themselves say whether they are there (fetch), and a count only spares the memory the looking. Each of WAYS runs of
// blocks has a count in a line of its own: a warp waits for the runs that write what it reads, and not for the others.
DEVICE constexpr int first_of_way(int way) { return (way * GRID + WAYS - 1) / WAYS; }
DEVICE constexpr int way_of(int block) { return block * WAYS / GRID; }
// The ways of blocks [first, last], and of those that write columns [first, last] of N.
DEVICE u32 ways_of_blocks(int first, int last) { return (2u << way_of(last)) - (1u << way_of(first)); }
template <int N>
DEVICE u32 ways_of_columns(int first, int last) {
    return ways_of_blocks(((first / 2 + 1) * GRID - 1) / (N / 2), ((last / 2 + 1) * GRID - 1) / (N / 2));
}
// Of what a warp reads in a product with K, written by columns.
template <int K>
DEVICE u32 ways_of_share(int warp) {
    const int first = warp * groups_of(K) * 32, end = least(K, first + groups_of(K) * 32);
    return first < end ? ways_of_columns<K>(first, end - 1) : 0;
}
// What self-attention and `merge` write comes unit by unit, a head of a row from a block each, so that a warp's share comes from
// nearly all runs; the words are there long before the slowest block has ended. A warp looks at the run of one of its units.
DEVICE u32 way_of_a_unit(int warp, int rows) {
    const int head = least(HEADS - 1, warp * groups_of(WIDTH) * 32 / HEAD);
    return 1u << way_of((warp % rows * HEADS + head) % GRID);
}

struct Gate {
    u32* counts;
    u32 times = 0;
    DEVICE void arrive() {
        sync_block();
        if (thread_index() == 0) add_one(counts + LINE * way_of(block_index()));
        ++times;
    }
    // Of one warp. What is not awaited here is awaited by its words.
    DEVICE void wait(u32 ways) const {
#ifndef NO_GATE
        const int way = thread_index() % 32;
        if (way < WAYS && ways >> way & 1) {
            const u32 target = times * (first_of_way(way + 1) - first_of_way(way));
            int tries = 0;
            while (load_word(counts + LINE * way) < target) impatient(tries);
        }
#endif
        sync_warp();
    }
};

DEVICE bool there(Vec4 v) { return v.x != EMPTY && v.y != EMPTY && v.z != EMPTY && v.w != EMPTY; }

// Look again until it is there.
DEVICE void again(Vec4& v, const void* from) {
#ifndef NO_GATE
    int tries = 0;
    while (!there(v)) {
        impatient(tries);
        v = load(from);
    }
#endif
}

DEVICE void again(float& value, const float* from) {
#ifndef NO_GATE
    int tries = 0;
    while (as_word(value) == EMPTY) {
        impatient(tries);
        value = load_float(from);
    }
#endif
}

// A lane's words of what other blocks wrote, 32 numbers apart.
template <int COUNT>
DEVICE void fetch(Vec4 (&in)[COUNT], const unsigned short* from, int count, bool live) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) in[i] = live && i < count ? load(from + 32 * i) : Vec4{0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < COUNT; ++i) again(in[i], from + 32 * i);
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

// Columns n, n + 1 of a row, by the even lane of the two; every lane of the warp takes part.
DEVICE void hand_over(unsigned short* row, int n, float value, bool live) {
    const float other = shuffle_xor(value, 1);
    if (live && n % 2 == 0) store_word(row + n, pack(value, other));
}

constexpr u32 ONES =
#ifdef BF16
    0x3f803f80u;
#else
    0x3c003c00u;
#endif

// The block's columns of x W^T, summed over K by warps: the scratch (warp, row, column) holds each warp's share. x (rows, K).
// With NORM peaks and norms hold each warp's share of the rows' sums of squares and sums. The tensor cores' tiles reach past
// a block's columns into what lies behind them, whatever it is: those columns are not looked at.
template <int K, int N, bool NORM>
DEVICE void product(Ring& ring, const Gate& gate, u32 ways, const unsigned short* x, int rows, const Shared& shared) {
    constexpr int MINE = groups_of(K), TILES = tiles_of(N), STRIDE = 64 * columns_of(N);
    constexpr Piece piece(columns_of(N), groups_of(K));
    const int warp = thread_index() / 32, lane = thread_index() % 32, g = lane / 4, t = lane % 4;
    Vec4 in[MINE];
    const int groups = K % (32 * WARPS) ? greatest(0, least(MINE, K / 32 - warp * MINE)) : MINE;
    gate.wait(ways);
    MARK(ring);
    fetch(in, x + g * K + warp * MINE * 32 + t * 8, groups, g < rows);
    float sum[TILES][2][4] = {};
    float gram[2][4] = {};
#pragma unroll
    for (int p = 0; p < piece.count; ++p) {
        const char* at = ring.take(shared, piece.bytes(p)) + warp * piece.share(p) + g * 64 + t * 16;
#pragma unroll
        for (int i = 0; i < piece.groups && p * piece.groups + i < MINE; ++i) {
            const Vec4 b = in[p * piece.groups + i];
#pragma unroll
            for (int tile = 0; tile < TILES; ++tile) {
                const Vec4 upper = load_shared(at + i * STRIDE + tile * 1024);
                const Vec4 lower = 16 * tile + 8 < columns_of(N) ? load_shared(at + i * STRIDE + tile * 1024 + 512) : Vec4{0, 0, 0, 0};
                multiply(sum[tile][0], upper.x, lower.x, upper.y, lower.y, b.x, b.y);
                multiply(sum[tile][1], upper.z, lower.z, upper.w, lower.w, b.z, b.w);
            }
            if (NORM) {  // rows of x, and of ones below: x x^T, whose diagonal counts, and the sums
                multiply(gram[0], b.x, ONES, b.y, ONES, b.x, b.y);
                multiply(gram[1], b.z, ONES, b.w, ONES, b.z, b.w);
            }
        }
        ring.release(shared);
    }
    float* mine_at = shared.scratch + (warp * EVEN + 2 * t) * REDUCE + g;
    if (2 * t < EVEN) {
#pragma unroll
        for (int tile = 0; tile < TILES; ++tile) {
            mine_at[16 * tile] = sum[tile][0][0] + sum[tile][1][0];
            mine_at[16 * tile + REDUCE] = sum[tile][0][1] + sum[tile][1][1];
            if (16 * tile + 8 < columns_of(N)) {
                mine_at[16 * tile + 8] = sum[tile][0][2] + sum[tile][1][2];
                mine_at[16 * tile + 8 + REDUCE] = sum[tile][0][3] + sum[tile][1][3];
            }
        }
        if (NORM) {
            if (g / 2 == t && g < EVEN) shared.peaks[warp * EVEN + g] = g % 2 ? gram[0][1] + gram[1][1] : gram[0][0] + gram[1][0];
            if (g == 0) {
                shared.norms[warp * EVEN + 2 * t] = gram[0][2] + gram[1][2];
                shared.norms[warp * EVEN + 2 * t + 1] = gram[0][3] + gram[1][3];
            }
        }
    }
    sync_block();
}

// One row's value in one of the block's columns: the warps' shares, added in their order.
DEVICE float gathered(const Shared& shared, int row, int column) {
    float sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < WARPS; ++warp) sum += shared.scratch[(warp * EVEN + row) * REDUCE + column];
    return sum;
}

// Mean and reciprocal standard deviation of a row.
struct Statistics {
    float mean, scale;
    DEVICE Statistics(const Shared& shared, int row, float eps) {
        float sum = 0.0f, square = 0.0f;
#pragma unroll
        for (int warp = 0; warp < WARPS; ++warp) {
            square += shared.peaks[warp * EVEN + row];
            sum += shared.norms[warp * EVEN + row];
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
    DEVICE u32 ways(int head) const {  // that write this step's query, keys and values
        u32 all = 0;
#pragma unroll
        for (int third = 0; third < 3; ++third) all |= ways_of_columns<3 * WIDTH>(third * WIDTH + head, third * WIDTH + head + HEAD - 1);
        return all;
    }
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

DEVICE void self_attention(const SelfAttention& s, EarlyKeys& early, unsigned short* out, const Shared& shared) {
    const int thread = thread_index(), lane = thread % 32, warp = thread / 32;
    for (int unit = block_index(); unit < HEADS * s.rows; unit += GRID) {
        if (unit != block_index()) {
            sync_block();
            early.ask(s, unit);
        }
        const int row = unit / HEADS, head = unit % HEADS * HEAD, column = head + lane % 8 * 8, length = s.length(row);
        const unsigned short* own = s.fresh + (s.prompt ? -s.start : row) * 3 * WIDTH + WIDTH + column;  // of time 0, if a prompt
        const int stride = s.prompt ? 3 * WIDTH : 0;
        const unsigned short* q_at = s.fresh + row * 3 * WIDTH + column;
        Vec4 q = load(q_at);
#pragma unroll
        for (int pass = 0; pass < 2; ++pass) {
            const int time = pass * 32 + warp * 4 + lane / 8;
            if (time >= s.start && time < length) {
                early.key[pass] = load(own + time * stride);
                early.value[pass] = load(own + time * stride + WIDTH);
            }
        }
        again(q, q_at);
        Running running;
        for (int pass = 0; pass * 32 < length; ++pass) {
            const int time = pass * 32 + warp * 4 + lane / 8;
            Vec4 key{0, 0, 0, 0}, value{0, 0, 0, 0};
            if (time < length) {
                const bool now = time >= s.start;
                if (pass < 2) {
                    key = pass ? early.key[1] : early.key[0];
                    value = pass ? early.value[1] : early.value[0];
                } else if (now) {
                    key = load(own + time * stride);
                    value = load(own + time * stride + WIDTH);
                } else {
                    s.old(row, time, column, key, value);
                }
                if (now) {
                    again(key, own + time * stride);
                    again(value, own + time * stride + WIDTH);
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
        float* space = shared.scratch;
        if (lane < 8) {
#pragma unroll
            for (int i = 0; i < 8; ++i) space[warp * PART + lane * 8 + i] = running.sum[i];
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
                sum += space[w * PART + thread] * weight;
            }
            hand_over(out + row * WIDTH, head + thread, sum / norm, true);
        }
    }
}

// A block's share of one head's keys, the beams as rows of the tensor cores' tiles; merged by `merge`.
DEVICE void cross_attention(Ring& ring, const unsigned short* query, int rows, int keys, float* partial, const Shared& shared) {
    const int thread = thread_index(), lane = thread % 32, warp = thread / 32, g = lane / 4, t = lane % 4;
    const int head = block_index() / HEAD_BLOCKS, share = block_index() % HEAD_BLOCKS;
    Vec4 q[2];
    fetch(q, query + g * WIDTH + head * HEAD + t * 8, 2, g < rows);
    float peak = NONE, norm = 0.0f, sum[8][4] = {};
    const char* mine = nullptr;  // in one of the pieces; that the others are there its warps have seen before any goes on
#pragma unroll
    for (int i = 0; i < KEYS; ++i) {
        if (i == warp * KEYS / WARPS)
            mine = ring.take(shared, KEYS_BYTES) + warp % (WARPS / KEYS) * UNITS * UNIT;
        else
            ring.pass(shared, KEYS_BYTES);
    }
#pragma unroll
    for (int unit = 0; unit < UNITS; ++unit) {
        const int first = ((share * WARPS + warp) * UNITS + unit) * 32;
        if (first >= keys) break;
        const char* at = mine + unit * UNIT + t * 16;
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
    ring.release(shared);
    if (g < ROWS) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            float* to = shared.scratch + (warp * ROWS + g) * PART + 8 * i + 2 * t;
            to[0] = sum[i][0];
            to[1] = sum[i][1];
        }
        if (t == 0) shared.peaks[warp * EVEN + g] = peak, shared.norms[warp * EVEN + g] = norm;
    }
    sync_block();
    // Half the threads' time, were each to merge one column: all rows in one round, a row by a warp.
    for (int row = warp; row < rows; row += WARPS) {
        float top = NONE, total = 0.0f, values[2] = {};
#pragma unroll
        for (int w = 0; w < WARPS; ++w) top = fmaxf(top, shared.peaks[w * EVEN + row]);
#pragma unroll
        for (int w = 0; w < WARPS; ++w) {
            const float weight = exp2f(shared.peaks[w * EVEN + row] - top);
            total += shared.norms[w * EVEN + row] * weight;
#pragma unroll
            for (int i = 0; i < 2; ++i) values[i] += shared.scratch[(w * ROWS + row) * PART + lane + 32 * i] * weight;
        }
        float* to = partial + ((u64)block_index() * ROWS + row) * (HEAD + 2);
#pragma unroll
        for (int i = 0; i < 2; ++i) store_word(to + lane + 32 * i, as_word(values[i]));
        if (lane < 2) store_word(to + HEAD + lane, as_word(lane ? total : top));
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
            values[i] = load_float(from + thread);
            tops[i] = load_float(from + HEAD);
            norms[i] = load_float(from + HEAD + 1);
        }
#pragma unroll
        for (int i = 0; i < HEAD_BLOCKS; ++i) {  // all on their way first
            const float* from = partial + ((u64)(head * HEAD_BLOCKS + i) * ROWS + row) * (HEAD + 2);
            again(values[i], from + thread);
            again(tops[i], from + HEAD);
            again(norms[i], from + HEAD + 1);
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
        hand_over(out + row * WIDTH, head * HEAD + thread, value / total, true);
    }
}

KERNEL persistent_layers(const char* packed, const float* vectors, const unsigned short* embedding, const unsigned short* places,
                         const int* tokens, const int* start_at, const int* ancestry, unsigned short* keys,
                         unsigned short* values, const char* cross, unsigned short* exchange, float* residual,
                         unsigned short* last_scaled, float* last_sums, u32* counters, const int* done, u32* gave_up, int layers,
                         int rows, int beams, int positions, int source_positions, int prompt, double eps
#ifdef TIMELINE
                         , long long* timeline
#endif
                         ) {
    if (load_int(done)) return;  // a step behind the search's end changes nothing, and costs as good as nothing
    const int thread = thread_index(), lane = thread % 32, warp = thread / 32, block = block_index();
    const Shared shared;
    if (thread == 0) *(u32**)(shared_memory() + TELL) = gave_up;
    if (thread < PENDING) barrier_init(shared.full + thread);
    if (thread < WARPS) shared.read[thread] = 0;
    if (thread < PENDING) barriers_visible();
    // Two sets of records: this launch hands over in one and empties the other for the next.
    const u64 set = (u64)layers * RECORD;
    const u32 odd = load_word(counters + 2) & 1;
    sync_all();
    if (warp == WARPS) {
        ask(packed, cross, (char*)(exchange + (odd ? 0 : set)), layers, lane);
        return;
    }
    unsigned short* record = exchange + (odd ? set : 0);
    Ring ring;
#ifdef TIMELINE
    ring.timeline = timeline + block * 2048;
#endif
    Gate gate{counters + LINE};
    const u32 by_columns = ways_of_share<WIDTH>(warp), by_inner = ways_of_share<FFN>(warp), by_unit = way_of_a_unit(warp, rows);
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
    hand_over(record + INPUT + row * WIDTH, column, x, mine);
    gate.arrive();
    MARK(ring);

    constexpr int VECTORS = 11 * WIDTH + 2 * FFN;
    for (int layer = 0; layer < layers; ++layer, record += RECORD) {
        float* partial = (float*)(record + PARTIAL);
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
            constexpr int EACH = (columns_of(3 * WIDTH) + 31) / 32;
            float sums[EACH], offset[EACH];
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                const int n = lane + 32 * i;
                sums[i] = n < thirds.count ? qkv_v[thirds.first + n] : 0.0f;
                offset[i] = n < thirds.count ? qkv_v[3 * WIDTH + thirds.first + n] : 0.0f;
            }
            product<WIDTH, 3 * WIDTH, true>(ring, gate, by_columns, record + INPUT, rows, shared);
            float y[EACH] = {};
            if (warp < rows) {
                const Statistics norm(shared, row, (float)eps);
#pragma unroll
                for (int i = 0; i < EACH; ++i) {
                    const int n = lane + 32 * i;
                    const bool live = n < thirds.count;
                    if (live) y[i] = norm.scale * (gathered(shared, row, n) - norm.mean * sums[i]) + offset[i];
                    hand_over(record + QKV + row * 3 * WIDTH, thirds.first + n, y[i], live);
                }
            }
            gate.arrive();
            MARK(ring);
            // For the steps to come.
            const long long slot = (prompt ? (long long)(start + row) * beams : (long long)start * beams + row) * WIDTH + layer_keys;
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                const int n = lane + 32 * i, at = thirds.first + n;
                if (n < thirds.count && warp < rows && at >= WIDTH) store_16((at < 2 * WIDTH ? keys - WIDTH : values - 2 * WIDTH) + slot + at, y[i]);
            }
        }
        {
            const SelfAttention self{record + QKV, keys + layer_keys, values + layer_keys, ancestry, beams, positions, start, prompt, rows};
            EarlyKeys early;
            early.ask(self, block);
            gate.wait(block < HEADS * rows ? self.ways(block % HEADS * HEAD) : 0);
            MARK(ring);
            self_attention(self, early, record + ATTENDED, shared);
            gate.arrive();
            MARK(ring);
        }
        {
            const float bias = mine ? self_v[column] : 0.0f;
            product<WIDTH, WIDTH, false>(ring, gate, by_unit, record + ATTENDED, rows, shared);
            if (mine) x += gathered(shared, row, lane) + bias;
            hand_over(record + AFTER_SELF + row * WIDTH, column, x, mine);
            gate.arrive();
            MARK(ring);
        }
        {
            const float sums = mine ? query_v[column] : 0.0f, offset = mine ? query_v[WIDTH + column] : 0.0f;
            product<WIDTH, WIDTH, true>(ring, gate, by_columns, record + AFTER_SELF, rows, shared);
            const Statistics norm(shared, row, (float)eps);
            const float y = mine ? norm.scale * (gathered(shared, row, lane) - norm.mean * sums) + offset : 0.0f;
            hand_over(record + QUERY + row * WIDTH, column, y, mine);
            gate.arrive();
            MARK(ring);
        }
        {
            const int head = block / HEAD_BLOCKS;
            gate.wait(head < HEADS ? ways_of_columns<WIDTH>(head * HEAD, head * HEAD + HEAD - 1) : 0);
            MARK(ring);
            if (head < HEADS) cross_attention(ring, record + QUERY, rows, source_positions, partial, shared);
            gate.arrive();
            MARK(ring);
        }
        {
            const int head = block % HEADS;
            gate.wait(block < HEADS * rows ? ways_of_blocks(head * HEAD_BLOCKS, (head + 1) * HEAD_BLOCKS - 1) : 0);
            MARK(ring);
            merge(partial, rows, record + CONTEXT);
        }
        gate.arrive();
        MARK(ring);
        {
            const float bias = mine ? cross_v[column] : 0.0f;
            product<WIDTH, WIDTH, false>(ring, gate, by_unit, record + CONTEXT, rows, shared);
            if (mine) x += gathered(shared, row, lane) + bias;
            hand_over(record + AFTER_CROSS + row * WIDTH, column, x, mine);
            gate.arrive();
            MARK(ring);
        }
        {
            constexpr int EACH = (columns_of(FFN) + 31) / 32;
            float sums[EACH], offset[EACH];
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                const int n = lane + 32 * i;
                sums[i] = n < inner.count ? fc1_v[inner.first + n] : 0.0f;
                offset[i] = n < inner.count ? fc1_v[FFN + inner.first + n] : 0.0f;
            }
            product<WIDTH, FFN, true>(ring, gate, by_columns, record + AFTER_CROSS, rows, shared);
            if (warp < rows) {
                const Statistics norm(shared, row, (float)eps);
#pragma unroll
                for (int i = 0; i < EACH; ++i) {
                    const int n = lane + 32 * i;
                    const bool live = n < inner.count;
                    float y = live ? norm.scale * (gathered(shared, row, n) - norm.mean * sums[i]) + offset[i] : 0.0f;
                    y = 0.5f * y * (1.0f + erff(y * 0.7071067811865476f));
                    hand_over(record + HIDDEN + row * FFN, inner.first + n, y, live);
                }
            }
            gate.arrive();
            MARK(ring);
        }
        {
            const float bias = mine ? fc2_v[column] : 0.0f;
            product<FFN, WIDTH, false>(ring, gate, by_inner, record + HIDDEN, rows, shared);
            if (mine) x += gathered(shared, row, lane) + bias;
            if (layer + 1 < layers) {
                hand_over(record + RECORD + INPUT + row * WIDTH, column, x, mine);
                gate.arrive();
            } else {
                if (mine) residual[row * WIDTH + column] = x;
                leave(x, mine, warp, column, mine ? vectors[column] : 0.0f, last_scaled, last_sums, lane);
            }
            MARK(ring);
        }
    }
    // The last block to end makes the counters ready for the next launch: by then all have passed every gate.
    sync_block();
    if (thread == 0 && add_acquire_release(counters + 1) == GRID - 1) {
        for (int way = 0; way < WAYS; ++way) counters[LINE * (1 + way)] = 0;
        counters[1] = 0, counters[2] = odd ^ 1;
    }
}
