/* Exact changes of weights, coded given the weights that they change.
 *
 * The bits of a float are mapped to an integer in the order of the numbers. A change is a number of
 * steps between neighbouring floats, so every pattern has one: signed zeros, NaN payloads and
 * infinities too. An adaptive binary range coder writes, in the order of the weights,
 *
 *     whether a row has any change, given the row before;
 *     whether a weight changes, given its exponent, as small weights move by many steps, and how
 *         many of its column changed in the rows before;
 *     in which direction, given a forecast: the gradient of a linear layer is close to rank one, so
 *         that the signs of a row agree, or disagree, with those of the columns in earlier rows;
 *     by how many steps, given the exponent.
 *
 * Numbers of other types, and tensors that the base lacks, are written byte by byte, if at all.
 *
 * All arithmetic is of integers, and gives the same on every processor. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    EXPONENTS = 256,
    FORECASTS = 16,
    SMALL = 4, /* buckets 2**b <= steps < 2**(b + 1) that are told one by one */
    BUCKETS = 32,
    BUCKET_BITS = 5,
    ACTIVITIES = 8,
    MEMORY = 1024, /* bits after which the mean of a model becomes a running mean */
    SHORT_MEMORY = 256,
    UNIT_BITS = 16
};

static const uint64_t LEAST_RANGE = 1ull << 48;

/* The probability of a 1 as a share of 2**32, and the number of bits seen, at most MEMORY - 1. */
typedef struct {
    uint32_t p, n;
} Bit;

typedef struct {
    Bit any_in_tensor, any_in_row[2];
    Bit changed[EXPONENTS][ACTIVITIES], negative[FORECASTS];
    Bit beyond[EXPONENTS][SMALL];          /* is the bucket a later one? */
    Bit bucket[EXPONENTS][BUCKETS];        /* its number, by a tree */
    Bit within[EXPONENTS][SMALL * 8];      /* where in a small bucket, by a tree */
    Bit leading[BUCKETS][4];               /* the first two bits of where in another */
    Bit byte[8][256];                      /* a byte by its place in a number, by a tree */
} Models;

typedef struct {
    Models models;
    uint32_t rates[MEMORY];
    /* The interval. When reading, `low` is what the data are above its lower end. */
    uint64_t low, range;
    /* Written: `held` is the last unit of 16 bits that a carry may still reach, -1 for none; after
     * it come `n_ones` units of ones. */
    uint8_t *bytes;
    int64_t n_bytes, capacity, n_ones;
    int32_t held, carry;
    /* Read: data that end are followed by zeros. */
    const uint8_t *data;
    int64_t at, n_data;
    int32_t failed;
} Coder;

static uint64_t read_unit(Coder *c) {
    uint64_t unit = 0;
    if (c->at + 1 < c->n_data) unit = (uint64_t)c->data[c->at] << 8 | c->data[c->at + 1];
    c->at += 2;
    return unit;
}

Coder *coder_new(const uint8_t *data, int64_t n_data) {
    Coder *const c = calloc(1, sizeof(Coder));
    if (!c) return NULL;
    Bit *const bits = (Bit *)&c->models;
    for (size_t i = 0; i < sizeof(Models) / sizeof(Bit); i++) bits[i].p = 1u << 31;
    /* The mean of the bits seen and of half a bit of each kind. */
    for (uint32_t n = 0; n < MEMORY; n++) c->rates[n] = (2u << 16) / (2 * n + 3);
    c->range = UINT64_MAX;
    c->held = -1;
    c->data = data;
    c->n_data = n_data;
    if (data)
        for (int i = 0; i < 4; i++) c->low = c->low << UNIT_BITS | read_unit(c);
    return c;
}

void coder_free(Coder *c) {
    if (c) free(c->bytes);
    free(c);
}

static void put_unit(Coder *c, uint32_t unit) {
    if (c->n_bytes + 2 > c->capacity) {
        const int64_t capacity = 2 * c->capacity + (1 << 16);
        uint8_t *const bytes = realloc(c->bytes, (size_t)capacity);
        if (!bytes) {
            c->failed = 1;
            return;
        }
        c->bytes = bytes;
        c->capacity = capacity;
    }
    c->bytes[c->n_bytes++] = (uint8_t)(unit >> 8);
    c->bytes[c->n_bytes++] = (uint8_t)unit;
}

