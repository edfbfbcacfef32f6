/* The products of gemm.h sixteen lanes at a time: a panel's outputs are one vector.
 *
 * For processors with AVX-512 and VNNI. Where there are tiles of bytes as well (AMX, tiles.h), those
 * compute what is quantised. Whole numbers come out the same in every way; floats too, whose sums
 * have the same order.
 *
 * Inputs of int8 have sixteen bits: two signed bytes, 128 * high + low. Weights are stored 128 too
 * large, for products of unsigned with signed bytes; 128 times the sum of a row's inputs is taken
 * off. All of that wraps around at 32 bits, in which the result has room.
 */
#ifndef LCCC_WIDE_H
#define LCCC_WIDE_H

#include "tiles.h"

#define VNNI_ROWS 8 /* at a time: two sums each are in registers */
#define AHEAD 8192  /* bytes of int8 weights that are asked for early */

INLINE __m512 splat_halves(float low, float high) {
    return _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(low), _mm512_set1_ps(high));
}

INLINE __m512 load_weights(const void *from, size_t index, int format) {
    if (format != FORMAT_INT8) return load_wide(from, index, format == FORMAT_BF16);
    __m128i bytes = _mm_loadu_si128((const __m128i *)((const int8_t *)from + index));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

/* See floats_t in gemm.h. */
INLINE void tile_floats(floats_t from, int format, int kind, int streams, int rows,
                        panel_f32 *sums) {
    const int shift = kind == PIECES ? from.shift : 0, is_added = kind >= ADDED;
    __m512 sum[MOST_STREAMS][TILE];
    for (int stream = 0; stream < streams; stream++)
        for (int row = 0; row < rows; row++)
            sum[stream][row] =
                is_added ? _mm512_loadu_ps(&sums[stream * from.apart + from.rows[row]])
                         : _mm512_setzero_ps();
    for (int k = 0; k < from.inputs; k++) {
        for (int stream = 0; stream < streams; stream++) {
            const char *panel = from.weights + stream * from.stretch;
            __m512 weights = load_weights(panel, (size_t)k * PANEL, format);
            for (int row = 0; row < rows; row++) {
                const int at = k + stream * shift;
                __m512 input = kind == ADDED_HALVES
                                   ? splat_halves(from.low[row][at], from.high[row][at])
                                   : _mm512_set1_ps(from.low[row][at]);
                sum[stream][row] = _mm512_fmadd_ps(input, weights, sum[stream][row]);
            }
        }
    }
    for (int stream = 0; stream < streams; stream++)
        for (int row = 0; row < rows; row++)
            _mm512_storeu_ps(&sums[stream * from.apart + (is_added ? from.rows[row] : row)],
                             sum[stream][row]);
}

INLINE __m512i splat_bytes(const int8_t *from) {
    int32_t four;
    memcpy(&four, from, sizeof four);
    return _mm512_set1_epi32(four);
}

/* planes: of a tile of rows, see prepare_int8; `step` bytes lead from one plane to the next. */
INLINE void tile_int8(const uint8_t *panel, int blocks, const int8_t *planes, size_t step, int rows,
                      size_t ahead, __m512i *sums) {
    __m512i high[VNNI_ROWS], low[VNNI_ROWS];
    for (int row = 0; row < rows; row++) high[row] = low[row] = _mm512_setzero_si512();
    for (int block = 0; block < blocks; block++, planes += 2 * step) {
        if (ahead) fetch(panel + ahead, PANEL * NF4_BLOCK);
        for (int k = 0; k < NF4_BLOCK; k += 4, panel += 4 * PANEL) {
            __m512i weights = _mm512_loadu_si512(panel);
            for (int row = 0; row < rows; row++) {
                const int8_t *input = planes + row * NF4_BLOCK + k;
                high[row] = _mm512_dpbusd_epi32(high[row], weights, splat_bytes(input));
                low[row] = _mm512_dpbusd_epi32(low[row], weights, splat_bytes(input + step));
            }
        }
    }
    for (int row = 0; row < rows; row++)
        sums[row] = _mm512_add_epi32(_mm512_slli_epi32(high[row], 7), low[row]);
}

/* Whole numbers of a tile of rows with a panel, but for what the weights are stored too large by. */
static void tile_sums(const uint8_t *panel, int blocks, const int8_t *planes, int rows,
                      size_t ahead, __m512i *sums) {
    size_t step = (size_t)rows * NF4_BLOCK;
#ifdef LCCC_TILES
    if (has_tiles()) {
        multiply_panel(panel, blocks, planes, step, ahead, sums);
        return;
    }
#endif
    for (int first = 0, count; first < rows; first += count) {
        count = rows - first < VNNI_ROWS ? rows - first : VNNI_ROWS;
#define INT8_ROWS(n) \
    tile_int8(panel, blocks, planes + first * NF4_BLOCK, step, n, ahead, sums + first)
        FOR_EIGHT_ROWS(count, INT8_ROWS)
        ahead = 0;
    }
}

/* A panel of int8 for all rows. */
static void panel_int8(const linear_t *linear, int panel, const buffers_t *b, int rows,
                       panel_f32 *sums) {
    const uint8_t *weights = (const uint8_t *)panel_of(linear, panel);
    int blocks = padded(linear->inputs, NF4_BLOCK) / NF4_BLOCK;
    __m512 scales = _mm512_loadu_ps(linear->scales + panel * PANEL);
    for (int first = 0; first < rows;) {
        tile_t tile = tile_with(rows, first);
        __m512i exact[TILE_Q8];
        tile_sums(weights, blocks, (const int8_t *)(b->q16 + (size_t)first * b->stride), tile.count,
                  first ? 0 : AHEAD, exact);
        for (int row = first; row < first + tile.count; row++) {
            __m512i start = _mm512_set1_epi32(b->start8[(size_t)row * b->blocks]);
            __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(exact[row - first], start));
            sum = _mm512_mul_ps(_mm512_mul_ps(sum, scales), _mm512_set1_ps(b->scale16[row]));
            _mm512_storeu_ps(&sums[row], sum);
        }
        first += tile.count;
    }
}

