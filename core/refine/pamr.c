/* PAMR on a CPU; compiled at first use and called by core/refine/pamr_native.py, which documents the layouts.
 *
 * A padded row holds `pad` copies of its first pixel, `width` pixels, and copies of the last one up to `stride`:
 * neighbours to the left and right are plain offsets, those above and below are clamped row numbers.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#define LANES 16
#define GROUP 8
#else
#define LANES 8
#define GROUP 4
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));

INLINE vec load(const float *at) {
    vec value;
    memcpy(&value, at, sizeof value); /* of any alignment */
    return value;
}

INLINE int clamp(int value, int last) { return value < 0 ? 0 : value > last ? last : value; }

/* Fill a padded row's borders from its first and last pixel. */
static void close_row(float *row, int width, int pad, int stride) {
    for (int x = 0; x < pad; x++) row[x] = row[pad];
    for (int x = pad + width; x < stride; x++) row[x] = row[pad + width - 1];
}

/* Rows [lines, width] to padded rows [lines, stride]. */
void pad_rows(const float *from, float *to, int64_t lines, int width, int pad, int stride) {
    for (int64_t i = 0; i < lines; i++) {
        memcpy(to + i * stride + pad, from + i * width, sizeof(float) * width);
        close_row(to + i * stride, width, pad, stride);
    }
}

/* exp(x) for x <= 0, within 2 units in the last place: Cephes' reduction and polynomial, in a form that vectorises. */
INLINE float exp_negative(float x) {
    x = x < -87.0f ? -87.0f : x;
    int32_t n = (int32_t)(x * 1.44269504f - 0.5f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f, p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = (n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* Rows [first, last) of the weights, counted through all images: image [B, C, H, stride] padded -> near [B, H, K, wide].
 * spare: 3 * wide values of this thread's own. */
void weights(const float *image, float *near, float *spare, int64_t first, int64_t last, int channels, int height,
             int pad, int stride, int wide, int neighbours, const int *dy, const int *dx, int taps) {
    float *restrict total = spare, *restrict squares = spare + wide, *restrict scale = spare + 2 * wide;
    for (int64_t i = first; i < last; i++) {
        int64_t number = i / height;
        int y = (int)(i % height);
        float *restrict rows = near + i * neighbours * wide;
        for (int c = 0; c < channels; c++) {
            const float *plane = image + (number * channels + c) * height * stride + pad;
            const float *restrict centre = plane + (int64_t)y * stride;
            memset(total, 0, sizeof(float) * 2 * wide);
            for (int k = 0; k < neighbours; k++) {
                const float *restrict other = plane + (int64_t)clamp(y + dy[k], height - 1) * stride + dx[k];
                for (int x = 0; x < wide; x++) {
                    float difference = other[x] - centre[x];
                    total[x] += difference;
                    squares[x] += difference * difference;
                }
            }
            for (int x = 0; x < wide; x++) {
                float variance = (squares[x] - total[x] * total[x] / taps) / (taps - 1);
                scale[x] = 1.0f / ((1e-8f + 0.1f * sqrtf(variance > 0 ? variance : 0)) * channels);
            }
            for (int k = 0; k < neighbours; k++) {
                const float *restrict other = plane + (int64_t)clamp(y + dy[k], height - 1) * stride + dx[k];
                float *restrict out = rows + (int64_t)k * wide;
                for (int x = 0; x < wide; x++) {
                    float distance = fabsf(other[x] - centre[x]) * scale[x];
                    out[x] = c ? out[x] + distance : distance;
                }
            }
        }
        float *restrict least = total, *restrict sum = squares, *restrict part = scale;
        memcpy(least, rows, sizeof(float) * wide);
        memset(sum, 0, sizeof(float) * 2 * wide);
        for (int k = 1; k < neighbours; k++)
            for (int x = 0; x < wide; x++) {
                float value = rows[(int64_t)k * wide + x];
                least[x] = value < least[x] ? value : least[x];
            }
        for (int k = 0; k < neighbours; k++) {
            for (int x = 0; x < wide; x++) {
                float value = exp_negative(least[x] - rows[(int64_t)k * wide + x]);
                rows[(int64_t)k * wide + x] = value;
                part[x] += value;
            }
            if (k % 8 == 7) /* in parts: many small values added to a large sum would lose digits */
                for (int x = 0; x < wide; x++) sum[x] += part[x], part[x] = 0;
        }
        for (int k = 0; k < neighbours; k++)
            for (int x = 0; x < wide; x++) rows[(int64_t)k * wide + x] /= sum[x];
    }
}

/* `vectors` vectors of pixels of `classes` maps: the sums over all neighbours stay in registers. */
INLINE void sums(const int classes, const int vectors, const float *near, const float *from, float *to,
                 const int64_t *offset, int64_t plane, int wide, int neighbours) {
    vec sum[GROUP][2];
    for (int c = 0; c < classes; c++)
        for (int v = 0; v < vectors; v++) sum[c][v] = (vec){0};
    for (int k = 0; k < neighbours; k++) {
        vec weight[2];
        for (int v = 0; v < vectors; v++) weight[v] = load(near + (int64_t)k * wide + v * LANES);
        for (int c = 0; c < classes; c++)
            for (int v = 0; v < vectors; v++) sum[c][v] += weight[v] * load(from + c * plane + offset[k] + v * LANES);
    }
    for (int c = 0; c < classes; c++)
        for (int v = 0; v < vectors; v++) memcpy(to + c * plane + v * LANES, &sum[c][v], sizeof(vec));
}

#define SUMS(n) sums(n, 2, row + x, source + x, target + x, offset, plane, wide, neighbours)

/* One iteration of rows [first, last), counted through all images: padded maps from, to [B, N, H, stride], weights near
 * [B, H, K, wide], wide a multiple of 2 * LANES. offset: K values of this thread's own. */
void refine(const float *near, const float *from, float *to, int64_t *offset, int64_t first, int64_t last, int classes,
            int height, int width, int pad, int stride, int wide, int neighbours, const int *dy, const int *dx) {
    const int64_t plane = (int64_t)height * stride;
    for (int64_t i = first; i < last; i++) {
        const int y = (int)(i % height);
        const float *row = near + i * neighbours * wide, *maps = from + i / height * classes * plane + pad;
        float *out = to + i / height * classes * plane + (int64_t)y * stride + pad;
        for (int k = 0; k < neighbours; k++) offset[k] = (int64_t)clamp(y + dy[k], height - 1) * stride + dx[k];
        for (int c = 0; c < classes;) { /* a group of maps along the row: their neighbourhood stays in the cache */
            const int group = classes - c >= GROUP ? GROUP : classes - c >= 4 ? 4 : classes - c;
            const float *source = maps + c * plane;
            float *target = out + c * plane;
            for (int x = 0; x < wide; x += 2 * LANES) {
                if (group == GROUP) SUMS(GROUP);
                else if (group == 4) SUMS(4);
                else if (group == 3) SUMS(3);
                else if (group == 2) SUMS(2);
                else SUMS(1);
            }
            c += group;
        }
        for (int c = 0; c < classes; c++) close_row(out + c * plane - pad, width, pad, stride);
    }
}
