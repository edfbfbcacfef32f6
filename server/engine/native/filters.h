/* Top-k, top-p and min-p, and the draw from what they keep.
 *
 * A few hundred candidates are enough as a rule. Where a filter reaches further, a histogram over
 * the row tells the bin that its edge is in, and only that bin is sorted.
 */
#ifndef LCCC_FILTERS_H
#define LCCC_FILTERS_H

#include "order.h"

/* Candidates of a row with top-p and without top-k. */
#define WINDOW 512

/* One row's settings; server/engine/native/sampling.py packs it. The lists may be empty. */
typedef struct {
    const int32_t *history, *counts; /* tokens seen, and how often in the reply */
    const int32_t *biased;
    const float *bias;
    const int32_t *withheld; /* tokens that may not come yet */
    const uint32_t *mask;    /* bit by token, 1 = allowed; tokens beyond it are not. Or NULL */
    double uniform, temperature, top_p, min_p; /* temperature 0: the likeliest */
    int64_t history_size, bias_size, withheld_size, mask_size, top_k; /* top_k 0: no such filter */
    float repetition, presence, frequency;
    int32_t alternatives; /* -1: no logprobs at all */
} lccc_draw;

/* Filters, where some candidates are enough */

/* Draws among the `size` candidates in `found`, which hold the largest logits. False where a
 * filter keeps more than those. `total`: the weight of the vocabulary, for top-p without top-k. */
static bool draw_from_found(const row *r, const lccc_draw *d, int64_t size, bool are_all,
                            double total, int32_t *token) {
    const place *sorted = sort_found(r, size);
    int64_t kept = size;
    if (d->top_k > 0) {
        if (d->top_k < size) {
            kept = d->top_k;
            while (kept < size && sorted[kept].rank == sorted[kept - 1].rank) kept++;
        }
        total = 0.0;
        for (int64_t at = 0; at < kept; at++) total += weight_of(r, sorted[at].id, d->temperature);
    }
    bool is_edge_known = are_all || d->top_k > 0;
    double before = 0.0, target = d->top_p < 1.0 ? d->top_p * total : INFINITY;
    for (int64_t at = 0; at < kept; at++) {
        double weight = weight_of(r, sorted[at].id, d->temperature);
        if (at > 0 && (before >= target || weight < d->min_p)) {
            kept = at;
            is_edge_known = true;
        } else {
            before += weight;
        }
    }
    if (!is_edge_known && before < target) return false;
    place edge = sorted[kept - 1];
    double sum = 0.0;
    for (int64_t at = 0; at < size; at++) {
        place one = r->scratch->found[at];
        if (one.rank < edge.rank || (one.rank == edge.rank && one.id <= edge.id))
            sum += weight_of(r, one.id, d->temperature);
    }
    double goal = d->uniform * sum, passed = 0.0;
    for (int64_t at = 0; at < size && passed <= goal; at++) {
        place one = r->scratch->found[at];
        if (one.rank > edge.rank || (one.rank == edge.rank && one.id > edge.id)) continue;
        double weight = weight_of(r, one.id, d->temperature);
        if (weight <= 0.0) continue;
        passed += weight;
        *token = one.id;
    }
    return true;
}

/* Filters, where they reach far */

/* BINS of equal width from the highest logit down; the last has all that is lower still. */
typedef struct { f32x8 highest, per_bin; } scale;

static scale scale_of(const row *r, float width) {
    width = fminf(width, 1e30f);
    return (scale){splat_f32(r->highest), splat_f32(width > 1e-30f ? BINS / width : 0.0f)};
}

/* The bins of eight logits; -inf has a bin of its own behind the last. */
INLINE i32x8 bins_of(scale s, f32x8 logits) {
    f32x8 at = (s.highest - logits) * s.per_bin, last = splat_f32(BINS - 1);
    at = select_f32(at < last, at, last);
    i32x8 is_any = logits > splat_f32(-INFINITY);
    return __builtin_convertvector(select_f32(is_any, at, splat_f32(BINS)), i32x8);
}

/* From the highest logit to the lowest that is above -inf. */
static float width_of(const row *r) {
    float padded[BLOCK], lowest = r->highest;
    f32x8 least = splat_f32(r->highest);
    for (int64_t block = 0; block < r->blocks; block++) {
        const float *logits = block_of(r, block, padded);
        for (int at = 0; at < BLOCK; at += LANES) {
            f32x8 lanes = load_f32(logits + at);
            i32x8 is_any = lanes > splat_f32(-INFINITY);
            least = select_f32((lanes < least) & is_any, lanes, least);
        }
    }
    for (int lane = 0; lane < LANES; lane++) lowest = least[lane] < lowest ? least[lane] : lowest;
    return r->highest - lowest;
}

/* Sums up weights and, where `has_counts`, logits by bin. */
INLINE void fill_bins(const row *r, scale s, double temperature, bool has_counts) {
    double *masses = r->scratch->masses;
    int64_t *counts = r->scratch->counts;
    memset(masses, 0, (BINS + 1) * sizeof *masses);
    memset(counts, 0, (BINS + 1) * sizeof *counts);
    slope own_slope = slope_of(r, temperature);
    float padded[BLOCK], weights[BLOCK];
    int32_t bins[BLOCK];
    for (int64_t block = 0; block < r->blocks; block++) {
        const float *logits = block_of(r, block, padded);
        for (int at = 0; at < BLOCK; at += LANES) {
            f32x8 lanes = load_f32(logits + at);
            i32x8 own = bins_of(s, lanes);
            store_f32(weights + at, weights_of(own_slope, lanes));
            memcpy(bins + at, &own, sizeof own);
        }
        for (int at = 0; at < BLOCK; at++) {
            masses[bins[at]] += (double)weights[at];
            if (has_counts) counts[bins[at]]++;
        }
    }
}

