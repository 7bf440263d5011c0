/* Native vector arithmetic for Elasticsearch, `libvec`. A distribution ships its own build of this small library; it is not on Maven Central, and without it
 * a node scores vectors in slower Java, which would make every comparison with it unfair. The compiler vectorises these loops; names and types are those
 * that Elasticsearch's JdkVectorLibrary looks up: the plain set for AVX2 or NEON, the set ending in _2 for AVX-512. */

#include <math.h>
#include <stdint.h>

#if defined(__x86_64__)
#define BASE __attribute__((target("avx2,fma")))
#define WIDE __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")))
#else
#define BASE
#define WIDE
#endif

/* 0: none, 1: the plain functions may be called, 2: those ending in _2 too. */
int vec_caps(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        return 2;
    }
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1 : 0;
#else
    return 1;
#endif
}

#define FUNCTIONS(SUFFIX, TARGET)                                                                  \
    TARGET int dot7u##SUFFIX(const int8_t *a, const int8_t *b, int dims) {                         \
        int sum = 0;                                                                               \
        for (int i = 0; i < dims; i++) sum += (int16_t)a[i] * (int16_t)b[i];                       \
        return sum;                                                                                \
    }                                                                                              \
    TARGET int sqr7u##SUFFIX(const int8_t *a, const int8_t *b, int dims) {                         \
        int sum = 0;                                                                               \
        for (int i = 0; i < dims; i++) {                                                           \
            int16_t d = (int16_t)(a[i] - b[i]);                                                    \
            sum += d * d;                                                                          \
        }                                                                                          \
        return sum;                                                                                \
    }                                                                                              \
    TARGET float dotf32##SUFFIX(const float *a, const float *b, int dims) {                        \
        float sum = 0;                                                                             \
        for (int i = 0; i < dims; i++) sum += a[i] * b[i];                                         \
        return sum;                                                                                \
    }                                                                                              \
    TARGET float sqrf32##SUFFIX(const float *a, const float *b, int dims) {                        \
        float sum = 0;                                                                             \
        for (int i = 0; i < dims; i++) {                                                           \
            float d = a[i] - b[i];                                                                 \
            sum += d * d;                                                                          \
        }                                                                                          \
        return sum;                                                                                \
    }                                                                                              \
    TARGET float cosf32##SUFFIX(const float *a, const float *b, int dims) {                        \
        float ab = 0, aa = 0, bb = 0;                                                              \
        for (int i = 0; i < dims; i++) {                                                           \
            ab += a[i] * b[i];                                                                     \
            aa += a[i] * a[i];                                                                     \
            bb += b[i] * b[i];                                                                     \
        }                                                                                          \
        return (float)(ab / (sqrt((double)aa) * sqrt((double)bb)));                                \
    }

FUNCTIONS(, BASE)
FUNCTIONS(_2, WIDE)
