/* Positions of a seeded rule and of a file, and the weights of a model at positions.
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

/* Turn gaps along the strings of classes into positions, ascending in each tensor; `n_in` receives
 * how many are in each. Lines, cuts and classes are those of `partition.py`: by tensor its number of
 * lines, their length, and whether they are columns. Memory: `order`, `tensor`, `first` and `kept`
 * have a number a line, `within` one an entry, `rows` one more than the longest line, and `upto` two
 * more than there are classes. Numbers of lines, of entries and lengths must fit in 32 bits. Returns
 * 0 where a class has too few or too many entries, or one past its end. */
int join_positions(const uint32_t *gaps, const int64_t *counts, int64_t n_classes,
                   const uint16_t *classes, const int64_t *n_lines, const int64_t *line_lengths,
                   const uint8_t *columns, int64_t n_tensors, uint32_t *restrict order,
                   uint32_t *restrict tensor, uint32_t *restrict first, uint32_t *restrict kept,
                   uint32_t *restrict within, int64_t *restrict rows, int64_t *restrict upto,
                   int64_t *restrict positions, int64_t *restrict n_in) {
    int64_t line = 0, entry = 0;
    for (int64_t c = 0; c < n_classes + 2; c++) upto[c] = 0;
    for (int64_t t = 0; t < n_tensors; t++)
        for (int64_t i = 0; i < n_lines[t]; i++, line++) {
            tensor[line] = (uint32_t)t;
            kept[line] = 0;
            if (classes[line]) upto[classes[line] + 1]++;
        }
    for (int64_t c = 2; c < n_classes + 2; c++) upto[c] += upto[c - 1];
    for (int64_t i = 0; i < line; i++) /* moves upto[c] from the start of class c to its end */
        if (classes[i]) order[upto[classes[i]]++] = (uint32_t)i;

    for (int64_t c = 1; c <= n_classes; c++) {
        int64_t next = c > 1 ? upto[c - 1] : 0, end = 0, start = 0, place = -1;
        if (counts[c - 1] < 1) return 0;
        for (int64_t i = 0; i < counts[c - 1]; i++, entry++) {
            place += (int64_t)gaps[entry] + 1;
            while (place >= end) {
                if (next == upto[c]) return 0;
                line = order[next++];
                first[line] = (uint32_t)entry;
                start = end;
                end += line_lengths[tensor[line]];
            }
            within[entry] = (uint32_t)(place - start);
            kept[line]++;
        }
    }

    int64_t *into = positions;
    line = 0;
    for (int64_t t = 0; t < n_tensors; t++) {
        const int64_t n = n_lines[t], length = line_lengths[t];
        int64_t *const begin = into;
        if (!columns[t]) {
            for (int64_t i = 0; i < n; i++, line++)
                for (uint32_t j = 0; j < kept[line]; j++)
                    *into++ = i * length + within[first[line] + j];
        } else { /* lines are columns: sorted by row, and by column in a row as they come */
            for (int64_t row = 0; row <= length; row++) rows[row] = 0;
            for (int64_t i = 0; i < n; i++)
                for (uint32_t j = 0; j < kept[line + i]; j++) rows[within[first[line + i] + j] + 1]++;
            for (int64_t row = 0; row < length; row++) rows[row + 1] += rows[row];
            into += rows[length];
            for (int64_t i = 0; i < n; i++, line++)
                for (uint32_t j = 0; j < kept[line]; j++) {
                    const int64_t row = within[first[line] + j];
                    begin[rows[row]++] = row * n + i;
                }
        }
        n_in[t] = into - begin;
    }
    return 1;
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
