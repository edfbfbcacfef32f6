/* Choosing the next token of every row of logits: what server/engine/sampling does with torch.
 *
 * A row is computed by one thread and in one order, so its token depends on nothing else. The
 * vocabulary is not sorted. The token is the first one whose weight, added to those of the kept
 * tokens of lower id, passes uniform * (the weight of all kept tokens).
 */
#include "filters.h"

#define NOT_FINITE (-1)
#define NONE_ALLOWED (-2)

/* What changes the logits before anything is chosen */

/* In double, and rounded once. Products of two floats are exact there, so that fusing one with a
 * sum changes nothing. `before` takes the values from before, biased tokens first, then those of
 * the history. */
static void edit(float *logits, int64_t size, const lccc_draw *d, float *before) {
    if (d->mask) {
        for (int64_t word = 0; word * 32 < size; word++) {
            uint32_t allowed = word < d->mask_size ? d->mask[word] : 0;
            if (allowed == UINT32_MAX) continue;
            float *part = logits + word * 32;
            int64_t bits = size - word * 32 < 32 ? size - word * 32 : 32;
            for (int64_t bit = 0; bit < bits; bit++)
                part[bit] = (allowed >> bit) & 1 ? part[bit] : -INFINITY;
        }
    }
    for (int64_t at = 0; at < d->withheld_size; at++)
        if (d->withheld[at] < size) logits[d->withheld[at]] = -INFINITY;
    for (int64_t at = 0; at < d->bias_size; at++) {
        float *logit = logits + d->biased[at];
        before[at] = *logit;
        *logit = (float)((double)*logit + (double)d->bias[at]);
    }
    for (int64_t at = 0; at < d->history_size; at++) {
        float *logit = logits + d->history[at];
        before[d->bias_size + at] = *logit;
        double value = (double)*logit, count = (double)d->counts[at];
        value = value < 0.0 ? value * (double)d->repetition : value / (double)d->repetition;
        value -= count * (double)d->frequency;
        if (count > 0.0) value -= (double)d->presence;
        *logit = (float)value;
    }
}

/* The model's own logit of a token that was drawn. */
static float own_logit(const row *r, const lccc_draw *d, int32_t token) {
    const float *before = r->scratch->before;
    for (int64_t at = 0; at < d->bias_size; at++)
        if (d->biased[at] == token) return before[at];
    for (int64_t at = 0; at < d->history_size; at++)
        if (d->history[at] == token) return before[d->bias_size + at];
    return r->logits[token];
}

/* Logprobs */

/* The log of the sum over the whole vocabulary; the largest tokens and their logprobs go to
 * `tokens` and `logprobs`. NaN without memory, which no finite row has. */
static double report(const row *r, int64_t wanted, int32_t *tokens, float *logprobs) {
    double total = (double)r->highest + log(weigh(r, 1.0, EVERYTHING));
    if (wanted == 0) return total;
    bool are_all;
    int64_t size = gather(r, wanted, &are_all);
    const place *sorted;
    if (size >= 0) {
        sorted = sort_found(r, size);
    } else { /* thousands are equally likely */
        place *wide = wide_of(r);
        if (!wide) return NAN;
        for (int64_t id = 0; id < r->size; id++)
            wide[id] = (place){rank_of(r->logits[id]), (int32_t)id};
        size = r->size;
        sorted = sort_places(wide, wide + size, size);
    }
    for (int64_t at = 0; at < wanted && at < size; at++) {
        tokens[at] = sorted[at].id;
        logprobs[at] = (float)((double)r->logits[sorted[at].id] - total);
    }
    return total;
}

/* One row. False without memory. */
static bool sample_row(float *logits, int64_t size, const lccc_draw *d, scratch *own,
                       int32_t *token, float *logprob, int32_t *tokens, float *logprobs) {
    row r = {logits, size, (size + BLOCK - 1) / BLOCK, 0.0f, own};
    bool is_edited = d->mask || d->withheld_size || d->bias_size || d->history_size;
    bool is_asked = d->alternatives >= 0;
    double total = 0.0;
    *token = NOT_FINITE;
    if (is_asked) {
        if (!survey(&r) || !isfinite(r.highest)) return true;
        total = report(&r, d->alternatives, tokens, logprobs);
        if (isnan(total)) return false;
    }
    if (is_edited) edit(logits, size, d, own->before);
    if ((is_edited || !is_asked) && !survey(&r)) return true;
    if (r.highest == -INFINITY && (d->mask || d->withheld_size)) *token = NONE_ALLOWED;
    if (!isfinite(r.highest)) return true;
    if (!choose(&r, d, token)) return false;
    if (is_asked) *logprob = (float)((double)own_logit(&r, d, *token) - total);
    return true;
}

/* Draws a token for each of `rows` rows of `size` logits, which are changed. `tokens` [rows] takes
 * them, or NOT_FINITE or NONE_ALLOWED. `logprobs` [rows], `other_tokens` and `other_logprobs`
 * [rows][most] are written where a draw asks for them (`most` >= every `alternatives`, and not
 * more than `size`). Returns 0, or 1 where there was no memory. */
int lccc_sample(float *logits, int64_t rows, int64_t size, const lccc_draw *draws, int32_t *tokens,
                float *logprobs, int32_t *other_tokens, float *other_logprobs, int64_t most) {
    int has_failed = 0;
    int64_t touched = 0;
    for (int64_t at = 0; at < rows; at++) {
        int64_t both = draws[at].bias_size + draws[at].history_size;
        touched = both > touched ? both : touched;
    }
#pragma omp parallel if (rows > 1) reduction(| : has_failed)
    {
        scratch own;
        bool is_ready = prepare(&own, size, touched);
        has_failed |= !is_ready;
#pragma omp for schedule(dynamic)
        for (int64_t at = 0; at < rows; at++)
            if (is_ready)
                has_failed |= !sample_row(logits + at * size, size, draws + at, &own,
                                          tokens + at, logprobs + at, other_tokens + at * most,
                                          other_logprobs + at * most);
        release(&own);
    }
    return has_failed;
}