static void write_unit(Coder *c) {
    const uint32_t unit = (uint32_t)(c->low >> 48), ones = (1u << UNIT_BITS) - 1;
    if (c->held >= 0 && unit == ones && !c->carry) {
        c->n_ones++;
    } else {
        if (c->held >= 0) put_unit(c, (uint32_t)c->held + (uint32_t)c->carry);
        for (; c->n_ones; c->n_ones--) put_unit(c, c->carry ? 0 : ones);
        c->held = (int32_t)unit;
        c->carry = 0;
    }
    c->low <<= UNIT_BITS;
}

/* Write what is left; afterwards only `coder_take` and `coder_free` may be called. */
void coder_finish(Coder *c) {
    const uint64_t low = c->low;
    c->low = (low + LEAST_RANGE - 1) & ~(LEAST_RANGE - 1); /* inside the interval, and short */
    c->carry |= c->low < low;
    write_unit(c);
    c->low = 0;
    write_unit(c);
    c->held = -1;
}

/* Return how many bytes were written that nothing can change any more; copy and forget them. */
int64_t coder_take(Coder *c, uint8_t *into, int64_t room) {
    const int64_t n = c->n_bytes;
    if (into && room >= n) {
        if (n) memcpy(into, c->bytes, (size_t)n);
        c->n_bytes = 0;
    }
    return n;
}

/* Whether reading ended exactly where writing did, and nothing was out of range. */
int coder_is_done(const Coder *c) { return !c->failed && c->at == c->n_data + 6; }

int coder_failed(const Coder *c) { return c->failed; }

#define ALWAYS static inline __attribute__((always_inline))

/* What changes with every bit, in registers. */
typedef struct {
    uint64_t low, range;
} Interval;

ALWAYS void narrow_down(Coder *c, Interval *i, int reading) {
    while (__builtin_expect(i->range < LEAST_RANGE, 0)) {
        if (reading) {
            i->low = i->low << UNIT_BITS | read_unit(c);
        } else {
            c->low = i->low;
            write_unit(c);
            i->low = c->low;
        }
        i->range <<= UNIT_BITS;
    }
}

ALWAYS int code_bit(Coder *c, Interval *i, Bit *bit, uint32_t memory, int is_one, int reading) {
    const uint32_t least = 1u << 12;
    const uint32_t p = bit->p < least ? least : bit->p > ~least ? ~least : bit->p;
    const uint64_t bound = (i->range >> 32) * p;
    if (reading) is_one = i->low < bound;
    if (is_one) {
        i->range = bound;
        bit->p += (uint32_t)((uint64_t)~bit->p * c->rates[bit->n] >> 16);
    } else {
        if (reading) {
            i->low -= bound;
        } else {
            i->low += bound;
            c->carry |= i->low < bound;
        }
        i->range -= bound;
        bit->p -= (uint32_t)((uint64_t)bit->p * c->rates[bit->n] >> 16);
    }
    bit->n += bit->n < memory - 1;
    narrow_down(c, i, reading);
    return is_one;
}

/* The same without a jump that depends on the bit, for bits that are hard to foresee. */
ALWAYS int code_even_bit(Coder *c, Interval *i, Bit *bit, int is_one, int reading) {
    const uint32_t least = 1u << 12;
    const uint32_t p = bit->p < least ? least : bit->p > ~least ? ~least : bit->p;
    const uint64_t bound = (i->range >> 32) * p;
    if (reading) is_one = i->low < bound;
    const uint64_t more = is_one ? 0 : bound;
    if (reading) {
        i->low -= more;
    } else {
        i->low += more;
        c->carry |= i->low < more;
    }
    i->range = is_one ? bound : i->range - bound;
    const uint32_t towards = is_one ? ~bit->p : bit->p, n = bit->n;
    const uint32_t by = (uint32_t)((uint64_t)towards * c->rates[n] >> 16);
    bit->p += is_one ? by : 0u - by;
    bit->n = n + (n < MEMORY - 1);
    narrow_down(c, i, reading);
    return is_one;
}

/* Code at most 16 bits that follow no pattern. */
ALWAYS uint32_t code_raw(Coder *c, Interval *i, uint32_t value, int n_bits, int reading) {
    i->range >>= n_bits;
    if (reading) {
        const uint64_t read = i->low / i->range;
        if (read >> n_bits) c->failed = 1;
        value = (uint32_t)(read & ((1u << n_bits) - 1));
        i->low -= value * i->range;
    } else {
        const uint64_t more = value * i->range;
        i->low += more;
        c->carry |= i->low < more;
    }
    narrow_down(c, i, reading);
    return value;
}

