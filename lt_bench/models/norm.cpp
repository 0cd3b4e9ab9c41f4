// Batch normalisation, residual sum and ReLU in one: y = max(0, weight * (x - mean) / sqrt(var + eps) + bias + residual).
//
// A tensor of rows x channels lies channels last: channels are contiguous, a row is one pixel of one image. Between two
// convolutions of a ResNet the arithmetic is nothing and the bytes are all, so each pass touches every tensor once:
// forward reads x for the statistics and again (from the cache, where it fits) to write y; backward reads the incoming
// gradient, y (for the sign) and x for the two sums, and again to write the gradient of x.
//
// 64 lanes are worked on at once. Where they are not whole rows, as many rows are taken together as fill whole lanes, and
// lane l belongs to channel l % channels. Sums are taken in float32 over blocks of a fixed number of rows and in float64
// over blocks: the result depends on the input alone, not on the number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

namespace {

constexpr int kWidth = 16;                // floats in one vector
constexpr int kVectors = 4;               // vectors side by side
constexpr int kLanes = kWidth * kVectors; // floats side by side
constexpr int64_t kBlock = 16384;         // elements of one block: 32 KiB in bfloat16
constexpr int64_t kTile = 8 * kLanes;     // elements of one tile
constexpr int64_t kRows = 64;             // but no fewer rows, whose sums would be as many as the elements soon

using bf16 = uint16_t;
typedef float Floats __attribute__((vector_size(4 * kWidth)));
typedef uint32_t Words __attribute__((vector_size(4 * kWidth)));
typedef uint16_t Halves __attribute__((vector_size(2 * kWidth)));

inline Floats load(const float *p) {
  Floats v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline Floats load(const bf16 *p) {
  Halves h;
  std::memcpy(&h, p, sizeof h);
  return (Floats)(__builtin_convertvector(h, Words) << 16);
}

inline void store(float *p, Floats v) { std::memcpy(p, &v, sizeof v); }

inline void store(bf16 *p, Floats v) {
  const Words w = (Words)v;
  const Words nearest_even = (w + 0x7fff + ((w >> 16) & 1)) >> 16;
  // Rounding could carry a NaN over into a number, and a diverged run must stay visible.
  const Halves h = __builtin_convertvector(v == v ? nearest_even : (w >> 16) | 0x40, Halves);
  std::memcpy(p, &h, sizeof h);
}

// Floats in the order of the lanes.
struct Lanes {
  Floats v[kVectors] = {};

  static Lanes at(const float *p) {
    Lanes out;
    for (int i = 0; i < kVectors; ++i) out.v[i] = load(p + i * kWidth);
    return out;
  }

  void put(float *p) const {
    for (int i = 0; i < kVectors; ++i) store(p + i * kWidth, v[i]);
  }
};

// How the memory of a tensor is walked: blocks of rows, in a block tiles of rows, in a tile strips of 64 lanes.
template <typename T> struct Walk {
  int64_t channels, rows, stride, block_rows, blocks, tile_rows;

  Walk(int64_t pixels, int64_t c) : channels(c) {
    stride = std::lcm<int64_t>(c, kLanes);
    rows = pixels * c / stride;
    block_rows = std::max(kBlock / stride, kRows);
    blocks = (rows + block_rows - 1) / block_rows;
    // The longer a strip, the longer do sums and per-channel numbers stay in registers. But to walk a wide tensor
    // nearly in the order of its memory was faster by a quarter to a half in bfloat16; in float32 it was slower.
    const bool in_order = sizeof(T) == sizeof(bf16) && stride > kLanes;
    tile_rows = in_order ? std::max<int64_t>(kTile / stride, 1) : block_rows;
  }

  int64_t begin(int64_t block) const { return block * block_rows; }
  int64_t end(int64_t block) const { return std::min(begin(block + 1), rows); }
  double count(int64_t block) const { return double(end(block) - begin(block)); }

  // Per-channel numbers in the order of the lanes.
  std::vector<float> lanes(const float *per_channel) const {
    std::vector<float> out(stride);
    for (int64_t lane = 0; lane < stride; ++lane) out[lane] = per_channel[lane % channels];
    return out;
  }

  // Calls body(first, last, lane) for every strip of a block: what begins at the elements first, first + stride, ...
  // below last, and with this lane.
  template <typename Body> void strips(int64_t block, Body body) const {
    for (int64_t row = begin(block); row < end(block); row += tile_rows)
      for (int64_t lane = 0; lane < stride; lane += kLanes)
        body(row * stride + lane, std::min(row + tile_rows, end(block)) * stride, lane);
  }

  // Adds the lanes of all blocks up to their channels, in float64 and in the order of the blocks.
  template <typename Add> void over_lanes(Add add) const {
    for (int64_t block = 0; block < blocks; ++block)
      for (int64_t first = block * stride; first < (block + 1) * stride; first += channels)
        for (int64_t c = 0; c < channels; ++c) add(block, first + c, c);
  }
};

template <typename T>
void statistics(const Walk<T> &walk, const T *x, double *mean, double *variance) {
  std::vector<float> means(walk.blocks * walk.stride), squares(walk.blocks * walk.stride);
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < walk.blocks; ++block) {
    const float n = float(walk.count(block));
    // About the block's first row: no large mean cancels in the squares, and one pass is enough.
    const T *pivots = x + walk.begin(block) * walk.stride;
    float *sums = &means[block * walk.stride], *own_squares = &squares[block * walk.stride];
    walk.strips(block, [=](int64_t first, int64_t last, int64_t lane) {
      Floats pivot[kVectors];
      for (int i = 0; i < kVectors; ++i) pivot[i] = load(pivots + lane + i * kWidth);
      Lanes sum = Lanes::at(sums + lane), square = Lanes::at(own_squares + lane);
      for (int64_t at = first; at < last; at += walk.stride)
        for (int i = 0; i < kVectors; ++i) {
          const Floats d = load(x + at + i * kWidth) - pivot[i];
          sum.v[i] += d;
          square.v[i] += d * d;
        }
      sum.put(sums + lane);
      square.put(own_squares + lane);
    });
    for (int64_t lane = 0; lane < walk.stride; lane += kWidth) {
      const Floats sum = load(sums + lane);
      store(sums + lane, load(pivots + lane) + sum / n);
      store(own_squares + lane, load(own_squares + lane) - sum * sum / n);
    }
  }
  const double n = double(walk.rows) * walk.stride / walk.channels;
  std::vector<double> sum(walk.channels), square(walk.channels);
  walk.over_lanes([&](int64_t block, int64_t at, int64_t c) { sum[c] += walk.count(block) * means[at]; });
  for (int64_t c = 0; c < walk.channels; ++c) mean[c] = sum[c] / n;
  walk.over_lanes([&](int64_t block, int64_t at, int64_t c) {
    const double d = means[at] - mean[c];
    square[c] += squares[at] + walk.count(block) * d * d;
  });
  for (int64_t c = 0; c < walk.channels; ++c) variance[c] = square[c] / n;
}

// y = max(0, scale * x + shift + residual), with per-channel scale and shift; residual may be null.
template <typename T, bool kResidual>
void apply(const Walk<T> &walk, const T *x, const T *residual, const float *scale, const float *shift, T *y) {
  const std::vector<float> scales = walk.lanes(scale), shifts = walk.lanes(shift);
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < walk.blocks; ++block)
    walk.strips(block, [&](int64_t first, int64_t last, int64_t lane) {
      const Lanes a = Lanes::at(&scales[lane]), b = Lanes::at(&shifts[lane]);
      for (int64_t at = first; at < last; at += walk.stride)
        for (int i = 0; i < kVectors; ++i) {
          Floats v = load(x + at + i * kWidth) * a.v[i] + b.v[i];
          if (kResidual) v += load(residual + at + i * kWidth);
          // So that NaN stays NaN: it is not below zero.
          store(y + at + i * kWidth, v < 0 ? Floats{} : v);
        }
    });
}

