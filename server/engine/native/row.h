/* A row of logits to sample from: its blocks, and the weights that its logits stand for. */
#ifndef LCCC_ROW_H
#define LCCC_ROW_H

#include <stdbool.h>
#include <stdlib.h>

#include "lanes.h"

#define BLOCK 64
/* Room for candidates, ties included. */
#define ROOM 16384
#define BINS 4096

/* A place in descending order: `rank` rises as the logit falls, equal ones go by id. */
typedef struct { uint32_t rank; int32_t id; } place;

/* What is kept: logits above `value`, and of those that equal it the ids up to `last`. */
typedef struct { float value; int32_t last; } cut;


static const cut EVERYTHING = {-INFINITY, INT32_MAX};

/* A thread's working memory. */
typedef struct {
    float *maxima, *some_maxima; /* of the blocks */
    double *sums;                /* and the weights in each */
    place *found, *sorted, *spare;
    place *wide; /* for twice the row, once it is needed */
    double *masses;  /* of the bins */
    int64_t *counts; /* and how many logits are in each */
    float *before;   /* logits that were edited */
} scratch;

typedef struct {
    const float *logits;
    int64_t size, blocks;
    float highest;
    scratch *scratch;
} row;

static void release(scratch *own) {
    free(own->maxima), free(own->some_maxima), free(own->sums), free(own->found);
    free(own->sorted), free(own->spare), free(own->wide), free(own->masses);
    free(own->counts), free(own->before);
}

/* For rows of `size` logits, of which at most `touched` are edited. False where memory is short. */
static bool prepare(scratch *own, int64_t size, int64_t touched) {
    size_t blocks = (size_t)(size + BLOCK - 1) / BLOCK;
    *own = (scratch){
        .maxima = malloc(blocks * sizeof(float)),
        .some_maxima = malloc(blocks * sizeof(float)),
        .sums = malloc(blocks * sizeof(double)),
        .found = malloc(ROOM * sizeof(place)),
        .sorted = malloc(ROOM * sizeof(place)),
        .spare = malloc(ROOM * sizeof(place)),
        .masses = malloc((BINS + 1) * sizeof(double)),
        .counts = malloc((BINS + 1) * sizeof(int64_t)),
        .before = malloc((size_t)(touched + 1) * sizeof(float)),
    };
    return own->maxima && own->some_maxima && own->sums && own->found && own->sorted &&
           own->spare && own->masses && own->counts && own->before;
}

/* Twice the row of places; NULL where memory is short. */
INLINE place *wide_of(const row *r) {
    scratch *own = r->scratch;
    if (!own->wide) own->wide = malloc(2 * (size_t)r->size * sizeof(place));
    return own->wide;
}

INLINE f32x8 larger(f32x8 a, f32x8 b) {
#ifdef LCCC_AVX2
    return (f32x8)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return max_f32(a, b);
#endif
}

INLINE bool any(i32x8 mask) {
#ifdef LCCC_AVX2
    return _mm256_movemask_ps((__m256)mask) != 0;
#else
    int32_t found = 0;
    for (int lane = 0; lane < LANES; lane++) found |= mask[lane];
    return found != 0;
#endif
}

/* The 64 logits of a block; what lies beyond the row is -inf. */
INLINE const float *block_of(const row *r, int64_t block, float *padded) {
    int64_t begin = block * BLOCK;
    if (begin + BLOCK <= r->size) return r->logits + begin;
    for (int at = 0; at < BLOCK; at++)
        padded[at] = begin + at < r->size ? r->logits[begin + at] : -INFINITY;
    return padded;
}

/* Fills the maxima of the blocks and the highest of all; false where a logit is no number. */
static bool survey(row *r) {
    float padded[BLOCK], highest = -INFINITY;
    i32x8 odd = {0};
    for (int64_t block = 0; block < r->blocks; block++) {
        const float *logits = block_of(r, block, padded);
        f32x8 most = load_f32(logits);
        odd |= most != most;
        for (int at = LANES; at < BLOCK; at += LANES) {
            f32x8 more = load_f32(logits + at);
            odd |= more != more;
            most = larger(more, most);
        }
        float top = most_f32(most);
        r->scratch->maxima[block] = top;
        highest = top > highest ? top : highest;
    }
    r->highest = highest;
    return !any(odd);
}

static int32_t likeliest(const row *r) {
    int64_t block = 0;
    while (r->scratch->maxima[block] != r->highest) block++;
    int64_t id = block * BLOCK;
    while (r->logits[id] != r->highest) id++;
    return (int32_t)id;
}

