/* One training step of gated weights, in one pass over memory.
 *
 * For every entry: turn the gradient of the effective weight into the gradients of w and of
 * log_alpha, take an Adam step on both, sample the next gate, write the next effective weight.
 * The formulas are those of hard_concrete.py, counter_rng.py and gated_weights.py.
 *
 * Only + - * / sqrt and integer operations are used, without contraction to fused
 * multiply-adds, so the bits of an entry do not depend on the vector width, the number of
 * threads or the way the tensor is cut into blocks.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../../diff/counter_hash.h"

typedef struct {
    float *live;        /* out: base + z * w, what the model computes with */
    const float *base;
    const float *grad;  /* of the effective weight; NULL where the tensor was not used */
    float *w, *w_mean, *w_square;
    float *alpha, *alpha_mean, *alpha_square;
    int64_t count;
    uint32_t position;     /* low word of the first entry's position among all gated entries */
    uint32_t prefix_now;   /* counter_hash.prefix at this step */
    uint32_t prefix_next;  /* ... and at the next */
    float group_now;       /* the group's gate at this step and at the next; 1 without groups */
    float group_next;
    float penalty;         /* d(objective) / d P(z > 0) of one entry */
} Block;

typedef struct {
    float grad_scale;
    float w_rate, w_correction1, w_correction2, w_epsilon;
    float alpha_rate, alpha_correction1, alpha_correction2, alpha_epsilon;
    float alpha_shift;       /* added to every log_alpha */
    float beta1, beta2;
    float low, width, odds;  /* the stretch: l, r - l, and -l / r */
} Scalars;

typedef struct {
    double group_gradient;  /* sum of grad * w * z */
    double expected_open;   /* sum of P(z > 0) after the step */
    double certain_open;    /* number of gates open at u = 0.5 after the step */
    double slope;           /* sum of p (1 - p) after the step */
} Sums;

static inline float clamp(float x, float low, float high) {
    return fminf(fmaxf(x, low), high);
}

/* Without a branch, so that the loop below is vectorised. */
static inline float keep_if(int32_t condition, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits &= -(uint32_t)condition;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float exponential(float x) {
    x = clamp(x, -87.0f, 87.0f);
    float n = x * 1.44269504f + 12582912.0f;  /* 1.5 * 2^23: rounds to an integer */
    n -= 12582912.0f;
    float f = x - n * 0.693359375f;  /* log 2 in two parts, the first exact in 10 bits */
    f += n * 2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    p = p * f + 1.0f / 720.0f;
    p = p * f + 1.0f / 120.0f;
    p = p * f + 1.0f / 24.0f;
    p = p * f + 1.0f / 6.0f;
    p = p * f + 0.5f;
    p = p * f + 1.0f;
    p = p * f + 1.0f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

static inline float uniform(uint32_t prefix, uint32_t position) {
    return (float)(int32_t)(counter_word(prefix, position) >> 9) * 0x1p-23f + 0x1p-24f;
}

/* The sums are taken over 64 lanes first, in an order that no compiler flag can change. */
enum { LANES = 64 };

static void step_lanes(const Block b, const Scalars r, const uint32_t position, const int n,
                       float *restrict live, const float *restrict base,
                       const float *restrict grad, float *restrict w, float *restrict w_mean,
                       float *restrict w_square, float *restrict alpha,
                       float *restrict alpha_mean, float *restrict alpha_square,
                       float *restrict gradient, float *restrict expected,
                       float *restrict certain, float *restrict slope_open) {
    const float keep1 = 1.0f - r.beta1, keep2 = 1.0f - r.beta2;
    for (int i = 0; i < n; i++) {
        const float a0 = alpha[i], w0 = w[i], g = grad[i] * r.grad_scale;

        const float e0 = exponential(-a0);
        const float u0 = uniform(b.prefix_now, position + (uint32_t)i);
        const float s0 = u0 / (u0 + (1.0f - u0) * e0);
        const float stretched = s0 * r.width + r.low;
        const float z0 = clamp(stretched, 0.0f, 1.0f);
        const float slope = keep_if(z0 == stretched, s0 * (1.0f - s0) * r.width);
        const float p0 = 1.0f / (1.0f + e0 * r.odds);

        const float g_w = g * z0 * b.group_now;
        const float g_z = g * w0;
        const float g_a = g_z * b.group_now * slope + b.penalty * p0 * (1.0f - p0);

        const float wm = w_mean[i] * r.beta1 + g_w * keep1;
        const float ws = w_square[i] * r.beta2 + g_w * g_w * keep2;
        const float w1 = w0 - r.w_rate * (wm * r.w_correction1)
                                  / (sqrtf(ws * r.w_correction2) + r.w_epsilon);
        const float am = alpha_mean[i] * r.beta1 + g_a * keep1;
        const float as = alpha_square[i] * r.beta2 + g_a * g_a * keep2;
        const float a1 = a0 - r.alpha_rate * (am * r.alpha_correction1)
                                  / (sqrtf(as * r.alpha_correction2) + r.alpha_epsilon)
                         + r.alpha_shift;

        const float e1 = exponential(-a1);
        const float u1 = uniform(b.prefix_next, position + (uint32_t)i);
        const float s1 = u1 / (u1 + (1.0f - u1) * e1);
        const float z1 = clamp(s1 * r.width + r.low, 0.0f, 1.0f);
        const float p1 = 1.0f / (1.0f + e1 * r.odds);

        w[i] = w1;
        w_mean[i] = wm;
        w_square[i] = ws;
        alpha[i] = a1;
        alpha_mean[i] = am;
        alpha_square[i] = as;
        live[i] = base[i] + z1 * b.group_next * w1;
        gradient[i] = g_z * z0;
        expected[i] = p1;
        slope_open[i] = p1 * (1.0f - p1);
        certain[i] = keep_if(1.0f / (1.0f + e1) * r.width + r.low > 0.0f, 1.0f);
    }
}

static void step_block(const Block *b, const Scalars *r, Sums *sums) {
    static const float zeros[LANES];
    double totals[4][LANES] = {{0}};
    float lanes[4][LANES];

    for (int64_t at = 0; at < b->count; at += LANES) {
        const int n = (int)(b->count - at < LANES ? b->count - at : LANES);
        step_lanes(*b, *r, b->position + (uint32_t)at, n, b->live + at, b->base + at,
                   b->grad ? b->grad + at : zeros, b->w + at, b->w_mean + at,
                   b->w_square + at, b->alpha + at, b->alpha_mean + at, b->alpha_square + at,
                   lanes[0], lanes[1], lanes[2], lanes[3]);
        for (int which = 0; which < 4; which++)
            for (int i = 0; i < n; i++) totals[which][i] += (double)lanes[which][i];
    }
    *sums = (Sums){0.0, 0.0, 0.0, 0.0};
    for (int i = 0; i < LANES; i++) {
        sums->group_gradient += totals[0][i];
        sums->expected_open += totals[1][i];
        sums->certain_open += totals[2][i];
        sums->slope += totals[3][i];
    }
}

void step_blocks(const Block *blocks, const Scalars *rates, Sums *sums, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) step_block(&blocks[i], rates, &sums[i]);
}