template <typename T>
void apply(const Walk<T> &walk, const T *x, const T *residual, const float *scale, const float *shift, T *y) {
  if (residual)
    apply<T, true>(walk, x, residual, scale, shift, y);
  else
    apply<T, false>(walk, x, residual, scale, shift, y);
}

template <typename T>
void forward(int64_t pixels, int64_t channels, const T *x, const T *residual, const float *weight, const float *bias,
             float *running_mean, float *running_var, float momentum, float eps, float *mean, float *inv_std, T *y) {
  const Walk<T> walk(pixels, channels);
  std::vector<double> m(channels), variance(channels);
  statistics(walk, x, m.data(), variance.data());
  std::vector<float> scale(channels), shift(channels);
  for (int64_t c = 0; c < channels; ++c) {
    const double n = double(pixels), s = 1 / std::sqrt(variance[c] + eps);
    mean[c] = float(m[c]);
    inv_std[c] = float(s);
    scale[c] = float(weight[c] * s);
    shift[c] = float(bias[c] - m[c] * weight[c] * s);
    running_mean[c] += momentum * (mean[c] - running_mean[c]);
    running_var[c] += momentum * (float(variance[c] * n / (n - 1)) - running_var[c]);
  }
  apply(walk, x, residual, scale.data(), shift.data(), y);
}

template <typename T>
void inference(int64_t pixels, int64_t channels, const T *x, const T *residual, const float *weight, const float *bias,
               const float *running_mean, const float *running_var, float eps, T *y) {
  std::vector<float> scale(channels), shift(channels);
  for (int64_t c = 0; c < channels; ++c) {
    scale[c] = weight[c] / std::sqrt(running_var[c] + eps);
    shift[c] = bias[c] - running_mean[c] * scale[c];
  }
  apply(Walk<T>(pixels, channels), x, residual, scale.data(), shift.data(), y);
}