/* Weights */

/* How the logits of a row become weights: 2^((logit - highest) * factor). */
typedef struct { f32x8 highest, factor; } slope;

INLINE slope slope_of(const row *r, double temperature) {
    return (slope){splat_f32(r->highest), splat_f32((float)(1.44269504088896341 / temperature))};
}

/* Eight weights of 0 to 1, to about 1e-7 relative beside the rounding of the exponent; exactly 1 at
 * the highest logit, 0 below 2^-126. Cephes' polynomial for exp2f (Moshier, netlib.org). */
INLINE f32x8 weights_of(slope s, f32x8 logits) {
    f32x8 x = larger((logits - s.highest) * s.factor, splat_f32(-127.0f));
    f32x8 magic = splat_f32(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
    f32x8 whole = x + magic, rest = x - (whole - magic);
    f32x8 y = splat_f32(1.535336188319500e-4f);
    y = fma_f32(y, rest, splat_f32(1.339887440266574e-3f));
    y = fma_f32(y, rest, splat_f32(9.618437357674640e-3f));
    y = fma_f32(y, rest, splat_f32(5.550332471162809e-2f));
    y = fma_f32(y, rest, splat_f32(2.402264791363012e-1f));
    y = fma_f32(y, rest, splat_f32(6.931472028550421e-1f));
    y = fma_f32(y, rest, splat_f32(1.0f));
    i32x8 power = ((i32x8)whole + 127) << 23; /* the magic number's own bits go over the edge */
    return y * (f32x8)power;
}

/* The sum of the weights of what is kept; `sums` takes those of the blocks. */
static double weigh(const row *r, double temperature, cut kept) {
    float padded[BLOCK], shown[BLOCK];
    slope s = slope_of(r, temperature);
    f32x8 edge = splat_f32(kept.value);
    double total = 0.0;
    for (int64_t block = 0; block < r->blocks; block++) {
        const float *logits = block_of(r, block, padded);
        f32x8 sum = splat_f32(0.0f);
        if (kept.value == -INFINITY) {
            for (int at = 0; at < BLOCK; at += LANES) sum += weights_of(s, load_f32(logits + at));
        } else if (r->scratch->maxima[block] >= kept.value) {
            if (block * BLOCK + BLOCK - 1 > kept.last) { /* not all of its ties are kept */
                for (int at = 0; at < BLOCK; at++) {
                    bool is_out = logits[at] == kept.value && block * BLOCK + at > kept.last;
                    shown[at] = is_out ? -INFINITY : logits[at];
                }
                logits = shown;
            }
            for (int at = 0; at < BLOCK; at += LANES) {
                f32x8 lanes = load_f32(logits + at);
                sum += select_f32(lanes >= edge, weights_of(s, lanes), splat_f32(0.0f));
            }
        }
        r->scratch->sums[block] = (double)sum_f32(sum);
        total += r->scratch->sums[block];
    }
    return total;
}

/* The token at `uniform` of the kept weights. */
static int32_t draw_from_all(const row *r, double temperature, cut kept, double uniform) {
    double target = uniform * weigh(r, temperature, kept), passed = 0.0;
    const double *sums = r->scratch->sums;
    int64_t found = -1;
    double before = 0.0;
    for (int64_t block = 0; block < r->blocks; block++) {
        if (sums[block] <= 0.0) continue;
        found = block, before = passed;
        passed += sums[block];
        if (passed > target) break;
    }
    float padded[BLOCK], weights[BLOCK];
    const float *logits = block_of(r, found, padded);
    slope s = slope_of(r, temperature);
    for (int at = 0; at < BLOCK; at += LANES)
        store_f32(weights + at, weights_of(s, load_f32(logits + at)));
    int32_t token = -1; /* rounding may leave the target behind the last weight: then it is meant */
    for (int at = 0; at < BLOCK && before <= target; at++) {
        int64_t id = found * BLOCK + at;
        bool is_kept = logits[at] > kept.value || (logits[at] == kept.value && id <= kept.last);
        if (!is_kept || weights[at] <= 0.0f) continue;
        token = (int32_t)id;
        before += (double)weights[at];
    }
    return token;
}

INLINE double weight_of(const row *r, int32_t id, double temperature) {
    return exp(((double)r->logits[id] - (double)r->highest) / temperature);
}

#endif