/* Code a number of steps of at least 1 and less than 2**32. */
ALWAYS uint32_t code_steps(Coder *c, Interval *i, uint32_t exponent, uint32_t steps, int reading) {
    Models *const m = &c->models;
    uint32_t bucket = reading ? 0 : 31 - (uint32_t)__builtin_clz(steps);
    uint32_t b = 0;
    while (b < SMALL && code_even_bit(c, i, &m->beyond[exponent][b], bucket > b, reading)) b++;
    if (b == SMALL) {
        uint32_t node = 1;
        for (int k = BUCKET_BITS - 1; k >= 0; k--)
            node = 2 * node + (uint32_t)code_even_bit(c, i, &m->bucket[exponent][node],
                                                      bucket >> k & 1, reading);
        b = node - BUCKETS;
    }
    bucket = b;
    uint32_t found = 1;
    int left = (int)bucket;
    for (; left && (bucket < SMALL || left > (int)bucket - 2); left--) {
        Bit *const bit = bucket < SMALL ? &m->within[exponent][8 * bucket + found]
                                        : &m->leading[bucket][found];
        found = 2 * found + (uint32_t)code_even_bit(c, i, bit, steps >> (left - 1) & 1, reading);
    }
    while (left) {
        const int n = left < 16 ? left : 16;
        left -= n;
        found = found << n | code_raw(c, i, steps >> left & ((1u << n) - 1), n, reading);
    }
    return found;
}

