// All decoder layers of a step in one launch; persistent_layers.py has the formula, the layouts and the reasons.
// Behind persistent_ring.cuh, persistent_words.cuh, persistent_product.cuh and persistent_attention.cuh, in this order.

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