/* One row of inputs for the products with int8 weights, of `rows`: by tiles of rows
 * [blocks][high, low][rows of the tile][64] bytes. */
static void prepare_int8(const buffers_t *b, const float *x, int size, int row, int rows) {
    tile_t tile = tile_with(rows, row);
    size_t step = (size_t)tile.count * NF4_BLOCK;
    int8_t *to = (int8_t *)(b->q16 + (size_t)tile.first * b->stride) +
                 (row - tile.first) * NF4_BLOCK;
    float found = factor16(x, size, b->scale16 + row);
    f32x8 factor = splat_f32(found);
    i32x8 total = {0};
    for (int begin = 0; begin < size; begin += NF4_BLOCK, to += 2 * step) {
        const float *from = x + begin;
        int left = size - begin;
        float last[NF4_BLOCK] = {0};
        if (left < NF4_BLOCK) from = memcpy(last, from, left * sizeof *last);
        for (int at = 0; at < NF4_BLOCK; at += 4 * LANES) {
            i32x8 high[4], low[4];
            for (int part = 0; part < 4; part++) {
                i32x8 whole = {0};
                if (found != 0.0f) whole = nearest(load_f32(from + at + part * LANES) * factor);
                high[part] = (whole + 64) >> 7;
                low[part] = whole - (high[part] << 7);
                total += whole;
            }
            i8x32 bytes = narrow(high[0], high[1], high[2], high[3]);
            memcpy(to + at, &bytes, sizeof bytes);
            bytes = narrow(low[0], low[1], low[2], low[3]);
            memcpy(to + step + at, &bytes, sizeof bytes);
        }
    }
    uint32_t sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += (uint32_t)total[lane];
    b->start8[(size_t)row * b->blocks] = (int32_t)(0u - sum * INT8_OFFSET);
}

INLINE __m512i decode_nf4(const uint8_t *codes, __m512i table) {
    __m256i bytes = _mm256_loadu_si256((const __m256i *)codes), low = _mm256_set1_epi8(15);
    __m512i both = _mm512_inserti64x4(
        _mm512_castsi256_si512(bytes), _mm256_srli_epi16(bytes, 4), 1);
    both = _mm512_and_si512(both, _mm512_broadcast_i64x4(low));
    return _mm512_shuffle_epi8(table, both);
}

