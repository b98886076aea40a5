// How blocks of persistent_layers.cu hand numbers to each other: counts, words that say whether they are there, columns.

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
