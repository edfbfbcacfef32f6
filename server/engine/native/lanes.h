/* Eight lanes at a time: the few vector operations that the kernels are written in.
 *
 * GCC's and Clang's vector types work on every processor. Where x86 has one instruction for what
 * they would spell out in several, the intrinsic is used. Whole numbers come out the same on every
 * processor; sums of floats differ in rounding where one has no fused multiply-add.
 */
#ifndef LCCC_LANES_H
#define LCCC_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define LCCC_AVX2 1
#endif

/* Processors with sixteen lanes and products of bytes: see wide.h. */
#if defined(LCCC_AVX2) && defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && \
    defined(__AVX512VNNI__)
#define LCCC_WIDE 1
#endif

#define LANES 8
#define INLINE static inline __attribute__((always_inline))

typedef float f32x8 __attribute__((vector_size(32)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));
typedef int16_t i16x16 __attribute__((vector_size(32)));
typedef uint16_t u16x8 __attribute__((vector_size(16)));
typedef int16_t i16x8 __attribute__((vector_size(16)));
typedef int8_t i8x8 __attribute__((vector_size(8)));
typedef int8_t i8x16 __attribute__((vector_size(16)));
typedef int8_t i8x32 __attribute__((vector_size(32)));
typedef uint8_t u8x32 __attribute__((vector_size(32)));

INLINE f32x8 load_f32(const float *from) {
    f32x8 lanes;
    memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

INLINE void store_f32(float *to, f32x8 lanes) { memcpy(to, &lanes, sizeof lanes); }

INLINE f32x8 splat_f32(float value) {
    return (f32x8){value, value, value, value, value, value, value, value};
}

INLINE f32x8 load_bf16(const uint16_t *from) {
#ifdef LCCC_AVX2
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from));
    return (f32x8)_mm256_slli_epi32(wide, 16);
#else
    u16x8 halves;
    memcpy(&halves, from, sizeof halves);
    return (f32x8)(__builtin_convertvector(halves, u32x8) << 16);
#endif
}

/* Eight signed bytes as floats. */
INLINE f32x8 load_bytes(const int8_t *from) {
#ifdef LCCC_AVX2
    return (f32x8)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from)));
#else
    i8x8 bytes;
    memcpy(&bytes, from, sizeof bytes);
    return __builtin_convertvector(bytes, f32x8);
#endif
}

INLINE f32x8 load_stored(const void *from, size_t index, int is_bf16) {
    return is_bf16 ? load_bf16((const uint16_t *)from + index) : load_f32((const float *)from + index);
}

