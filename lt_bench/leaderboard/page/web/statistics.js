// Student's t, for the intervals that this page makes itself: those of differences between two rows.

/** P(|T| < t) for whole degrees of freedom: the closed form (Abramowitz and Stegun 26.7.3 and 26.7.4). */
function withinT(t, freedom) {
  const angle = Math.atan(Math.abs(t) / Math.sqrt(freedom));
  const cosine2 = Math.cos(angle) ** 2;
  const odd = freedom % 2 === 1;
  let term = odd ? Math.cos(angle) : 1;
  let sum = freedom > 1 ? term : 0;
  for (let k = odd ? 3 : 2; k < freedom; k += 2) {
    term *= (cosine2 * (k - 1)) / k;
    sum += term;
  }
  return odd ? (2 / Math.PI) * (angle + Math.sin(angle) * sum) : Math.sin(angle) * sum;
}

/** The t that holds 95 % of the distribution between itself and its negative. */
function quantileT(freedom) {
  if (freedom > 2000) return 1.961151; // that of 2000, which is above all later ones
  let [low, high] = [0, 13];
  for (let k = 0; k < 60; k++) {
    const middle = (low + high) / 2;
    if (withinT(middle, freedom) < 0.95) low = middle;
    else high = middle;
  }
  return high;
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Mean, half-width of its 95 % interval and p-value of a mean of 0; null for what one value does not tell. */
function meanInterval(values) {
  const n = values.length;
  const average = mean(values);
  if (n < 2) return { n, mean: average, half: null, p: null };
  const error = Math.sqrt(values.reduce((sum, value) => sum + (value - average) ** 2, 0) / (n - 1) / n);
  const p = error ? 1 - withinT(average / error, n - 1) : Number(average === 0);
  return { n, mean: average, half: quantileT(n - 1) * error, p };
}
