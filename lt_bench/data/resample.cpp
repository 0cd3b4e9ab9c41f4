// What Pillow makes of a crop, to the bit: bilinear or bicubic resize, mirror image, brightness, contrast and saturation.
//
// A resized pixel is a weighted sum along the row, rounded to 8 bits, and then one along the column, in integers: weights
// in units of 2^-22, made in double precision. Only the rows and columns that are shown are worked out. Blending is in
// float32 and cuts off the fraction. Compiled with -ffp-contract=off: a product and sum fused to one round otherwise.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int kBits = 22;
constexpr int kHalf = 1 << (kBits - 1);
constexpr int kLanes = 4; // red, green, blue and one that is not used

// Weight of a pixel by its distance from the centre, 0 from the support on. Distances are in pixels of the source, or of
// the result where these are larger.
struct Filter {
  double support;
  double (*at)(double);
};

double triangle(double x) { return x < 1.0 ? 1.0 - x : 0.0; }

// Keys' cubic convolution with a = -1/2.
double cubic(double x) {
  constexpr double a = -0.5;
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

constexpr Filter kFilters[] = {{1.0, triangle}, {2.0, cubic}}; // as FILTERS in fast_views.py

// Which pixels of a side make each of the shown ones: `count[i]` of them from `first[i]` on.
struct Taps {
  int most = 0; // weights of one shown pixel
  std::vector<int> first, count, weight;
  std::vector<double> exact;

  // A side of `length` pixels becomes one of `resized`, of which `shown` are wanted, from `from` on, or backwards.
  void set(const Filter &filter, int length, int resized, int from, int shown, bool mirrored = false) {
    const double scale = double(length) / resized, stretch = std::max(scale, 1.0), shrink = 1.0 / stretch;
    const double reach = filter.support * stretch;
    most = int(std::ceil(reach)) * 2 + 1;
    first.resize(shown), count.resize(shown), weight.assign(size_t(shown) * most, 0), exact.resize(most);
    for (int step = 0; step < shown; ++step) {
      const int i = mirrored ? shown - 1 - step : step;
      const double centre = (from + step + 0.5) * scale;
      first[i] = std::max(0, int(centre - reach + 0.5));
      count[i] = std::min(length, int(centre + reach + 0.5)) - first[i];
      double sum = 0;
      for (int k = 0; k < count[i]; ++k) {
        exact[k] = filter.at(std::fabs((k + first[i] - centre + 0.5) * shrink));
        sum += exact[k];
      }
      for (int k = 0; k < count[i]; ++k) {
        const double share = sum != 0.0 ? exact[k] / sum : exact[k];
        weight[size_t(i) * most + k] = int((share < 0 ? -0.5 : 0.5) + share * (1 << kBits));
      }
    }
  }

  const int *weights(int i) const { return weight.data() + std::size_t(i) * most; }
  int begin() const { return std::min(first.front(), first.back()); }
  int end() const { return std::max(first.front() + count.front(), first.back() + count.back()); }
};

constexpr int kRows = 4; // that are worked on side by side
constexpr int kSide = kRows * kLanes;
typedef int Ints __attribute__((vector_size(sizeof(int) * kSide)));

struct Scratch {
  Taps across, down;
  std::vector<uint8_t> rows, row;
  std::vector<int> wide; // some rows side by side, pixel by pixel
};

// A sum of pixels by weights. These add up to 1, and those above 0 to less than 2, so that nothing overflows; but where
// some are negative the sum may leave 0 to 255.
inline uint8_t rounded(int sum) { return uint8_t(std::min(std::max(sum >> kBits, 0), 255)); }

// `some` of kRows rows to `side` pixels each. The source begins with pixel `left`; strides are in bytes.
void along_rows(const uint8_t *in, std::ptrdiff_t in_stride, uint8_t *out, std::ptrdiff_t out_stride, int some, int left,
                int side, Scratch &s) {
  const Taps &taps = s.across;
  const int begin = taps.begin(), columns = taps.end() - begin;
  int *wide = s.wide.data();
  for (int r = 0; r < some; ++r) {
    const uint8_t *row = in + r * in_stride + std::ptrdiff_t(kLanes) * (begin - left);
    for (int x = 0; x < columns; ++x)
      for (int c = 0; c < kLanes; ++c) wide[kSide * x + kLanes * r + c] = row[kLanes * x + c];
  }
  const int *first = taps.first.data(), *count = taps.count.data(), *weight = taps.weights(0);
  for (int i = 0; i < side; ++i, weight += taps.most) {
    const int *pixels = wide + kSide * (first[i] - begin);
    Ints sum = Ints{} + kHalf;
    for (int k = 0; k < count[i]; ++k) {
      Ints values;
      std::memcpy(&values, pixels + kSide * k, sizeof values);
      sum += values * weight[k];
    }
    uint8_t found[kSide];
    for (int j = 0; j < kSide; ++j) found[j] = rounded(sum[j]);
    for (int r = 0; r < some; ++r) std::memcpy(out + r * out_stride + kLanes * i, found + kLanes * r, kLanes);
  }
}

// `count` rows of `width` bytes to one, block by block, so that the sums stay in registers.
void down_columns(const uint8_t *rows, std::ptrdiff_t stride, uint8_t *out, int width, const int *weight, int count) {
  constexpr int kBlock = 64;
  for (int x = 0; x < width; x += kBlock) {
    int sum[kBlock];
    const int some = std::min(kBlock, width - x);
    std::fill(sum, sum + kBlock, kHalf);
    for (int k = 0; k < count; ++k) {
      const uint8_t *row = rows + k * stride + x;
      const int share = weight[k];
      if (some == kBlock) // a loop of known length
        for (int i = 0; i < kBlock; ++i) sum[i] += row[i] * share;
      else
        for (int i = 0; i < some; ++i) sum[i] += row[i] * share;
    }
    for (int i = 0; i < some; ++i) out[x + i] = rounded(sum[i]);
  }
}

// A row of pixels to three rows of one colour each.
void spread(const uint8_t *row, uint8_t *out, int side) {
  const std::ptrdiff_t plane = std::ptrdiff_t(side) * side;
  for (int c = 0; c < 3; ++c)
    for (int x = 0; x < side; ++x) out[c * plane + x] = row[kLanes * x + c];
}

// What `resample` takes, with strides in bytes.
struct Job {
  const uint8_t *in;
  std::ptrdiff_t stride, line; // of the source, and of `side` pixels
  int left, top, side;
  uint8_t *out;
};

void rows_first(const Job &job, Scratch &s) {
  const Taps &down = s.down;
  const int rows = down.end() - down.begin();
  s.rows.resize(job.line * rows), s.row.resize(job.line);
  for (int y = 0; y < rows; y += kRows)
    along_rows(job.in + job.stride * (down.begin() + y - job.top), job.stride, s.rows.data() + job.line * y, job.line,
               std::min(kRows, rows - y), job.left, job.side, s);
  for (int y = 0; y < job.side; ++y) {
    const uint8_t *first = s.rows.data() + job.line * (down.first[y] - down.begin());
    down_columns(first, job.line, s.row.data(), int(job.line), down.weights(y), down.count[y]);
    spread(s.row.data(), job.out + std::ptrdiff_t(y) * job.side, job.side);
  }
}

void columns_first(const Job &job, Scratch &s) {
  const Taps &down = s.down;
  const int begin = s.across.begin(), width = kLanes * (s.across.end() - begin);
  s.rows.resize(job.line * kRows), s.row.resize(std::size_t(width) * kRows);
  for (int y = 0; y < job.side; y += kRows) {
    const int some = std::min(kRows, job.side - y);
    for (int r = 0; r < some; ++r) {
      const uint8_t *first = job.in + job.stride * (down.first[y + r] - job.top) + kLanes * (begin - job.left);
      down_columns(first, job.stride, s.row.data() + r * width, width, down.weights(y + r), down.count[y + r]);
    }
    along_rows(s.row.data(), width, s.rows.data(), job.line, some, begin, job.side, s);
    for (int r = 0; r < some; ++r)
      spread(s.rows.data() + job.line * r, job.out + std::ptrdiff_t(y + r) * job.side, job.side);
  }
}

inline uint8_t blend(int from, int to, float factor) {
  const float value = float(from) + factor * float(to - from);
  return uint8_t(int(std::min(std::max(value, 0.0f), 255.0f)));
}

inline int grey(const uint8_t *image, int64_t plane, int64_t at) {
  return (image[at] * 19595 + image[at + plane] * 38470 + image[at + 2 * plane] * 7471 + 0x8000) >> 16;
}

void towards(uint8_t *image, int64_t values, int level, float factor) {
  for (int64_t i = 0; i < values; ++i) image[i] = blend(level, image[i], factor);
}

} // namespace