#ifdef LCCC_WIDE
/* Sixteen of them. */
INLINE __m512 load_wide(const void *from, size_t index, int is_bf16) {
    if (!is_bf16) return _mm512_loadu_ps((const float *)from + index);
    __m256i halves = _mm256_loadu_si256((const __m256i *)((const uint16_t *)from + index));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
#endif

/* Rounded to nearest, ties to even; no number stays no number. */
INLINE uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

/* Eight at a time. */
INLINE u16x8 to_bf16s(f32x8 values) {
    u32x8 bits = (u32x8)values, high = bits >> 16;
    i32x8 is_none = values != values;
    u32x8 rounded = (bits + 0x7fffu + (high & 1)) >> 16;
    i32x8 chosen = (is_none & (i32x8)(high | 0x40)) | (~is_none & (i32x8)rounded);
#ifdef LCCC_AVX2
    __m256i halves = _mm256_packus_epi32((__m256i)chosen, (__m256i)chosen);
    return (u16x8)_mm256_castsi256_si128(_mm256_permute4x64_epi64(halves, 0x08));
#else
    return __builtin_convertvector((u32x8)chosen, u16x8);
#endif
}

/* a * b + c, rounded once where the processor can. */
INLINE f32x8 fma_f32(f32x8 a, f32x8 b, f32x8 c) {
#ifdef LCCC_AVX2
    return (f32x8)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_FEATURE_FMA)
    for (int lane = 0; lane < LANES; lane++) c[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
    return c;
#else
    return a * b + c;
#endif
}

/* The nearest whole numbers, ties to even. */
INLINE i32x8 nearest(f32x8 lanes) {
#ifdef LCCC_AVX2
    return (i32x8)_mm256_cvtps_epi32((__m256)lanes);
#else
    i32x8 whole;
    for (int lane = 0; lane < LANES; lane++) whole[lane] = (int32_t)lrintf(lanes[lane]);
    return whole;
#endif
}

INLINE f32x8 to_f32(i32x8 lanes) { return __builtin_convertvector(lanes, f32x8); }

INLINE f32x8 select_f32(i32x8 mask, f32x8 yes, f32x8 no) {
    return (f32x8)((mask & (i32x8)yes) | (~mask & (i32x8)no));
}

/* The second where one is no number. */
INLINE f32x8 max_f32(f32x8 a, f32x8 b) {
#ifdef LCCC_AVX2
    return (f32x8)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return select_f32(a > b, a, b);
#endif
}

/* The sum of all lanes, always in the same order. */
INLINE float sum_f32(f32x8 v) {
#ifdef LCCC_AVX2
    __m128 four = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
#endif
}

INLINE float most_f32(f32x8 v) {
#ifdef LCCC_AVX2
    __m128 four = _mm_max_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
#else
    float most = v[0];
    for (int lane = 1; lane < LANES; lane++) most = v[lane] > most ? v[lane] : most;
    return most;
#endif
}

/* Four times eight whole numbers, each within a signed byte, as bytes. */
INLINE i8x32 narrow(i32x8 a, i32x8 b, i32x8 c, i32x8 d) {
#ifdef LCCC_AVX2
    __m256i first = _mm256_packs_epi32((__m256i)a, (__m256i)b);
    __m256i second = _mm256_packs_epi32((__m256i)c, (__m256i)d);
    __m256i mixed = _mm256_packs_epi16(first, second); /* by halves of the four: put in order */
    return (i8x32)_mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
#else
    i8x32 bytes;
    for (int lane = 0; lane < LANES; lane++) {
        bytes[lane] = (int8_t)a[lane], bytes[lane + LANES] = (int8_t)b[lane];
        bytes[lane + 2 * LANES] = (int8_t)c[lane], bytes[lane + 3 * LANES] = (int8_t)d[lane];
    }
    return bytes;
#endif
}

/* Sixteen signed bytes as sixteen signed 16-bit numbers. */
INLINE i16x16 widen(const int8_t *from) {
#ifdef LCCC_AVX2
    return (i16x16)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)from));
#else
    i8x16 bytes;
    memcpy(&bytes, from, sizeof bytes);
    return __builtin_convertvector(bytes, i16x16);
#endif
}

/* Two 16-bit numbers that lie beside each other, in every 32-bit lane. */
INLINE i16x16 splat_pair(const int16_t *from) {
    int32_t pair;
    memcpy(&pair, from, sizeof pair);
    return (i16x16)(i32x8){pair, pair, pair, pair, pair, pair, pair, pair};
}

/* sum + a0 * b0 + a1 * b1 in every lane: exact while the caller keeps it in 32 bits. */
INLINE i32x8 add_pairs(i32x8 sum, i16x16 a, i16x16 b) {
#if defined(__AVXVNNI__)
    return (i32x8)_mm256_dpwssd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
#elif defined(LCCC_AVX2)
    return sum + (i32x8)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
    i32x8 x = (i32x8)a, y = (i32x8)b;
    return sum + ((x << 16) >> 16) * ((y << 16) >> 16) + (x >> 16) * (y >> 16);
#endif
}

/* Sums of four products of an unsigned and a signed byte, twice, added in every 32-bit lane:
 * a[0..3] * x[0..3] + b[0..3] * y[0..3] + sum. Exact while 2 * (a * x + b * y) fits 16 bits. */
