// Attention in persistent_layers.cu: this step's to the ones before, and to the encoder's states.

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