/* Bits of a float of WIDTH bits as an integer in the order of the numbers, and back. */
#define IN_ORDER(WIDTH, bits)                                                                     \
    ((bits) >> (WIDTH - 1) ? (bits) ^ (uint##WIDTH##_t)(((uint##WIDTH##_t)-1) >> 1) : (bits))

/* What a column was like in the rows before: how many of its last weights changed, of 2**11, and
 * the sum of the signs of these changes relative to the rows', of which the oldest fade. */
typedef struct {
    int16_t sum, activity;
} Column;

/* Code a tensor of rows by columns; `tuned` is read, or written. Returns whether it changes. */
#define DEFINE(WIDTH)                                                                             \
    ALWAYS int code_##WIDTH(Coder *c, const uint##WIDTH##_t *base, uint##WIDTH##_t *tuned,        \
                            int64_t n_rows, int64_t n_columns, int shift, uint32_t mask,          \
                            Column *columns, int reading) {                                       \
        Models *const m = &c->models;                                                             \
        Interval i = {c->low, c->range};                                                          \
        const size_t row_bytes = (size_t)n_columns * sizeof *base;                                \
        int any = !reading && memcmp(base, tuned, row_bytes * (size_t)n_rows) != 0;               \
        any = code_bit(c, &i, &m->any_in_tensor, MEMORY, any, reading);                           \
        int32_t row_sign = 0, before = 1;                                                         \
        memset(columns, 0, (size_t)n_columns * sizeof *columns);                                  \
        for (int64_t r = 0; r < n_rows; r++, base += n_columns, tuned += n_columns) {             \
            int here = any;                                                                       \
            if (any && n_rows > 1) {                                                              \
                here = !reading && memcmp(base, tuned, row_bytes) != 0;                           \
                here = before = code_bit(c, &i, &m->any_in_row[before], MEMORY, here, reading);   \
            }                                                                                     \
            if (!here) {                                                                          \
                if (reading) memcpy(tuned, base, row_bytes);                                      \
                continue;                                                                         \
            }                                                                                     \
            for (int64_t k = 0; k < n_columns; k++) {                                             \
                const uint##WIDTH##_t old = base[k];                                              \
                const uint32_t exponent = old >> shift & mask;                                    \
                const int differs = !reading && tuned[k] != old;                                  \
                Column *const column = &columns[k];                                               \
                Bit *const change = &m->changed[exponent][column->activity >> 8];                 \
                if (!code_bit(c, &i, change, SHORT_MEMORY, differs, reading)) {                   \
                    column->activity -= (column->activity + 15) / 16;                             \
                    if (reading) tuned[k] = old;                                                  \
                    continue;                                                                     \
                }                                                                                 \
                column->activity += (2047 - column->activity) / 16;                               \
                const uint##WIDTH##_t from = IN_ORDER(WIDTH, old);                                \
                uint##WIDTH##_t up = 0;                                                           \
                if (!reading) up = (uint##WIDTH##_t)(IN_ORDER(WIDTH, tuned[k]) - from);           \
                int negative = (int)(up >> (WIDTH - 1));                                          \
                const int32_t sum = column->sum, both = row_sign * sum;                           \
                const uint32_t size = (uint32_t)(both < 0 ? -both : both) >> 10;                  \
                uint32_t level = size ? 32 - (uint32_t)__builtin_clz(size) : 0;                   \
                if (level >= FORECASTS / 2) level = FORECASTS / 2 - 1;                            \
                Bit *const forecast = &m->negative[both < 0 ? FORECASTS / 2 + level : level];     \
                negative = code_even_bit(c, &i, forecast, negative, reading);                     \
                uint32_t steps = negative ? (uint##WIDTH##_t)-up : up;                            \
                steps = code_steps(c, &i, exponent, steps, reading);                              \
                if (reading) {                                                                    \
                    up = (uint##WIDTH##_t)(negative ? 0u - steps : steps);                        \
                    c->failed |= !up || (int)(up >> (WIDTH - 1)) != negative;                     \
                    const uint##WIDTH##_t to = (uint##WIDTH##_t)(from + up);                      \
                    tuned[k] = IN_ORDER(WIDTH, to);                                               \
                }                                                                                 \
                const int32_t sign = negative ? -1 : 1, agrees = row_sign < 0 ? -sign : sign;     \
                const int32_t weight = sum > 1200 || sum < -1200 ? 128 : 64;                      \
                row_sign += (sum > 0 ? sign : sum < 0 ? -sign : 0) * weight - row_sign / 8;       \
                column->sum = (int16_t)(sum + agrees * 256 - sum / 32);                           \
            }                                                                                     \
        }                                                                                         \
        c->low = i.low;                                                                           \
        c->range = i.range;                                                                       \
        return any;                                                                               \
    }                                                                                             \
                                                                                                  \
    int write_##WIDTH(Coder *c, const uint##WIDTH##_t *base, uint##WIDTH##_t *tuned,              \
                      int64_t n_rows, int64_t n_columns, int shift, uint32_t mask,                \
                      Column *columns) {                                                          \
        return code_##WIDTH(c, base, tuned, n_rows, n_columns, shift, mask, columns, 0);          \
    }                                                                                             \
                                                                                                  \
    int read_##WIDTH(Coder *c, const uint##WIDTH##_t *base, uint##WIDTH##_t *tuned,               \
                     int64_t n_rows, int64_t n_columns, int shift, uint32_t mask,                 \
                     Column *columns) {                                                           \
        return code_##WIDTH(c, base, tuned, n_rows, n_columns, shift, mask, columns, 1);          \
    }

DEFINE(16)
DEFINE(32)

/* Code bytes of numbers of `width` bytes; `base` may be NULL, for a tensor that is new. */
ALWAYS int code_bytes(Coder *c, const uint8_t *base, uint8_t *tuned, int64_t n_bytes, int width,
                      int reading) {
    Models *const m = &c->models;
    Interval i = {c->low, c->range};
    int any = base == NULL;
    if (base) {
        any = !reading && memcmp(base, tuned, (size_t)n_bytes) != 0;
        any = code_bit(c, &i, &m->any_in_tensor, MEMORY, any, reading);
    }
    if (!any) {
        if (reading) memcpy(tuned, base, (size_t)n_bytes);
    } else {
        for (int64_t k = 0; k < n_bytes; k++) {
            Bit *const tree = m->byte[k % width];
            uint32_t node = 1;
            for (int b = 7; b >= 0; b--)
                node = 2 * node + (uint32_t)code_even_bit(c, &i, &tree[node],
                                                          !reading && tuned[k] >> b & 1, reading);
            if (reading) tuned[k] = (uint8_t)node;
        }
    }
    c->low = i.low;
    c->range = i.range;
    return any;
}

int write_bytes(Coder *c, const uint8_t *base, uint8_t *tuned, int64_t n_bytes, int width) {
    return code_bytes(c, base, tuned, n_bytes, width, 0);
}

int read_bytes(Coder *c, const uint8_t *base, uint8_t *tuned, int64_t n_bytes, int width) {
    return code_bytes(c, base, tuned, n_bytes, width, 1);
}