/* The places of one bin in order; NULL where there is no memory. */
static const place *places_of_bin(const row *r, scale s, int wanted, int64_t *size) {
    place *places = wide_of(r);
    if (!places) return NULL;
    i32x8 same = {wanted, wanted, wanted, wanted, wanted, wanted, wanted, wanted};
    float padded[BLOCK];
    *size = 0;
    for (int64_t block = 0; block < r->blocks; block++) {
        const float *logits = block_of(r, block, padded);
        for (int at = 0; at < BLOCK; at += LANES) {
            i32x8 found = bins_of(s, load_f32(logits + at)) == same;
            if (!any(found)) continue;
            for (int lane = 0; lane < LANES; lane++) {
                if (!found[lane]) continue;
                int64_t id = block * BLOCK + at + lane;
                places[(*size)++] = (place){rank_of(r->logits[id]), (int32_t)id};
            }
        }
    }
    return sort_places(places, places + r->size, *size);
}

/* One weight, as the bins count it. */
INLINE double rough_weight(const row *r, int32_t id, double temperature) {
    return (double)weights_of(slope_of(r, temperature), splat_f32(r->logits[id]))[0];
}

/* Narrows `kept` to top-k; the weight of what is left goes to `total`. False without memory. */
static bool cut_by_rank(const row *r, const lccc_draw *d, scale s, cut *kept, double *total) {
    const int64_t *counts = r->scratch->counts;
    int64_t before = 0, size;
    int at = 0;
    *total = 0.0;
    while (at < BINS && before + counts[at] < d->top_k) {
        *total += r->scratch->masses[at];
        before += counts[at++];
    }
    if (at == BINS) return true; /* there are no more than top-k */
    const place *places = places_of_bin(r, s, at, &size);
    if (!places) return false;
    uint32_t edge = places[d->top_k - before - 1].rank;
    kept->value = r->logits[places[d->top_k - before - 1].id];
    for (int64_t one = 0; one < size && places[one].rank <= edge; one++)
        *total += rough_weight(r, places[one].id, d->temperature);
    return true;
}

/* Narrows `kept` to those before which lies less than `target` weight. False without memory. */
static bool cut_by_mass(const row *r, const lccc_draw *d, scale s, double target, cut *kept) {
    const double *masses = r->scratch->masses;
    double before = 0.0;
    int at = 0;
    int64_t size;
    while (at < BINS && before + masses[at] < target) before += masses[at++];
    if (at == BINS) return true;
    const place *places = places_of_bin(r, s, at, &size);
    if (!places) return false;
    float lowest = kept->value;
    for (int64_t one = 0; one < size && (one == 0 || before < target); one++) {
        int32_t id = places[one].id;
        if (r->logits[id] < lowest) break;
        *kept = (cut){r->logits[id], id};
        before += rough_weight(r, id, d->temperature);
    }
    return true;
}

/* What all filters keep; false without memory. */
static bool cut_far(const row *r, const lccc_draw *d, cut *kept) {
    *kept = EVERYTHING;
    if (d->top_k > 0 || d->top_p < 1.0) {
        /* 32 nats: what is less likely than that counts for nothing with top-p */
        scale s = scale_of(r, d->top_k > 0 ? width_of(r) : (float)(32.0 * d->temperature));
        double total = 0.0;
        if (d->top_k > 0) {
            fill_bins(r, s, d->temperature, true);
            if (!cut_by_rank(r, d, s, kept, &total)) return false;
        } else {
            fill_bins(r, s, d->temperature, false);
            for (int at = 0; at < BINS; at++) total += r->scratch->masses[at];
        }
        if (d->top_p < 1.0 && !cut_by_mass(r, d, s, d->top_p * total, kept)) return false;
    }
    if (d->min_p > 0.0) {
        float floor = (float)((double)r->highest + d->temperature * log(d->min_p));
        if (floor > r->highest) floor = r->highest;
        if (floor > kept->value) *kept = (cut){floor, INT32_MAX};
    }
    return true;
}

/* The token of a row whose highest logit is finite; false without memory. */
static bool choose(const row *r, const lccc_draw *d, int32_t *token) {
    if (d->temperature <= 0.0) {
        *token = likeliest(r);
        return true;
    }
    if (d->top_k > 0) {
        bool are_all;
        int64_t size = gather(r, d->top_k, &are_all);
        if (size >= 0 && draw_from_found(r, d, size, are_all, 0.0, token)) return true;
    } else if (d->top_p < 1.0) {
        bool are_all;
        double total = weigh(r, d->temperature, EVERYTHING);
        /* no weight is more than 1, so that some totals are hopeless */
        int64_t size = d->top_p * total > 2 * WINDOW ? -1 : gather(r, WINDOW, &are_all);
        if (size >= 0 && draw_from_found(r, d, size, are_all, total, token)) return true;
    }
    cut kept;
    if (!cut_far(r, d, &kept)) return false;
    *token = draw_from_all(r, d->temperature, kept, d->uniform);
    return true;
}

#endif
