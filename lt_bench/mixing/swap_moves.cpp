// Labels of a grid by alpha-beta swaps (Boykov, Veksler and Zabih, PAMI 2001): of two labels at a time, the cells that
// have one of them are given the two anew, as costs least.
//
// A swap is exact: cells are gone through row by row, and of the choices in the last `columns` cells, bits of a number,
// the cheapest way to each is kept. That is 2^columns numbers, few in a grid as small as these, and no graph as for a
// maximum flow.

#include <algorithm>
#include <cstdint>
#include <vector>

namespace {

struct Grid {
  int rows, columns, labels;
  const double *costs; // [rows, columns, labels]
  const double *jumps; // [labels, labels]
  int64_t *found;      // [rows, columns]

  double cost(int cell, int64_t label) const { return costs[cell * labels + label]; }
  double jump(int64_t one, int64_t other) const { return jumps[one * labels + other]; }

  double total() const {
    double sum = 0;
    for (int cell = 0; cell < rows * columns; ++cell) {
      sum += cost(cell, found[cell]);
      if (cell % columns) sum += jump(found[cell - 1], found[cell]);
      if (cell >= columns) sum += jump(found[cell - columns], found[cell]);
    }
    return sum;
  }
};

class Swapper {
public:
  explicit Swapper(Grid grid)
      : grid_(grid), states_(1 << grid.columns), least_(states_), next_(states_),
        left_(grid.rows * grid.columns * states_), seen_(grid.labels * grid.labels, -1) {}

  // Gives the cells that have one of two labels the cheapest of the two.
  void swap(int64_t one, int64_t other) {
    int64_t &seen = seen_[one * grid_.labels + other];
    if (seen == changes_) return; // nothing is different since it was done
    const int cells = grid_.rows * grid_.columns;
    const auto either = [&](int64_t label) { return label == one || label == other; };
    const auto free = [&](int cell) { return either(grid_.found[cell]); };
    if (std::none_of(grid_.found, grid_.found + cells, either)) return;
    // Choice 1 of a cell that is not free is never taken.
    const auto label = [&](int cell, int choice) { return free(cell) ? (choice ? other : one) : grid_.found[cell]; };
    std::fill(least_.begin(), least_.end(), kNever);
    least_[0] = 0;
    const int top = 1 << (grid_.columns - 1);
    for (int cell = 0; cell < cells; ++cell) {
      std::fill(next_.begin(), next_.end(), kNever);
      uint8_t *const left = left_.data() + cell * states_;
      for (int choice = 0; choice <= int(free(cell)); ++choice) {
        const int64_t here = label(cell, choice);
        double beside[2] = {0, 0}, above[2] = {0, 0};
        for (int before = 0; before < 2; ++before) {
          if (cell % grid_.columns) beside[before] = grid_.jump(label(cell - 1, before), here);
          if (cell >= grid_.columns) above[before] = grid_.jump(label(cell - grid_.columns, before), here);
        }
        const double own = grid_.cost(cell, here);
        for (int state = 0; state < states_; ++state) {
          if (least_[state] == kNever) continue; // most are, for few cells are free
          const bool oldest = state & top;
          const double sum = least_[state] + own + beside[state & 1] + above[oldest];
          const int then = ((state << 1) | choice) & (states_ - 1);
          if (sum < next_[then]) {
            next_[then] = sum;
            left[then] = oldest;
          }
        }
      }
      std::swap(least_, next_);
    }
    int state = std::min_element(least_.begin(), least_.end()) - least_.begin();
    for (int cell = cells - 1; cell >= 0; --cell) {
      const int choice = state & 1;
      state = (state >> 1) | (left_[cell * states_ + state] ? top : 0);
      if (const int64_t best = choice ? other : one; free(cell) && grid_.found[cell] != best) {
        grid_.found[cell] = best;
        ++changes_;
      }
    }
    seen = changes_;
  }

private:
  static constexpr double kNever = 1e300;
  Grid grid_;
  int states_;
  std::vector<double> least_, next_; // of each state, what the cheapest way to it costs
  std::vector<uint8_t> left_;        // of each cell and state, the choice that falls out of it
  int64_t changes_ = 0;              // of labels, so far
  std::vector<int64_t> seen_;        // how many there had been when two labels were last swapped
};

} // namespace

// Swaps every two labels in turn, again and again until a round of it makes nothing cheaper.
extern "C" void swap_labels(int rows, int columns, int labels, const double *costs, const double *jumps,
                            int64_t *found) {
  const Grid grid{rows, columns, labels, costs, jumps, found};
  Swapper swapper(grid);
  for (double before = grid.total() + 1, now = grid.total(); now < before;) {
    for (int one = 0; one < labels; ++one)
      for (int other = labels - 1; other > one; --other) swapper.swap(one, other);
    before = now;
    now = grid.total();
  }
}
