/* The largest logits of a row, found by the maxima of its blocks and sorted by digits. */
#ifndef LCCC_ORDER_H
#define LCCC_ORDER_H

#include "row.h"

INLINE uint32_t rank_of(float logit) {
    float value = logit + 0.0f; /* there is one zero */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}

/* Sorts `places` by rank, keeping the order of equals; returns where the result lies. */
static place *sort_places(place *places, place *spare, int64_t size) {
    for (int shift = 0; shift < 32; shift += 8) {
        int64_t starts[257] = {0};
        for (int64_t at = 0; at < size; at++) starts[((places[at].rank >> shift) & 255) + 1]++;
        for (int digit = 0; digit < 256; digit++) starts[digit + 1] += starts[digit];
        for (int64_t at = 0; at < size; at++)
            spare[starts[(places[at].rank >> shift) & 255]++] = places[at];
        place *full = spare;
        spare = places, places = full;
    }
    return places;
}

/* The wanted-th largest of `values` (1 is the first), which are moved about. Hoare's algorithm. */
static float nth_largest(float *values, int64_t size, int64_t wanted) {
    int64_t low = 0, high = size - 1, target = wanted - 1;
    while (low < high) {
        float pivot = values[low + (high - low) / 2];
        int64_t left = low, right = high;
        while (left <= right) {
            while (values[left] > pivot) left++;
            while (values[right] < pivot) right--;
            if (left <= right) {
                float kept = values[left];
                values[left++] = values[right];
                values[right--] = kept;
            }
        }
        if (target <= right) high = right;
        else if (target >= left) low = left;
        else break;
    }
    return values[target];
}

/* Writes the places of at least `wanted` of the largest logits, or of all that are above -inf, to
 * `found` in order of id: everything that is not below a threshold. Returns how many they are, -1
 * for more than ROOM. The maxima of the blocks have to be there. */
static int64_t gather(const row *r, int64_t wanted, bool *are_all) {
    float threshold = -INFINITY;
    if (wanted <= r->blocks) {
        memcpy(r->scratch->some_maxima, r->scratch->maxima, (size_t)r->blocks * sizeof(float));
        threshold = nth_largest(r->scratch->some_maxima, r->blocks, wanted);
    }
    *are_all = threshold == -INFINITY;
    float padded[BLOCK];
    place *found = r->scratch->found;
    int64_t size = 0;
    for (int64_t block = 0; block < r->blocks; block++) {
        float most = r->scratch->maxima[block];
        if (most < threshold || most == -INFINITY) continue;
        const float *logits = block_of(r, block, padded);
        if (size + BLOCK > ROOM) return -1;
        for (int at = 0; at < BLOCK; at++) {
            found[size] = (place){rank_of(logits[at]), (int32_t)(block * BLOCK + at)};
            size += logits[at] >= threshold && logits[at] > -INFINITY;
        }
    }
    return size;
}

/* Sorts what was gathered; `found` keeps its order. */
static const place *sort_found(const row *r, int64_t size) {
    memcpy(r->scratch->sorted, r->scratch->found, (size_t)size * sizeof(place));
    return sort_places(r->scratch->sorted, r->scratch->spare, size);
}

#endif