INLINE i32x8 add_bytes(i32x8 sum, u8x32 a, i8x32 x, u8x32 b, i8x32 y) {
#ifdef LCCC_AVX2
    __m256i first = _mm256_maddubs_epi16((__m256i)a, (__m256i)x);
    __m256i second = _mm256_maddubs_epi16((__m256i)b, (__m256i)y);
    __m256i pairs = _mm256_add_epi16(first, second);
    return sum + (i32x8)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#else
    for (int lane = 0; lane < LANES; lane++)
        for (int at = 4 * lane; at < 4 * lane + 4; at++) sum[lane] += a[at] * x[at] + b[at] * y[at];
    return sum;
#endif
}

/* The same with one product a byte: a[0..3] * x[0..3] + sum. Exact while 2 * a * x fits 16 bits. */
INLINE i32x8 add_wide_bytes(i32x8 sum, u8x32 a, i8x32 x) {
#ifdef LCCC_AVX2
    __m256i pairs = _mm256_maddubs_epi16((__m256i)a, (__m256i)x);
    return sum + (i32x8)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#else
    for (int lane = 0; lane < LANES; lane++)
        for (int at = 4 * lane; at < 4 * lane + 4; at++) sum[lane] += a[at] * x[at];
    return sum;
#endif
}

INLINE i8x32 splat_four(const int8_t *from) {
    int32_t four;
    memcpy(&four, from, sizeof four);
    return (i8x32)(i32x8){four, four, four, four, four, four, four, four};
}

/* table[code] for 32 codes of 0 to 15. `table` holds the sixteen values twice. */
INLINE u8x32 look_up(u8x32 table, u8x32 codes) {
#ifdef LCCC_AVX2
    return (u8x32)_mm256_shuffle_epi8((__m256i)table, (__m256i)codes);
#else
    u8x32 found;
    for (int lane = 0; lane < 32; lane++) found[lane] = table[codes[lane]];
    return found;
#endif
}

/* e^x for x <= 0 to about 1e-7 relative; 0 below -87. Cephes' polynomial (Moshier, netlib.org). */
INLINE f32x8 exp_f32(f32x8 x) {
    i32x8 vanishes = x < splat_f32(-87.0f);
    x = select_f32(vanishes, splat_f32(0.0f), x);
    /* Adding and taking away 1.5 * 2^23 rounds to a whole number. */
    f32x8 magic = splat_f32(12582912.0f);
    f32x8 whole = fma_f32(x, splat_f32(1.44269504088896341f), magic) - magic;
    f32x8 rest = fma_f32(whole, splat_f32(-0.693359375f), x);
    rest = fma_f32(whole, splat_f32(2.12194440e-4f), rest);
    f32x8 y = splat_f32(1.9875691500e-4f);
    y = fma_f32(y, rest, splat_f32(1.3981999507e-3f));
    y = fma_f32(y, rest, splat_f32(8.3334519073e-3f));
    y = fma_f32(y, rest, splat_f32(4.1665795894e-2f));
    y = fma_f32(y, rest, splat_f32(1.6666665459e-1f));
    y = fma_f32(y, rest, splat_f32(5.0000001201e-1f));
    y = fma_f32(y * rest, rest, rest + splat_f32(1.0f));
    i32x8 exponent = (__builtin_convertvector(whole, i32x8) + 127) << 23;
    return select_f32(vanishes, splat_f32(0.0f), y * (f32x8)exponent);
}

/* What is smaller counts as zero: its reciprocal would overflow. */
#define LEAST 1e-30f

/* The largest magnitude among `size` numbers; no number where one of them is none. */
INLINE float largest(const float *x, int size) {
    f32x8 most = splat_f32(0.0f);
    i32x8 strange = {0};
    int at = 0;
    float rest = 0.0f;
    for (; at + LANES <= size; at += LANES) {
        f32x8 lanes = load_f32(x + at);
        strange |= lanes != lanes;
        most = max_f32(most, (f32x8)((i32x8)lanes & 0x7fffffff));
    }
    for (; at < size; at++) {
        rest = fabsf(x[at]) > rest ? fabsf(x[at]) : rest;
        if (x[at] != x[at]) return NAN;
    }
    for (int lane = 0; lane < LANES; lane++)
        if (strange[lane]) return NAN;
    float found = most_f32(most);
    return found > rest ? found : rest;
}

#endif
