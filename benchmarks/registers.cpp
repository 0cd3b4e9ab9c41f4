// The most arithmetic that the cores at hand do: multiply-adds whose operands never leave the registers.
//
// Each function makes so many rounds on every thread of OpenMP's and returns the floating-point operations done, a
// multiplication and an addition each counted. As many independent chains are kept as hide the latency of one.

#include <cstdint>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif
#ifdef __AMX_BF16__
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 16, kChains = 24;
#elif defined(__AVX__)
constexpr int kWidth = 8, kChains = 12;
#elif defined(__aarch64__)
constexpr int kWidth = 4, kChains = 24;
#else
constexpr int kWidth = 4, kChains = 12;
#endif

typedef float Floats __attribute__((vector_size(4 * kWidth)));

int64_t float32(int64_t rounds, float *sink) {
  // Unknown to the compiler, and no chain like another, or it would do less than it is told: v = v / 2 + 1.
  volatile float half = 0.5f, whole = 1;
  Floats chain[kChains], factor, term;
  for (int i = 0; i < kWidth; ++i) factor[i] = half, term[i] = whole;
  for (int i = 0; i < kChains; ++i) chain[i] = factor * float(i);
  for (int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 32
    for (int i = 0; i < kChains; ++i) chain[i] = chain[i] * factor + term;
  for (int i = 0; i < kChains; ++i) *sink += chain[i][0];
  return rounds * kChains * kWidth * 2;
}

#if defined(__AMX_BF16__)

constexpr char kBf16[] = "AMX tiles in bf16";

int64_t bf16(int64_t rounds, float *sink) {
  constexpr long kRequestPermission = 0x1023, kTileData = 18; // of Linux's arch_prctl
  if (syscall(SYS_arch_prctl, kRequestPermission, kTileData)) return float32(rounds, sink);
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  alignas(64) float tile[16 * 16] = {};
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, tile, 64);
  _tile_loadd(5, tile, 64);
  _tile_loadd(6, tile, 64);
  _tile_loadd(7, tile, 64);
  for (int64_t round = 0; round < rounds; ++round) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, tile, 64);
  _tile_release();
  *sink += tile[0];
  return rounds * 4 * 2 * 16 * 16 * 32;
}

#elif defined(__AVX512BF16__)

constexpr char kBf16[] = "AVX-512 dot products in bf16";

int64_t bf16(int64_t rounds, float *sink) {
  volatile float half = 0.5f;
  const __m512bh factor = _mm512_cvtne2ps_pbh(_mm512_set1_ps(half), _mm512_set1_ps(half));
  __m512 chain[kChains];
  for (int i = 0; i < kChains; ++i) chain[i] = _mm512_set1_ps(float(i));
  for (int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 32
    for (int i = 0; i < kChains; ++i) chain[i] = _mm512_dpbf16_ps(chain[i], factor, factor);
  for (int i = 0; i < kChains; ++i) *sink += _mm512_cvtss_f32(chain[i]);
  return rounds * kChains * kWidth * 2 * 2;
}

#else

constexpr char kBf16[] = "multiply-adds in float32";

int64_t bf16(int64_t rounds, float *sink) { return float32(rounds, sink); }

#endif

int64_t everywhere(int64_t (*one)(int64_t, float *), int64_t rounds) {
  int64_t operations = 0;
  float sum = 0;
#pragma omp parallel reduction(+ : operations, sum)
  operations += one(rounds, &sum);
  volatile float sink = sum; // or nobody would need the sum
  return sink == sink ? operations : 0;
}

} // namespace

extern "C" {
int64_t multiply_float32(int64_t rounds) { return everywhere(float32, rounds); }
int64_t multiply_bf16(int64_t rounds) { return everywhere(bf16, rounds); }
const char *unit_float32() { return "multiply-adds in float32"; }
const char *unit_bf16() { return kBf16; }
}
