// What the service found of one response set: its tokens, and the matrix of option orders and responses.
import { $, LETTERS, bar, fixed, make } from "./dom.js";
import { textOf } from "./set_form.js";

export function drawResponses({ asked, set }) {
  const { responses } = asked.sets[0];
  const texts = responses.map(textOf);
  $("scored").replaceChildren(...set.responses.map((each, k) => {
    const first = texts.indexOf(texts[k]);
    const name = make("b", { textContent: LETTERS[k] });
    const copy = first < k ? make("small", { textContent: ` a copy of ${LETTERS[first]}` }) : "";
    const cut = responses[k].finished === false ? make("small", { textContent: " not finished" }) : "";
    return make("tr", {},
      make("th", { scope: "row" }, name, copy, cut, tokens(each), numbers(each)),
      make("td", { textContent: String(each.tokens) }),
      make("td", { textContent: fixed(each.mean_log_likelihood) }),
      make("td", {}, bar(each.selection_probability), fixed(each.selection_probability)),
      make("td", { className: "reward" })); // the sliders fill it
  }));
}

function tokens(response) {
  return make("span", { className: "text", dir: "auto" }, ...response.token_texts.map((text, k) => {
    const value = response.token_log_likelihoods[k];
    const token = make("span", { className: "token", textContent: text, title: `${fixed(value)} nats` });
    token.style.setProperty("--weight", String(Math.min(1, -value / 8)));
    return token;
  }));
}

function numbers(response) {
  const rows = response.token_texts.map((text, k) => make("tr", {}, make("td", {}, make("code", { textContent: text })), make("td", { textContent: fixed(response.token_log_likelihoods[k]) })));
  return make("details", {}, make("summary", { textContent: "Numbers" }), make("table", {}, make("tbody", {}, ...rows)));
}

export function drawMatrix(set) {
  const n = set.responses.length;
  const head = row("col", "Shown as A, B, …", [...LETTERS.slice(0, n), "Label mass"].map((name) => make("th", { scope: "col", textContent: name })));
  const body = set.per_order.map(({ order, probabilities, label_mass }) => {
    const shown = order.map((copies) => copies.map((k) => LETTERS[k]).join("=")).join(" ");
    const values = Array.from({ length: n }, (_, k) => probabilities[order.findIndex((copies) => copies.includes(k))]);
    return row("row", shown, [...values.map(share), make("td", { textContent: fixed(label_mass) })]);
  });
  const foot = make("tfoot", {},
    row("row", "Mean of the response", [...set.responses.map((each) => share(each.selection_probability)), make("td", { textContent: fixed(set.label_mass) })]),
    row("row", "Mean of the letter at this place", [...letterMeans(set).map(share), make("td")]));
  $("matrix").replaceChildren(make("thead", {}, head), make("tbody", {}, ...body), foot);
  $("matrix-words").textContent = words(set);
}

const row = (scope, name, cells) => make("tr", {}, make("th", { scope, textContent: name }), ...cells);
const share = (value) => make("td", {}, ...(value === undefined ? ["–"] : [bar(value), fixed(value)]));

// The mean of each letter over the orders that show it: copies leave letters over, which have none.
function letterMeans({ responses, per_order: orders }) {
  return responses.map((_, at) => {
    const values = orders.filter(({ order }) => at < order.length).map(({ probabilities }) => probabilities[at]);
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : undefined;
  });
}

function words(set) {
  if (!set.per_order.length) return "All responses are one text: there is nothing to choose, so the teacher was not asked.";
  const disagreement = set.order_disagreement == null ? "Only one order was asked." : `Two orders differ by ${fixed(set.order_disagreement)} at most (0: all agree, 1: none).`;
  return `Each row asks the same question with the responses in another order. If rows differ, the letter has decided and not the text: the average over the orders takes that away. The last row is the teacher's liking for each letter itself. ${disagreement} Label mass ${fixed(set.label_mass)}.`;
}