// dy is the gradient of y; dresidual, if not null, receives dy where y > 0, which is the gradient of the residual.
// In training mean and inv_std are those of x and move with it; in evaluation they are constants.
template <typename T, bool kResidual, bool kTraining>
void backward(int64_t pixels, int64_t channels, const T *x, const T *dy, const T *y, const float *weight,
              const float *mean, const float *inv_std, T *dx, T *dresidual, float *dweight, float *dbias) {
  const Walk<T> walk(pixels, channels);
  std::vector<float> a(channels), b(channels), d(channels);
  for (int64_t c = 0; c < channels; ++c) a[c] = float(weight[c] * double(inv_std[c]));
  const std::vector<float> centres = walk.lanes(mean), as = walk.lanes(a.data());
  std::vector<float> sums(walk.blocks * walk.stride), products(walk.blocks * walk.stride);
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < walk.blocks; ++block)
    walk.strips(block, [=, &centres, &as, &sums, &products](int64_t first, int64_t last, int64_t lane) {
      const Lanes centre = Lanes::at(&centres[lane]), on_g = Lanes::at(&as[lane]);
      float *to_sum = &sums[block * walk.stride + lane], *to_product = &products[block * walk.stride + lane];
      Lanes sum = Lanes::at(to_sum), product = Lanes::at(to_product);
      for (int64_t at = first; at < last; at += walk.stride)
        for (int i = 0; i < kVectors; ++i) {
          const Floats g = load(y + at + i * kWidth) > 0 ? load(dy + at + i * kWidth) : Floats{};
          if (kResidual) store(dresidual + at + i * kWidth, g);
          if (!kTraining) store(dx + at + i * kWidth, g * on_g.v[i]);
          sum.v[i] += g;
          product.v[i] += g * (load(x + at + i * kWidth) - centre.v[i]);
        }
      sum.put(to_sum);
      product.put(to_product);
    });
  std::vector<double> sum(channels), product(channels);
  walk.over_lanes([&](int64_t, int64_t at, int64_t c) { sum[c] += sums[at], product[c] += products[at]; });
  for (int64_t c = 0; c < channels; ++c) {
    dbias[c] = float(sum[c]);
    dweight[c] = float(product[c] * inv_std[c]);
  }
  if (!kTraining) return;

  // dx = weight / std * (g - mean(g) - xhat * mean(g * xhat)) = a * g + b * (x - mean) + d
  for (int64_t c = 0; c < channels; ++c) {
    const double s = inv_std[c], n = double(pixels);
    b[c] = float(-weight[c] * s * s * s * product[c] / n);
    d[c] = float(-weight[c] * s * sum[c] / n);
  }
  const std::vector<float> bs = walk.lanes(b.data()), ds = walk.lanes(d.data());
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < walk.blocks; ++block)
    walk.strips(block, [=, &centres, &as, &bs, &ds](int64_t first, int64_t last, int64_t lane) {
      const Lanes centre = Lanes::at(&centres[lane]), on_g = Lanes::at(&as[lane]);
      const Lanes on_x = Lanes::at(&bs[lane]), rest = Lanes::at(&ds[lane]);
      for (int64_t at = first; at < last; at += walk.stride)
        for (int i = 0; i < kVectors; ++i) {
          Floats g;
          if (kResidual)
            g = load(dresidual + at + i * kWidth);
          else
            g = load(y + at + i * kWidth) > 0 ? load(dy + at + i * kWidth) : Floats{};
          const Floats centred = load(x + at + i * kWidth) - centre.v[i];
          store(dx + at + i * kWidth, g * on_g.v[i] + centred * on_x.v[i] + rest.v[i]);
        }
    });
}

template <typename T, typename... Rest> void backward(bool training, bool residual, Rest... rest) {
  if (training)
    residual ? backward<T, true, true>(rest...) : backward<T, false, true>(rest...);
  else
    residual ? backward<T, true, false>(rest...) : backward<T, false, false>(rest...);
}

} // namespace

#define EXPORT(T)                                                                                                      \
  void forward_##T(int64_t pixels, int64_t channels, const T *x, const T *residual, const float *weight,               \
                   const float *bias, float *running_mean, float *running_var, float momentum, float eps, float *mean, \
                   float *inv_std, T *y) {                                                                             \
    forward<T>(pixels, channels, x, residual, weight, bias, running_mean, running_var, momentum, eps, mean, inv_std,   \
               y);                                                                                                     \
  }                                                                                                                    \
  void inference_##T(int64_t pixels, int64_t channels, const T *x, const T *residual, const float *weight,             \
                     const float *bias, const float *running_mean, const float *running_var, float eps, T *y) {        \
    inference<T>(pixels, channels, x, residual, weight, bias, running_mean, running_var, eps, y);                      \
  }                                                                                                                    \
  void backward_##T(int64_t pixels, int64_t channels, const T *x, const T *dy, const T *y, const float *weight,        \
                    const float *mean, const float *inv_std, bool training, T *dx, T *dresidual, float *dweight,       \
                    float *dbias) {                                                                                    \
    backward<T>(training, dresidual != nullptr, pixels, channels, x, dy, y, weight, mean, inv_std, dx, dresidual,      \
                dweight, dbias);                                                                                       \
  }

extern "C" {
EXPORT(float)
EXPORT(bf16)
}