/* sums += the exact `sum` of a block, times both scales. */
INLINE void end_block(const rows_q8 *x, int block, int row, __m512 scales, __m512i sum,
                      panel_f32 *sums) {
    __m512 scale = _mm512_set1_ps(x->scales[row][block]);
    __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale);
    _mm512_storeu_ps(&sums[row], _mm512_fmadd_ps(product, scales, _mm512_loadu_ps(&sums[row])));
}

/* Adds the blocks from `begin` to `end` to the sums of `rows` rows from `first` of a tile, exact
 * within a block, blocks in order. `step`: bytes from a block of the tile's inputs to the next. */
INLINE void tile_blocks(const uint8_t *panel, int is_nf4, __m512i table, int begin, int end,
                        const rows_q8 *x, size_t step, int first, int rows, size_t ahead,
                        panel_f32 *sums) {
    const size_t bytes = is_nf4 ? NF4_BYTES : INT7_BYTES, group = is_nf4 ? 32 : 64;
    for (int block = begin; block < end; block++) {
        const uint8_t *codes = panel + (size_t)block * bytes;
        __m512 scales = _mm512_loadu_ps(codes);
        if (ahead) fetch(codes + ahead, bytes);
        codes += PANEL * sizeof(float);
        __m512i sum[VNNI_ROWS];
        const int8_t *inputs = x->inputs + (size_t)block * step + first * NF4_BLOCK;
        for (int row = 0; row < rows; row++)
            sum[row] = _mm512_set1_epi32(x->starts[first + row][block]);
        for (int k = 0; k < NF4_BLOCK; k += 4, codes += group) {
            __m512i weights = is_nf4 ? decode_nf4(codes, table) : _mm512_loadu_si512(codes);
            for (int row = 0; row < rows; row++)
                sum[row] = _mm512_dpbusd_epi32(sum[row], weights,
                                               splat_bytes(inputs + row * NF4_BLOCK + k));
        }
        for (int row = 0; row < rows; row++)
            end_block(x, block, first + row, scales, sum[row], sums);
    }
}

/* A tile of rows without AMX, or of so few that it would not be quicker. */
static void vnni_blocks(const uint8_t *codes, int is_nf4, __m512i table, const buffers_t *b,
                        tile_t tile, int begin, int end, size_t ahead, panel_f32 *sums) {
    rows_q8 x = rows_of(b, tile);
    size_t step = (size_t)tile.count * NF4_BLOCK;
    for (int first = 0, count; first < tile.count; first += count, ahead = 0) {
        count = tile.count - first < VNNI_ROWS ? tile.count - first : VNNI_ROWS;
#define NF4_ROWS(n) tile_blocks(codes, 1, table, begin, end, &x, step, first, n, ahead, sums)
#define INT7_ROWS(n) tile_blocks(codes, 0, table, begin, end, &x, step, first, n, ahead, sums)
        if (is_nf4) FOR_EIGHT_ROWS(count, NF4_ROWS)
        else FOR_EIGHT_ROWS(count, INT7_ROWS)
    }
}

#ifdef LCCC_TILES
/* Weights that are asked for early: so many bytes with each block. */
typedef struct {
    const uint8_t *from;
    size_t bytes;
} ahead_t;

/* What a tile of `rows` asks for of the weights that come next, `bytes` a block and all tiles
 * together: so memory has something to do as long as the processor has. */
static ahead_t ahead_of(const uint8_t *next, size_t bytes, int blocks, tile_t tile, int rows) {
    size_t share = (bytes * tile.count / rows + 63) / 64 * 64;
    return (ahead_t){next + bytes * blocks * tile.first / rows / 64 * 64, share};
}

/* Adds `blocks` blocks to the sums of a tile of rows. scales: of the first block's outputs, `apart`
 * bytes from the next's. All sixteen rows are computed, also where the tile has fewer. */
