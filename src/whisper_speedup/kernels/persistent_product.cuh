// A product of persistent_layers.cu, with the statistics of the norm before it, and what is left for the norm behind the layers.

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
