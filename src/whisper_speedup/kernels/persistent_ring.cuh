// What a block of persistent_layers.cu reads: its pieces, the ring in shared memory that they come through, and the warp that
// asks for them.
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