static void amx_tile(const uint8_t *numbers, size_t step, const uint8_t *scales, size_t apart,
                     int begin, int blocks, const buffers_t *b, tile_t tile, ahead_t ahead,
                     panel_f32 *sums) {
    __m512 sum[TILE_Q8];
    const rows_q8 x = rows_of(b, tile);
    const size_t own = (size_t)tile.count * NF4_BLOCK; /* bytes of a block of inputs */
#pragma GCC unroll 16
    for (int row = 0; row < TILE_Q8; row++)
        sum[row] = _mm512_loadu_ps(&sums[row < tile.count ? row : 0]);
    for (int at = 0, block = begin; at < blocks; at++, block++, scales += apart) {
        __m512i exact[TILE_Q8];
        __m512 each = _mm512_loadu_ps(scales);
        fetch(ahead.from + (size_t)at * ahead.bytes, ahead.bytes);
        multiply_block(numbers + at * step, x.inputs + block * own, exact);
#pragma GCC unroll 16
        for (int row = 0; row < TILE_Q8; row++) {
            __m512i whole = _mm512_add_epi32(exact[row], _mm512_set1_epi32(x.starts[row][block]));
            __m512 scale = _mm512_set1_ps(x.scales[row][block]);
            sum[row] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(whole), scale), each,
                                       sum[row]);
        }
    }
#pragma GCC unroll 16
    for (int row = 0; row < TILE_Q8; row++)
        if (row < tile.count) _mm512_storeu_ps(&sums[row], sum[row]);
}

/* A stretch of blocks for all rows: NF4 is decoded once for all of them. */
static void amx_blocks(const uint8_t *codes, int is_nf4, __m512i table, const buffers_t *b,
                       int rows, int begin, int end, panel_f32 *sums) {
    uint8_t decoded[BLOCKS_AT_ONCE][PANEL * NF4_BLOCK] __attribute__((aligned(64)));
    const size_t bytes = is_nf4 ? NF4_BYTES : INT7_BYTES, width = PANEL * sizeof(float);
    codes += (size_t)begin * bytes;
    for (int block = 0; block < end - begin; block++) {
        const uint8_t *from = codes + block * bytes + width;
        for (int k = 0; is_nf4 && k < PANEL; k++, from += 32)
            _mm512_store_si512(decoded[block] + k * 64, decode_nf4(from, table));
    }
    for (int first = 0; first < rows;) {
        tile_t tile = tile_with(rows, first);
        ahead_t ahead = ahead_of(codes + BLOCKS_AT_ONCE * bytes, bytes, end - begin, tile, rows);
        const uint8_t *numbers = is_nf4 ? decoded[0] : codes + width;
        amx_tile(numbers, is_nf4 ? sizeof decoded[0] : bytes, codes, bytes, begin, end - begin, b,
                 tile, ahead, sums + first);
        first += tile.count;
    }
}
#endif

/* A panel in blocks for all rows: a stretch at a time, which stays in the cache. */
static void panel_blocks(const linear_t *linear, int panel, const buffers_t *b, int rows,
                         panel_f32 *sums) {
    int blocks = padded(linear->inputs, NF4_BLOCK) / NF4_BLOCK;
    int is_nf4 = linear->format == FORMAT_NF4;
    size_t bytes = panel_bytes(linear->format, linear->inputs) / blocks;
    const uint8_t *codes = (const uint8_t *)panel_of(linear, panel);
    __m512i table = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)b->nf4));
    for (int row = 0; row < rows; row++) _mm512_storeu_ps(&sums[row], _mm512_setzero_ps());
    for (int begin = 0; begin < blocks; begin += BLOCKS_AT_ONCE) {
        int end = begin + BLOCKS_AT_ONCE < blocks ? begin + BLOCKS_AT_ONCE : blocks;
#ifdef LCCC_TILES
        if (rows >= LEAST_TILE_ROWS && has_tiles()) {
            amx_blocks(codes, is_nf4, table, b, rows, begin, end, sums);
            continue;
        }
#endif
        for (int first = 0; first < rows;) {
            tile_t tile = tile_with(rows, first);
            vnni_blocks(codes, is_nf4, table, b, tile, begin, end,
                        first ? 0 : BLOCKS_AT_ONCE * bytes, sums + first);
            first += tile.count;
        }
    }
}

#endif