extern "C" {

// First source pixel that is needed along one side, and the one behind the last.
void needed(int filter, int length, int resized, int from, int shown, int *range) {
  thread_local Taps taps;
  taps.set(kFilters[filter], length, resized, from, shown);
  range[0] = taps.begin(), range[1] = taps.end();
}

// Of a box of width x height pixels, resized to resized_width x resized_height, the `side` x `side` pixels from
// (shown_left, shown_top) on, to `out` [3, side, side]. `pixels` are 4 bytes each, `stride` pixels a row, and begin at
// (left, top), as seen from the box's corner; they hold what `needed` says.
void resample(const uint8_t *pixels, int64_t stride, int filter, int left, int top, int width, int height,
              int resized_width, int resized_height, int shown_left, int shown_top, int side, bool mirrored,
              bool by_columns_first, uint8_t *out) {
  thread_local Scratch s;
  s.across.set(kFilters[filter], width, resized_width, shown_left, side, mirrored);
  s.down.set(kFilters[filter], height, resized_height, shown_top, side);
  s.wide.resize(std::size_t(kSide) * (s.across.end() - s.across.begin()));
  const Job job{pixels, std::ptrdiff_t(kLanes * stride), std::ptrdiff_t(kLanes) * side, left, top, side, out};
  by_columns_first ? columns_first(job, s) : rows_first(job, s);
}

// From black to the image and beyond.
void brightness(uint8_t *image, int64_t plane, float factor) { towards(image, 3 * plane, 0, factor); }

// From the mean grey.
void contrast(uint8_t *image, int64_t plane, float factor) {
  int64_t sum = 0;
  for (int64_t i = 0; i < plane; ++i) sum += grey(image, plane, i);
  towards(image, 3 * plane, int(double(sum) / double(plane) + 0.5), factor);
}

// From the grey image.
void saturation(uint8_t *image, int64_t plane, float factor) {
  for (int64_t i = 0; i < plane; ++i) {
    const int level = grey(image, plane, i);
    for (int c = 0; c < 3; ++c) image[i + c * plane] = blend(level, image[i + c * plane], factor);
  }
}

} // extern "C"
