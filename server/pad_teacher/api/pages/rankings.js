// Rewards and Plackett-Luce distributions over rankings, in float64 and nats. Pure functions, tested against Python.

// (1 - alpha) * mean log-likelihood + alpha * ln(selection probability): PAD, arXiv 2502.14272.
export function reward(response, alpha) {
  if (alpha === 0) return response.mean_log_likelihood;
  return (1 - alpha) * response.mean_log_likelihood + alpha * Math.log(response.selection_probability);
}

// ln of the sum of exp(score) over the members of each set of responses; a set is a number whose bits are its members.
function logSums(scores) {
  const sums = new Float64Array(1 << scores.length);
  for (let set = 1; set < sums.length; set++) {
    let largest = -Infinity;
    scores.forEach((score, k) => { if (set >> k & 1) largest = Math.max(largest, score); });
    let sum = 0;
    scores.forEach((score, k) => { if (set >> k & 1) sum += Math.exp(score - largest); });
    sums[set] = largest + Math.log(sum);
  }
  return sums;
}

// Every ranking of the responses, best first, with its log-probability: in lexicographic order.
export function distribution(scores) {
  const sums = logSums(scores);
  const found = [];
  const ranking = [];
  const visit = (left, logProb) => {
    if (!left) found.push({ ranking: [...ranking], logProb });
    for (let k = 0; k < scores.length; k++) {
      if (!(left >> k & 1)) continue;
      ranking.push(k);
      visit(left & ~(1 << k), logProb + scores[k] - sums[left]);
      ranking.pop();
    }
  };
  visit((1 << scores.length) - 1, 0);
  return found;
}

// All rankings for up to four responses, or else the ten likeliest; the likeliest first.
export function likeliest(scores) {
  const sorted = distribution(scores).sort((a, b) => b.logProb - a.logProb);
  return scores.length <= 4 ? sorted : sorted.slice(0, 10);
}

// The Jensen-Shannon divergence of the distributions of two lists of scores: 0 if equal, ln 2 if they share nothing.
export function divergence(ours, theirs) {
  const other = distribution(theirs);
  let sum = 0;
  distribution(ours).forEach(({ logProb: p }, k) => {
    const q = other[k].logProb;
    const larger = Math.max(p, q);
    const mean = larger + Math.log((Math.exp(p - larger) + Math.exp(q - larger)) / 2);
    sum += (Math.exp(p) * (p - mean) + Math.exp(q) * (q - mean)) / 2;
  });
  return Math.max(0, sum);
}
