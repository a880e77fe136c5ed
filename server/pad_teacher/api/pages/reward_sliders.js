// Rewards and rankings of one scored set by α and β, beside another service's if its reply is given.
import { $, LETTERS, bar, fixed, make, percent } from "./dom.js";
import { distribution, divergence, likeliest, reward } from "./rankings.js";

let set = null;
let other = null; // the other service's responses
let changed = () => {};

export const alphaOf = () => Number($("alpha").value);

// `then` runs after each change of α.
export function beginSliders(then) {
  changed = then;
}

// Begins with another set, which no other service has scored yet.
export function drawRewards(scored) {
  set = scored;
  other = null;
  $("other").value = "";
  $("divergence").textContent = "";
  draw();
}

function draw() {
  const alpha = alphaOf();
  const [betaTeacher, betaStudent] = [Number($("beta-teacher").value), Number($("beta-student").value)];
  $("alpha-value").textContent = fixed(alpha, 2);
  $("beta-teacher-value").textContent = fixed(betaTeacher, 1);
  $("beta-student-value").textContent = fixed(betaStudent, 1);
  const rewards = set.responses.map((each) => reward(each, alpha));
  $("scored").querySelectorAll(".reward").forEach((cell, k) => { cell.textContent = fixed(rewards[k]); });
  changed();
  drawRankings(rewards.map((value) => betaTeacher * value), other?.map((each) => betaStudent * each.mean_log_likelihood));
}

function drawRankings(scores, theirs) {
  if (!scores.every(Number.isFinite)) {
    $("rankings-caption").textContent = "A selection probability of 0 has no logarithm: there is no reward with this α.";
    $("rankings").replaceChildren();
    if (theirs) $("divergence").textContent = "Without rewards there is no divergence.";
    return;
  }
  const same = theirs && new Map(distribution(theirs).map(({ ranking, logProb }) => [ranking.join(), logProb]));
  $("rankings-caption").textContent = scores.length <= 4 ? "Plackett-Luce distribution over all rankings" : "Plackett-Luce distribution: the ten likeliest rankings";
  $("rankings").replaceChildren(...likeliest(scores).map(({ ranking, logProb }) => {
    const chances = [logProb, ...(same ? [same.get(ranking.join())] : [])].map(Math.exp);
    const cells = chances.map((chance) => make("td", {}, bar(chance), percent(chance)));
    const row = make("tr", {}, make("th", { scope: "row", textContent: ranking.map((k) => LETTERS[k]).join(" > ") }), ...cells);
    row.dataset.logProb = String(logProb);
    return row;
  }));
  $("other-head").hidden = $("student-slider").hidden = !theirs;
  if (theirs) $("divergence").textContent = `Jensen-Shannon divergence of the two: ${fixed(divergence(scores, theirs))} nats (0: equal, 0.6931: nothing shared).`;
}

for (const name of ["alpha", "beta-teacher", "beta-student"]) $(name).addEventListener("input", () => set && draw());

$("other").addEventListener("input", () => {
  other = null;
  try {
    const responses = JSON.parse($("other").value).sets[0].responses;
    if (responses.length !== set.responses.length || !responses.every((each) => Number.isFinite(each.mean_log_likelihood))) throw new Error();
    other = responses;
    $("divergence").textContent = "";
  } catch {
    $("divergence").textContent = $("other").value.trim() ? "This is no reply about the same responses." : "";
  }
  draw();
});
