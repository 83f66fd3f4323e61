/* The gradient of a linear layer's weight at selected positions alone.
 *
 * With dY (tokens, rows) and X (tokens, columns) it is dW[i, j] = sum over tokens of
 * dY[t, i] * X[t, j]. Both are transposed TILE tokens at a time, so that every position is a
 * product of two contiguous runs in the cache. Sums are float32, over LANES lanes first, in an
 * order that only the number of tokens decides: the bits do not depend on the number of threads.
 */
#include <stdint.h>
#include <string.h>

/* The stride is no power of two, which would put a column's neighbours into the same cache lines. */
enum { TILE = 256, STRIDE = TILE + 16, LANES = 16, BLOCK = 16 };

typedef struct {
    const void *outputs;      /* dY */
    const void *inputs;       /* X */
    const int64_t *positions; /* flat in (rows, columns), ascending */
    float *sums;              /* one per position, added to */
    int64_t tokens, rows, columns;
    int64_t is_bf16;          /* the type of dY and X, else float32 */
} Product;

static inline float widen(uint16_t bits) {
    const uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

/* Write columns `first` to `last` of some tokens of (tokens, n_columns) as rows of float32. */
static void transpose(const void *from, int64_t is_bf16, int64_t start, int64_t n_tokens,
                      int64_t n_columns, int64_t first, int64_t last, float *restrict into) {
    const uint16_t *narrow = (const uint16_t *)from + start * n_columns;
    const float *wide = (const float *)from + start * n_columns;
    for (int64_t block = first; block < last; block += BLOCK) {
        const int n = (int)(last - block < BLOCK ? last - block : BLOCK);
        float *to = into + (block - first) * STRIDE;
        for (int64_t t = 0; t < n_tokens; t++) {
            const int64_t at = t * n_columns + block;
            if (is_bf16)
                for (int i = 0; i < n; i++) to[i * STRIDE + t] = widen(narrow[at + i]);
            else
                for (int i = 0; i < n; i++) to[i * STRIDE + t] = wide[at + i];
        }
        for (int i = 0; i < n; i++)
            memset(to + i * STRIDE + n_tokens, 0, (size_t)(TILE - n_tokens) * sizeof(float));
    }
}

static inline float dot(const float *restrict a, const float *restrict b, int64_t n) {
    float lanes[LANES] = {0};
    for (int64_t t = 0; t < n; t += LANES)
        for (int i = 0; i < LANES; i++) lanes[i] += a[t + i] * b[t + i];
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
}

/* Add to the sums of positions `first` to `last`. `scratch`: STRIDE * (rows + columns) floats. */
void selected_gradient(const Product *p, float *scratch, int64_t first, int64_t last) {
    if (first >= last) return;
    const int64_t top = p->positions[first] / p->columns;
    const int64_t end = p->positions[last - 1] / p->columns + 1;
    float *columns = scratch, *rows = scratch + STRIDE * p->columns;
    for (int64_t start = 0; start < p->tokens; start += TILE) {
        const int64_t n = p->tokens - start < TILE ? p->tokens - start : TILE;
        const int64_t padded = (n + LANES - 1) / LANES * LANES;
        transpose(p->inputs, p->is_bf16, start, n, p->columns, 0, p->columns, columns);
        transpose(p->outputs, p->is_bf16, start, n, p->rows, top, end, rows);
        for (int64_t k = first; k < last; k++) {
            const int64_t row = p->positions[k] / p->columns, column = p->positions[k] % p->columns;
            p->sums[k] += dot(rows + (row - top) * STRIDE, columns + column * STRIDE, padded);
        }
    }
}
