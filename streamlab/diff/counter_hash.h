/* The words of counter_hash.py: 32 bits that a seed, a step and a position determine. */
#ifndef STREAMLAB_COUNTER_HASH_H
#define STREAMLAB_COUNTER_HASH_H

#include <stdint.h>

/* `prefix`: the state after all words but the last, which is `position`. */
static inline uint32_t counter_word(uint32_t prefix, uint32_t position) {
    uint32_t k = position * 0xCC9E2D51u;
    k = (k << 15 | k >> 17) * 0x1B873593u;
    uint32_t h = prefix ^ k;
    h = (h << 13 | h >> 19) * 5u + 0xE6546B64u;
    h ^= 16u;
    h = (h ^ h >> 16) * 0x85EBCA6Bu;
    h = (h ^ h >> 13) * 0xC2B2AE35u;
    return h ^ h >> 16;
}

#endif
