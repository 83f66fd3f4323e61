/* Positions of a seeded rule, and the weights of a model at positions.
 *
 * What numpy does in several passes over memory is done here in one.
 */
#include <stdint.h>

#include "counter_hash.h"

enum { PART = 1024, AHEAD = 24 };

/* The n words from `first` on. */
static void words(uint32_t prefix, uint32_t first, int64_t n, uint32_t *restrict into) {
    for (int64_t i = 0; i < n; i++) into[i] = counter_word(prefix, first + (uint32_t)i);
}

/* Choose counts[b] = k of the sizes[b] = n entries of consecutive blocks: one in each stratum
 * [floor(i n / k), floor((i + 1) n / k)), by the next word. */
void stratified(uint32_t prefix, const int64_t *sizes, const int64_t *counts, int64_t n_blocks,
                int64_t *restrict places) {
    uint32_t drawn[PART];
    int64_t done = 0, block_start = 0;
    for (int64_t b = 0; b < n_blocks; b++) {
        const int64_t k = counts[b];
        int64_t start = block_start, carried = 0;
        block_start += sizes[b];
        if (!k) continue;
        const int64_t whole = sizes[b] / k, rest = sizes[b] % k;
        for (int64_t i = 0; i < k; i++, done++) {
            if (done % PART == 0) words(prefix, (uint32_t)done, PART, drawn);
            carried += rest;
            const int64_t longer = carried >= k, length = whole + longer;
            carried -= longer ? k : 0;
            const uint64_t within = (uint64_t)drawn[done % PART] * (uint64_t)length >> 32;
            places[done] = start + (int64_t)within;
            start += length;
        }
    }
}

/* Copy numbers of one size between arrays, which begin at `addresses`, and one buffer. Positions
 * are those of array after array, counts[a] of each. */
#define DEFINE(BITS)                                                                              \
    void read_##BITS(const uint64_t *addresses, const int64_t *counts, int64_t n_arrays,          \
                     const int64_t *at, uint##BITS##_t *restrict into) {                          \
        for (int64_t a = 0; a < n_arrays; at += counts[a], into += counts[a], a++) {              \
            const uint##BITS##_t *array = (const uint##BITS##_t *)addresses[a];                   \
            const int64_t n = counts[a];                                                          \
            for (int64_t i = 0; i < n; i++) {                                                     \
                __builtin_prefetch(array + at[i + AHEAD < n ? i + AHEAD : i], 1);                 \
                into[i] = array[at[i]];                                                           \
            }                                                                                     \
        }                                                                                         \
    }                                                                                             \
                                                                                                  \
    void write_##BITS(const uint64_t *addresses, const int64_t *counts, int64_t n_arrays,         \
                      const int64_t *at, const uint##BITS##_t *restrict from) {                   \
        for (int64_t a = 0; a < n_arrays; at += counts[a], from += counts[a], a++) {              \
            uint##BITS##_t *array = (uint##BITS##_t *)addresses[a];                               \
            for (int64_t i = 0; i < counts[a]; i++) array[at[i]] = from[i];                       \
        }                                                                                         \
    }

DEFINE(16)
DEFINE(32)
DEFINE(64)
